package socket

import (
	"container/list"
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Server accepts connections on its listeners and holds them. Make one with New.
type Server struct {
	config  Config
	handler Handler
	metrics *metrics

	shaking    chan struct{} // one place for each handshake at a time
	moved      atomic.Int64  // when the last place was taken or given back, in nanoseconds since begun
	begun      time.Time
	line       line // for the Handler
	complaints rate.Sometimes
	stop       chan struct{} // closed when over is set

	// running counts all goroutines but those of Serve. Only greet starts one while
	// there may be none, and looks at over before; all others are started by one that
	// is counted, or for a connection whose reading goroutine cannot end before.
	running sync.WaitGroup

	mu        sync.Mutex
	listeners map[net.Listener]struct{}
	loops     []*loop // made by the first Serve that wants them; none are added later
	strangers crowd[*stranger, struct{}]
	idlers    *list.List // of the strangers those that may be turned out, oldest first
	conns     crowd[*Conn, struct{}]
	over      bool // nobody is accepted any more
}

// New makes a server that reports to the Handler. It holds nothing until Serve.
func New(c Config, h Handler) *Server {
	c = c.filled()
	s := &Server{
		config: c, handler: h, metrics: newMetrics(c.Metrics), begun: time.Now(),
		shaking: make(chan struct{}, c.MaxHandshakes), complaints: rate.Sometimes{Interval: complainEvery}, stop: make(chan struct{}),
		listeners: map[net.Listener]struct{}{}, idlers: list.New(),
	}
	s.line.server, s.line.waiting = s, list.New()
	return s
}

// Len is the number of connections, handshakes not counted.
func (s *Server) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns.in)
}

// Serve accepts connections until Drain or Close, and returns nil then, or the
// error with which the listener failed for good. It closes the listener. One
// server may serve several.
func (s *Server) Serve(l net.Listener) error {
	defer l.Close()
	s.mu.Lock()
	if s.over {
		s.mu.Unlock()
		return nil
	}
	s.listeners[l] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.listeners, l)
		s.mu.Unlock()
	}()
	accept, end := s.acceptor(l)
	if accept != nil {
		defer end()
	} else {
		accept = func() error {
			c, err := l.Accept()
			if err == nil {
				s.greet(c)
			}
			return err
		}
	}
	const shortest, longest = time.Millisecond, time.Second
	pause := shortest
	for {
		err := accept()
		if err == nil {
			pause = shortest
			continue
		}
		select {
		case <-s.stop:
			return nil
		default:
		}
		if _, passing := errors.AsType[net.Error](err); !passing || errors.Is(err, net.ErrClosed) {
			return err
		}
		// Out of descriptors, or a connection that went before it was accepted.
		// Whoever has said nothing for long makes room.
		s.config.Log.Warn("accepting failed", "err", err, "pause", pause)
		for range turnedOut {
			s.turnOut()
		}
		select {
		case <-s.stop:
		case <-time.After(pause):
		}
		pause = min(2*pause, longest)
	}
}

// turnedOut is how many strangers go at once when nobody can be accepted.
const turnedOut = 16

// run is the life of a connection from its 101 on.
func (s *Server) run(c *Conn, from *source, early []byte) {
	defer c.finish()
	defer s.recover(c)
	c.mu.Lock()
	c.ping = c.born.Add(s.config.PingInterval)
	c.schedule(c.born)
	c.mu.Unlock()
	s.open(c)
	s.write(c) // the 101 and what Open queued; until here the outbox was ours
	c.readLoop(from, early)
}

// open calls Handler.Open, which line.more has counted.
func (s *Server) open(c *Conn) {
	defer s.line.done()
	defer s.recover(c)
	s.handler.Open(c)
}

func (s *Server) remove(c *Conn, end End) {
	s.mu.Lock()
	s.conns.remove(c)
	s.mu.Unlock()
	s.metrics.connections.Dec()
	s.metrics.ended[end.Reason].Inc()
}

// recover ends a connection whose Handler failed, and nothing else.
func (s *Server) recover(c *Conn) {
	if p := recover(); p != nil {
		s.config.Log.Error("panic over a connection", "err", p, "stack", string(debug.Stack()))
		c.drop(Panicked)
	}
}

// step is how often Drain drops a batch.
const step = 50 * time.Millisecond

// Drain stops accepting, ends all handshakes, and drops the connections without
// close frames, in random batches spread over the time, all at once if it is 0.
// What the kernel has taken for a connection still reaches it. Drain returns as
// soon as none is left, or when the last was dropped; Close waits for their
// Closed. When ctx ends the rest is dropped at once.
func (s *Server) Drain(ctx context.Context, over time.Duration) {
	s.refuse()
	begun := time.Now()
	for {
		left := s.connections()
		if len(left) == 0 {
			return
		}
		passed := time.Since(begun)
		batch := len(left)
		if steps := int((over - passed) / step); steps > 0 && ctx.Err() == nil {
			batch = (len(left) + steps - 1) / steps
		}
		rand.Shuffle(len(left), func(i, j int) { left[i], left[j] = left[j], left[i] })
		for _, c := range left[:batch] {
			c.drop(Draining)
		}
		if batch == len(left) {
			return
		}
		timer := time.NewTimer(step)
		select {
		case <-ctx.Done():
			timer.Stop()
		case <-timer.C:
		}
	}
}

// refuse ends the listeners and all handshakes.
func (s *Server) refuse() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.over {
		s.over = true
		close(s.stop)
	}
	for l := range s.listeners {
		_ = l.Close()
	}
	for p := range s.strangers.in {
		p.end()
	}
	for _, l := range s.loops {
		l.last()
	}
}

func (s *Server) connections() []*Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*Conn, 0, len(s.conns.in))
	for c := range s.conns.in {
		all = append(all, c)
	}
	return all
}

// Close drops everything and returns when no goroutine of the server runs any
// more and every Closed was called.
func (s *Server) Close() {
	s.Drain(context.Background(), 0)
	s.running.Wait()
}
