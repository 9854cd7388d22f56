package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Marks say, for each key that has something stored, up to which sequence each of
// its readers has acknowledged. They are one message, and each new one replaces it.
type marks map[string]map[string]uint64 // by key and reader

// markEvery is the least time between two writes of marks, and so how old what
// comes again after a kill -9 may be.
const markEvery = 100 * time.Millisecond

func (o *Outbox) openMarks(ctx context.Context) error {
	_, err := o.engine.makeStream(ctx, jetstream.StreamConfig{
		Name: o.names.marksStream, Subjects: []string{o.names.marksSubject}, MaxMsgsPerSubject: 1,
	}, true)
	if err != nil {
		return fmt.Errorf("open the marks of the outbox: %w", err)
	}
	return nil
}

// readMarks is what was written last; without any, everything comes again.
func (o *Outbox) readMarks(ctx context.Context) (marks, error) {
	stream, err := o.engine.js.Stream(ctx, o.names.marksStream)
	if err != nil {
		return nil, fmt.Errorf("read the marks of the outbox: %w", err)
	}
	m, err := stream.GetLastMsgForSubject(ctx, o.names.marksSubject)
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read the marks of the outbox: %w", err)
	}
	var all marks
	if err := json.Unmarshal(m.Data, &all); err != nil {
		return nil, o.engine.damaged("the marks of the outbox cannot be read")
	}
	o.marked = m.Data
	return all, nil
}

// mark writes down what is acknowledged, if that has changed.
func (o *Outbox) mark(ctx context.Context) error {
	o.marking.Lock()
	defer o.marking.Unlock()
	b, err := json.Marshal(o.marks())
	if err != nil || bytes.Equal(b, o.marked) {
		return err
	}
	if err := o.engine.room(len(b)); err != nil {
		return fmt.Errorf("write marks: %w", err)
	}
	ack, err := o.engine.js.Publish(ctx, o.names.marksSubject, b)
	if err != nil {
		return fmt.Errorf("write marks: %w", full(err))
	}
	o.engine.guard.wrote(o.names.marksStream, ack.Sequence, 0)
	o.marked = b
	return nil
}

func (o *Outbox) marks() marks {
	o.mu.Lock()
	defer o.mu.Unlock()
	all := marks{}
	for name, k := range o.keys {
		if k.last < o.oldest {
			continue
		}
		all[name] = map[string]uint64{}
		for _, c := range k.claims {
			mark := k.last
			if needed, some := o.needs(c); some {
				mark = needed - 1
			}
			all[name][c.reader] = mark
		}
	}
	return all
}

// needs is the first sequence that a claim still needs; some is false if there is
// none. What a reader holds and was dropped is not needed. The caller holds mu.
func (o *Outbox) needs(c *claim) (sequence uint64, some bool) {
	if r := o.readers[c.reader]; r != nil {
		for _, h := range r.held {
			if h.claim == c && h.sequence >= o.oldest {
				return h.sequence, true // what waits comes behind it
			}
		}
	}
	return c.next, c.waits()
}
