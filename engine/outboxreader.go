package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// ErrClosed is what waits at a reader or outbox that was closed or removed.
var ErrClosed = errors.New("the outbox was closed")

// OutboxReader hands out the batches of all keys that name it, in the order of
// their writing. Next is for one goroutine, Ack for any.
type OutboxReader struct {
	outbox *Outbox
	name   string

	// Owned by Next: of each claim what comes next of it, read from the store.
	peeked map[*claim]*stored

	more chan struct{} // has room for one: something is to be had
	over chan struct{} // closed by end

	// Guarded by the outbox's mu.
	ahead      []arrival // appended since, to be handed out before anything else
	aheadBytes int
	behind     bool        // there may be more behind ahead, only in the store
	held       []heldBatch // handed out and not acknowledged, in order
	closed     bool
}

// arrival is a batch that a reader is to be handed.
type arrival struct {
	claim  *claim
	batch  OutboxBatch
	before position // of the key
}

// heldBatch is a batch that is being delivered.
type heldBatch struct {
	claim    *claim
	sequence uint64
	before   position
	records  int
	bytes    int64
}

// OutboxBatch is a batch as it was appended. Other readers have the same Data.
type OutboxBatch struct {
	Sequence uint64 // grows from batch to batch, with gaps
	Records  int
	Data     []byte
}

func (s *stored) handed() OutboxBatch { return OutboxBatch{s.sequence, s.stamp.records, s.batch} }

// maxAhead is how many bytes are kept in memory for a reader that is a little
// behind. What it does not take then it reads from the store.
const maxAhead = 1 << 20

// Open starts to read at the first batch that the reader has not acknowledged.
// There is one of a name at a time; it need not have any batch.
func (o *Outbox) Open(reader string) (*OutboxReader, error) {
	if err := checkKey(reader); err != nil {
		return nil, err
	}
	r := &OutboxReader{
		outbox: o, name: reader, behind: true,
		peeked: map[*claim]*stored{}, more: make(chan struct{}, 1), over: make(chan struct{}),
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.closed:
		return nil, ErrClosed
	case o.readers[reader] != nil:
		return nil, fmt.Errorf("%s is being read from the outbox", reader)
	}
	o.readers[reader] = r
	return r, nil
}

