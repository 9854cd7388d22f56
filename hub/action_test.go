package hub

import (
	"fmt"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hubbub/ivschat"
	"hubbub/quota"
)

// exactly compares a frame byte for byte, but for ids: each ID in want stands for one.
func exactly(t *testing.T, c *client, want string) (id string) {
	t.Helper()
	got, err := c.read()
	ok(t, err)
	pattern := "^" + strings.Replace(regexp.QuoteMeta(want), "ID", "([a-zA-Z0-9]{12})", 1) + "$"
	m := regexp.MustCompile(pattern).FindStringSubmatch(got)
	if m == nil {
		t.Fatalf("\ngot  %s\nwant %s", got, want)
	}
	return m[1]
}

func TestFramesHaveTheServicesShape(t *testing.T) {
	n := start(t)
	room := n.room()
	s := n.session(room, "alice.55b2")
	s.Attributes = map[string]string{"username": "Alice"}
	alice, bob := n.connect(s), n.join(room, "bob")
	sent := n.clock.now().UTC().Format("2006-01-02T15:04:05") + ".123456789Z" // the clock stands still
	both := func(want string) (id string) {
		t.Helper()
		ids := map[string]bool{}
		for _, c := range []*client{alice, bob} {
			id = exactly(t, c, want)
			ids[id] = true
		}
		if len(ids) != 1 {
			t.Errorf("the frames differ in their ids")
		}
		return id
	}
	alice.send(`{"Action":"SEND_MESSAGE","RequestId":"r1","Content":"Hi \\ \"<é𝄞>\"  "}`)
	message := both(`{"Type":"MESSAGE","Id":"ID","RequestId":"r1","Attributes":null,"Content":"Hi \\ \"<é𝄞>\"  ","SendTime":"` + sent + `","Sender":{"UserId":"alice.55b2","Attributes":{"username":"Alice"}}}`)
	bob.send(`{"action":"SEND_MESSAGE","content":"x","attributes":{"b":"2","a":"1"},"id":"0b1d6e1c-0000-4000-8000-000000000000","reason":5,"more":[]}`)
	both(`{"Type":"MESSAGE","Id":"ID","RequestId":"","Attributes":{"a":"1","b":"2"},"Content":"x","SendTime":"` + sent + `","Sender":{"UserId":"bob","Attributes":{}}}`)
	bob.send(`{"Action":"SEND_MESSAGE","RequestId":null,"Content":"x","Attributes":{}}`)
	both(`{"Type":"MESSAGE","Id":"ID","RequestId":"","Attributes":{},"Content":"x","SendTime":"` + sent + `","Sender":{"UserId":"bob","Attributes":{}}}`)
	bob.send(`{"Action":"DELETE_MESSAGE","RequestId":"d","Id":"%s","Reason":"no"}`, message)
	deletion := both(`{"Type":"EVENT","Id":"ID","RequestId":"d","EventName":"aws:DELETE_MESSAGE","Attributes":{"MessageID":"` + message + `","MessageId":"` + message + `","Reason":"no"},"SendTime":"` + sent + `"}`)
	if deletion == message {
		t.Error("the event has the id of the message that it deletes")
	}
	bob.send(`{"action":"DELETE_MESSAGE","id":"%s","reason":null}`, message)
	both(`{"Type":"EVENT","Id":"ID","RequestId":"","EventName":"aws:DELETE_MESSAGE","Attributes":{"MessageID":"` + message + `","MessageId":"` + message + `","Reason":""},"SendTime":"` + sent + `"}`)
	bob.send(`{"userId":"nobody","action":"DISCONNECT_USER","requestId":"k","reason":"out"}`)
	both(`{"Type":"EVENT","Id":"ID","RequestId":"k","EventName":"aws:DISCONNECT_USER","Attributes":{"Reason":"out","UserId":"nobody"},"SendTime":"` + sent + `"}`)

	id, err := n.SendEvent(t.Context(), room, "app:X", map[string]string{"userId": "é"})
	ok(t, err)
	if got := both(`{"Type":"EVENT","Id":"ID","RequestId":"","EventName":"app:X","Attributes":{"userId":"é"},"SendTime":"` + sent + `"}`); got != id {
		t.Errorf("the event has id %s, the caller was told %s", got, id)
	}
	_, err = n.SendEvent(t.Context(), room, "app:X", nil)
	ok(t, err)
	both(`{"Type":"EVENT","Id":"ID","RequestId":"","EventName":"app:X","Attributes":null,"SendTime":"` + sent + `"}`)
	id, err = n.DeleteMessage(t.Context(), room, message, "")
	ok(t, err)
	if got := both(`{"Type":"EVENT","Id":"ID","RequestId":"","EventName":"aws:DELETE_MESSAGE","Attributes":{"MessageID":"` + message + `","MessageId":"` + message + `","Reason":""},"SendTime":"` + sent + `"}`); got != id {
		t.Errorf("the event has id %s, the caller was told %s", got, id)
	}
	bob.send(`nonsense`)
	exactly(t, bob, `{"Type":"ERROR","Id":"ID","RequestId":"","ErrorCode":400,"ErrorMessage":"Invalid request: the frame must be one JSON object"}`)
	n.fence(room, alice, bob)
}

