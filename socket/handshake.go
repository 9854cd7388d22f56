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
	out      func() bool   // ends it too; false if it has something to say, which nobody has heard yet
	place    *list.Element // in Server.idlers, if it may be turned out; guarded by Server.mu
	heard    time.Duration // when it was accepted or last got on, since Server.begun; guarded by Server.mu
	turned   atomic.Bool   // it was
}

// why is the reason, unless it went because it was turned out.
func (p *stranger) why(otherwise refusal) refusal {
	if p.turned.Load() {
		return crowded
	}
	return otherwise
}

// greet begins the handshake of an accepted connection.
func (s *Server) greet(c net.Conn) {
	p := &stranger{Conn: c, end: func() { _ = c.Close() }}
	p.out = func() bool {
		if unread(c) {
			return false
		}
		p.end()
		return true
	}
	switch s.enlist(p, func() { s.running.Add(1) }) {
	case over:
		_ = c.Close()
		return
	case denied:
		if s.config.TLS == nil {
			newSource(c).look(func([]byte) {}) // closing with unread bytes would reset it
			_, _ = c.Write(noPlace.encode())   // which the kernel takes at once
		}
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

type admission uint8

const (
	listed admission = iota
	denied           // there is no place
	over             // the server accepts nobody any more
)

// enlist gives the stranger a place and calls begin under s.mu. When all places
// are taken it waits for one, and behind it the others in the kernel. The stranger
// that has owed us its request for longest goes for it, if that was PlaceTimeout
// or more: who says nothing keeps nobody out. If all wait for the Handler, and no
// place was given back for that time, the newcomer is refused.
func (s *Server) enlist(p *stranger, begin func()) admission {
	select {
	case s.shaking <- struct{}{}:
	default:
		if !s.placeComes() {
			select {
			case <-s.stop:
				return over
			default:
			}
			s.metrics.refused(full)
			s.complain(full)
			return denied
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		s.vacate()
		return over
	}
	s.strangers.add(p, struct{}{})
	p.heard, p.place = time.Since(s.begun), s.idlers.PushBack(p)
	s.moves()
	begin()
	return listed
}

// moves notes that places are taken and given back.
func (s *Server) moves() { s.moved.Store(int64(time.Since(s.begun))) }

// placeComes takes the place that somebody gives back; it is false if none was
// taken or given back for PlaceTimeout.
func (s *Server) placeComes() bool {
	for {
		select {
		case s.shaking <- struct{}{}:
			return true
		default:
		}
		oldest, some := s.turnOut()
		still := s.config.PlaceTimeout - (time.Since(s.begun) - time.Duration(s.moved.Load()))
		timer := time.NewTimer(still)
		if some {
			timer.Reset(max(s.config.PlaceTimeout-oldest, time.Millisecond))
		}
		select {
		case s.shaking <- struct{}{}:
			timer.Stop()
			return true
		case <-s.stop:
			timer.Stop()
			return false
		case <-timer.C:
			if still <= 0 && !some {
				return false
			}
		}
	}
}

// vacate gives a place back.
func (s *Server) vacate() {
	s.moves()
	<-s.shaking
}

// turnOut ends the handshake of the first who may be turned out, and says for how
// long the next one has owed its request, if there is one.
func (s *Server) turnOut() (next time.Duration, some bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Since(s.begun)
	gone := false
	for range asked {
		first := s.idlers.Front()
		if first == nil {
			return 0, false
		}
		p := first.Value.(*stranger)
		if owes := now - p.heard; gone || owes < s.config.PlaceTimeout {
			return owes, true
		}
		p.turned.Store(true)
		if gone = p.out(); gone { // under the lock, as all that decides about its place; it does not wait
			s.idlers.Remove(first)
			p.place = nil
			s.moves()
			continue
		}
		p.turned.Store(false)
		p.heard = now
		s.idlers.MoveToBack(first)
	}
	return 0, true
}

// gotOn is for a stranger that does what it can, as TLS wants it to.
func (s *Server) gotOn(p *stranger) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.place != nil {
		p.heard = time.Since(s.begun)
		s.idlers.MoveToBack(p.place)
	}
}

// asked is how many at most are asked to find one that is turned out. In a storm
// all of them may have spoken; then places come soon.
const asked = 16

// spared is for who was turned out on a loop when its request had come: it goes
// on, and another is turned out.
func (s *Server) spared(p *stranger) {
	if p.turned.CompareAndSwap(true, false) {
		s.turnOut()
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
		p.heard, p.place = time.Since(s.begun), s.idlers.PushBack(p)
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
	below := &pusher{Conn: c, moves: func() { s.gotOn(p) }}
	if s.config.TLS != nil {
		t := tls.Server(below, s.config.TLS)
		if err := t.Handshake(); err != nil {
			s.metrics.refused(p.why(failedTLS))
			s.leave(p)
			_ = p.Close()
			return
		}
		s.gotOn(p)
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
		s.decidedAgainst(d)
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
	s.line.more()
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
	u := &Upgrade{request: r, came: time.Now(), remote: remote, ctx: ctx, line: &s.line, tell: func(d decision) {
		_ = c.SetReadDeadline(past) // before the decision, after which the connection has other deadlines
		decided <- d
	}}
	s.line.join(u)
	inLine := time.AfterFunc(s.config.LineTimeout, func() { s.quit(u, tooLong) })
	defer inLine.Stop()
	for len(*early) < earlyBytes {
		err := from.receive(func(b []byte) { *early = append(*early, b...) })
		if errors.Is(err, os.ErrDeadlineExceeded) { // there is a decision, or no time left
			break
		}
		if err != nil { // the client is gone; the Handler may have something to give back
			cancel()
			s.quit(u, wentOff)
			break
		}
	}
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case d := <-decided:
		return d
	case <-timer.C:
		if !s.quit(u, tooLong) {
			u.decide(tooLate)
		}
		return <-decided // one that came first counts
	}
}

// decidedAgainst counts a refusal.
func (s *Server) decidedAgainst(d decision) {
	why := byDecision(d)
	s.metrics.refused(why)
	if why == overdue {
		s.complain(why)
	}
}

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
