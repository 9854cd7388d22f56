//go:build unix

package natstest

import (
	"net"
	"sync"
	"testing"
)

// Wire is a way to an address that a test can cut.
type Wire struct {
	Address string // that leads to the other one
	done    sync.WaitGroup

	mu     sync.Mutex
	change *sync.Cond
	silent bool
	broken bool
	ends   map[net.Conn]struct{}
}

// NewWire makes a way to an address, which is there until the end of the test.
func NewWire(t testing.TB, to string) *Wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	w := &Wire{Address: l.Addr().String(), ends: map[net.Conn]struct{}{}}
	w.change = sync.NewCond(&w.mu)
	w.done.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			w.add(in, out)
			w.done.Go(func() { w.copy(in, out) })
			w.done.Go(func() { w.copy(out, in) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		w.Break()
		w.done.Wait()
	})
	return w
}

func (w *Wire) add(ends ...net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range ends {
		w.ends[c] = struct{}{}
		if w.broken {
			c.Close()
		}
	}
}

func (w *Wire) copy(to, from net.Conn) {
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		w.mu.Lock()
		for w.silent {
			w.change.Wait()
		}
		w.mu.Unlock()
		if _, werr := to.Write(b[:n]); err != nil || werr != nil {
			break
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range []net.Conn{to, from} {
		c.Close()
		delete(w.ends, c)
	}
}

// Silence has what is sent wait, in both directions, while connections stay open.
func (w *Wire) Silence() { w.set(true, false) }

// Break ends connections and lets no new ones through.
func (w *Wire) Break() { w.set(false, true) }

// Mend has it be a wire again.
func (w *Wire) Mend() { w.set(false, false) }

func (w *Wire) set(silent, broken bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.silent, w.broken = silent, broken
	if broken {
		for c := range w.ends {
			c.Close()
		}
	}
	w.change.Broadcast()
}
