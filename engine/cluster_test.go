package engine_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hubbub/engine"
	"hubbub/engine/natstest"
)

// trio is three nodes on loopback: a cluster, or three that use somebody else's.
type trio struct {
	t           testing.TB
	peers       []string // of a cluster
	dirs        []string
	nodes       []*engine.Engine  // nil while one is off
	outside     *natstest.Cluster // nil: they are a cluster themselves
	credentials string            // for it

	maxBytes int64       // of the next that is started; 0 is what there is
	failed   func(error) // of the next

	change func(i int, o *engine.Options) // nil for none
}

var secret = []byte("a secret that is long enough for a test")

// freePorts are addresses of loopback that nobody listens at.
func freePorts(t testing.TB, n int) []string { return natstest.FreeAddresses(t, n) }

func (c *trio) options(i int) engine.Options {
	o, node := engine.Options{Dir: c.dirs[i], MaxBytes: c.maxBytes, Failed: c.failed}, string(rune('a'+i))
	if c.outside != nil {
		o.External = &engine.External{URL: c.outside.URL(), Credentials: c.credentials, Node: node}
	} else {
		o.Cluster = &engine.Cluster{Name: "test", Node: node, Listen: c.peers[i], Peers: c.peers, Secret: secret}
	}
	if c.change != nil {
		c.change(i, &o)
	}
	if os.Getenv("HUBBUB_TEST_LOG") != "" {
		o.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", node)
	}
	return o
}

// onBoth runs a test with nodes that are a cluster, and with nodes that use a NATS
// cluster of somebody else.
func onBoth(t *testing.T, test func(t *testing.T, c *trio)) {
	t.Run("embedded", func(t *testing.T) { test(t, startTrio(t)) })
	t.Run("external", func(t *testing.T) { test(t, startOutside(t, natstest.Options{})) })
}

// startTrio starts all three nodes, and ends them after the test.
func startTrio(t testing.TB) *trio {
	t.Helper()
	return begin(&trio{t: t, peers: freePorts(t, 3)})
}

// startOutside does the same with a NATS cluster that is there already.
func startOutside(t testing.TB, o natstest.Options) *trio {
	t.Helper()
	outside := natstest.Start(t, o)
	return begin(&trio{t: t, outside: outside, credentials: outside.Credentials()})
}

func begin(c *trio) *trio {
	c.t.Helper()
	c.nodes = make([]*engine.Engine, 3)
	for range 3 {
		c.dirs = append(c.dirs, c.t.TempDir())
	}
	c.t.Cleanup(func() { c.stop(0, 1, 2) })
	c.start(0, 1, 2)
	return c
}

// start starts nodes together, since none is ready alone.
func (c *trio) start(which ...int) {
	c.t.Helper()
	var starting sync.WaitGroup
	for _, i := range which {
		starting.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			var err error
			if c.nodes[i], err = engine.Open(ctx, c.options(i)); err != nil {
				c.t.Errorf("node %d: %v", i, err)
			}
		})
	}
	starting.Wait()
	if c.t.Failed() {
		c.t.FailNow()
	}
}

func (c *trio) stop(which ...int) {
	var stopping sync.WaitGroup
	for _, i := range which {
		stopping.Go(func() {
			if e := c.nodes[i]; e != nil {
				if err := e.Close(context.Background()); err != nil {
					c.t.Errorf("stop node %d: %v", i, err)
				}
			}
			c.nodes[i] = nil
		})
	}
	stopping.Wait()
}

// each runs once for each of some nodes, at the same time.
func (c *trio) each(do func(i int, e *engine.Engine)) {
	var running sync.WaitGroup
	for i, e := range c.nodes {
		if e != nil {
			running.Go(func() { do(i, e) })
		}
	}
	running.Wait()
}

// content is what a node has in memory of a bucket.
type content struct {
	mu   sync.Mutex
	keys map[string]string
	feed *engine.Feed
}

