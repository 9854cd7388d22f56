package hubbub

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
)

// loadCertificate reads the pair of files.
func loadCertificate(c TLS) (*tls.Certificate, error) {
	for _, path := range []string{c.Cert, c.Key} {
		if _, err := os.Stat(path); err != nil {
			return nil, fmt.Errorf("%s: cannot be read: %w", path, unwrapPath(err))
		}
	}
	pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
	if err != nil {
		return nil, fmt.Errorf("%s: is no certificate with the key of %s, both in PEM: %w", c.Cert, c.Key, err)
	}
	return &pair, nil
}

// certificate is the pair of files in use. It follows changes of the files, and
// keeps what it has if the new ones cannot be used.
type certificate struct {
	// Set by openCertificate, read-only after.
	files TLS
	log   *slog.Logger

	// Shared.
	current atomic.Pointer[tls.Certificate]

	// Owned by whoever calls reload, one at a time.
	seen [2]fileState
}

// fileState tells one version of a file from another.
type fileState struct {
	modified time.Time
	size     int64
}

// openCertificate reads the files; nil, nil if none are named.
func openCertificate(c TLS, log *slog.Logger) (*certificate, error) {
	if c.Cert == "" {
		return nil, nil
	}
	k := &certificate{files: c, log: log}
	k.seen = k.look()
	pair, err := loadCertificate(c)
	if err != nil {
		return nil, err
	}
	k.current.Store(pair)
	return k, nil
}

// config is what a listener serves with; nil for no certificate: plain.
func (k *certificate) config(protocols ...string) *tls.Config {
	if k == nil {
		return nil
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: protocols,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return k.current.Load(), nil
		},
	}
}

func (k *certificate) look() (seen [2]fileState) {
	for i, path := range []string{k.files.Cert, k.files.Key} {
		if s, err := os.Stat(path); err == nil {
			seen[i] = fileState{s.ModTime(), s.Size()}
		}
	}
	return seen
}

// reload reads the files again. Connections that are open keep what they have.
func (k *certificate) reload() {
	pair, err := loadCertificate(k.files)
	if err != nil {
		k.log.Error("certificate not reloaded, the old one stays in use", "err", err)
		return
	}
	k.current.Store(pair)
	k.log.Info("certificate reloaded", "expires", pair.Leaf.NotAfter)
}

// run reloads when a file changed or now is asked for, until ctx ends. A change
// is taken once it has stood for one look, so that a pair of which only one half
// is written yet is not tried.
func (k *certificate) run(ctx context.Context, now <-chan struct{}) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	last := k.seen
	for {
		select {
		case <-ctx.Done():
			return
		case <-now:
			k.seen = k.look()
			last = k.seen
			k.reload()
		case <-tick.C:
			state := k.look()
			if state != k.seen && state == last {
				k.seen = state
				k.reload()
			}
			last = state
		}
	}
}
