package socket

import (
	"errors"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"
)

// receive reads from an open connection, once: who sends without pause lets the
// others go first.
func (l *loop) receive(c *Conn) {
	o := &c.own
	n, errno := tryReceive(o.fd, l.buffer)
	switch {
	case errno == unix.EAGAIN:
		return
	case n == 0:
		l.over(c)
		return
	}
	l.bytesIn += n
	if o.state.is(discarding) {
		b := l.backlog(c)
		if b.ignored += n; b.ignored > mostIgnored {
			l.over(c)
		}
		return
	}
	l.feed(c, l.buffer[:n])
}

// mostIgnored is how much is read from a peer that should end the connection; a
// timer sees to it too.
const mostIgnored = 8 << 20

// errDiscard ends the reading of frames: the peer has sent its last.
var errDiscard = errors.New("discard")

// feed takes what a connection sent apart. A connection that is not in the middle
// of something has no reader of its own.
func (l *loop) feed(c *Conn, b []byte) {
	defer l.server.recover(c)
	o := &c.own
	r := o.partial
	if r == nil {
		l.reader = reader{limit: l.server.config.MaxFrame}
		r = &l.reader
	}
	err := r.read(b, (*inlet)(c))
	if o.fd < 0 { // it ended meanwhile
		return
	}
	var v violation
	switch {
	case err == nil && r.isIdle():
		o.partial = nil
	case err == nil && o.partial == nil:
		own := l.reader
		o.partial = &own
	case err == nil:
	case errors.As(err, &v):
		// The rest of what the peer sends is thrown away until it ends the connection
		// or its time is over: a reset could overtake the close frame.
		l.end(c, ProtocolError, uint16(v.code))
		l.farewell(c, uint16(v.code), v.text)
	case errors.Is(err, errClosed):
		l.over(c)
	default:
		l.discard(c)
	}
}

// isIdle says whether the reader is between two messages.
func (r *reader) isIdle() bool { return r.have == 0 && !r.inside && r.op == 0 }

// farewell sends the close frame that ends the closing handshake.
func (l *loop) farewell(c *Conn, code uint16, reason string) {
	c.own.state |= final
	l.settle(c)
	l.enqueue(c, closeFrame(code, reason))
	if c.own.fd < 0 {
		return
	}
	if c.own.state.is(closeSent) { // an earlier one, of Close
		l.endWriting(c)
	}
	l.discard(c)
}

func (l *loop) discard(c *Conn) {
	c.own.partial = nil
	c.own.state |= discarding
}

// inlet receives what a loop's reader finds.
type inlet Conn

func (i *inlet) message(_ ws.OpCode, payload []byte) {
	c := (*Conn)(i)
	l := c.own.loop
	c.own.alive = l.now
	c.own.framesIn++
	l.framesIn++
	l.heard++
	if c.own.ended.Load() == 0 {
		l.server.handler.Message(c, payload)
	}
}

func (i *inlet) control(op ws.OpCode, payload []byte) error {
	c := (*Conn)(i)
	l := c.own.loop
	c.own.alive = l.now
	switch op {
	case ws.OpPing:
		l.pong(c, &Frame{bytes: encode(ws.OpPong, payload)})
	case ws.OpClose:
		return l.closedByPeer(c, payload)
	}
	return nil
}

// closedByPeer answers a close frame, or completes the handshake that we began.
func (l *loop) closedByPeer(c *Conn, payload []byte) error {
	code, noted, err := closeCode(payload)
	if err != nil {
		return err
	}
	c.own.state |= final
	switch {
	case c.own.ended.Load() == 0:
		l.end(c, ClosedByClient, noted)
		l.farewell(c, code, "")
	case c.own.state.is(closeSent):
		return errClosed
	}
	return errDiscard // until the peer has ours, which is behind what is queued, and ends TCP
}
