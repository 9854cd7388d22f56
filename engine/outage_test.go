package engine_test

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"hubbub/engine"
	"hubbub/engine/natstest"
)

// writers write through nodes, each keys of its own, and remember what was
// acknowledged.
type writers struct {
	of *trio

	mu    sync.Mutex
	keys  int
	acked []string
	last  []time.Time // by node: when the latest write began that was acknowledged
}

func newWriters(c *trio) *writers { return &writers{of: c, last: make([]time.Time, len(c.nodes))} }

// start has a node written to without rest until stop is called, or the test ends.
func (w *writers) start(i int) (stop func()) {
	b := bucket(w.of.t, w.of.nodes[i])
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		for ctx.Err() == nil {
			w.mu.Lock()
			w.keys++
			key := fmt.Sprint("w", w.keys)
			w.mu.Unlock()
			began := time.Now()
			if _, err := b.Create(ctx, key, []byte("v")); err == nil {
				w.mu.Lock()
				w.acked, w.last[i] = append(w.acked, key), began
				w.mu.Unlock()
			}
		}
	})
	stop = func() {
		cancel()
		done.Wait()
	}
	w.of.t.Cleanup(stop)
	return stop
}

// resumed says whether each of some nodes took a write that began after a moment.
func (w *writers) resumed(after time.Time, nodes ...int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, i := range nodes {
		if !w.last[i].After(after) {
			return false
		}
	}
	return true
}

// holds wants all that was acknowledged to be what a node has.
func (w *writers) holds(t *testing.T, i int, c *content) {
	t.Helper()
	if err := c.feed.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	have := c.all()
	for _, key := range w.acked {
		if have[key] != "v" {
			t.Fatalf("node %d lacks %s, which was acknowledged", i, key)
		}
	}
}

