package socket

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

const (
	// share is how many connections one goroutine writes to in turn: enough to make
	// its start cheap, few enough that a big group uses every processor.
	share = 256

	// turns is how many writes a connection gets before it is handed to a goroutine
	// of its own: one that is sent without pause must not keep the others of its
	// share waiting.
	turns = 4
)

// writer is what a goroutine needs that writes to a share of connections. It
// makes one attempt each that does not wait; a connection whose kernel buffer is
// full, or that has TLS, gets a goroutine of its own until it is idle again. So no
// goroutine writes for who is idle, and nobody waits for who does not read.
type writer struct {
	server *Server
	conns  []*Conn
	start  func() // run, bound once

	join          []byte // room for joined frames
	frames, bytes int    // written so far

	// Of one attempt.
	pending []byte
	n       int
	err     error
	try     func(fd uintptr) bool
}

var writers sync.Pool

func (s *Server) writer() *writer {
	w, ok := writers.Get().(*writer)
	if !ok {
		w = &writer{}
		w.start = w.run
		w.try = func(fd uintptr) bool {
			w.n, w.err = sendOnce(fd, w.pending)
			return true // whatever came of it: an attempt does not wait
		}
	}
	w.server = s
	return w
}

func (w *writer) put() {
	w.server.metrics.framesOut.Add(float64(w.frames))
	w.server.metrics.bytesOut.Add(float64(w.bytes))
	clear(w.conns)
	w.conns = w.conns[:0]
	w.server, w.frames, w.bytes = nil, 0, 0
	writers.Put(w)
}

// write sends what is pending for a connection that the caller found without a
// writer. The server cannot end meanwhile: the connection's end waits for its
// writer.
func (s *Server) write(c *Conn) {
	w := s.writer()
	w.conns = append(w.conns, c)
	s.running.Go(w.start)
}

func (w *writer) run() {
	defer w.put()
	for _, c := range w.conns {
		if c.raw == nil || !w.attempt(c) {
			w.server.running.Go(c.flush)
		}
	}
}

// attempt writes until nothing is pending: true, or until the kernel takes no
// more or others should have their turn: false, and the outbox still has this
// writer.
func (w *writer) attempt(c *Conn) bool {
	for range turns {
		pending, over := c.out.next(&w.join)
		if over {
			c.reset(SlowViewer)
			continue
		}
		if pending == nil {
			return true
		}
		w.pending, w.n, w.err = pending, 0, nil
		err := c.raw.Write(w.try)
		if err == nil {
			err = w.err
		}
		w.pending = nil
		if w.n > 0 {
			w.sent(c, w.n)
		}
		switch {
		case wouldBlock(err), err == nil && w.n < len(pending):
			return false
		case err != nil:
			c.broken(err)
		}
	}
	return false
}

// flush writes until nothing is pending, and waits for the kernel as long as it
// takes something within every StallTimeout.
func (c *Conn) flush() {
	w := c.server.writer()
	defer w.put()
	for {
		pending, over := c.out.next(&w.join)
		if over {
			c.reset(SlowViewer)
			continue
		}
		if pending == nil {
			return
		}
		var n int
		var err error
		if c.raw != nil {
			n, err = c.push(pending)
		} else {
			n, err = c.net.Write(pending) // which pushes
		}
		if n > 0 {
			w.sent(c, n)
		}
		if err != nil {
			c.broken(err)
		}
	}
}

// past interrupts who waits.
var past = time.Unix(1, 0)

// push writes to TCP. It gives up with os.ErrDeadlineExceeded when the kernel took
// nothing for StallTimeout, or the outbox was over its bounds.
func (c *Conn) push(b []byte) (n int, err error) {
	for {
		// In this order: queue sets over and then the deadline.
		_ = c.base.SetWriteDeadline(time.Now().Add(c.server.config.StallTimeout))
		if c.out.isOver() {
			return n, os.ErrDeadlineExceeded
		}
		m, err := c.base.Write(b[n:])
		n += m
		if err == nil {
			_ = c.base.SetWriteDeadline(time.Time{})
			return n, nil
		}
		if m == 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
	}
}

// pusher is the connection below TLS. Once conn is set its writes are pushed: a
// TLS record that was cut short could not go on later.
type pusher struct {
	net.Conn
	conn  *Conn
	moves func() // called at each write before that
}

func (p *pusher) Write(b []byte) (int, error) {
	if p.conn == nil {
		p.moves()
		return p.Conn.Write(b)
	}
	return p.conn.push(b)
}

// sent notes written bytes. Behind a close frame nothing is written, and the
// peer has CloseTimeout for its own.
func (w *writer) sent(c *Conn, n int) {
	frames, last := c.out.wrote(n)
	c.framesOut.Add(frames)
	w.frames += int(frames)
	w.bytes += n
	if !last {
		return
	}
	_ = c.net.SetReadDeadline(time.Now().Add(c.server.config.CloseTimeout))
	c.closeSent.Store(true)
	if c.final.Load() {
		c.endWriting()
	}
}

// endWriting tells the peer that nothing comes any more: a client waits for the
// server to end TCP. What the peer still sends is read, since closing with
// unread bytes would reset the connection, and the close frame with it.
func (c *Conn) endWriting() { closeWrite(c.net, c.base) }

// closeWrite ends our side of TLS, if there is one, and of TCP below it.
func closeWrite(c, base net.Conn) {
	for _, c := range []net.Conn{c, base} {
		if h, ok := c.(interface{ CloseWrite() error }); ok {
			_ = h.CloseWrite()
		}
	}
}

// broken ends a connection that cannot be written to; its reader notices.
func (c *Conn) broken(err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.reset(SlowViewer)
		return
	}
	c.out.abandon()
	_ = c.base.Close()
}
