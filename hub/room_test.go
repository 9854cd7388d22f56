package hub

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"
	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"hubbub/ivschat"
	"hubbub/quota"
	"hubbub/socket"
)

func TestADisconnectedUserHearsItAndThenNothing(t *testing.T) {
	n := start(t)
	room, other := n.room(), n.room()
	moderator, bob := n.join(room, "moderator"), n.join(room, "bob")
	phone, laptop := n.join(room, "alice"), n.join(room, "alice")
	elsewhere := n.join(other, "alice")
	moderator.send(`{"Action":"DISCONNECT_USER","RequestId":"k","UserId":"alice","Reason":"be nice"}`)
	for _, c := range []*client{moderator, bob, phone, laptop} {
		f := c.want("EVENT k aws:DISCONNECT_USER")
		if f.Attributes["UserId"] != "alice" || f.Attributes["Reason"] != "be nice" {
			t.Errorf("attributes %v", f.Attributes)
		}
	}
	moderator.send(`{"Action":"SEND_MESSAGE","Content":"peace"}`)
	for _, c := range []*client{moderator, bob} {
		c.want("MESSAGE  peace")
	}
	phone.wantClose(websocket.StatusNormalClosure, "be nice")
	laptop.wantClose(websocket.StatusNormalClosure, "be nice")
	n.fence(other, elsewhere)
	n.fence(room, moderator, bob)
	again := n.join(room, "alice") // nobody is banned
	n.fence(room, moderator, bob, again)

	ok(t, n.DisconnectUser(t.Context(), room, "alice", ""))
	for _, c := range []*client{moderator, bob, again} {
		if f := c.want("EVENT  aws:DISCONNECT_USER"); f.Attributes["Reason"] != "" || len(f.Attributes) != 2 {
			t.Errorf("attributes %v", f.Attributes)
		}
	}
	// Without a reason the close frame has none, and its code is said all the same.
	again.wantClose(websocket.StatusNormalClosure, "")
	ok(t, n.DisconnectUser(t.Context(), room, "alice", "")) // nobody is there
	for _, c := range []*client{moderator, bob} {
		c.want("EVENT  aws:DISCONNECT_USER")
	}
}

func TestAUserMayDisconnectItself(t *testing.T) {
	n := start(t)
	room := n.room()
	alice, bob := n.join(room, "alice"), n.join(room, "bob")
	alice.send(`{"Action":"DISCONNECT_USER","RequestId":"k","UserId":"alice","Reason":"bye"}`)
	alice.want("EVENT k aws:DISCONNECT_USER")
	alice.wantClose(websocket.StatusNormalClosure, "bye")
	bob.want("EVENT k aws:DISCONNECT_USER")
}

func TestNothingOfADisconnectedUserFollowsItsEvent(t *testing.T) {
	n := start(t, func(s *setup) { s.limits = quota.None() })
	room := n.room()
	bob := n.join(room, "bob")
	for range 20 {
		alice := n.join(room, "alice")
		var sending sync.WaitGroup
		sending.Go(func() {
			for range 50 {
				if alice.Write(context.Background(), websocket.MessageText, []byte(`{"Action":"SEND_MESSAGE","Content":"me"}`)) != nil {
					return
				}
			}
		})
		sending.Go(func() {
			for err := error(nil); err == nil; {
				_, err = alice.read()
			}
		})
		ok(t, n.DisconnectUser(t.Context(), room, "alice", ""))
		sending.Wait()
		eventually(t, "alice is gone", func() bool { return n.Viewers() == 1 })
		_, err := n.SendEvent(t.Context(), room, "fence", nil)
		ok(t, err)
		for disconnected := false; ; {
			f := bob.receive()
			if f.EventName == "fence" {
				break
			}
			if disconnected {
				t.Fatalf("after the event: %+v", f)
			}
			disconnected = f.EventName == ivschat.DisconnectUserEvent
		}
	}
}

