package history

import (
	"cmp"
	"slices"
)

// message is one that some connection had, or whose sender was told so. To all that
// are connected it must come.
type message struct {
	Sent
	known Time // when anybody first knew that it was taken
}

// frames looks at what connections brought.
func (c *check) frames() {
	sent := map[ID]Sent{}
	for _, m := range c.Sent {
		sent[m.ID] = m
	}
	type whole struct {
		sum uint64
		id  ID
	}
	bytes := map[string]whole{} // by the frame's Id
	for _, conn := range c.Connections {
		if conn.Closed {
			c.add(SentAway, conn.Ended, "viewer %d on node %s", conn.Viewer, conn.Node)
		}
		last := map[int]int{} // number of the last message by stream
		seen := map[ID]bool{}
		ids := map[string]bool{}
		for _, f := range conn.Frames {
			m, known := sent[f.ID]
			switch {
			case f.Room != conn.Room:
				c.add(CrossRoom, f.At, "viewer %d of room %d on node %s got message %v of room %d", conn.Viewer, conn.Room, conn.Node, f.ID, f.Room)
				continue
			case !known || m.Room != f.Room:
				c.add(FromNowhere, f.At, "viewer %d on node %s got message %v", conn.Viewer, conn.Node, f.ID)
				continue
			case m.Refused:
				c.add(RefusedButOut, f.At, "viewer %d on node %s got message %v", conn.Viewer, conn.Node, f.ID)
			}
			if w, known := bytes[f.Frame]; !known {
				bytes[f.Frame] = whole{f.Sum, f.ID}
			} else if (w != whole{f.Sum, f.ID}) {
				c.add(Differs, f.At, "message %v on node %s, frame %s", f.ID, conn.Node, f.Frame)
			}
			switch {
			case seen[f.ID] || ids[f.Frame]:
				c.add(Duplicate, f.At, "viewer %d on node %s got message %v again, frame %s", conn.Viewer, conn.Node, f.ID, f.Frame)
			case f.N < last[f.Stream]:
				c.add(OutOfOrder, f.At, "viewer %d on node %s got message %v behind number %d", conn.Viewer, conn.Node, f.ID, last[f.Stream])
			}
			seen[f.ID], ids[f.Frame] = true, true
			last[f.Stream] = max(last[f.Stream], f.N)
		}
	}
	c.gaps()
}

// gaps looks for messages that did not come on connections that lived on.
//
// A connection must bring, of each sender's connection, a row without a hole, from
// what was sent rules.Join after its 101 on. The row may end early only if the
// connection ended before the last of it was due, or if the node that took the rest
// died with it.
func (c *check) gaps() {
	streams := map[int]map[int][]message{} // by room and stream, by number
	seen := c.firstSeen()
	for _, m := range c.Sent {
		known, came := seen[m.ID]
		if m.Acked > 0 && (!came || m.Acked < known) {
			known, came = m.Acked, true
		}
		if !came || m.Refused {
			continue
		}
		if streams[m.Room] == nil {
			streams[m.Room] = map[int][]message{}
		}
		streams[m.Room][m.Stream] = append(streams[m.Room][m.Stream], message{m, known})
	}
	for _, room := range streams {
		for _, row := range room {
			slices.SortFunc(row, func(a, b message) int { return cmp.Compare(a.N, b.N) })
		}
	}
	for _, conn := range c.Connections {
		got := map[ID]bool{}
		first, last := map[int]int{}, map[int]int{}
		for _, f := range conn.Frames {
			got[f.ID] = true
			if n := first[f.Stream]; n == 0 || f.N < n {
				first[f.Stream] = f.N
			}
			last[f.Stream] = max(last[f.Stream], f.N)
		}
		for stream, row := range streams[conn.Room] {
			missing, example := 0, message{}
			for _, m := range row {
				if got[m.ID] {
					continue
				}
				joined := m.At >= conn.Opened+c.rules.Join
				hole := m.N < last[stream] && (joined || m.N > first[stream])
				tail := m.N > last[stream] && joined && c.due(m.known) < conn.Ended && (m.Node == conn.Node || !c.diedWith(m.Node, m.known))
				if hole || tail {
					if missing++; missing == 1 {
						example = m
					}
				}
			}
			if missing > 0 {
				c.add(Gap, example.known, "viewer %d on node %s, connected from %.3f s to %.3f s, misses %d from message %v on, sent to node %s at %.3f s; the last that it had is number %d",
					conn.Viewer, conn.Node, conn.Opened.Seconds(), conn.Ended.Seconds(), missing, example.ID, example.Node, example.At.Seconds(), last[stream])
			}
		}
	}
}

// due is when what was taken at a time must be everywhere: soon, or when the fault
// that it met has ended and has settled.
func (c *check) due(taken Time) Time {
	due := taken + c.rules.Late
	for _, f := range c.Faults {
		if f.Began <= due && taken <= f.Settled {
			due = max(due, f.Settled)
		}
	}
	return due
}
