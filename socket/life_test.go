package socket_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hubbub/socket"

	"github.com/gobwas/ws"
)

// Both sides close at once, ours behind a lot: the client gets all of it.
func TestClosesThatCross(t *testing.T) {
	each(t, func(t *testing.T, on transport) {
		s := start(t, on, socket.Config{})
		c := s.open(t)
		frame := socket.NewFrame([]byte(strings.Repeat("x", 100<<10)))
		const frames = 9
		for range frames {
			s.conn(0).Send(frame)
		}
		s.conn(0).Close(1000, "kicked")
		c.frame(ws.OpClose, true, string(ws.NewCloseFrameBody(1000, "")))
		for range frames {
			if op, p, err := c.next(); op != ws.OpText || len(p) != 100<<10 {
				t.Fatal(op, len(p), err)
			}
		}
		c.want(ws.OpClose, string(ws.NewCloseFrameBody(1000, "kicked")))
		if b, err := c.r.ReadByte(); err != io.EOF { // its own close frame was the answer
			t.Errorf("behind the close frame came %#x, %v", b, err)
		}
		c.Close()
		if end := s.end(t); end.Reason != socket.ClosedByServer || end.FramesOut != frames+1 {
			t.Errorf("%+v", end)
		}
	})
}

// What is sent to a group before a member is closed reaches the member first,
// whatever else is sent meanwhile, and nothing comes behind the close.
func TestSendThenClose(t *testing.T) {
	each(t, func(t *testing.T, on transport) {
		s := start(t, on, socket.Config{QueueFrames: 1 << 20, QueueBytes: 1 << 30}) // nobody is too slow here
		stop := make(chan struct{})
		var noise sync.WaitGroup
		for range 2 {
			noise.Go(func() {
				f := socket.NewFrame([]byte("noise"))
				for range 20_000 {
					select {
					case <-stop:
						return
					default:
						s.group.Send(f)
					}
				}
			})
		}
		for i := range 20 {
			c := s.open(t)
			conn := s.conn(i)
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				s.group.Send(socket.NewFrame(fmt.Appendf(nil, "last %d", i)))
				conn.Close(1000, "")
				s.group.Send(socket.NewFrame([]byte("behind")))
			}()
			told := false
			for {
				op, p, err := c.next()
				if err != nil {
					t.Fatal("no close frame:", err)
				}
				if op == ws.OpClose {
					break
				}
				told = told || p == fmt.Sprint("last ", i)
			}
			if !told {
				t.Fatal("closed before the frame that was sent before")
			}
			<-sent
			c.frame(ws.OpClose, true, "")
			if b, err := c.r.ReadByte(); err != io.EOF {
				t.Fatalf("behind the close frame came %#x, %v", b, err)
			}
			c.Close()
			s.end(t)
		}
		close(stop)
		noise.Wait()
	})
}

// Everything at once: who stays misses nothing, whoever comes, goes, is dropped or
// closed meanwhile.
func TestNothingIsMissedInTheStorm(t *testing.T) {
	each(t, func(t *testing.T, on transport) {
		s := start(t, on, socket.Config{})
		const stayers, frames = 6, 600
		var reading sync.WaitGroup
		for i := range stayers {
			c := s.open(t)
			reading.Go(func() {
				for want := 0; want < frames; {
					op, p, err := c.next()
					if err != nil {
						t.Errorf("viewer %d was cut off before %d: %v", i, want, err)
						return
					}
					if op != ws.OpText {
						continue
					}
					if p != fmt.Sprint(want) {
						t.Errorf("viewer %d got %q, want %d", i, p, want)
						return
					}
					want++
				}
			})
		}
		var passing sync.WaitGroup
		var over atomic.Bool
		for i := range 3 {
			passing.Go(func() {
				for range 200 {
					if over.Load() {
						return
					}
					c := s.open(t)
					switch (i + rand.IntN(4)) % 4 {
					case 0:
						c.text("drop")
					case 1:
						c.text("close 1000 x")
					case 2:
						c.frame(ws.OpClose, true, "")
					}
					c.Close()
				}
			})
		}
		for i := range frames {
			if n := s.group.Send(socket.NewFrame([]byte(fmt.Sprint(i)))); n < stayers {
				t.Errorf("queued for %d", n)
			}
			if i%20 == 0 {
				s.open(t).text("drop")
			}
		}
		over.Store(true)
		passing.Wait()
		reading.Wait()
	})
}