func follow(t testing.TB, e *engine.Engine) *content {
	t.Helper()
	b, err := e.Bucket(context.Background(), engine.ResourcesBucket)
	if err != nil {
		t.Fatal(err)
	}
	c := &content{keys: map[string]string{}}
	c.feed, err = b.Follow(context.Background(), func(change engine.Change) error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if change.Gone {
			delete(c.keys, change.Key)
		} else {
			c.keys[change.Key] = string(change.Value)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	c.feed.Start()
	t.Cleanup(c.feed.Close)
	return c
}

func (c *content) all() map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.keys)
}

func TestAClusterHasOneContent(t *testing.T) {
	t.Parallel()
	onBoth(t, testAClusterHasOneContent)
}

func testAClusterHasOneContent(t *testing.T, c *trio) {
	ctx := t.Context()
	contents := make([]*content, 3)
	c.each(func(i int, e *engine.Engine) { contents[i] = follow(t, e) })

	// What one node wrote every other has as soon as it asks.
	for n := range 30 {
		key := fmt.Sprint("k", n)
		if _, err := bucket(t, c.nodes[n%3]).Create(ctx, key, []byte("v")); err != nil {
			t.Fatal(err)
		}
		for i, k := range contents {
			if err := k.feed.Sync(ctx); err != nil {
				t.Fatal(err)
			}
			if k.all()[key] != "v" {
				t.Fatalf("node %d does not have what node %d was told is written", i, n%3)
			}
		}
	}

	before := contents[0].feed.Applied()

	// Of all who change the same key at once one wins each round.
	rev, err := bucket(t, c.nodes[0]).Get(ctx, "k0")
	if err != nil {
		t.Fatal(err)
	}
	var won atomic.Int32
	c.each(func(i int, e *engine.Engine) {
		switch _, err := bucket(t, e).Update(ctx, "k0", fmt.Append(nil, i), rev.Revision); {
		case err == nil:
			won.Add(1)
		case !errors.Is(err, engine.ErrStale):
			t.Errorf("node %d: %v", i, err)
		}
	})
	if won.Load() != 1 {
		t.Errorf("%d nodes changed the same revision", won.Load())
	}

	// A write that depends on all that is there fails after any other write.
	if err := contents[0].feed.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	now := contents[0].feed.Applied()
	if before == now {
		t.Fatal("the write above is not applied")
	}
	if _, err := bucket(t, c.nodes[0]).AsOf(before).Create(ctx, "late", nil); !errors.Is(err, engine.ErrBehind) {
		t.Errorf("got %v, want ErrBehind", err)
	}
	if _, err := bucket(t, c.nodes[0]).AsOf(now).Create(ctx, "in-time", []byte("v")); err != nil {
		t.Error(err)
	}
	k1, err := bucket(t, c.nodes[1]).Get(ctx, "k1")
	if err != nil {
		t.Fatal(err)
	}
	if err := bucket(t, c.nodes[1]).Delete(ctx, "k1", k1.Revision); err != nil {
		t.Fatal(err)
	}
	want := contents[1]
	for i, k := range contents {
		if err := k.feed.Sync(ctx); err != nil {
			t.Fatal(err)
		}
		if err := want.feed.Sync(ctx); err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(k.all(), want.all()) || k.all()["k1"] != "" || k.all()["in-time"] != "v" {
			t.Errorf("node %d has %v, want %v", i, k.all(), want.all())
		}
		if err := k.feed.Fresh(); err != nil {
			t.Errorf("node %d: %v", i, err)
		}
	}
}

func TestANodeComesBackWithWhatItMissed(t *testing.T) {
	t.Parallel()
	onBoth(t, testANodeComesBackWithWhatItMissed)
}

