package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// What is stored of the outbox is always a stretch of the order in which it was
// written: what all keys have acknowledged is compacted away at its old end, what
// is dropped goes there too, and batches are appended at the other.

const (
	// Delivered text must not lie about, but a purge costs a few fsyncs.
	compactEvery = time.Second

	// How old the figures of free space may be.
	measureEvery = time.Second

	// Room is made in steps of this part of the bound, so that a full outbox does
	// not purge at every append.
	trimPart = 32
)

// noRoom tells a refusal for want of space, which trimming mends.
func noRoom(api *jetstream.APIError) bool {
	switch api.ErrorCode {
	case 10023, 10047: // insufficient resources, storage resources exceeded
		return true
	case 10077: // the stream's store failed: also for other reasons
		return strings.Contains(api.Description, "maximum bytes exceeded")
	}
	return false
}

// left is what the store may still take, by its limit and by its disk.
func (e *Engine) left() (int64, error) {
	if e.server == nil { // whoever runs NATS bounds it
		return 1 << 40, nil
	}
	info, err := e.server.Jsz(nil)
	if err != nil {
		return 0, fmt.Errorf("ask for the space in the store: %w", err)
	}
	if e.folder == nil {
		return max(0, e.limit-int64(info.Memory)), nil
	}
	return max(0, min(e.limit-int64(info.Store), e.free())), nil
}

// most is what the outbox may use: MaxBytes, and no more than what it leaves to
// all else. So rooms can be written when a destination is gone for days.
func (o *Outbox) most() (int64, error) {
	if now := time.Now(); o.bound == 0 || now.Sub(o.measured) > measureEvery {
		left, err := o.engine.left()
		if err != nil {
			return 0, err
		}
		o.bound, o.measured = (o.used+left)/2, now
		if o.options.MaxBytes > 0 {
			o.bound = min(o.bound, o.options.MaxBytes)
		}
	}
	return o.bound, nil
}

// makeRoom drops the oldest batches until one of the size fits. The caller has
// the turn, as for all that follows.
func (o *Outbox) makeRoom(ctx context.Context, size int64) error {
	for o.batches > 0 {
		most, err := o.most()
		if err != nil {
			return err
		}
		over := o.used + size - most
		if over <= 0 {
			return nil
		}
		if err := o.trim(ctx, over); err != nil {
			return err
		}
	}
	return nil
}

// trim drops at least so many bytes of the oldest batches, or all there are.
func (o *Outbox) trim(ctx context.Context, bytes int64) error {
	bytes = max(bytes, o.bound/trimPart)
	upTo := o.last + 1
	if bytes < o.used {
		first, err := o.atOrAfter(ctx, 1, "")
		if err != nil {
			return err
		}
		if first != nil {
			enough := first.stamp.offset + uint64(bytes)
			if upTo, err = o.search(ctx, first.sequence+1, func(s *stored) bool { return s.stamp.offset >= enough }); err != nil {
				return err
			}
		}
	}
	return o.drop(ctx, upTo, DroppedFull)
}

// expire drops what is older than MaxAge.
func (o *Outbox) expire(ctx context.Context, now time.Time) error {
	if o.options.MaxAge == 0 || o.batches == 0 {
		return nil
	}
	oldest := now.Add(-o.options.MaxAge)
	young := func(s *stored) bool { return !s.time.Before(oldest) }
	first, err := o.atOrAfter(ctx, 1, "")
	if err != nil || first == nil || young(first) {
		return err
	}
	upTo, err := o.search(ctx, first.sequence+1, young)
	if err != nil {
		return err
	}
	return o.drop(ctx, upTo, DroppedOld)
}

// search is the sequence of the first batch, not before from, for which is holds,
// as it does for all that follow it; one behind the last if there is none.
func (o *Outbox) search(ctx context.Context, from uint64, is func(*stored) bool) (uint64, error) {
	to := o.last + 1
	for from < to {
		middle := from + (to-from)/2
		s, err := o.atOrAfter(ctx, middle, "")
		switch {
		case err != nil:
			return 0, err
		case s == nil || is(s):
			to = middle
		default:
			from = s.sequence + 1
		}
	}
	return to, nil
}

