package engine_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"hubbub/engine"
	"hubbub/engine/natstest"
)

// A snapshot is a state that the bucket once had, whoever writes meanwhile: the
// writer makes two keys that are always equal but for one write, the first first.
func TestASnapshotIsOfOneMoment(t *testing.T) {
	t.Parallel()
	check := func(t *testing.T, from, by *engine.Engine) {
		b, w := bucket(t, from), bucket(t, by)
		ctx, cancel := context.WithCancel(t.Context())
		var writing sync.WaitGroup
		defer writing.Wait()
		defer cancel()
		var revisions [2]uint64
		for i, key := range []string{"first", "second"} {
			var err error
			if revisions[i], err = w.Create(ctx, key, []byte("0")); err != nil {
				t.Fatal(err)
			}
		}
		for n := range 500 { // so that reading takes a while
			if _, err := w.Create(ctx, fmt.Sprint("other-", n), make([]byte, 1000)); err != nil {
				t.Fatal(err)
			}
		}
		writing.Go(func() {
			for n := 1; ctx.Err() == nil; n++ {
				for i, key := range []string{"first", "second"} {
					revision, err := w.Update(ctx, key, fmt.Append(nil, n), revisions[i])
					if err != nil {
						t.Error(err)
						return
					}
					revisions[i] = revision
				}
				made, err := w.Create(ctx, "passing", []byte("x"))
				if err == nil {
					err = w.Delete(ctx, "passing", made)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
		var before int
		for range 20 {
			entries, err := b.Snapshot(ctx)
			if err != nil {
				t.Fatal(err)
			}
			have := map[string]int{}
			for i, e := range entries {
				if i > 0 && entries[i-1].Key >= e.Key {
					t.Fatalf("%s comes before %s", entries[i-1].Key, e.Key)
				}
				n := -1
				fmt.Sscan(string(e.Value), &n)
				have[e.Key] = n
			}
			if first, second := have["first"], have["second"]; first != second && first != second+1 || first < before {
				t.Fatalf("the keys have %d and %d at one moment, the first had %d before", first, second, before)
			} else {
				before = first
			}
			if _, passing := have["passing"]; len(entries) != 502 && !(passing && len(entries) == 503) {
				t.Fatalf("%d entries, want 502, or one more", len(entries))
			}
		}
	}
	t.Run("alone", func(t *testing.T) {
		e := open(t, t.TempDir())
		t.Cleanup(func() { closed(t, e) })
		check(t, e, e)
	})
	onBoth(t, func(t *testing.T, c *trio) { check(t, c.nodes[0], c.nodes[2]) })
}

// What was used is known with its time, in either kind of store.
func TestUsedTokensCanBeRead(t *testing.T) {
	t.Parallel()
	check := func(t *testing.T, use, read *engine.Engine) {
		until := time.Now().Add(time.Hour).Truncate(time.Second)
		once, err := use.Once(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		err = errors.Join(once.Use(t.Context(), "\x00 soon", until), once.Use(t.Context(), "later", until.Add(time.Minute)))
		if over := once.Use(t.Context(), "over", time.Now().Add(-time.Hour)); err != nil || over != nil {
			t.Fatal(err, over)
		}
		if once, err = read.Once(t.Context()); err != nil {
			t.Fatal(err)
		}
		all, err := once.All(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(all) != 2 || !all["\x00 soon"].Equal(until) || !all["later"].Equal(until.Add(time.Minute)) {
			t.Errorf("got %v, want two until %v and a minute later", all, until)
		}
	}
	t.Run("alone", func(t *testing.T) {
		dir := t.TempDir()
		e := open(t, dir)
		check(t, e, e)
		closed(t, e)
		again := open(t, dir)
		defer closed(t, again)
		once, err := again.Once(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if all, err := once.All(t.Context()); err != nil || len(all) != 2 {
			t.Errorf("after a restart %v, %v", all, err)
		}
	})
	onBoth(t, func(t *testing.T, c *trio) { check(t, c.nodes[0], c.nodes[1]) })
}

// While an outbox has no leader nobody is told that there is nothing in it.
func TestAnOutboxWithoutALeaderIsNotPassedOver(t *testing.T) {
	readers := func(key string) []string { return strings.Split(key, "_") }
	c := startOutside(t, natstest.Options{Servers: 5})
	for _, e := range c.nodes {
		o, err := e.Outbox(t.Context(), engine.OutboxOptions{Readers: readers})
		if err == nil {
			err = o.Append(t.Context(), "a", 1, []byte("batch"))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	read := func() (n int, err error) {
		err = c.nodes[1].EachUndelivered(t.Context(), readers, func(engine.Undelivered) error { n++; return nil })
		return n, err
	}
	two := c.outside.Replicas(engine.OutboxStreams("a")[0])[:2]
	c.outside.Kill(two...) // three are left to lead everything else
	eventually(t, time.Minute, "streams are listed", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		return len(engine.Streams(ctx, c.nodes[1])) > 0
	})
	if n, err := read(); err == nil {
		t.Errorf("%d batches were read, and no error says that there are more", n)
	}
	c.outside.Start(two...)
	eventually(t, time.Minute, "all is read", func() bool {
		n, err := read()
		if err == nil && n != 3 {
			t.Fatalf("%d batches were read, want 3", n)
		}
		return err == nil
	})
}

// What no reader has acknowledged can be read, on any node whoever wrote it.
func TestUndeliveredBatchesCanBeRead(t *testing.T) {
	t.Parallel()
	readers := func(key string) []string { return strings.Split(key, "_") }
	undelivered := func(t *testing.T, e *engine.Engine) (list []string) {
		t.Helper()
		if err := e.EachUndelivered(t.Context(), readers, func(b engine.Undelivered) error {
			list = append(list, fmt.Sprint(strings.Join(b.Readers, "+"), " ", b.Records, " ", string(b.Data)))
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return list
	}
	check := func(t *testing.T, e, other *engine.Engine) {
		if list := undelivered(t, other); len(list) != 0 {
			t.Fatalf("an outbox that was never opened has %q", list)
		}
		o, err := e.Outbox(t.Context(), engine.OutboxOptions{Readers: readers})
		if err != nil {
			t.Fatal(err)
		}
		for n, key := range []string{"a_b", "b", "a_b", "a"} {
			if err := o.Append(t.Context(), key, n+1, fmt.Append(nil, "batch-", n)); err != nil {
				t.Fatal(err)
			}
		}
		want := []string{"a+b 1 batch-0", "b 2 batch-1", "a+b 3 batch-2", "a 4 batch-3"}
		if list := undelivered(t, other); strings.Join(list, "|") != strings.Join(want, "|") {
			t.Errorf("got %q, want %q", list, want)
		}
		r, err := o.Open("a")
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			b, err := r.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := r.Ack(b.Sequence); err != nil {
				t.Fatal(err)
			}
		}
		want = []string{"b 1 batch-0", "b 2 batch-1", "b 3 batch-2", "a 4 batch-3"}
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) { // marks are written ten times a second
			list := undelivered(t, other)
			if strings.Join(list, "|") == strings.Join(want, "|") {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("got %q, want %q", list, want)
			}
		}
	}
	t.Run("alone", func(t *testing.T) {
		e := open(t, t.TempDir())
		defer closed(t, e)
		check(t, e, e)
	})
	onBoth(t, func(t *testing.T, c *trio) { check(t, c.nodes[0], c.nodes[2]) })
}

// A folder is used by the kind of server that made it, and by no other.
func TestAFolderIsOfOneKindOfServer(t *testing.T) {
	peers := freePorts(t, 3)
	cluster := func(name, node string) func(string) engine.Options {
		return func(dir string) engine.Options {
			return engine.Options{Dir: dir, Cluster: &engine.Cluster{Name: name, Node: node, Listen: peers[0], Peers: peers, Secret: secret}}
		}
	}
	alone := func(dir string) engine.Options { return engine.Options{Dir: dir} }
	// A node alone has made its folder by the time that it waits for the others.
	made := func(o func(string) engine.Options) func(string) {
		return func(dir string) {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			e, err := engine.Open(ctx, o(dir))
			if err == nil {
				closed(t, e)
			}
		}
	}
	noMarker := func(o func(string) engine.Options) func(string) {
		return func(dir string) {
			made(o)(dir)
			if err := os.Remove(filepath.Join(dir, "MODE")); err != nil {
				t.Fatal(err)
			}
			for _, store := range []string{"standalone", "cluster-x"} { // as after some writes
				if path := filepath.Join(dir, store); engine.Exists(dir) || store == "cluster-x" {
					_ = os.MkdirAll(filepath.Join(path, "jetstream"), 0o700)
					break
				}
			}
		}
	}
	for _, c := range []struct {
		name  string
		was   func(dir string)
		opens func(string) engine.Options
		want  []string
	}{
		{"a standalone store, by a node", made(alone), cluster("x", "a"), []string{"has the store of a standalone server", "node a of cluster x", "`hubbub migrate`"}},
		{"a standalone store without its marker, by a node", noMarker(alone), cluster("x", "a"), []string{"no MODE file"}},
		{"a node's store, by a standalone server", made(cluster("x", "a")), alone, []string{"belongs to a cluster", "`hubbub migrate`"}},
		{"a node's store without its folder, by a standalone server", func(dir string) {
			made(cluster("x", "a"))(dir)
			if err := os.RemoveAll(filepath.Join(dir, "cluster-x")); err != nil {
				t.Fatal(err)
			}
		}, alone, []string{"has the store of node a of cluster x", "`hubbub migrate`"}},
		{"a node's store without its marker, by a standalone server", noMarker(cluster("x", "a")), alone, []string{"belongs to a cluster", "`hubbub migrate`"}},
		{"the folder of a node with an external NATS, by a standalone server", func(dir string) {
			if err := os.WriteFile(filepath.Join(dir, "MODE"), []byte("hubbub server on an external NATS, format 1\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, alone, []string{"NATS", "`hubbub migrate`"}},
		{"a node's store, by another node", made(cluster("x", "a")), cluster("x", "b"), []string{"has the store of node a of cluster x", "this is to be node b of cluster x"}},
		{"a node's store, by a node of another cluster", made(cluster("x", "a")), cluster("y", "a"), []string{"has the store of node a of cluster x", "this is to be node a of cluster y"}},
		{"what is of a later version, by a node", func(dir string) {
			if err := os.WriteFile(filepath.Join(dir, "MODE"), []byte("hubbub standalone store, format 2\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, cluster("x", "a"), []string{"is not a store that this version can open"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			c.was(dir)
			before := tree(t, dir)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			e, err := engine.Open(ctx, c.opens(dir))
			if err == nil {
				closed(t, e)
				t.Fatal("it is opened")
			}
			for _, part := range append(c.want, dir) {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%v does not have %q", err, part)
				}
			}
			if after := tree(t, dir); after != before {
				t.Errorf("what was refused is changed: %s, was %s", after, before)
			}
		})
	}
	dir := t.TempDir()
	made(cluster("x", "a"))(dir)
	outside := t.TempDir()
	made(func(dir string) engine.Options {
		return engine.Options{Dir: dir, External: &engine.External{URL: "nats://" + peers[0], Node: "a"}}
	})(outside)
	standalone := t.TempDir()
	made(alone)(standalone)
	for path, want := range map[string]string{
		dir: "node a of cluster x", outside: "a server on an external NATS", standalone: "", t.TempDir(): "", filepath.Join(dir, "nothing"): "",
	} {
		if node := engine.NodeOf(path); node != want {
			t.Errorf("%s is the folder of %q, want %q", path, node, want)
		}
	}
}

// tree names every file below a folder, but for the lock.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var names []string
	if err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Name() != "LOCK" {
			names = append(names, strings.TrimPrefix(path, dir))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return strings.Join(names, " ")
}
