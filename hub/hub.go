package hub

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hubbub/chattoken"
	"hubbub/engine"
	"hubbub/ivschat"
	"hubbub/quota"
	"hubbub/registry"
	"hubbub/review"
	"hubbub/socket"
)

// Options are what a hub is built on. Registry, Tokens, Used and Quota are
// required.
type Options struct {
	Registry *registry.Registry
	Tokens   *chattoken.KeyRing
	Used     *engine.Once
	Quota    *quota.Counters

	// Review asks the rooms' message review handlers; nil means that nothing is
	// invoked and each room's fallback decides.
	Review *review.Reviewer

	// Record takes what the viewers of a room with logging configurations get; nil
	// means that nothing is logged. It is called in the order of the room, under
	// its lock: it must not wait for anything.
	Record func(ivschat.Record)

	// Blocked says whether the account is pending verification; nil means that
	// none is. It is asked at each handshake and action and must be cheap.
	Blocked func(account string) bool

	// Serves says whether the node serves the account and region; nil means all.
	Serves func(ivschat.Scope) bool

	// Bus is the way to the hubs of other nodes; nil alone.
	Bus *engine.Bus

	// Socket configures the connections; its Log and Metrics are set from those here if nil.
	Socket socket.Config

	Log     *slog.Logger          // nil discards
	Metrics prometheus.Registerer // nil keeps them unregistered
	Now     func() time.Time      // nil means time.Now
}

// Hub is the messaging plane of one node. Its methods may be called from many
// goroutines.
type Hub struct {
	// Set by New, read-only after.
	registry *registry.Registry
	tokens   *chattoken.KeyRing
	used     *engine.Once
	quota    *quota.Counters
	review   *review.Reviewer // nil without one
	record   func(ivschat.Record)
	blocked  func(account string) bool
	serves   func(ivschat.Scope) bool
	now      func() time.Time
	log      *slog.Logger
	metrics  *metrics
	sockets  *socket.Server
	patience time.Duration // with the store, at a handshake
	cluster  *cluster      // nil alone

	// Shared.
	refusals, lives *frequency // of records in the log
	flapping        *flapping
	numbers         atomic.Uint32

	mu        sync.Mutex
	rooms     map[ivschat.ARN]*room
	lingering []*room // deserted ones, the first to be removed first
}

// New makes a hub. Serve makes it accept viewers.
func New(o Options) *Hub {
	h := &Hub{
		registry: o.Registry, tokens: o.Tokens, used: o.Used, quota: o.Quota, review: o.Review, record: o.Record,
		blocked: o.Blocked, serves: o.Serves, now: o.Now, log: o.Log,
		metrics: newMetrics(o.Metrics), patience: storePatience,
		refusals: newFrequency(10, 50), lives: newFrequency(100, 500), flapping: newFlapping(),
		rooms: map[ivschat.ARN]*room{},
	}
	if h.record == nil {
		h.record = func(ivschat.Record) {}
	}
	if h.blocked == nil {
		h.blocked = func(string) bool { return false }
	}
	if h.serves == nil {
		h.serves = func(ivschat.Scope) bool { return true }
	}
	if h.now == nil {
		h.now = time.Now
	}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	h.log = h.log.With("component", "hub")
	if o.Socket.Log == nil {
		o.Socket.Log = o.Log
	}
	if o.Socket.Metrics == nil {
		o.Socket.Metrics = o.Metrics
	}
	h.sockets = socket.New(o.Socket, h)
	if o.Bus != nil {
		h.cluster = newCluster(h, o.Bus)
	}
	return h
}

// Serve accepts viewers on the listener until Drain or Close. See socket.Server.
func (h *Hub) Serve(l net.Listener) error { return h.sockets.Serve(l) }

// Drain stops accepting and drops the viewers in small random batches over the
// time given, without close frames, so that the SDKs come back to another node
// or to the next start.
func (h *Hub) Drain(ctx context.Context, over time.Duration) { h.sockets.Drain(ctx, over) }

// Close drops all viewers and returns when nothing of the hub runs any more, but
// for messages under review: they are delivered, to the log if to nobody else,
// until the Reviewer is closed.
func (h *Hub) Close() {
	h.sockets.Close()
	if h.cluster != nil {
		h.cluster.close()
	}
}

// Viewers is the number of connections.
func (h *Hub) Viewers() int { return h.sockets.Len() }

// linger is how long a room without viewers stays: by then its rate has refilled,
// so that leaving and coming back gains nobody a message.
const linger = time.Second

// enter holds the room for a connection, and makes it for the first one.
func (h *Hub) enter(arn ivschat.ARN, scope ivschat.Scope) *room {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sweep()
	r := h.rooms[arn]
	if r == nil {
		r = &room{arn: arn, scope: scope, record: h.record, group: h.sockets.NewGroup(), users: map[string]*viewer{}}
		h.rooms[arn] = r
		if h.cluster != nil {
			r.cluster = h.cluster
			h.cluster.enter(r)
		}
	}
	if r.held++; r.held == 1 {
		h.metrics.rooms.Inc()
	}
	return r
}

// exit gives back what enter and the connection quota gave.
func (h *Hub) exit(r *room) {
	h.quota.Disconnected(r.scope)
	h.leaveRoom(r)
}

// leaveRoom ends one hold on the room.
func (h *Hub) leaveRoom(r *room) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r.held--; r.held == 0 {
		h.metrics.rooms.Dec()
		r.deserted = h.now()
		if !r.lingering {
			r.lingering = true
			h.lingering = append(h.lingering, r)
		}
	}
	h.sweep()
}

// sweep removes rooms that nobody came back to. h.mu is held.
func (h *Hub) sweep() {
	now := h.now()
	for len(h.lingering) > 0 {
		r := h.lingering[0]
		if r.held == 0 && now.Sub(r.deserted) < linger {
			return
		}
		h.lingering[0] = nil
		h.lingering = h.lingering[1:]
		r.lingering = false
		if r.held == 0 {
			delete(h.rooms, r.arn)
			if h.cluster != nil {
				h.cluster.leave(r)
			}
		}
	}
}

// find is the room, or nil if nobody on this node is in it.
func (h *Hub) find(arn ivschat.ARN) *room {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.rooms[arn]
}
