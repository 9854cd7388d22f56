package engine

import (
	"testing"
	"time"
)

// A node counts for the majority if it is heard, and hears. A leader is believed if
// it cannot have missed that there is another one.
func TestWhoCountsAndWhoIsBelieved(t *testing.T) {
	now := time.Now()
	ago := func(seconds float64) time.Time { return now.Add(-time.Duration(seconds * float64(time.Second))) }
	for _, c := range []struct {
		name            string
		heard, since    time.Time // of node b
		sees            []seen    // by b
		sent            time.Time // our beat number 70
		majority, trust bool      // itself, and b as the leader
	}{
		{"both hear one another", ago(0.1), ago(60), []seen{{"a", 1, 70}}, ago(0.4), true, true},
		{"what b has heard is old: it hears us no more", ago(0.1), ago(60), []seen{{"a", 1, 70}}, ago(3), false, true},
		{"b says what it had heard when we were stopped", ago(0), ago(0), []seen{{"a", 1, 70}}, ago(20), false, false},
		{"b hears our last run", ago(0.1), ago(60), []seen{{"a", 9, 70}}, ago(0.4), false, true},
		{"b hears nobody", ago(0.1), ago(60), nil, ago(0.4), false, true},
		{"b was not heard lately", ago(2), ago(60), []seen{{"a", 1, 70}}, ago(0.4), false, true},
		{"b came back just now", ago(0.1), ago(1), []seen{{"a", 1, 70}}, ago(0.4), true, false},
		{"a beat that we have not sent yet", ago(0.1), ago(60), []seen{{"a", 1, 86}}, ago(0.4), false, true},
	} {
		b := &Bus{engine: &Engine{node: "a", nodes: 3}, run: 1, members: map[Run]*member{
			2: {Member: Member{Node: "b", Run: 2, Alive: true}, heard: c.heard, since: c.since, sees: c.sees},
			3: {Member: Member{Node: "c", Run: 3}, scout: true, heard: now, since: ago(60), sees: []seen{{"a", 1, 70}}},
		}}
		b.beats[70%len(b.beats)] = sentBeat{70, c.sent}
		if got := b.Majority(); got != c.majority || got != b.trusts("a") {
			t.Errorf("%s: a majority: %t, want %t; this node is believed to lead: %t", c.name, got, c.majority, b.trusts("a"))
		}
		if got := b.trusts("b"); got != c.trust {
			t.Errorf("%s: b is believed to lead: %t, want %t", c.name, got, c.trust)
		}
		if b.trusts("c") || b.trusts("d") {
			t.Errorf("%s: a node that is no member is believed to lead", c.name)
		}
	}
}
