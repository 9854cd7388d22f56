package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// In a cluster an outbox has an owner, who delivers what is in it: the node that
// appends to it, or, while that is gone, another that took it over. Its run stands
// in the header of the marks, and whoever writes marks names those that they
// replace: so a former owner finds out at its next ones.
//
// Two may deliver at the same time until then, and deliver the same twice. Nothing
// is lost by it: whoever took over knows what was there at that moment and touches
// nothing else, and removes only what it has delivered.

const ownerHeader = "Hubbub-Owner"

// errOwned says that somebody else has written marks since.
var errOwned = errors.New("another node has taken the outbox over")

// TakeOver opens the outbox of another node, which is gone, to deliver what it has:
// see Orphans. Nothing can be appended to it, and Lost says when it must be closed.
func (e *Engine) TakeOver(ctx context.Context, node string, options OutboxOptions) (*Outbox, error) {
	if e.bus == nil || !nameable(node) || node == e.node {
		return nil, fmt.Errorf("%q is no other node of a cluster", node)
	}
	o := e.newOutbox(node, options)
	o.inherited = true
	if err := o.inherit(ctx); err != nil {
		return nil, fmt.Errorf("take over the outbox of node %s: %w", node, err)
	}
	e.mu.Lock()
	e.inherited = append(e.inherited, o)
	e.mu.Unlock()
	o.begin()
	return o, nil
}

func (o *Outbox) inherit(ctx context.Context) error {
	var err error
	if o.stream, err = o.engine.js.Stream(ctx, o.names.stream); err != nil {
		return err
	}
	acknowledged, err := o.claim(ctx)
	if err != nil {
		return err
	}
	return o.load(ctx, acknowledged)
}

// Close gives back what was taken over. What it has not delivered is for the next
// owner.
func (o *Outbox) Close() {
	o.engine.mu.Lock()
	o.engine.inherited = slices.DeleteFunc(o.engine.inherited, func(other *Outbox) bool { return other == o })
	o.engine.mu.Unlock()
	o.close()
}

// Lost is closed when another node delivers instead.
func (o *Outbox) Lost() <-chan struct{} { return o.lost }

func (o *Outbox) isLost() bool {
	select {
	case <-o.lost:
		return true
	default:
		return false
	}
}

// Orphans are the nodes that are gone and have left something in their outbox that
// no living node delivers, if it is for this node to do so: for the one that took it
// over before, or else for the first by name of those that are alive.
func (e *Engine) Orphans(ctx context.Context) ([]string, error) {
	if e.bus == nil || !e.bus.Majority() {
		return nil, nil
	}
	first := e.bus.first()
	nodes, runs := map[string]bool{e.node: true}, map[Run]bool{}
	for _, m := range e.bus.Members() {
		nodes[m.Node], runs[m.Run] = true, true
	}
	list := e.js.StreamNames(ctx, jetstream.WithStreamListSubject(outboxOf("*").marksSubject))
	var orphans []string
	for name := range list.Name() {
		node, ok := strings.CutPrefix(name, marksOfNode)
		if !ok || nodes[node] {
			continue
		}
		o := e.newOutbox(node, OutboxOptions{})
		var err error
		if o.stream, err = e.js.Stream(ctx, o.names.stream); errors.Is(err, jetstream.ErrStreamNotFound) {
			continue
		} else if err != nil {
			return nil, fmt.Errorf("look for outboxes of nodes that are gone: %w", err)
		}
		if o.stream.CachedInfo().State.Msgs == 0 {
			continue
		}
		w, err := o.readMarks(ctx)
		if err != nil {
			return nil, err
		}
		if !runs[w.owner] && (first || w.owner == e.bus.run) {
			orphans = append(orphans, node)
		}
	}
	if err := list.Err(); err != nil {
		return nil, fmt.Errorf("look for outboxes of nodes that are gone: %w", err)
	}
	return orphans, nil
}

// claim makes this node the owner, and returns what the last one has acknowledged.
// Alone there is no other.
func (o *Outbox) claim(ctx context.Context) (marks, error) {
	o.marking.Lock()
	defer o.marking.Unlock()
	for {
		w, err := o.readMarks(ctx)
		if err != nil {
			return nil, err
		}
		o.marked, o.markedAt = w.data, w.sequence
		if o.engine.bus == nil {
			return w.marks, nil
		}
		if w.data == nil {
			w.data = []byte("{}")
		}
		if err := o.writeMarks(ctx, w.data); !errors.Is(err, errOwned) {
			return w.marks, err
		}
	}
}

// keep finds out who the owner is. If it is another node, then what was taken over
// is lost to it; what is this node's own it takes back, and what was delivered
// meanwhile counts as acknowledged. The caller holds marking.
func (o *Outbox) keep(ctx context.Context) error {
	if o.engine.bus == nil {
		return nil
	}
	w, err := o.readMarks(ctx)
	switch {
	case err != nil:
		return err
	case w.owner == o.engine.bus.run:
		o.marked, o.markedAt = w.data, w.sequence // also if the store did not say that it has them
		return nil
	case o.inherited:
		o.lose()
		return errOwned
	}
	for passed, n := false, 0; !passed && n < advances; n++ {
		if n > 0 { // it was removed since, and may be acknowledged by now
			if w, err = o.readMarks(ctx); err != nil {
				return err
			}
		}
		if passed, err = o.advance(ctx, w.marks); err != nil {
			return err
		}
	}
	o.markedAt = w.sequence
	b, err := o.encodeMarks()
	if err != nil {
		return err
	}
	if err := o.writeMarks(ctx, b); !errors.Is(err, errOwned) {
		return err
	}
	return nil // the caller's next marks find out
}

// stillOwned is keep for callers that do not hold marking.
func (o *Outbox) stillOwned(ctx context.Context) error {
	o.marking.Lock()
	defer o.marking.Unlock()
	return o.keep(ctx)
}

// advances is how often what another node has acknowledged is looked at while that
// goes on. What it removed without is found to be missing when it is read.
const advances = 3

// advance passes over what another node has acknowledged. It is false if what should
// come behind that is not there.
func (o *Outbox) advance(ctx context.Context, by marks) (passed bool, err error) {
	type ahead struct {
		claim *claim
		mark  uint64
	}
	var list []ahead
	o.mu.Lock()
	for name, k := range o.keys {
		for _, c := range k.claims {
			if mark := by[name][c.reader]; mark >= c.next {
				list = append(list, ahead{c, mark})
			}
		}
	}
	o.mu.Unlock()
	passed = true
	for _, a := range list {
		first, err := o.atOrAfter(ctx, a.mark+1, a.claim.key.name)
		if err != nil {
			return false, err
		}
		passed = o.pass(a.claim, a.mark, first) && passed
	}
	return passed, nil
}

// pass has a claim go on behind a mark, at the first batch there; false if there is
// one that was not read.
func (o *Outbox) pass(c *claim, mark uint64, first *stored) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case mark < c.next: // it was handed out meanwhile
	case first != nil:
		c.fresh, c.next = first.stamp.before, first.sequence
	case c.key.last > mark:
		return false
	default:
		c.fresh, c.next = c.key.total, c.key.last+1
	}
	return true
}

// runOf is the run in a header of ownerHeader; 0 if there is none.
func runOf(header string) Run {
	n, err := strconv.ParseUint(header, 16, 64)
	if err != nil {
		return 0
	}
	return Run(n)
}
