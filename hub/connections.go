package hub

import (
	"context"
	"encoding/binary"
	"strings"
	"sync"
	"time"

	"hubbub/engine"
	"hubbub/ivschat"
	"hubbub/quota"
)

// In a cluster the connections of an account in a region are on several nodes, and
// their quota holds for all together. A node first adds who comes to its own count,
// and then asks the others for theirs: of two that come at once on two nodes at
// least one is seen by the other. So there are never more than the quota, as long
// as the nodes hear one another.
//
// Where much is free a node takes some places more than it needs, for those who
// come next. They count as taken until another node is short of one and asks
// for them back.
type connections struct {
	// Set by newConnections, read-only after.
	bus   *engine.Bus
	quota *quota.Counters
	limit int // 0 is unlimited: then nobody is asked
	ctx   context.Context
	stop  context.CancelFunc
	done  sync.WaitGroup

	patience time.Duration // how long the others' word is waited for; who is silent has as many as it said last

	mu    sync.Mutex
	lines map[ivschat.Scope]*line
}

// line is what a node knows of an account in a region.
type line struct {
	spare     int         // places that are taken, and nobody's yet
	asked     int         // places that the others are being asked about
	waiting   []chan bool // the first to come first; each is told once
	serving   bool
	counts    map[engine.Run]int // of the other nodes, as they said last
	elsewhere int                // their sum
}

const (
	// connectionsQuestion is 1 byte, 1 to have spare places given back, the region,
	// a space and the account. The answer is 8 bytes, how many places the node has
	// taken, and 8 bytes, how many of those have no connection yet.
	connectionsQuestion = "hub.connections"

	connectionsPatience = time.Second

	// spareShare is which part of the quota a node may have in spare places.
	spareShare = 1000

	// connectionsTries is how often a node asks for a place that may be one of those
	// that others are just asking about.
	connectionsTries = 5

	// maxLines bounds the memory: in `hubbub dev` the region comes from the caller.
	maxLines = 1024
)

func newConnections(bus *engine.Bus, counters *quota.Counters) *connections {
	ctx, stop := context.WithCancel(context.Background())
	c := &connections{
		bus: bus, quota: counters, limit: counters.Limits().Value(quota.Connections), ctx: ctx, stop: stop,
		patience: connectionsPatience, lines: map[ivschat.Scope]*line{},
	}
	bus.Answer(connectionsQuestion, func(_ engine.Run, q []byte) []byte {
		if len(q) < 1 {
			return nil
		}
		region, account, _ := strings.Cut(string(q[1:]), " ")
		return c.answer(ivschat.Scope{Account: account, Region: region}, q[0] == 1)
	})
	return c
}

// close refuses who waits, and returns when nothing runs any more.
func (c *connections) close() {
	c.stop()
	c.done.Wait()
	c.bus.Answer(connectionsQuestion, nil)
}

func (c *connections) answer(s ivschat.Scope, giveBack bool) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	loose := 0
	if l := c.lines[s]; l != nil {
		if giveBack {
			c.quota.Reserve(s, -l.spare)
			l.spare = 0
		}
		loose = l.spare + l.asked
	}
	a := binary.BigEndian.AppendUint64(nil, uint64(c.quota.Connections(s)))
	return binary.BigEndian.AppendUint64(a, uint64(loose))
}