func TestTheReasonOfADisconnectFitsItsCloseFrame(t *testing.T) {
	for _, c := range []struct{ name, reason, want string }{
		{"none", "", ""},
		{"short", "be nice", "be nice"},
		{"as long as fits", strings.Repeat("x", 123), strings.Repeat("x", 123)},
		{"longer", strings.Repeat("x", 256), strings.Repeat("x", 123)},
		{"cut before a character", "x" + long(80), "x" + long(61)},
		{"cut where a character would be halved", long(80), long(61)},
		{"looks like the ERROR of a session's end", `{"ErrorCode":401}`, `Disconnected: {"ErrorCode":401}`},
		{"the same behind white space", "\n {}", "Disconnected: \n {}"},
	} {
		got := closeText(c.reason)
		if got != c.want || len(got) > 123 || !utf8.ValidString(got) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestEventsToARoomWithoutViewersSucceed(t *testing.T) {
	n := start(t)
	room := n.room()
	id, err := n.SendEvent(t.Context(), room, "e", nil)
	if err != nil || !ivschat.IsID(id) {
		t.Errorf("%q %v", id, err)
	}
	id, err = n.DeleteMessage(t.Context(), room, "AbCdEf123456", "")
	if err != nil || !ivschat.IsID(id) {
		t.Errorf("%q %v", id, err)
	}
	ok(t, n.DisconnectUser(t.Context(), room, "alice", ""))
}

func TestAnEventReachesWhoeverHasSeenThe101(t *testing.T) {
	n := start(t)
	room := n.room()
	for i := range 50 {
		c := n.join(room, fmt.Sprint("user", i)) // one user who came and went so often would be delayed
		n.fence(room, c)
		c.CloseNow()
	}
}

func TestEverybodySeesOneOrder(t *testing.T) {
	n := start(t, func(s *setup) { s.limits = quota.None() })
	room := n.room()
	const senders, each = 4, 100
	var clients []*client
	for i := range senders {
		clients = append(clients, n.join(room, fmt.Sprint("user", i)))
	}
	elsewhere := n.join(n.room(), "user0")
	var all sync.WaitGroup
	seen := make([][]frame, senders)
	for i, c := range clients {
		all.Go(func() {
			for k := range each {
				c.send(`{"Action":"SEND_MESSAGE","RequestId":"%d","Content":"x"}`, k)
			}
		})
		all.Go(func() {
			for range senders*each + each {
				seen[i] = append(seen[i], c.receive())
			}
		})
	}
	all.Go(func() {
		for range each {
			_, err := n.SendEvent(context.Background(), room, "e", nil)
			if err != nil {
				t.Error(err)
			}
		}
	})
	all.Wait()
	next := map[string]int{}
	for i, f := range seen[0] {
		for k := range senders {
			if seen[k][i].Id != f.Id {
				t.Fatalf("frame %d differs between viewers", i)
			}
		}
		if f.Type == "MESSAGE" {
			if f.RequestId != fmt.Sprint(next[f.Sender.UserId]) {
				t.Fatalf("%s sent %d, but frame %d is its %s", f.Sender.UserId, next[f.Sender.UserId], i, f.RequestId)
			}
			next[f.Sender.UserId]++
		}
	}
	elsewhere.send(`{"RequestId":"own"}`)
	if f := elsewhere.receive(); f.RequestId != "own" {
		t.Errorf("a frame of another room: %+v", f)
	}
}

// TestComingAndGoing is about races: of the first viewer with the last of
// before, and of both with what is sent meanwhile.
func TestComingAndGoing(t *testing.T) {
	n := start(t, func(s *setup) { s.limits = quota.None() })
	room := n.room()
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for k := range 25 {
				all.Go(func() {
					if err := n.DisconnectUser(context.Background(), room, "user0", ""); err != nil {
						t.Error(err)
					}
					if _, err := n.SendEvent(context.Background(), room, "e", nil); err != nil {
						t.Error(err)
					}
				})
				c := n.join(room, fmt.Sprint("user", k%3))
				id := fmt.Sprintf(`"RequestId":"%d-%d"`, i, k)
				err := c.Write(context.Background(), websocket.MessageText, []byte(`{"Action":"SEND_MESSAGE","Content":"x",`+id+`}`))
				for text := ""; err == nil && !strings.Contains(text, id); { // until answered, or disconnected by the others
					text, err = c.read()
				}
				if err != nil && k%3 != 0 {
					t.Errorf("a user whom nobody disconnects: %v", err)
				}
				c.CloseNow()
				n.clock.advance(300 * time.Millisecond) // rooms linger for a second
			}
		})
	}
	all.Wait()
	eventually(t, "everybody is gone", func() bool { return n.Viewers() == 0 && n.quotaHeld() == 0 })
	if r := n.find(room); r != nil && (len(r.users) != 0 || r.group.Len() != 0) {
		t.Errorf("the empty room has %d users and %d members", len(r.users), r.group.Len())
	}
	n.clock.advance(2 * time.Second)
	n.join(n.room(), "another")
	if n.find(room) != nil {
		t.Error("the room stays without viewers")
	}
}

// TestASlowViewerIsCutAndNobodyElseMissesAnything is guarantee 2: no silent gap.
func TestASlowViewerIsCutAndNobodyElseMissesAnything(t *testing.T) {
	n := start(t, func(s *setup) {
		s.limits = quota.None()
		s.Socket.QueueFrames, s.Socket.QueueBytes = 64, 64<<10
	})
	room := n.room()
	slow, _, _, err := ws.Dialer{Protocols: []string{n.token(n.session(room, "slow"))}, NetDial: smallWindow}.Dial(t.Context(), n.url)
	ok(t, err)
	defer slow.Close()
	fast, sender := n.join(room, "fast"), n.join(room, "sender")
	var sent int
	for n.Viewers() == 3 {
		if sent++; sent > 100_000 {
			t.Fatal("the slow viewer is never cut")
		}
		sender.send(`{"Action":"SEND_MESSAGE","RequestId":"%d","Content":"%s"}`, sent, long(500))
		for _, c := range []*client{fast, sender} {
			if f := c.receive(); f.RequestId != fmt.Sprint(sent) {
				t.Fatalf("message %d instead of %d", sent, sent)
			}
		}
	}
	n.fence(room, fast, sender)
	// What the slow viewer got is a beginning of all, without a gap, and no close frame.
	ok(t, slow.SetReadDeadline(time.Now().Add(patience)))
	for next := 1; ; next++ {
		payload, op, err := readRaw(slow)
		if err != nil {
			break // reset
		}
		if op != ws.OpText || !bytes.Contains(payload, fmt.Appendf(nil, `"RequestId":"%d"`, next)) {
			t.Fatalf("frame %d is %v %.80s", next, op, payload)
		}
	}
	eventually(t, "the reason is counted", func() bool {
		return n.count("hubbub_hub_viewers_gone_total", string(socket.SlowViewer)) == 1
	})
}

