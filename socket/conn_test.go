package socket_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"hubbub/socket"

	"github.com/gobwas/ws"
)

func TestTheServersClose(t *testing.T) {
	each(t, func(t *testing.T, on transport) {
		s := start(t, on, socket.Config{})
		c := s.open(t)
		c.text("all before")
		c.text("close 1000 Kicked by moderator")
		c.text("ignored")
		c.want(ws.OpText, "all before")
		if reason := c.wantClose(1000); reason != "Kicked by moderator" {
			t.Errorf("reason %q", reason)
		}
		if end := s.end(t); end.Reason != socket.ClosedByServer || end.Code != 1000 {
			t.Errorf("%+v", end)
		}
	})
}

func TestACloseReasonIsCutAtACharacter(t *testing.T) {
	each(t, func(t *testing.T, on transport) {
		s := start(t, on, socket.Config{})
		c := s.open(t)
		c.text("close 1000 " + strings.Repeat("é", 100))
		if reason := c.wantClose(1000); reason != strings.Repeat("é", 61) {
			t.Errorf("%d bytes: %q", len(reason), reason)
		}
	})
}

func TestAClientThatDoesNotAnswerTheCloseIsLeft(t *testing.T) {
	each(t, func(t *testing.T, on transport) {
		s := start(t, on, socket.Config{CloseTimeout: 20 * time.Millisecond})
		c := s.open(t)
		c.text("close 1000 x")
		if op, _, err := c.next(); op != ws.OpClose || err != nil {
			t.Fatal(op, err)
		}
		if end := s.end(t); end.Reason != socket.ClosedByServer {
			t.Errorf("%+v", end)
		}
	})
}

// A drop shows no close frame: to an SDK it is the sign to come back.
func TestDrop(t *testing.T) {
	each(t, func(t *testing.T, on transport) {
		s := start(t, on, socket.Config{})
		c := s.open(t)
		c.text("drop")
		if op, payload, err := c.next(); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("opcode %d %q, %v, want a reset", op, payload, err)
		}
		if end := s.end(t); end.Reason != socket.Dropped || end.Code != 1006 {
			t.Errorf("%+v", end)
		}
	})
}

func TestAClientThatGoesWithoutAWord(t *testing.T) {
	each(t, func(t *testing.T, on transport) {
		s := start(t, on, socket.Config{})
		s.open(t).Close()
		if end := s.end(t); end.Reason != socket.ClientGone || end.Code != 1006 {
			t.Errorf("%+v", end)
		}
	})
}

func TestAPanicEndsOneConnection(t *testing.T) {
	each(t, func(t *testing.T, on transport) {
		s := start(t, on, socket.Config{})
		a, b := s.open(t), s.open(t)
		a.text("panic")
		if _, _, err := a.next(); err == nil {
			t.Error("the connection lives on")
		}
		if end := s.end(t); end.Reason != socket.Panicked {
			t.Errorf("%+v", end)
		}
		b.text("still here")
		b.want(ws.OpText, "still here")
	})
}

func TestASilentPeerIsDropped(t *testing.T) {
	each(t, func(t *testing.T, on transport) {
		s := start(t, on, socket.Config{PingInterval: 20 * time.Millisecond})
		c := s.open(t)
		if op, _, err := c.next(); err == nil && op != ws.OpPing { // a client that is late sees the reset alone
			t.Errorf("opcode %d", op)
		}
		if end := s.end(t); end.Reason != socket.Silent {
			t.Errorf("%+v", end)
		}
	})
}

func TestSingleBytesAreSilence(t *testing.T) {
	each(t, func(t *testing.T, on transport) {
		s := start(t, on, socket.Config{PingInterval: 20 * time.Millisecond})
		c := s.open(t)
		for _, b := range encoded(ws.Header{Fin: true, OpCode: ws.OpText}, strings.Repeat("x", 100)) {
			if _, err := c.Write([]byte{b}); err != nil {
				break
			}
			if len(s.ends) > 0 {
				break
			}
			if _, _, err := c.next(); err != nil { // a ping comes now and then, which paces the bytes
				break
			}
		}
		if end := s.end(t); end.Reason != socket.Silent {
			t.Errorf("%+v", end)
		}
	})
}

// A pong is a sign of life, and so is a message.
func TestWhoGivesASignOfLifeStays(t *testing.T) {
	each(t, func(t *testing.T, on transport) {
		for _, sign := range []ws.OpCode{ws.OpPong, ws.OpText} {
			s := start(t, on, socket.Config{PingInterval: 20 * time.Millisecond, SilentIntervals: 20})
			c := s.open(t)
			for pings := 0; pings < 30; { // more than would be silence
				op, _, err := c.next()
				if err != nil {
					t.Fatalf("after %d pings answered with opcode %d: %v", pings, sign, err)
				}
				if op == ws.OpPing {
					pings++
					c.frame(sign, true, "")
				}
			}
		}
	})
}

