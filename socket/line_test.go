package socket_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"hubbub/socket"

	"github.com/gobwas/ws"
)

// gate is a Handler's Handshake that lets requests through one by one. What it is
// asked about are the protocols offered.
type gate struct {
	mu      sync.Mutex
	asked   []string
	running int
	most    int // at a time
	came    chan string
	open    chan struct{}
}

func newGate() *gate { return &gate{came: make(chan string, 64), open: make(chan struct{})} }

func (g *gate) handshake(u *socket.Upgrade) {
	name := u.Protocols()[0]
	g.mu.Lock()
	g.asked = append(g.asked, name)
	g.running++
	g.most = max(g.most, g.running)
	g.mu.Unlock()
	g.came <- name
	<-g.open
	g.mu.Lock()
	g.running--
	g.mu.Unlock()
	u.Accept(name, nil)
}

// wantAsked checks whom the Handler was asked about so far, and in which order.
func (g *gate) wantAsked(t *testing.T, want ...string) {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	if !slices.Equal(g.asked, want) {
		t.Errorf("the Handler was asked about %v, want %v", g.asked, want)
	}
}

func (g *gate) set(e *echo) { e.handshake = g.handshake }

// ask sends a request and does not wait for its answer.
func (s *server) ask(t testing.TB, name string) *client {
	t.Helper()
	c := s.dial(t)
	c.write([]byte(request + "Sec-WebSocket-Protocol: " + name + "\r\n\r\n")...)
	return c
}

func (c *client) wantStatus(want int) {
	c.t.Helper()
	if r := c.response(); r.StatusCode != want {
		c.t.Errorf("%s, want %d", r.Status, want)
	}
}

const (
	waitingMetric = "hubbub_socket_handshakes_waiting"
	refusedMetric = "hubbub_socket_handshakes_refused_total"
)

// So many requests are with the Handler at a time; the others wait, in the order
// in which they came.
func TestRequestsWaitInLine(t *testing.T) {
	each(t, func(t *testing.T, on transport) {
		g := newGate()
		s := start(t, on, socket.Config{MaxDeciding: 1}, g.set)
		var clients []*client
		var want []string
		for i := range 8 {
			name := fmt.Sprint("token", i)
			want = append(want, name)
			clients = append(clients, s.ask(t, name))
			if i == 0 {
				<-g.came
			}
			s.reaches(t, waitingMetric, "", float64(i))
		}
		close(g.open)
		for _, c := range clients {
			c.wantStatus(101)
		}
		s.reaches(t, waitingMetric, "", 0)
		g.wantAsked(t, want...)
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.most != 1 {
			t.Errorf("%d requests were with the Handler at a time, want 1", g.most)
		}
	})
}

// Whose turn does not come in time is refused, and the Handler never hears of it.
func TestWhoWaitsTooLongInLineIsRefused(t *testing.T) {
	each(t, func(t *testing.T, on transport) {
		g := newGate()
		s := start(t, on, socket.Config{MaxDeciding: 1, LineTimeout: 50 * time.Millisecond, AcceptTimeout: time.Hour}, g.set)
		first := s.ask(t, "first")
		<-g.came
		second := s.ask(t, "second")
		second.wantStatus(503)
		s.reaches(t, refusedMetric, "overdue", 1)
		close(g.open)
		first.wantStatus(101) // the Handler has it: its own time is longer
		s.ask(t, "third").wantStatus(101)
		g.wantAsked(t, "first", "third")
	})
}

func TestWhoGoesLeavesTheLine(t *testing.T) {
	each(t, func(t *testing.T, on transport) {
		g := newGate()
		s := start(t, on, socket.Config{MaxDeciding: 1, AcceptTimeout: time.Hour, LineTimeout: time.Hour}, g.set)
		first := s.ask(t, "first")
		<-g.came
		s.ask(t, "second").Close()
		s.reaches(t, refusedMetric, "no_request", 1)
		s.reaches(t, waitingMetric, "", 0)
		close(g.open)
		first.wantStatus(101)
		s.ask(t, "third").wantStatus(101)
		g.wantAsked(t, "first", "third")
	})
}

func TestCloseEndsTheLine(t *testing.T) {
	each(t, func(t *testing.T, on transport) {
		g := newGate()
		s := start(t, on, socket.Config{MaxDeciding: 1, AcceptTimeout: time.Hour, LineTimeout: time.Hour}, g.set)
		s.ask(t, "first")
		<-g.came
		s.ask(t, "second")
		s.reaches(t, waitingMetric, "", 1)
		closed := make(chan struct{})
		go func() {
			s.server.Close()
			close(closed)
		}()
		s.reaches(t, waitingMetric, "", 0)
		close(g.open)
		select {
		case <-closed:
		case <-time.After(patience):
			t.Fatal("Close waits for the line")
		}
		g.wantAsked(t, "first")
	})
}

