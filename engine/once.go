package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Once remembers keys that may be used one time: chat tokens. Within the process
// a set in memory decides which caller wins; the store makes the decision last.
// Calls that come while a write is under way are written together, with one
// fsync, so that a storm of connections costs few of them. In a cluster the store
// decides between nodes: see onceshared.go.
type Once struct {
	engine *Engine

	mu    sync.Mutex
	used  map[string]int64 // until when, in seconds of Unix time
	swept time.Time

	requests chan onceRequest // of a store that stands alone

	kv       jetstream.KeyValue // in a cluster
	attempts chan attempt
	tries    atomic.Uint64

	stop chan struct{}
	done sync.WaitGroup
}

type onceRequest struct {
	ctx   context.Context // over means that nobody wants it any more
	key   string
	until int64
	reply chan error
}

// afterwards is how much longer a key is remembered than it may be used: whoever
// found it good just before its end may have waited for the store since.
const afterwards = time.Minute

// maxBatch is the most keys in one write, about 40 KB of them.
const maxBatch = 1024

// Once opens the set and reads what is in it.
func (e *Engine) Once(ctx context.Context) (*Once, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.once != nil {
		return e.once, nil
	}
	o := &Once{engine: e, used: map[string]int64{}, requests: make(chan onceRequest, maxBatch), stop: make(chan struct{})}
	if e.bus != nil {
		if err := o.openShared(ctx); err != nil {
			return nil, err
		}
		e.once = o
		return o, nil
	}
	stream, err := e.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: usedTokensStream, Subjects: []string{usedTokensSubject}, Storage: e.storage,
		Retention: jetstream.LimitsPolicy, MaxAge: usedTokensAge, Discard: jetstream.DiscardNew,
	})
	if err != nil {
		return nil, fmt.Errorf("open the used tokens: %w", err)
	}
	if err := o.load(ctx, stream); err != nil {
		return nil, err
	}
	o.done.Go(o.run)
	e.once = o
	return o, nil
}

func (o *Once) load(ctx context.Context, stream jetstream.Stream) error {
	info, err := stream.Info(ctx)
	if err != nil {
		return fmt.Errorf("load the used tokens: %w", err)
	}
	if info.State.Msgs == 0 {
		return nil
	}
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverAllPolicy})
	if err != nil {
		return fmt.Errorf("load the used tokens: %w", err)
	}
	messages, err := consumer.Messages()
	if err != nil {
		return fmt.Errorf("load the used tokens: %w", err)
	}
	defer messages.Stop()
	since := o.engine.now().Add(-afterwards).Unix()
	for {
		m, err := messages.Next(jetstream.NextMaxWait(stalled))
		if err != nil {
			return o.engine.damaged(fmt.Sprintf("the used tokens cannot be read: %v", err))
		}
		if err := o.read(m.Data(), since); err != nil {
			return o.engine.damaged(err.Error())
		}
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("load the used tokens: %w", err)
		}
		if meta.Sequence.Stream >= info.State.LastSeq {
			return nil
		}
	}
}

// A batch is keys behind one another: one byte of length, the key, eight bytes
// of Unix time until which it must be remembered.
func (o *Once) read(batch []byte, since int64) error {
	for len(batch) > 0 {
		n := int(batch[0])
		if len(batch) < 1+n+8 {
			return errors.New("a batch of used tokens is cut off")
		}
		until := int64(binary.BigEndian.Uint64(batch[1+n:]))
		if until >= since {
			o.used[string(batch[1:1+n])] = until
		}
		batch = batch[1+n+8:]
	}
	return nil
}

// Use marks the key as used, durably, until the time given, and returns nil to
// exactly one caller; the others get ErrUsed. Any other error means that the
// store could not take it: the key is not used then, unless the store may have
// it, in which case it stays used. Keys have at most 255 bytes.
func (o *Once) Use(ctx context.Context, key string, until time.Time) error {
	if len(key) == 0 || len(key) > 255 {
		return fmt.Errorf("a key of %d bytes", len(key))
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	o.mu.Lock()
	if _, ok := o.used[key]; ok {
		o.mu.Unlock()
		return ErrUsed
	}
	o.used[key] = until.Unix()
	o.sweep(o.engine.now())
	o.mu.Unlock()
	if o.kv != nil {
		return o.useShared(ctx, key, until)
	}

	r := onceRequest{ctx, key, until.Unix(), make(chan error, 1)}
	select {
	case o.requests <- r:
	case <-o.stop:
		o.forget(key)
		return errors.New("the store was closed")
	case <-ctx.Done():
		o.forget(key)
		return ctx.Err()
	}
	select {
	case err := <-r.reply:
		return err
	case <-ctx.Done(): // it is not used, unless its write is under way
		return ctx.Err()
	case <-o.stop:
		o.done.Wait()
		select {
		case err := <-r.reply:
			return err
		default:
			return errors.New("the store was closed")
		}
	}
}

func (o *Once) forget(keys ...string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, k := range keys {
		delete(o.used, k)
	}
}

// sweep drops what need not be remembered any more, once a minute.
func (o *Once) sweep(now time.Time) {
	if now.Sub(o.swept) < time.Minute {
		return
	}
	o.swept = now
	for k, until := range o.used {
		if until < now.Add(-afterwards).Unix() {
			delete(o.used, k)
		}
	}
}

func (o *Once) run() {
	for {
		select {
		case <-o.stop:
			return
		case first := <-o.requests:
			o.commit(first)
		}
	}
}

// commit writes one batch: the first request and all that wait.
func (o *Once) commit(first onceRequest) {
	batch := []onceRequest{first}
collect:
	for len(batch) < maxBatch {
		select {
		case r := <-o.requests:
			batch = append(batch, r)
		default:
			break collect
		}
	}
	batch = slices.DeleteFunc(batch, func(r onceRequest) bool {
		if r.ctx.Err() == nil {
			return false
		}
		o.forget(r.key) // it was not used, and stays good
		return true
	})
	if len(batch) == 0 {
		return
	}
	var b []byte
	for _, r := range batch {
		b = append(b, byte(len(r.key)))
		b = append(b, r.key...)
		b = binary.BigEndian.AppendUint64(b, uint64(r.until))
	}
	refused, err := o.write(b)
	for _, r := range batch {
		if refused {
			o.forget(r.key)
		}
		r.reply <- err
	}
}

// write stores a batch. Refused means that nothing was written.
func (o *Once) write(batch []byte) (refused bool, err error) {
	if err := o.engine.room(len(batch)); err != nil {
		return true, fmt.Errorf("mark tokens as used: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), writeTimeout)
	defer cancel()
	ack, err := o.engine.js.Publish(ctx, usedTokensSubject, batch)
	if err != nil {
		var api *jetstream.APIError
		return errors.As(err, &api), fmt.Errorf("mark tokens as used: %w", err)
	}
	o.engine.guard.wrote(usedTokensStream, ack.Sequence, 0)
	return false, nil
}

func (o *Once) close() {
	close(o.stop)
	o.done.Wait()
}
