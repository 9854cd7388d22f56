package hub

import (
	"sync/atomic"
	"testing"
	"time"

	"hubbub/engine"
	"hubbub/ivschat"
)

// However many write at once on a node, it asks the node that counts the room for
// no more than the room's rate, and refuses the rest itself.
func TestTheNodeThatCountsIsAskedForNoMoreThanTheRate(t *testing.T) {
	a, b := two(t)
	var room ivschat.ARN
	for room = a.room(); a.cluster.rates.home(room) != b.cluster.bus.Run(); {
		room = a.room()
	}
	var questions atomic.Int32
	b.cluster.bus.Answer(rateQuestion, func(engine.Run, []byte) []byte {
		questions.Add(1)
		return []byte{1}
	})
	const rate = 10 // of a room and, in this second, of a connection
	clients := []*client{a.join(room, "one"), a.join(room, "two"), a.join(room, "three")}
	for i, c := range clients {
		for range rate {
			c.send(`{"Action":"SEND_MESSAGE","Content":"x"}`)
		}
		want := "ERROR"
		if i == 0 {
			want = "MESSAGE"
		}
		for range rate {
			if f := c.receive(); f.Type != want {
				t.Fatalf("client %d gets %+v, want %s", i, f, want)
			}
		}
		if i == 0 {
			for _, other := range clients[1:] {
				for range rate {
					other.want("MESSAGE  x")
				}
			}
		}
	}
	if n := questions.Load(); n != rate {
		t.Errorf("%d questions for %d messages, want %d", n, rate*len(clients), rate)
	}
	a.clock.advance(time.Second)
	clients[1].send(`{"Action":"SEND_MESSAGE","Content":"a second later"}`)
	clients[1].want("MESSAGE  a second later")
}