// Who is delayed is asked about once more, and keeps no other from its turn.
func TestADelayedRequest(t *testing.T) {
	each(t, func(t *testing.T, on transport) {
		var calls atomic.Int32
		delays := map[string]time.Duration{"hasty": time.Millisecond, "restless": time.Hour}
		delayed := make(chan bool, 8)
		s := start(t, on, socket.Config{MaxDeciding: 1, MaxHandshakes: 8, AcceptTimeout: time.Hour, LineTimeout: time.Hour}, func(e *echo) {
			e.handshake = func(u *socket.Upgrade) {
				calls.Add(1)
				if d := delays[u.Protocols()[0]]; d > 0 {
					ok := u.Delay(d)
					delayed <- ok
					if ok {
						return
					}
				}
				u.Accept(u.Protocols()[0], nil)
			}
		})
		c := s.ask(t, "hasty")
		c.wantStatus(101)
		if first, second := <-delayed, <-delayed; !first || second || calls.Load() != 2 {
			t.Errorf("delayed %v, then %v, in %d calls; want once", first, second, calls.Load())
		}
		c.Close()
		s.end(t)

		calls.Store(0)
		c = s.ask(t, "restless")
		if !<-delayed {
			t.Fatal("not delayed")
		}
		s.ask(t, "other").wantStatus(101)
		s.ask(t, "restless").wantStatus(101) // one of eight places may be held so
		if <-delayed {
			t.Error("two are delayed, want one at most")
		}
		c.Close() // who was delayed goes
		s.reaches(t, refusedMetric, "no_request", 1)
		again := s.ask(t, "restless")
		if !<-delayed {
			t.Error("who went still counts as delayed")
		}
		again.Close()
		s.reaches(t, refusedMetric, "no_request", 2)
		if n := calls.Load(); n != 4 {
			t.Errorf("%d calls, want 4", n)
		}
	})
}

// A delay does not outlast the time in line.
func TestADelayEndsWithTheTimeInLine(t *testing.T) {
	each(t, func(t *testing.T, on transport) {
		s := start(t, on, socket.Config{LineTimeout: 50 * time.Millisecond}, func(e *echo) {
			e.handshake = func(u *socket.Upgrade) { u.Delay(time.Hour) }
		})
		s.ask(t, "hasty").wantStatus(503)
		s.reaches(t, refusedMetric, "overdue", 1)
	})
}

// When all places are taken, and nothing moves, who comes is told so at once.
func TestPastTheLastPlaceIsRefused(t *testing.T) {
	each(t, func(t *testing.T, on transport) {
		g := newGate()
		s := start(t, on, socket.Config{MaxHandshakes: 2, PlaceTimeout: time.Nanosecond}, g.set)
		first, second := s.ask(t, "first"), s.ask(t, "second")
		<-g.came
		<-g.came
		third, err := net.Dial("tcp", s.address) // its answer would be behind TLS, which is too much
		if err != nil {
			t.Fatal(err)
		}
		defer third.Close()
		_ = third.SetReadDeadline(time.Now().Add(patience))
		answer, err := io.ReadAll(third)
		if err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Error(err)
		}
		if got := string(answer[:min(len(answer), 12)]); !on.secure && got != "HTTP/1.1 503" || on.secure && got != "" {
			t.Errorf("answered %q", got)
		}
		s.reaches(t, refusedMetric, "full", 1)
		close(g.open)
		first.wantStatus(101)
		second.wantStatus(101)
	})
}

// A storm is larger than the number of places, and everybody has asked at once:
// nobody is refused or turned out for who comes behind it.
func TestAStormIsServedWhole(t *testing.T) {
	each(t, func(t *testing.T, on transport) {
		s := start(t, on, socket.Config{MaxHandshakes: 8, MaxDeciding: 2, PlaceTimeout: time.Hour})
		const many = 100
		var all sync.WaitGroup
		for range many {
			all.Go(func() { s.open(t) })
		}
		all.Wait()
		if n := s.server.Len(); n != many {
			t.Errorf("%d connections, want %d", n, many)
		}
		for _, reason := range []string{"crowded", "full", "overdue"} {
			if n := s.count(t, refusedMetric, reason); n != 0 {
				t.Errorf("%v were refused as %s", n, reason)
			}
		}
	})
}

// While a crowd waits for its turn, who is open is served.
func TestTheOpenAreServedWhileOthersWait(t *testing.T) {
	each(t, func(t *testing.T, on transport) {
		g := newGate()
		s := start(t, on, socket.Config{MaxDeciding: 1}, func(e *echo) {
			e.handshake = func(u *socket.Upgrade) {
				if u.Protocols()[0] == "token" {
					u.Accept("token", nil)
					return
				}
				g.handshake(u)
			}
		})
		a, b := s.open(t), s.open(t)
		first := s.ask(t, "first")
		<-g.came
		for range 50 {
			s.ask(t, "other")
		}
		s.reaches(t, waitingMetric, "", 50)
		a.text("all hello")
		a.want(ws.OpText, "all hello")
		b.want(ws.OpText, "all hello")
		close(g.open)
		first.wantStatus(101)
	})
}
