package engine

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// In a cluster a used key is a key of a bucket, that goes when its time is over:
// of all nodes that would make it one succeeds. Its value says which try it was,
// so that a node that did not hear of its success can find out, and until when it
// must be remembered.

const (
	// markPause is before another try, and markTry how long one may take: the store
	// answers in a millisecond, or not at all until there is a leader.
	markPause = 100 * time.Millisecond
	markTry   = 2 * time.Second

	// maxAttempts is how many may wait for a leader to be taken back, in about 10 MB;
	// what comes on top stays used, if it was written.
	maxAttempts = 64 << 10

	tryBytes = 8 + 8 + 8 // of the value: run of the node, number of the try, seconds of Unix time
)

// attempt is a use of a key that may have been written, and nobody had.
type attempt struct {
	key   string
	value []byte
	until time.Time
}

func (o *Once) openShared(ctx context.Context) (err error) {
	c := jetstream.StreamConfig{Name: streamOf(usedTokensBucket), MaxAge: usedTokensAge, SubjectDeleteMarkerTTL: time.Second}
	if o.kv, err = o.engine.keyValue(ctx, c); err != nil {
		return fmt.Errorf("open the used tokens: %w", err)
	}
	o.attempts = make(chan attempt, maxBatch)
	o.done.Go(o.giveBack)
	return nil
}

// useShared is Use in a cluster. It goes on trying until ctx ends.
func (o *Once) useShared(ctx context.Context, key string, until time.Time) error {
	e := o.engine
	a := attempt{hex.EncodeToString([]byte(key)), make([]byte, tryBytes), until}
	binary.BigEndian.PutUint64(a.value, uint64(e.bus.run))
	binary.BigEndian.PutUint64(a.value[8:], o.tries.Add(1))
	binary.BigEndian.PutUint64(a.value[16:], uint64(until.Unix()))
	// Whole seconds, one at least; one on top, since the time is measured elsewhere.
	ttl := max(until.Sub(e.now())+afterwards, time.Second).Truncate(time.Second) + time.Second
	var trouble error
	for {
		err := o.try(ctx, a, ttl)
		if err == nil || errors.Is(err, ErrUsed) {
			return err
		}
		trouble = err
		select {
		case <-ctx.Done():
		case <-o.stop:
		case <-time.After(markPause):
			continue
		}
		o.forget(key) // it is good, if it turns out not to have been written
		select {
		case o.attempts <- a:
		default: // it stays used
		}
		return fmt.Errorf("mark a token as used: %w", trouble)
	}
}

// try makes the key, or finds that this try or another one has.
func (o *Once) try(ctx context.Context, a attempt, ttl time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, markTry)
	defer cancel()
	if err := o.engine.room(len(a.key) + len(a.value)); err != nil {
		return err
	}
	err := o.engine.tries(ctx, func(ctx context.Context) error {
		_, err := o.kv.Create(ctx, a.key, a.value, jetstream.KeyTTL(ttl))
		return err
	})
	if !errors.Is(err, jetstream.ErrKeyExists) {
		return err
	}
	var entry jetstream.KeyValueEntry
	err = o.engine.tries(ctx, func(ctx context.Context) (err error) {
		entry, err = o.kv.Get(ctx, a.key)
		return err
	})
	switch {
	case err != nil: // gone just now, or there is no leader: again
		return err
	case bytes.Equal(entry.Value(), a.value):
		return nil
	}
	return ErrUsed
}

// giveBack removes keys that may have been made for a handshake that was told
// that they were not. Until then they count as used.
func (o *Once) giveBack() {
	var waiting []attempt
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-o.stop:
			return
		case a := <-o.attempts:
			if len(waiting) < maxAttempts {
				waiting = append(waiting, a)
			}
			continue
		case <-tick.C:
		}
		now := o.engine.now()
		waiting = slices.DeleteFunc(waiting, func(a attempt) bool { return now.After(a.until) })
		for len(waiting) > 0 {
			if err := o.undo(waiting[0]); err != nil {
				break // there is no leader yet
			}
			waiting = waiting[1:]
		}
	}
}

func (o *Once) undo(a attempt) error {
	ctx, cancel := context.WithTimeout(context.Background(), markTry)
	defer cancel()
	entry, err := o.kv.Get(ctx, a.key)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return nil
	case err != nil:
		return err
	case !bytes.Equal(entry.Value(), a.value):
		return nil // another try had it
	}
	err = o.kv.Purge(ctx, a.key, jetstream.LastRevision(entry.Revision()), jetstream.PurgeTTL(time.Second))
	if lostRace(err) {
		return nil
	}
	return err
}
