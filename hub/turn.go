package hub

import "sync"

// turns keeps the actions of one connection in order while some of them wait for
// a verdict: an action takes its turn when it is received, and is done when it
// and all before it are ready. Verdicts may come in any order, from anywhere.
// A connection has turns only while something waits.
type turns struct {
	mu      sync.Mutex
	waiting []*turn // oldest first; those at the head that are ready are being done
	doing   bool    // somebody does them
}

type turn struct{ do func() } // nil until it is ready; guarded by turns.mu

// maxWaiting is the most actions of one connection that may wait. Ten a second and
// a review of 200 ms make two; only without rates can there be more.
const maxWaiting = 256

// take makes the next turn, or returns nil if too many wait.
func (t *turns) take() *turn {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.waiting) >= maxWaiting {
		return nil
	}
	n := &turn{}
	t.waiting = append(t.waiting, n)
	return n
}

// ready says what the turn does, and does whatever has come to its turn by that,
// with no lock held.
func (t *turns) ready(n *turn, do func()) {
	t.mu.Lock()
	n.do = do
	if t.doing {
		t.mu.Unlock()
		return
	}
	t.doing = true
	for len(t.waiting) > 0 && t.waiting[0].do != nil {
		do := t.waiting[0].do
		t.mu.Unlock()
		do()
		t.mu.Lock()
		t.waiting[0] = nil // only now: nothing may overtake what is being done
		t.waiting = t.waiting[1:]
	}
	t.doing = false
	t.mu.Unlock()
}

// idle says whether nothing waits.
func (t *turns) idle() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.waiting) == 0
}
