package history

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

const s = time.Second

var rules = Rules{Join: s, Late: 2 * s, Dying: s / 4, Lag: s, Resume: 5 * s, Pause: s / 2}

// wrong runs a check, and compares the kinds of what it finds.
func wrong(t *testing.T, h History, want ...Kind) {
	t.Helper()
	var got []Kind
	found := h.Check(rules)
	for _, v := range found {
		got = append(got, v.Kind)
	}
	if slices.Sort(got); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
		t.Errorf("found %q, want %q", found, want)
	}
}

// said are messages 1 to n of stream 1 in room 1, sent to node a one a second from
// second 10 on, and acknowledged at once.
func said(n int) (all []Sent) {
	for i := range n {
		at := Time(10+i) * s
		all = append(all, Sent{ID: ID{1, i + 1}, Room: 1, Node: "a", At: at, Acked: at + s/100})
	}
	return all
}

// viewer was connected to room 1 on a node, and got these messages of stream 1.
func viewer(node string, opened, ended Time, numbers ...int) Connection {
	c := Connection{Viewer: 1, Room: 1, Node: node, Opened: opened, Ended: ended}
	for _, n := range numbers {
		c.Frames = append(c.Frames, Frame{ID{1, n}, 1, Time(9+n)*s + s/50, fmt.Sprint("frame", n), uint64(n)})
	}
	return c
}

