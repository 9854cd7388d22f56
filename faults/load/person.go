package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ivschat"
	"github.com/aws/aws-sdk-go-v2/service/ivschat/types"
	"github.com/coder/websocket"

	"hubbub/faults/history"
)

// attempts are those that an official SDK makes before it gives up.
const attempts = 4

// person is a viewer, or a sender, which is a viewer that speaks. It stays at one
// server while that works, and then goes to the next, until all go Home.
type person struct {
	*Load
	number int // as history knows it
	room   room
	home   int // place of its first server
	node   int // place of its server
	speaks bool
	random *rand.Rand
}

// Home has everybody go back to the server that they began with, so that after
// some faults people are not all at one.
func (l *Load) Home() {
	l.mu.Lock()
	away := slices.Collect(maps.Values(l.away))
	clear(l.away)
	l.mu.Unlock()
	for _, ws := range away {
		ws.CloseNow()
	}
}

// leaves says whether a connection away from home ended since all go there.
func (p *person) leaves() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, stays := p.away[p]
	delete(p.away, p)
	return !stays && p.node != p.home
}

// run is connected until all leave.
func (p *person) run() {
	p.node = p.home
	for refusals := 0; p.connected.Err() == nil; {
		ws, err := p.connect()
		if err == nil {
			refusals = 0
			if p.node != p.home {
				p.mu.Lock()
				p.away[p] = ws
				p.mu.Unlock()
			}
			p.session(ws)
			if p.leaves() {
				p.node = p.home
			}
			continue
		}
		p.node = (p.node + 1) % len(p.Servers)
		if refusals++; refusals < attempts {
			continue // at once
		}
		// Here an SDK gives up, and its page is loaded again.
		if refusals = 0; pause(p.connected, time.Second) {
			p.note(fmt.Sprintf("a client gave up after %d refusals, as SDKs do", attempts))
		}
	}
}

func (p *person) name() string { return fmt.Sprint("person-", p.number) }

// connect gets a token from its application's backend and opens a connection.
func (p *person) connect() (*websocket.Conn, error) {
	token, err := p.token(p.connected, p.random.IntN(len(p.apis)), p.room, p.name(), p.speaks)
	if err != nil {
		return nil, err
	}
	ws, _, err := p.dial(p.connected, p.node, token)
	return ws, err
}

// token asks the servers one after the other, beginning with one.
func (l *Load) token(ctx context.Context, first int, room room, user string, speaks bool) (string, error) {
	in := &ivschat.CreateChatTokenInput{RoomIdentifier: &room.arn, UserId: &user}
	if speaks {
		in.Capabilities = []types.ChatTokenCapability{types.ChatTokenCapabilitySendMessage}
	}
	var failure error
	for i := range l.apis {
		ctx, cancel := context.WithTimeout(ctx, tokenTime)
		out, err := l.apis[(first+i)%len(l.apis)].CreateChatToken(ctx, in)
		cancel()
		if err == nil {
			return aws.ToString(out.Token), nil
		}
		failure = err
	}
	return "", failure
}

// dial opens a connection; status is that of the answer, 0 if there is none.
func (l *Load) dial(ctx context.Context, place int, token string) (ws *websocket.Conn, status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTime)
	defer cancel()
	ws, answer, err := websocket.Dial(ctx, l.Servers[place].Messaging, &websocket.DialOptions{HTTPClient: l.dialer, Subprotocols: []string{token}})
	if answer != nil {
		status = answer.StatusCode
	}
	if err == nil {
		ws.SetReadLimit(1 << 20)
	}
	return ws, status, err
}

// talk is what a sender says on one connection.
type talk struct {
	mu   sync.Mutex
	sent []history.Sent // number n at place n-1
	open int            // the first place that has no answer
}

// oldest is when the oldest message without an answer was sent, if there is one.
func (k *talk) oldest() (at history.Time, waits bool) {
	for ; k.open < len(k.sent); k.open++ {
		if m := k.sent[k.open]; m.Acked == 0 && !m.Refused {
			return m.At, true
		}
	}
	return 0, false
}

