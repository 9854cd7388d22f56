package socket

import (
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// stop has the kernel take nothing more for the connection, and says how much
// the peer has before it to read.
func (s *still) stop(c *Conn) (bytes int) {
	s.t.Helper()
	for {
		n, errno := trySend(c.own.fd, make([]byte, 4<<10))
		if bytes += n; errno == unix.EAGAIN {
			return bytes
		} else if errno != 0 {
			s.t.Fatal(errno)
		}
	}
}

// The defaults are what is promised, and the last frame within them is kept.
func TestASlowViewerHasThatManyFramesOrBytesPending(t *testing.T) {
	for _, bound := range []struct {
		name    string
		payload int // with a head of 4 bytes
		frames  int // that may be pending
	}{
		{"2,048 frames", 300, 2048},
		{"1 MiB", 8<<10 - 4, 128},
	} {
		t.Run(bound.name, func(t *testing.T) {
			s := newStill(t, Config{})
			g := s.server.NewGroup()
			slow, _ := s.connect()
			fast, peer := s.connect()
			g.Add(slow)
			g.Add(fast)
			s.stop(slow)
			f := NewFrame([]byte(strings.Repeat("x", bound.payload)))
			send := func() {
				g.Send(f)
				s.turn()
				if n := len(s.got(peer)); n != len(f.bytes) {
					t.Fatalf("the other viewer got %d bytes, want %d", n, len(f.bytes))
				}
			}
			for range bound.frames {
				send()
			}
			if slow.own.fd < 0 || len(slow.own.out.frames) != bound.frames {
				t.Fatalf("it is cut before %s are over", bound.name)
			}
			send()
			if slow.own.fd >= 0 {
				t.Fatalf("it is kept with more than %s", bound.name)
			}
			if end := <-s.h.ends; end.Reason != SlowViewer || end.Code != noCode {
				t.Errorf("%+v", end)
			}
		})
	}
}

func TestASlowViewerIsNotCutForTwoSecondsButForFive(t *testing.T) {
	for _, stalls := range []struct {
		length time.Duration
		kept   bool
	}{{2 * time.Second, true}, {5*time.Second - time.Duration(tick), true}, {5 * time.Second, false}} {
		t.Run(stalls.length.String(), func(t *testing.T) {
			s := newStill(t, Config{})
			s.now = tick
			g := s.server.NewGroup()
			c, peer := s.connect()
			g.Add(c)
			before := s.stop(c)
			want := strings.Repeat("\x00", before)
			begun := s.now
			for i := range 400 { // a busy room's messages of that time
				text := fmt.Sprint(i, strings.Repeat("x", 400))
				g.Send(NewFrame([]byte(text)))
				want += wire(text)
				s.turn()
				s.now = begun + int64(stalls.length)*int64(i+1)/400
			}
			s.turn()
			if !stalls.kept {
				if c.own.fd >= 0 {
					t.Error("it is kept")
				}
				return
			}
			s.wantAll(c, peer, want)
			if c.own.fd < 0 || c.own.out != nil || c.own.state.is(blocked) {
				t.Error("it is not as before")
			}
			s.now += int64(20 * time.Second) // and it is not remembered for it
			s.turn()
			if c.own.fd < 0 {
				t.Error("it is cut when it has everything")
			}
		})
	}
}

// accept makes an open connection of the loop over TCP, as an acceptor has it.
func (s *still) accept() (*Conn, net.Conn) {
	s.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	defer listener.Close()
	peer, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = peer.Close() })
	accept, end := s.server.acceptor(listener)
	defer end()
	if err := accept(); err != nil {
		s.t.Fatal(err)
	}
	c := s.posted[len(s.posted)-1].conn
	s.perform()
	s.server.leave(&c.own.guest.stranger)
	s.server.vacate()
	c.own.guest.cancel = func() {}
	s.server.metrics.connections.Inc()
	s.open(c, &Frame{answer: true})
	s.turn()
	return c, peer
}

// kernelMemory is what the kernel holds for a socket, in bytes.
func kernelMemory(t *testing.T, fd int32) (n int) {
	t.Helper()
	var m [9]uint32 // linux/sock_diag.h, SK_MEMINFO_*
	size := uint32(unsafe.Sizeof(m))
	if _, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO, uintptr(unsafe.Pointer(&m)), uintptr(unsafe.Pointer(&size)), 0); errno != 0 {
		t.Skip("this kernel does not say what it holds: ", errno)
	}
	const received, reserved, queued, options, backlogged = 0, 4, 5, 6, 7
	for _, i := range []int{received, reserved, queued, options, backlogged} {
		n += int(m[i])
	}
	return n
}

func TestTheKernelHoldsLittleForASlowViewer(t *testing.T) {
	for _, size := range []int{100, 400, 8000, 100_000} {
		s := newStill(t, Config{QueueBytes: 8 << 20})
		c, _ := s.accept()
		g := s.server.NewGroup()
		g.Add(c)
		f := NewFrame([]byte(strings.Repeat("x", size)))
		for sent := 0; c.own.out == nil || len(c.own.out.frames) < 20; sent++ {
			if sent > 100_000 {
				t.Fatal("the kernel takes everything")
			}
			g.Send(f)
			s.turn()
		}
		n := kernelMemory(t, c.own.fd)
		t.Logf("frames of %d bytes: %d KiB", size, n>>10)
		if n > 300<<10 || n == 0 {
			t.Errorf("the kernel holds %d bytes for frames of %d, want at most 300 KiB", n, size)
		}
	}
}

// What is sent to many is referred to by each who cannot take it. Even if nothing
// of that is collected while it grows, each has less than 64 KiB of its own.
func TestASlowViewerHasLittleMemoryOfItsOwn(t *testing.T) {
	s := newStill(t, Config{})
	g := s.server.NewGroup()
	const viewers = 200
	var slow []*Conn
	for range viewers {
		c, _ := s.connect()
		s.stop(c)
		g.Add(c)
		slow = append(slow, c)
	}
	f := NewFrame([]byte("to all"))
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range 2048 {
		g.Send(f)
		s.turn()
	}
	for s.busy() {
		s.turn()
	}
	runtime.ReadMemStats(&after)
	for _, c := range slow {
		if c.own.fd < 0 || len(c.own.out.frames) != 2048 {
			t.Fatal("it is not full, or cut")
		}
	}
	all := float64(after.TotalAlloc-before.TotalAlloc) / viewers
	runtime.GC()
	runtime.ReadMemStats(&after)
	live := float64(after.HeapAlloc-before.HeapAlloc) / viewers
	t.Logf("%.1f KiB of its own, %.1f KiB with what it had while it grew", live/1024, all/1024)
	if live > 32<<10 || all > 64<<10 {
		t.Errorf("%.0f bytes of its own, %.0f with what it had while it grew; want at most 32 and 64 KiB", live, all)
	}
	for _, c := range slow {
		s.over(c)
	}
	clear(slow)
	s.turn()
	runtime.GC()
	runtime.ReadMemStats(&after)
	if left := float64(after.HeapAlloc) - float64(before.HeapAlloc); left > live*viewers/8 {
		t.Errorf("%.0f bytes are left when all are gone", left)
	}
}