func TestABinaryFrameIsReadAsText(t *testing.T) {
	n := start(t)
	c := n.join(n.room(), "alice")
	ok(t, c.Write(t.Context(), 2, []byte(`{"Action":"SEND_MESSAGE","Content":"hi"}`)))
	c.want("MESSAGE  hi")
}

func TestEveryRefusalOfAnAction(t *testing.T) {
	var blocked atomic.Bool
	n := start(t, func(s *setup) {
		ok(t, s.limits.Set("requests_per_connection_per_second", "0"))
		s.Blocked = func(string) bool { return blocked.Load() }
	})
	room, gone := n.room(), n.room()
	all, none, late, lost := n.session(room, "all"), n.session(room, "none"), n.session(room, "late"), n.session(gone, "lost")
	none.Capabilities = 0
	late.SessionExpires = late.TokenExpires
	clients := map[string]*client{"all": n.connect(all), "none": n.connect(none), "lost": n.connect(lost)}
	ok(t, n.registry.DeleteRoom(t.Context(), gone))

	const invalid = "Invalid request"
	content := func(n int) string { return fmt.Sprintf(`"Action":"SEND_MESSAGE","Content":"%s"`, long(n)) }
	for _, c := range []struct {
		name, who, frame, id string
		code                 int
		text                 string // or its beginning
	}{
		{"no JSON", "all", `{"RequestId":"1"`, "", 400, invalid},
		{"not an object", "all", `["SEND_MESSAGE"]`, "", 400, invalid},
		{"empty", "all", ``, "", 400, invalid},
		{"two objects", "all", `{"RequestId":"1"}{}`, "", 400, invalid},
		{"no action", "all", `{"RequestId":"1","Content":"x"}`, "1", 400, invalid},
		{"null action", "all", `{"RequestId":"1","Action":null}`, "1", 400, invalid},
		{"unknown action", "all", `{"RequestId":"1","Action":"SEND_EVENT"}`, "1", 400, invalid},
		{"action in lower case", "all", `{"RequestId":"1","Action":"send_message","Content":"x"}`, "1", 400, invalid},
		{"action of the wrong type", "all", `{"Action":7,"RequestId":"1"}`, "1", 400, invalid},
		{"no content", "all", `{"RequestId":"1","Action":"SEND_MESSAGE"}`, "1", 400, invalid},
		{"empty content", "all", `{"RequestId":"1","Action":"SEND_MESSAGE","Content":""}`, "1", 400, invalid},
		{"content of the wrong type", "all", `{"RequestId":"1","Action":"SEND_MESSAGE","Content":5}`, "1", 400, invalid},
		{"content too long", "all", `{"RequestId":"1",` + content(501) + `}`, "1", 400, "Message exceeds maximum length"},
		{"attribute that is no string", "all", `{"RequestId":"1","Attributes":{"a":1},` + content(1) + `}`, "1", 400, invalid},
		{"attributes that are no object", "all", `{"RequestId":"1","Attributes":[],` + content(1) + `}`, "1", 400, invalid},
		{"attributes over 1 KB", "all", `{"RequestId":"1","Attributes":{"a":"` + strings.Repeat("x", 1024) + `"},` + content(1) + `}`, "1", 413, "Payload too large"},
		{"request id over 1 KB", "all", `{"RequestId":"` + strings.Repeat("x", 1025) + `",` + content(1) + `}`, "", 413, "Payload too large"},
		{"request id of the wrong type", "all", `{"RequestId":1,` + content(1) + `}`, "", 400, invalid},
		{"frame over 16 KiB", "all", `{"RequestId":"1","x":"` + strings.Repeat("x", 16<<10) + `",` + content(1) + `}`, "1", 413, "Payload too large"},
		{"bad message id", "all", `{"RequestId":"1","Action":"DELETE_MESSAGE","Id":"short"}`, "1", 400, invalid},
		{"no message id", "all", `{"RequestId":"1","Action":"DELETE_MESSAGE"}`, "1", 400, invalid},
		{"reason too long", "all", `{"RequestId":"1","Action":"DELETE_MESSAGE","Id":"AbCdEf123456","Reason":"` + long(257) + `"}`, "1", 413, "Payload too large"},
		{"no user id", "all", `{"RequestId":"1","Action":"DISCONNECT_USER"}`, "1", 400, invalid},
		{"user id too long", "all", `{"RequestId":"1","Action":"DISCONNECT_USER","UserId":"` + long(129) + `"}`, "1", 413, "Payload too large"},
		{"no capability to send", "none", `{"RequestId":"1",` + content(1) + `}`, "1", 403, "Forbidden"},
		{"no capability to delete", "none", `{"RequestId":"1","Action":"DELETE_MESSAGE","Id":"AbCdEf123456"}`, "1", 403, "Forbidden"},
		{"no capability to disconnect", "none", `{"RequestId":"1","Action":"DISCONNECT_USER","UserId":"all"}`, "1", 403, "Forbidden"},
		{"bad JSON before capability", "none", `{`, "", 400, invalid},
		{"capability before content", "none", `{"RequestId":"1",` + content(501) + `}`, "1", 403, "Forbidden"},
		{"capability before size", "none", `{"RequestId":"1","x":"` + strings.Repeat("x", 16<<10) + `",` + content(1) + `}`, "1", 403, "Forbidden"},
		{"room deleted", "lost", `{"RequestId":"1",` + content(1) + `}`, "1", 404, "Room not found"},
		{"room before content", "lost", `{"RequestId":"1",` + content(501) + `}`, "1", 404, "Room not found"},
		{"account blocked", "all", `{"RequestId":"1",` + content(1) + `}`, "1", 403, "Forbidden"},
	} {
		blocked.Store(c.name == "account blocked")
		before := n.count("hubbub_hub_errors_total", fmt.Sprint(c.code))
		v := clients[c.who]
		v.send("%s", c.frame)
		f := v.receive()
		if f.Type != "ERROR" || f.ErrorCode != c.code || f.RequestId != c.id || !strings.HasPrefix(f.ErrorMessage, c.text) || !ivschat.IsID(f.Id) {
			t.Errorf("%s: %+v, want %d %q for %q", c.name, f, c.code, c.text, c.id)
		}
		if n.count("hubbub_hub_errors_total", fmt.Sprint(c.code)) != before+1 {
			t.Errorf("%s: not counted", c.name)
		}
	}
	blocked.Store(false)
	// Nobody else saw any of it, and every connection is as good as before.
	n.fence(room, clients["all"], clients["none"])
	clients["all"].send(`{"RequestId":"ok",%s}`, content(500))
	clients["none"].want("MESSAGE ok " + long(500))
}

