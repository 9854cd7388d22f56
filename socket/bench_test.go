package socket_test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"hubbub/socket"
)

// BenchmarkGroupSend is one room over real loopback TCP, with the given number
// of messages of 320 bytes in flight; the viewers read in this process, so that
// the figure is of server and clients together.
func BenchmarkGroupSend(b *testing.B) {
	for _, on := range transports {
		for _, viewers := range []int{20, 100, 1000} {
			for _, flight := range []int{1, 8} {
				b.Run(fmt.Sprintf("%s/viewers=%d/flight=%d", on.name, viewers, flight), func(b *testing.B) { benchGroupSend(b, on, viewers, flight) })
			}
		}
	}
}

func benchGroupSend(b *testing.B, on transport, viewers, flight int) {
	s := start(b, on, socket.Config{})
	frame := socket.NewFrame([]byte(strings.Repeat("m", 320)))
	const wire = 320 + 4
	read := make(chan struct{}, viewers) // one for each viewer that has read a round
	for range viewers {
		c := s.open(b)
		_ = c.SetDeadline(time.Time{})
		go func() {
			buf := make([]byte, flight*wire)
			for {
				if _, err := io.ReadFull(c.r, buf); err != nil {
					return
				}
				read <- struct{}{}
			}
		}()
	}
	b.ReportAllocs()
	for b.Loop() {
		for range flight {
			s.group.Send(frame)
		}
		for range viewers {
			<-read
		}
	}
	b.ReportMetric(float64(viewers*flight*b.N)/b.Elapsed().Seconds(), "deliveries/s")
}

// BenchmarkHandshake is a connection from its SYN to the 101 and its end, client
// and server together, eight at a time.
func BenchmarkHandshake(b *testing.B) {
	for _, on := range transports {
		b.Run(on.name, func(b *testing.B) {
			s := start(b, on, socket.Config{}, func(e *echo) {
				e.closed = func(*socket.Conn) {
					<-e.ends
					e.mu.Lock()
					e.conns = nil
					e.mu.Unlock()
				}
			})
			b.ReportAllocs()
			b.SetParallelism(8)
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					c := s.open(b)
					if t, ok := c.Conn.(*net.TCPConn); ok {
						_ = t.SetLinger(0) // no port stays behind
					}
					c.Close()
				}
			})
		})
	}
}
