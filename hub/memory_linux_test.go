package hub

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"hubbub/quota"
)

// watch connects viewers, of whom this process keeps the descriptors alone; the
// caller closes them.
func (n *node) watch(tokens []string) (fds []int) {
	n.t.Helper()
	fds = make([]int, len(tokens))
	const atOnce = 32 // as their tokens are marked as used with one write
	var connecting sync.WaitGroup
	for k := range atOnce {
		connecting.Go(func() {
			for i := k; i < len(tokens); i += atOnce {
				var err error
				if fds[i], err = bare(strings.TrimPrefix(n.url, "ws://"), tokens[i]); err != nil {
					n.t.Error(err)
					return
				}
			}
		})
	}
	connecting.Wait()
	if n.t.Failed() {
		n.t.FailNow()
	}
	return fds
}

func bare(address, token string) (fd int, err error) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return -1, err
	}
	defer c.Close()
	if _, err = fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: %s\r\n\r\n", address, token); err != nil {
		return -1, err
	}
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return -1, err
	}
	if answer.StatusCode != http.StatusSwitchingProtocols {
		return -1, fmt.Errorf("refused with %d", answer.StatusCode)
	}
	file, err := c.(*net.TCPConn).File()
	if err != nil {
		return -1, err
	}
	defer file.Close()
	return unix.Dup(int(file.Fd()))
}

// An idle viewer holds at most 1 KiB, its used token included, and at most 2 KiB
// with whatever attributes its token may have.
func TestAnIdleViewerHoldsLittleWhateverItsAttributes(t *testing.T) {
	short := map[string]string{}
	for i := range 1024 / 8 {
		short[fmt.Sprintf("k%03d", i)] = "\"\\\n<"
	}
	shortest := map[string]string{}     // as many as there can be
	for i := range 128 + (1024-128)/2 { // of one byte, and of two
		shortest[string(rune(i))] = ""
	}
	for _, a := range []struct {
		name       string
		attributes func(i int) map[string]string
		most       int64
	}{
		{"none", func(int) map[string]string { return nil }, 1 << 10},
		{"a name", func(i int) map[string]string { return map[string]string{"displayName": fmt.Sprint("viewer ", i)} }, 1 << 10},
		{"1 KB", func(i int) map[string]string { return map[string]string{"about": fmt.Sprintf("%01019d", i)} }, 2 << 10},
		{"1 KB, of characters that JSON escapes", func(i int) map[string]string {
			return map[string]string{"about": fmt.Sprint(1000+i, strings.Repeat("\x01", 1015))}
		}, 2 << 10},
		{"1 KB, in short pieces", func(int) map[string]string { return short }, 2 << 10},
		{"1 KB, in the shortest pieces", func(int) map[string]string { return shortest }, 2 << 10},
	} {
		t.Run(a.name, func(t *testing.T) {
			n := start(t, func(s *setup) { s.limits = quota.None() })
			room := n.room()
			const warm, viewers = 200, 1000
			tokens := make([]string, warm+viewers)
			for i := range tokens {
				s := n.session(room, fmt.Sprint("user-", i))
				s.Attributes = a.attributes(i)
				tokens[i] = n.token(s)
			}
			fds := n.watch(tokens[:warm])
			before := live()
			fds = append(fds, n.watch(tokens[warm:])...)
			each := (live() - before) / viewers
			runtime.KeepAlive(tokens) // which are not what is measured
			t.Logf("%d bytes each", each)
			if each > a.most {
				t.Errorf("%d bytes each, want at most %d", each, a.most)
			}
			for _, fd := range fds {
				_ = unix.Close(fd)
			}
		})
	}
}
