package history

import (
	"slices"
	"time"
)

// living are the nodes that had to go on through a fault; none if they were no
// majority, or if nobody was away.
func (h *History) living(f Fault) (nodes []string) {
	for _, n := range h.Nodes {
		if !slices.Contains(f.Away, n) {
			nodes = append(nodes, n)
		}
	}
	if len(f.Away) == 0 || 2*len(nodes) <= len(h.Nodes) {
		return nil
	}
	return nodes
}

// goesOn holds the nodes that are left to their promises.
func (c *check) goesOn() {
	for _, f := range c.Faults {
		living := c.living(f)
		for _, node := range living {
			resumed := c.resumed(f, node)
			if limit := min(f.Began+c.rules.Resume, f.Until); resumed > limit {
				c.add(NoWrites, limit, "node %s, through %s from %.3f s on", node, f.Name, f.Began.Seconds())
			}
		}
		for _, l := range c.between(f, living) {
			if l.took > c.rules.Pause {
				c.add(Paused, l.At, "message %v, sent to node %s at %.3f s, was at viewer %d on node %s after %.3f s, through %s",
					l.ID, l.Node, l.At.Seconds(), l.viewer.Viewer, l.viewer.Node, l.took.Seconds(), f.Name)
			}
		}
	}
}

// resumed is when a node first acknowledged a write that it was asked for since the
// fault began; for ever if it did not.
func (c *check) resumed(f Fault, node string) Time {
	first := Time(1<<63 - 1)
	for _, w := range c.Writes {
		if w.Node == node && w.Outcome == Acked && w.Began >= f.Began {
			first = min(first, w.Ended)
		}
	}
	return first
}

// leg is the way of a message to one connection.
type leg struct {
	Sent
	viewer *Connection
	took   time.Duration
}

// between are the ways of what was said through a fault on connections to some
// nodes, to other such connections. What did not come is not among them: that is a
// gap, if the connection lived on.
func (h *History) between(f Fault, nodes []string) (legs []leg) {
	said := map[ID]Sent{}
	for _, m := range h.Sent {
		if m.Sender != 0 && m.At >= f.Began && m.At <= f.Until && slices.Contains(nodes, m.Node) {
			said[m.ID] = m
		}
	}
	for i := range h.Connections {
		conn := &h.Connections[i]
		if !slices.Contains(nodes, conn.Node) {
			continue
		}
		for _, frame := range conn.Frames {
			if m, is := said[frame.ID]; is && conn.Opened <= m.At {
				legs = append(legs, leg{m, conn, frame.At - m.At})
			}
		}
	}
	return legs
}
