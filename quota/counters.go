package quota

import (
	"sync"
	"time"

	"golang.org/x/time/rate"

	"hubbub/ivschat"
)

// maxScopes bounds the memory of the counters: in `hubbub dev` the region comes
// from the caller. Beyond it the counters of all scopes begin anew, connections
// excepted.
const maxScopes = 1024

// Counters hold the rates of all accounts and regions. Its methods may be called
// from many goroutines.
type Counters struct {
	limits Limits

	due chan struct{} // see Share; nil alone

	mu          sync.Mutex
	latest      time.Time // of all uses
	buckets     map[ivschat.Scope]map[Key]*bucket
	untold      []*bucket
	connections map[ivschat.Scope]int
}

// bucket is a rate of an account in a region.
type bucket struct {
	*rate.Limiter
	untold Use // what other nodes have not been told
}

// New makes counters that hold the limits.
func New(l Limits) *Counters {
	return &Counters{limits: l, buckets: map[ivschat.Scope]map[Key]*bucket{}, connections: map[ivschat.Scope]int{}}
}

// Limits are the quotas that the counters hold.
func (c *Counters) Limits() Limits { return c.limits }

// TakeHTTP counts one call of an operation of the control plane and says whether
// it is within its rate; limit is the quota in requests a second.
func (c *Counters) TakeHTTP(s ivschat.Scope, o ivschat.Operation, now time.Time) (limit int, ok bool) {
	if !c.limits.http[o] {
		return 0, true
	}
	return c.Take(s, OperationKey(o), now)
}

// Take counts one use of a rate: the WebSocket form of DeleteMessage or
// DisconnectUser, or SendMessage.
func (c *Counters) Take(s ivschat.Scope, k Key, now time.Time) (limit int, ok bool) {
	limit = c.limits.values[k]
	if limit == 0 {
		return 0, true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	b, now := c.bucket(s, k, now)
	if ok = b.AllowN(now, 1); ok && c.due != nil {
		c.tell(b)
	}
	return limit, ok
}

// bucket finds a rate, or makes it, and says which time to ask it with. c.mu is held.
func (c *Counters) bucket(s ivschat.Scope, k Key, now time.Time) (*bucket, time.Time) {
	// A limiter takes an earlier time for a clock that was set back, and would
	// refill when the next one comes: callers may overtake one another.
	if now.Before(c.latest) && c.latest.Sub(now) < time.Second {
		now = c.latest
	}
	c.latest = now
	buckets := c.buckets[s]
	if buckets == nil {
		if len(c.buckets) >= maxScopes {
			clear(c.buckets)
		}
		buckets = map[Key]*bucket{}
		c.buckets[s] = buckets
	}
	b := buckets[k]
	if b == nil {
		limit := c.limits.values[k]
		b = &bucket{rate.NewLimiter(rate.Limit(limit), limit), Use{Scope: s, Key: k}}
		buckets[k] = b
	}
	return b, now
}

// Connect counts one connection and says whether there is room for it. Every
// success is given back by one Disconnected.
func (c *Counters) Connect(s ivschat.Scope) bool {
	limit := c.limits.values[Connections]
	c.mu.Lock()
	defer c.mu.Unlock()
	if limit > 0 && c.connections[s] >= limit {
		return false
	}
	c.connections[s]++
	return true
}

// Disconnected gives one connection back.
func (c *Counters) Disconnected(s ivschat.Scope) { c.Reserve(s, -1) }

// Reserve counts so many connections more, or less, whatever the quota.
func (c *Counters) Reserve(s ivschat.Scope, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.connections[s] += n; c.connections[s] <= 0 {
		delete(c.connections, s)
	}
}

// Connections is how many are counted.
func (c *Counters) Connections(s ivschat.Scope) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.connections[s]
}

// ConnectionRate is the requests per second that one connection may make; 0 is
// unlimited.
func (c *Counters) ConnectionRate() int { return c.limits.values[ConnectionRequests] }

// RoomRate is the messages per second that hold for a room with that setting; 0
// is unlimited.
func (c *Counters) RoomRate(setting int) int {
	if !c.limits.RoomRates {
		return 0
	}
	return setting
}

// Bucket is a rate that belongs to one thing: a room's messages or a
// connection's requests. It holds one second's worth, and the rate may differ at
// each call. The zero value is full. It is small and has no lock: its owner calls
// it from one goroutine at a time.
type Bucket struct {
	left float32
	last int64 // Unix time in nanoseconds; 0 before the first use
}

// Use counts one use that was decided on elsewhere, whatever is left.
func (b *Bucket) Use(perSecond int, now time.Time) {
	if perSecond > 0 && !b.Take(perSecond, now) {
		b.left = max(b.left-1, -float32(perSecond))
	}
}

// Take counts one use and says whether it is within the rate per second; a rate
// of 0 is unlimited.
func (b *Bucket) Take(perSecond int, now time.Time) bool {
	if perSecond <= 0 {
		return true
	}
	full, at := float32(perSecond), now.UnixNano()
	switch {
	case b.last == 0:
		b.left = full
	case at > b.last:
		b.left = min(full, b.left+float32(float64(at-b.last)*float64(perSecond)/1e9))
	case b.last-at < int64(time.Second): // a goroutine was overtaken: this second is counted already
		b.left, at = min(full, b.left), b.last
	default: // the clock was set back: nothing is gained, and nothing lost
		b.left = min(full, b.left)
	}
	b.last = at
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}
