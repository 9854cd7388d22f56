package chatlog

import (
	"errors"
	"strings"
	"time"

	"hubbub/ivschat"
)

const (
	// pace is the least time between two writes to the outbox, so that what comes
	// meanwhile shares an fsync. A record that comes after a quiet moment is
	// written at once. So a crash loses what the viewers got in the last 10 ms, and
	// the time of one write for each configuration, at most; a write may wait for
	// the outbox to be cleaned. conformance's TestKillNineLosesNoLog measures it.
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

// growing is a batch of one configuration.
type growing struct {
	configuration ivschat.ARN
	bytes         []byte
	records       int
}

// store appends the records to the outbox, for each configuration in their order.
func (l *Log) store(records []ivschat.Record) {
	batches := map[ivschat.ARN]*growing{}
	var order []*growing
	for _, r := range records {
		line := r.Encode()
		for _, arn := range r.Configurations {
			b := batches[arn]
			if b == nil {
				b = &growing{configuration: arn}
				batches[arn] = b
				order = append(order, b)
			}
			if len(b.bytes) > 0 && len(b.bytes)+len(line) > batchBytes {
				l.append(b)
				b.bytes, b.records = b.bytes[:0], 0
			}
			b.bytes = appendEntry(b.bytes, r.Room, r.Received, line)
			b.records++
		}
	}
	for _, b := range order {
		l.append(b)
	}
}

// append makes a batch durable. It goes on trying until it has, or until
// everything is to stop: the queue is what bounds the memory meanwhile.
func (l *Log) append(b *growing) {
	c, err := l.configuration(b.configuration)
	switch {
	case errors.Is(err, ivschat.NotFound):
		// Deleted in the milliseconds since. While the delivery winds up it takes these too.
		if !l.delivering(b.configuration) {
			l.drop(b.records, configurationDeleted)
			return
		}
	case err == nil && c.State != ivschat.StateActive:
		return // source: spec logging 1
	}
	pause := pauses(Passing, time.Second)
	for failed := 0; ; failed++ {
		err := l.outbox.Append(l.running, keyOf(b.configuration), b.records, b.bytes)
		if err == nil {
			break
		}
		if l.running.Err() != nil {
			l.drop(b.records, notWritten)
			return
		}
		if failed == 0 {
			l.log.Error("chat-log records cannot be written to the store; trying on", "configuration", b.configuration, "err", err)
		}
		select {
		case <-l.running.Done():
		case <-time.After(pause.NextBackOff()):
		}
	}
	l.metrics.records.Add(float64(b.records))
	l.deliver(b.configuration, c)
}

// keyOf names a configuration in the outbox: <region>.<account>.<id>.
func keyOf(arn ivschat.ARN) string {
	n, _ := arn.Parse() // it is one of the registry
	return n.Region + "." + n.Account + "." + n.ID
}

func configurationOf(key string) (ivschat.ARN, bool) {
	part := strings.Split(key, ".")
	if len(part) != 3 {
		return "", false
	}
	return ivschat.Scope{Region: part[0], Account: part[1]}.ARN(ivschat.LoggingConfigurationType, part[2]), true
}