func TestAnIdIsNeverSeenTwice(t *testing.T) {
	n := start(t, func(s *setup) { ok(t, s.limits.Set("requests_per_connection_per_second", "0")) })
	room := n.room()
	c := n.join(room, "alice")
	ids := map[string]bool{}
	for i := range 60 {
		c.send([]string{`{"Action":"SEND_MESSAGE","Content":"x"}`, `{"Action":"DELETE_MESSAGE","Id":"AbCdEf123456"}`, `{}`}[i%3])
		f := c.receive()
		if ids[f.Id] || !ivschat.IsID(f.Id) {
			t.Fatalf("the id %q", f.Id)
		}
		ids[f.Id] = true
	}
}

func TestAConnectionMayAskTenTimesASecond(t *testing.T) {
	n := start(t)
	room := n.room(ratePerSecond(100))
	alice, bob := n.join(room, "alice"), n.join(room, "bob")
	// Whatever it asks for: malformed and refused frames cost as much.
	for range 2 {
		alice.send(`{"Action":"SEND_MESSAGE","Content":"x"}`)
		alice.want("MESSAGE  x")
		bob.want("MESSAGE  x")
		alice.send(`{"Action":"DELETE_MESSAGE","Id":"AbCdEf123456"}`)
		alice.want("EVENT  aws:DELETE_MESSAGE")
		bob.want("EVENT  aws:DELETE_MESSAGE")
		alice.send(`nonsense`)
		alice.receive()
		alice.send(`{"Action":"SEND_MESSAGE","RequestId":"2"}`)
		alice.receive()
		alice.send(`{"RequestId":"1","Action":"X"}`)
		alice.receive()
	}
	for _, frame := range []string{`{"RequestId":"1","Action":"SEND_MESSAGE","Content":"x"}`, `{"RequestId":"1","Action":"X"}`, `{"RequestId":"1","Action":"SEND_MESSAGE"}`} {
		alice.send(frame)
		alice.want("ERROR 1 429 rate limit exceeded")
	}
	alice.send(`nonsense`)
	alice.want("ERROR  429 rate limit exceeded")
	bob.send(`{"Action":"SEND_MESSAGE","Content":"another connection"}`)
	for _, c := range []*client{alice, bob} {
		c.want("MESSAGE  another connection")
	}
	n.clock.advance(100 * time.Millisecond)
	alice.send(`{"Action":"SEND_MESSAGE","Content":"a tenth of a second later"}`)
	alice.want("MESSAGE  a tenth of a second later")
	alice.send(`{"Action":"SEND_MESSAGE","Content":"x"}`)
	alice.want("ERROR  429 rate limit exceeded")
}

