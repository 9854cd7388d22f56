package socket

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// pushing writes to a peer that takes some bytes every so often, n times.
func pushing(t *testing.T, size, bite int, every time.Duration, bites int) (written int, took time.Duration, err error) {
	t.Helper()
	ours, theirs := net.Pipe()
	defer ours.Close()
	defer theirs.Close()
	c := &Conn{stream: &stream{server: New(Config{}, nil), base: ours}}
	go func() {
		for range bites {
			time.Sleep(every) // the bubble's clock
			if _, err := io.ReadFull(theirs, make([]byte, bite)); err != nil {
				return
			}
		}
	}()
	begun := time.Now()
	written, err = c.push(make([]byte, size))
	return written, time.Since(begun), err
}

func TestWhoReadsSlowlyButSteadilyIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if n, took, err := pushing(t, 1000, 10, 4*time.Second, 100); err != nil || n != 1000 || took != 400*time.Second {
			t.Errorf("wrote %d in %v: %v", n, took, err)
		}
	})
}

func TestWhoStandsStillIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, took, err := pushing(t, 1000, 10, time.Second, 3)
		// 5 s in which nothing moved, counted from the last deadline: less than twice that.
		if !errors.Is(err, os.ErrDeadlineExceeded) || n != 30 || took < 8*time.Second || took > 13*time.Second {
			t.Errorf("wrote %d in %v: %v", n, took, err)
		}
	})
}

// A sender that overfills the outbox does not wait for the writer, and the writer
// does not wait for the peer.
func TestOverTheBoundsTheWriterStopsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer theirs.Close()
		s := New(Config{QueueFrames: 4, StallTimeout: time.Hour}, nil)
		c := &Conn{stream: &stream{server: s, net: ours, base: ours}}
		begun := time.Now()
		f := NewFrame([]byte("x"))
		c.Send(f)
		synctest.Wait() // the writer waits for the peer
		for range 3 {
			if c.queue(f) {
				t.Fatal("it has a writer already")
			}
		}
		if c.ending() {
			t.Fatal("ended within the bounds")
		}
		c.Send(f)
		c.out.settled()
		if c.why != SlowViewer || time.Since(begun) > 0 {
			t.Errorf("%q after %v", c.why, time.Since(begun))
		}
		if _, err := theirs.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the peer sees %v", err)
		}
		s.running.Wait()
	})
}

func TestTheOutboxCountsBytes(t *testing.T) {
	s := New(Config{QueueBytes: 1000}, nil)
	ours, theirs := net.Pipe()
	defer ours.Close()
	defer theirs.Close()
	c := &Conn{stream: &stream{server: s, net: ours, base: ours}}
	c.out.writing = true                      // by us
	c.queue(NewFrame(make([]byte, 500)))      // 504 on the wire
	c.queue(NewFrame(make([]byte, 1000-508))) // 996
	if c.ending() {
		t.Fatal("ended within the bounds")
	}
	c.queue(closeFrame(1000, "a close frame always fits"))
	if c.ending() {
		t.Fatal("ended by a close frame")
	}
	var room []byte
	pending, over := c.out.next(&room)
	if len(pending) != 504+496+4+25 || over {
		t.Errorf("%d pending", len(pending))
	}
	if whole, last := c.out.wrote(503); whole != 0 || last {
		t.Error(whole, last)
	}
	if whole, last := c.out.wrote(2); whole != 1 || last {
		t.Error(whole, last)
	}
	if pending, _ = c.out.next(&room); len(pending) != 495+29 {
		t.Errorf("%d pending", len(pending))
	}
	if whole, last := c.out.wrote(len(pending)); whole != 2 || !last {
		t.Error(whole, last)
	}
	if pending, _ = c.out.next(&room); pending != nil || c.out.writing || c.out.bytes != 0 {
		t.Errorf("%d pending, %+v", len(pending), &c.out)
	}
}

// closing notes when Closed is called; it is asked for nothing else.
type closing struct {
	Handler
	called bool
}

func (c *closing) Closed(*Conn, End) { c.called = true }

func TestClosedComesAfterTheWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer theirs.Close()
		var h closing
		c := &Conn{stream: &stream{server: New(Config{}, &h), net: ours, base: ours}}
		c.out.writing = true // by us
		done := make(chan struct{})
		go func() {
			c.finish()
			close(done)
		}()
		synctest.Wait()
		if h.called {
			t.Error("Closed was called while the writer was busy")
		}
		var room []byte
		if pending, over := c.out.next(&room); pending != nil || over {
			t.Errorf("%q is pending after the end", pending)
		}
		<-done
		if !h.called {
			t.Error("Closed was not called")
		}
	})
}

// A frame counts that was written while the connection was given up.
func TestTheWriterSettlesWhatItWrote(t *testing.T) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	defer theirs.Close()
	c := &Conn{stream: &stream{server: New(Config{}, nil), net: ours, base: ours}}
	f := NewFrame([]byte("hello"))
	c.queue(f)
	c.queue(f)
	var room []byte
	pending, _ := c.out.next(&room)
	c.out.abandon()
	if whole, _ := c.out.wrote(len(pending)); whole != 2 {
		t.Errorf("%d frames counted, want 2", whole)
	}
	c.queue(f)
	if pending, _ := c.out.next(&room); pending != nil || c.out.writing {
		t.Errorf("%q is pending after the end", pending)
	}
}
