package socket

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Conn is an accepted connection. Its methods may be called from any goroutine,
// within the Handler's methods and after the end too, and do not wait for the
// client.
type Conn struct {
	// Set before Open, read-only after.
	session any
	remote  netip.Addr

	*stream       // of the portable transport; nil on a loop
	own     owned // of its loop; zero on the portable transport
}

// stream is a connection of the portable transport.
type stream struct {
	// Set before Open, read-only after.
	server *Server
	net    net.Conn        // TLS, if there is any
	base   net.Conn        // TCP; the same as net without TLS
	raw    syscall.RawConn // for one attempt at a write; nil with TLS
	born   time.Time

	// Owned by the reading goroutine.
	framesIn uint64

	alive     atomic.Int64 // nanoseconds since born of the last pong or complete frame
	framesOut atomic.Uint64
	final     atomic.Bool // our close frame ends the closing handshake: the peer's was here, or is not waited for
	closeSent atomic.Bool // our close frame is written

	out outbox

	mu      sync.Mutex // guards what follows
	timer   *time.Timer
	ping    time.Time // the next one
	wake    time.Time // zero if none is wanted
	waking  bool      // Handler.Wake runs
	ended   time.Time // when why and code were set; zero before
	why     Reason
	code    uint16
	closed  bool           // Closed was called, or will be at once
	ticking sync.WaitGroup // ticks that run
}

// Session is what the Handler gave to Accept.
func (c *Conn) Session() any { return c.session }

// RemoteAddr is the client's address, behind trusted proxies its own; the zero
// Addr if it cannot be told.
func (c *Conn) RemoteAddr() netip.Addr { return c.remote }

// Send queues a frame. After Close, Drop or the end it does nothing; if the queue
// is full the connection is reset.
func (c *Conn) Send(f *Frame) {
	if c.own.loop != nil {
		c.own.loop.send(c, f)
		return
	}
	if c.queue(f) {
		c.server.write(c)
	}
}

// Close sends a close frame behind what is queued and completes the closing
// handshake: the client has Config.CloseTimeout for its part from when the frame
// is written. The reason is cut to 123 bytes at a character boundary; a code of 0
// sends neither. What is queued later is not sent, and what the client sends from
// now on is not handed on.
func (c *Conn) Close(code uint16, reason string) { c.close(code, reason, ClosedByServer) }

func (c *Conn) close(code uint16, reason string, why Reason) {
	c.end(why, code)
	c.Send(closeFrame(code, reason))
}

// Drop resets the TCP connection, without a close frame; what is queued is lost.
// To a client of the official SDKs this is the sign to come back.
func (c *Conn) Drop() { c.reset(Dropped) }

// reset drops the connection at once and has the kernel forget what it holds.
func (c *Conn) reset(why Reason) {
	if c.own.loop != nil {
		c.own.loop.drop(c, why, true)
		return
	}
	if t, ok := c.base.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	c.drop(why)
}

// drop ends the TCP connection without a close frame; what the kernel has of it
// is still sent.
func (c *Conn) drop(why Reason) {
	if c.own.loop != nil {
		c.own.loop.drop(c, why, false)
		return
	}
	c.end(why, noCode)
	c.out.abandon()
	_ = c.base.Close() // not TLS's: its alert could wait for the peer
}

// noCode stands for an end without a close frame. Source: RFC 6455, 7.4.1.
const noCode = 1006

// end notes why the connection ends; the first reason counts.
func (c *Conn) end(why Reason, code uint16) {
	if c.own.loop != nil {
		c.own.loop.end(c, why, code)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended.IsZero() {
		c.ended, c.why, c.code = time.Now(), why, code
	}
}

// ending says whether the connection's end has begun.
func (c *Conn) ending() bool {
	if c.own.loop != nil {
		return c.own.ended.Load() != 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.ended.IsZero()
}

// WakeAt asks for one call of Handler.Wake at the time or soon after, at once if
// it has passed; the zero Time asks for none. A later call replaces the time. It
// may be called from within Wake.
func (c *Conn) WakeAt(at time.Time) {
	if c.own.loop != nil {
		c.own.loop.wakeAt(c, at)
		return
	}
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
	if !c.wake.IsZero() && !c.waking && c.wake.Before(next) {
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
	every := c.server.config.PingInterval
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	c.ticking.Add(1)
	defer c.ticking.Done()
	pinging := !now.Before(c.ping)
	waking := !c.wake.IsZero() && !c.waking && !now.Before(c.wake)
	stuck := !c.ended.IsZero() && now.Sub(c.ended) > every
	if pinging {
		c.ping = now.Add(every)
	}
	if waking {
		c.wake, c.waking = time.Time{}, true
	}
	c.schedule(now)
	c.mu.Unlock()
	if pinging {
		silence := now.Sub(c.born) - time.Duration(c.alive.Load())
		// The tenth is for a pong that came a little after its ping.
		if stuck || silence > time.Duration(c.server.config.SilentIntervals)*every-every/10 {
			c.reset(Silent)
		} else {
			c.Send(ping)
		}
	}
	if waking {
		c.callWake()
	}
}

func (c *Conn) callWake() {
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.waking = false
		c.schedule(time.Now())
	}()
	defer c.server.recover(c)
	c.server.handler.Wake(c)
}

// lives notes a sign of life.
func (c *Conn) lives() { c.alive.Store(int64(time.Since(c.born))) }

// finish is the end of the reading goroutine: when Closed is called nothing else
// of this connection runs any more.
func (c *Conn) finish() {
	c.end(ClientGone, noCode)
	c.out.abandon()
	if c.closeSent.Load() {
		_ = c.net.Close() // TLS says good-bye, too
	}
	_ = c.base.Close()
	c.out.settled()
	c.mu.Lock()
	c.closed = true
	if c.timer != nil {
		c.timer.Stop()
	}
	end := End{Reason: c.why, Code: c.code, FramesIn: c.framesIn, Age: time.Since(c.born)}
	c.mu.Unlock()
	c.ticking.Wait()
	end.FramesOut = c.framesOut.Load()
	c.server.remove(c, end)
	defer c.server.recover(c)
	c.server.handler.Closed(c, end)
}