func TestARoomTakesItsRateFromAllTogether(t *testing.T) {
	n := start(t)
	room := n.room(ratePerSecond(5))
	clients := []*client{n.join(room, "alice"), n.join(room, "bob"), n.join(room, "carol")}
	everybody := func(i int, id string) {
		t.Helper()
		clients[i].send(`{"Action":"SEND_MESSAGE","RequestId":"%s","Content":"x"}`, id)
		for _, c := range clients {
			c.want("MESSAGE " + id + " x")
		}
	}
	for i := range 5 {
		everybody(i%3, fmt.Sprint(i))
	}
	refused := func(i int) {
		t.Helper()
		clients[i].send(`{"Action":"SEND_MESSAGE","RequestId":"no","Content":"x"}`)
		clients[i].want("ERROR no 429 rate limit exceeded")
	}
	for i := range clients {
		refused(i)
	}
	clients[0].send(`{"Action":"SEND_MESSAGE","RequestId":"long","Content":"%s"}`, long(501))
	clients[0].want("ERROR long 400 Message exceeds maximum length") // the members come before the rate
	clients[0].send(`{"Action":"DELETE_MESSAGE","RequestId":"d","Id":"AbCdEf123456"}`)
	for _, c := range clients {
		c.want("EVENT d aws:DELETE_MESSAGE") // which has another rate
	}
	n.clock.advance(200 * time.Millisecond)
	everybody(1, "later")
	refused(1)
	r := ivschat.Integer(1)
	_, err := n.registry.UpdateRoom(t.Context(), &ivschat.UpdateRoomRequest{Identifier: room, MaximumMessageRatePerSecond: &r})
	ok(t, err)
	n.clock.advance(900 * time.Millisecond)
	refused(2)
	n.clock.advance(time.Second)
	everybody(2, "slow")
	refused(0)
}

