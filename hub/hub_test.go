package hub

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/go-json-experiment/json"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"hubbub/chattoken"
	"hubbub/engine"
	"hubbub/ivschat"
	"hubbub/quota"
	"hubbub/registry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

var here = ivschat.Scope{Account: "123456789012", Region: "us-west-2"}

// clock is a hub's time, which stands still unless a test moves it.
type clock struct{ nanos atomic.Int64 }

func (c *clock) now() time.Time          { return time.Unix(0, c.nanos.Load()) }
func (c *clock) advance(d time.Duration) { c.nanos.Add(int64(d)) }

// node is a hub on a real store, with a real listener.
type node struct {
	*Hub
	t       testing.TB
	clock   *clock
	metrics *prometheus.Registry
	engine  *engine.Engine
	url     string
}

// setup is what a test may change of a node.
type setup struct {
	Options
	limits quota.Limits
	dir    string
	engine *engine.Engine // of a cluster; its owner closes it
}

// start makes a node and ends it, with a check that nothing is left behind.
func start(t testing.TB, change ...func(*setup)) *node {
	t.Helper()
	n := &node{t: t, clock: &clock{}, metrics: prometheus.NewRegistry()}
	n.clock.nanos.Store(time.Now().Truncate(time.Second).Add(123456789).UnixNano())
	s := setup{limits: quota.Strict()}
	s.Now, s.Metrics = n.clock.now, n.metrics
	for _, c := range change {
		c(&s)
	}
	ctx := t.Context()
	e := s.engine
	if e == nil {
		var err error
		e, err = engine.Open(ctx, engine.Options{Dir: s.dir})
		ok(t, err)
	}
	n.engine, s.Bus = e, e.Bus()
	keys, err := e.Bucket(ctx, engine.KeysBucket)
	ok(t, err)
	s.Tokens, err = chattoken.OpenKeyRing(ctx, keys)
	ok(t, err)
	s.Used, err = e.Once(ctx)
	ok(t, err)
	s.Registry, err = registry.Open(ctx, registry.Options{Engine: e, Limits: quota.None(), AcceptHandler: func(string) bool { return true }})
	ok(t, err)
	s.Quota = quota.New(s.limits)
	n.Hub = New(s.Options)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	served := make(chan error, 1)
	go func() { served <- n.Serve(l) }()
	n.url = "ws://" + l.Addr().String()
	t.Cleanup(func() {
		n.Close()
		<-served
		eventually(t, "every hold is given back", func() bool { return n.quotaHeld() == 0 })
		n.registry.Close()
		if s.engine != nil {
			return
		}
		if err := e.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return n
}

// quotaHeld is the number of holds on rooms, one for each of the quota.
func (n *node) quotaHeld() (held int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range n.rooms {
		held += r.held
	}
	return held
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// room makes a room.
func (n *node) room(change ...func(*ivschat.CreateRoomRequest)) ivschat.ARN {
	n.t.Helper()
	var request ivschat.CreateRoomRequest
	for _, c := range change {
		c(&request)
	}
	r, err := n.registry.CreateRoom(n.t.Context(), here, &request)
	ok(n.t, err)
	return r.ARN
}

func ratePerSecond(n int) func(*ivschat.CreateRoomRequest) {
	return func(r *ivschat.CreateRoomRequest) {
		i := ivschat.Integer(n)
		r.MaximumMessageRatePerSecond = &i
	}
}

const everything = ivschat.CanSendMessage | ivschat.CanDeleteMessage | ivschat.CanDisconnectUser

// session is what a token of the tests grants, unless they change it.
func (n *node) session(room ivschat.ARN, user string) chattoken.Session {
	now := n.clock.now().Truncate(time.Second)
	return chattoken.Session{Room: room, UserID: user, Capabilities: everything,
		TokenExpires: now.Add(time.Hour), SessionExpires: now.Add(2 * time.Hour)}
}

func (n *node) token(s chattoken.Session) string {
	n.t.Helper()
	token, err := n.tokens.Mint(s)
	ok(n.t, err)
	return token
}

// dial offers the sub-protocols and returns the status, 101 if it was accepted.
func (n *node) dial(protocols ...string) (*websocket.Conn, int) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, response, err := websocket.Dial(ctx, n.url, &websocket.DialOptions{Subprotocols: protocols})
	if err == nil {
		n.t.Cleanup(func() { c.CloseNow() })
		c.SetReadLimit(1 << 20)
		return c, http.StatusSwitchingProtocols
	}
	if response == nil {
		n.t.Fatalf("no answer: %v", err)
	}
	return nil, response.StatusCode
}

// client is a viewer's end.
type client struct {
	*websocket.Conn
	t testing.TB
}

func (n *node) connect(s chattoken.Session) *client {
	n.t.Helper()
	token := n.token(s)
	c, status := n.dial(token)
	if c == nil {
		n.t.Fatalf("refused with %d", status)
	}
	if c.Subprotocol() != token {
		n.t.Fatal("the token was not echoed")
	}
	return &client{c, n.t}
}

func (n *node) join(room ivschat.ARN, user string) *client {
	n.t.Helper()
	return n.connect(n.session(room, user))
}

func (c *client) send(format string, a ...any) {
	c.t.Helper()
	if len(a) > 0 {
		format = fmt.Sprintf(format, a...)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ok(c.t, c.Write(ctx, websocket.MessageText, []byte(format)))
}

func (c *client) read() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	kind, b, err := c.Read(ctx)
	if err == nil && kind != websocket.MessageText {
		err = errors.New("not a text frame")
	}
	return string(b), err
}

// frame has every member of every frame that the hub sends.
type frame struct {
	Type, Id, RequestId, Content, EventName, ErrorMessage string
	SendTime                                              time.Time
	ErrorCode                                             int
	Attributes                                            map[string]string
	Sender                                                struct {
		UserId     string
		Attributes map[string]string
	}
}

func (c *client) receive() frame {
	c.t.Helper()
	text, err := c.read()
	ok(c.t, err)
	var f frame
	if err := json.Unmarshal([]byte(text), &f); err != nil {
		c.t.Fatalf("%s: %v", text, err)
	}
	return f
}

// want is the next frame, in short: "MESSAGE 1 hi" or "EVENT 1 name" or "ERROR 1 429 text".
func (c *client) want(want string) frame {
	c.t.Helper()
	f := c.receive()
	got := f.Type + " " + f.RequestId + " "
	switch f.Type {
	case "MESSAGE":
		got += f.Content
	case "EVENT":
		got += f.EventName
	case "ERROR":
		got += fmt.Sprint(f.ErrorCode, " ", f.ErrorMessage)
	}
	if got != want {
		c.t.Fatalf("got %q, want %q", got, want)
	}
	return f
}

// wantClose is the close frame, with nothing before it.
func (c *client) wantClose(code websocket.StatusCode, reason string) {
	c.t.Helper()
	text, err := c.read()
	var closed websocket.CloseError
	switch {
	case err == nil:
		c.t.Fatalf("a frame instead of the close: %s", text)
	case !errors.As(err, &closed):
		c.t.Fatalf("no close frame: %v", err)
	case closed.Code != code || closed.Reason != reason:
		c.t.Fatalf("closed with %d %q, want %d %q", closed.Code, closed.Reason, code, reason)
	}
}

// fence makes sure that the client has no other frame waiting.
func (n *node) fence(room ivschat.ARN, clients ...*client) {
	n.t.Helper()
	name := "fence" + ivschat.NewID()
	_, err := n.SendEvent(context.Background(), room, name, nil)
	ok(n.t, err)
	for _, c := range clients {
		c.want("EVENT  " + name)
	}
}

// eventually waits for what another goroutine will bring about.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	end := time.Now().Add(patience)
	for !holds() {
		if time.Now().After(end) {
			t.Fatal("never: " + what)
		}
		time.Sleep(time.Millisecond)
	}
}

// count reads a metric by its name and, if it has one, its label's value.
func (n *node) count(name, label string) int {
	n.t.Helper()
	families, err := n.metrics.Gather()
	ok(n.t, err)
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if label == "" || len(m.GetLabel()) == 1 && m.GetLabel()[0].GetValue() == label {
				return int(m.GetCounter().GetValue() + m.GetGauge().GetValue())
			}
		}
	}
	n.t.Fatalf("no metric %s %s", name, label)
	return 0
}

func long(n int) string { return strings.Repeat("é", n) }

// live is the memory of what is reachable.
func live() int64 {
	for range 2 { // what has a finalizer goes with the second
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
