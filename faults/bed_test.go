package faults

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"hubbub/faults/history"
	"hubbub/faults/lab"
	"hubbub/faults/load"
)

// bed is a lab with servers under load.
type bed struct {
	t      *testing.T
	seed   uint64
	lab    *lab.Lab
	nodes  []*lab.Node
	bucket *load.Bucket
	load   *load.Load
	rules  history.Rules
	settle time.Duration // after the end of a fault

	faults  []history.Fault
	deaths  []history.Death
	full    []history.Full
	dropped float64                 // records, by servers that are dead
	filled  map[string]history.Time // since when a node's disk is full
}

// fault is something that goes wrong for a while.
type fault struct {
	name       string
	short      int // how long it lasts in a short run, in seconds; 0 leaves it out
	long       int // in a long one
	begin, end func()

	// cuts is that clients and servers do not hear of each other. For as long as that
	// lasted, TCP may take to send again what was not acknowledged.
	cuts bool
}

// time is how long the fault lasts in this run.
func (f fault) time() time.Duration {
	if *long {
		return time.Duration(f.long) * time.Second
	}
	return time.Duration(f.short) * time.Second
}

// newBed starts servers, a cluster if there are several, and lets everybody in.
// All is to be well so long after a fault.
func newBed(t *testing.T, seed uint64, settle time.Duration, names ...string) *bed {
	t.Helper()
	b := &bed{t: t, seed: seed, lab: lab.New(t, seed, names...), settle: settle, filled: map[string]history.Time{}, rules: history.Rules{
		Join: time.Second, Late: 2 * time.Second, Dying: time.Second / 2, Lag: 2 * time.Second}}
	outside, err := b.lab.Side(lab.Outside).Listen(0)
	if err != nil {
		t.Fatal(err)
	}
	b.bucket = load.OpenBucket(t, outside, "logs")
	b.nodes = b.lab.Nodes(binary, fmt.Sprintf(`drain: 1s
logging:
  s3: {endpoint: "http://%s", path_style: true, region: us-west-2, flush: 500ms}
  retry: {timeout: 2s, max_pause: 500ms}
`, outside.Addr()), names...)
	for _, n := range b.nodes {
		n.Run(0)
	}
	for _, n := range b.nodes {
		n.Ready()
	}
	o := load.Options{Seed: seed, Region: lab.Region, AccessKeyID: lab.AccessKeyID, SecretKey: lab.SecretKey, Bucket: "logs",
		Rooms: 4, Viewers: 4, Senders: 3, Writers: 4, Talk: 150 * time.Millisecond, Write: 100 * time.Millisecond}
	for _, n := range b.nodes {
		o.Servers = append(o.Servers, load.Server{Name: n.Name, API: n.API(), Messaging: n.Messaging()})
	}
	b.load = load.Start(t, o)
	return b
}

// run lets faults happen one after the other, and looks at what was seen. The first
// is nothing, to compare with.
func (b *bed) run(all ...fault) {
	b.t.Helper()
	for _, f := range chosen(b.t, b.seed, all) {
		b.happens(f)
	}
	b.load.Rest()
	time.Sleep(b.rules.Late)
	b.load.Audit()
	seen := b.load.Leave()
	for _, n := range b.nodes {
		b.delivered(n)
		b.counts(n)
	}
	b.load.Collect(b.bucket)
	seen.Faults, seen.Deaths, seen.Full, seen.Dropped = b.faults, b.deaths, b.full, int(b.dropped)
	b.tell(seen)
}

// happens lets one fault begin, last, end and settle.
func (b *bed) happens(f fault) {
	b.t.Helper()
	h := history.Fault{Name: f.name, Began: b.load.Now()}
	b.t.Logf("%7.1f s: %s", h.Began.Seconds(), f.name)
	f.begin()
	time.Sleep(f.time())
	f.end()
	h.Ended = b.load.Now()
	for _, n := range b.nodes {
		n.Ready()
	}
	settle := b.settle
	if f.cuts {
		settle += f.time()
	}
	h.Settled = h.Ended + settle
	time.Sleep(h.Settled - b.load.Now())
	h.Until = b.load.Now()
	b.faults = append(b.faults, h)
	b.load.Audit()
	b.load.Again()
}

