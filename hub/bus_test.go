package hub

import (
	"fmt"
	"testing"
	"time"

	"hubbub/engine"
	"hubbub/ivschat"
)

// two are two nodes of a cluster that compare their numbers when the test says so.
func two(t *testing.T) (a, b *node) {
	t.Helper()
	nodes := engines(t)
	for _, e := range nodes[:2] {
		eventually(t, "it hears the others", func() bool { return len(e.Bus().Members()) == 2 })
	}
	a = start(t, func(s *setup) { s.engine = nodes[0] })
	b = start(t, func(s *setup) { s.engine = nodes[1] })
	b.clock.nanos.Store(a.clock.nanos.Load())
	for _, n := range []*node{a, b} {
		n.cluster.stop()
		n.cluster.done.Wait()
	}
	return a, b
}

// knows says whether a node has a number for the room.
func (n *node) knows(room ivschat.ARN) bool {
	n.cluster.mu.Lock()
	defer n.cluster.mu.Unlock()
	_, known := n.cluster.told[room]
	return known
}

// pass lets time go by in a cluster, in small steps if the nodes hear one another
// meanwhile.
func pass(t *testing.T, d time.Duration, hear bool, nodes ...*node) {
	step := d
	if hear {
		step = 10 * time.Minute
	}
	for ; d > 0; d -= step {
		for _, n := range nodes {
			n.clock.advance(step)
		}
		for _, n := range nodes {
			if hear {
				n.cluster.compare(t.Context())
			}
			n.cluster.forget(n.clock.now())
		}
	}
}

func event(t *testing.T, n *node, room ivschat.ARN, name string) {
	t.Helper()
	_, err := n.SendEvent(t.Context(), room, name, nil)
	ok(t, err)
}

// come is a viewer whose session is long.
func come(n *node, room ivschat.ARN) *client {
	s := n.session(room, "viewer")
	s.SessionExpires = n.clock.now().Add(24 * time.Hour)
	return n.connect(s)
}

// deaf has a node not hear what is told in the room, until it is healed.
func deaf(t *testing.T, n *node, room ivschat.ARN) (heal func()) {
	t.Helper()
	r := n.find(room)
	r.subscription.Close()
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		var err error
		r.subscription, err = n.cluster.bus.Subscribe(subject(room), func(from engine.Run, data []byte) []byte {
			n.cluster.hear(r, from, data)
			return nil
		})
		ok(t, err)
	}
}

// settled returns when the other nodes know of what n subscribed to, and n has
// told them what it was to tell.
func settled(t *testing.T, n *node) {
	t.Helper()
	_, err := n.cluster.bus.Ask(t.Context(), "nothing")
	ok(t, err)
}

// watched is a room of both nodes with a viewer on b, who has its first event.
func watched(t *testing.T, a, b *node) (room ivschat.ARN, c *client) {
	t.Helper()
	room = a.room()
	ok(t, b.registry.Sync(t.Context()))
	c = come(b, room)
	event(t, a, room, "first")
	c.want("EVENT  first")
	return room, c
}

// loses has b lose an event of the room, and hear no more until it is healed.
func loses(t *testing.T, a, b *node, room ivschat.ARN) (heal func()) {
	t.Helper()
	hear := deaf(t, b, room)
	settled(t, b)
	event(t, a, room, "lost")
	settled(t, a) // it is on its way to nobody
	return func() {
		hear()
		settled(t, b)
	}
}

// dropped waits until the viewer is, and so many on the node were since they missed
// something.
func dropped(t *testing.T, n *node, c *client, times int) {
	t.Helper()
	if text, err := c.read(); err == nil {
		t.Fatalf("a viewer goes on with a gap: %s", text)
	}
	eventually(t, "the viewer is counted", func() bool {
		return n.count("hubbub_hub_viewers_gone_total", string(missedMessages)) == times
	})
}