// take counts a connection, if the quota has room for it on all nodes together.
// Every success is given back to the counters.
func (c *connections) take(ctx context.Context, s ivschat.Scope) bool {
	if c.limit == 0 {
		return c.quota.Connect(s)
	}
	c.mu.Lock()
	l := c.lines[s]
	if l == nil {
		c.sweep()
		l = &line{}
		c.lines[s] = l
	}
	switch {
	case l.spare > 0:
		l.spare--
		c.mu.Unlock()
		return true
	case c.quota.Connections(s)-l.asked >= c.limit:
		c.mu.Unlock()
		return false
	}
	told := make(chan bool, 1)
	l.waiting = append(l.waiting, told)
	if !l.serving {
		l.serving = true
		c.done.Go(func() { c.serve(s, l) })
	}
	c.mu.Unlock()
	select {
	case ok := <-told:
		return ok
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, w := range l.waiting {
		if w == told {
			l.waiting = append(l.waiting[:i:i], l.waiting[i+1:]...)
			return false
		}
	}
	return <-told // just now
}

// sweep forgets accounts of which nobody is here, if there are too many. c.mu is held.
func (c *connections) sweep() {
	if len(c.lines) < maxLines {
		return
	}
	for s, l := range c.lines {
		if !l.serving && c.quota.Connections(s) == l.spare {
			c.quota.Reserve(s, -l.spare)
			delete(c.lines, s)
		}
	}
}

// serve lets those in who wait, until nobody does.
func (c *connections) serve(s ivschat.Scope, l *line) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for tries := 0; len(l.waiting) > 0; {
		nodes := len(l.counts) + 1
		free := c.limit - (c.quota.Connections(s) - l.asked) - l.elsewhere
		came := len(l.waiting)
		// A share of what is free, so that there is enough for all who ask now.
		want := max(l.asked, min(came+c.limit/spareShare, free/(2*nodes)), 1)
		c.quota.Reserve(s, want-l.asked)
		l.asked = want

		c.mu.Unlock()
		began := time.Now()
		loose, first := c.ask(s, l, tries > 0)
		took := time.Since(began)
		c.mu.Lock()

		got := min(max(c.limit-l.elsewhere-(c.quota.Connections(s)-want), 0), want)
		in := min(got, len(l.waiting))
		l.tell(in, true)
		l.asked -= in
		came = min(came-in, len(l.waiting)) // who is still to be told
		switch {
		case c.ctx.Err() != nil:
			came = len(l.waiting)
		case came <= 0 || got == want:
			l.spare += got - in
			l.asked -= got - in
			c.release(s, l)
			tries = 0
			continue
		case loose && tries < connectionsTries: // what they lack may be nobody's in a moment
			tries++
			if first {
				continue // the others let go
			}
			c.release(s, l)
			c.mu.Unlock()
			select {
			case <-c.ctx.Done():
			case <-time.After(took):
			}
			c.mu.Lock()
			continue
		}
		l.tell(came, false)
		c.release(s, l)
		tries = 0
	}
	c.release(s, l) // of those who went
	l.serving = false
}

// release gives back what was asked about and not had. c.mu is held.
func (c *connections) release(s ivschat.Scope, l *line) {
	c.quota.Reserve(s, -l.asked)
	l.asked = 0
}

// tell tells the first in line. The caller holds connections.mu.
func (l *line) tell(n int, ok bool) {
	for _, w := range l.waiting[:n] {
		w <- ok
	}
	l.waiting = l.waiting[n:]
	if len(l.waiting) == 0 {
		l.waiting = nil
	}
}

// ask asks the other nodes how many connections they have. loose says that some of
// them are nobody's yet, and first that this node is the one of those with
// such that keeps what it asks about.
func (c *connections) ask(s ivschat.Scope, l *line, giveBack bool) (loose, first bool) {
	ctx, cancel := context.WithTimeout(c.ctx, c.patience)
	defer cancel()
	question := []byte{0}
	if giveBack {
		question[0] = 1
	}
	answers, _ := c.bus.Ask(ctx, connectionsQuestion, question, []byte(s.Region+" "+s.Account))
	c.mu.Lock()
	defer c.mu.Unlock()
	counts := map[engine.Run]int{}
	l.elsewhere, first = 0, true
	for _, m := range c.bus.Members() {
		n := l.counts[m.Run]
		if a := answers[m.Run]; len(a) >= 16 {
			n = int(binary.BigEndian.Uint64(a))
			if binary.BigEndian.Uint64(a[8:]) > 0 {
				loose = true
				first = first && c.bus.Run() < m.Run
			}
		}
		counts[m.Run] = n
		l.elsewhere += n
	}
	l.counts = counts
	return loose, first
}