func TestLeavingARoomDoesNotRefillItsRate(t *testing.T) {
	n := start(t)
	room := n.room(ratePerSecond(1))
	c := n.join(room, "alice")
	c.send(`{"Action":"SEND_MESSAGE","Content":"x"}`)
	c.want("MESSAGE  x")
	c.CloseNow()
	eventually(t, "the room is empty", func() bool { return n.Viewers() == 0 })
	c = n.join(room, "alice")
	c.send(`{"Action":"SEND_MESSAGE","Content":"x"}`)
	c.want("ERROR  429 rate limit exceeded")
}

func TestAnAccountTakesItsRatesOverAllRooms(t *testing.T) {
	n := start(t, func(s *setup) {
		for _, k := range []string{"send_message_per_second", "delete_message_per_second", "disconnect_user_per_second"} {
			ok(t, s.limits.Set(k, "2"))
		}
	})
	a, b := n.join(n.room(), "alice"), n.join(n.room(), "alice")
	for _, frame := range []struct{ action, want string }{
		{`"Action":"SEND_MESSAGE","Content":"x"`, "MESSAGE 1 x"},
		{`"Action":"DELETE_MESSAGE","Id":"AbCdEf123456"`, "EVENT 1 aws:DELETE_MESSAGE"},
		{`"Action":"DISCONNECT_USER","UserId":"x"`, "EVENT 1 aws:DISCONNECT_USER"},
	} {
		for _, c := range []*client{a, b} {
			c.send(`{"RequestId":"1",` + frame.action + `}`)
			c.want(frame.want)
		}
		for _, c := range []*client{a, b} {
			c.send(`{"RequestId":"1",` + frame.action + `}`)
			c.want("ERROR 1 429 rate limit exceeded")
		}
	}
}

func TestWithoutLimitsNothingIsTooFast(t *testing.T) {
	n := start(t, func(s *setup) { s.limits = quota.None() })
	c := n.join(n.room(ratePerSecond(1)), "alice")
	for range 200 {
		c.send(`{"Action":"SEND_MESSAGE","Content":"x"}`)
		c.want("MESSAGE  x")
	}
}

func TestAChangedRoomActsAtTheNextMessage(t *testing.T) {
	n := start(t)
	room := n.room()
	c := n.join(room, "alice")
	c.send(`{"Action":"SEND_MESSAGE","Content":"four"}`)
	c.want("MESSAGE  four")
	length := ivschat.Integer(3)
	_, err := n.registry.UpdateRoom(t.Context(), &ivschat.UpdateRoomRequest{Identifier: room, MaximumMessageLength: &length})
	ok(t, err)
	c.send(`{"Action":"SEND_MESSAGE","RequestId":"1","Content":"four"}`)
	c.want("ERROR 1 400 Message exceeds maximum length")
	c.send(`{"Action":"SEND_MESSAGE","Content":"𝄞é3"}`)
	c.want("MESSAGE  𝄞é3")
}