func TestFrames(t *testing.T) {
	cut := []Fault{{Name: "cut", Began: 11 * s, Ended: 20 * s, Settled: 25 * s, Until: 40 * s}}
	changed := func(c Connection, change func(*Connection)) Connection { change(&c); return c }
	for name, test := range map[string]struct {
		History
		want []Kind
	}{
		"all came":                                 {History{Sent: said(4), Connections: []Connection{viewer("a", 1*s, 30*s, 1, 2, 3, 4), viewer("b", 1*s, 30*s, 1, 2, 3, 4)}}, nil},
		"who came late misses what was before":     {History{Sent: said(4), Connections: []Connection{viewer("a", 11500*time.Millisecond, 30*s, 3, 4)}}, nil},
		"who just came may miss what is under way": {History{Sent: said(4), Connections: []Connection{viewer("a", 10500*time.Millisecond, 30*s, 3, 4)}}, nil},
		"who just came misses nothing behind the first": {History{Sent: said(4), Connections: []Connection{
			viewer("a", 9900*time.Millisecond, 30*s, 1, 3, 4)}}, []Kind{Gap}},
		"who was there misses the first":          {History{Sent: said(4), Connections: []Connection{viewer("a", 1*s, 30*s, 2, 3, 4)}}, []Kind{Gap}},
		"a hole":                                  {History{Sent: said(4), Connections: []Connection{viewer("a", 1*s, 30*s, 1, 2, 4)}}, []Kind{Gap}},
		"a hole on a connection that then ended":  {History{Sent: said(4), Connections: []Connection{viewer("a", 1*s, 14*s, 1, 2, 4)}}, []Kind{Gap}},
		"the end is missing":                      {History{Sent: said(4), Connections: []Connection{viewer("a", 1*s, 30*s, 1, 2)}}, []Kind{Gap}},
		"nothing came":                            {History{Sent: said(4), Connections: []Connection{viewer("a", 1*s, 30*s)}}, []Kind{Gap}},
		"the connection ended before it was due":  {History{Sent: said(4), Connections: []Connection{viewer("a", 1*s, 13500*time.Millisecond, 1, 2)}}, nil},
		"one may be late while a wire is cut":     {History{Faults: cut, Sent: said(4), Connections: []Connection{viewer("b", 1*s, 24*s, 1)}}, nil},
		"but not for ever":                        {History{Faults: cut, Sent: said(4), Connections: []Connection{viewer("b", 1*s, 26*s, 1)}}, []Kind{Gap}},
		"a hole is one even while a wire is cut":  {History{Faults: cut, Sent: said(4), Connections: []Connection{viewer("b", 1*s, 18*s, 1, 3)}}, []Kind{Gap}},
		"the last words of a node":                {History{Deaths: []Death{{"a", 13200 * time.Millisecond}}, Sent: said(4), Connections: []Connection{viewer("b", 1*s, 30*s, 1, 2, 3)}}, nil},
		"what it said long before is not lost":    {History{Deaths: []Death{{"a", 14 * s}}, Sent: said(4), Connections: []Connection{viewer("b", 1*s, 30*s, 1, 2, 3)}}, []Kind{Gap}},
		"nor for its own viewers that live":       {History{Deaths: []Death{{"a", 13200 * time.Millisecond}}, Sent: said(4), Connections: []Connection{viewer("a", 1*s, 30*s, 1, 2, 3)}}, []Kind{Gap}},
		"what nobody had and no sender knows of":  {History{Sent: append(said(1), Sent{ID: ID{1, 2}, Room: 1, Node: "a", At: 11 * s}), Connections: []Connection{viewer("a", 1*s, 30*s, 1)}}, nil},
		"what one had and no sender knows of":     {History{Sent: append(said(1), Sent{ID: ID{1, 2}, Room: 1, Node: "a", At: 11 * s}), Connections: []Connection{viewer("a", 1*s, 30*s, 1, 2), viewer("b", 1*s, 30*s, 1)}}, []Kind{Gap}},
		"twice":                                   {History{Sent: said(2), Connections: []Connection{viewer("a", 1*s, 30*s, 1, 2, 2)}}, []Kind{Duplicate}},
		"twice with another id":                   {History{Sent: said(2), Connections: []Connection{changed(viewer("a", 1*s, 30*s, 1, 2, 2), func(c *Connection) { c.Frames[2].Frame = "other" })}}, []Kind{Duplicate}},
		"two messages with one id":                {History{Sent: said(2), Connections: []Connection{changed(viewer("a", 1*s, 30*s, 1, 2), func(c *Connection) { c.Frames[1].Frame = "frame1" })}}, []Kind{Duplicate, Differs}},
		"the same on two connections of a viewer": {History{Sent: said(2), Connections: []Connection{viewer("a", 1*s, 30*s, 1, 2), viewer("a", 1*s, 30*s, 1, 2)}}, nil},
		"out of order":                            {History{Sent: said(3), Connections: []Connection{viewer("a", 1*s, 30*s, 1, 3, 2)}}, []Kind{OutOfOrder}},
		"other bytes for others":                  {History{Sent: said(2), Connections: []Connection{viewer("a", 1*s, 30*s, 1, 2), changed(viewer("b", 1*s, 30*s, 1, 2), func(c *Connection) { c.Frames[1].Sum = 7 })}}, []Kind{Differs}},
		"of another room":                         {History{Sent: []Sent{{ID: ID{1, 1}, Room: 2, At: 10 * s}}, Connections: []Connection{changed(viewer("a", 1*s, 30*s, 1), func(c *Connection) { c.Frames[0].Room = 2 })}}, []Kind{CrossRoom}},
		"a close frame":                           {History{Connections: []Connection{changed(viewer("a", 1*s, 30*s), func(c *Connection) { c.Closed = true })}}, []Kind{SentAway}},
		"that nobody sent":                        {History{Sent: said(1), Connections: []Connection{viewer("a", 1*s, 30*s, 1, 2)}}, []Kind{FromNowhere}},
		"that was sent to another room":           {History{Sent: []Sent{{ID: ID{1, 1}, Room: 2, At: 10 * s}}, Connections: []Connection{viewer("a", 1*s, 30*s, 1)}}, []Kind{FromNowhere}},
		"that was refused":                        {History{Sent: []Sent{{ID: ID{1, 1}, Room: 1, At: 10 * s, Refused: true}}, Connections: []Connection{viewer("a", 1*s, 30*s, 1)}}, []Kind{RefusedButOut}},
		"refused, and nobody had it":              {History{Sent: []Sent{{ID: ID{1, 1}, Room: 1, At: 10 * s, Refused: true}}, Connections: []Connection{viewer("a", 1*s, 30*s)}}, nil},
	} {
		t.Run(name, func(t *testing.T) { wrong(t, test.History, test.want...) })
	}
}

