package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Member is another node that can be heard.
type Member struct {
	Node string
	Run  Run

	// Ahead is how much its clock is before this node's, give or take the time that
	// a message takes.
	Ahead time.Duration

	// Alive says whether it was heard of lately; false only for those that are
	// reported as gone.
	Alive bool

	stage stage // that it says it is in
}

// Nodes tell one another that they are there, and whom they hear. It decides nothing of what is
// stored, for which NATS has its quorum: only whom to wait for.
const (
	beatEvery = 250 * time.Millisecond

	// silence is after how much of it a node counts as gone.
	silence = 6 * beatEvery

	// echo is how old a beat of this node may be that is the last one that another
	// says it has heard. A leader that the others do not hear is replaced after 4 s at
	// the earliest, counted from its last sign, which it gives each second: so who has
	// a young echo of a majority knows of every leader that there was.
	echo = 2 * time.Second

	// wrongClock is how far a clock may be from those of the others for a node to
	// start: signatures are good for five minutes, tokens for as little as one.
	wrongClock = time.Minute
)

// member is what is known of a run of another node.
type member struct {
	Member
	beat  uint64
	scout bool
	since time.Time // it is heard, by the monotonic clock; zero of one whose run has just begun
	heard time.Time // lately, by the same
	sees  []seen    // whom it hears
}

// beat is what a node says of itself.
type beat struct {
	Node  string `json:"node"`
	Run   Run    `json:"run,string"`
	Beat  uint64 `json:"beat"` // grows
	Scout bool   `json:"scout,omitempty"`
	Stage stage  `json:"stage,omitempty"`
	Time  int64  `json:"time"` // of its clock, in nanoseconds of Unix time
	Sees  []seen `json:"sees"`
}

// seen is the latest beat of a run that a node has heard.
type seen struct {
	Node string `json:"node"`
	Run  Run    `json:"run,string"`
	Beat uint64 `json:"beat"`
}

// sentBeat is a beat of this node, by the monotonic clock.
type sentBeat struct {
	number uint64
	at     time.Time
}

const beatSubject = "beat"

func (b *Bus) startBeating(ctx context.Context) error {
	if _, err := b.Subscribe(beatSubject, b.hear); err != nil {
		return err
	}
	b.done.Go(func() {
		tick := time.NewTicker(beatEvery)
		defer tick.Stop()
		had := false // a majority: before, this run leads nothing
		for n := uint64(1); ; n++ {
			switch majority := b.Majority(); { // before a new beat: what others echo may be from before a stop
			case majority:
				had = true
			case had:
				b.mu.Lock()
				b.lacked = time.Now()
				b.mu.Unlock()
			}
			b.beat(n)
			select {
			case <-ctx.Done():
				b.stage.Store(uint32(gone))
				b.beat(n + 1)
				return
			case <-b.news:
			case <-tick.C:
				b.bury(time.Now())
			}
		}
	})
	return nil
}

func (b *Bus) beat(n uint64) {
	b.mu.Lock()
	sees := make([]seen, 0, len(b.members))
	for _, m := range b.members {
		sees = append(sees, seen{m.Node, m.Run, m.beat})
	}
	b.beats[n%uint64(len(b.beats))] = sentBeat{n, time.Now()}
	b.mu.Unlock()
	text, err := json.Marshal(beat{b.engine.node, b.run, n, b.scout, stage(b.stage.Load()), b.now().UnixNano(), sees})
	if err != nil {
		panic(err) // it has nothing that JSON has not
	}
	_ = b.Publish(beatSubject, text) // the next one tries again
}

func (b *Bus) hear(from Run, data []byte) []byte {
	var said beat
	if json.Unmarshal(data, &said) != nil || said.Run != from {
		return nil
	}
	var events []Member
	b.mu.Lock()
	m := b.members[from]
	if said.Stage == gone {
		if m != nil {
			m.stage = gone
		}
		events, told := b.remove(func(old *member) bool { return old == m }), b.changed
		b.mu.Unlock()
		b.report(events, told)
		return nil
	}
	if m == nil {
		m = &member{Member: Member{Node: said.Node, Run: from, Alive: true}, scout: said.Scout}
		if !said.Scout {
			events = b.remove(func(old *member) bool { return old.Node == said.Node && !old.scout }) // it was restarted
			events = append(events, m.Member)
		}
		b.members[from] = m
	}
	m.stage = said.Stage
	now := time.Now()
	switch young := said.Beat <= uint64(echo/beatEvery); {
	case m.heard.IsZero() && young: // it leads nothing that it led before
	case now.Sub(m.heard) > silence: // it was not heard, or this node was stopped
		m.since = now
	}
	m.beat, m.heard, m.sees, m.Ahead = said.Beat, now, said.Sees, time.Unix(0, said.Time).Sub(b.now())
	told := b.changed
	b.mu.Unlock()
	b.report(events, told)
	return nil
}