func TestAMessageThatNothingCanReviewGetsTheFallback(t *testing.T) {
	n := start(t)
	handler := func(uri string, f ivschat.FallbackResult) func(*ivschat.CreateRoomRequest) {
		return func(r *ivschat.CreateRoomRequest) {
			r.MessageReviewHandler = &ivschat.ReviewHandlerInput{URI: &uri, FallbackResult: &f}
		}
	}
	const lambda = "arn:aws:lambda:us-west-2:123456789012:function:moderate"
	for _, c := range []struct {
		name, uri string
		fallback  ivschat.FallbackResult
		want      string
	}{
		{"allowed", lambda, ivschat.FallbackAllow, "MESSAGE 1 x"},
		{"denied", lambda, ivschat.FallbackDeny, "ERROR 1 406 Message rejected by review handler"},
		{"a removed handler decides nothing", "", ivschat.FallbackDeny, "MESSAGE 1 x"},
	} {
		t.Run(c.name, func(t *testing.T) {
			room := n.room(handler(c.uri, c.fallback))
			alice, bob := n.join(room, "alice"), n.join(room, "bob")
			alice.send(`{"Action":"SEND_MESSAGE","RequestId":"1","Content":"x"}`)
			alice.want(c.want)
			if c.fallback == ivschat.FallbackAllow || c.uri == "" {
				bob.want(c.want)
			}
			alice.send(`{"Action":"DELETE_MESSAGE","RequestId":"2","Id":"AbCdEf123456"}`) // is never reviewed
			for _, v := range []*client{alice, bob} {
				v.want("EVENT 2 aws:DELETE_MESSAGE")
			}
		})
	}
}

func TestTheServicesMetrics(t *testing.T) {
	n := start(t, func(s *setup) { ok(t, s.limits.Set("requests_per_connection_per_second", "5")) })
	room := n.room()
	var clients []*client
	for i := range 3 {
		clients = append(clients, n.join(room, fmt.Sprint("user", i)))
	}
	n.join(n.room(), "elsewhere")
	a := clients[0]
	a.send(`{"Action":"SEND_MESSAGE","Content":"x"}`)
	a.want("MESSAGE  x")
	a.send(`{"Action":"SEND_MESSAGE"}`) // refused, but recognised
	a.receive()
	a.send(`{"Action":"X"}`) // not recognised
	a.receive()
	a.send(`{"Action":"DELETE_MESSAGE","Id":"AbCdEf123456"}`)
	a.want("EVENT  aws:DELETE_MESSAGE")
	a.send(`{"Action":"DISCONNECT_USER","UserId":"user2"}`)
	a.want("EVENT  aws:DISCONNECT_USER")
	a.send(`{"Action":"SEND_MESSAGE","Content":"too fast"}`)
	a.want("ERROR  429 rate limit exceeded")
	leave := func(c *client) {
		for err := error(nil); err == nil; {
			_, err = c.read()
		}
	}
	leave(clients[2])
	eventually(t, "the disconnected user is gone", func() bool { return n.Viewers() == 3 })
	_, err := n.SendEvent(t.Context(), room, "e", nil)
	ok(t, err)
	_, err = n.DeleteMessage(t.Context(), room, "AbCdEf123456", "")
	ok(t, err)
	ok(t, n.DisconnectUser(t.Context(), room, "user1", ""))
	leave(clients[1])
	eventually(t, "the disconnected user is gone", func() bool { return n.Viewers() == 2 })
	for _, c := range []struct {
		action               label
		requests, deliveries int
	}{{sendMessage, 3, 3}, {deleteMessage, 2, 3 + 2}, {disconnectUser, 2, 3 + 2}, {sendEvent, 1, 2}} {
		if got := n.count("hubbub_messaging_requests_total", string(c.action)); got != c.requests {
			t.Errorf("%s: %d requests, want %d", c.action, got, c.requests)
		}
		if got := n.count("hubbub_messaging_deliveries_total", string(c.action)); got != c.deliveries {
			t.Errorf("%s: %d deliveries, want %d", c.action, got, c.deliveries)
		}
	}
	for name, want := range map[string]int{"hubbub_concurrent_chat_connections": 2, "hubbub_hub_viewers": 2, "hubbub_hub_rooms": 2} {
		if got := n.count(name, ""); got != want {
			t.Errorf("%s is %d, want %d", name, got, want)
		}
	}
	if got := n.count("hubbub_hub_viewers_gone_total", string(userDisconnected)); got != 2 {
		t.Errorf("%d viewers went for being disconnected, want 2", got)
	}
}
