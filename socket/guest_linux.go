package socket

import (
	"bytes"
	"context"
	"net/http"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// guest is what a loop knows of a connection until it is open. It asks, and waits
// for the Handler's decision; then it is opened, or it has its refusal and leaves.
type guest struct {
	stranger
	stage stage
	until int64 // when its time in this stage is over
	last  int64 // when it is waited for the Handler no longer
	peer  netip.Addr

	asked    []byte // of its request so far, unless it came in one piece
	searched int    // of it
	request  *http.Request
	early    []byte // what came behind it
	deaf     bool   // nothing more is read until it is open

	upgrade  *Upgrade
	cancel   context.CancelFunc // of its context
	decision decision           // of refusals; set before the post

	doomed, hard bool // it is dropped when it is open

	answer  []byte // that is not written yet
	ignored int    // bytes that were thrown away
}

type stage uint8

const (
	asking  stage = iota // its request is not whole
	waiting              // for the Handler
	leaving              // refused
)

// arrive takes the connection in.
func (l *loop) arrive(c *Conn) {
	l.held++
	l.conns.add(c.own.fd, c)
	l.coming = append(l.coming, c)
	l.allow(c, l.server.config.HandshakeTimeout)
}

// metATurn is with how many handshakes a turn begins. A request is some 15 µs of
// work: those who are open wait a millisecond for it, however many come at once.
const (
	metATurn     = 64
	requestHeard = heardATurn / metATurn // messages that one is counted as
)

// meet begins handshakes. Most who come in a storm have sent their request by then.
func (l *loop) meet() {
	n := min(len(l.coming), metATurn)
	for _, c := range l.coming[:n] {
		if g := c.own.guest; g != nil && g.stage == asking { // else it was turned out or spared meanwhile
			l.watch(c, forInput)
			l.attend(c)
		}
	}
	clear(l.coming[:n])
	if l.coming = l.coming[n:]; len(l.coming) == 0 {
		l.coming = nil
	}
}

// allow gives a guest so much time in its stage.
func (l *loop) allow(c *Conn, d time.Duration) {
	c.own.guest.until = l.now + int64(d)
	l.wheel.set(c, c.own.guest.until)
}

func (l *loop) guestDue(c *Conn) {
	g := c.own.guest
	switch {
	case l.now < g.until: // the wheel reaches only so far
		l.wheel.set(c, g.until)
	case g.stage == waiting:
		if l.server.quit(g.upgrade, tooLong) {
			return
		}
		if l.now < g.last {
			g.until = g.last
			l.wheel.set(c, g.until)
			return
		}
		g.upgrade.decide(tooLate) // unless there is a decision already
	default:
		l.expel(c)
	}
}

// expel ends a handshake. If the Handler is deciding, its decision is still waited
// for; it may have something to give back.
func (l *loop) expel(c *Conn) {
	g := c.own.guest
	switch {
	case g == nil: // it was opened meanwhile, or has gone
	case g.stage == waiting:
		l.giveUp(g)
		if c.own.fd >= 0 {
			l.shutDescriptor(c)
		}
	case g.stage == asking:
		l.server.metrics.refused(g.why(noRequest))
		l.dismiss(c)
	default:
		l.dismiss(c)
	}
}

// giveUp tells the Handler, if it has the request, that it need not hurry: it may
// have something to give back.
func (l *loop) giveUp(g *guest) {
	g.cancel()
	l.server.quit(g.upgrade, wentOff)
}

// turnOut expels a guest that owes its request, unless that has come and the loop
// is behind.
func (l *loop) turnOut(c *Conn) {
	g := c.own.guest
	if g == nil { // it was opened meanwhile, or has gone
		return
	}
	if g.stage == asking {
		l.watch(c, forInput) // meet may still have it before it
		l.attend(c)
	}
	if g.stage == waiting {
		l.server.spared(&g.stranger)
	} else {
		l.expel(c)
	}
}

// dismiss is the end of a guest that is not opened.
func (l *loop) dismiss(c *Conn) {
	if c.own.fd >= 0 {
		l.shutDescriptor(c)
	}
	l.wheel.remove(c)
	l.server.leave(&c.own.guest.stranger)
	l.server.vacate()
	c.own.guest = nil
	l.release()
}

// attend takes what a guest sends.
func (l *loop) attend(c *Conn) {
	g := c.own.guest
	if g.stage == leaving && len(g.answer) > 0 {
		l.writeAnswer(c)
		if c.own.fd < 0 {
			return
		}
	}
	n, errno := tryReceive(c.own.fd, l.buffer)
	if errno == unix.EAGAIN {
		return
	}
	gone := n == 0
	switch b := l.buffer[:n]; g.stage {
	case asking:
		if gone {
			l.expel(c)
		} else {
			l.ask(c, b)
		}
	case waiting:
		if gone {
			l.giveUp(g)
		}
		g.early = append(g.early, b...)
		if gone || len(g.early) >= earlyBytes {
			g.deaf = true
			l.watch(c, 0)
		}
	case leaving:
		if g.ignored += n; gone || g.ignored > lingerBytes {
			l.dismiss(c)
		}
	}
}

// ask takes a piece of the request, and hands it to the Handler if it is whole.
func (l *loop) ask(c *Conn, b []byte) {
	g, s := c.own.guest, l.server
	all := b
	if len(g.asked) > 0 {
		g.asked = append(g.asked, b...)
		all = g.asked
	}
	head, refused := headOf(all, g.searched, s.config.MaxHeader)
	if head == nil && refused == nil {
		if len(g.asked) == 0 {
			g.asked = bytes.Clone(b)
		}
		g.searched = len(all)
		return
	}
	s.keep(&g.stranger, true)
	if refused == nil {
		g.request, refused = parseRequest(head)
	}
	if refused == nil {
		refused = checkRequest(g.request)
	}
	if refused != nil {
		s.metrics.refused(byRequest(refused))
		l.turnAway(c, refused)
		return
	}
	g.early = bytes.Clone(all[len(head):])
	g.asked = nil
	g.stage = waiting
	l.heard += requestHeard
	l.allow(c, min(s.config.LineTimeout, s.config.AcceptTimeout))
	g.last = l.now + int64(s.config.AcceptTimeout)
	ctx, cancel := context.WithTimeout(context.Background(), s.config.AcceptTimeout)
	g.cancel = cancel
	g.upgrade = &Upgrade{request: g.request, came: time.Now(), remote: s.client(g.peer, g.request.Header), ctx: ctx, line: &s.line, tell: func(d decision) { l.decided(c, d) }}
	s.line.join(g.upgrade)
}

// decided takes the decision, on the goroutine that made it. Open may wait: it has
// a goroutine of its own.
func (l *loop) decided(c *Conn, d decision) {
	g, s := c.own.guest, l.server
	if !d.accepted {
		g.decision = d
		l.post(post{kind: refused, conn: c})
		return
	}
	c.session, c.remote = d.session, g.upgrade.remote
	c.own.born = int64(time.Since(l.begun))
	s.line.more()
	s.running.Go(func() {
		s.enrol(&g.stranger, c)
		s.vacate()
		s.open(c)
		l.post(post{kind: opened, conn: c, frame: answer(g.request, d.protocol)})
	})
}

// refuse takes the Handler's refusal.
func (l *loop) refuse(c *Conn) {
	g := c.own.guest
	g.cancel()
	l.server.decidedAgainst(g.decision)
	if c.own.fd < 0 {
		l.dismiss(c)
		return
	}
	l.turnAway(c, &refusedRequest{status: g.decision.status, message: g.decision.message})
}

// turnAway answers, and sees that the client gets the answer: closing with unread
// bytes would reset the connection and may destroy it.
func (l *loop) turnAway(c *Conn, r *refusedRequest) {
	g := c.own.guest
	g.stage, g.answer = leaving, r.encode()
	g.asked, g.early = nil, nil
	l.allow(c, linger)
	l.server.keep(&g.stranger, false)
	l.writeAnswer(c)
}

func (l *loop) writeAnswer(c *Conn) {
	g := c.own.guest
	n, errno := trySend(c.own.fd, g.answer)
	if errno != 0 && errno != unix.EAGAIN {
		l.dismiss(c)
		return
	}
	if g.answer = g.answer[n:]; len(g.answer) > 0 {
		l.watch(c, forInput|forOutput)
		return
	}
	l.endWriting(c)
	l.watch(c, forInput)
}

// open is the beginning of a connection: the 101 goes out, and behind it what
// Open queued.
func (l *loop) open(c *Conn, answer *Frame) {
	o, g := &c.own, c.own.guest
	g.cancel()
	o.guest = nil
	l.wheel.remove(c)
	if o.fd < 0 { // its handshake was ended, too late
		l.end(c, ClientGone, noCode)
		o.state |= shut
		o.out = nil
		l.closed(c)
		return
	}
	if g.doomed {
		l.dropNow(c, g.hard)
		return
	}
	b := l.backlog(c)
	b.frames = append(b.frames, nil)
	copy(b.frames[1:], b.frames)
	b.frames[0] = answer
	b.bytes += len(answer.bytes)
	l.touch(c)
	o.alive, o.ping = o.born, o.born+int64(l.server.config.PingInterval)
	l.schedule(c)
	if len(g.early) > 0 {
		l.feed(c, g.early)
	}
	if g.deaf && o.fd >= 0 {
		l.watch(c, forInput)
	}
}
