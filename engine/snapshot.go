package engine

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Snapshot is every live entry of the bucket, by key, as all of it was at one
// moment, also while others write. It fails if the store has lost an entry.
func (b *Bucket) Snapshot(ctx context.Context) ([]Entry, error) {
	entries, err := b.snapshot(ctx)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", b.name, err)
	}
	return entries, nil
}

func (b *Bucket) snapshot(ctx context.Context) ([]Entry, error) {
	have := map[string]Entry{}
	put := func(c Change) error {
		if c.Gone {
			delete(have, c.Key)
		} else {
			have[c.Key] = c.Entry
		}
		return nil
	}
	f := &Feed{bucket: b, apply: put, moved: make(chan struct{}), keys: map[string]uint64{}}
	var err error
	if f.stream, err = b.engine.js.Stream(ctx, streamOf(b.name)); err != nil {
		return nil, err
	}
	if err := f.load(ctx); err != nil {
		return nil, err
	}
	// What was written meanwhile is read until nothing is while that is done.
	at, fewer := f.Applied(), false
	for {
		least := b.engine.guard.least(streamOf(b.name))
		last, err := f.ask(ctx)
		if err != nil {
			return nil, err
		}
		if last > at {
			if err := f.read(ctx, at, last, put); err != nil && !errors.Is(err, errNothing) { // ends of keys, of which nothing is left
				return nil, err
			}
			at, fewer = last, false
			continue
		}
		switch least = min(least, b.engine.guard.least(streamOf(b.name))); {
		case len(have) >= least:
			return slices.SortedFunc(maps.Values(have), func(x, y Entry) int { return cmp.Compare(x.Key, y.Key) }), nil
		case fewer: // and no write was under way
			return nil, b.engine.damaged(fmt.Sprintf("%s has %d entries, but there were %d", b.name, len(have), least))
		}
		fewer = true
	}
}

// All are the keys that were used and must be remembered still, with until when.
func (o *Once) All(ctx context.Context) (map[string]time.Time, error) {
	all := map[string]time.Time{}
	since := o.engine.now().Add(-afterwards)
	if o.kv == nil {
		o.mu.Lock()
		defer o.mu.Unlock()
		for key, until := range o.used {
			if t := time.Unix(until, 0); t.After(since) {
				all[key] = t
			}
		}
		return all, nil
	}
	entries, err := (&Bucket{engine: o.engine, name: usedTokensBucket, kv: o.kv}).Snapshot(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the used tokens: %w", err)
	}
	for _, e := range entries {
		key, err := hex.DecodeString(e.Key)
		if err != nil || len(e.Value) != tryBytes {
			return nil, fmt.Errorf("the used token %s cannot be read", e.Key)
		}
		if t := time.Unix(int64(binary.BigEndian.Uint64(e.Value[16:])), 0); t.After(since) {
			all[string(key)] = t
		}
	}
	return all, nil
}