// tell prints what was seen, and fails if a promise was broken.
func (b *bed) tell(seen *history.History) {
	b.t.Helper()
	frames := 0
	for _, c := range seen.Connections {
		frames += len(c.Frames)
	}
	b.t.Logf("%d writes, %d reads, %d messages and events, %d connections, %d frames, %d uses of tokens, %d records, of which %d were dropped and counted",
		len(seen.Writes), len(seen.Reads), len(seen.Sent), len(seen.Connections), frames, len(seen.Redemptions), len(seen.Logged), seen.Dropped)
	odd := b.load.Odd()
	for _, what := range slices.Sorted(maps.Keys(odd)) {
		b.t.Logf("%d times: %s", odd[what], what)
	}
	b.t.Logf("the longest time without an acknowledged write, and without a frame of some sender of the room:\n%s", seen.Report())
	const shown = 10
	times := map[history.Kind]int{}
	for _, v := range seen.Check(b.rules) {
		if times[v.Kind]++; times[v.Kind] <= shown {
			b.t.Error(v)
		}
	}
	for kind, n := range times {
		if n > shown {
			b.t.Errorf("%s: %d cases", kind, n)
		}
	}
	if len(seen.Writes) < 20 || len(seen.Sent) < 200 || frames < 1000 || len(seen.Redemptions) < 4 || len(seen.Logged) < 100 {
		b.t.Error("the load did not do its work")
	}
}

// delivered waits until no record waits on a node.
func (b *bed) delivered(n *lab.Node) {
	b.t.Helper()
	limit := time.Now().Add(time.Minute)
	for {
		queued, asked := n.Metric("hubbub_chatlog_queued_bytes")
		spooled, _ := n.Metric("hubbub_chatlog_spool_bytes")
		if asked && queued+spooled == 0 {
			return
		}
		if time.Now().After(limit) {
			b.t.Errorf("node %s has %.0f bytes of records queued and %.0f in its store after a minute", n.Name, queued, spooled)
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// counts adds what a node says that it dropped, before the count is gone.
func (b *bed) counts(n *lab.Node) {
	dropped, _ := n.Metric("hubbub_chatlog_dropped_records_total")
	b.dropped += dropped
}

// kills returns what kills nodes at once.
func (b *bed) kills(nodes ...*lab.Node) func() {
	return func() {
		for _, n := range nodes {
			b.counts(n)
		}
		for _, n := range nodes {
			n.Kill()
			b.deaths = append(b.deaths, history.Death{Node: n.Name, At: b.load.Now()})
		}
	}
}

// starts returns what starts nodes again.
func (b *bed) starts(nodes ...*lab.Node) func() {
	return func() {
		for _, n := range nodes {
			n.Run(0)
		}
	}
}

// cuts returns what cuts all wires between two groups of sides.
func (b *bed) cuts(group, other []string) func() {
	return func() { b.lab.Wires(group, other, lab.Wire{Cut: true}) }
}

// cutsOneWay returns what cuts a wire in one direction.
func (b *bed) cutsOneWay(from, to string) func() {
	return func() { b.lab.Wire(from, to, lab.Wire{Cut: true}) }
}

// slow returns what makes the wires between sides slow and lossy.
func (b *bed) slow(sides ...string) func() {
	return func() { b.lab.Wires(sides, sides, lab.Wire{Latency: 200 * time.Millisecond, Loss: 0.02}) }
}

// fills returns what fills a node's disk.
func (b *bed) fills(n *lab.Node) func() {
	return func() {
		b.filled[n.Name] = b.load.Now()
		n.FillDisk()
	}
}

// frees returns what gives it back.
func (b *bed) frees(n *lab.Node) func() {
	return func() {
		n.FreeDisk()
		b.full = append(b.full, history.Full{Node: n.Name, From: b.filled[n.Name], To: b.load.Now() + b.rules.Late})
	}
}
