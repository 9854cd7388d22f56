package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ivschat"
	"github.com/aws/aws-sdk-go-v2/service/ivschat/types"
	"github.com/coder/websocket"
)

// frame has every member of every frame that the server sends.
type frame struct {
	Type, ID, RequestID, Content, EventName, SendTime, ErrorMessage string
	ErrorCode                                                       int
	Attributes                                                      map[string]string
	Sender                                                          struct {
		UserID     string
		Attributes map[string]string
	}
}

func newToken(t testing.TB, c *ivschat.Client, room, user string, capabilities ...types.ChatTokenCapability) string {
	t.Helper()
	out, err := c.CreateChatToken(limited(t), &ivschat.CreateChatTokenInput{RoomIdentifier: &room, UserId: aws.String(user), Capabilities: capabilities})
	if err != nil {
		t.Fatal(err)
	}
	return *out.Token
}

// dial opens a connection with the token; status is that of the answer.
func dial(ctx context.Context, s *server, token string) (*websocket.Conn, int, error) {
	var protocols []string
	if token != "" {
		protocols = []string{token}
	}
	c, response, err := websocket.Dial(ctx, s.Messaging, &websocket.DialOptions{Subprotocols: protocols})
	status := 0
	if response != nil {
		status = response.StatusCode
	}
	if err == nil && token != "" && c.Subprotocol() != token {
		c.CloseNow()
		return nil, status, errors.New("the sub-protocol was not echoed")
	}
	return c, status, err
}

func connect(t testing.TB, s *server, c *ivschat.Client, room, user string, capabilities ...types.ChatTokenCapability) *websocket.Conn {
	t.Helper()
	conn, status, err := dial(limited(t), s, newToken(t, c, room, user, capabilities...))
	if err != nil {
		t.Fatalf("status %d: %v", status, err)
	}
	t.Cleanup(func() { conn.CloseNow() })
	return conn
}

func send(t testing.TB, c *websocket.Conn, text string) {
	t.Helper()
	if err := c.Write(limited(t), websocket.MessageText, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

func receive(t testing.TB, c *websocket.Conn) frame {
	t.Helper()
	kind, b, err := c.Read(limited(t))
	if err != nil {
		t.Fatal(err)
	}
	var f frame
	if err := json.Unmarshal(b, &f); err != nil || kind != websocket.MessageText {
		t.Fatalf("%v %s: %v", kind, b, err)
	}
	return f
}

const every = types.ChatTokenCapabilitySendMessage

func TestTwoPeopleChat(t *testing.T) {
	s := start(t)
	c := s.client()
	alice := connect(t, s, c, s.RoomARN, "alice", every)
	bob := connect(t, s, c, s.RoomARN, "bob")
	send(t, alice, `{"Action":"SEND_MESSAGE","RequestId":"1","Content":"hi"}`)
	for _, v := range []*websocket.Conn{alice, bob} {
		if f := receive(t, v); f.Type != "MESSAGE" || f.Content != "hi" || f.RequestID != "1" || f.Attributes != nil || f.Sender.UserID != "alice" {
			t.Errorf("%+v", f)
		}
	}
	send(t, bob, `{"action":"SEND_MESSAGE","requestid":"2","content":"no"}`)
	if f := receive(t, bob); f.Type != "ERROR" || f.ErrorCode != 403 || f.RequestID != "2" {
		t.Errorf("%+v", f)
	}
	event, err := c.SendEvent(limited(t), &ivschat.SendEventInput{RoomIdentifier: &s.RoomARN, EventName: aws.String("e")})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []*websocket.Conn{alice, bob} {
		if f := receive(t, v); f.Type != "EVENT" || f.ID != *event.Id || f.EventName != "e" || f.RequestID != "" {
			t.Errorf("%+v", f)
		}
	}
	if _, err := c.DisconnectUser(limited(t), &ivschat.DisconnectUserInput{RoomIdentifier: &s.RoomARN, UserId: aws.String("bob"), Reason: aws.String("out")}); err != nil {
		t.Fatal(err)
	}
	if f := receive(t, bob); f.EventName != "aws:DISCONNECT_USER" || f.Attributes["UserId"] != "bob" || f.Attributes["Reason"] != "out" {
		t.Errorf("%+v", f)
	}
	_, _, err = bob.Read(limited(t))
	if ce := (websocket.CloseError{}); !asClose(err, &ce) || ce.Code != 1000 || ce.Reason != "out" {
		t.Errorf("the end is %v", err)
	}
}

func TestRefusedHandshakes(t *testing.T) {
	s := start(t)
	c, ctx := s.client(), limited(t)
	gone := newRoom(t, c, nil)
	goneToken := newToken(t, c, *gone.Arn, "u")
	if _, err := c.DeleteRoom(ctx, &ivschat.DeleteRoomInput{Identifier: gone.Arn}); err != nil {
		t.Fatal(err)
	}
	used := newToken(t, c, s.RoomARN, "u")
	conn, _, err := dial(ctx, s, used)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close(websocket.StatusNormalClosure, "")
	fresh := newToken(t, c, s.RoomARN, "u")
	for name, h := range map[string]struct {
		token string
		want  int
	}{
		"no token":      {"", 401},
		"garbage":       {"garbage", 401},
		"tampered with": {fresh[:len(fresh)-1] + flip(fresh[len(fresh)-1]), 401},
		"used":          {used, 401},
		"room is gone":  {goneToken, 404},
	} {
		conn, status, err := dial(ctx, s, h.token)
		if err == nil {
			conn.CloseNow()
		}
		if err == nil || status != h.want {
			t.Errorf("%s: status %d, want %d", name, status, h.want)
		}
	}
	if conn, status, err := dial(ctx, s, fresh); err != nil {
		t.Errorf("a refused copy must not use up the token: %d %v", status, err)
	} else {
		conn.CloseNow()
	}
}

func flip(b byte) string {
	if b == 'A' {
		return "B"
	}
	return "A"
}
