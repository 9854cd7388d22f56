package archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"hubbub/engine"
	"hubbub/registry"
)

// Result is what an import came to.
type Result struct {
	Summary     // of the archive, which the store has now
	There   int `json:"there"` // of it were there before
}

// ErrNotEmpty is what Import comes back with, and has written nothing, if the store
// has something that the archive has not, or has otherwise.
var ErrNotEmpty = errors.New("an import is for an empty service, or one in which the same import was interrupted; nothing was written")

// Import puts an archive into the store, which must be empty but for what is in the
// archive too: so one that was interrupted can be repeated. It is up to the caller
// to have read the archive once with Read before, since batches are written as they
// come. At the end everything is read back and compared, but for batches, which may
// have been delivered by then.
//
// The keys that a service made by itself when it was started are replaced, as long
// as it has nothing of the archive yet, and so is Store.Own.
func (s Store) Import(ctx context.Context, from io.Reader) (Result, error) {
	i := importing{Store: s}
	_, sum, err := Read(from, func(r Record) error {
		switch r.Kind {
		case KindUsedToken:
			i.used = append(i.used, r)
		case KindKey:
			i.keys = append(i.keys, engine.Entry{Key: r.Key, Value: r.Secret})
		case KindResource:
			i.resources = append(i.resources, engine.Entry{Key: r.Key, Value: r.Value})
		case KindLogBatch: // they come last
			if err := i.write(ctx); err != nil {
				return err
			}
			return i.batch(ctx, r)
		}
		return nil
	})
	if err == nil {
		err = i.write(ctx)
	}
	if err == nil {
		err = i.verify(ctx, sum)
	}
	if err != nil && i.begun && !errors.Is(err, errChanged) {
		err = fmt.Errorf("%w; a part may have been written: when all of the service is ready, import the same again, which leaves what is there", err)
	}
	if err != nil {
		return Result{}, err
	}
	return Result{sum, i.there}, nil
}

// importing is what Import knows while it runs.
type importing struct {
	Store
	used            []Record // of the archive, as the next
	keys, resources []engine.Entry
	written         bool // those are
	begun           bool // the store may have something of it
	there           int

	waiting map[[sha256.Size]byte]int // batches that the outbox has already, how many of each
}

// write puts all but batches into the store, if it has nothing else: used tokens
// before what would make them good.
func (i *importing) write(ctx context.Context) error {
	if i.written {
		return nil
	}
	i.written = true
	for _, e := range i.resources {
		if err := registry.Check(e); err != nil {
			return err
		}
	}
	keys, haveKeys, err := i.bucket(ctx, engine.KeysBucket)
	if err != nil {
		return err
	}
	resources, haveResources, err := i.bucket(ctx, engine.ResourcesBucket)
	if err != nil {
		return err
	}
	needless, err := i.compare(haveKeys, haveResources)
	if err != nil {
		return err
	}
	i.begun = true
	if err := i.writeUsed(ctx); err != nil {
		return err
	}
	for _, e := range needless {
		if err := resources.Delete(ctx, e.Key, e.Revision); err != nil {
			return err
		}
	}
	if err := i.put(ctx, keys, i.keys, haveKeys); err != nil {
		return err
	}
	if err := i.Written(ctx); err != nil {
		return err
	}
	if err := i.put(ctx, resources, i.resources, haveResources); err != nil {
		return err
	}
	return i.Written(ctx)
}

