package history

import (
	"maps"
	"slices"
)

// rooms looks at what nodes said of the rooms that writers made.
func (c *check) rooms() {
	writes := map[string][]Write{}
	for _, w := range c.Writes {
		writes[w.Room] = append(writes[w.Room], w)
	}
	for _, r := range c.Reads {
		c.room(r, nil, writes[r.Room])
	}
	for _, l := range c.Lists {
		listed := map[string]Listed{}
		for _, e := range l.Rooms {
			if other, twice := listed[e.Room]; twice && other.ARN != e.ARN {
				c.add(MadeTwice, l.Began, "room %s is %s and %s on node %s", e.Room, other.ARN, e.ARN, l.Node)
			}
			listed[e.Room] = e
			if len(e.Fields) == 0 {
				c.add(HalfMade, l.Began, "room %s is listed on node %s with nothing in it", e.Room, l.Node)
				continue
			}
			c.room(Read{l.Node, e.Room, e.Fields, l.Began, l.Ended}, l.Hides, writes[e.Room])
		}
		for room, all := range writes {
			if _, there := listed[room]; !there {
				c.room(Read{l.Node, room, nil, l.Began, l.Ended}, l.Hides, all)
			}
		}
	}
}

// room compares what a node said, which hides some fields, with what was asked for.
func (c *check) room(r Read, hides []string, writes []Write) {
	// What was acknowledged well before the read is certain; what has no answer, or
	// got it about then, may be or not.
	certain := func(w Write) bool { return w.Outcome == Acked && w.Ended+c.rules.Lag <= r.Began }
	possible := func(w Write) bool { return w.Outcome != Refused && w.Began <= r.Ended }
	var made, maybe, deleted, maybeDeleted bool
	wanted := map[string][]string{} // by field, the values that may be there
	for _, w := range writes {
		switch {
		case !possible(w):
			continue
		case w.Op == Create:
			maybe, made = true, certain(w)
			for field, value := range w.Fields {
				wanted[field] = []string{value}
			}
			continue
		case w.Op == Delete:
			maybeDeleted, deleted = true, deleted || certain(w)
			continue
		}
		for field, value := range w.Fields {
			if len(wanted[field]) == 0 {
				wanted[field] = []string{""}
			}
			if certain(w) {
				// What has no answer yet may still come about, behind this one.
				wanted[field] = c.open(writes, r, field)
			}
			wanted[field] = append(wanted[field], value)
		}
	}
	switch {
	case r.Fields == nil:
		if made && !maybeDeleted {
			c.add(LostWrite, r.Began, "room %s is not there on node %s", r.Room, r.Node)
		}
		return
	case !maybe:
		c.add(FromNowhere, r.Began, "room %s on node %s", r.Room, r.Node)
		return
	case deleted:
		c.add(Resurrected, r.Began, "room %s on node %s", r.Room, r.Node)
		return
	}
	for _, field := range slices.Sorted(maps.Keys(wanted)) {
		got, values := r.Fields[field], wanted[field]
		if slices.Contains(values, got) || slices.Contains(hides, field) {
			continue
		}
		kind := HalfMade
		if slices.ContainsFunc(writes, func(w Write) bool { return w.asks(field, got) }) {
			kind = LostWrite // it was so before
		}
		c.add(kind, r.Began, "%s of room %s is %q on node %s, wanted %q", field, r.Room, got, r.Node, values)
	}
	for _, field := range slices.Sorted(maps.Keys(r.Fields)) {
		if wanted[field] == nil {
			c.add(HalfMade, r.Began, "room %s has %s on node %s, which nobody asked for", r.Room, field, r.Node)
		}
	}
}

// asks says whether the field has that value after the write.
func (w Write) asks(field, value string) bool {
	v, there := w.Fields[field]
	return v == value && (there || w.Op == Create)
}

// open are the values of a field that were asked for without a certain answer.
func (c *check) open(writes []Write, r Read, field string) (values []string) {
	for _, w := range writes {
		if value, there := w.Fields[field]; there && w.Op == Change && w.Outcome == Unknown && w.Began <= r.Ended {
			values = append(values, value)
		}
	}
	return values
}
