package hub

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"hubbub/quota"
)

// BenchmarkMessage is what a SEND_MESSAGE costs the hub, from the bytes received
// to the frame in everybody's queue, with the writes of socket going on beside it.
func BenchmarkMessage(b *testing.B) {
	frame := []byte(`{"Action":"SEND_MESSAGE","RequestId":"8fe65e61-1fa2-4563-a90d-c53521e0e63c","Content":"What a goal, have you seen that?","Attributes":{"message_type":"MESSAGE"}}`)
	for _, viewers := range []int{1, 20} {
		b.Run(fmt.Sprintf("viewers=%d", viewers), func(b *testing.B) {
			n := start(b, func(s *setup) {
				s.limits = quota.None()
				s.Now = time.Now
				s.Socket.QueueFrames, s.Socket.QueueBytes = 1<<20, 1<<30 // nobody is cut for the flood
				s.Log = slog.New(slog.DiscardHandler)
			})
			room := n.room()
			for range viewers {
				s := n.session(room, "alice")
				s.TokenExpires, s.SessionExpires = time.Now().Add(time.Hour).Truncate(time.Second), time.Now().Add(time.Hour).Truncate(time.Second)
				c, _, _, err := ws.Dialer{Protocols: []string{n.token(s)}}.Dial(b.Context(), n.url)
				ok(b, err)
				b.Cleanup(func() { c.Close() })
				go discard(c)
			}
			v := n.viewerOf(room, "alice")
			b.ReportAllocs()
			for b.Loop() {
				n.Message(v.conn, frame)
			}
		})
	}
}

func discard(c net.Conn) { _, _ = io.Copy(io.Discard, c) }