func TestWake(t *testing.T) {
	each(t, func(t *testing.T, on transport) {
		woken := make(chan time.Time, 8)
		var at time.Time
		s := start(t, on, socket.Config{}, func(e *echo) {
			e.opened = func(c *socket.Conn) {
				at = time.Now().Add(30 * time.Millisecond)
				c.WakeAt(time.Now().Add(time.Hour)) // replaced
				c.WakeAt(at)
			}
			e.woken = func(c *socket.Conn) {
				woken <- time.Now()
				if len(woken) < 2 {
					c.WakeAt(time.Now())
				}
			}
		})
		s.open(t)
		if first := <-woken; first.Before(at) {
			t.Errorf("woken %v early", at.Sub(first))
		}
		<-woken
	})
}

func TestASlowViewerIsResetAndDelaysNobody(t *testing.T) {
	each(t, func(t *testing.T, on transport) {
		s := start(t, on, socket.Config{StallTimeout: time.Hour}) // the bounds alone cut it
		slow, fast := s.open(t), s.open(t)
		const batch = 100
		read := make(chan struct{}, 1000) // one for each batch that the fast viewer has
		go func() {
			for n := 1; ; n++ {
				if _, _, err := fast.next(); err != nil {
					close(read)
					return
				}
				if n%batch == 0 {
					read <- struct{}{}
				}
			}
		}()
		frame := socket.NewFrame([]byte(strings.Repeat("x", 1000)))
		for sent := 0; len(s.ends) == 0; sent += batch {
			if sent > 100_000 {
				t.Fatal("the slow viewer is still there after 100 MB")
			}
			for range batch {
				s.group.Send(frame)
			}
			if _, ok := <-read; !ok {
				t.Fatal("the other viewer was cut off")
			}
		}
		if end := s.end(t); end.Reason != socket.SlowViewer || end.Code != 1006 {
			t.Fatalf("%+v", end)
		}
		for {
			if _, _, err := slow.next(); err != nil {
				if !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("the slow one sees %v, want a reset", err)
				}
				break
			}
		}
		fast.Close()
		for range read { // until it has ended
		}
	})
}

func TestAViewerThatStandsStillIsReset(t *testing.T) {
	each(t, func(t *testing.T, on transport) {
		s := start(t, on, socket.Config{StallTimeout: 50 * time.Millisecond, QueueFrames: 1 << 20, QueueBytes: 1 << 30})
		c := s.open(t)
		conn := s.conn(0)
		frame := socket.NewFrame([]byte(strings.Repeat("x", 64<<10)))
		for range 200 { // more than the kernel takes
			conn.Send(frame)
		}
		if end := s.end(t); end.Reason != socket.SlowViewer {
			t.Errorf("%+v", end)
		}
		c.Close()
	})
}

func TestAPingFloodDoesNotGrowTheQueue(t *testing.T) {
	each(t, func(t *testing.T, on transport) {
		s := start(t, on, socket.Config{QueueFrames: 16})
		c := s.open(t)
		done := make(chan struct{})
		go func() {
			defer close(done)
			ping := encoded(ws.Header{Fin: true, OpCode: ws.OpPing}, strings.Repeat("p", 125))
			flood := []byte(strings.Repeat(string(ping), 100))
			for range 200 { // 20,000 pings, no pong read meanwhile
				if _, err := c.Write(flood); err != nil {
					return
				}
			}
		}()
		// The server may stop reading, but must not drop who only pings.
		go func() { _, _ = io.Copy(io.Discard, c.r) }()
		<-done
		if len(s.ends) > 0 {
			t.Errorf("%+v", s.end(t))
		}
	})
}

func TestEverybodySeesOneOrder(t *testing.T) {
	each(t, func(t *testing.T, on transport) {
		s := start(t, on, socket.Config{})
		const viewers, senders, each = 8, 4, 100
		var order []*client
		for range viewers {
			order = append(order, s.open(t))
		}
		var sending sync.WaitGroup
		for i := range senders {
			sending.Go(func() {
				for j := range each {
					order[i].text(fmt.Sprintf("all %d %d", i, j))
				}
			})
		}
		var first []string
		for v, c := range order {
			var got []string
			last := map[int]int{}
			for range senders * each {
				_, payload, err := c.next()
				if err != nil {
					t.Fatal(err)
				}
				var i, j int
				if _, err := fmt.Sscanf(payload, "all %d %d", &i, &j); err != nil || j != last[i] {
					t.Fatalf("viewer %d got %q, want %d of sender %d", v, payload, last[i], i)
				}
				last[i]++
				got = append(got, payload)
			}
			if v == 0 {
				first = got
			} else if strings.Join(got, ",") != strings.Join(first, ",") {
				t.Fatalf("viewer %d sees another order", v)
			}
		}
		sending.Wait()
	})
}

