package engine

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// SetStartTimeout shortens the time that a recovery may take.
func SetStartTimeout(d time.Duration) { startTimeout = d }

// SetMarkerAge shortens the time for which deletions are remembered, in whole seconds.
func SetMarkerAge(d time.Duration) { markerAge = d }

// Cut has a feed hear nothing and ask nobody, as on a node that is cut off, until
// it is healed.
func Cut(f *Feed) (heal func() error) {
	f.Close()
	return func() (err error) {
		f.changes = make(chan *nats.Msg, laneDepth)
		if f.sub, err = f.bucket.engine.conn.ChanSubscribe(changesPrefix+f.bucket.name+".>", f.changes); err == nil {
			f.Start()
		}
		return err
	}
}

// Mislead has a feed that is cut read so many times from a leader that has nothing new,
// as one that was cut off itself.
func Mislead(f *Feed, times int) { f.stream = &misled{f.stream, times} }

type misled struct {
	jetstream.Stream
	times int
}

func (m *misled) GetMsg(ctx context.Context, sequence uint64, options ...jetstream.GetMsgOpt) (*jetstream.RawStreamMsg, error) {
	if m.times--; m.times >= 0 {
		return nil, jetstream.ErrMsgNotFound
	}
	return m.Stream.GetMsg(ctx, sequence, options...)
}

// Messages is how many a bucket has, those that mark deletions among them.
func Messages(ctx context.Context, b *Bucket) (uint64, error) {
	s, err := b.engine.js.Stream(ctx, streamOf(b.name))
	if err != nil {
		return 0, err
	}
	return s.CachedInfo().State.Msgs, nil
}

// Queue puts a use into the queue whose caller is gone already.
func Queue(ctx context.Context, o *Once, key string) {
	o.mu.Lock()
	o.used[key] = time.Now().Add(time.Hour).Unix()
	o.mu.Unlock()
	o.requests <- onceRequest{ctx, key, time.Now().Unix(), make(chan error, 1)}
}

// Used is how many bytes the outbox has stored.
func Used(o *Outbox) int64 {
	o.turn <- struct{}{}
	defer o.give()
	return o.used
}

// Expire drops what is too old at the time.
func Expire(o *Outbox, now time.Time) error {
	return o.inTurn(context.Background(), func(ctx context.Context) error { return o.expire(ctx, now) })
}

// Compact removes what was acknowledged, without waiting for its time.
func Compact(o *Outbox) error { return o.inTurn(context.Background(), o.compact) }

// Measure lets the outbox look at the space that is left.
func Measure(o *Outbox) {
	o.turn <- struct{}{}
	defer o.give()
	o.bound = 0
}

// Hold keeps everybody else from writing.
func Hold(o *Outbox) (release func()) {
	o.turn <- struct{}{}
	return o.give
}

// Trust keeps the outbox from looking at the space that is left.
func Trust(o *Outbox) {
	o.turn <- struct{}{}
	defer o.give()
	o.bound, o.measured = 1<<40, time.Now().Add(time.Hour)
}

// SetFree makes the disk have so much space; negative is what it has.
func SetFree(e *Engine, bytes int64) { e.pretended.Store(bytes) }

// Batches is how many the outbox has stored.
func Batches(o *Outbox) int {
	o.turn <- struct{}{}
	defer o.give()
	return o.batches
}

// StoredAt is when a batch was stored.
func StoredAt(o *Outbox, sequence uint64) time.Time {
	s, err := o.atOrAfter(context.Background(), sequence, "")
	if err != nil || s == nil || s.sequence != sequence {
		panic(err)
	}
	return s.time
}

// Keys is how many keys the outbox knows.
func Keys(o *Outbox) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.keys)
}

// During has something done while the outbox waits for its store: before a purge,
// behind the look at what is left, which can be made to fail, behind the reading of
// a batch. nil is nothing.
func During(o *Outbox, purge func(), look func() error, read func()) {
	o.turn <- struct{}{}
	defer o.give()
	if w, ok := o.stream.(*watched); ok {
		o.stream = w.Stream
	}
	o.stream = &watched{o.stream, purge, look, read}
}

type watched struct {
	jetstream.Stream
	purge func()
	look  func() error
	read  func()
}

func (w *watched) Purge(ctx context.Context, options ...jetstream.StreamPurgeOpt) error {
	if w.purge != nil {
		w.purge()
	}
	return w.Stream.Purge(ctx, options...)
}

func (w *watched) Info(ctx context.Context, options ...jetstream.StreamInfoOpt) (*jetstream.StreamInfo, error) {
	info, err := w.Stream.Info(ctx, options...)
	if w.look != nil {
		err = errors.Join(err, w.look())
	}
	return info, err
}

func (w *watched) GetMsg(ctx context.Context, sequence uint64, options ...jetstream.GetMsgOpt) (*jetstream.RawStreamMsg, error) {
	m, err := w.Stream.GetMsg(ctx, sequence, options...)
	if w.read != nil {
		w.read()
	}
	return m, err
}

// Lose takes a batch away from the store.
func Lose(o *Outbox, sequence uint64) error {
	return o.inTurn(context.Background(), func(ctx context.Context) error { return o.stream.DeleteMsg(ctx, sequence) })
}

// Doubt has a batch written of which no answer came.
func Doubt(o *Outbox, key string, records int, batch string) error {
	return o.inTurn(context.Background(), func(ctx context.Context) error {
		k := o.keyFor(key)
		o.unsure = k
		_, err := o.engine.js.Publish(ctx, o.names.prefix+key, append(stamp{records, k.total, o.offset}.append(nil), batch...))
		return err
	})
}

// Mark writes down what is acknowledged.
func Mark(o *Outbox) error {
	ctx, cancel := context.WithTimeout(context.Background(), writeTimeout)
	defer cancel()
	return o.mark(ctx)
}

// ErrOwned is what a former owner of an outbox is told.
var ErrOwned = errOwned

// OutboxStreams are the streams of a node's outbox.
func OutboxStreams(node string) []string {
	names := outboxOf(node)
	return []string{names.stream, names.marksStream}
}

// StepDown has another node lead a bucket, and waits until one does.
func (e *Engine) StepDown(ctx context.Context, bucket string) error {
	err := e.tries(ctx, func(ctx context.Context) error {
		_, err := e.conn.RequestWithContext(ctx, "$JS.API.STREAM.LEADER.STEPDOWN."+streamOf(bucket), nil)
		return err
	})
	if err != nil {
		return err
	}
	for {
		try, cancel := context.WithTimeout(ctx, time.Second)
		stream, err := e.js.Stream(try, streamOf(bucket))
		cancel()
		if err == nil && stream.CachedInfo().Cluster.Leader != "" {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// TurnOff turns the store off as NATS does when a disk is full.
func TurnOff(e *Engine) error { return e.server.ShutdownJetStream() }

// Healthy says how many replicas of a stream have all of it, the leader's included.
func Healthy(ctx context.Context, e *Engine, stream string) (int, error) {
	s, err := e.js.Stream(ctx, stream)
	if err != nil {
		return 0, err
	}
	healthy := 1
	for _, r := range s.CachedInfo().Cluster.Replicas {
		if r.Current && !r.Offline {
			healthy++
		}
	}
	return healthy, nil
}

// Streams are the names of all streams.
func Streams(ctx context.Context, e *Engine) (names []string) {
	for name := range e.js.StreamNames(ctx).Name() {
		names = append(names, name)
	}
	return names
}
