package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// ErrClosed is what waits at a reader or outbox that was closed or removed.
var ErrClosed = errors.New("the outbox was closed")

// OutboxReader hands out the batches of a key in the order of their writing. Next
// is for one goroutine, Ack for any.
//
// The reader pulls from the key's durable consumer itself instead of by the NATS
// client's iterator: that one unsubscribes in the background after it was closed,
// so that batches which are sent to it meanwhile would be missing at the reader
// that is opened next, until AckWait has passed.
type OutboxReader struct {
	outbox *Outbox
	key    string
	state  *outboxKey

	// Owned by Next.
	last    uint64 // sequence that was handed out last
	asked   int    // messages that are asked for and have not come
	retried bool   // the consumer was reset for the batch that comes next

	acks sync.WaitGroup // acknowledgements under way

	// Guarded by the outbox's mu.
	subscription *nats.Subscription
	held         []heldBatch // handed out and not acknowledged, in order
	closed       bool
}

// heldBatch is a batch that is being delivered.
type heldBatch struct {
	sequence uint64
	before   position
	records  int
	bytes    int64
	ack      string // subject
}

// OutboxBatch is a batch as it was appended.
type OutboxBatch struct {
	Sequence uint64 // grows from batch to batch, with gaps
	Records  int
	Time     time.Time // when it was appended
	Data     []byte
}

const (
	// Batches that NATS may send ahead of Next: of the usual 64 KB they are 2 MB.
	prefetch = 32

	// How long the server keeps a request for batches. It says when one ends, so
	// that it is asked again; a server that died does not.
	pullTime = 30 * time.Second

	// Redelivery is by reset when a reader is opened, not by this.
	outboxAckWait = 30 * 24 * time.Hour
)

// Open starts to read a key at the first batch that is not acknowledged. A key
// has one reader at a time; it need not have any batch.
func (o *Outbox) Open(ctx context.Context, key string) (*OutboxReader, error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	if err := o.take(ctx); err != nil {
		return nil, fmt.Errorf("read %s from the outbox: %w", key, err)
	}
	defer o.give()
	k, err := o.keyFor(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("read %s from the outbox: %w", key, err)
	}
	if k.reader != nil {
		return nil, fmt.Errorf("%s is being read from the outbox", key)
	}
	_, err = o.stream.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
		Durable: consumerOf(key), FilterSubject: outboxPrefix + key, DeliverPolicy: jetstream.DeliverAllPolicy,
		AckPolicy: jetstream.AckAllPolicy, AckWait: outboxAckWait, MaxAckPending: -1, MaxDeliver: -1,
	})
	if err != nil {
		return nil, fmt.Errorf("read %s from the outbox: %w", key, err)
	}
	r := &OutboxReader{outbox: o, key: key, state: k}
	if err := r.begin(ctx); err != nil {
		return nil, fmt.Errorf("read %s from the outbox: %w", key, err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		_ = r.subscription.Unsubscribe()
		return nil, ErrClosed
	}
	k.reader = r
	return r, nil
}

// begin makes the consumer start again behind what is acknowledged, and a new
// inbox for what it sends.
func (r *OutboxReader) begin(ctx context.Context) error {
	o := r.outbox
	if _, err := o.stream.ResetConsumer(ctx, consumerOf(r.key)); err != nil {
		return err
	}
	subscription, err := o.engine.conn.SubscribeSync(o.engine.conn.NewInbox())
	if err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if r.closed {
		_ = subscription.Unsubscribe()
		return ErrClosed
	}
	r.subscription, r.asked = subscription, 0
	return nil
}

// Next waits for the next batch. It returns ErrClosed when the reader is closed,
// and the context's error when that ends; nothing is lost then.
func (r *OutboxReader) Next(ctx context.Context) (OutboxBatch, error) {
	for {
		m, err := r.receive(ctx)
		if err != nil {
			return OutboxBatch{}, err
		}
		meta, err := m.Metadata()
		if err != nil {
			return OutboxBatch{}, fmt.Errorf("read %s from the outbox: %w", r.key, err)
		}
		s, data, err := readStamp(m.Data)
		if err != nil {
			return OutboxBatch{}, r.outbox.engine.damaged(err.Error())
		}
		sequence := meta.Sequence.Stream
		taken, missed, err := r.hand(heldBatch{sequence, s.before, s.records, int64(len(data)), m.Reply}, s.after(data))
		if err != nil {
			return OutboxBatch{}, err
		}
		if missed {
			if err := r.again(ctx); err != nil {
				return OutboxBatch{}, err
			}
		}
		if taken {
			r.last, r.retried = sequence, false
			return OutboxBatch{sequence, s.records, meta.Timestamp, data}, nil
		}
	}
}