func TestRoomsThatNobodyUsesAreForgotten(t *testing.T) {
	a, b := two(t)

	// The number of a room with viewers anywhere stays.
	room, c := watched(t, a, b)
	pass(t, 5*time.Hour, true, a, b)
	if !a.knows(room) {
		t.Fatal("the number of a room with a viewer on another node is forgotten")
	}

	// Of the others the memory goes back.
	before := live()
	const many = 50_000
	for i := range many {
		a.cluster.tell(ivschat.ARN(fmt.Sprintf("arn:aws:ivschat:us-west-2:123456789012:room/R%011d", i)), sendEvent, "", "", []byte("x"))
	}
	a.cluster.forget(a.clock.now())
	full := live()
	pass(t, 2*time.Hour, true, a, b)
	after := live()
	if n := len(a.cluster.told); n != 1 {
		t.Errorf("%d rooms are remembered, want 1", n)
	}
	if full-before < 5<<20 || after-before > (full-before)/5 {
		t.Errorf("%d rooms take %d bytes, and %d when they are forgotten", many, full-before, after-before)
	}

	// And who stayed has missed nothing, nor has who comes to one that was forgotten.
	event(t, a, room, "second")
	c.want("EVENT  second")
	other := a.room()
	ok(t, b.registry.Sync(t.Context()))
	event(t, a, other, "unheard")
	pass(t, 2*time.Hour, true, a, b)
	if a.knows(other) {
		t.Error("a room without viewers is not forgotten")
	}
	d := come(b, other)
	event(t, a, other, "third")
	d.want("EVENT  third")
	event(t, a, room, "third")
	c.want("EVENT  third")
	if n := b.count("hubbub_hub_viewers_gone_total", string(missedMessages)); n != 0 {
		t.Errorf("%d viewers were dropped, and nobody missed anything", n)
	}
}

func TestAGapIsSeenThoughTheOtherNodeBeganAnew(t *testing.T) {
	a, b := two(t)
	for _, next := range []struct {
		name string
		come func(room ivschat.ARN) // what b hears first
	}{
		{"by the next message", func(room ivschat.ARN) { event(t, a, room, "later") }},
		{"by the next comparison", func(ivschat.ARN) { b.cluster.compare(t.Context()) }},
	} {
		t.Run(next.name, func(t *testing.T) {
			room, c := watched(t, a, b)
			before := b.count("hubbub_hub_viewers_gone_total", string(missedMessages))
			heal := loses(t, a, b, room)
			pass(t, 2*time.Hour, false, a, b)
			if a.knows(room) {
				t.Fatal("the room is not forgotten")
			}
			heal()
			next.come(room)
			dropped(t, b, c, before+1)

			// Who comes then is not dropped again.
			d := come(b, room)
			b.cluster.compare(t.Context())
			event(t, a, room, "after")
			d.want("EVENT  after")
			event(t, a, room, "then")
			b.cluster.compare(t.Context())
			b.cluster.compare(t.Context())
			d.want("EVENT  then")
			d.CloseNow()
			eventually(t, "nobody is left", func() bool { return b.Viewers() == 0 })
		})
	}
}

// A message of which nothing came, not even a later one, is on its way for a while,
// however often the nodes compare, and then lost.
func TestAGapBehindWhichNothingComes(t *testing.T) {
	a, b := two(t)
	room, c := watched(t, a, b)
	loses(t, a, b, room)()
	for range 3 {
		b.cluster.compare(t.Context())
	}
	if n := b.count("hubbub_hub_viewers_gone_total", string(missedMessages)); n != 0 {
		t.Errorf("%d viewers were dropped while it may have been on its way", n)
	}
	b.clock.advance(underWay)
	b.cluster.compare(t.Context())
	dropped(t, b, c, 1)
}

// A node that has forgotten nothing is taken at its word however long it was away,
// as one that has just started is.
func TestANodeThatForgetsNothingIsTakenAtItsWord(t *testing.T) {
	a, b := two(t)
	room, c := watched(t, a, b)
	b.clock.advance(5 * time.Hour)
	b.cluster.compare(t.Context())
	event(t, a, room, "second")
	c.want("EVENT  second")
}
