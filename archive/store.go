package archive

import (
	"context"
	"encoding/hex"
	"io"
	"maps"
	"slices"

	"hubbub/engine"
)

// Store is an open store, of a server that runs or of a folder. Export needs Engine
// and Readers, Import everything.
type Store struct {
	Engine *engine.Engine

	// Readers are those of a key of the outbox: see engine.OutboxOptions.
	Readers func(key string) []string

	// Written is called when Import has written the keys, and again when it has
	// written the resources: nil means that every node of the service has them.
	Written func(context.Context) error

	// Restore puts a batch into the outbox for some readers.
	Restore func(ctx context.Context, readers []string, records int, batch []byte) error

	// Own are the places in engine.ResourcesBucket of what the service made by itself
	// when it was started and nobody has changed: Import replaces it. nil is nothing.
	Own map[string]bool
}

// Export writes an archive of the store, with its keys or without. If the store
// cannot be read the archive says so at its end, and so does the error. The
// resources are as they were at one moment, also while others write.
func (s Store) Export(ctx context.Context, to io.Writer, h Header, keys bool) (Summary, error) {
	w, err := newWriter(to, h)
	if err != nil {
		return Summary{}, err
	}
	if err := s.export(ctx, w, keys); err != nil {
		return Summary{}, w.fail(err)
	}
	return w.close()
}

func (s Store) export(ctx context.Context, w *writer, keys bool) error {
	once, err := s.Engine.Once(ctx)
	if err != nil {
		return err
	}
	used, err := once.All(ctx)
	if err != nil {
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(used)) {
		if err := w.record(Record{Kind: KindUsedToken, ID: hex.EncodeToString([]byte(id)), Until: used[id].UTC()}); err != nil {
			return err
		}
	}
	if keys {
		entries, err := s.entries(ctx, engine.KeysBucket)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := w.record(Record{Kind: KindKey, Key: e.Key, Secret: e.Value}); err != nil {
				return err
			}
		}
	}
	resources, err := s.entries(ctx, engine.ResourcesBucket)
	if err != nil {
		return err
	}
	for _, e := range resources {
		if err := w.record(Record{Kind: KindResource, Key: e.Key, Value: e.Value}); err != nil {
			return err
		}
	}
	return s.Engine.EachUndelivered(ctx, s.Readers, func(b engine.Undelivered) error {
		return w.record(Record{Kind: KindLogBatch, Readers: b.Readers, Records: b.Records, Data: b.Data})
	})
}

func (s Store) entries(ctx context.Context, bucket string) ([]engine.Entry, error) {
	b, err := s.Engine.Bucket(ctx, bucket)
	if err != nil {
		return nil, err
	}
	return b.Snapshot(ctx)
}
