package socket

import (
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// stranger is a connection in its handshake.
type stranger struct {
	net.Conn               // nil on a loop
	end      func()        // ends the connection, soon
	place    *list.Element // in Server.idlers, if it may be turned out; guarded by Server.mu
	turned   atomic.Bool   // it was
}

// why is the reason, unless it went because it was turned out.
func (p *stranger) why(otherwise refusal) refusal {
	if p.turned.Load() {
		return crowded
	}
	return otherwise
}

// greet begins the handshake of an accepted connection. When all places are
// taken the stranger that has owed us its request for longest goes: who says
// nothing keeps nobody out. If the Handler has them all, it waits.
func (s *Server) greet(c net.Conn) {
	p := &stranger{Conn: c, end: func() { _ = c.Close() }}
	if !s.enlist(p, func() { s.running.Add(1) }) {
		_ = c.Close()
		return
	}
	go func() {
		defer s.running.Done()
		defer s.vacate()
		defer func() {
			if err := recover(); err != nil {
				s.config.Log.Error("panic over a handshake", "err", err, "stack", string(debug.Stack()))
				s.leave(p)
				_ = p.Close()
			}
		}()
		s.shake(p)
	}()
}

// enlist waits for a place, gives it to the stranger, and calls begin under s.mu;
// it is false if the server accepts nobody any more.
func (s *Server) enlist(p *stranger, begin func()) bool {
	select {
	case s.shaking <- struct{}{}:
	default:
		s.turnOut()
		s.shaking <- struct{}{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		s.vacate()
		return false
	}
	s.strangers.add(p, struct{}{})
	p.place = s.idlers.PushBack(p)
	begin()
	return true
}

// vacate gives a place back.
func (s *Server) vacate() { <-s.shaking }

// turnOut ends the handshake of the first who may be turned out.
func (s *Server) turnOut() {
	s.mu.Lock()
	first := s.idlers.Front()
	var p *stranger
	if first != nil {
		p = s.idlers.Remove(first).(*stranger)
		p.place = nil
	}
	s.mu.Unlock()
	if p != nil {
		p.turned.Store(true)
		p.end()
	}
}

// keep says that the stranger may not be turned out from here on, or that it
// may: it has its answer and lingers.
func (s *Server) keep(p *stranger, stays bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case stays && p.place != nil:
		s.idlers.Remove(p.place)
		p.place = nil
	case !stays && p.place == nil:
		p.place = s.idlers.PushBack(p)
	}
}

// leave ends the stranger's time as one.
func (s *Server) leave(p *stranger) {
	s.keep(p, true)
	s.mu.Lock()
	s.strangers.remove(p)
	s.mu.Unlock()
}

// shake does the handshake, and starts the connection's own goroutine, whose
// stack has not seen TLS and HTTP, if it was accepted.
func (s *Server) shake(p *stranger) {
	_ = p.SetDeadline(time.Now().Add(s.config.HandshakeTimeout))
	if t, ok := p.Conn.(*net.TCPConn); ok {
		_ = t.SetWriteBuffer(s.config.SendBuffer)
	}
	c := p.Conn
	below := &pusher{Conn: c}
	if s.config.TLS != nil {
		t := tls.Server(below, s.config.TLS)
		if err := t.Handshake(); err != nil {
			s.metrics.refused(p.why(failedTLS))
			s.leave(p)
			_ = p.Close()
			return
		}
		c = t
	}
	from := newSource(c)
	request, early, err := readRequest(from, s.config.MaxHeader)
	s.keep(p, true)
	if err == nil {
		if r := checkRequest(request); r != nil {
			err = r
		}
	}
	if err != nil {
		r, ok := errors.AsType[*refusedRequest](err)
		if ok {
			s.metrics.refused(byRequest(r))
		} else {
			s.metrics.refused(p.why(noRequest))
		}
		s.refuseStranger(p, c, r)
		return
	}
	remote := s.client(addressOf(p.Conn), request.Header)
	d := s.decide(c, from, request, remote, &early)
	if !d.accepted {
		s.metrics.refused(byDecision(d))
		s.refuseStranger(p, c, &refusedRequest{status: d.status, message: d.message})
		return
	}
	_ = c.SetDeadline(time.Time{})
	conn := &Conn{session: d.session, remote: remote, stream: &stream{server: s, net: c, base: p.Conn, born: time.Now()}}
	if c == p.Conn {
		conn.raw = from.raw
	}
	below.conn = conn
	reply := answer(request, d.protocol)
	conn.out.frames = append(conn.out.few[:0], reply)
	conn.out.bytes, conn.out.writing = len(reply.bytes), true // until Open is through
	s.enrol(p, conn)
	s.running.Go(func() { s.run(conn, from, early) })
}

// enrol makes an accepted stranger a connection of the server. If that is ending,
// Open and Closed are still called: the session is the Handler's.
func (s *Server) enrol(p *stranger, c *Conn) {
	s.metrics.connections.Inc()
	s.leave(p)
	s.mu.Lock()
	s.conns.add(c, struct{}{})
	over := s.over
	s.mu.Unlock()
	if over {
		c.drop(Draining)
	}
}

// refuseStranger answers, if there is an answer, and ends the connection.
func (s *Server) refuseStranger(p *stranger, c net.Conn, r *refusedRequest) {
	if r != nil {
		s.keep(p, false)
		writeRefusal(c, p.Conn, r)
	}
	s.leave(p)
	_ = p.Close()
}

// earlyBytes is how much may come behind a request before its answer.
const earlyBytes = 16 << 10

// decide asks the Handler and waits for its answer. Meanwhile it reads, to see
// the client go; what comes is added to early.
func (s *Server) decide(c net.Conn, from *source, r *http.Request, remote netip.Addr, early *[]byte) decision {
	until := time.Now().Add(s.config.AcceptTimeout)
	ctx, cancel := context.WithDeadline(context.Background(), until)
	defer cancel()
	_ = c.SetDeadline(until)
	decided := make(chan decision, 1)
	u := &Upgrade{request: r, remote: remote, ctx: ctx, tell: func(d decision) {
		_ = c.SetReadDeadline(past) // before the decision, after which the connection has other deadlines
		decided <- d
	}}
	s.running.Go(func() { s.ask(u) })
	for len(*early) < earlyBytes {
		err := from.receive(func(b []byte) { *early = append(*early, b...) })
		if errors.Is(err, os.ErrDeadlineExceeded) { // there is a decision, or no time left
			break
		}
		if err != nil { // the client is gone; the Handler may have something to give back
			cancel()
			break
		}
	}
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case d := <-decided:
		return d
	case <-timer.C:
		u.decide(tooLate)
		return <-decided // one that came first counts
	}
}

// tooLate is our decision when the Handler has made none.
var tooLate = decision{status: http.StatusServiceUnavailable, message: "The server could not decide in time. Try again.", late: true}

// ask calls Handler.Handshake.
func (s *Server) ask(u *Upgrade) {
	defer func() {
		if p := recover(); p != nil {
			s.config.Log.Error("panic in a handshake", "err", p, "stack", string(debug.Stack()))
			u.Refuse(http.StatusInternalServerError, "Internal server error")
		}
	}()
	s.handler.Handshake(u)
}

// addressOf is the peer's address, the zero Addr if it has none.
func addressOf(c net.Conn) netip.Addr {
	peer, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return peer.Addr().Unmap()
}

// client is the address that a connection of the peer comes from. X-Forwarded-For
// is believed from the right, as far as the proxies that it names are trusted.
func (s *Server) client(at netip.Addr, h http.Header) netip.Addr {
	trusted := func(a netip.Addr) bool {
		return slices.ContainsFunc(s.config.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	if len(h["X-Forwarded-For"]) == 0 || !at.IsValid() {
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
