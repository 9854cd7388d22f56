package socket_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"testing"
	"time"

	"hubbub/socket"

	"golang.org/x/sys/unix"
)

// BenchmarkIdleConnection prints what a connection costs that does nothing, in
// resident memory of the process. The clients are bare descriptors, of which
// this process remembers a number.
func BenchmarkIdleConnection(b *testing.B) {
	const connections = 4000
	for _, on := range transports {
		b.Run(on.name, func(b *testing.B) {
			s := start(b, on, socket.Config{}, func(e *echo) { e.opened = func(c *socket.Conn) { c.WakeAt(time.Now().Add(time.Hour)) } })
			fds := make([]int, 0, connections)
			b.Cleanup(func() {
				for _, fd := range fds {
					_ = unix.Close(fd)
				}
			})
			for range 200 { // what the first ones need is not theirs alone
				fds = append(fds, bare(b, s))
			}
			before := resident(b)
			for len(fds) < connections {
				fds = append(fds, bare(b, s))
			}
			after := resident(b)
			for b.Loop() { // nothing is timed
			}
			b.ReportMetric(float64(after-before)/(connections-200), "B/connection")
			b.ReportMetric(0, "ns/op")
			if n := s.server.Len(); n != connections {
				b.Errorf("%d connections are left", n)
			}
		})
	}
}

// bare opens a connection and keeps its descriptor alone.
func bare(b *testing.B, s *server) int {
	b.Helper()
	base, err := net.Dial("tcp", s.address)
	if err != nil {
		b.Fatal(err)
	}
	defer base.Close()
	raw, err := base.(*net.TCPConn).SyscallConn()
	if err != nil {
		b.Fatal(err)
	}
	c := base
	if s.on.secure {
		c = tls.Client(base, &tls.Config{InsecureSkipVerify: true})
	}
	if _, err := c.Write([]byte(request + "\r\n")); err != nil {
		b.Fatal(err)
	}
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || r.StatusCode != http.StatusSwitchingProtocols {
		b.Fatal(r, err)
	}
	fd := -1
	if err := raw.Control(func(own uintptr) { fd, err = unix.Dup(int(own)) }); err != nil || fd < 0 {
		b.Fatal(err)
	}
	return fd
}

// resident is the process's memory once all that can be given back is.
func resident(b *testing.B) int64 {
	b.Helper()
	for range 3 { // stacks shrink by half at each collection
		debug.FreeOSMemory()
	}
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Fatal(err)
	}
	var size, pages int64
	if _, err := fmt.Sscan(string(text), &size, &pages); err != nil {
		b.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}
