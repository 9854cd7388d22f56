package socket

import (
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// sleeper wakes for a while, and asks to be woken again meanwhile.
type sleeper struct {
	Handler
	inside, most, calls int // used in one bubble, whose goroutines meet in Wake only
}

func (s *sleeper) Wake(c *Conn) {
	s.calls++
	s.inside++
	s.most = max(s.most, s.inside)
	c.WakeAt(time.Now())
	time.Sleep(10 * time.Second)
	s.inside--
}

// The timer runs for pings while Wake does, and Wake is due again.
func TestPingsDoNotMakeWakeOverlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, theirs) }()
		h := &sleeper{}
		c := &Conn{stream: &stream{server: New(Config{PingInterval: time.Second, SilentIntervals: 1000}, h), net: ours, base: ours, born: time.Now()}}
		c.ping = c.born.Add(time.Second)
		c.WakeAt(time.Now())
		time.Sleep(35 * time.Second)
		c.mu.Lock()
		c.closed = true
		c.timer.Stop()
		c.mu.Unlock()
		c.ticking.Wait()
		if h.most != 1 || h.calls != 4 {
			t.Errorf("%d calls, %d at a time; want 4 in 35 s, one at a time", h.calls, h.most)
		}
		_ = ours.Close()
		_ = theirs.Close()
	})
}

// A client that pongs but does not take our close frame is let go in the end.
func TestAnEndThatDoesNotEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer theirs.Close()
		c := &Conn{stream: &stream{server: New(Config{}, nil), net: ours, base: ours, born: time.Now()}}
		c.out.writing = true // by nobody: the queue does not move
		c.ping = c.born.Add(c.server.config.PingInterval)
		c.Close(1000, "")
		c.WakeAt(time.Time{}) // starts the timer
		begun := time.Now()
		var pongs sync.WaitGroup
		pongs.Go(func() {
			for range 100 {
				time.Sleep(time.Second)
				c.lives()
			}
		})
		defer pongs.Wait()
		_, err := theirs.Read(make([]byte, 1))
		if took := time.Since(begun); err != io.EOF || took < 30*time.Second || took > 61*time.Second {
			t.Errorf("%v after %v, want the end after 30 to 60 s", err, took)
		}
		if c.why != ClosedByServer {
			t.Errorf("%s", c.why)
		}
		c.mu.Lock()
		c.closed = true
		c.timer.Stop()
		c.mu.Unlock()
	})
}
