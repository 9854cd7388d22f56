package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
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

// written are marks as the store has them.
type written struct {
	marks    marks
	data     []byte // nil if there are none
	sequence uint64
	owner    Run // who wrote them; 0 alone
}

// readMarks is what was written last; without any, everything comes again.
func (o *Outbox) readMarks(ctx context.Context) (w written, err error) {
	stream, err := o.engine.js.Stream(ctx, o.names.marksStream)
	if err != nil {
		return w, fmt.Errorf("read the marks of the outbox: %w", err)
	}
	m, err := stream.GetLastMsgForSubject(ctx, o.names.marksSubject)
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return w, nil
	case err != nil:
		return w, fmt.Errorf("read the marks of the outbox: %w", err)
	}
	w = written{data: m.Data, sequence: m.Sequence, owner: runOf(m.Header.Get(ownerHeader))}
	if err := json.Unmarshal(m.Data, &w.marks); err != nil {
		return w, o.engine.damaged("the marks of the outbox cannot be read")
	}
	return w, nil
}

// mark writes down what is acknowledged, if that has changed.
func (o *Outbox) mark(ctx context.Context) error {
	o.marking.Lock()
	defer o.marking.Unlock()
	for {
		b, err := o.encodeMarks()
		if err != nil || bytes.Equal(b, o.marked) {
			return err
		}
		if err := o.writeMarks(ctx, b); !errors.Is(err, errOwned) {
			return err
		}
		if err := o.keep(ctx); err != nil {
			return err
		}
	}
}

func (o *Outbox) encodeMarks() ([]byte, error) { return json.Marshal(o.marks()) }

// writeMarks replaces what is written. In a cluster it fails with errOwned if
// somebody else has done so. The caller holds marking.
func (o *Outbox) writeMarks(ctx context.Context, b []byte) error {
	if err := o.engine.room(len(b)); err != nil {
		return fmt.Errorf("write marks: %w", err)
	}
	m := nats.NewMsg(o.names.marksSubject)
	m.Data = b
	var options []jetstream.PublishOpt
	if bus := o.engine.bus; bus != nil {
		m.Header.Set(ownerHeader, bus.run.String())
		options = append(options, jetstream.WithExpectLastSequencePerSubject(o.markedAt))
	}
	var ack *jetstream.PubAck
	err := undisturbed(ctx, func(ctx context.Context) (err error) {
		ack, err = o.engine.js.PublishMsg(ctx, m, options...)
		return err
	})
	switch {
	case lostRace(err):
		return fmt.Errorf("write marks: %w", errOwned)
	case err != nil:
		return fmt.Errorf("write marks: %w", full(err))
	}
	o.engine.guard.wrote(o.names.marksStream, ack.Sequence, 0)
	o.marked, o.markedAt = b, ack.Sequence
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
