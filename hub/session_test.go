package hub

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"hubbub/ivschat"
)

// viewerOf is the one viewer of the user.
func (n *node) viewerOf(room ivschat.ARN, user string) *viewer {
	n.t.Helper()
	r := n.find(room)
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.users[user]
}

func TestASessionEndsWithAnErrorThenAClose(t *testing.T) {
	n := start(t)
	room := n.room()
	short := n.session(room, "alice")
	short.SessionExpires = n.clock.now().Truncate(time.Second).Add(time.Minute)
	short.TokenExpires = short.SessionExpires
	alice, bob := n.connect(short), n.join(room, "bob")
	v := n.viewerOf(room, "alice")

	n.clock.advance(59 * time.Second)
	n.Wake(v.conn) // too early
	n.fence(room, alice, bob)

	n.clock.advance(time.Second)
	n.Wake(v.conn)
	n.Wake(v.conn) // within the grace
	text, err := alice.read()
	ok(t, err)
	id := text[len(`{"Type":"ERROR","Id":"`):][:12]
	want := `{"Type":"ERROR","Id":"` + id + `","RequestId":"","ErrorCode":401,"ErrorMessage":"Session expired"}`
	if text != want || !ivschat.IsID(id) {
		t.Fatalf("got  %s\nwant %s", text, want)
	}
	if len(want) > ivschat.MaxCloseReasonBytes {
		t.Errorf("%d bytes do not fit a close frame", len(want))
	}
	n.fence(room, bob) // and nothing more for alice
	alice.send(`{"Action":"SEND_MESSAGE","RequestId":"late","Content":"x"}`)
	alice.want("ERROR late 401 Session expired")
	alice.send(`{"Action":"SEND_MESSAGE","RequestId":"late","Content":""}`)
	alice.want("ERROR late 401 Session expired") // which comes before what it holds
	alice.send(`{"RequestId":"late","Action":"X"}`)
	if f := alice.receive(); f.ErrorCode != 400 {
		t.Errorf("an unknown action after the end: %+v", f)
	}
	n.clock.advance(5 * time.Second)
	n.Wake(v.conn)
	alice.wantClose(websocket.StatusNormalClosure, want)
	eventually(t, "alice is gone", func() bool { return n.Viewers() == 1 })
	if got := n.count("hubbub_hub_viewers_gone_total", string(sessionEnded)); got != 1 {
		t.Errorf("%d went for their session's end", got)
	}
	n.fence(room, bob)
}

func TestWhoIsDisconnectedAfterTheSessionsEndIsClosedAtOnce(t *testing.T) {
	n := start(t)
	room := n.room()
	s := n.session(room, "alice")
	s.SessionExpires = n.clock.now().Truncate(time.Second).Add(time.Second)
	s.TokenExpires = s.SessionExpires
	alice, again, bob := n.connect(s), n.join(room, "alice"), n.join(room, "bob")
	n.clock.advance(time.Second)
	alice.send(`{"Action":"SEND_MESSAGE","RequestId":"1","Content":"x"}`)
	alice.want("ERROR  401 Session expired")
	alice.want("ERROR 1 401 Session expired")
	ok(t, n.DisconnectUser(t.Context(), room, "alice", "kick"))
	bob.want("EVENT  aws:DISCONNECT_USER")
	alice.wantClose(websocket.StatusNormalClosure, "kick")
	again.want("EVENT  aws:DISCONNECT_USER")
	again.wantClose(websocket.StatusNormalClosure, "kick")
	eventually(t, "alice is gone", func() bool { return n.Viewers() == 1 })
	if v := n.viewerOf(room, "alice"); v != nil {
		t.Error("a connection of the user is still listed")
	}
}

func TestASessionEndsByItself(t *testing.T) {
	n := start(t)
	room := n.room()
	s := n.session(room, "alice")
	s.SessionExpires = n.clock.now().Truncate(time.Second).Add(time.Second)
	s.TokenExpires = s.SessionExpires
	n.clock.nanos.Store(s.SessionExpires.Add(-20 * time.Millisecond).UnixNano())
	c := n.connect(s)
	n.fence(room, c)
	n.clock.advance(20 * time.Millisecond)
	c.want("ERROR  401 Session expired")
}

func TestAFrameAfterTheEndIsRefusedBeforeAnybodyWoke(t *testing.T) {
	n := start(t)
	room := n.room()
	alice, bob := n.join(room, "alice"), n.join(room, "bob")
	n.clock.advance(3 * time.Hour)
	alice.send(`{"Action":"SEND_MESSAGE","RequestId":"1","Content":"x"}`)
	alice.want("ERROR  401 Session expired")
	alice.want("ERROR 1 401 Session expired")
	n.fence(room, bob)
}

func TestATokensOwnExpiryEndsNoConnection(t *testing.T) {
	n := start(t)
	c := n.join(n.room(), "alice")
	n.clock.advance(time.Hour + time.Minute)
	c.send(`{"Action":"SEND_MESSAGE","Content":"still here"}`)
	c.want("MESSAGE  still here")
}

func TestADeletedRoomKeepsItsConnections(t *testing.T) {
	n := start(t)
	room := n.room()
	alice := n.join(room, "alice")
	late := n.token(n.session(room, "late"))
	ok(t, n.registry.DeleteRoom(t.Context(), room))
	for _, frame := range []string{`"Action":"SEND_MESSAGE","Content":"x"`, `"Action":"DELETE_MESSAGE","Id":"AbCdEf123456"`, `"Action":"DISCONNECT_USER","UserId":"alice"`} {
		alice.send(`{"RequestId":"1",` + frame + `}`)
		alice.want("ERROR 1 404 Room not found")
	}
	if _, status := n.dial(late); status != 404 {
		t.Errorf("a new handshake: %d, want 404", status)
	}
	for what, err := range map[string]error{
		"SendEvent":      second(n.SendEvent(t.Context(), room, "e", nil)),
		"DeleteMessage":  second(n.DeleteMessage(t.Context(), room, "AbCdEf123456", "")),
		"DisconnectUser": n.DisconnectUser(t.Context(), room, "alice", ""),
	} {
		if err == nil || !strings.HasPrefix(err.Error(), string(ivschat.NotFound)) {
			t.Errorf("%s: %v, want NotFound", what, err)
		}
	}
	alice.send(`{"RequestId":"2"}`)
	if f := alice.receive(); f.RequestId != "2" {
		t.Errorf("something came in between: %+v", f)
	}
}

func second(_ string, err error) error { return err }

func TestAPanicOverOneViewerEndsNoOther(t *testing.T) {
	var poisoned atomic.Bool
	n := start(t, func(s *setup) {
		s.Blocked = func(string) bool {
			if poisoned.Load() {
				panic("at the disco")
			}
			return false
		}
	})
	room := n.room()
	alice, bob := n.join(room, "alice"), n.join(room, "bob")
	late := n.token(n.session(room, "late"))
	poisoned.Store(true)
	alice.send(`{"Action":"SEND_MESSAGE","Content":"x"}`)
	if text, err := alice.read(); err == nil || websocket.CloseStatus(err) != -1 {
		t.Errorf("alice is not dropped without a close frame: %s %v", text, err)
	}
	if _, status := n.dial(late); status != 500 {
		t.Errorf("a handshake: %d, want 500", status)
	}
	poisoned.Store(false)
	n.fence(room, bob)
	if _, status := n.dial(late); status != 101 {
		t.Errorf("the token afterwards: %d", status)
	}
	eventually(t, "alice is gone", func() bool { return n.Viewers() == 2 })
}
