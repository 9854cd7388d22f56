package engine_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hubbub/engine"
	"hubbub/engine/natstest"
)

// A node that ends is missed by nobody: the others write, read and use tokens on
// without the pause of an election, which takes four seconds and more, and know at
// once that it went. It waits for nobody.
func TestANodeThatEndsIsNotMissed(t *testing.T) {
	const short = 3 * time.Second
	c := startTrio(t)
	contents, once := make([]*content, 3), make([]*engine.Once, 3)
	c.each(func(i int, e *engine.Engine) {
		contents[i] = follow(t, e)
		var err error
		if once[i], err = e.Once(context.Background()); err != nil {
			t.Error(err)
		}
	})
	for round := range 2 {
		c.each(func(i int, e *engine.Engine) {
			for end := time.Now().Add(10 * time.Second); len(e.Bus().Members()) < 2; time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					t.Errorf("node %d hears %v", i, e.Bus().Members())
					return
				}
			}
		})
		leader := -1
		for i, e := range c.nodes {
			if e.Leads(engine.ResourcesBucket)() {
				leader = i
			}
		}
		if leader < 0 {
			t.Fatal("no node leads")
		}
		var ended atomic.Bool
		var waits sync.Map
		var working sync.WaitGroup
		work := func(what string, do func(n int) error) {
			working.Go(func() {
				var longest time.Duration
				for n, last := 0, false; !last; n++ {
					last = ended.Load()
					began := time.Now()
					if err := do(n); err != nil {
						t.Errorf("%s: %v", what, err)
					}
					longest = max(longest, time.Since(began))
				}
				waits.Store(what, longest)
			})
		}
		for i, e := range c.nodes {
			if i == leader {
				continue
			}
			b := bucket(t, e)
			work(fmt.Sprint("write on node ", i), func(n int) error {
				_, err := b.Create(t.Context(), fmt.Sprint("round", round, "-node", i, "-", n), []byte("v"))
				return err
			})
			work(fmt.Sprint("sync on node ", i), func(int) error { return contents[i].feed.Sync(t.Context()) })
			work(fmt.Sprint("token on node ", i), func(n int) error {
				return once[i].Use(t.Context(), fmt.Sprint("round", round, "-node", i, "-", n), time.Now().Add(time.Hour))
			})
		}
		contents[leader].feed.Close()
		began := time.Now()
		c.nodes[leader].Bus().Ending()
		c.stop(leader)
		took := time.Since(began)
		for i, e := range c.nodes {
			if i != leader && len(e.Bus().Members()) != 1 {
				t.Errorf("node %d believes that the one that ended is there", i)
			}
		}
		ended.Store(true)
		working.Wait()
		waits.Range(func(what, longest any) bool {
			t.Logf("%s waited for %v at most, while node %d ended in %v", what, longest, leader, took)
			if longest.(time.Duration) > short {
				t.Errorf("%s waited for %v", what, longest)
			}
			return true
		})
		c.start(leader)
		contents[leader] = follow(t, c.nodes[leader])
		var err error
		if once[leader], err = c.nodes[leader].Once(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// When all nodes are told to end at once, the store takes what the last of them has
// to write: the others wait for it.
func TestNodesThatEndTogetherWaitForTheLast(t *testing.T) {
	t.Parallel()
	c := startTrio(t)
	for i, e := range c.nodes {
		for end := time.Now().Add(10 * time.Second); len(e.Bus().Members()) < 2; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("node %d hears %v", i, e.Bus().Members())
			}
		}
	}
	b := bucket(t, c.nodes[2])
	var over atomic.Bool
	var first sync.WaitGroup
	for _, e := range c.nodes {
		e.Bus().Ending()
	}
	for i := range 2 {
		first.Go(func() {
			c.stop(i)
			if !over.Load() {
				t.Errorf("node %d went before node 2 had stored what it has", i)
			}
		})
	}
	for n := range 300 {
		if _, err := b.Create(t.Context(), fmt.Sprint("k", n), []byte("v")); err != nil {
			t.Fatalf("the last node cannot write: %v", err)
		}
	}
	over.Store(true)
	c.stop(2)
	first.Wait()
}

// An external NATS needs none of the nodes: who ends waits for nobody.
func TestNodesThatEndOnAnExternalNATSDoNotWait(t *testing.T) {
	c := startOutside(t, natstest.Options{})
	for i, e := range c.nodes {
		eventually(t, 10*time.Second, fmt.Sprintf("node %d hears the others", i), func() bool { return len(e.Bus().Members()) == 2 })
	}
	for _, e := range c.nodes {
		e.Bus().Ending()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := c.nodes[0].Close(ctx); err != nil {
		t.Error(err)
	}
	if ctx.Err() != nil {
		t.Error("it waited for the others, which had something to store")
	}
}