// bucket opens one and reads what is in it, by key.
func (s Store) bucket(ctx context.Context, name string) (*engine.Bucket, map[string]engine.Entry, error) {
	b, err := s.Engine.Bucket(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	entries, err := b.Snapshot(ctx)
	have := make(map[string]engine.Entry, len(entries))
	for _, e := range entries {
		have[e.Key] = e
	}
	return b, have, err
}

// compare refuses a store that has anything else, and returns what it may lose.
func (i *importing) compare(keys, resources map[string]engine.Entry) (needless []engine.Entry, err error) {
	begun := false
	ours := make(map[string]bool, len(i.resources))
	for _, e := range i.resources {
		ours[e.Key] = true
		have, ok := resources[e.Key]
		if ok && !bytes.Equal(have.Value, e.Value) {
			return nil, fmt.Errorf("the service has the resource %s with another value: %w", e.Key, ErrNotEmpty)
		}
		begun = begun || ok
	}
	for _, e := range resources {
		switch {
		case ours[e.Key]:
		case i.Own[e.Key]:
			needless = append(needless, e)
		default:
			return nil, fmt.Errorf("the service has the resource %s, which is not in the export: %w", e.Key, ErrNotEmpty)
		}
	}
	for _, e := range i.keys {
		if have, ok := keys[e.Key]; ok && begun && !bytes.Equal(have.Value, e.Value) {
			return nil, fmt.Errorf("the service has the key %s with another value: %w", e.Key, ErrNotEmpty)
		}
	}
	return needless, nil
}

// put writes entries that are not there as they are to be.
func (i *importing) put(ctx context.Context, b *engine.Bucket, entries []engine.Entry, have map[string]engine.Entry) error {
	var missing []engine.Entry
	for _, e := range entries {
		if there, ok := have[e.Key]; ok && bytes.Equal(there.Value, e.Value) {
			i.there++
		} else {
			missing = append(missing, e)
		}
	}
	return together(ctx, missing, func(ctx context.Context, e engine.Entry) (err error) {
		if there, ok := have[e.Key]; ok {
			_, err = b.Update(ctx, e.Key, e.Value, there.Revision)
		} else {
			_, err = b.Create(ctx, e.Key, e.Value)
		}
		if errors.Is(err, engine.ErrExists) || errors.Is(err, engine.ErrStale) {
			return fmt.Errorf("%s was written meanwhile by somebody else; keep everybody away from the service: %w", e.Key, err)
		}
		return err
	})
}

func (i *importing) writeUsed(ctx context.Context) error {
	once, err := i.Engine.Once(ctx)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	return together(ctx, i.used, func(ctx context.Context, r Record) error {
		id, err := hex.DecodeString(r.ID)
		if err != nil {
			return fmt.Errorf("the used token %q is none", r.ID)
		}
		err = once.Use(ctx, string(id), r.Until)
		if errors.Is(err, engine.ErrUsed) {
			mu.Lock()
			i.there++
			mu.Unlock()
			return nil
		}
		return err
	})
}

// batch restores a batch, unless it is one of those that wait in the outbox since
// an import that was interrupted.
func (i *importing) batch(ctx context.Context, r Record) error {
	if i.waiting == nil {
		i.waiting = map[[sha256.Size]byte]int{}
		err := i.Engine.EachUndelivered(ctx, i.Readers, func(b engine.Undelivered) error {
			i.waiting[batchID(b.Readers, b.Data)]++
			return nil
		})
		if err != nil {
			return err
		}
	}
	if id := batchID(r.Readers, r.Data); i.waiting[id] > 0 {
		i.waiting[id]--
		i.there++
		return nil
	}
	return i.Restore(ctx, r.Readers, r.Records, r.Data)
}

func batchID(readers []string, data []byte) (id [sha256.Size]byte) {
	h := sha256.New()
	fmt.Fprintf(h, "%q", readers)
	h.Write(data)
	h.Sum(id[:0])
	return id
}

// verify reads back what was written.
func (i *importing) verify(ctx context.Context, want Summary) error {
	_, keys, err := i.bucket(ctx, engine.KeysBucket)
	if err != nil {
		return err
	}
	for _, e := range i.keys {
		if !bytes.Equal(keys[e.Key].Value, e.Value) {
			return fmt.Errorf("the service does not have the key %s as it was written: %w", e.Key, errChanged)
		}
	}
	resources, err := i.entries(ctx, engine.ResourcesBucket)
	if err != nil {
		return err
	}
	t := newTally()
	for _, e := range resources {
		line, err := lineOf(Record{Kind: KindResource, Key: e.Key, Value: e.Value})
		if err != nil {
			return err
		}
		t.add(KindResource, 0, line)
	}
	if have := t.end().Summary; have.Resources != want.Resources || have.Checksum != want.Checksum {
		return fmt.Errorf("the service has %d resources with the checksum %s, the export %d with %s: %w", have.Resources, have.Checksum, want.Resources, want.Checksum, errChanged)
	}
	once, err := i.Engine.Once(ctx)
	if err != nil {
		return err
	}
	used, err := once.All(ctx)
	if err != nil {
		return err
	}
	for _, r := range i.used {
		id, _ := hex.DecodeString(r.ID) // it was written
		if _, ok := used[string(id)]; !ok && r.Until.After(time.Now()) {
			return fmt.Errorf("the service does not remember the used token %s: %w", r.ID, errChanged)
		}
	}
	return nil
}

var errChanged = errors.New("somebody else writes to it; keep everybody away, empty it, and import again")

// together does something for each, many at a time so that they share what a write
// waits for, and returns the first error, after which nothing more is begun.
func together[T any](ctx context.Context, each []T, do func(context.Context, T) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	work := make(chan T)
	var working sync.WaitGroup
	for range min(atOnce, len(each)) {
		working.Go(func() {
			for v := range work {
				if err := do(ctx, v); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
hand:
	for _, v := range each {
		select {
		case work <- v:
		case <-ctx.Done():
			break hand
		}
	}
	close(work)
	working.Wait()
	return context.Cause(ctx)
}

const atOnce = 64
