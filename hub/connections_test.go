package hub

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hubbub/engine"
	"hubbub/engine/natstest"
	"hubbub/quota"
)

// engines are the stores of three nodes that are a cluster.
func engines(t *testing.T) []*engine.Engine {
	t.Helper()
	peers := natstest.FreeAddresses(t, 3)
	nodes := make([]*engine.Engine, 3)
	var starting sync.WaitGroup
	for i := range nodes {
		o := engine.Options{Dir: t.TempDir(), Cluster: &engine.Cluster{
			Name: "test", Node: string(rune('a' + i)), Listen: peers[i], Peers: peers, Secret: []byte(strings.Repeat("s", 40)),
		}}
		starting.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			var err error
			if nodes[i], err = engine.Open(ctx, o); err != nil {
				t.Errorf("node %d: %v", i, err)
			}
		})
	}
	starting.Wait()
	t.Cleanup(func() {
		var stopping sync.WaitGroup
		for _, e := range nodes {
			if e != nil {
				stopping.Go(func() {
					if err := e.Close(context.Background()); err != nil {
						t.Error(err)
					}
				})
			}
		}
		stopping.Wait()
	})
	if t.Failed() {
		t.FailNow()
	}
	return nodes
}

func limited(t *testing.T, key quota.Key, value string) quota.Limits {
	t.Helper()
	l := quota.Strict()
	ok(t, l.Set(string(key), value))
	return l
}

// Whatever comes on whichever nodes, the quota is reached and never passed.
func TestConnectionsAreExactOverAllNodes(t *testing.T) {
	nodes := engines(t)
	for _, c := range []struct {
		name  string
		value string
		quota int
		come  int // to each node at once
	}{
		{"a small quota, of which no place is spare", "10", 10, 50},
		{"one place", "1", 1, 20},
		{"a large quota", "3000", 3000, 1500},
	} {
		t.Run(c.name, func(t *testing.T) {
			all := make([]*connections, len(nodes))
			for i, e := range nodes {
				eventually(t, "it hears the others", func() bool { return len(e.Bus().Members()) == 2 })
				all[i] = newConnections(e.Bus(), quota.New(limited(t, quota.Connections, c.value)))
				all[i].patience = patience
				defer all[i].close()
			}
			var in [3]atomic.Int64
			storm := func() {
				var coming sync.WaitGroup
				for i, n := range all {
					for range c.come {
						coming.Go(func() {
							if n.take(t.Context(), here) {
								in[i].Add(1)
							}
						})
					}
				}
				coming.Wait()
			}
			for range 5 {
				storm()
				if sum := int(in[0].Load() + in[1].Load() + in[2].Load()); sum != c.quota {
					t.Fatalf("%d, %d and %d were let in, %d of a quota of %d", in[0].Load(), in[1].Load(), in[2].Load(), sum, c.quota)
				}
				for i, n := range all { // some go
					for range rand.IntN(int(in[i].Load()) + 1) {
						n.quota.Disconnected(here)
						in[i].Add(-1)
					}
				}
			}
		})
	}
}

// The places of a node that is gone are free, and who waits is let in or refused
// within a time.
func TestTheConnectionsOfADeadNodeAreFree(t *testing.T) {
	nodes := engines(t)
	all := make([]*connections, len(nodes))
	for i, e := range nodes {
		eventually(t, "it hears the others", func() bool { return len(e.Bus().Members()) == 2 })
		all[i] = newConnections(e.Bus(), quota.New(limited(t, quota.Connections, "2")))
		all[i].patience = 3 * time.Second // longer than until a silent node counts as gone
	}
	defer all[0].close()
	defer all[1].close()
	for i, want := range []bool{true, true, false} {
		if all[2].take(t.Context(), here) != want {
			t.Fatalf("the answer to the connection %d of two is not %v", i+1, want)
		}
	}
	if all[0].take(t.Context(), here) {
		t.Fatal("a third of two")
	}
	all[2].close()
	ok(t, nodes[2].Close(t.Context()))
	nodes[2] = nil
	eventually(t, "the places of the dead are free", func() bool { return all[0].take(t.Context(), here) })
	if !all[1].take(t.Context(), here) || all[1].take(t.Context(), here) || all[0].take(t.Context(), here) {
		t.Error("one was free")
	}
}

// Without a quota nobody is asked.
func TestConnectionsWithoutAQuotaAreCountedAlone(t *testing.T) {
	nodes := engines(t)
	c := newConnections(nodes[0].Bus(), quota.New(quota.None()))
	defer c.close()
	nodes[1].Bus().Answer(connectionsQuestion, func(engine.Run, []byte) []byte {
		t.Error("a node was asked")
		return nil
	})
	for range 100 {
		if !c.take(t.Context(), here) {
			t.Fatal("refused")
		}
	}
	if n := c.quota.Connections(here); n != 100 {
		t.Errorf("%d are counted", n)
	}
}
