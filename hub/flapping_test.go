package hub

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"hubbub/ivschat"
	"hubbub/quota"
)

func TestTheDelayGrowsAndIsForgotten(t *testing.T) {
	f, now := newFlapping(), time.Unix(1_800_000_000, 0)
	const room, user = ivschat.ARN("room"), "alice"
	for i, want := range append(make([]time.Duration, flapsFree+1),
		100*time.Millisecond, 200*time.Millisecond, 400*time.Millisecond, 800*time.Millisecond, 1600*time.Millisecond,
		3200*time.Millisecond, 5*time.Second, 5*time.Second, 5*time.Second) {
		if got := f.delay(room, user, now); got != want {
			t.Errorf("after %d short connections: %v, want %v", i, got, want)
		}
		f.note(room, user, now)
	}
	if f.delay(room, "bob", now) != 0 || f.delay("another room", user, now) != 0 {
		t.Error("somebody else is delayed")
	}
	for _, c := range []struct{ after, want time.Duration }{
		{flapDrains / 2, 5 * time.Second}, {flapDrains, 3200 * time.Millisecond}, {6 * flapDrains, 100 * time.Millisecond}, {7 * flapDrains, 0}, {time.Hour, 0},
	} {
		if got := f.delay(room, user, now.Add(c.after)); got != c.want {
			t.Errorf("%v later: %v, want %v", c.after, got, c.want)
		}
	}
	later := now.Add(time.Hour)
	f.note(room, user, later)
	if got := f.delay(room, user, later); got != 0 {
		t.Errorf("an hour later it begins with %v", got)
	}
}

// However many users flap, they take so much memory and no more; who is in the
// clear makes room.
func TestFlappingUsersAreBounded(t *testing.T) {
	f, now := newFlapping(), time.Unix(1_800_000_000, 0)
	for i := range flappers + 100 {
		f.note("room", fmt.Sprint("user", i), now)
	}
	if len(f.users) != flappers {
		t.Errorf("%d users are remembered, want %d", len(f.users), flappers)
	}
	now = now.Add(flapDrains)
	f.note("room", "alice", now)
	if len(f.users) != 1 {
		t.Errorf("%d users are remembered, want alice alone", len(f.users))
	}
}

// flap comes and goes so often that the user is delayed next.
func (n *node) flap(room ivschat.ARN, user string) {
	n.t.Helper()
	for range flapsFree + 1 {
		n.join(room, user).CloseNow()
	}
	eventually(n.t, "the user is to be delayed", func() bool { return n.flapping.delay(room, user, n.clock.now()) > 0 })
}

const delayedMetric = "hubbub_hub_handshakes_delayed_total"

func TestAFlappingUserIsDelayedAndServed(t *testing.T) {
	var log bytes.Buffer
	n := start(t, func(s *setup) { s.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	n.flapping.first = time.Millisecond
	room := n.room()
	n.flap(room, "alice")
	if got := n.count(delayedMetric, ""); got != 0 {
		t.Errorf("%v were delayed of those who may come and go", got)
	}
	n.join(room, "bob")
	n.join(n.room(), "alice")
	if got := n.count(delayedMetric, ""); got != 0 {
		t.Error("another user, or the user in another room, was delayed")
	}
	c := n.join(room, "alice")
	if got := n.count(delayedMetric, ""); got != 1 {
		t.Errorf("%v were delayed, want 1", got)
	}
	c.send(`{"Action":"SEND_MESSAGE","RequestId":"1","Content":"hi"}`)
	c.want("MESSAGE 1 hi")
	n.Close()
	if !strings.Contains(log.String(), `msg="handshake delayed"`) || strings.Contains(log.String(), "alice") {
		t.Errorf("the log:\n%s", &log)
	}
}

// A client that goes while it is delayed has not used its token.
func TestADelayedTokenStaysUnused(t *testing.T) {
	n := start(t)
	n.flapping.first = time.Hour // flapLongest, then
	room := n.room()
	n.flap(room, "alice")
	token := n.token(n.session(room, "alice"))
	c := n.ask(token)
	eventually(t, "it is delayed", func() bool { return n.count(delayedMetric, "") == 1 })
	ok(t, c.Close())
	eventually(t, "it has gone", func() bool { return n.count("hubbub_socket_handshakes_refused_total", "no_request") == 1 })
	n.clock.advance(time.Minute)
	if _, status := n.dial(token); status != 101 {
		t.Errorf("the token of a client that went while it was delayed: %d", status)
	}
}

func TestWhoIsNotDelayed(t *testing.T) {
	for name, c := range map[string]struct {
		limits quota.Limits
		others int
		want   int
	}{
		"without rates":                 {quota.None(), 0, 0},
		"a user with other connections": {quota.Strict(), crowdIsShared - 1, 1},
		"an id that many people share":  {quota.Strict(), crowdIsShared, 0},
	} {
		t.Run(name, func(t *testing.T) {
			n := start(t, func(s *setup) { s.limits = c.limits })
			n.flapping.first = time.Millisecond
			room := n.room()
			for range c.others {
				n.join(room, "guest")
			}
			n.flap(room, "guest")
			eventually(t, "only the others are there", func() bool { return n.quotaHeld() == c.others })
			n.join(room, "guest")
			if got := n.count(delayedMetric, ""); got != c.want {
				t.Errorf("%v were delayed, want %v", got, c.want)
			}
		})
	}
}

// ask sends a request with the token and does not wait for its answer.
func (n *node) ask(token string) net.Conn {
	n.t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(n.url, "ws://"))
	ok(n.t, err)
	n.t.Cleanup(func() { c.Close() })
	_, err = fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: %s\r\n\r\n", token)
	ok(n.t, err)
	return c
}