// Each call of the Handler may fail, and only its connection feels it.
func TestAPanicAnywhereEndsOneConnection(t *testing.T) {
	each(t, func(t *testing.T, on transport) {
		for _, where := range []string{"open", "wake", "closed"} {
			t.Run(where, func(t *testing.T) {
				var victim atomic.Bool
				s := start(t, on, socket.Config{}, func(e *echo) {
					fail := func(here string) func(*socket.Conn) {
						return func(c *socket.Conn) {
							if where == here && victim.Load() {
								panic("as asked")
							}
						}
					}
					e.opened, e.woken, e.closed = fail("open"), fail("wake"), fail("closed")
				})
				bystander := s.open(t)
				victim.Store(true)
				c := s.dial(t)
				c.write([]byte(request + "\r\n")...)
				switch where {
				case "wake":
					c.response()
					s.conn(1).WakeAt(time.Now())
				case "closed":
					c.response()
					c.Close()
				}
				want := socket.Panicked
				if where == "closed" {
					want = socket.ClientGone
				}
				if end := s.end(t); end.Reason != want {
					t.Errorf("%+v, want %s", end, want)
				}
				if _, err := io.ReadAll(c.r); where == "wake" && err != nil {
					t.Log("it sees", err) // EOF or reset
				}
				victim.Store(false)
				bystander.text("still here")
				bystander.want(ws.OpText, "still here")
			})
		}
	})
}

// Wake does not overlap itself, and Closed waits for it.
func TestWakeIsAlone(t *testing.T) {
	each(t, func(t *testing.T, on transport) {
		in, out := make(chan struct{}, 8), make(chan struct{})
		var inside, overlaps atomic.Int32
		// Pings have the timer run while Wake does.
		s := start(t, on, socket.Config{PingInterval: 5 * time.Millisecond, SilentIntervals: 1 << 20}, func(e *echo) {
			e.opened = func(c *socket.Conn) { c.WakeAt(time.Now()) }
			e.woken = func(c *socket.Conn) {
				if inside.Add(1) > 1 {
					overlaps.Add(1)
				}
				c.WakeAt(time.Now())
				in <- struct{}{}
				<-out
				inside.Add(-1)
			}
			e.closed = func(*socket.Conn) {
				if inside.Load() > 0 {
					overlaps.Add(1)
				}
			}
		})
		c := s.open(t)
		<-in
		c.text("beside it") // Message is not held up
		for op := ws.OpPing; op == ws.OpPing; {
			var err error
			var p string
			if op, p, err = c.next(); err != nil || op == ws.OpText && p != "beside it" {
				t.Fatal(op, p, err)
			}
		}
		out <- struct{}{}
		<-in // once more, as it asked
		c.Close()
		select {
		case end := <-s.ends:
			t.Errorf("Closed beside Wake: %+v", end)
		case <-time.After(20 * time.Millisecond):
		}
		close(out)
		s.end(t)
		if n := overlaps.Load(); n > 0 {
			t.Errorf("%d calls overlapped", n)
		}
	})
}

func TestMetrics(t *testing.T) {
	each(t, func(t *testing.T, on transport) {
		s := start(t, on, socket.Config{})
		for _, reason := range []string{"closed_by_client", "closed_by_server", "dropped", "client_gone", "slow_viewer", "silent", "protocol_error", "draining", "panic"} {
			if n := s.count(t, "hubbub_socket_connections_ended_total", reason); n != 0 {
				t.Errorf("%s is %v before anything happened", reason, n)
			}
		}
		a, b := s.open(t), s.open(t)
		if n := s.count(t, "hubbub_socket_connections", ""); n != 2 {
			t.Errorf("%v connections", n)
		}
		a.text("all hello")
		a.want(ws.OpText, "all hello")
		b.want(ws.OpText, "all hello")
		a.frame(ws.OpClose, true, "")
		a.want(ws.OpClose, "")
		a.Close()
		if end := s.end(t); end.FramesIn != 1 || end.FramesOut != 2 || end.Age <= 0 {
			t.Errorf("%+v, want one frame in and two out", end)
		}
		b.text("drop")
		s.end(t)
		c := s.dial(t)
		c.write([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")...)
		c.response()
		_, _ = io.ReadAll(c.r)
		for _, want := range []struct {
			name, reason string
			n            float64
		}{
			{"hubbub_socket_connections", "", 0},
			{"hubbub_socket_connections_ended_total", "closed_by_client", 1},
			{"hubbub_socket_connections_ended_total", "dropped", 1},
			{"hubbub_socket_handshakes_refused_total", "bad_request", 1},
			{"hubbub_socket_handshakes_refused_total", "unauthorized", 0},
			{"hubbub_socket_frames_received_total", "", 2},
			{"hubbub_socket_frames_sent_total", "", 3},
		} {
			s.reaches(t, want.name, want.reason, want.n)
		}
	})
}

// What is sent from outside of the Handler's calls is on its way at once, whatever
// the transport is doing at the moment.
func TestASendFromOutsideIsNotLeftLying(t *testing.T) {
	each(t, func(t *testing.T, on transport) {
		s := start(t, on, socket.Config{})
		c := s.open(t)
		conn := s.conn(0)
		for i := range 2000 {
			text := fmt.Sprint(i)
			conn.Send(socket.NewFrame([]byte(text)))
			c.want(ws.OpText, text)
		}
	})
}
