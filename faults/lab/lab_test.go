package lab

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if !Inside() {
		if exit, err := Enter(); err == nil {
			os.Exit(exit)
		} else {
			fmt.Fprintln(os.Stderr, "no lab here:", err)
		}
	}
	os.Exit(m.Run())
}

// echo answers every byte on a side, and returns its address.
func echo(t *testing.T, s *Side) string {
	t.Helper()
	l, err := s.Listen(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b := make([]byte, 1)
				for {
					if _, err := c.Read(b); err != nil {
						return
					}
					_, _ = c.Write(b)
				}
			}()
		}
	}()
	return l.Addr().String()
}

// line is a connection to an echo.
type line struct {
	net.Conn
	t *testing.T
}

func connect(t *testing.T, address string) line {
	t.Helper()
	c, err := net.DialTimeout("tcp", address, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return line{c, t}
}

// ask sends a byte and returns how long its echo took.
func (l line) ask(limit time.Duration) (time.Duration, error) {
	l.t.Helper()
	began := time.Now()
	if _, err := l.Write([]byte{1}); err != nil {
		l.t.Fatal(err)
	}
	if err := l.SetReadDeadline(began.Add(limit)); err != nil {
		l.t.Fatal(err)
	}
	_, err := l.Read(make([]byte, 1))
	return time.Since(began), err
}

func TestWires(t *testing.T) {
	l := New(t, 1, "a", "b")
	here := connect(t, echo(t, l.Side("a")))
	there, err := l.Side("b").Dial(t.Context(), "tcp", echo(t, l.Side("a")))
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	between := line{there, t}
	for name, conn := range map[string]line{"clients to a": here, "b to a": between} {
		if _, err := conn.ask(10 * time.Second); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	// A wire that is cut in one direction is silent, and delays nobody else.
	for _, cut := range [][2]string{{Clients, "a"}, {"a", Clients}} {
		l.Wire(cut[0], cut[1], Wire{Cut: true})
		if _, err := here.ask(300 * time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s to %s is cut, but: %v", cut[0], cut[1], err)
		}
		if _, err := between.ask(10 * time.Second); err != nil {
			t.Errorf("%s to %s is cut, and b to a: %v", cut[0], cut[1], err)
		}
		l.Heal()
		if err := here.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := here.Read(make([]byte, 1)); err != nil { // sent again by the kernel
			t.Fatalf("%s to %s is there again, but: %v", cut[0], cut[1], err)
		}
	}
	l.Wires([]string{Clients}, []string{"a"}, Wire{Latency: 100 * time.Millisecond})
	if took, err := here.ask(10 * time.Second); err != nil || took < 200*time.Millisecond {
		t.Errorf("there and back over a wire with 100 ms took %v: %v", took, err)
	}
	l.Wires([]string{Clients}, []string{"a"}, Wire{Loss: 0.1})
	if err := here.SetDeadline(time.Now().Add(60 * time.Second)); err != nil {
		t.Fatal(err)
	}
	slowest := time.Duration(0)
	for i := range 50 {
		took, err := here.ask(60 * time.Second)
		if err != nil {
			t.Fatalf("byte %d over a wire that loses: %v", i, err)
		}
		slowest = max(slowest, took)
	}
	if slowest < 200*time.Millisecond { // the least time after which a kernel sends again
		t.Errorf("of 50 bytes there and back over a wire that loses a tenth the slowest took %v: nothing was lost", slowest)
	}
}

// TestNothingLeavesTheLab looks at the network of this process: loopback and the
// device of the lab.
func TestNothingLeavesTheLab(t *testing.T) {
	New(t, 1)
	devices, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range devices {
		if d.Name != "lo" && d.Name != "lab0" {
			t.Errorf("a device %s", d.Name)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if c, err := (&net.Dialer{}).DialContext(ctx, "tcp", "192.0.2.1:80"); err == nil {
		c.Close()
		t.Error("an address outside answers")
	}
}
