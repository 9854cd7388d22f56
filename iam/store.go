package iam

import (
	"context"
	"crypto/sha256"
	"fmt"
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

	mu   sync.Mutex // one reading at a time
	seen string     // what the files were at the last reading
	told string     // the last complaint, which is logged once
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
	data, err := os.ReadFile(s.path)
	if err != nil {
		return fmt.Errorf("read the iam file: %w", err)
	}
	snapshot, err := Parse(s.path, data)
	if err != nil {
		return err
	}
	s.seen = fingerprint(s.path, snapshot.files)
	s.current.Store(snapshot)
	return nil
}

// fingerprint changes when a file does.
func fingerprint(path string, more []string) string {
	h := sha256.New()
	for _, name := range append([]string{path}, more...) {
		data, err := os.ReadFile(name)
		fmt.Fprintf(h, "%q %d %v ", name, len(data), err != nil)
		h.Write(data)
	}
	return string(h.Sum(nil))
}

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

// look reads the files if they changed.
func (s *Store) look() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := fingerprint(s.path, s.Current().files); now == s.seen || now == s.told {
		return
	}
	if err := s.reload(); err != nil {
		s.told = fingerprint(s.path, s.Current().files)
		s.log.Error("the iam file is not used; what was in force stays so", "err", err)
		return
	}
	s.told = ""
	s.log.Info("iam file read again", "file", s.path)
}
