package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// What a write or a read can come back with, besides trouble with the store.
var (
	ErrExists   = errors.New("the key exists")
	ErrStale    = errors.New("the key was changed or removed meanwhile")
	ErrNotFound = errors.New("no such key")
	ErrLocked   = errors.New("the data folder is in use")
	ErrUsed     = errors.New("the token was used before")
	ErrBehind   = errors.New("the bucket was written to meanwhile")
)

// Entry is a key with its value as of a revision. Revisions grow with each write
// to the bucket.
type Entry struct {
	Key      string
	Value    []byte
	Revision uint64
}

// Bucket is a set of records by key. Keys have letters, digits, '-', '_' and
// '.' between parts.
type Bucket struct {
	engine *Engine
	name   string
	kv     jetstream.KeyValue
	asOf   *uint64 // see AsOf; nil does not care
}

// AsOf is the same bucket for writes that are to be done only if nothing at all
// was written to it since a revision: otherwise they come back with ErrBehind, and
// whatever they were decided on is to be looked at anew.
func (b *Bucket) AsOf(revision uint64) *Bucket {
	same := *b
	same.asOf = &revision
	return &same
}

// Bucket opens one of the buckets of the plan, and makes it if it is not there.
func (e *Engine) Bucket(ctx context.Context, name string) (*Bucket, error) {
	kv, err := e.keyValue(ctx, jetstream.StreamConfig{Name: streamOf(name), SubjectDeleteMarkerTTL: markerAge})
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", name, err)
	}
	b := &Bucket{engine: e, name: name, kv: kv}
	if name == KeysBucket && e.bus == nil { // read key by key, so that nobody else would miss one
		if err := b.Load(ctx, func(Entry) error { return nil }); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// keyValue opens a bucket, or makes its stream as the client library would, but
// for two things: reads come from the leader alone, since another replica may be
// behind, and in a cluster each change is published again. All nodes may do so at
// the same time.
func (e *Engine) keyValue(ctx context.Context, c jetstream.StreamConfig) (jetstream.KeyValue, error) {
	bucket := strings.TrimPrefix(c.Name, streamOf(""))
	c.Subjects = []string{subjectOf(bucket, ">")}
	c.MaxMsgsPerSubject, c.MaxMsgs, c.MaxBytes, c.MaxMsgSize, c.MaxConsumers = 1, -1, -1, -1, -1
	c.AllowRollup, c.DenyDelete, c.AllowMsgTTL, c.Discard = true, true, true, jetstream.DiscardNew
	if e.bus != nil {
		c.RePublish = &jetstream.RePublish{Source: subjectOf(bucket, ">"), Destination: changesPrefix + bucket + ".>"}
	}
	if _, err := e.makeStream(ctx, c, false); err != nil {
		return nil, err
	}
	var kv jetstream.KeyValue
	err := e.tries(ctx, func(ctx context.Context) (err error) {
		kv, err = e.js.KeyValue(ctx, bucket)
		return err
	})
	return kv, err
}

func streamOf(bucket string) string { return "KV_" + bucket }

func subjectOf(bucket, key string) string { return "$KV." + bucket + "." + key }

// stalled is how long a load may go without an entry before the store counts as
// damaged: the server passes over what it cannot read.
const stalled = 10 * time.Second

// Load hands every live entry to each, in the order of their last writes, and
// stops at its first error. It fails if the store has lost an entry.
func (b *Bucket) Load(ctx context.Context, each func(Entry) error) error {
	stream, err := b.engine.js.Stream(ctx, streamOf(b.name))
	if err != nil {
		return fmt.Errorf("load %s: %w", b.name, err)
	}
	info, err := stream.Info(ctx)
	if err != nil {
		return fmt.Errorf("load %s: %w", b.name, err)
	}
	want := info.State.Msgs
	watcher, err := b.watch(ctx)
	if err != nil {
		return fmt.Errorf("load %s: %w", b.name, err)
	}
	defer stopWatching(watcher)
	timer := time.NewTimer(stalled)
	defer timer.Stop()
	var got uint64
	live := 0
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			return b.engine.damaged(fmt.Sprintf("%d of %d entries of %s can be read", got, want, b.name))
		case entry, ok := <-watcher.Updates():
			if !ok {
				return fmt.Errorf("load %s: the store was closed", b.name)
			}
			if entry == nil {
				return b.loaded(ctx, stream, got, want, live)
			}
			got++
			timer.Reset(stalled)
			if entry.Operation() != jetstream.KeyValuePut {
				continue
			}
			live++
			if err := each(Entry{entry.Key(), entry.Value(), entry.Revision()}); err != nil {
				return err
			}
		}
	}
}

