package socket_test

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"hubbub/socket"

	"github.com/gobwas/ws"
)

// A ping that came in one packet with the request is answered behind the 101.
func TestThe101IsFirst(t *testing.T) {
	each(t, func(t *testing.T, on transport) {
		s := start(t, on, socket.Config{})
		for range 50 { // it is a race of the reader with the writer
			c := s.dial(t)
			c.write(append([]byte(request+"\r\n"), encoded(ws.Header{Fin: true, OpCode: ws.OpPing}, "p")...)...)
			if r := c.response(); r.StatusCode != 101 {
				t.Fatal(r.Status)
			}
			c.want(ws.OpPong, "p")
			c.Close()
			s.end(t)
		}
	})
}

func TestThe101WaitsForOpen(t *testing.T) {
	each(t, func(t *testing.T, on transport) {
		opening, open := make(chan struct{}), make(chan struct{})
		s := start(t, on, socket.Config{}, func(e *echo) {
			e.opened = func(*socket.Conn) {
				close(opening)
				<-open
			}
		})
		c := s.dial(t)
		c.write([]byte(request + "\r\n")...)
		<-opening
		_ = c.SetReadDeadline(time.Now().Add(30 * time.Millisecond))
		if b, err := c.r.ReadByte(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %q, %v before Open had returned", b, err)
		}
		close(open)
		_ = c.SetReadDeadline(time.Now().Add(patience))
		if r := c.response(); r.StatusCode != 101 {
			t.Error(r.Status)
		}
	})
}

func TestTheContextEndsWithTheClient(t *testing.T) {
	each(t, func(t *testing.T, on transport) {
		won := make(chan bool, 1)
		s := start(t, on, socket.Config{AcceptTimeout: time.Hour}, func(e *echo) {
			e.handshake = func(u *socket.Upgrade) {
				<-u.Context().Done()
				won <- u.Accept("", nil) // it has gone too far to go back, as a used token has
			}
		})
		c := s.dial(t)
		c.write([]byte(request + "\r\n")...)
		c.Close()
		if end := s.end(t); end.Reason != socket.ClientGone {
			t.Errorf("%+v", end)
		}
		if !<-won {
			t.Error("Accept says that nothing comes of it, and Closed was called")
		}
	})
}

// What a client sends while the Handler thinks is neither lost nor the end.
func TestEarlyFramesWhileTheHandlerThinks(t *testing.T) {
	each(t, func(t *testing.T, on transport) {
		think := make(chan struct{})
		s := start(t, on, socket.Config{}, func(e *echo) {
			e.handshake = func(u *socket.Upgrade) {
				<-think
				u.Accept("", nil)
			}
		})
		c := s.dial(t)
		c.write([]byte(request + "\r\n")...)
		big := strings.Repeat("x", 40<<10) // more than is read before the decision
		half := encoded(ws.Header{Fin: true, OpCode: ws.OpText}, "early")
		c.write(half[:3]...)
		go func() {
			_, _ = c.Write(half[3:])
			_, _ = c.Write(encoded(ws.Header{Fin: true, OpCode: ws.OpText}, big))
			close(think)
		}()
		if r := c.response(); r.StatusCode != 101 {
			t.Fatal(r.Status)
		}
		c.want(ws.OpText, "early")
		c.want(ws.OpText, big)
	})
}

func TestAHandlerThatBlocksIsNotWaitedFor(t *testing.T) {
	each(t, func(t *testing.T, on transport) {
		wake, late := make(chan struct{}), make(chan bool, 1)
		s := start(t, on, socket.Config{AcceptTimeout: 50 * time.Millisecond}, func(e *echo) {
			e.handshake = func(u *socket.Upgrade) {
				<-wake
				late <- u.Accept("", nil)
			}
		})
		c := s.dial(t)
		c.write([]byte(request + "\r\n")...)
		if r := c.response(); r.StatusCode != 503 {
			t.Errorf("%s, want 503", r.Status)
		}
		close(wake)
		if <-late {
			t.Error("an Accept after the 503 says that it counts")
		}
	})
}

// Strangers who say nothing, and hold all the places, go for who speaks.
func TestSilentStrangersKeepNobodyOut(t *testing.T) {
	each(t, func(t *testing.T, on transport) {
		s := start(t, on, socket.Config{MaxHandshakes: 4, HandshakeTimeout: time.Hour, PlaceTimeout: time.Millisecond})
		var silent []net.Conn
		for range 10 {
			c, err := net.Dial("tcp", s.address) // without TLS, on TLS too
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			silent = append(silent, c)
		}
		c := s.open(t)
		c.text("here")
		c.want(ws.OpText, "here")
		_ = silent[0].SetReadDeadline(time.Now().Add(patience))
		if _, err := silent[0].Read(make([]byte, 1)); err != io.EOF && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the oldest stranger sees %v, want its end", err)
		}
		s.reaches(t, "hubbub_socket_handshakes_refused_total", "crowded", 11-4)
	})
}