func testANodeComesBackWithWhatItMissed(t *testing.T, c *trio) {
	ctx := t.Context()
	contents := make([]*content, 3)
	c.each(func(i int, e *engine.Engine) { contents[i] = follow(t, e) })
	contents[2].feed.Close()
	c.stop(2)
	b := bucket(t, c.nodes[0])
	for n := range 50 {
		if _, err := b.Create(ctx, fmt.Sprint("k", n), []byte("v")); err != nil {
			t.Fatal(err)
		}
	}
	c.start(2)
	if back := follow(t, c.nodes[2]); len(back.all()) != 50 {
		t.Errorf("it has %d of 50", len(back.all()))
	}
}

// A node that was away until nothing told of a deletion any more has the key
// neither if it was cut off nor if it was down.
func TestANodeThatWasAwayForLongSeesWhatIsGone(t *testing.T) {
	engine.SetMarkerAge(3 * time.Second)
	t.Cleanup(func() { engine.SetMarkerAge(time.Hour) })
	ctx := t.Context()
	c := startTrio(t)
	contents := make([]*content, 3)
	c.each(func(i int, e *engine.Engine) { contents[i] = follow(t, e) })
	b := bucket(t, c.nodes[0])
	for n := range 20 {
		if _, err := b.Create(ctx, fmt.Sprint("k", n), []byte("v")); err != nil {
			t.Fatal(err)
		}
	}
	for _, k := range contents {
		if err := k.feed.Sync(ctx); err != nil {
			t.Fatal(err)
		}
	}
	// change deletes some keys for good, and changes others.
	change := func(from int) {
		t.Helper()
		for n := from; n < from+5; n++ {
			key := fmt.Sprint("k", n)
			e, err := b.Get(ctx, key)
			if err != nil {
				t.Fatal(err)
			}
			if err := b.Delete(ctx, key, e.Revision); err != nil {
				t.Fatal(err)
			}
		}
		again := fmt.Sprint("k", from) // deleted and made again
		if _, err := b.Create(ctx, again, []byte("again")); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Create(ctx, fmt.Sprint("new", from), []byte("v")); err != nil {
			t.Fatal(err)
		}
		if err := contents[0].feed.Sync(ctx); err != nil {
			t.Fatal(err)
		}
		want := uint64(len(contents[0].all()))
		for deadline := time.Now().Add(30 * time.Second); ; {
			n, err := engine.Messages(ctx, b)
			if err == nil && n == want {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("there are %d messages (%v), want %d: the markers stay", n, err, want)
			}
		}
	}
	same := func(k *content, what string) {
		t.Helper()
		eventually(t, 20*time.Second, what+" is sure of having everything", func() bool { return k.feed.Sync(ctx) == nil })
		if !maps.Equal(k.all(), contents[0].all()) {
			t.Errorf("%s has %v, want %v", what, k.all(), contents[0].all())
		}
	}

	heal := engine.Cut(contents[2].feed)
	change(0)
	if err := heal(); err != nil {
		t.Fatal(err)
	}
	same(contents[2], "the node that was cut off")

	contents[2].feed.Close()
	c.stop(2)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) { // there may be an election
		_, err := b.Get(ctx, "k10")
		if err == nil && contents[0].feed.Sync(ctx) == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("two of three nodes do not go on: %v", err)
		}
	}
	change(10)
	c.start(2)
	same(follow(t, c.nodes[2]), "the node that was down")
}

