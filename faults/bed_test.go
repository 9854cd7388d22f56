package faults

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
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
	random *rand.Rand

	faults  []history.Fault
	deaths  []history.Death
	full    []history.Full
	dropped float64                 // records, by servers that are dead
	filled  map[string]history.Time // since when a node's disk is full
}

// fault is something that goes wrong for a while, with some nodes.
type fault struct {
	name       string
	short      int                // how long it lasts in a short run, in seconds; 0 leaves it out
	long       int                // in a long one
	at         func() []*lab.Node // chosen when it begins; nil is all
	begin, end func([]*lab.Node)  // nil does nothing

	// away is that the other nodes have to do without these.
	away bool

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
	b := &bed{t: t, seed: seed, lab: lab.New(t, seed, names...), settle: settle, random: rand.New(rand.NewPCG(seed, 'b')), filled: map[string]history.Time{}, rules: history.Rules{
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
	b.load.Audit(everything)
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
	nodes := b.nodes
	if f.at != nil {
		nodes = f.at()
	}
	var names []string
	for _, n := range nodes {
		names = append(names, n.Name)
	}
	h := history.Fault{Name: f.name, Began: b.load.Now()}
	if f.away {
		h.Away = names
	}
	b.t.Logf("%7.1f s: %s, of %v", h.Began.Seconds(), f.name, names)
	if f.begin != nil {
		f.begin(nodes)
	}
	time.Sleep(f.time())
	if f.end != nil {
		f.end(nodes)
	}
	h.Ended = b.load.Now()
	for _, n := range b.nodes {
		n.Ready()
	}
	settle := b.settle
	if f.cuts {
		settle += f.time()
	}
	h.Settled = h.Ended + settle
	if f.away { // so that it is seen whether the others go on
		h.Settled = max(h.Settled, h.Began+b.rules.Resume)
	}
	time.Sleep(h.Settled - b.load.Now())
	h.Until = b.load.Now()
	b.faults = append(b.faults, h)
	b.load.Audit(recent)
	b.load.Again()
	b.load.Home()
}

// How many of the youngest rooms are looked at: after each fault, and at the end.
const (
	recent     = 500
	everything = 1 << 30
)

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

// kill kills nodes at once.
func (b *bed) kill(nodes []*lab.Node) {
	for _, n := range nodes {
		b.counts(n)
	}
	var killing sync.WaitGroup
	for _, n := range nodes {
		killing.Go(n.Kill)
	}
	killing.Wait()
	for _, n := range nodes {
		b.deaths = append(b.deaths, history.Death{Node: n.Name, At: b.load.Now()})
	}
}

// stop ends nodes at once, as an operator would.
func (b *bed) stop(nodes []*lab.Node) {
	for _, n := range nodes {
		b.counts(n)
		n.Stop()
	}
}

// start starts nodes again.
func (b *bed) start(nodes []*lab.Node) { b.startOff(nodes, 0) }

// startOff starts nodes with clocks that are off.
func (b *bed) startOff(nodes []*lab.Node, skew time.Duration) {
	for _, n := range nodes {
		n.Run(skew)
	}
}

// skew starts nodes anew with clocks that are off by so much.
func (b *bed) skew(by time.Duration) func([]*lab.Node) {
	return func(nodes []*lab.Node) {
		for _, n := range nodes {
			b.stop([]*lab.Node{n})
			n.Run(by)
			n.Ready()
		}
	}
}

func (b *bed) pause(nodes []*lab.Node) {
	for _, n := range nodes {
		n.Pause()
	}
}

func (b *bed) resume(nodes []*lab.Node) {
	for _, n := range nodes {
		n.Resume()
	}
}

// others are the names of the other nodes.
func (b *bed) others(nodes []*lab.Node) (names []string) {
	for _, n := range b.nodes {
		if !slices.Contains(nodes, n) {
			names = append(names, n.Name)
		}
	}
	return names
}

// cut cuts the wires between nodes and the other nodes.
func (b *bed) cut(nodes []*lab.Node) { b.wires(nodes, b.others(nodes), true, true) }

// unheard cuts those by which the other nodes hear these; deaf the others.
func (b *bed) unheard(nodes []*lab.Node) { b.wires(nodes, b.others(nodes), true, false) }
func (b *bed) deaf(nodes []*lab.Node)    { b.wires(nodes, b.others(nodes), false, true) }

// cutOff cuts all wires of nodes.
func (b *bed) cutOff(nodes []*lab.Node) {
	b.wires(nodes, append(b.others(nodes), lab.Clients, lab.Outside), true, true)
}

// side cuts the wires between nodes and a side, there and back or in one direction.
func (b *bed) side(name string, there, back bool) func([]*lab.Node) {
	return func(nodes []*lab.Node) { b.wires(nodes, []string{name}, there, back) }
}

func (b *bed) wires(nodes []*lab.Node, sides []string, there, back bool) {
	for _, n := range nodes {
		for _, s := range sides {
			b.lab.Wire(n.Name, s, lab.Wire{Cut: there})
			b.lab.Wire(s, n.Name, lab.Wire{Cut: back})
		}
	}
}

func (b *bed) heal([]*lab.Node) { b.lab.Heal() }

// slow makes the wires of nodes, to clients and among them, slow and lossy.
func (b *bed) slow(nodes []*lab.Node) {
	sides := []string{lab.Clients}
	for _, n := range nodes {
		sides = append(sides, n.Name)
	}
	b.lab.Wires(sides, sides, lab.Wire{Latency: 200 * time.Millisecond, Loss: 0.02})
}

// fill fills nodes' disks, and free gives them back.
func (b *bed) fill(nodes []*lab.Node) {
	for _, n := range nodes {
		b.filled[n.Name] = b.load.Now()
		n.FillDisk()
	}
}

func (b *bed) free(nodes []*lab.Node) {
	for _, n := range nodes {
		n.FreeDisk()
		b.full = append(b.full, history.Full{Node: n.Name, From: b.filled[n.Name], To: b.load.Now() + b.rules.Late})
	}
}

// leader waits for the node that leads the bucket of rooms to be the only one that
// says so.
func (b *bed) leader() []*lab.Node {
	b.t.Helper()
	for limit := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		var leaders []*lab.Node
		for _, n := range b.nodes {
			if leads, _ := n.Metric("hubbub_cluster_leader", `of="resources"`); leads == 1 {
				leaders = append(leaders, n)
			}
		}
		if len(leaders) == 1 {
			return leaders
		}
		if time.Now().After(limit) {
			b.t.Fatalf("%d nodes say that they lead", len(leaders))
		}
	}
}

// follower is some node that does not lead.
func (b *bed) follower() []*lab.Node {
	b.t.Helper()
	leads := b.leader()[0]
	followers := slices.DeleteFunc(slices.Clone(b.nodes), func(n *lab.Node) bool { return n == leads })
	i := b.random.IntN(len(followers))
	return followers[i : i+1]
}
