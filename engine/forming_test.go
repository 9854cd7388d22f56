package engine_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hubbub/engine"
)

// whole waits until all three replicas of all streams have everything.
func (c *trio) whole(t *testing.T, asking *engine.Engine) {
	t.Helper()
	for _, stream := range engine.Streams(t.Context(), asking) {
		eventually(t, 60*time.Second, stream+" has three replicas that have all of it", func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			n, err := engine.Healthy(ctx, asking, stream)
			return err == nil && n == 3
		})
	}
}

// One node after another is restarted, while the others are written to.
func TestARollingRestart(t *testing.T) {
	t.Parallel()
	onBoth(t, testARollingRestart)
}

func testARollingRestart(t *testing.T, c *trio) {
	contents := make([]*content, 3)
	c.each(func(i int, e *engine.Engine) { contents[i] = follow(t, e) })
	w, stops := newWriters(c), make([]func(), 3)
	for i := range 3 {
		stops[i] = w.start(i)
	}
	for i := range 3 {
		stops[i]()
		contents[i].feed.Close()
		c.stop(i)
		gone := time.Now()
		others := []int{(i + 1) % 3, (i + 2) % 3}
		eventually(t, 40*time.Second, "the others are written to without it", func() bool { return w.resumed(gone, others...) })
		c.start(i)
		contents[i] = follow(t, c.nodes[i])
		stops[i] = w.start(i)
		back := time.Now()
		eventually(t, 40*time.Second, "all are written to", func() bool { return w.resumed(back, 0, 1, 2) })
		eventually(t, 20*time.Second, "it is fresh", func() bool { return contents[i].feed.Fresh() == nil })
	}
	for i, k := range contents {
		stops[i]()
		eventually(t, 20*time.Second, fmt.Sprintf("node %d is fresh", i), func() bool { return k.feed.Fresh() == nil })
	}
	for i, k := range contents {
		w.holds(t, i, k)
	}
}

