package socket

import (
	"errors"
	"net"
	"os"
	"slices"
	"sync"
	"time"
)

// outbox is what is pending for a connection. Frames are references; at most one
// goroutine, the writer, takes from it at a time.
type outbox struct {
	mu      sync.Mutex
	frames  []*Frame
	offset  int  // bytes of frames[0] that are written
	bytes   int  // of all frames
	writing bool // a writer has it
	shut    bool // nothing more is taken
	pong    *Frame
}

// most is how many bytes one write carries: frames are joined up to it.
const most = 16 << 10

// queue adds a frame and says whether the caller must find a writer for it. A
// queue over its bounds ends the connection.
func (c *Conn) queue(f *Frame) (idle bool) {
	o := &c.out
	o.mu.Lock()
	if o.shut {
		o.mu.Unlock()
		return false
	}
	if !f.last && (len(o.frames) >= c.server.config.QueueFrames || o.bytes+len(f.bytes) > c.server.config.QueueBytes) {
		o.mu.Unlock()
		// Closing may wait for the network layer, which no sender does.
		c.server.running.Go(func() { c.reset(SlowViewer) })
		c.out.abandon()
		return false
	}
	o.frames = append(o.frames, f)
	o.bytes += len(f.bytes)
	o.shut = f.last
	idle = !o.writing
	o.writing = true
	o.mu.Unlock()
	return idle
}

// pongs answers a ping; of several unanswered ones the last counts, so that a
// flood of pings queues one frame. Source: RFC 6455, 5.5.3.
func (c *Conn) pongs(f *Frame) {
	o := &c.out
	o.mu.Lock()
	waiting := o.pong != nil
	if o.writing {
		o.pong = f
		o.mu.Unlock()
		return
	}
	o.mu.Unlock()
	if !waiting {
		c.Send(f)
	}
}

// abandon gives up what is pending.
func (o *outbox) abandon() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.shut = true
	o.frames, o.pong, o.bytes, o.offset = nil, nil, 0, 0
}

// next joins what is pending, at most a write's worth, without taking it. With
// nothing pending the writer is done and must not touch the outbox any more.
func (o *outbox) next(join []byte) []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.pong != nil && !o.shut { // ahead of all that is not begun, or a busy room would starve it
		o.frames = slices.Insert(o.frames, min(o.offset, 1), o.pong)
		o.bytes, o.pong = o.bytes+len(o.pong.bytes), nil
	}
	switch len(o.frames) {
	case 0:
		o.writing = false
		o.frames = nil // an idle connection holds no array
		return nil
	case 1:
		return o.frames[0].bytes[o.offset:]
	}
	join = append(join[:0], o.frames[0].bytes[o.offset:]...)
	for _, f := range o.frames[1:] {
		if len(join)+len(f.bytes) > most {
			break
		}
		join = append(join, f.bytes...)
	}
	return join
}

// wrote takes n bytes off, and says how many frames are whole now and whether
// the last of all was among them.
func (o *outbox) wrote(n int) (frames uint64, last bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	done := 0
	for done < len(o.frames) {
		f := o.frames[done]
		left := len(f.bytes) - o.offset
		if n < left {
			o.offset += n
			break
		}
		n -= left
		o.bytes -= len(f.bytes)
		o.offset = 0
		last = last || f.last
		done++
	}
	if done > 0 {
		rest := copy(o.frames, o.frames[done:])
		clear(o.frames[rest:])
		o.frames = o.frames[:rest]
	}
	return uint64(done), last
}

// write sends what is pending for the connections, which the caller has found
// idle, on a goroutine of its own: one attempt each that does not wait. Whose
// kernel buffer is full, or who has TLS, gets a goroutine of its own until it
// is idle again.
func (s *Server) write(conns []*Conn) {
	s.running.Go(func() {
		w := writers.Get().(*writer)
		defer writers.Put(w)
		for _, c := range conns {
			if c.raw == nil || !w.attempt(c) {
				s.running.Go(c.flush)
			}
		}
	})
}

// writer is what a writing goroutine needs.
type writer struct {
	join []byte // room for joined frames

	// Of one attempt.
	pending []byte
	n       int
	err     error
	try     func(fd uintptr) bool
}

var writers = sync.Pool{New: func() any {
	w := &writer{join: make([]byte, 0, most)}
	w.try = func(fd uintptr) bool {
		w.n, w.err = sendOnce(fd, w.pending)
		return true // whatever came of it: an attempt does not wait
	}
	return w
}}

// attempt writes until nothing is pending: true, or until the kernel takes no
// more: false, and the outbox is still the caller's.
func (w *writer) attempt(c *Conn) bool {
	for {
		if w.pending = c.out.next(w.join); w.pending == nil {
			return true
		}
		w.n, w.err = 0, nil
		err := c.raw.Write(w.try)
		if err == nil {
			err = w.err
		}
		if w.n > 0 {
			c.sent(w.n)
		}
		whole := w.n == len(w.pending)
		w.pending = nil
		switch {
		case wouldBlock(err), err == nil && !whole:
			return false
		case err != nil:
			c.broken()
			return true
		}
	}
}

// flush writes until nothing is pending, and waits for the kernel as long as it
// takes something within every StallTimeout.
func (c *Conn) flush() {
	w := writers.Get().(*writer)
	defer writers.Put(w)
	for {
		pending := c.out.next(w.join)
		if pending == nil {
			return
		}
		_ = c.net.SetWriteDeadline(time.Now().Add(c.server.config.StallTimeout))
		n, err := c.net.Write(pending)
		if n > 0 {
			c.sent(n)
		}
		switch {
		case err == nil:
			_ = c.net.SetWriteDeadline(time.Time{})
		case errors.Is(err, os.ErrDeadlineExceeded) && n > 0 && c.raw != nil:
			// Something moved; with TLS a write that was cut short cannot go on.
		case errors.Is(err, os.ErrDeadlineExceeded):
			c.reset(SlowViewer)
			return
		default:
			c.broken()
			return
		}
	}
}

// sent notes written bytes. Behind a close frame nothing is written, and the
// peer has CloseTimeout for its own.
func (c *Conn) sent(n int) {
	frames, last := c.out.wrote(n)
	c.framesOut.Add(frames)
	c.server.metrics.framesOut.Add(float64(frames))
	c.server.metrics.bytesOut.Add(float64(n))
	if !last {
		return
	}
	_ = c.net.SetReadDeadline(time.Now().Add(c.server.config.CloseTimeout))
	if c.final.Load() {
		c.endWriting()
	}
}

// endWriting tells the peer that nothing comes any more: a client waits for the
// server to end TCP. What the peer still sends is read, since closing with
// unread bytes would reset the connection, and the close frame with it.
func (c *Conn) endWriting() {
	if c.raw == nil {
		if t, ok := c.net.(interface{ CloseWrite() error }); ok {
			_ = t.CloseWrite() // TLS says so first
		}
	}
	if t, ok := underlying(c.net).(*net.TCPConn); ok {
		_ = t.CloseWrite()
	}
}

// broken ends a connection that cannot be written to; its reader notices.
func (c *Conn) broken() {
	c.out.abandon()
	_ = c.net.Close()
}

// underlying is the connection below TLS.
func underlying(c net.Conn) net.Conn {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok {
		return t.NetConn()
	}
	return c
}