// drop removes all batches before a sequence and counts what no reader had. What
// a reader is handed while the purge is under way is not counted; what is kept for
// it in memory is counted, and then passed over. What one holds is counted when it
// closes; one that closes while the purge is under way gives it back before.
func (o *Outbox) drop(ctx context.Context, upTo uint64, why DropReason) error {
	o.mu.Lock()
	o.why = why
	ends := map[*outboxKey]position{} // where the key goes on
	for _, k := range o.keys {
		for _, c := range k.claims {
			if needed, some := o.needs(c); some && needed < upTo {
				ends[k] = k.total
			}
		}
	}
	o.mu.Unlock()
	for k := range ends {
		if k.last < upTo {
			continue
		}
		s, err := o.atOrAfter(ctx, upTo, k.name)
		if err != nil {
			return err
		}
		if s != nil {
			ends[k] = s.stamp.before
		}
	}
	if err := o.purge(ctx, upTo); err != nil {
		return err
	}
	dropped := map[string]int{} // by reader
	o.mu.Lock()
	for k, end := range ends {
		for _, c := range k.claims {
			if end.records > c.fresh.records {
				dropped[c.reader] += int(end.records - c.fresh.records)
				c.fresh = end
			}
			c.next = max(c.next, upTo)
		}
	}
	o.oldest = max(o.oldest, upTo)
	o.mu.Unlock()
	for reader, records := range dropped {
		o.options.Dropped(reader, records, why)
	}
	return nil
}

// compact removes what is before the oldest batch that is not acknowledged, and
// forgets keys of which nothing is left.
func (o *Outbox) compact(ctx context.Context) error {
	o.mu.Lock()
	upTo, oldest := o.last+1, o.oldest
	for _, k := range o.keys {
		for _, c := range k.claims {
			if needed, some := o.needs(c); some {
				upTo = min(upTo, needed)
			}
		}
	}
	o.mu.Unlock()
	if o.batches > 0 && upTo > oldest {
		if o.engine.bus != nil { // the next owner must know of what was delivered before it is gone
			if err := o.mark(ctx); err != nil {
				return err
			}
		}
		if err := o.purge(ctx, upTo); err != nil {
			return err
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for name, k := range o.keys {
		if k.last >= o.oldest || k == o.unsure || slices.ContainsFunc(k.claims, o.uses) {
			continue
		}
		delete(o.keys, name)
		for _, c := range k.claims {
			o.claims[c.reader] = slices.DeleteFunc(o.claims[c.reader], func(other *claim) bool { return other == c })
			if len(o.claims[c.reader]) == 0 {
				delete(o.claims, c.reader)
			}
		}
	}
	return nil
}

// uses says whether something of the claim is not acknowledged, be it stored or not.
func (o *Outbox) uses(c *claim) bool {
	r := o.readers[c.reader]
	return c.waits() || r != nil && slices.ContainsFunc(r.held, func(h heldBatch) bool { return h.claim == c })
}

// purge removes the batches before a sequence. The guard is told before of what
// there will be at least, so that the end of the process at any moment looks like
// no loss.
func (o *Outbox) purge(ctx context.Context, upTo uint64) error {
	if upTo == 1 { // NATS does nothing then, too
		return nil
	}
	if err := o.engine.room(0); err != nil {
		return fmt.Errorf("purge: %w", err)
	}
	if upTo > o.tail {
		o.tail = 0
	}
	o.mu.Lock()
	gone := int(min(uint64(o.batches), upTo-min(o.oldest, upTo)))
	o.mu.Unlock()
	if err := o.engine.guard.holds(o.batches-gone, o.tail); err != nil {
		return err
	}
	o.purging = true
	if err := o.stream.Purge(ctx, jetstream.WithPurgeSequence(upTo)); err != nil {
		return fmt.Errorf("purge: %w", full(err))
	}
	if err := o.look(ctx); err != nil {
		return err
	}
	return o.engine.guard.holds(o.batches, o.tail)
}

// look takes over from the store what is in it.
func (o *Outbox) look(ctx context.Context) error {
	info, err := o.stream.Info(ctx)
	if err != nil {
		return fmt.Errorf("ask for the state of the outbox: %w", err)
	}
	o.used, o.batches = int64(info.State.Bytes), int(info.State.Msgs)
	if !o.inherited || !o.loaded {
		o.last = max(o.last, info.State.LastSeq)
	}
	o.purging = false
	o.mu.Lock()
	o.oldest = max(o.oldest, info.State.FirstSeq)
	o.mu.Unlock()
	return nil
}