func TestRooms(t *testing.T) {
	made := Write{Room: "r", Op: Create, Fields: Fields{"length": "5", "tag:a": "1"}, Began: 1 * s, Ended: 2 * s, Outcome: Acked}
	write := func(op Op, field, value string, at Time, o Outcome) Write {
		w := Write{Room: "r", Op: op, Began: at, Ended: at + s/2, Outcome: o}
		if op == Change {
			w.Fields = Fields{field: value}
		}
		return w
	}
	unanswered := made
	unanswered.Outcome = Unknown
	refused := made
	refused.Outcome = Refused
	asMade := Fields{"length": "5", "tag:a": "1"}
	longer := Fields{"length": "9", "tag:a": "1"}
	for name, test := range map[string]struct {
		writes []Write
		at     Time
		shown  Fields
		want   []Kind
	}{
		"as made":                                 {[]Write{made}, 10 * s, asMade, nil},
		"an acknowledged room is not there":       {[]Write{made}, 10 * s, nil, []Kind{LostWrite}},
		"other nodes do not show it yet":          {[]Write{made}, 2500 * time.Millisecond, nil, nil},
		"a room without an answer is there":       {[]Write{unanswered}, 10 * s, asMade, nil},
		"a room without an answer is not there":   {[]Write{unanswered}, 10 * s, nil, nil},
		"a room without an answer, half of it":    {[]Write{unanswered}, 10 * s, Fields{"length": "5"}, []Kind{HalfMade}},
		"a refused room is there":                 {[]Write{refused}, 10 * s, asMade, []Kind{FromNowhere}},
		"a room that nobody asked for":            {nil, 10 * s, asMade, []Kind{FromNowhere}},
		"a room before it was asked for":          {[]Write{made}, s / 2, asMade, []Kind{FromNowhere}},
		"changed":                                 {[]Write{made, write(Change, "length", "9", 5*s, Acked)}, 10 * s, longer, nil},
		"an acknowledged change is lost":          {[]Write{made, write(Change, "length", "9", 5*s, Acked)}, 10 * s, asMade, []Kind{LostWrite}},
		"a change without an answer is there":     {[]Write{made, write(Change, "length", "9", 5*s, Unknown)}, 10 * s, longer, nil},
		"a change without an answer is not there": {[]Write{made, write(Change, "length", "9", 5*s, Unknown)}, 10 * s, asMade, nil},
		"a refused change is there":               {[]Write{made, write(Change, "length", "9", 5*s, Refused)}, 10 * s, longer, []Kind{LostWrite}},
		"one without an answer comes late":        {[]Write{made, write(Change, "length", "9", 3*s, Unknown), write(Change, "length", "7", 5*s, Acked)}, 10 * s, longer, nil},
		"one with an answer does not":             {[]Write{made, write(Change, "length", "9", 3*s, Acked), write(Change, "length", "7", 5*s, Acked)}, 10 * s, longer, []Kind{LostWrite}},
		"a value that nobody asked for":           {[]Write{made}, 10 * s, Fields{"length": "6", "tag:a": "1"}, []Kind{HalfMade}},
		"a field that nobody asked for":           {[]Write{made}, 10 * s, Fields{"length": "5", "tag:a": "1", "tag:x": "1"}, []Kind{HalfMade}},
		"a tag is gone":                           {[]Write{made}, 10 * s, Fields{"length": "5"}, []Kind{HalfMade}},
		"a tag was added":                         {[]Write{made, write(Change, "tag:b", "1", 5*s, Acked)}, 10 * s, Fields{"length": "5", "tag:a": "1", "tag:b": "1"}, nil},
		"an added tag is lost":                    {[]Write{made, write(Change, "tag:b", "1", 5*s, Acked)}, 10 * s, asMade, []Kind{LostWrite}},
		"a tag was taken away":                    {[]Write{made, write(Change, "tag:a", "", 5*s, Acked)}, 10 * s, Fields{"length": "5"}, nil},
		"a tag that was taken away is back":       {[]Write{made, write(Change, "tag:a", "", 5*s, Acked)}, 10 * s, asMade, []Kind{LostWrite}},
		"deleted":                                 {[]Write{made, write(Delete, "", "", 5*s, Acked)}, 10 * s, nil, nil},
		"a deleted room is back":                  {[]Write{made, write(Delete, "", "", 5*s, Acked)}, 10 * s, asMade, []Kind{Resurrected}},
		"other nodes show it yet":                 {[]Write{made, write(Delete, "", "", 5*s, Acked)}, 6 * s, asMade, nil},
		"deleted without an answer, there":        {[]Write{made, write(Delete, "", "", 5*s, Unknown)}, 10 * s, asMade, nil},
		"deleted without an answer, not there":    {[]Write{made, write(Delete, "", "", 5*s, Unknown)}, 10 * s, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			wrong(t, History{Writes: test.writes, Reads: []Read{{"a", "r", test.shown, test.at, test.at + s/10}}}, test.want...)
			l := List{Node: "a", Began: test.at, Ended: test.at + s/10}
			if test.shown != nil {
				l.Rooms = []Listed{{"r", "arn", test.shown}}
			}
			wrong(t, History{Writes: test.writes, Lists: []List{l}}, test.want...)
		})
	}
	t.Run("one request made two", func(t *testing.T) {
		wrong(t, History{Writes: []Write{made}, Lists: []List{{Node: "a", Began: 10 * s, Ended: 10 * s, Rooms: []Listed{{"r", "one", asMade}, {"r", "two", asMade}}}}}, MadeTwice)
	})
	t.Run("a list does not show all", func(t *testing.T) {
		wrong(t, History{Writes: []Write{made}, Lists: []List{{Node: "a", Began: 10 * s, Ended: 10 * s, Hides: []string{"length"}, Rooms: []Listed{{"r", "one", Fields{"tag:a": "1"}}}}}})
	})
	t.Run("a listed room has nothing", func(t *testing.T) {
		wrong(t, History{Writes: []Write{made}, Lists: []List{{Node: "a", Began: 10 * s, Ended: 10 * s, Rooms: []Listed{{"r", "one", nil}}}}}, HalfMade)
	})
}