// Who waits for the Handler is not turned out.
func TestWhoAskedKeepsThePlace(t *testing.T) {
	each(t, func(t *testing.T, on transport) {
		think, asked := make(chan struct{}), make(chan struct{}, 1)
		s := start(t, on, socket.Config{MaxHandshakes: 2, HandshakeTimeout: time.Hour, PlaceTimeout: time.Millisecond}, func(e *echo) {
			e.handshake = func(u *socket.Upgrade) {
				asked <- struct{}{}
				<-think
				u.Accept("", nil)
			}
		})
		c := s.dial(t)
		c.write([]byte(request + "\r\n")...)
		<-asked
		for range 5 {
			stranger, err := net.Dial("tcp", s.address)
			if err != nil {
				t.Fatal(err)
			}
			defer stranger.Close()
		}
		close(think)
		if r := c.response(); r.StatusCode != 101 {
			t.Error(r.Status)
		}
	})
}

// A client that talks on while it is refused gets the whole answer.
func TestARefusalReachesWhoTalksOn(t *testing.T) {
	each(t, func(t *testing.T, on transport) {
		s := start(t, on, socket.Config{}, func(e *echo) { e.handshake = func(u *socket.Upgrade) { u.Refuse(401, "no") } })
		c := s.dial(t)
		c.write([]byte(request + "\r\n")...)
		c.write([]byte(strings.Repeat("x", 100<<10))...)
		r := c.response()
		body, err := io.ReadAll(r.Body)
		if r.StatusCode != 401 || err != nil || string(body) != `{"message":"no"}` {
			t.Errorf("%s %q %v", r.Status, body, err)
		}
		if _, err := c.r.ReadByte(); err != io.EOF {
			t.Errorf("then %v, want EOF", err)
		}
	})
}

// brokenListener fails as one does that is out of descriptors.
type brokenListener struct {
	net.Listener
	failed chan struct{} // gets one for each failure
}

func (l *brokenListener) Accept() (net.Conn, error) {
	select {
	case l.failed <- struct{}{}:
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	default: // enough
		return l.Listener.Accept()
	}
}

func TestServeOutlivesFailedAccepts(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &echo{ends: make(chan socket.End, 1)}
	e.server = socket.New(socket.Config{}, e)
	e.group = e.server.NewGroup()
	b := &brokenListener{l, make(chan struct{}, 3)}
	served := make(chan error, 1)
	go func() { served <- e.server.Serve(b) }()
	s := &server{echo: e, address: l.Addr().String(), on: plain}
	s.open(t)
	e.server.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestCloseWhileAcceptingFails(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &echo{ends: make(chan socket.End, 1)}
	e.server = socket.New(socket.Config{}, e)
	b := &brokenListener{l, make(chan struct{}, 1)}
	served := make(chan error, 1)
	go func() { served <- e.server.Serve(b) }()
	<-b.failed // it has failed once
	e.server.Close()
	select {
	case err := <-served:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("Serve goes on after Close")
	}
}

func TestServeEndsWithItsListener(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &echo{}
	s := socket.New(socket.Config{}, e)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	l.Close()
	if err := <-served; !errors.Is(err, net.ErrClosed) {
		t.Errorf("a listener that somebody else closed: %v", err)
	}
	s.Close()
	again, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(again); err != nil {
		t.Errorf("Serve after Close: %v", err)
	}
	if _, err := again.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Error("Serve after Close left its listener open")
	}
}

// The end of the server does not wait for those in their handshakes.
func TestCloseEndsHandshakes(t *testing.T) {
	each(t, func(t *testing.T, on transport) {
		asked := make(chan struct{})
		s := start(t, on, socket.Config{HandshakeTimeout: time.Hour, AcceptTimeout: time.Hour}, func(e *echo) {
			e.handshake = func(u *socket.Upgrade) {
				close(asked)
				<-u.Context().Done()
				u.Accept("", nil)
			}
		})
		silent, err := net.Dial("tcp", s.address)
		if err != nil {
			t.Fatal(err)
		}
		defer silent.Close()
		c := s.dial(t)
		c.write([]byte(request + "\r\n")...)
		<-asked // both were accepted, in this order
		closed := make(chan struct{})
		go func() {
			s.server.Close()
			close(closed)
		}()
		select {
		case <-closed:
		case <-time.After(patience):
			t.Fatal("Close waits for strangers")
		}
		if end := s.end(t); end.Reason != socket.Draining {
			t.Errorf("who was accepted too late: %+v", end)
		}
		if r, err := io.ReadAll(c); len(r) > 0 {
			t.Errorf("it was answered %q, %v", r, err)
		}
	})
}