// session is a connection from its 101 to its end.
func (p *person) session(ws *websocket.Conn) {
	defer ws.CloseNow()
	server := p.Servers[p.node].Name
	seen := history.Connection{Viewer: p.number, Room: p.room.number, Node: server, Opened: p.Now()}
	said := &talk{}
	stream := 0
	ended, end := context.WithCancel(p.working)
	var speaking sync.WaitGroup
	if p.speaks {
		stream = int(p.streams.Add(1))
		speaking.Go(func() { p.speak(ended, ws, said, stream, server) })
	}
	for {
		kind, raw, err := ws.Read(p.connected)
		now := p.Now()
		if err != nil {
			closed := websocket.CloseError{}
			seen.Ended, seen.Closed = now, errors.As(err, &closed)
			break
		}
		var f frame
		if err := json.Unmarshal(raw, &f); err != nil || kind != websocket.MessageText {
			p.t.Errorf("a frame of node %s is not JSON in text: %v", server, err)
			continue
		}
		if f.Type == "ERROR" {
			p.note(fmt.Sprintf("an ERROR %d: %s", f.ErrorCode, f.ErrorMessage))
			said.settle(f.RequestID, stream, func(m *history.Sent) { m.Refused = true })
			continue
		}
		id, room, err := f.id()
		if err != nil {
			p.t.Errorf("a frame of node %s: %v", server, err)
			continue
		}
		sum := fnv.New64a()
		_, _ = sum.Write(raw)
		seen.Frames = append(seen.Frames, history.Frame{ID: id, Room: room, At: now, Frame: f.ID, Sum: sum.Sum64()})
		said.settle(f.RequestID, stream, func(m *history.Sent) { m.Acked = now })
	}
	end()
	speaking.Wait()
	p.add(func(h *history.History) {
		h.Connections = append(h.Connections, seen)
		h.Sent = append(h.Sent, said.sent...)
	})
}

// settle notes the answer to a message of this stream.
func (k *talk) settle(request string, stream int, change func(*history.Sent)) {
	var s, n int
	if _, err := fmt.Sscanf(request, "%d-%d", &s, &n); err != nil || s != stream {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if n >= 1 && n <= len(k.sent) {
		change(&k.sent[n-1])
	}
}

// speak sends messages until the connection ends, or brings nothing back.
func (p *person) speak(ctx context.Context, ws *websocket.Conn, said *talk, stream int, server string) {
	for pause(ctx, p.Talk/2+time.Duration(p.random.Int64N(int64(p.Talk)))) {
		said.mu.Lock()
		if at, waits := said.oldest(); waits && p.Now()-at > silence {
			said.mu.Unlock()
			p.note(fmt.Sprintf("a sender left a server that was silent for %v", silence))
			ws.CloseNow()
			return
		}
		id := history.ID{Stream: stream, N: len(said.sent) + 1}
		said.sent = append(said.sent, history.Sent{ID: id, Sender: -p.number, Room: p.room.number, Node: server, At: p.Now()})
		said.mu.Unlock()
		text := fmt.Sprintf(`{"Action":"SEND_MESSAGE","RequestId":"%d-%d","Content":%q}`, id.Stream, id.N, content(id, p.room.number))
		limit, cancel := context.WithTimeout(context.Background(), silence)
		err := ws.Write(limit, websocket.MessageText, []byte(text))
		cancel()
		if err != nil {
			ws.CloseNow()
			return
		}
	}
}

// content tells who said what, where.
func content(id history.ID, room int) string {
	return fmt.Sprintf("message %d of stream %d in room %d", id.N, id.Stream, room)
}

// frame has the members of every frame that are looked at.
type frame struct {
	Type, ID, RequestID, Content, EventName, ErrorMessage string
	ErrorCode                                             int
	Attributes                                            map[string]string
}

// eventName is that of the load's events.
const eventName = "happening"

// id reads what the content tells.
func (f frame) id() (id history.ID, room int, err error) {
	text := f.Content
	if f.Type == "EVENT" && f.EventName == eventName {
		text = f.Attributes["content"]
	}
	if _, err := fmt.Sscanf(text, "message %d of stream %d in room %d", &id.N, &id.Stream, &room); err != nil || content(id, room) != text {
		return id, 0, fmt.Errorf("a %s %q with content %q, which nobody sends", f.Type, f.EventName, text)
	}
	return id, room, nil
}

// events sends an event to some room through some server, again and again.
func (l *Load) events() {
	random := l.random(5, 0)
	var sent []history.Sent
	for pause(l.working, time.Second/2) {
		place, room := random.IntN(len(l.apis)), l.rooms[random.IntN(len(l.rooms))]
		m := history.Sent{ID: history.ID{Stream: int(l.streams.Add(1)), N: 1}, Room: room.number, Node: l.Servers[place].Name, At: l.Now()}
		ctx, cancel := context.WithTimeout(context.Background(), writeTime)
		_, err := l.apis[place].SendEvent(ctx, &ivschat.SendEventInput{RoomIdentifier: &room.arn, EventName: aws.String(eventName),
			Attributes: map[string]string{"content": content(m.ID, room.number)}})
		cancel()
		switch outcomeOf(err) {
		case history.Acked:
			m.Acked = l.Now()
		case history.Refused:
			m.Refused = true
		}
		sent = append(sent, m)
	}
	l.add(func(h *history.History) { h.Sent = append(h.Sent, sent...) })
}
