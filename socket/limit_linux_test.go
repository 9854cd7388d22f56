package socket_test

import (
	"fmt"
	"net"
	"testing"
	"time"

	"hubbub/socket"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"
)

// Out of descriptors, those who have said nothing make room for who speaks.
func TestOutOfDescriptors(t *testing.T) {
	each(t, func(t *testing.T, on transport) {
		for spare := range 3 { // descriptors beside the client's own
			t.Run(fmt.Sprint(spare), func(t *testing.T) {
				s := start(t, on, socket.Config{PlaceTimeout: time.Millisecond})
				for range 20 { // more than go at once
					c, err := net.Dial("tcp", s.address)
					if err != nil {
						t.Fatal(err)
					}
					defer c.Close()
				}
				first := s.open(t) // the silent ones came before it
				limit(t, 1+spare)
				c := s.open(t)
				c.text("here")
				c.want(ws.OpText, "here")
				first.text("still here")
				first.want(ws.OpText, "still here")
			})
		}
	})
}

// limit leaves that many descriptors free until the test ends.
func limit(t *testing.T, free int) {
	t.Helper()
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	var taken []int
	defer func() {
		for _, fd := range taken {
			_ = unix.Close(fd)
		}
	}()
	for range free {
		fd, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		taken = append(taken, fd)
	}
	after := before
	after.Cur = uint64(taken[len(taken)-1] + 1)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &after); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Setrlimit(unix.RLIMIT_NOFILE, &before) })
}
