package history

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Rules are the times within which promises hold.
type Rules struct {
	Join  time.Duration // what is sent so long after a 101 comes on the connection
	Late  time.Duration // how late a frame may be when nothing is wrong
	Dying time.Duration // what a node took so long before its kill may be lost with it
	Lag   time.Duration // how long after the answer to a write other nodes may not show it

	Resume time.Duration // after a node went, each living node takes writes again
	Pause  time.Duration // how late a message is at most from one living node to another
}

// Kind is a promise that is broken.
type Kind string

const (
	LostWrite     Kind = "an acknowledged write is lost"
	Resurrected   Kind = "a deleted room is back"
	HalfMade      Kind = "a room is not as anybody wanted it"
	FromNowhere   Kind = "there is what nobody made"
	MadeTwice     Kind = "one request made two rooms"
	CrossRoom     Kind = "a frame of another room"
	OutOfOrder    Kind = "a sender's messages are out of order"
	Duplicate     Kind = "a frame came twice on one connection"
	Gap           Kind = "a frame did not come on a living connection"
	Differs       Kind = "a frame is not the same for all"
	RefusedButOut Kind = "a refused message came"
	SentAway      Kind = "a viewer was sent away for good"
	UsedTwice     Kind = "a token opened two connections"
	UnusedRefused Kind = "an unused token was refused"
	NotLogged     Kind = "a delivered message is not in the log"
	LoggedWrong   Kind = "a record is in the log of another room"
	NoWrites      Kind = "a living node did not take writes again"
	Paused        Kind = "a message among living nodes was late"
)

// Violation is one case of a broken promise.
type Violation struct {
	Kind Kind
	At   Time
	What string
}

func (v Violation) String() string {
	return fmt.Sprintf("%8.3f s: %s: %s", v.At.Seconds(), v.Kind, v.What)
}

// Check returns every violation, in the order of time.
func (h *History) Check(r Rules) []Violation {
	c := &check{History: h, rules: r}
	c.rooms()
	c.frames()
	c.tokens()
	c.log()
	c.goesOn()
	slices.SortStableFunc(c.found, func(a, b Violation) int { return cmp.Compare(a.At, b.At) })
	return c.found
}

// check is a history that is looked at, and what was found.
type check struct {
	*History
	rules Rules
	found []Violation
}

func (c *check) add(k Kind, at Time, format string, args ...any) {
	c.found = append(c.found, Violation{k, at, fmt.Sprintf(format, args...)})
}

// tokens looks at how often each token was used.
func (c *check) tokens() {
	type use struct {
		opened, unknown int
		refused         Time
	}
	uses := map[int]*use{}
	for _, r := range c.Redemptions {
		u := uses[r.Token]
		if u == nil {
			u = &use{}
			uses[r.Token] = u
		}
		switch r.Outcome {
		case Acked:
			if u.opened++; u.opened > 1 {
				c.add(UsedTwice, r.At, "token %d on node %s", r.Token, r.Node)
			}
		case Unknown:
			u.unknown++
		case Refused:
			u.refused = max(u.refused, r.At)
		}
	}
	for token, u := range uses {
		if u.opened+u.unknown == 0 && u.refused > 0 {
			c.add(UnusedRefused, u.refused, "token %d", token)
		}
	}
}

// log looks for a record of each frame that anybody had.
func (c *check) log() {
	logged := map[ID]bool{}
	for _, l := range c.Logged {
		logged[l.ID] = true
		if l.Room != l.Content || !c.Kept[l.Room] {
			c.add(LoggedWrong, 0, "message %v of room %d is filed under room %d", l.ID, l.Content, l.Room)
		}
	}
	seen := c.firstSeen()
	excused := 0
	for _, m := range c.Sent {
		at, came := seen[m.ID]
		if !came || !c.Kept[m.Room] || logged[m.ID] || c.diedWith(m.Node, at) {
			continue
		}
		if slices.ContainsFunc(c.Full, func(f Full) bool { return f.From <= at && at <= f.To }) {
			if excused++; excused <= c.Dropped {
				continue
			}
		}
		c.add(NotLogged, at, "message %v of room %d, sent to node %s", m.ID, m.Room, m.Node)
	}
}

// diedWith says whether a node was killed so soon after that time that what it
// took then may be lost.
func (c *check) diedWith(node string, at Time) bool {
	return slices.ContainsFunc(c.Deaths, func(d Death) bool { return d.Node == node && at <= d.At && d.At-at <= c.rules.Dying })
}

// firstSeen is when each message was first on any connection.
func (c *check) firstSeen() map[ID]Time {
	first := map[ID]Time{}
	for _, conn := range c.Connections {
		for _, f := range conn.Frames {
			if at, known := first[f.ID]; !known || f.At < at {
				first[f.ID] = f.At
			}
		}
	}
	return first
}
