package quota

import (
	"time"

	"hubbub/ivschat"
)

// In a cluster each node counts what its own callers use of a rate and is told what
// the others let through, a moment later: in the long run all nodes together let
// through what the rate allows, and at a time as much more as was not told yet,
// which they make up for afterwards.

// Use is how often a rate was used.
type Use struct {
	Scope ivschat.Scope
	Key   Key
	N     int
}

// atOnce is which part of a second's worth is told at once.
const atOnce = 10

// Share has the counters remember for Taken what they let through. The channel says
// that there is enough of something to tell it at once. Call it before they are used.
func (c *Counters) Share() (due <-chan struct{}) {
	c.due = make(chan struct{}, 1)
	return c.due
}

// tell remembers a use. c.mu is held.
func (c *Counters) tell(b *bucket) {
	if b.untold.N++; b.untold.N == 1 {
		c.untold = append(c.untold, b)
	}
	if b.untold.N*atOnce >= b.Burst() {
		select {
		case c.due <- struct{}{}:
		default: // it is said
		}
	}
}

// Taken is what was let through since it was asked last.
func (c *Counters) Taken() []Use {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.untold) == 0 {
		return nil
	}
	uses := make([]Use, len(c.untold))
	for i, b := range c.untold {
		uses[i] = b.untold
		b.untold.N = 0
	}
	c.untold = nil
	return uses
}

// Took counts what another node has let through, whatever is left of the rates here.
// Nobody has to make up for more than a second's worth.
func (c *Counters) Took(uses []Use, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, u := range uses {
		limit := c.limits.values[u.Key]
		if limit == 0 {
			continue
		}
		b, now := c.bucket(u.Scope, u.Key, now)
		if n := min(u.N, limit, limit+int(b.TokensAt(now))); n > 0 {
			b.ReserveN(now, n)
		}
	}
}
