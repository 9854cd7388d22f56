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
// it can from damaged files and goes on without the rest, at most with a line in
// its log; a store of ours must not. At Open these are compared:
//
//   - each record with its checksum, before NATS reads it (checkBlocks);
//   - what NATS reports as lost, and what it complains about while recovering;
//   - for each stream its last sequence with the highest that is known to have
//     been written, and for used tokens that the message is there;
//   - for each bucket the number of live entries that can be read with the least
//     number that there must be (Bucket.Load);
//   - for the outbox the number of batches with the least that there must be, and
//     that the newest is there.
//
// What is known is in the file GUARD. It is behind by a second at most, and never
// ahead: a removal lowers the least number before it is done. So the end of a
// process at any moment raises no alarm, and damage hides only if it hits nothing
// but what was written in the last second before such an end.
type guard struct {
	name string // of the file

	mu      sync.Mutex
	streams map[string]*watermark
	changed bool

	saving sync.Mutex // one writer of the file at a time

	stop chan struct{}
	done sync.WaitGroup
}

// watermark is what is known of a stream.
type watermark struct {
	Last uint64 `json:"last"`           // highest sequence written
	At   int64  `json:"at"`             // when, in seconds of Unix time
	Live int    `json:"live,omitempty"` // entries of a bucket or batches of the outbox, at least
	Tail uint64 `json:"tail,omitempty"` // sequence of a batch that is there, newest of the outbox; 0 if none must be

	counted bool // Live is exact: the bucket was loaded
}

func openGuard(path string) (*guard, error) {
	g := &guard{name: filepath.Join(path, "GUARD"), streams: map[string]*watermark{}, stop: make(chan struct{})}
	b, err := os.ReadFile(g.name)
	if errors.Is(err, os.ErrNotExist) {
		return g, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, &g.streams); err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w", g.name, err)
	}
	return g, nil
}

// of is the watermark of a stream; the caller holds mu.
func (g *guard) of(stream string) *watermark {
	w := g.streams[stream]
	if w == nil {
		w = &watermark{}
		g.streams[stream] = w
	}
	return w
}

// highest is the last sequence of a stream that is known to have been written; 0
// of a nil guard.
func (g *guard) highest(stream string) uint64 {
	if g == nil {
		return 0
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.of(stream).Last
}

// wrote notes an acknowledged write, by which the number of live entries grew.
// The first one of a stream is saved at once, so that a stream that is lost as a
// whole is missed. A nil guard, of a store in memory, notes nothing.
func (g *guard) wrote(stream string, sequence uint64, grew int) {
	if g == nil {
		return
	}
	g.mu.Lock()
	w := g.of(stream)
	first := w.Last == 0 && sequence > 0
	if sequence > w.Last {
		w.Last, w.At = sequence, time.Now().Unix()
	}
	w.Live += grew
	g.changed = true
	g.mu.Unlock()
	if first {
		_ = g.save() // the next tick tries again
	}
}

// removes notes, durably, that an entry is about to be removed.
func (g *guard) removes(stream string) error {
	if g == nil {
		return nil
	}
	g.mu.Lock()
	if w := g.of(stream); w.Live > 0 {
		w.Live--
	}
	g.changed = true
	g.mu.Unlock()
	return g.save()
}

// holds notes how many batches the outbox has and which is the newest. What is
// about to be removed must be off the file before: less is saved at once.
func (g *guard) holds(live int, tail uint64) error {
	if g == nil {
		return nil
	}
	g.mu.Lock()
	w := g.of(outboxOf("").stream)
	less := live < w.Live || tail < w.Tail
	if live != w.Live || tail != w.Tail {
		w.Live, w.Tail, g.changed = live, tail, true
	}
	g.mu.Unlock()
	if less {
		return g.save()
	}
	return nil
}

// least is how many live entries a bucket must have.
func (g *guard) least(stream string) int {
	if g == nil {
		return 0
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.of(stream).Live
}

// counted takes over the exact number of live entries.
func (g *guard) counted(stream string, live int) {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if w := g.of(stream); !w.counted {
		w.Live, w.counted, g.changed = live, true, true
	}
}

// run saves what is new once a second.
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

func (g *guard) close() error {
	close(g.stop)
	g.done.Wait()
	return g.save()
}

func (g *guard) save() error {
	g.saving.Lock()
	defer g.saving.Unlock()
	g.mu.Lock()
	if !g.changed {
		g.mu.Unlock()
		return nil
	}
	b, err := json.Marshal(g.streams)
	g.changed = false
	g.mu.Unlock()
	if err == nil {
		err = replaceFile(g.name, b)
	}
	if err != nil {
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

// check compares the recovered streams with what is known of them.
func (e *Engine) check(ctx context.Context, logger *serverLog) error {
	if complaints := logger.recovered(); len(complaints) > 0 {
		return errors.New(strings.Join(complaints, "; "))
	}
	have := map[string]server.StreamState{}
	info, err := e.server.Jsz(&server.JSzOptions{Accounts: true, Streams: true})
	if err != nil {
		return err
	}
	for _, account := range info.AccountDetails {
		for _, s := range account.Streams {
			have[s.Name] = s.State
			if l := s.State.Lost; l != nil && len(l.Msgs) > 0 {
				return fmt.Errorf("%d entries of %s are lost", len(l.Msgs), s.Name)
			}
		}
	}
	for stream, known := range e.guard.streams {
		state, ok := have[stream]
		switch {
		case known.Last == 0:
		case !ok:
			return fmt.Errorf("%s is missing", stream)
		case state.LastSeq < known.Last:
			return fmt.Errorf("%s ends at entry %d, but %d were written", stream, state.LastSeq, known.Last)
		case state.Msgs < uint64(known.Live):
			return fmt.Errorf("%s has %d entries, but there were %d", stream, state.Msgs, known.Live)
		}
	}
	if err := e.checkOutbox(ctx); err != nil {
		return err
	}
	return e.checkUsedTokens(ctx)
}

// noteLast tells guard where the streams end, for the end of the store: a
// removal is a message too, and its sequence is not in the answer.
func (e *Engine) noteLast() error {
	info, err := e.server.Jsz(&server.JSzOptions{Accounts: true, Streams: true})
	if err != nil {
		return err
	}
	for _, account := range info.AccountDetails {
		for _, s := range account.Streams {
			e.guard.wrote(s.Name, s.State.LastSeq, 0)
		}
	}
	return nil
}

// checkOutbox wants the newest batch to be there. The number alone may hide a
// loss: what had been removed comes back with the block that said so.
func (e *Engine) checkOutbox(ctx context.Context) error {
	tail := e.guard.of(outboxOf("").stream).Tail
	if tail == 0 {
		return nil
	}
	stream, err := e.js.Stream(ctx, outboxOf("").stream)
	if err != nil {
		return err
	}
	if _, err := stream.GetMsg(ctx, tail); err != nil {
		return fmt.Errorf("batches of the outbox are lost: %w", err)
	}
	return nil
}

// checkUsedTokens wants the last batch to be there unless its time is over.
func (e *Engine) checkUsedTokens(ctx context.Context) error {
	known := e.guard.of(usedTokensStream)
	age := time.Since(time.Unix(known.At, 0))
	if known.Last == 0 || age > usedTokensAge-time.Minute || age < 0 {
		return nil
	}
	stream, err := e.js.Stream(ctx, usedTokensStream)
	if err != nil {
		return err
	}
	if _, err := stream.GetMsg(ctx, known.Last); err != nil {
		return fmt.Errorf("used tokens are lost: %w", err)
	}
	return nil
}
