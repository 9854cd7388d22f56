package hub

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"hubbub/chattoken"
	"hubbub/ivschat"
)

func TestARefusedHandshakeSaysWhyByItsStatus(t *testing.T) {
	var blocked atomic.Bool
	n := start(t, func(s *setup) {
		s.Serves = func(scope ivschat.Scope) bool { return scope.Region != "eu-west-1" }
		s.Blocked = func(string) bool { return blocked.Load() }
		ok(t, s.limits.Set("connections", "2"))
	})
	room := n.room()
	sealed := func(change func(*chattoken.Session)) string {
		s := n.session(room, "alice")
		change(&s)
		return n.token(s)
	}
	gone := n.room()
	ofGone := n.token(n.session(gone, "alice"))
	ok(t, n.registry.DeleteRoom(t.Context(), gone))
	used := n.token(n.session(room, "alice"))
	if c, status := n.dial(used); c == nil {
		t.Fatal(status)
	} else {
		ok(t, c.Close(websocket.StatusNormalClosure, ""))
	}
	eventually(t, "the first connection ends", func() bool { return n.Viewers() == 0 })
	good := n.token(n.session(room, "alice"))
	other := "A" // in a token's alphabet, so that it is the seal that refuses it
	if good[len(good)/2] == 'A' {
		other = "B"
	}
	flipped := good[:len(good)/2] + other + good[len(good)/2+1:]
	past := n.clock.now().Add(-time.Minute)

	for _, c := range []struct {
		name   string
		token  string // "" offers none
		block  bool
		status int
		reason refusalReason
	}{
		{"no sub-protocol", "", false, 401, noToken},
		{"no token", "hello", false, 401, invalidToken},
		{"altered", flipped, false, 401, invalidToken},
		{"with a character that no token has", good[:10] + "{" + good[11:], false, 401, invalidToken},
		{"with a byte that no text has", good[:10] + "\xff" + good[11:], false, 401, invalidToken},
		{"the token has expired", sealed(func(s *chattoken.Session) { s.TokenExpires = past }), false, 401, expiredToken},
		{"the session has ended", sealed(func(s *chattoken.Session) { s.TokenExpires, s.SessionExpires = past, past }), false, 401, sessionOver},
		{"used before, the connection has closed since", used, false, 401, usedToken},
		{"of another region", sealed(func(s *chattoken.Session) { s.Room = "arn:aws:ivschat:eu-west-1:123456789012:room/AbCdEf123456" }), false, 401, wrongScope},
		{"no such room", ofGone, false, 404, roomNotFound},
		{"the account is blocked", good, true, 403, accountBlocked},
		{"blocked comes before the room", ofGone, true, 403, accountBlocked},
	} {
		blocked.Store(c.block)
		before := n.count("hubbub_hub_handshakes_refused_total", string(c.reason))
		var offered []string
		if c.token != "" {
			offered = []string{c.token}
		}
		if conn, status := n.dial(offered...); conn != nil || status != c.status {
			t.Errorf("%s: %d, want %d", c.name, status, c.status)
		}
		if n.count("hubbub_hub_handshakes_refused_total", string(c.reason)) != before+1 {
			t.Errorf("%s: not counted as %s", c.name, c.reason)
		}
	}
	blocked.Store(false)

	first, second := n.join(room, "alice"), n.join(room, "bob")
	if _, status := n.dial(good); status != 429 {
		t.Errorf("a third connection: %d, want 429", status)
	}
	if _, status := n.dial(ofGone); status != 404 {
		t.Errorf("the room comes before the quota: %d, want 404", status)
	}
	if got := n.count("hubbub_concurrent_chat_connections", ""); got != 2 {
		t.Errorf("%d connections, want 2", got)
	}
	ok(t, first.CloseNow())
	eventually(t, "a connection is free", func() bool { return n.Viewers() == 1 })
	// None of the refusals has used the token up.
	if conn, status := n.dial(good); conn == nil {
		t.Errorf("the good token after its refusals: %d", status)
	}
	second.CloseNow()
}