// readRaw reads one frame as it is on the wire.
func readRaw(c net.Conn) ([]byte, ws.OpCode, error) {
	h, err := ws.ReadHeader(c)
	if err != nil {
		return nil, 0, err
	}
	payload := make([]byte, h.Length)
	_, err = io.ReadFull(c, payload)
	return payload, h.OpCode, err
}

// smallWindow connects with a receive buffer that is soon full.
func smallWindow(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err == nil {
		err = c.(*net.TCPConn).SetReadBuffer(4 << 10)
	}
	return c, err
}

func TestACloseFrameIsTheLastFrame(t *testing.T) {
	n := start(t)
	room := n.room()
	c, _, _, err := ws.Dialer{Protocols: []string{n.token(n.session(room, "alice"))}}.Dial(t.Context(), n.url)
	ok(t, err)
	defer c.Close()
	ok(t, c.SetDeadline(time.Now().Add(patience)))
	ok(t, n.DisconnectUser(t.Context(), room, "alice", "out"))
	_, err = n.SendEvent(t.Context(), room, "after", nil)
	ok(t, err)
	ok(t, wsutil.WriteClientText(c, []byte(`{"Action":"SEND_MESSAGE","Content":"after"}`)))
	event, op, err := readRaw(c)
	if err != nil || op != ws.OpText || !bytes.Contains(event, []byte(ivschat.DisconnectUserEvent)) {
		t.Fatalf("%v %s %v", op, event, err)
	}
	end, op, err := readRaw(c)
	if err != nil || op != ws.OpClose || binary.BigEndian.Uint16(end) != 1000 || string(end[2:]) != "out" {
		t.Fatalf("%v %q %v", op, end, err)
	}
	ok(t, ws.WriteFrame(c, ws.MaskFrame(ws.NewCloseFrame(end))))
	if rest, err := io.ReadAll(c); err != nil || len(rest) != 0 {
		t.Errorf("behind the close frame: %q %v", rest, err)
	}
	if n.count("hubbub_messaging_requests_total", string(sendMessage)) != 0 || n.count("hubbub_hub_errors_total", "401") != 0 {
		t.Error("what the user sent behind its end was looked at")
	}
}

// TestManyConnectionsOfOneUserDelayNobody is about applications that give all
// guests one user id: when they leave together, the others of the room wait for
// the lock that each of them holds.
func TestManyConnectionsOfOneUserDelayNobody(t *testing.T) {
	leaving := func(userID func(i int) string) time.Duration {
		r := &room{group: socket.New(socket.Config{}, nil).NewGroup(), users: map[string]*viewer{}}
		viewers := make([]*viewer, 30_000)
		for i := range viewers {
			viewers[i] = &viewer{room: r, conn: &socket.Conn{}, sender: ivschat.NewSender(userID(i), nil)}
			r.join(viewers[i])
		}
		rand.Shuffle(len(viewers), func(i, j int) { viewers[i], viewers[j] = viewers[j], viewers[i] })
		begun := time.Now()
		for _, v := range viewers {
			r.leave(v, gone, nil)
		}
		took := time.Since(begun)
		if len(r.users) != 0 || r.group.Len() != 0 {
			t.Errorf("the empty room has %d users and %d members", len(r.users), r.group.Len())
		}
		return took
	}
	each := leaving(func(i int) string { return fmt.Sprint("user", i) })
	one := leaving(func(int) string { return "guest" })
	if one > 8*each {
		t.Errorf("30,000 connections of one user took %v to leave, those of as many users %v", one, each)
	}
}

func TestARoomGivesItsMemoryBackAfterAStorm(t *testing.T) {
	r := &room{group: socket.New(socket.Config{}, nil).NewGroup(), users: map[string]*viewer{}}
	join := func(i int) *viewer {
		v := &viewer{room: r, conn: &socket.Conn{}, sender: ivschat.NewSender(fmt.Sprint("user", i), nil)}
		r.join(v)
		return v
	}
	stays := join(0)
	before := live()
	viewers := make([]*viewer, 5000)
	for i := range viewers {
		viewers[i] = join(i + 1)
	}
	with := live() - before
	for _, v := range viewers {
		r.leave(v, gone, nil)
	}
	viewers = nil
	if left := live() - before; left > with/10 {
		t.Errorf("of %d bytes for 5,000 viewers %d are left when they are gone", with, left)
	}
	if len(r.users) != 1 || r.users["user0"] != stays || r.group.Len() != 1 {
		t.Errorf("%d users and %d members, want the one that stays", len(r.users), r.group.Len())
	}
}