// What a node has missed it may ask of a leader that was cut off and lacks it as well,
// until that hears of the next one. It does not count as seen then.
func TestALeaderThatLacksSomethingIsAskedAgain(t *testing.T) {
	c := startTrio(t)
	contents := make([]*content, 3)
	c.each(func(i int, e *engine.Engine) { contents[i] = follow(t, e) })
	b := bucket(t, c.nodes[0])
	if _, err := b.Create(t.Context(), "before", []byte("v")); err != nil {
		t.Fatal(err)
	}
	if err := contents[2].feed.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	heal := engine.Cut(contents[2].feed)
	engine.Mislead(contents[2].feed, 2)
	for n := range 5 {
		if _, err := b.Create(t.Context(), fmt.Sprint("k", n), []byte("v")); err != nil {
			t.Fatal(err)
		}
	}
	if err := heal(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := contents[2].feed.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	if got := contents[2].all(); len(got) != 6 {
		t.Errorf("the node shows %v after a Sync, want all 6", got)
	}
}

// While leaders change, what is asked of one may be heard by nobody. Reads and writes
// go on, each write once.
func TestLeadersChange(t *testing.T) {
	t.Parallel()
	c := startTrio(t)
	done := make(chan struct{})
	var working sync.WaitGroup
	for i, e := range c.nodes {
		b := bucket(t, e)
		key := fmt.Sprint("k", i)
		working.Go(func() {
			revision, err := b.Create(context.Background(), key, []byte("0"))
			for n := 1; err == nil; n++ {
				var got engine.Entry
				if got, err = b.Get(context.Background(), key); err != nil {
					break
				}
				if string(got.Value) != fmt.Sprint(n-1) || got.Revision != revision {
					t.Errorf("node %d: got %q at revision %d, want %d at %d", i, got.Value, got.Revision, n-1, revision)
				}
				select {
				case <-done:
					return
				default:
				}
				revision, err = b.Update(context.Background(), key, fmt.Append(nil, n), revision)
			}
			t.Errorf("node %d: %v", i, err)
		})
	}
	for range 8 {
		if err := c.nodes[0].StepDown(t.Context(), engine.ResourcesBucket); err != nil {
			t.Error(err)
			break
		}
	}
	close(done)
	working.Wait()
}

// The outboxes of all nodes are on the disks of all nodes. Those are small, and
// have another size at each start.
func TestANodeComesBackToASmallDisk(t *testing.T) {
	t.Parallel()
	c := startTrio(t)
	c.stop(0, 1, 2)
	open := func(which ...int) {
		t.Helper()
		c.start(which...)
		for _, i := range which {
			if _, err := c.nodes[i].Outbox(t.Context(), engine.OutboxOptions{MaxBytes: 1 << 30}); err != nil {
				t.Fatalf("node %d: %v", i, err)
			}
		}
	}
	c.maxBytes = 100 << 20
	open(0, 1, 2)
	for i := range 3 {
		c.stop(i)
		c.maxBytes -= 10 << 20
		open(i)
	}
}

func TestAKeyIsUsedOnceInTheWholeCluster(t *testing.T) {
	t.Parallel()
	onBoth(t, testAKeyIsUsedOnceInTheWholeCluster)
}

func testAKeyIsUsedOnceInTheWholeCluster(t *testing.T, c *trio) {
	once := make([]*engine.Once, 3)
	c.each(func(i int, e *engine.Engine) {
		var err error
		if once[i], err = e.Once(context.Background()); err != nil {
			t.Errorf("node %d: %v", i, err)
		}
	})
	if t.Failed() {
		t.FailNow()
	}
	for n := range 50 {
		var won, lost atomic.Int32
		c.each(func(i int, _ *engine.Engine) {
			switch err := once[i].Use(t.Context(), fmt.Sprint("token", n), time.Now().Add(time.Hour)); {
			case err == nil:
				won.Add(1)
			case errors.Is(err, engine.ErrUsed):
				lost.Add(1)
			default:
				t.Errorf("node %d: %v", i, err)
			}
		})
		if won.Load() != 1 || lost.Load() != 2 {
			t.Fatalf("%d nodes had token %d, %d were refused", won.Load(), n, lost.Load())
		}
	}
	c.stop(2)
	c.start(2)
	again, err := c.nodes[2].Once(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Use(t.Context(), "token0", time.Now().Add(time.Hour)); !errors.Is(err, engine.ErrUsed) {
		t.Errorf("after a restart a used token gives %v", err)
	}
}

func TestNodesTalk(t *testing.T) {
	t.Parallel()
	onBoth(t, testNodesTalk)
}

func testNodesTalk(t *testing.T, c *trio) {
	heard := make(chan string, 100)
	var questions [3]atomic.Int32
	c.each(func(i int, e *engine.Engine) {
		e.Bus().Answer("question", func(_ engine.Run, data []byte) []byte {
			questions[i].Add(1)
			return fmt.Append(nil, i)
		})
		_, err := e.Bus().Subscribe("news", func(_ engine.Run, data []byte) []byte {
			heard <- fmt.Sprint(i, string(data))
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	// Whoever answers has heard of the interests that came before the question.
	for i, e := range c.nodes {
		answers, err := e.Bus().Ask(t.Context(), "question", []byte("?"))
		if err != nil {
			t.Fatal(err)
		}
		var said []string
		for _, a := range answers {
			said = append(said, string(a))
		}
		slices.Sort(said)
		want := []string{"0", "1", "2"}
		if want = slices.Delete(want, i, i+1); !slices.Equal(said, want) {
			t.Errorf("node %d is answered by %v", i, said)
		}
	}
	one, err := c.nodes[0].Bus().AskOne(t.Context(), c.nodes[1].Bus().Run(), "question", []byte("?"))
	if err != nil || string(one) != "1" {
		t.Errorf("node 1 answers %q, %v", one, err)
	}
	if _, err := c.nodes[0].Bus().Ask(t.Context(), "question", []byte("?")); err != nil { // comes behind it, wherever that went
		t.Fatal(err)
	}
	if n := questions[2].Load(); n != 3 {
		t.Errorf("node 2 has heard %d questions, of which 3 were for it", n)
	}
	for i, e := range c.nodes {
		if err := e.Bus().Publish("news", []byte("!")); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if h := <-heard; strings.HasPrefix(h, fmt.Sprint(i)) {
				t.Errorf("node %d heard itself", i)
			}
		}
	}
	for i, e := range c.nodes {
		if n := len(e.Bus().Members()); n != 2 || !e.Bus().Majority() {
			t.Errorf("node %d has %d others", i, n)
		}
	}
}

// Who may not be a member is told what to do about it.
func TestWhoIsNoMember(t *testing.T) {
	t.Parallel()
	c := startTrio(t)
	for _, stranger := range []struct {
		name   string
		change func(*engine.Options)
		want   string
	}{
		{"another secret", func(o *engine.Options) { o.Cluster.Secret = []byte("another secret that is as long") }, "cluster.secret_file"},
		{"a name that another node has", func(o *engine.Options) { o.Cluster.Node = "b" }, "another node named b"},
		{"a wrong clock", func(o *engine.Options) {
			o.Now = func() time.Time { return time.Now().Add(-time.Hour) }
		}, "clock"},
		{"no secret", func(o *engine.Options) { o.Cluster.Secret = nil }, "cluster.secret_file"},
		{"too few nodes", func(o *engine.Options) { o.Cluster.Peers = o.Cluster.Peers[:2] }, "3 or more"},
		{"a node of another cluster", func(o *engine.Options) { o.Cluster.Name = "other" }, "cluster.name"},
	} {
		t.Run(stranger.name, func(t *testing.T) {
			o := c.options(0)
			o.Dir = t.TempDir()
			o.Cluster.Node = "d"
			o.Cluster.Listen = freePorts(t, 1)[0]
			o.Cluster.Peers = append(slices.Clone(c.peers), o.Cluster.Listen)
			stranger.change(&o)
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			e, err := engine.Open(ctx, o)
			if err == nil {
				_ = e.Close(ctx)
				t.Fatal("it became a member")
			}
			if !strings.Contains(err.Error(), stranger.want) {
				t.Errorf("it is told %q, want something about %q", err, stranger.want)
			}
		})
	}
}
