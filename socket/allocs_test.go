package socket_test

import (
	"io"
	"testing"

	"hubbub/socket"
)

// Sending to many who are idle allocates for each goroutine that writes, of which
// the event loops have none to start, and nothing for each viewer.
func TestADeliveryAllocatesNothing(t *testing.T) {
	for _, on := range []transport{plain, portable} {
		t.Run(on.name, func(t *testing.T) {
			s := start(t, on, socket.Config{})
			const viewers = 100
			frame := socket.NewFrame([]byte("hello"))
			read := make(chan error, viewers)
			for range viewers {
				c := s.open(t)
				go func() {
					b := make([]byte, len("hello")+2)
					for {
						_, err := io.ReadFull(c.r, b)
						read <- err
						if err != nil {
							return
						}
					}
				}()
			}
			if n := testing.AllocsPerRun(50, func() {
				s.group.Send(frame)
				for range viewers {
					if err := <-read; err != nil {
						t.Fatal(err)
					}
				}
			}); n > viewers/4 {
				t.Errorf("%v allocations for %d deliveries", n, viewers)
			}
		})
	}
}