// eventually polls for what must come.
func eventually(t *testing.T, within time.Duration, what string, is func() bool) (took time.Duration) {
	t.Helper()
	began := time.Now()
	for !is() {
		if time.Since(began) > within {
			t.Fatalf("not within %v: %s", within, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
	return time.Since(began)
}

// talks has node from say something until node to has heard it.
func (c *trio) talks(t *testing.T, from, to int) (took time.Duration) {
	t.Helper()
	heard := make(chan struct{}, 1<<10)
	s, err := c.nodes[to].Bus().Subscribe("talk", func(engine.Run, []byte) []byte {
		heard <- struct{}{}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	return eventually(t, 10*time.Second, fmt.Sprintf("node %d hears node %d", to, from), func() bool {
		_ = c.nodes[from].Bus().Publish("talk", nil)
		select {
		case <-heard:
			return true
		default:
			return false
		}
	})
}

// The server that leads ends, or hangs and comes back: nodes write and talk on.
func TestAnExternalNATSLosesItsLeader(t *testing.T) {
	for _, fault := range []struct {
		name        string
		begin, mend func(*natstest.Cluster, int)
	}{
		{"killed", func(c *natstest.Cluster, i int) { c.Kill(i) }, func(c *natstest.Cluster, i int) { c.Start(i) }},
		{"frozen", func(c *natstest.Cluster, i int) { c.Freeze(i) }, func(c *natstest.Cluster, i int) { c.Thaw(i) }},
	} {
		t.Run(fault.name, func(t *testing.T) {
			c := startOutside(t, natstest.Options{})
			contents := make([]*content, 3)
			c.each(func(i int, e *engine.Engine) { contents[i] = follow(t, e) })
			w, stops := newWriters(c), make([]func(), 3)
			for i := range 3 {
				stops[i] = w.start(i)
			}
			eventually(t, 10*time.Second, "all nodes write", func() bool { return w.resumed(time.Time{}, 0, 1, 2) })

			leader, began := c.outside.Leader("KV_"+engine.ResourcesBucket), time.Now()
			fault.begin(c.outside, leader)
			for i := range 3 {
				t.Logf("node %d hears node %d after %v", (i+1)%3, i, c.talks(t, i, (i+1)%3))
			}
			eventually(t, 30*time.Second, "all nodes write again", func() bool { return w.resumed(began, 0, 1, 2) })
			t.Logf("all nodes write again after %v", time.Since(began))
			for i, k := range contents {
				eventually(t, 10*time.Second, fmt.Sprintf("node %d is fresh", i), func() bool { return k.feed.Fresh() == nil })
			}
			fault.mend(c.outside, leader)
			for _, stop := range stops {
				stop()
			}
			for i, k := range contents {
				w.holds(t, i, k)
			}
		})
	}
}

// A leader that is cut off from the other servers of NATS, but not from ours, is
// not believed when it says that there is nothing new.
func TestALeaderThatIsCutOffIsNotBelieved(t *testing.T) {
	t.Parallel()
	outside := natstest.Start(t, natstest.Options{})
	credentials := outside.Credentials()
	node := func(name string, servers ...int) *engine.Engine {
		return opened(t, engine.Options{External: &engine.External{URL: outside.URL(servers...), Credentials: credentials, Node: name}})
	}
	bucket(t, node("maker"))
	leader := outside.Leader("KV_" + engine.ResourcesBucket)
	here := bucket(t, node("near", (leader+1)%3, (leader+2)%3))
	far := follow(t, node("far", leader))

	outside.Isolate(leader, true)
	eventually(t, 40*time.Second, "a write without the leader", func() bool {
		_, err := here.Create(t.Context(), "new", []byte("v"))
		return err == nil
	})
	eventually(t, 20*time.Second, "it is not ready", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := far.feed.Sync(ctx); err == nil && far.all()["new"] != "v" {
			t.Fatal("it says that it has everything, and lacks what was acknowledged")
		}
		return far.feed.Fresh() != nil
	})
	outside.Isolate(leader, false)
	t.Logf("ready after %v", eventually(t, 30*time.Second, "it is ready", func() bool { return far.feed.Fresh() == nil }))
	if err := far.feed.Sync(t.Context()); err != nil || far.all()["new"] != "v" {
		t.Errorf("it has %v, %v", far.all(), err)
	}
}

// A server whose way to NATS is cut says that it is not ready, and has what it
// missed when the way is there again.
func TestAWayToNATSIsCut(t *testing.T) {
	for _, cut := range []struct {
		name  string
		begin func(*natstest.Wire)
	}{{"broken", (*natstest.Wire).Break}, {"silent", (*natstest.Wire).Silence}} {
		t.Run(cut.name, func(t *testing.T) {
			outside := natstest.Start(t, natstest.Options{})
			credentials := outside.Credentials()
			wire := natstest.NewWire(t, outside.URL(2)[len("nats://"):])
			near := opened(t, engine.Options{External: &engine.External{URL: outside.URL(0, 1), Credentials: credentials, Node: "near"}})
			far := opened(t, engine.Options{External: &engine.External{URL: "nats://" + wire.Address, Credentials: credentials, Node: "far"}})
			here := bucket(t, near)
			there := follow(t, far)
			if err := there.feed.Fresh(); err != nil {
				t.Fatal(err)
			}
			cut.begin(wire)
			want := map[string]string{}
			for n := range 20 {
				want[fmt.Sprint("k", n)] = "v"
				if _, err := here.Create(t.Context(), fmt.Sprint("k", n), []byte("v")); err != nil {
					t.Fatal(err)
				}
			}
			t.Logf("not ready after %v", eventually(t, 10*time.Second, "it is not ready", func() bool { return there.feed.Fresh() != nil }))
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if err := there.feed.Sync(ctx); err == nil {
				t.Error("it says that it has everything")
			}
			cancel()
			wire.Mend()
			t.Logf("ready after %v", eventually(t, 20*time.Second, "it is ready", func() bool { return there.feed.Fresh() == nil }))
			if err := there.feed.Sync(t.Context()); err != nil {
				t.Fatal(err)
			}
			if have := there.all(); !maps.Equal(have, want) {
				t.Errorf("it has %v, want %v", have, want)
			}
			if _, err := bucket(t, far).Create(t.Context(), "back", []byte("v")); err != nil {
				t.Error(err)
			}
		})
	}
}
