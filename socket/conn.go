package socket

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Conn is an accepted connection. Its methods may be called from any goroutine
// and never block.
type Conn struct {
	// Set before Open, read-only after.
	server  *Server
	net     net.Conn
	raw     syscall.RawConn // for one attempt at a write; nil with TLS
	session any
	remote  netip.Addr
	born    time.Time

	// Owned by the reading goroutine.
	framesIn uint64

	alive     atomic.Int64 // nanoseconds since born of the last pong or complete frame
	framesOut atomic.Uint64
	final     atomic.Bool // our close frame ends the closing handshake, or there is none

	out outbox

	mu     sync.Mutex // guards what follows
	timer  *time.Timer
	ping   time.Time // the next one
	wake   time.Time // zero if none is wanted
	ended  bool      // why and code are set
	why    Reason
	code   uint16
	closed bool // Closed was called, or will be at once
	waking sync.WaitGroup
}

// Session is what the Handler gave to Accept.
func (c *Conn) Session() any { return c.session }

// RemoteAddr is the client's address, behind trusted proxies its own.
func (c *Conn) RemoteAddr() netip.Addr { return c.remote }

// Send queues a frame. After Close or Drop it does nothing; if the queue is full
// the connection is reset.
func (c *Conn) Send(f *Frame) {
	if c.queue(f) {
		c.server.write([]*Conn{c})
	}
}

// Close sends a close frame behind what is queued and completes the closing
// handshake, within Config.CloseTimeout. The reason is cut to 123 bytes at a
// character boundary. What is queued later is not sent.
func (c *Conn) Close(code uint16, reason string) { c.close(code, reason, ClosedByServer) }

func (c *Conn) close(code uint16, reason string, why Reason) {
	c.end(why, code)
	c.Send(closeFrame(code, reason))
}

// Drop ends the TCP connection without a close frame; what is queued is lost. To
// a client of the official SDKs this is the sign to come back.
func (c *Conn) Drop() { c.drop(Dropped) }

func (c *Conn) drop(why Reason) {
	c.end(why, noCode)
	c.out.abandon()
	_ = underlying(c.net).Close() // not TLS's: its alert could wait for the peer
}

// reset drops the connection at once and has the kernel forget what it holds.
func (c *Conn) reset(why Reason) {
	c.end(why, noCode)
	c.out.abandon()
	if t, ok := underlying(c.net).(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = underlying(c.net).Close()
}

// noCode stands for an end without a close frame. Source: RFC 6455, 7.4.1.
const noCode = 1006

// end notes why the connection ends; the first reason counts.
func (c *Conn) end(why Reason, code uint16) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended {
		c.ended, c.why, c.code = true, why, code
	}
}

// WakeAt asks for a call of Handler.Wake at the time or soon after. A later call
// replaces the time; after Wake was called another may be asked for.
func (c *Conn) WakeAt(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wake = at
	c.schedule(time.Now())
}

// schedule sets the connection's one timer for what is due first. c.mu is held.
func (c *Conn) schedule(now time.Time) {
	if c.closed {
		return
	}
	next := c.ping
	if !c.wake.IsZero() && c.wake.Before(next) {
		next = c.wake
	}
	wait := max(next.Sub(now), 0)
	if c.timer == nil {
		c.timer = time.AfterFunc(wait, c.tick)
		return
	}
	c.timer.Reset(wait)
}

// tick runs when the timer does: it pings, drops who is silent, and wakes.
func (c *Conn) tick() {
	now := time.Now()
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	c.waking.Add(1)
	defer c.waking.Done()
	pinging, waking := !now.Before(c.ping), !c.wake.IsZero() && !now.Before(c.wake)
	if pinging {
		c.ping = now.Add(c.server.config.PingInterval)
	}
	if waking {
		c.wake = time.Time{}
	}
	c.schedule(now)
	c.mu.Unlock()
	if pinging {
		silence := now.Sub(c.born) - time.Duration(c.alive.Load())
		if silence > time.Duration(c.server.config.SilentIntervals)*c.server.config.PingInterval-c.server.config.PingInterval/10 {
			c.reset(Silent)
			return
		}
		c.Send(ping)
	}
	if waking {
		defer c.server.recover(c)
		c.server.handler.Wake(c)
	}
}

// lives notes a sign of life.
func (c *Conn) lives() { c.alive.Store(int64(time.Since(c.born))) }

// finish is the end of the reading goroutine: nothing else is called after Closed.
func (c *Conn) finish() {
	c.end(ClientGone, noCode)
	c.out.abandon()
	_ = c.net.Close()
	c.mu.Lock()
	c.closed = true
	if c.timer != nil {
		c.timer.Stop()
	}
	end := End{Reason: c.why, Code: c.code, FramesIn: c.framesIn, Age: time.Since(c.born)}
	c.mu.Unlock()
	c.waking.Wait()
	end.FramesOut = c.framesOut.Load()
	c.server.remove(c, end)
	defer c.server.recover(c)
	c.server.handler.Closed(c, end)
}
