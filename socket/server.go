package socket

import (
	"context"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"
)

// Server accepts connections on its listeners and holds them. Make one with New.
type Server struct {
	config  Config
	handler Handler
	metrics *metrics

	shaking chan struct{} // one place for each handshake at a time
	running sync.WaitGroup

	mu        sync.Mutex
	listeners map[net.Listener]struct{}
	strangers map[net.Conn]struct{} // in their handshakes
	conns     map[*Conn]struct{}
	over      bool // nobody is accepted any more
}

// New makes a server that reports to the Handler. It holds nothing until Serve.
func New(c Config, h Handler) *Server {
	c = c.filled()
	return &Server{
		config: c, handler: h, metrics: newMetrics(c.Metrics), shaking: make(chan struct{}, c.MaxHandshakes),
		listeners: map[net.Listener]struct{}{}, strangers: map[net.Conn]struct{}{}, conns: map[*Conn]struct{}{},
	}
}

// Len is the number of connections, handshakes not counted.
func (s *Server) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Serve accepts connections until Drain or Close, and returns nil then, or when
// the listener fails for good. It closes the listener.
func (s *Server) Serve(l net.Listener) error {
	s.mu.Lock()
	if s.over {
		s.mu.Unlock()
		return l.Close()
	}
	s.listeners[l] = struct{}{}
	s.mu.Unlock()
	defer l.Close()
	pause := time.Millisecond
	for {
		s.shaking <- struct{}{}
		c, err := l.Accept()
		if err == nil {
			pause = time.Millisecond
			s.greet(c)
			continue
		}
		<-s.shaking
		s.mu.Lock()
		over := s.over
		delete(s.listeners, l)
		s.mu.Unlock()
		if over || errors.Is(err, net.ErrClosed) {
			if over {
				return nil
			}
			return err
		}
		var network net.Error
		if !errors.As(err, &network) {
			return err
		}
		// Out of descriptors, or a connection that went before it was accepted.
		s.config.Log.Warn("accepting failed", "err", err, "pause", pause)
		time.Sleep(pause)
		pause = min(2*pause, time.Second)
		s.mu.Lock()
		s.listeners[l] = struct{}{}
		s.mu.Unlock()
	}
}

// greet begins the handshake; its place in shaking is taken.
func (s *Server) greet(c net.Conn) {
	s.mu.Lock()
	if s.over {
		s.mu.Unlock()
		<-s.shaking
		_ = c.Close()
		return
	}
	s.strangers[c] = struct{}{}
	s.running.Add(1)
	s.mu.Unlock()
	go func() {
		defer s.running.Done()
		conn, first := s.shake(c)
		<-s.shaking
		if conn == nil {
			s.mu.Lock()
			delete(s.strangers, c)
			s.mu.Unlock()
			_ = c.Close()
			return
		}
		s.run(conn, first)
	}()
}

// run is the life of a connection from its 101 on.
func (s *Server) run(c *Conn, first []byte) {
	defer c.finish()
	defer s.recover(c)
	c.mu.Lock()
	c.ping = c.born.Add(s.config.PingInterval)
	c.schedule(c.born)
	c.mu.Unlock()
	s.handler.Open(c)
	s.write([]*Conn{c}) // the 101 and what Open queued; until here the outbox was ours
	c.readLoop(first)
}

// shake does the handshake: nil if the connection was refused or went away.
func (s *Server) shake(c net.Conn) (*Conn, []byte) {
	begun := time.Now()
	_ = c.SetDeadline(begun.Add(s.config.HandshakeTimeout))
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetWriteBuffer(s.config.SendBuffer)
	}
	plain := c
	if s.config.TLS != nil {
		t := tls.Server(c, s.config.TLS)
		if err := t.Handshake(); err != nil {
			s.metrics.refusedHandshake("tls")
			return nil, nil
		}
		c = t
	}
	request, first, err := readRequest(c, s.config.MaxHeader)
	if err == nil {
		if r := checkRequest(request); r != nil {
			err = r
		}
	}
	if err != nil {
		var r *refusedRequest
		if !errors.As(err, &r) {
			s.metrics.refusedHandshake("no_request")
			return nil, nil
		}
		s.metrics.refusedHandshake("bad_request")
		writeRefusal(c, r)
		return nil, nil
	}
	remote := s.client(plain, request.Header)
	d := s.decide(request, remote)
	if !d.accepted {
		s.metrics.refusedHandshake(http.StatusText(d.status))
		writeRefusal(c, &refusedRequest{status: d.status, message: d.message})
		return nil, nil
	}
	_ = c.SetDeadline(time.Time{})
	conn := &Conn{server: s, net: c, session: d.session, remote: remote, born: time.Now()}
	if t, ok := c.(*net.TCPConn); ok {
		if raw, err := t.SyscallConn(); err == nil {
			conn.raw = raw
		}
	}
	reply := answer(request, d.protocol)
	conn.out = outbox{frames: []*Frame{reply}, bytes: len(reply.bytes), writing: true}
	s.metrics.connections.Inc()
	s.mu.Lock()
	delete(s.strangers, plain)
	s.conns[conn] = struct{}{}
	over := s.over
	s.mu.Unlock()
	if over {
		conn.drop(Draining) // Open and Closed are still called: the session is the Handler's
	}
	return conn, first
}

// decide asks the Handler and waits for its answer.
func (s *Server) decide(r *http.Request, remote netip.Addr) decision {
	ctx, cancel := context.WithTimeout(context.Background(), s.config.AcceptTimeout)
	defer cancel()
	u := &Upgrade{request: r, remote: remote, ctx: ctx, decision: make(chan decision, 1)}
	func() {
		defer func() {
			if p := recover(); p != nil {
				s.config.Log.Error("panic in a handshake", "err", p, "stack", string(debug.Stack()))
				u.Refuse(http.StatusInternalServerError, "Internal server error")
			}
		}()
		s.handler.Handshake(u)
	}()
	select {
	case d := <-u.decision:
		return d
	case <-ctx.Done():
		u.Refuse(http.StatusServiceUnavailable, "The server could not decide in time. Try again.")
		return <-u.decision // an Accept that came first counts
	}
}

// client is the address that a connection comes from. X-Forwarded-For is
// believed from the right, as far as the proxies that it names are trusted.
func (s *Server) client(c net.Conn, h http.Header) netip.Addr {
	peer, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	at := peer.Addr().Unmap()
	trusted := func(a netip.Addr) bool {
		return slices.ContainsFunc(s.config.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	if len(h["X-Forwarded-For"]) == 0 {
		return at
	}
	hops := strings.Split(strings.Join(h["X-Forwarded-For"], ","), ",")
	for i := len(hops) - 1; i >= 0 && trusted(at); i-- {
		hop := strings.Trim(hops[i], " \t")
		a, err := netip.ParseAddr(hop)
		if err != nil { // some write the port, too
			p, perr := netip.ParseAddrPort(hop)
			if perr != nil {
				return netip.Addr{} // better unknown than the proxy's
			}
			a = p.Addr()
		}
		at = a.Unmap()
	}
	return at
}

func (s *Server) remove(c *Conn, end End) {
	s.mu.Lock()
	delete(s.conns, c)
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

// Drain stops accepting and drops the connections without close frames, in
// random batches spread over the time, all at once if it is 0; it returns when
// none is left. When ctx ends the rest is dropped at once.
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
	s.over = true
	for l := range s.listeners {
		_ = l.Close()
	}
	for c := range s.strangers {
		_ = c.Close()
	}
}

func (s *Server) connections() []*Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*Conn, 0, len(s.conns))
	for c := range s.conns {
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
