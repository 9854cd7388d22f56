package quota_test

import (
	"fmt"
	"testing"
	"time"

	"hubbub/ivschat"
	"hubbub/quota"
)

// cluster is three nodes' counters, and what is on its way between them.
type cluster struct {
	nodes [3]*quota.Counters
	due   [3]<-chan struct{}
	ways  []way
	sent  int
}

type way struct {
	arrives time.Time
	from    int
	uses    []quota.Use
}

func newCluster(l quota.Limits) *cluster {
	c := &cluster{}
	for i := range c.nodes {
		c.nodes[i] = quota.New(l)
		c.due[i] = c.nodes[i].Share()
	}
	return c
}

// pass does what the nodes do between two moments: they tell what is due, and hear
// what was told a latency ago.
func (c *cluster) pass(at time.Time, latency time.Duration, tick bool) {
	for i, n := range c.nodes {
		told := tick
		select {
		case <-c.due[i]:
			told = true
		default:
		}
		if told {
			if uses := n.Taken(); uses != nil {
				c.ways = append(c.ways, way{at.Add(latency), i, uses})
				c.sent++
			}
		}
	}
	for len(c.ways) > 0 && !c.ways[0].arrives.After(at) {
		for i, n := range c.nodes {
			if i != c.ways[0].from {
				n.Took(c.ways[0].uses, at)
			}
		}
		c.ways = c.ways[1:]
	}
}

func TestARateHoldsOverAllNodes(t *testing.T) {
	for _, rate := range []int{1, 5, 10, 100, 1000} {
		for _, latency := range []time.Duration{time.Millisecond, 20 * time.Millisecond} {
			for _, callers := range []int{1, 3} {
				t.Run(fmt.Sprintf("rate=%d/latency=%v/nodes=%d", rate, latency, callers), func(t *testing.T) {
					l := quota.Strict()
					if err := l.Set(string(quota.SendMessage), fmt.Sprint(rate)); err != nil {
						t.Fatal(err)
					}
					c := newCluster(l)
					const seconds = 20
					through := [seconds]int{}
					for ms := range seconds * 1000 {
						at := now.Add(time.Duration(ms) * time.Millisecond)
						for i := range callers {
							for range 1 + rate/500 { // twice the rate and more, on each node
								if _, ok := c.nodes[i].Take(scope, quota.SendMessage, at); ok {
									through[ms/1000]++
								}
							}
						}
						c.pass(at, latency, ms%100 == 0)
					}
					all := 0
					for _, n := range through {
						all += n
					}
					// A second's worth is there at the beginning, on each node.
					if least, most := seconds*rate, (seconds+callers)*rate; all < least || all > most {
						t.Errorf("%d in %d s at a rate of %d, want %d to %d", all, seconds, rate, least, most)
					}
					after := 0
					for s := 4; s < seconds; s++ {
						after += through[s]
						if most := rate + max(rate/2, callers-1); through[s] > most {
							t.Errorf("%d in the second %d at a rate of %d, want %d at most: %v", through[s], s, rate, most, through)
						}
					}
					if after < (seconds-5)*rate {
						t.Errorf("%d in the last %d s at a rate of %d: %v", after, seconds-4, rate, through)
					}
					if most := seconds * (10 + 10 + 2) * callers; c.sent > most {
						t.Errorf("%d messages between the nodes in %d s, want %d at most", c.sent, seconds, most)
					}
				})
			}
		}
	}
}

// What a node hears costs it no more than a second, and what is unlimited is not told.
func TestADebtIsASecondsWorth(t *testing.T) {
	c := quota.New(quota.Strict())
	c.Share()
	for range 50 {
		c.Took([]quota.Use{{Scope: scope, Key: quota.OperationKey(ivschat.OpGetRoom), N: 5}, {Scope: scope, Key: "of a later version", N: 5}}, now)
	}
	for _, moment := range []struct {
		after time.Duration
		want  int
	}{{0, 0}, {time.Second, 0}, {1500 * time.Millisecond, 2}, {time.Hour, 5}} {
		if n := take(10, func() bool {
			_, ok := c.TakeHTTP(scope, ivschat.OpGetRoom, now.Add(moment.after))
			return ok
		}); n != moment.want {
			t.Errorf("%d go through after %v, want %d", n, moment.after, moment.want)
		}
	}
	free := quota.New(quota.None())
	due := free.Share()
	take(1000, func() bool { _, ok := free.Take(scope, quota.SendMessage, now); return ok })
	take(1000, func() bool { _, ok := free.TakeHTTP(scope, ivschat.OpGetRoom, now); return ok })
	if uses := free.Taken(); uses != nil || len(due) > 0 {
		t.Errorf("%v is told of what is unlimited", uses)
	}
}
