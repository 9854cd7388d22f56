package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// Undelivered is a batch of an outbox with the readers that have not acknowledged it.
type Undelivered struct {
	Readers []string
	Records int
	Data    []byte
}

// EachUndelivered hands every batch that a reader has not acknowledged to each: of
// the outboxes of all nodes, one behind the other, each in the order of its
// writing. readers are those of a key, as in OutboxOptions. It reads what is
// stored, so what was acknowledged in the last tenth of a second is among it.
func (e *Engine) EachUndelivered(ctx context.Context, readers func(key string) []string, each func(Undelivered) error) error {
	// Names, since a list of what the streams are leaves out those without a leader.
	list := e.js.StreamNames(ctx, jetstream.WithStreamListSubject(outboxOf("").prefix+">"))
	var names []string
	for name := range list.Name() {
		names = append(names, name)
	}
	if err := list.Err(); err != nil {
		return fmt.Errorf("read the outbox: %w", err)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if err := e.eachUndelivered(ctx, name, readers, each); err != nil {
			return fmt.Errorf("read the outbox %s: %w", name, err)
		}
	}
	return nil
}

func (e *Engine) eachUndelivered(ctx context.Context, stream string, readers func(string) []string, each func(Undelivered) error) error {
	node := strings.TrimPrefix(strings.TrimPrefix(stream, outboxOf("").stream), "_")
	o := e.newOutbox(node, OutboxOptions{}) // to read with
	opening, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	if err := e.tries(opening, func(ctx context.Context) (err error) {
		o.stream, err = e.js.Stream(ctx, stream)
		return err
	}); err != nil {
		return err
	}
	acknowledged, err := o.readMarks(ctx)
	if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) { // the node has made one of the two, just now
		return err
	}
	for next := o.stream.CachedInfo().State.FirstSeq; ; {
		s, err := o.atOrAfter(ctx, next, "")
		if err != nil || s == nil {
			return err
		}
		next = s.sequence + 1
		waiting := slices.DeleteFunc(readers(s.key), func(r string) bool { return acknowledged.marks[s.key][r] >= s.sequence })
		if len(waiting) == 0 {
			continue
		}
		if err := each(Undelivered{waiting, s.stamp.records, s.batch}); err != nil {
			return err
		}
	}
}
