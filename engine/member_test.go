package engine

import (
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
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
		lacked          time.Time // when a had no majority, last
		majority, trust bool      // of a, and b as the leader
		itself          bool      // a as the leader
	}{
		{"both hear one another", ago(0.1), ago(60), []seen{{"a", 1, 70}}, ago(0.4), ago(60), true, true, true},
		{"what b has heard is old: it hears us no more", ago(0.1), ago(60), []seen{{"a", 1, 70}}, ago(3), ago(60), false, true, false},
		{"b says what it had heard when we were stopped", ago(0), ago(0), []seen{{"a", 1, 70}}, ago(20), ago(60), false, false, false},
		{"b hears our last run", ago(0.1), ago(60), []seen{{"a", 9, 70}}, ago(0.4), ago(60), false, true, false},
		{"b hears nobody", ago(0.1), ago(60), nil, ago(0.4), ago(60), false, true, false},
		{"b was not heard lately", ago(2), ago(60), []seen{{"a", 1, 70}}, ago(0.4), ago(60), false, true, false},
		{"b came back just now", ago(0.1), ago(1), []seen{{"a", 1, 70}}, ago(0.4), ago(60), true, false, true},
		{"we came back just now", ago(0.1), ago(60), []seen{{"a", 1, 70}}, ago(0.4), ago(1), true, true, false},
		{"a beat that we have not sent yet", ago(0.1), ago(60), []seen{{"a", 1, 86}}, ago(0.4), ago(60), false, true, false},
	} {
		b := &Bus{engine: &Engine{node: "a", nodes: 3}, run: 1, lacked: c.lacked, members: map[Run]*member{
			2: {Member: Member{Node: "b", Run: 2, Alive: true}, heard: c.heard, since: c.since, sees: c.sees},
			3: {Member: Member{Node: "c", Run: 3}, scout: true, heard: now, since: ago(60), sees: []seen{{"a", 1, 70}}},
		}}
		b.beats[70%len(b.beats)] = sentBeat{70, c.sent}
		if got := b.Majority(); got != c.majority {
			t.Errorf("%s: a majority: %t, want %t", c.name, got, c.majority)
		}
		if got := b.trusts("a"); got != c.itself {
			t.Errorf("%s: this node is believed to lead: %t, want %t", c.name, got, c.itself)
		}
		if got := b.trusts("b"); got != c.trust {
			t.Errorf("%s: b is believed to lead: %t, want %t", c.name, got, c.trust)
		}
		if b.trusts("c") || b.trusts("d") {
			t.Errorf("%s: a node that is no member is believed to lead", c.name)
		}
	}
}

// Before there is a cluster, nodes that have met wait for the others, to go on
// together. Where there is one, nobody waits.
func TestNodesThatMeetGoOnTogether(t *testing.T) {
	defer func(before time.Duration) { together = before }(together)
	together = time.Hour
	now := time.Now()
	sees := []seen{{"a", 1, 70}}
	others := func() map[Run]*member {
		return map[Run]*member{
			2: {Member: Member{Node: "b", Run: 2, stage: met}, scout: true, heard: now, sees: sees},
			3: {Member: Member{Node: "c", Run: 3}, scout: true, heard: now, sees: sees},
		}
	}
	for _, c := range []struct {
		name string
		then func(members map[Run]*member) // what happens when a has met them
	}{
		{"the last has met the others, too", func(m map[Run]*member) { m[3].stage = met }},
		{"one is a member", func(m map[Run]*member) { m[2].scout = false }},
		{"one has met the others, and went on", func(m map[Run]*member) { delete(m, 2); m[3].stage = met }},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := &Bus{engine: &Engine{node: "a", nodes: 3}, run: 1, log: slog.New(slog.DiscardHandler), members: others(), news: make(chan struct{}, 1)}
			result := make(chan error, 1)
			go func() { result <- b.meet(t.Context(), &serverLog{}) }()
			<-b.news // a says that it has met them
			select {
			case err := <-result:
				t.Fatalf("it went on alone: %v", err)
			case <-time.After(10 * meetEvery):
			}
			b.mu.Lock()
			c.then(b.members)
			b.mu.Unlock()
			if err := <-result; err != nil {
				t.Error(err)
			}
		})
	}
}

// An external NATS is believed if who answers is a leader that hears a majority.
func TestWhichAnswerOfAnExternalNATSIsBelieved(t *testing.T) {
	heard, silent := &jetstream.PeerInfo{Active: time.Second}, &jetstream.PeerInfo{Active: 5 * time.Second}
	for _, c := range []struct {
		name string
		info *jetstream.ClusterInfo
		want bool
	}{
		{"one server", nil, true},
		{"one that leads", &jetstream.ClusterInfo{Leader: "n1", Replicas: []*jetstream.PeerInfo{heard, silent}}, true},
		{"one that was cut off", &jetstream.ClusterInfo{Leader: "n1", Replicas: []*jetstream.PeerInfo{silent, silent}}, false},
		{"one that knows of no leader", &jetstream.ClusterInfo{Replicas: []*jetstream.PeerInfo{heard, heard, heard}}, false},
	} {
		if err := (&Engine{}).doubts(c.info); (err == nil) != c.want {
			t.Errorf("%s: %v, believed: want %t", c.name, err, c.want)
		}
	}
}
