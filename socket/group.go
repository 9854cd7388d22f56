package socket

import (
	"slices"
	"sync"
)

// Group is a set of connections that get the same frames. Calls of one group and
// of its members take effect in the order of the calls: what is sent before a
// member is removed or closed reaches it first, and a member gets nothing that
// was sent before it was added. The methods never block on a connection.
type Group struct {
	server *Server

	mu      sync.Mutex
	members []*Conn
	place   map[*Conn]int // in members
}

// NewGroup makes an empty group.
func (s *Server) NewGroup() *Group { return &Group{server: s, place: map[*Conn]int{}} }

// Add makes c a member; one that is a member stays one.
func (g *Group) Add(c *Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, ok := g.place[c]; ok {
		return
	}
	g.place[c] = len(g.members)
	g.members = append(g.members, c)
}

// Remove ends the membership; what was sent to the group before still reaches c.
func (g *Group) Remove(c *Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
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
	}
}

// Len is the number of members.
func (g *Group) Len() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.members)
}

// share is how many connections one goroutine writes to in turn: enough to make
// its start cheap, few enough that a big group uses every processor.
const share = 256

// Send queues the frame for every member and returns for how many. The writes
// happen on goroutines of their own; a member whose earlier frames are being
// written gets this one with the next write.
func (g *Group) Send(f *Frame) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	var idle []*Conn // that nobody writes to at the moment
	for _, c := range g.members {
		if c.queue(f) {
			if idle == nil {
				idle = make([]*Conn, 0, min(share, len(g.members)))
			}
			if idle = append(idle, c); len(idle) == share {
				g.server.write(idle)
				idle = nil
			}
		}
	}
	if len(idle) > 0 {
		g.server.write(idle)
	}
	return len(g.members)
}