// watch hands out all there is, and then nil. In a cluster it waits for a leader that
// lets it: an election takes longer than the client library waits.
func (b *Bucket) watch(ctx context.Context) (jetstream.KeyWatcher, error) {
	for {
		watcher, err := b.kv.WatchAll(ctx)
		late := errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout)
		if !late || b.engine.bus == nil || ctx.Err() != nil {
			return watcher, err
		}
	}
}

// stopWatching ends a watcher, and what it has not handed out: a goroutine of the
// client library would wait for ever to do so.
func stopWatching(w jetstream.KeyWatcher) {
	_ = w.Stop() // of a closed connection
	for range w.Updates() {
	}
}

// loaded compares what was read with what the store says it has, where markers
// of deleted keys may have gone meanwhile, and with what it must have.
func (b *Bucket) loaded(ctx context.Context, stream jetstream.Stream, got, want uint64, live int) error {
	if least := b.engine.guard.least(streamOf(b.name)); live < least {
		return b.engine.damaged(fmt.Sprintf("%s has %d entries, but there were %d", b.name, live, least))
	}
	if got >= want {
		b.engine.guard.counted(streamOf(b.name), live)
		return nil
	}
	info, err := stream.Info(ctx)
	if err != nil {
		return fmt.Errorf("load %s: %w", b.name, err)
	}
	if got >= info.State.Msgs {
		b.engine.guard.counted(streamOf(b.name), live)
		return nil
	}
	return b.engine.damaged(fmt.Sprintf("%d of %d entries of %s can be read", got, want, b.name))
}

// full says what NATS means when the store or its disk has no room. Other errors
// pass through.
func full(err error) error {
	var api *jetstream.APIError
	if errors.As(err, &api) && (api.ErrorCode == 10023 || api.ErrorCode == 10047 || // insufficient resources, storage resources exceeded
		strings.Contains(api.Description, "no space left on device")) {
		return fmt.Errorf("the store is full; make room on its disk and restart: %w", api)
	}
	return err
}

// Get reads a key from the store itself: ErrNotFound if it is not there.
func (b *Bucket) Get(ctx context.Context, key string) (Entry, error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	var entry jetstream.KeyValueEntry
	err := b.engine.tries(ctx, func(ctx context.Context) (err error) {
		entry, err = b.kv.Get(ctx, key)
		return err
	})
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return Entry{}, ErrNotFound
	}
	if err != nil {
		return Entry{}, fmt.Errorf("get %s/%s: %w", b.name, key, err)
	}
	return Entry{key, entry.Value(), entry.Revision()}, nil
}

// Create writes a key that is not there yet, durably, and returns its revision:
// ErrExists if it is there.
func (b *Bucket) Create(ctx context.Context, key string, value []byte) (uint64, error) {
	return b.write(ctx, key, value, 1, ErrExists, func(ctx context.Context) (uint64, error) {
		if b.asOf != nil {
			return b.publish(ctx, key, value, 0)
		}
		return b.kv.Create(ctx, key, value)
	})
}

// Update writes a key that is still at the revision, durably, and returns the
// new one: ErrStale if it is not.
func (b *Bucket) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	return b.write(ctx, key, value, 0, ErrStale, func(ctx context.Context) (uint64, error) {
		if b.asOf != nil {
			return b.publish(ctx, key, value, revision)
		}
		return b.kv.Update(ctx, key, value, revision)
	})
}

// Delete removes a key that is still at the revision, durably: ErrStale if it is
// not.
func (b *Bucket) Delete(ctx context.Context, key string, revision uint64) error {
	if err := b.engine.room(0); err != nil { // write would say so too late
		return fmt.Errorf("delete %s/%s: %w", b.name, key, err)
	}
	if err := b.engine.guard.removes(streamOf(b.name)); err != nil {
		return fmt.Errorf("delete %s/%s: %w", b.name, key, err)
	}
	_, err := b.write(ctx, key, nil, 0, ErrStale, func(ctx context.Context) (uint64, error) {
		if b.asOf != nil {
			return b.publish(ctx, key, nil, revision)
		}
		return 0, b.kv.Purge(ctx, key, jetstream.LastRevision(revision), jetstream.PurgeTTL(markerAge))
	})
	if errors.Is(err, ErrStale) || errors.Is(err, ErrBehind) { // nothing was removed
		b.engine.guard.wrote(streamOf(b.name), 0, 1)
	}
	return err
}