// bury takes out who was not heard for long.
func (b *Bus) bury(now time.Time) {
	b.mu.Lock()
	gone := b.remove(func(m *member) bool { return now.Sub(m.heard) > silence })
	told := b.changed
	b.mu.Unlock()
	b.report(gone, told)
}

// remove takes runs out, and returns those that were members. The caller holds mu.
func (b *Bus) remove(which func(*member) bool) (gone []Member) {
	for run, m := range b.members {
		if which(m) {
			delete(b.members, run)
			if !m.scout {
				m.Alive = false
				gone = append(gone, m.Member)
			}
		}
	}
	return gone
}

func (b *Bus) report(events []Member, told []func(Member)) {
	for _, m := range events {
		switch {
		case m.Alive:
			b.log.Info("node came", "node", m.Node)
		case m.stage == gone:
			b.log.Info("node left", "node", m.Node)
		default:
			b.log.Warn("node went", "node", m.Node)
		}
		for _, tell := range told {
			tell(m)
		}
	}
}

// Changed has tell called whenever a node comes, in a new run also, or goes. It
// must not wait. Those that are there already are told of now.
func (b *Bus) Changed(tell func(Member)) {
	b.mu.Lock()
	b.changed = append(slices.Clip(b.changed), tell)
	b.mu.Unlock()
	for _, m := range b.Members() {
		tell(m)
	}
}

// Members are the other nodes that are alive, by name.
func (b *Bus) Members() []Member {
	b.mu.RLock()
	defer b.mu.RUnlock()
	list := make([]Member, 0, len(b.members))
	for _, m := range b.members {
		if !m.scout {
			list = append(list, m.Member)
		}
	}
	slices.SortFunc(list, func(x, y Member) int { return strings.Compare(x.Node, y.Node) })
	return list
}

// first says whether no node that is alive has a lesser name.
func (b *Bus) first() bool {
	members := b.Members()
	return len(members) == 0 || b.engine.node < members[0].Node
}

// Majority says whether this node and others that it hears, and that hear it, are
// more than half of the cluster. It is false from 2 s after it was cut off, in
// whichever direction, or was stopped, before the others have a new leader. Of a
// cluster of unknown size, as with an external NATS, it says whether that can be
// reached.
func (b *Bus) Majority() bool {
	return b.alone() == nil
}

// alone is nil with a majority, or says what is missing.
func (b *Bus) alone() error {
	switch {
	case b.engine.nodes == 0 && b.conn.IsConnected() && b.engine.conn.IsConnected():
		return nil
	case b.engine.nodes == 0:
		return errors.New("NATS cannot be reached; the log says why, and cluster.nats.url where it should be")
	case 2*b.near() > b.engine.nodes:
		return nil
	}
	return errors.New("this node does not reach a majority of the cluster's nodes")
}

// near counts this node and those that it hears and that hear it.
func (b *Bus) near() int {
	b.mu.RLock()
	defer b.mu.RUnlock()
	now, near := time.Now(), 1
	for _, m := range b.members {
		if !m.scout && now.Sub(m.heard) <= silence && slices.ContainsFunc(m.sees, func(s seen) bool { return s.Run == b.run && b.echoes(s.Beat, now) }) {
			near++
		}
	}
	return near
}

// trusts says whether a node that says that it leads does: this one if it was one of
// a majority, another one if it was heard, without a break for so long that it has
// heard of a leader that was chosen before.
func (b *Bus) trusts(leader string) bool {
	majority := b.Majority()
	b.mu.RLock()
	defer b.mu.RUnlock()
	if leader == b.engine.node {
		return majority && time.Since(b.lacked) > echo
	}
	for _, m := range b.members {
		if m.Node == leader && !m.scout {
			return time.Since(m.since) > echo
		}
	}
	return false
}

