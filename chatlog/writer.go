package chatlog

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"hubbub/ivschat"
)

const (
	// pace is the least time between two writes to the outbox, so that what comes
	// meanwhile shares an fsync. A record that comes after a quiet moment is
	// written at once. So a crash loses what the viewers got in the last 10 ms, and
	// the time of one write for each set of configurations, at most; a write may wait
	// for the outbox to be cleaned. conformance's TestKillNineLosesNoLog measures it.
	pace = 10 * time.Millisecond

	// batchBytes is the size at which a batch is written without waiting, and cut.
	batchBytes = 64 << 10
)

// write moves records from the queue to the outbox, until the queue is closed and
// empty or everything is to stop.
func (l *Log) write() {
	defer close(l.written)
	defer func() {
		l.queue.close()
		for _, r := range l.queue.take(nil) { // if everything is to stop
			l.drop(len(r.Configurations), notWritten)
		}
	}()
	var spare []ivschat.Record
	for !l.queue.done() {
		select {
		case <-l.queue.filled:
		case <-l.running.Done():
			return
		}
		records := l.queue.take(spare)
		spare = nil // the queue has it, even if nothing was taken
		if len(records) == 0 {
			continue
		}
		l.begins()
		began := time.Now()
		l.store(records)
		clear(records) // let go of the frames
		if cap(records) <= 1<<12 {
			spare = records
		}
		wait := time.NewTimer(pace - time.Since(began))
		select {
		case <-wait.C:
		case <-l.queue.full:
		case <-l.running.Done():
			return
		}
		wait.Stop()
	}
}

// growing is the batch of a set of configurations.
type growing struct {
	of      []*wanted
	key     string
	bytes   []byte
	records int
}

// wanted is a configuration that wants records.
type wanted struct {
	arn           ivschat.ARN
	configuration *ivschat.LoggingConfiguration // nil if it was deleted, and its delivery winds up
}

// store appends the records to the outbox, once for each set of configurations,
// and a room's in their order.
func (l *Log) store(records []ivschat.Record) {
	s := storing{log: l, batches: map[string]*growing{}, sets: map[*ivschat.ARN]set{}, rooms: map[ivschat.ARN]*growing{}}
	for _, r := range records {
		s.add(r)
	}
	s.flush()
}

// storing is what store knows while it runs.
type storing struct {
	log     *Log
	batches map[string]*growing      // by key
	order   []*growing               // as they were made
	sets    map[*ivschat.ARN]set     // by the list that the records of a room share
	rooms   map[ivschat.ARN]*growing // where the room's last record is, if it is not written
}

// set is where the records of a list of configurations go.
type set struct {
	batch *growing
	gone  int // configurations that were deleted
}

func (s *storing) add(r ivschat.Record) {
	of := s.setOf(r.Configurations)
	s.log.drop(of.gone, configurationDeleted)
	b := of.batch
	if len(b.of) == 0 {
		return
	}
	if before := s.rooms[r.Room]; before != nil && before != b {
		s.flush() // the room's configurations were changed: nothing may overtake
	}
	s.rooms[r.Room] = b
	line := r.Encode()
	if len(b.bytes) > 0 && len(b.bytes)+len(line) > batchBytes {
		s.log.append(b)
	}
	b.bytes = appendEntry(b.bytes, r.Room, r.Received, line)
	b.records++
}

func (s *storing) flush() {
	clear(s.rooms)
	for _, b := range s.order {
		if b.records > 0 {
			s.log.append(b)
		}
	}
}

// setOf chooses those of the configurations that want records. Those that were
// deleted in the milliseconds since get what comes while their delivery winds up.
func (s *storing) setOf(arns ivschat.ARNs) set {
	found, ok := s.sets[&arns[0]] // the hub hands over none without
	if ok {
		return found
	}
	var of []*wanted
	for _, arn := range arns {
		c, err := s.log.configuration(arn)
		switch {
		case errors.Is(err, ivschat.NotFound) && !s.log.delivering(arn):
			found.gone++
		case err == nil && c.State != ivschat.StateActive: // source: spec logging 1
		default:
			of = append(of, &wanted{arn, c})
		}
	}
	key := keyOf(of)
	if found.batch = s.batches[key]; found.batch == nil {
		found.batch = &growing{of: of, key: key}
		s.batches[key] = found.batch
		s.order = append(s.order, found.batch)
	}
	s.sets[&arns[0]] = found
	return found
}

// append makes a batch durable, and begins a new one. It goes on trying until it
// has, or until everything is to stop: the queue is what bounds the memory meanwhile.
func (l *Log) append(b *growing) {
	batch, records := b.bytes, b.records
	b.bytes, b.records = nil, 0 // the outbox has it from now on
	pause := pauses(Passing, time.Second)
	for failed := 0; ; failed++ {
		err := l.outbox.Append(l.running, b.key, records, batch)
		if err == nil {
			break
		}
		if l.running.Err() != nil {
			l.drop(records*len(b.of), notWritten)
			return
		}
		if failed == 0 {
			l.log.Error("chat-log records cannot be written to the store; trying on", "configurations", b.key, "err", err)
		}
		select {
		case <-l.running.Done():
		case <-time.After(pause.NextBackOff()):
		}
	}
	l.metrics.records.Add(float64(records * len(b.of)))
	for _, w := range b.of {
		l.deliver(w.arn, w.configuration)
	}
}

// A batch of the outbox is for a set of configurations of one account and region:
// <region>.<account>.<id>, and '_' and the id of each further one, in their order.
// Each of them reads by the key that would be its own.
const between = "_"

func keyOf(of []*wanted) string {
	if len(of) == 0 {
		return ""
	}
	ids := make([]string, len(of))
	for i, w := range of {
		ids[i] = w.arn.ID()
	}
	slices.Sort(ids)
	return readerOf(of[0].arn, strings.Join(ids, between))
}

// readerOf takes the ARN apart by itself: it is one of the registry, and this is
// done for each room and batch.
func readerOf(arn ivschat.ARN, ids string) string {
	part := strings.SplitN(string(arn), ":", 6)
	return part[3] + "." + part[4] + "." + ids
}

// Readers are the configurations, as readers of the outbox, that get the batches of
// a key: for engine.OutboxOptions.
func Readers(key string) []string {
	dot := strings.LastIndex(key, ".") + 1
	var readers []string
	for id := range strings.SplitSeq(key[dot:], between) {
		readers = append(readers, key[:dot]+id)
	}
	return readers
}

// Key is the key of a batch that these readers get, and no others: the reverse of
// Readers.
func Key(readers []string) (string, error) {
	if len(readers) == 0 {
		return "", errors.New("a batch that nobody reads")
	}
	scope := readers[0][:strings.LastIndex(readers[0], ".")+1]
	ids := make([]string, len(readers))
	for i, r := range readers {
		id, same := strings.CutPrefix(r, scope)
		if _, ok := configurationOf(r); !ok || !same {
			return "", fmt.Errorf("%q are not logging configurations of one account and region", readers)
		}
		ids[i] = id
	}
	slices.Sort(ids)
	return scope + strings.Join(ids, between), nil
}

// configurationOf is the configuration that reads under a name.
func configurationOf(reader string) (ivschat.ARN, bool) {
	part := strings.Split(reader, ".")
	if len(part) != 3 {
		return "", false
	}
	return ivschat.Scope{Region: part[0], Account: part[1]}.ARN(ivschat.LoggingConfigurationType, part[2]), true
}
