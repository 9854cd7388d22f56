package chatlog

import (
	"sync"

	"hubbub/ivschat"
)

// queue is between the hub, which never waits, and the writer of the outbox. The
// records are references: the frames are those that the viewers get.
type queue struct {
	mu      sync.Mutex
	records []ivschat.Record
	bytes   int
	closed  bool

	// Each has room for one.
	filled chan struct{} // something is there, or closed
	full   chan struct{} // a batch is there, or closed
}

// The bounds of the queue. The outbox takes it empty every 10 ms; they are met
// only if the store does not write for seconds.
const (
	maxQueued      = 1 << 16  // records
	maxQueuedBytes = 32 << 20 // of payload
)

func newQueue() *queue { return &queue{filled: make(chan struct{}, 1), full: make(chan struct{}, 1)} }

// add takes a record, or says that there is no room.
func (q *queue) add(r ivschat.Record) bool {
	q.mu.Lock()
	if q.closed || len(q.records) >= maxQueued || q.bytes+len(r.Payload) > maxQueuedBytes {
		q.mu.Unlock()
		return false
	}
	q.records = append(q.records, r)
	q.bytes += len(r.Payload)
	full := q.bytes >= batchBytes
	q.mu.Unlock()
	signal(q.filled)
	if full {
		signal(q.full)
	}
	return true
}

// signal wakes who waits for c, now or when it next does.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// take empties the queue. spare is used for what comes next: it is the queue's from
// now on, also if nothing is taken.
func (q *queue) take(spare []ivschat.Record) []ivschat.Record {
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case <-q.full: // of what is taken now
	default:
	}
	taken := q.records
	q.records, q.bytes = spare[:0], 0
	return taken
}

// size is what waits, in bytes of payload.
func (q *queue) size() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes
}

// close refuses what comes from now on; what is there stays to be taken.
func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	signal(q.filled)
	signal(q.full)
}

// done says whether nothing is there and nothing will come.
func (q *queue) done() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed && len(q.records) == 0
}