// echoes says whether a beat of this node that another has heard is young enough.
// The caller holds mu.
func (b *Bus) echoes(beat uint64, now time.Time) bool {
	sent := b.beats[beat%uint64(len(b.beats))]
	return sent.number == beat && now.Sub(sent.at) <= echo
}

// meet waits until a majority hears this node, and finds out whether it may be one
// of them: not if another has its name, or if its clock is not theirs. Of two clocks
// nobody knows which is wrong: that of who is there already counts, and two who come
// at the same time wait for a third. Nodes that meet before any is a member go on
// together: NATS asks for votes as soon as a store is new, and next after 4 to 9 s, so
// those of a first start have a leader at once if all are there by then.
func (b *Bus) meet(ctx context.Context, logger *serverLog) error {
	others := map[Run]uint64{} // the first beat that was reported of those with our name
	tell := time.Now().Add(waiting)
	var heardSince, wrongSince, metSince time.Time // by a majority; our clock; a majority, and nothing was wrong
	ready := map[string]bool{}                     // nodes that have met the others, too
	for {
		heard, hears := map[string]bool{}, map[string]bool{} // by node
		wrong, rival := map[string]bool{}, ""                // clocks, by node: whether it is a member
		var ahead time.Duration
		running := false // the cluster is
		b.mu.RLock()
		for _, m := range b.members {
			if m.Node == b.engine.node {
				rival = m.Node
				if _, had := others[m.Run]; !had {
					others[m.Run] = m.beat
				}
				if m.beat == others[m.Run] {
					rival = "" // may be our last run, which has just ended
				}
				continue
			}
			hears[m.Node] = true
			if m.stage == met {
				ready[m.Node] = true
			}
			running = running || !m.scout
			for _, s := range m.sees {
				before, had := others[s.Run]
				switch {
				case s.Run == b.run:
					heard[m.Node] = true
				case s.Node != b.engine.node:
				case !had:
					others[s.Run] = s.Beat
				case s.Beat > before:
					rival = m.Node
				}
			}
			if m.Ahead.Abs() > wrongClock {
				wrong[m.Node] = wrong[m.Node] || !m.scout
				ahead = m.Ahead
			}
		}
		b.mu.RUnlock()
		now, nodes := time.Now(), b.engine.nodes
		agree := len(hears) - len(wrong) + 1
		alone := len(wrong) > agree || len(wrong) == agree && slices.Contains(slices.Collect(maps.Values(wrong)), true)
		if !alone {
			wrongSince = time.Time{}
		} else if wrongSince.IsZero() {
			wrongSince = now
		}
		switch {
		case rival != "":
			return fmt.Errorf("another node named %s is running, and %s hears it: give each node a name of its own (cluster.node)", b.engine.node, rival)
		case alone && now.Sub(wrongSince) > 3*beatEvery: // and all others have been heard
			return fmt.Errorf("the clock of this node is %v off from those of %d of the %d others: set it (NTP), or theirs", -ahead.Round(time.Second), len(wrong), len(hears))
		case alone, len(wrong) == agree:
			heardSince = time.Time{}
		case nodes > 0 && 2*(len(heard)+1) <= nodes:
			heardSince = time.Time{}
		case heardSince.IsZero():
			heardSince = now
		case now.Sub(heardSince) > 3*beatEvery && metSince.IsZero(): // and nobody else has our name
			metSince = now
			b.enter(met)
		}
		if !metSince.IsZero() && (running || len(ready) >= nodes-1 || now.Sub(metSince) > together) {
			return nil
		}
		if now.After(tell) {
			tell = now.Add(waiting)
			b.log.Warn("waiting for a majority of the cluster's nodes", "hear", len(hears), "heard_by", len(heard), "others", nodes-1, "other_clock", len(wrong), "refused", logger.refusals())
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the cluster did not form: of %d other nodes %d can be heard, and %d hear this one%s: %w", nodes-1, len(hears), len(heard), logger.refusals(), ctx.Err())
		case <-time.After(meetEvery):
		}
	}
}

const meetEvery = 25 * time.Millisecond

// together is how long nodes who have met wait for those who have not.
var together = 2 * time.Second
