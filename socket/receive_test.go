package socket

import (
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// torrent is a peer that always has more to say, and so never lets its reader
// wait, until it is over.
type torrent struct {
	net.Conn
	frames []byte
	read   *atomic.Int64
	over   *atomic.Bool
}

func (t *torrent) Read(b []byte) (int, error) {
	if t.over.Load() {
		return 0, io.EOF
	}
	n := len(b) / len(t.frames) * len(t.frames)
	for at := 0; at < n; at += len(t.frames) {
		copy(b[at:], t.frames)
	}
	t.read.Add(int64(n))
	return n, nil
}

func TestWhoSendsWithoutPauseLetsOthersGoFirst(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var read atomic.Int64
	var over atomic.Bool
	const flooders, turns = 4, 20
	s := New(Config{}, nil)
	var all sync.WaitGroup
	for range flooders {
		c := &Conn{stream: &stream{server: s}}
		from := newSource(&torrent{frames: []byte{0x8a, 0x80, 0, 0, 0, 0}, read: &read, over: &over}) // pongs
		all.Go(func() { _ = c.readAll(from, &reader{limit: s.config.MaxFrame}) })
	}
	for range turns {
		runtime.Gosched() // back when everybody had a turn
	}
	over.Store(true)
	served := read.Load()
	all.Wait()
	// One turn is some reads beyond the bound at most; the scheduler's own 10 ms are some hundred KB.
	if most := int64(flooders * (turns + 1) * 2 * yieldBytes); served > most {
		t.Errorf("%d bytes were read in %d turns of %d connections, want at most %d: who sends without pause keeps others waiting", served, turns, flooders, most)
	}
}
