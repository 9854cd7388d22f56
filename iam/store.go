package iam

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Store keeps the snapshot of a file that may change.
type Store struct {
	path string
	log  *slog.Logger

	current atomic.Pointer[Snapshot]

	mu    sync.Mutex // one reading at a time
	files []string   // that the last reading looked at, whatever came of it
	seen  string     // what they were then
}

// Open reads the file. It fails with everything that is wrong with it.
func Open(path string, log *slog.Logger) (*Store, error) {
	s := &Store{path: path, log: log}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := s.Reload(); err != nil {
		return nil, err
	}
	return s, nil
}

// Current is the policies as they are now.
func (s *Store) Current() *Snapshot { return s.current.Load() }

// Reload reads the file again. If something is wrong with it, what was in force
// stays so.
func (s *Store) Reload() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reload()
}

func (s *Store) reload() error {
	r := newReading()
	// What was read counts, not what is there afterwards: a file that changes
	// meanwhile is read again.
	defer func() { s.files, s.seen = r.files, r.seen() }()
	data, err := r.file(s.path)
	if err != nil {
		return fmt.Errorf("read the iam file: %w", err)
	}
	snapshot, err := parse(s.path, data, r.file)
	if err != nil {
		return err
	}
	s.current.Store(snapshot)
	return nil
}

// reading reads files and remembers which, and what was in them.
type reading struct {
	files []string
	hash  hash.Hash
}

func newReading() *reading { return &reading{hash: sha256.New()} }

func (r *reading) file(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	r.files = append(r.files, path)
	fmt.Fprintf(r.hash, "%q %d %v ", path, len(data), err != nil)
	r.hash.Write(data)
	return data, err
}

// seen changes when a file does.
func (r *reading) seen() string { return string(r.hash.Sum(nil)) }

// Run looks once a second whether a file has changed and reads it then, until
// ctx ends. A file that is wrong is complained about once; what was in force
// stays so.
func (s *Store) Run(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.look()
		}
	}
}

// look reads the files if they changed, those too that a version which could not
// be used names: it may be one of them that is mended.
func (s *Store) look() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := newReading()
	for _, path := range s.files {
		_, _ = now.file(path)
	}
	if now.seen() == s.seen {
		return
	}
	if err := s.reload(); err != nil {
		s.log.Error("the iam file is not used; what was in force stays so", "err", err)
		return
	}
	s.log.Info("iam file read again", "file", s.path)
}
