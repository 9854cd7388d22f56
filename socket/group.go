package socket

import (
	"slices"
	"sync"
)

// Group is a set of connections that get the same frames. Calls of one group and
// of its members take effect in the order of the calls: what is sent before a
// member is removed or closed reaches it first, and a member gets nothing that
// was sent before it was added. All members see one order. The methods may be
// called from any goroutine and never wait for a connection.
type Group struct {
	server *Server

	// The outbox of a member is locked while mu is held, never the other way round:
	// without that two sends at once could reach two members in different orders.
	mu      sync.Mutex
	members []*Conn       // of the portable transport
	place   map[*Conn]int // in members
	spread  spread        // the members on event loops
}

// NewGroup makes an empty group.
func (s *Server) NewGroup() *Group { return &Group{server: s, place: map[*Conn]int{}} }

// Add makes c, a connection of the same server, a member; one that is a member
// stays one.
func (g *Group) Add(c *Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.own.loop != nil {
		g.spread.add(g, c)
		return
	}
	if _, ok := g.place[c]; ok {
		return
	}
	g.place[c] = len(g.members)
	g.members = append(g.members, c)
}

// Remove ends the membership; what was sent to the group before still reaches c.
// Who ends is not removed by itself: Handler.Closed is the place for that.
func (g *Group) Remove(c *Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.own.loop != nil {
		g.spread.remove(g, c)
		return
	}
	at, ok := g.place[c]
	if !ok {
		return
	}
	last := len(g.members) - 1
	moved := g.members[last]
	g.members[at] = moved
	g.place[moved] = at
	g.members[last] = nil
	g.members = g.members[:last]
	delete(g.place, c)
	if cap(g.members) > 64 && len(g.members) < cap(g.members)/4 { // a storm is over
		g.members = slices.Clip(slices.Clone(g.members))
		place := make(map[*Conn]int, len(g.members)) // a map does not shrink
		for at, c := range g.members {
			place[c] = at
		}
		g.place = place
	}
}

// Len is the number of members.
func (g *Group) Len() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.members) + g.spread.count
}

// Send queues the frame for every member and returns how many members there are.
// The writes happen on other goroutines; a member whose earlier frames are being
// written gets this one with the next write.
func (g *Group) Send(f *Frame) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.spread.send(f)
	var w *writer // with those that had none
	for _, c := range g.members {
		if !c.queue(f) {
			continue
		}
		if w == nil {
			w = g.server.writer()
		}
		if w.conns = append(w.conns, c); len(w.conns) == share {
			g.server.running.Go(w.start)
			w = nil
		}
	}
	if w != nil {
		g.server.running.Go(w.start)
	}
	return len(g.members) + g.spread.count
}