func TestMembership(t *testing.T) {
	each(t, func(t *testing.T, on transport) {
		s := start(t, on, socket.Config{})
		a, b := s.open(t), s.open(t)
		first := s.conn(0)
		if n := s.group.Send(socket.NewFrame([]byte("both"))); n != 2 {
			t.Errorf("%d members", n)
		}
		s.group.Remove(first)
		s.group.Remove(first)
		if n := s.group.Send(socket.NewFrame([]byte("one"))); n != 1 {
			t.Errorf("%d members", n)
		}
		s.group.Add(first)
		s.group.Add(first)
		if n := s.group.Send(socket.NewFrame([]byte("both again"))); n != 2 {
			t.Errorf("%d members", n)
		}
		a.want(ws.OpText, "both")
		a.want(ws.OpText, "both again")
		b.want(ws.OpText, "both")
		b.want(ws.OpText, "one")
		b.want(ws.OpText, "both again")
	})
}

func TestDrain(t *testing.T) {
	each(t, func(t *testing.T, on transport) {
		s := start(t, on, socket.Config{})
		var clients []*client
		for range 20 {
			clients = append(clients, s.open(t))
		}
		pending, err := net.Dial("tcp", s.address) // in its handshake
		if err != nil {
			t.Fatal(err)
		}
		defer pending.Close()
		s.server.Drain(t.Context(), 120*time.Millisecond)
		for _, c := range clients {
			if op, payload, err := c.next(); err == nil {
				t.Errorf("opcode %d %q: a viewer must see no close frame", op, payload)
			}
			if end := s.end(t); end.Reason != socket.Draining {
				t.Errorf("%+v", end)
			}
		}
		if c, err := net.Dial("tcp", s.address); err == nil {
			c.Close()
			t.Error("the port still accepts")
		}
		canceled, cancel := context.WithCancel(t.Context())
		cancel()
		s.server.Drain(canceled, time.Hour) // nobody is left
	})
}

func TestDrainIsCutShort(t *testing.T) {
	each(t, func(t *testing.T, on transport) {
		s := start(t, on, socket.Config{})
		for range 5 {
			s.open(t)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		s.server.Drain(ctx, time.Hour)
		for range 5 {
			s.end(t)
		}
	})
}

func FuzzFrames(f *testing.F) {
	f.Add(encoded(ws.Header{Fin: true, OpCode: ws.OpText}, "hello"))
	f.Add(append(encoded(ws.Header{OpCode: ws.OpText}, "a"), encoded(ws.Header{Fin: true, OpCode: ws.OpContinuation}, "b")...))
	f.Add(encoded(ws.Header{Fin: true, OpCode: ws.OpClose}, "\x03\xe8bye"))
	f.Add([]byte{0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	var servers []*server
	for _, on := range []transport{plain, portable} {
		servers = append(servers, start(f, on, socket.Config{CloseTimeout: 5 * time.Millisecond}))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var ends []socket.End
		for _, s := range servers {
			c := s.open(t)
			_, _ = c.Write(b)
			_ = c.Conn.(*net.TCPConn).CloseWrite()
			_, _ = io.Copy(io.Discard, c.r)
			end := s.end(t)
			if end.Reason == socket.Panicked && !bytes.Contains(b, []byte("panic")) {
				t.Fatal("a panic")
			}
			end.Age, end.FramesOut = 0, 0 // which are of the moment
			ends = append(ends, end)
		}
		if ends[0] != ends[1] {
			t.Errorf("%+v on %s, %+v on %s", ends[0], plain.name, ends[1], portable.name)
		}
	})
}

func FuzzHandshake(f *testing.F) {
	f.Add([]byte(request + "\r\n"))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	var servers []*server
	for _, on := range []transport{plain, portable} {
		servers = append(servers, start(f, on, socket.Config{HandshakeTimeout: time.Second}, func(e *echo) {
			// Who was accepted has gone by then, and says no more.
			e.closed = func(*socket.Conn) { <-e.ends }
		}))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var answers [][]byte
		for _, s := range servers {
			c := s.dial(t)
			_, _ = c.Write(b)
			_ = c.Conn.(*net.TCPConn).CloseWrite()
			all, _ := io.ReadAll(c.r)
			first, _, _ := bytes.Cut(all, []byte("\r\n"))
			answers = append(answers, first)
		}
		// Who has gone may go without an answer.
		if len(answers[0]) > 0 && len(answers[1]) > 0 && !bytes.Equal(answers[0], answers[1]) {
			t.Errorf("%q on %s, %q on %s", answers[0], plain.name, answers[1], portable.name)
		}
	})
}