// hand takes a batch over from the store to the reader. It is passed over if it
// was handed out before or was dropped. Missed means that the one before it did
// not come, which can be after the loss of a server.
func (r *OutboxReader) hand(b heldBatch, after position) (taken, missed bool, err error) {
	o, k := r.outbox, r.state
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case r.closed:
		return false, false, ErrClosed
	case b.sequence <= r.last, b.sequence < o.oldest:
		return false, false, nil
	case b.before.records > k.fresh.records && !r.retried:
		return false, true, nil
	}
	r.held = append(r.held, b)
	k.fresh, k.next = after, b.sequence+1
	return true, false, nil
}

// again lets everything that is not acknowledged come again.
func (r *OutboxReader) again(ctx context.Context) error {
	r.retried = true
	r.outbox.mu.Lock()
	old := r.subscription
	r.outbox.mu.Unlock()
	_ = old.Unsubscribe()
	if err := r.begin(ctx); err != nil {
		return fmt.Errorf("read %s from the outbox: %w", r.key, err)
	}
	return nil
}

// receive waits for a message, and asks for more before they run out.
func (r *OutboxReader) receive(ctx context.Context) (*nats.Msg, error) {
	for {
		r.outbox.mu.Lock()
		subscription, closed := r.subscription, r.closed
		r.outbox.mu.Unlock()
		if closed {
			return nil, ErrClosed
		}
		if r.asked <= prefetch/2 {
			if err := r.ask(subscription.Subject); err != nil {
				return nil, fmt.Errorf("read %s from the outbox: %w", r.key, err)
			}
		}
		wait, cancel := context.WithTimeout(ctx, pullTime+5*time.Second)
		m, err := subscription.NextMsgWithContext(wait)
		cancel()
		switch {
		case err == nil && m.Header.Get("Status") == "":
			r.asked--
			return m, nil
		case err == nil: // the request ended before it was served; batches have no header
			r.asked = 0
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, context.DeadlineExceeded):
			r.asked = 0
		case errors.Is(err, nats.ErrBadSubscription), errors.Is(err, nats.ErrConnectionClosed):
			return nil, ErrClosed
		default:
			return nil, fmt.Errorf("read %s from the outbox: %w", r.key, err)
		}
	}
}

func (r *OutboxReader) ask(inbox string) error {
	request, err := json.Marshal(struct {
		Batch   int           `json:"batch"`
		Expires time.Duration `json:"expires"`
	}{prefetch - r.asked, pullTime})
	if err != nil {
		return err
	}
	r.asked = prefetch
	return r.outbox.engine.conn.PublishRequest("$JS.API.CONSUMER.MSG.NEXT."+outboxStream+"."+consumerOf(r.key), inbox, request)
}

// Ack says that all batches up to a sequence were delivered. They do not come
// again, but for those of the last tenth of a second before a kill -9. Ack may be
// called again.
func (r *OutboxReader) Ack(ctx context.Context, sequence uint64) error {
	o := r.outbox
	o.mu.Lock()
	if r.closed {
		o.mu.Unlock()
		return ErrClosed
	}
	n := r.upTo(sequence)
	if n == 0 {
		o.mu.Unlock()
		return nil
	}
	subject := r.held[n-1].ack
	r.acks.Add(1)
	o.mu.Unlock()
	defer r.acks.Done()

	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	if _, err := o.engine.conn.RequestWithContext(ctx, subject, nil); err != nil {
		return fmt.Errorf("acknowledge %s: %w", r.key, err)
	}
	o.mu.Lock()
	r.held = r.held[r.upTo(sequence):]
	o.mu.Unlock()
	select {
	case o.acked <- struct{}{}:
	default:
	}
	return nil
}

// upTo is how many held batches are not after a sequence.
func (r *OutboxReader) upTo(sequence uint64) int {
	n := 0
	for n < len(r.held) && r.held[n].sequence <= sequence {
		n++
	}
	return n
}

// Close ends the reader. What it handed out and is not acknowledged comes again
// at the next Open; what of it was dropped meanwhile is counted now.
func (r *OutboxReader) Close() {
	if lost := r.end(); lost > 0 {
		r.outbox.mu.Lock()
		why := r.outbox.why
		r.outbox.mu.Unlock()
		r.outbox.options.Dropped(r.key, lost, why)
	}
}

// end closes and returns how many records are lost by that.
func (r *OutboxReader) end() (lost int) {
	o, k := r.outbox, r.state
	o.mu.Lock()
	if r.closed {
		o.mu.Unlock()
		return 0
	}
	r.closed = true
	subscription := r.subscription
	o.mu.Unlock()
	_ = subscription.Unsubscribe() // fails if the connection is closed
	r.acks.Wait()
	// NATS writes what is acknowledged down later, and may forget it at its own end;
	// a reset writes it now.
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	_, _ = o.stream.ResetConsumer(ctx, consumerOf(r.key)) // what is not written comes again
	cancel()

	o.mu.Lock()
	defer o.mu.Unlock()
	for _, h := range r.held {
		if h.sequence >= o.oldest {
			k.fresh, k.next = h.before, h.sequence
			break
		}
		lost += h.records
	}
	r.held, k.reader = nil, nil
	return lost
}