func TestRefusalsTellStrangersLittleAndTheLogNoSecret(t *testing.T) {
	var log bytes.Buffer
	n := start(t, func(s *setup) {
		s.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	room := n.room()
	past := n.session(room, "alice")
	past.TokenExpires = n.clock.now().Add(-time.Minute)
	expired := n.token(past)
	bodies := map[string]bool{}
	for _, token := range []string{expired, "garbage"} {
		request, err := http.NewRequest("GET", "http"+strings.TrimPrefix(n.url, "ws"), nil)
		ok(t, err)
		for k, v := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
			"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol": token} {
			request.Header.Set(k, v)
		}
		response, err := http.DefaultTransport.RoundTrip(request)
		ok(t, err)
		body, err := io.ReadAll(response.Body)
		ok(t, err)
		response.Body.Close()
		bodies[string(body)] = true
		if !strings.Contains(string(body), `"message":"`) || strings.Contains(string(body), token) {
			t.Errorf("the body is %s", body)
		}
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	if len(bodies) != 1 {
		t.Errorf("the bodies say which check failed: %v", bodies)
	}
	s := n.session(room, "secret-user")
	s.Attributes = map[string]string{"k": "secret-attribute"}
	c := n.connect(s)
	c.send(`{"Action":"SEND_MESSAGE","Content":"secret-content"}`)
	c.want("MESSAGE  secret-content")
	c.CloseNow()
	eventually(t, "the viewer went", func() bool { return n.Viewers() == 0 })
	n.Close()
	for _, secret := range []string{expired, "garbage", "secret-user", "secret-attribute", "secret-content"} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log shows %q:\n%s", secret, log.String())
		}
	}
	for _, told := range []string{"reason=expired_token", "reason=invalid_token", "viewer came", "viewer went", "frames_in=1", "user=" + hashed("secret-user")} {
		if !strings.Contains(log.String(), told) {
			t.Errorf("the log does not say %q:\n%s", told, log.String())
		}
	}
}

func TestTheFirstValidTokenOfSeveralIsTaken(t *testing.T) {
	n := start(t)
	room := n.room()
	first, second := n.token(n.session(room, "alice")), n.token(n.session(room, "bob"))
	c, status := n.dial("chat", first, second)
	if c == nil {
		t.Fatal(status)
	}
	if c.Subprotocol() != first {
		t.Errorf("echoed %q", c.Subprotocol())
	}
	if c, status := n.dial(second); c == nil {
		t.Errorf("the other token was used up: %d", status)
	}
}

func TestATokenOpensOneConnectionHoweverManyTry(t *testing.T) {
	n := start(t, func(s *setup) { ok(t, s.limits.Set("connections", "0")) })
	room := n.room()
	token := n.token(n.session(room, "alice"))
	var mu sync.Mutex
	statuses := map[int]int{}
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			_, status := n.dial(token)
			mu.Lock()
			statuses[status]++
			mu.Unlock()
		})
	}
	all.Wait()
	if statuses[101] != 1 || statuses[401] != 49 {
		t.Errorf("statuses %v, want one 101 and 49 times 401", statuses)
	}
	// The refused are answered before they give their holds back.
	eventually(t, "one viewer holds the room", func() bool { return n.Viewers() == 1 && n.quotaHeld() == 1 })
}

func TestUsedTokensStayUsedOverARestart(t *testing.T) {
	dir := t.TempDir()
	n := start(t, func(s *setup) { s.dir = dir })
	room := n.room()
	used, unused := n.token(n.session(room, "alice")), n.token(n.session(room, "bob"))
	if c, status := n.dial(used); c == nil {
		t.Fatal(status)
	}
	n.Close()
	ok(t, n.engine.Close(t.Context()))
	n = start(t, func(s *setup) { s.dir = dir })
	if _, status := n.dial(used); status != 401 {
		t.Errorf("the used token: %d", status)
	}
	if _, status := n.dial(unused); status != 101 {
		t.Errorf("the unused token: %d", status)
	}
}

func TestAStoreThatCannotMarkTheTokenLeavesItGood(t *testing.T) {
	dir := t.TempDir()
	n := start(t, func(s *setup) { s.dir = dir })
	n.patience = 100 * time.Millisecond
	token := n.token(n.session(n.room(), "alice"))
	ok(t, n.engine.Close(t.Context()))
	if _, status := n.dial(token); status != 503 {
		t.Errorf("%d, want 503", status)
	}
	if n.count("hubbub_hub_handshakes_refused_total", string(storeUnavailable)) != 1 {
		t.Error("the refusal was not counted")
	}
	eventually(t, "its place in the quota is given back", func() bool { return n.quotaHeld() == 0 })
	n.Close()
	n = start(t, func(s *setup) { s.dir = dir })
	if _, status := n.dial(token); status != 101 {
		t.Errorf("the token after the trouble: %d", status)
	}
}

func TestAClientThatGoesDuringTheHandshakeGivesItsPlaceBack(t *testing.T) {
	n := start(t)
	room := n.room()
	var all sync.WaitGroup
	for range 50 {
		token := n.token(n.session(room, "alice"))
		all.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
			defer cancel()
			if c, _, err := websocket.Dial(ctx, n.url, &websocket.DialOptions{Subprotocols: []string{token}}); err == nil {
				c.CloseNow()
			}
		})
	}
	all.Wait()
	eventually(t, "nothing is held", func() bool { return n.Viewers() == 0 && n.quotaHeld() == 0 })
	if got := n.count("hubbub_hub_handshakes_refused_total", string(storeUnavailable)); got != 0 {
		t.Errorf("the store was blamed for %d clients that went", got)
	}
}