// offer gives the reader what was appended, if it has everything before. The
// caller holds mu.
func (r *OutboxReader) offer(a arrival) {
	switch {
	case r.behind:
	case r.aheadBytes+len(a.batch.Data) > maxAhead && len(r.ahead) > 0:
		r.behind = true
	default:
		r.ahead = append(r.ahead, a)
		r.aheadBytes += len(a.batch.Data)
	}
	wake(r.more)
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Next waits for the next batch. It returns ErrClosed when the reader is closed,
// and the context's error when that ends; nothing is lost then.
func (r *OutboxReader) Next(ctx context.Context) (OutboxBatch, error) {
	for {
		b, missing, err := r.next()
		switch {
		case err != nil:
			return OutboxBatch{}, err
		case b.Sequence > 0:
			return b, nil
		case len(missing) > 0:
			if err := r.peek(ctx, missing); err != nil {
				return OutboxBatch{}, err
			}
			continue
		}
		select {
		case <-r.more:
		case <-r.over:
		case <-ctx.Done():
			return OutboxBatch{}, ctx.Err()
		}
	}
}

// next hands out a batch, if it has one. If not, it names what must be read from
// the store first, or nothing if there is nothing.
func (r *OutboxReader) next() (b OutboxBatch, missing []*claim, err error) {
	o := r.outbox
	o.mu.Lock()
	defer o.mu.Unlock()
	if r.closed {
		return b, nil, ErrClosed
	}
	for len(r.ahead) > 0 {
		a := r.ahead[0]
		r.ahead[0] = arrival{}
		r.ahead = r.ahead[1:]
		r.aheadBytes -= len(a.batch.Data)
		if r.hand(a) {
			return a.batch, nil, nil
		}
	}
	if !r.behind {
		return b, nil, nil
	}
	maps.DeleteFunc(r.peeked, func(c *claim, s *stored) bool { return s.sequence < max(c.next, o.oldest) }) // dropped meanwhile
	var first *claim
	for _, c := range o.claims[r.name] {
		switch s := r.peeked[c]; {
		case !c.waits():
		case s == nil:
			missing = append(missing, c)
		case first == nil || s.sequence < r.peeked[first].sequence:
			first = c
		}
	}
	switch {
	case len(missing) > 0:
		return b, missing, nil
	case first == nil:
		r.behind = false
		clear(r.peeked)
		return b, nil, nil
	}
	s := r.peeked[first]
	delete(r.peeked, first)
	r.hand(arrival{first, s.handed(), s.stamp.before})
	return s.handed(), nil, nil
}

// hand gives a batch over to the reader; false if it was dropped. The caller holds mu.
func (r *OutboxReader) hand(a arrival) bool {
	c, b := a.claim, a.batch
	if b.Sequence < r.outbox.oldest || b.Sequence < c.next {
		return false
	}
	r.held = append(r.held, heldBatch{c, b.Sequence, a.before, b.Records, int64(len(b.Data))})
	c.fresh, c.next = a.before.add(b.Records, len(b.Data)), b.Sequence+1
	return true
}

// peek reads the next batch of each claim. What the store should have and does not
// give back is dropped.
func (r *OutboxReader) peek(ctx context.Context, of []*claim) error {
	for _, c := range of {
		s, err := r.read(ctx, c)
		if err != nil {
			return fmt.Errorf("read %s from the outbox: %w", r.name, err)
		}
		if s != nil {
			r.peeked[c] = s
		}
	}
	return nil
}

func (r *OutboxReader) read(ctx context.Context, c *claim) (*stored, error) {
	o := r.outbox
	from := func() (position, uint64) {
		o.mu.Lock()
		defer o.mu.Unlock()
		return c.fresh, c.next
	}
	fresh, next := from()
	s, err := o.atOrAfter(ctx, next, c.key.name)
	if err != nil || s != nil && s.stamp.before == fresh {
		return s, err
	}
	// Something is missing: it is being dropped, which is counted before the turn
	// is free, or it is lost.
	if err := o.take(ctx); err != nil {
		return nil, err
	}
	defer o.give()
	switch err := o.stillOwned(ctx); { // another node may have delivered it
	case errors.Is(err, errOwned):
		return nil, ErrClosed
	case err != nil:
		return nil, err
	}
	fresh, next = from()
	if s, err = o.atOrAfter(ctx, next, c.key.name); err != nil || s != nil && s.stamp.before == fresh {
		return s, err
	}
	if s == nil {
		if err := o.hasNone(ctx, next, c.key.name); err != nil {
			return nil, err
		}
	}
	o.mu.Lock()
	if c.next != next { // the reader was closed meanwhile: what it held is to be had again
		o.mu.Unlock()
		return nil, nil
	}
	end := c.key.total
	if s != nil {
		end = s.stamp.before
	}
	lost := int(end.records - c.fresh.records)
	c.fresh = end
	if s != nil {
		c.next = s.sequence
	} else {
		c.next = c.key.last + 1
	}
	o.mu.Unlock()
	if lost > 0 {
		o.engine.log.Error("batches of the outbox are not there", "reader", r.name, "records", lost)
		o.options.Dropped(r.name, lost, DroppedUnreadable)
	}
	return s, nil
}

// hasNone is nil if the store has no batch of a key at or after a sequence. NATS
// says that it found nothing also if it could not read a file just now, and if who
// answers was the leader and does not know yet of the next one.
func (o *Outbox) hasNone(ctx context.Context, sequence uint64, key string) error {
	info, err := o.stream.Info(ctx, jetstream.WithSubjectFilter(o.names.prefix+key))
	if err != nil {
		return err
	}
	if err := o.engine.doubts(info.Cluster); err != nil {
		return err
	}
	if len(info.State.Subjects) == 0 {
		return nil
	}
	newest, err := o.newestOf(ctx, key)
	switch {
	case err != nil:
		return err
	case newest == nil || newest.sequence >= sequence:
		return errors.New("the store cannot read what it has")
	}
	return nil
}

// sureOfNone is hasNone for who can wait until it is known.
func (o *Outbox) sureOfNone(ctx context.Context, sequence uint64, key string) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	for {
		err := o.hasNone(ctx, sequence, key)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("read the batches of %s in the outbox: %w", key, err)
		case <-time.After(tryPause):
		}
	}
}

// Ack says that all batches up to a sequence were delivered. They do not come
// again, but for those of the last tenth of a second before a kill -9, or of the
// time in which the store was full. Ack may be called again.
func (r *OutboxReader) Ack(sequence uint64) error {
	o := r.outbox
	o.mu.Lock()
	defer o.mu.Unlock()
	if r.closed {
		return ErrClosed
	}
	n := 0
	for n < len(r.held) && r.held[n].sequence <= sequence {
		n++
	}
	r.held = r.held[n:]
	if n > 0 {
		wake(o.acked)
	}
	return nil
}

// Close ends the reader. What it handed out and is not acknowledged comes again
// at the next Open; what of it was dropped meanwhile is counted now.
func (r *OutboxReader) Close() {
	if lost := r.end(); lost > 0 {
		r.outbox.mu.Lock()
		why := r.outbox.why
		r.outbox.mu.Unlock()
		r.outbox.options.Dropped(r.name, lost, why)
	}
}

// end closes and returns how many records are lost by that.
func (r *OutboxReader) end() (lost int) {
	o := r.outbox
	o.mu.Lock()
	defer o.mu.Unlock()
	if r.closed {
		return 0
	}
	r.closed = true
	close(r.over)
	for i := len(r.held) - 1; i >= 0; i-- { // the oldest has the last word
		h := r.held[i]
		if h.sequence >= o.oldest {
			h.claim.fresh, h.claim.next = h.before, h.sequence
		} else {
			lost += h.records
		}
	}
	r.held, r.ahead = nil, nil
	delete(o.readers, r.name)
	return lost
}
