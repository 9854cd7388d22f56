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
	prefix := outboxOf("").prefix
	streams := e.js.ListStreams(ctx, jetstream.WithStreamListSubject(prefix+">"))
	var infos []*jetstream.StreamInfo
	for info := range streams.Info() {
		infos = append(infos, info)
	}
	if err := streams.Err(); err != nil {
		return fmt.Errorf("read the outbox: %w", err)
	}
	slices.SortFunc(infos, func(x, y *jetstream.StreamInfo) int { return strings.Compare(x.Config.Name, y.Config.Name) })
	for _, info := range infos {
		if err := e.eachUndelivered(ctx, info, readers, each); err != nil {
			return fmt.Errorf("read the outbox: %w", err)
		}
	}
	return nil
}

func (e *Engine) eachUndelivered(ctx context.Context, info *jetstream.StreamInfo, readers func(string) []string, each func(Undelivered) error) error {
	name := outboxOf("").stream
	o := e.newOutbox(strings.TrimPrefix(strings.TrimPrefix(info.Config.Name, name), "_"), OutboxOptions{}) // to read with
	var err error
	if o.stream, err = e.js.Stream(ctx, info.Config.Name); err != nil {
		return err
	}
	acknowledged, err := o.readMarks(ctx)
	if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) { // the node has made one of the two, just now
		return err
	}
	for next := info.State.FirstSeq; ; {
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