// A machine is lost, and another one takes over the node's name with nothing in its
// folder, at another address: it gets everything from the others, as much as one of
// them may be lost after it.
func TestANodeIsReplaced(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	c := startTrio(t)
	for n := range 50 {
		if _, err := bucket(t, c.nodes[n%3]).Create(ctx, fmt.Sprint("k", n), []byte("v")); err != nil {
			t.Fatal(err)
		}
	}
	once, err := c.nodes[2].Once(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := once.Use(ctx, "token", time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	box, err := c.nodes[2].Outbox(ctx, engine.OutboxOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := box.Append(ctx, "key", 3, []byte("three records")); err != nil {
		t.Fatal(err)
	}
	c.stop(2)

	c.dirs[2] = t.TempDir()
	c.peers = append(slices.Clone(c.peers[:2]), freePorts(t, 1)...)
	c.start(2)
	if have := follow(t, c.nodes[2]).all(); len(have) != 50 {
		t.Errorf("it has %d of 50", len(have))
	}
	if box, err = c.nodes[2].Outbox(ctx, engine.OutboxOptions{}); err != nil {
		t.Fatal(err)
	}
	if have := box.Backlog()["key"].Records; have != 3 {
		t.Errorf("%d of the 3 records that it had not delivered are there", have)
	}

	// It counts: without it there is no majority.
	c.stop(0)
	eventually(t, 40*time.Second, "a write to what is left", func() bool {
		_, err := bucket(t, c.nodes[2]).Create(ctx, "after", []byte("v"))
		return err == nil
	})
	if have := follow(t, c.nodes[2]).all(); len(have) != 51 {
		t.Errorf("without one of the old nodes it has %d of 51", len(have))
	}
	if once, err = c.nodes[2].Once(ctx); err != nil {
		t.Fatal(err)
	}
	if err := once.Use(ctx, "token", time.Now().Add(time.Hour)); !errors.Is(err, engine.ErrUsed) {
		t.Errorf("a token that was used before gives %v", err)
	}
	c.start(0)
	c.whole(t, c.nodes[2])
}

// Nodes know one another by certificates of one authority as well as by a secret.
func TestCertificatesInPlaceOfASecret(t *testing.T) {
	t.Parallel()
	good, other := newAuthority(t), newAuthority(t)
	peers := freePorts(t, 4)
	options := func(i int, certificates *tls.Config) engine.Options {
		return engine.Options{Dir: t.TempDir(), Cluster: &engine.Cluster{
			Name: "test", Node: string(rune('a' + i)), Listen: peers[i], Peers: peers[:max(i+1, 3)], TLS: certificates,
		}}
	}
	nodes := make([]*engine.Engine, 3)
	var starting sync.WaitGroup
	for i := range nodes {
		starting.Go(func() {
			var err error
			if nodes[i], err = engine.Open(t.Context(), options(i, good.mutual(time.Now().Add(time.Hour)))); err != nil {
				t.Error(err)
			}
		})
	}
	starting.Wait()
	for _, e := range nodes {
		if e != nil {
			t.Cleanup(func() { closed(t, e) })
		}
	}
	if t.Failed() {
		t.FailNow()
	}
	if _, err := bucket(t, nodes[0]).Create(t.Context(), "key", []byte("v")); err != nil {
		t.Error(err)
	}
	for _, stranger := range []struct {
		name string
		tls  *tls.Config
		want string
	}{
		{"of another authority", other.mutual(time.Now().Add(time.Hour)), "authority"},
		{"that has expired", good.mutual(time.Now().Add(-time.Hour)), "expired"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		e, err := engine.Open(ctx, options(3, stranger.tls))
		cancel()
		if err == nil {
			closed(t, e)
			t.Errorf("a node with a certificate %s becomes a member", stranger.name)
		} else if !strings.Contains(err.Error(), stranger.want) || !strings.Contains(err.Error(), "cluster.tls") {
			t.Errorf("a node with a certificate %s is told %q", stranger.name, err)
		}
	}
}

// said collects what nodes log.
type said struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *said) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *said) has(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Contains(s.text.String(), text)
}

// A cluster of which nobody has anything waits for all of its nodes, and counts as
// nodes only those: who looks whether it may join is none, and has no store, on which
// NATS would make the cluster smaller, and so take for a majority what is none.
func TestTheFirstStartWaitsForAll(t *testing.T) {
	t.Parallel()
	log := &said{}
	c := &trio{t: t, peers: freePorts(t, 3), nodes: make([]*engine.Engine, 3)}
	for range 3 {
		c.dirs = append(c.dirs, t.TempDir())
	}
	c.change = func(_ int, o *engine.Options) {
		o.Log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	t.Cleanup(func() { c.stop(0, 1, 2) })
	late := c.options(2)
	late.Now = func() time.Time { return time.Now().Add(-time.Hour) } // for which it is refused
	ctx, cancel := context.WithTimeout(t.Context(), 12*time.Second)
	defer cancel()
	var starting sync.WaitGroup
	for i := range 2 {
		starting.Go(func() {
			e, err := engine.Open(ctx, c.options(i))
			if err == nil {
				closed(t, e)
				t.Errorf("node %d did not wait", i)
			} else if !strings.Contains(err.Error(), "all at the first start") {
				t.Errorf("node %d says %q", i, err)
			}
		})
	}
	starting.Go(func() {
		for ctx.Err() == nil {
			if e, err := engine.Open(ctx, late); err == nil {
				closed(t, e)
				t.Error("a node whose clock is wrong becomes a member")
			}
		}
	})
	starting.Wait()
	if log.has("Adjusting JetStream") {
		t.Error("NATS counts on fewer nodes than there are")
	}
	c.start(0, 1, 2)
}

// Of five nodes one may die as well: what is stored is on three of them.
func TestFiveNodes(t *testing.T) {
	t.Parallel()
	c := &trio{t: t, peers: freePorts(t, 5), nodes: make([]*engine.Engine, 5)}
	for range 5 {
		c.dirs = append(c.dirs, t.TempDir())
	}
	t.Cleanup(func() { c.stop(0, 1, 2, 3, 4) })
	c.start(0, 1, 2, 3, 4)
	for i, e := range c.nodes {
		if _, err := bucket(t, e).Create(t.Context(), fmt.Sprint("k", i), []byte("v")); err != nil {
			t.Fatal(err)
		}
	}
	c.stop(0)
	eventually(t, 40*time.Second, "a write without one of them", func() bool {
		_, err := bucket(t, c.nodes[4]).Create(t.Context(), "after", []byte("v"))
		return err == nil
	})
	if have := follow(t, c.nodes[4]).all(); len(have) != 6 {
		t.Errorf("without one of five nodes another has %v", have)
	}
}