func TestTokens(t *testing.T) {
	for name, test := range map[string]struct {
		outcomes []Outcome
		want     []Kind
	}{
		"once":                            {[]Outcome{Refused, Acked, Refused}, nil},
		"twice":                           {[]Outcome{Acked, Refused, Acked}, []Kind{UsedTwice}},
		"never, since no answer came":     {[]Outcome{Unknown, Refused, Refused}, nil},
		"never, though nobody used it":    {[]Outcome{Refused, Refused}, []Kind{UnusedRefused}},
		"no answer, and then it opened":   {[]Outcome{Unknown, Acked}, nil},
		"nobody answered":                 {[]Outcome{Unknown, Unknown}, nil},
		"once, and others had no answers": {[]Outcome{Acked, Unknown, Refused}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			h := History{}
			for i, o := range test.outcomes {
				h.Redemptions = append(h.Redemptions, Redemption{1, "a", Time(i+1) * s, o})
			}
			h.Redemptions = append(h.Redemptions, Redemption{2, "a", s, Acked})
			wrong(t, h, test.want...)
		})
	}
}

func TestLog(t *testing.T) {
	h := func(dropped int, full []Full, deaths []Death, logged ...int) History {
		h := History{Sent: said(4), Kept: map[int]bool{1: true}, Connections: []Connection{viewer("a", 1*s, 30*s, 1, 2, 3, 4)}, Full: full, Deaths: deaths, Dropped: dropped}
		for _, n := range logged {
			h.Logged = append(h.Logged, Logged{ID{1, n}, 1, 1})
		}
		return h
	}
	full := []Full{{"a", 11 * s, 12500 * time.Millisecond}}
	wrong(t, h(0, nil, nil, 1, 2, 3, 4))
	wrong(t, h(0, nil, nil, 1, 1, 2, 4, 3, 4))
	wrong(t, h(0, nil, nil, 1, 2, 4), NotLogged)
	wrong(t, h(5, nil, nil, 1, 2, 4), NotLogged)
	notKept := h(0, nil, nil)
	notKept.Kept = nil
	wrong(t, notKept)
	notKept.Logged = []Logged{{ID{1, 1}, 1, 1}}
	wrong(t, notKept, LoggedWrong)
	wrong(t, h(1, full, nil, 1, 2, 4))
	wrong(t, h(2, full, nil, 1, 4))
	wrong(t, h(1, full, nil, 1, 4), NotLogged)
	wrong(t, h(3, full, nil, 1), NotLogged)
	wrong(t, h(0, nil, []Death{{"a", 13100 * time.Millisecond}}, 1, 2, 3))
	wrong(t, h(0, nil, []Death{{"b", 13100 * time.Millisecond}}, 1, 2, 3), NotLogged)
	wrong(t, h(0, nil, []Death{{"a", 13500 * time.Millisecond}}, 1, 2, 3), NotLogged)
	other := h(0, nil, nil, 1, 2, 3, 4)
	other.Logged = append(other.Logged, Logged{ID{1, 4}, 2, 1})
	wrong(t, other, LoggedWrong)
}