// publish writes a key, or with nil its deletion, if the key and the bucket as a
// whole are as they were.
func (b *Bucket) publish(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	m := nats.NewMsg(subjectOf(b.name, key))
	m.Data = value
	options := []jetstream.PublishOpt{jetstream.WithExpectLastSequencePerSubject(revision), jetstream.WithExpectLastSequence(*b.asOf)}
	if value == nil {
		m.Header.Set("KV-Operation", "PURGE")
		m.Header.Set(jetstream.MsgRollup, jetstream.MsgRollupSubject)
		options = append(options, jetstream.WithMsgTTL(markerAge))
	}
	ack, err := b.engine.js.PublishMsg(ctx, m, options...)
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}

// lostRace says whether a write was refused since there was another one.
func lostRace(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence
}

// onItsWay says whether a write was refused since another one to the same key, or
// bucket, is on its way through the cluster. Source: nats-server v2.15.2,
// JSStreamWrongLastSequenceConstantErr.
func onItsWay(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && api.ErrorCode == 10164
}

// unsent says whether a write did not leave this node, since NATS cannot be reached.
func unsent(err error) bool { return errors.Is(err, nats.ErrReconnectBufExceeded) }

const onItsWayPause = 2 * time.Millisecond

// undisturbed does a write, again and again while another one is on its way, of
// which nobody knows yet whether it counts.
func undisturbed(ctx context.Context, do func(context.Context) error) error {
	for {
		err := do(ctx)
		if !onItsWay(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(onItsWayPause):
		}
	}
}

// write does one compare-and-set. The caller's cancellation does not interrupt
// it, since half a write would leave the caller in doubt. If an answer is lost it
// is tried again, and at the end the key is read: the write counts if it is there.
// A nil value is a deletion.
func (b *Bucket) write(ctx context.Context, key string, value []byte, grows int, lost error, do func(context.Context) (uint64, error)) (uint64, error) {
	if err := b.engine.room(len(value)); err != nil {
		return 0, fmt.Errorf("write %s/%s: %w", b.name, key, err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	var revision uint64
	doubt := false // an earlier try may have been the one that counts
	err := b.engine.tries(ctx, func(ctx context.Context) (err error) {
		err = undisturbed(ctx, func(ctx context.Context) (err error) {
			revision, err = do(ctx)
			return err
		})
		doubt = doubt || unanswered(err)
		return err
	})
	var api *jetstream.APIError
	raced := errors.Is(err, jetstream.ErrKeyExists) || lostRace(err)
	if raced && b.asOf != nil {
		lost = ErrBehind
	}
	switch {
	case err == nil:
		b.engine.guard.wrote(streamOf(b.name), revision, grows)
		return revision, nil
	case raced && !doubt:
		return 0, lost
	case errors.As(err, &api) && !raced:
		return 0, fmt.Errorf("write %s/%s: %w", b.name, key, full(err))
	}
	switch now, readErr := b.Get(context.WithoutCancel(ctx), key); {
	case readErr == nil && value != nil && bytes.Equal(now.Value, value):
		b.engine.guard.wrote(streamOf(b.name), now.Revision, grows)
		return now.Revision, nil
	case errors.Is(readErr, ErrNotFound) && value == nil:
		return 0, nil
	case raced && (readErr == nil || errors.Is(readErr, ErrNotFound)):
		return 0, lost
	}
	return 0, fmt.Errorf("write %s/%s: %w", b.name, key, err)
}

// tries asks the store until it answers or ctx ends. What is asked of a leader
// that hands over is never answered. Alone there is none, and only one try.
func (e *Engine) tries(ctx context.Context, do func(context.Context) error) error {
	if e.bus == nil {
		return do(ctx)
	}
	for wait := firstTry; ; wait = min(2*wait, lastTry) {
		try, cancel := context.WithTimeout(ctx, wait)
		err := do(try)
		if !unanswered(err) && !unsent(err) || ctx.Err() != nil {
			cancel()
			return err
		}
		select {
		case <-try.Done():
		case <-time.After(tryPause):
		}
		cancel()
	}
}

// unanswered says whether it is not known what came of a request, or whether it
// is known that there was just no leader for it.
func unanswered(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, nats.ErrNoResponders) ||
		errors.Is(err, jetstream.ErrNoStreamResponse) || onItsWay(err) || noLeader(err)
}

// noLeader says whether NATS has just nobody to decide. Source: nats-server
// v2.15.2, JSClusterNotAvailErr.
func noLeader(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && api.ErrorCode == 10008
}
