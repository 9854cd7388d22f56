package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// guard notices a store that lost what it had acknowledged. NATS recovers what
// it can from damaged files and goes on without the rest, with a line in its
// log; a store of ours must not. Three things are compared at Open:
//
//   - what NATS reports as lost, and what it complains about while recovering;
//   - the last sequence of each stream with the highest one that was written
//     here a second or more before the end (the file SEQUENCES);
//   - for each bucket the number of entries that can be read with the number
//     that the store says it has (Bucket.Load).
type guard struct {
	name string // of the file

	mu      sync.Mutex
	highest map[string]uint64 // by stream
	changed bool

	stop chan struct{}
	done sync.WaitGroup
}

func openGuard(path string) (*guard, error) {
	g := &guard{name: filepath.Join(path, "SEQUENCES"), highest: map[string]uint64{}, stop: make(chan struct{})}
	b, err := os.ReadFile(g.name)
	if errors.Is(err, os.ErrNotExist) {
		return g, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, &g.highest); err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w", g.name, err)
	}
	return g, nil
}

// wrote notes an acknowledged sequence; 0 is none.
func (g *guard) wrote(stream string, sequence uint64) {
	if g == nil || sequence == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if sequence > g.highest[stream] {
		g.highest[stream] = sequence
		g.changed = true
	}
}

// run saves the sequences once a second while there are new ones.
func (g *guard) run() {
	g.done.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-g.stop:
				return
			case <-tick.C:
				// A full disk shows in the writes themselves; the next tick tries again.
				_ = g.save()
			}
		}
	})
}

func (g *guard) save() error {
	g.mu.Lock()
	if !g.changed {
		g.mu.Unlock()
		return nil
	}
	b, err := json.Marshal(g.highest)
	g.changed = false
	g.mu.Unlock()
	if err != nil {
		return err
	}
	if err = replaceFile(g.name, b); err != nil {
		g.mu.Lock()
		g.changed = true
		g.mu.Unlock()
	}
	return err
}

// replaceFile puts the content in place whole or not at all.
func replaceFile(name string, content []byte) error {
	temp, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	_, err = temp.Write(content)
	err = errors.Join(err, temp.Sync(), temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), name)
	}
	if err != nil {
		_ = os.Remove(temp.Name())
	}
	return err
}

// check compares the recovered streams with what was there.
func (e *Engine) check(ctx context.Context, logger *serverLog) error {
	if complaints := logger.recovered(); len(complaints) > 0 {
		return errors.New(strings.Join(complaints, "; "))
	}
	have := map[string]uint64{}
	info, err := e.server.Jsz(&server.JSzOptions{Accounts: true, Streams: true})
	if err != nil {
		return err
	}
	for _, account := range info.AccountDetails {
		for _, s := range account.Streams {
			have[s.Name] = s.State.LastSeq
			if l := s.State.Lost; l != nil && len(l.Msgs) > 0 {
				return fmt.Errorf("%d entries of %s are lost", len(l.Msgs), s.Name)
			}
		}
	}
	for stream, highest := range e.guard.highest {
		last, ok := have[stream]
		switch {
		case !ok:
			return fmt.Errorf("%s is missing", stream)
		case last < highest:
			return fmt.Errorf("%s ends at entry %d, but %d were written", stream, last, highest)
		}
	}
	return ctx.Err()
}

func (e *Engine) closeGuard(ctx context.Context) error {
	g := e.guard
	e.guard = nil
	close(g.stop)
	g.done.Wait()
	if e.js != nil {
		for name := range g.highest {
			if s, err := e.js.Stream(ctx, name); err == nil {
				g.wrote(name, s.CachedInfo().State.LastSeq)
			}
		}
	}
	return g.save()
}