func TestOutages(t *testing.T) {
	h := History{
		Faults: []Fault{{"kill", 10 * s, 12 * s, 13 * s, 20 * s, nil}, {"kill", 20 * s, 21 * s, 25 * s, 30 * s, nil}, {"none", 30 * s, 40 * s, 40 * s, 40 * s, nil}},
		Writes: []Write{
			{Writer: 1, Ended: 9 * s, Outcome: Acked}, {Writer: 1, Ended: 12 * s, Outcome: Unknown}, {Writer: 1, Ended: 14 * s, Outcome: Acked},
			{Writer: 1, Ended: 19 * s, Outcome: Acked}, {Writer: 1, Ended: 22 * s, Outcome: Acked},
			{Writer: 2, Ended: 15 * s, Outcome: Acked}, {Writer: 2, Ended: 25 * s, Outcome: Acked}, {Writer: 2, Ended: 28 * s, Outcome: Acked},
		},
		Sent: []Sent{{ID: ID{1, 1}, Sender: 1}, {ID: ID{2, 1}, Sender: 1}, {ID: ID{3, 1}, Sender: 2}, {ID: ID{4, 1}}},
	}
	frames := func(stream int, at ...Time) (all []Frame) {
		for _, t := range at {
			all = append(all, Frame{ID: ID{stream, 1}, At: t})
		}
		return all
	}
	// Sender 1 falls silent for 6 and 9 s, sender 2 for 1 s, and an event is no sender.
	second := []Time{}
	for i := range 31 {
		second = append(second, Time(10+i)*s)
	}
	h.Connections = []Connection{
		{Viewer: 1, Frames: slices.Concat(frames(1, 9*s, 11*s), frames(4, 12*s))},
		{Viewer: 1, Frames: slices.Concat(frames(2, 13*s, 19*s, 29*s), frames(3, second...))},
		{Viewer: -1, Frames: frames(3, second...)},
	}
	writers, viewers := h.Outages(h.Faults[0])
	if fmt.Sprint(writers) != "[5s 5s]" || fmt.Sprint(viewers) != "[6s]" {
		t.Errorf("writers %v, viewers %v", writers, viewers)
	}
	report := h.Report()
	t.Log("\n" + report)
	for _, want := range []string{
		"kill  2 2.00 s 5.00 s 8.00 s 9.00 s 9.00 s - - - -",
		"none  1 10.00 s 10.00 s 10.00 s 10.00 s 10.00 s - - - -",
	} {
		if !strings.Contains(strings.Join(strings.Fields(report), " "), strings.Join(strings.Fields(want), " ")) {
			t.Errorf("the report lacks %q", want)
		}
	}
}
