package hubbub

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"hubbub/review"
)

func TestTwoPeopleChat(t *testing.T) {
	s, log := node(t, Config{})
	api := devCaller(t, s)
	room := api.ok(t, "CreateRoom", map[string]any{"name": "lobby"})["arn"]
	tokens := []string{api.token(t, room, "alice-the-first"), api.token(t, room, "bob-the-second")}
	alice, bob := connect(t, s.MessagingURL(), tokens[0]), connect(t, s.MessagingURL(), tokens[1])
	send(t, alice, map[string]any{"Action": "SEND_MESSAGE", "RequestId": "r1", "Content": "hello from the first"})
	for _, viewer := range []*websocket.Conn{alice, bob} {
		m := receive(t, viewer)
		sender, _ := m["Sender"].(map[string]any)
		if m["Type"] != "MESSAGE" || m["Content"] != "hello from the first" || sender["UserId"] != "alice-the-first" {
			t.Errorf("got %v", m)
		}
	}
	if status, _ := api.call(t, "DisconnectUser", map[string]any{"roomIdentifier": room, "userId": "bob-the-second"}); status != http.StatusOK {
		t.Errorf("DisconnectUser: status %d", status)
	}
	if e := receive(t, bob); e["EventName"] != "aws:DISCONNECT_USER" {
		t.Errorf("got %v, want the event that disconnects bob", e)
	}
	if _, _, err := bob.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
		t.Errorf("bob's connection ended with %v, want close 1000", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, secret := range append(tokens, DevSecretKey, "hello from the first", "alice-the-first", "bob-the-second") {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log has %q, which is secret or private", secret)
		}
	}
}

func TestTheDevRoomIsThere(t *testing.T) {
	s, _ := node(t, Config{})
	api := devCaller(t, s)
	got := api.ok(t, "GetRoom", map[string]any{"identifier": s.Room()})
	if got["arn"] != string(s.Room()) || !strings.HasPrefix(string(s.Room()), "arn:aws:ivschat:us-west-2:000000000000:room/") {
		t.Errorf("the room is %v", got)
	}
	rooms := api.ok(t, "ListRooms", map[string]any{})["rooms"].([]any)
	if len(rooms) != 1 {
		t.Errorf("there are %d rooms, want the one of dev", len(rooms))
	}
}

func TestDevKeepsItsRoomUntilItIsDeleted(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	start := func(c Config) (*Server, string) {
		t.Helper()
		c.Data = data
		s, _ := node(t, c)
		return s, string(s.Room())
	}
	s, first := start(Config{})
	s.Close()
	s, again := start(Config{})
	if again != first {
		t.Errorf("after a restart the room is %s, was %s", again, first)
	}
	if status, out := devCaller(t, s).call(t, "DeleteRoom", map[string]any{"identifier": first}); status != http.StatusNoContent {
		t.Fatalf("DeleteRoom: status %d, %v", status, out)
	}
	s.Close()
	s, anew := start(Config{})
	if anew == first {
		t.Error("the deleted room is shown again")
	}
	s.Close()
	s, elsewhere := start(Config{Account: "123456789012", Regions: []string{"eu-west-1", "us-west-2"}})
	if !strings.HasPrefix(elsewhere, "arn:aws:ivschat:eu-west-1:123456789012:room/") {
		t.Errorf("another account and region has the room %s", elsewhere)
	}
	s.Close()
	if s, back := start(Config{}); back != anew {
		t.Errorf("back in the first account the room is %s, was %s", back, anew)
	} else if info, err := os.Stat(s.Data()); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the data folder has mode %v (%v), want 0700", info.Mode(), err)
	}
}

// TestServeSaysThatARoomsHandlerIsGone: the section that it was in was taken out
// of the file, and the room's fallback lets everything through.
func TestServeSaysThatARoomsHandlerIsGone(t *testing.T) {
	const handler = "arn:aws:lambda:us-west-2:123456789012:function:words"
	k := NewAccessKey()
	c := Config{
		Mode: Serve, Regions: []string{"us-west-2"}, Data: filepath.Join(t.TempDir(), "data"), IAM: write(t, "iam.yaml", iamFile(k, "IVSFullAccess")),
		Review: &ReviewConfig{Handlers: map[string]review.Handler{handler: {Rules: &review.Rules{DenyLinks: true}}}},
	}
	s, _ := node(t, c)
	api := newCaller(t, s.APIURL(), k.ID, k.Secret, "us-west-2")
	room := api.ok(t, "CreateRoom", map[string]any{"messageReviewHandler": map[string]any{"uri": handler}})["arn"]
	s.Close()
	c.Review = nil
	s, log := node(t, c)
	api = newCaller(t, s.APIURL(), k.ID, k.Secret, "us-west-2")
	if status, out := api.call(t, "CreateRoom", map[string]any{"messageReviewHandler": map[string]any{"uri": handler}}); status != http.StatusBadRequest {
		t.Errorf("another room with the handler: status %d, %v", status, out)
	}
	alice := connect(t, s.MessagingURL(), api.token(t, room, "alice"))
	send(t, alice, map[string]any{"Action": "SEND_MESSAGE", "Content": "hello"})
	if m := receive(t, alice); m["Content"] != "hello" {
		t.Errorf("got %v, want the message, as the fallback says", m)
	}
	counted := `hubbub_review_invocation_errors_total{uri="` + handler + `"} 1`
	if _, metrics := get(t, s.AdminURL()+"/metrics"); !strings.Contains(metrics, counted) {
		t.Errorf("the metrics do not have %s", counted)
	}
	if !strings.Contains(log.String(), `"handler":"`+handler+`","reason":"no_handler"`) {
		t.Error("the log does not say that there is no handler")
	}
}

// TestATokenIsForTheServersOwnAccountsAndRegions: the store may hold rooms of
// others, from before a change of the configuration.
func TestATokenIsForTheServersOwnAccountsAndRegions(t *testing.T) {
	first := Config{Data: filepath.Join(t.TempDir(), "data"), Regions: []string{"us-west-2"}}
	s, _ := node(t, first)
	var tokens []string
	for range 3 {
		tokens = append(tokens, devCaller(t, s).token(t, s.Room(), "alice"))
	}
	for i, change := range []struct {
		what string
		make func(*Config)
		want int
	}{
		{"another account", func(c *Config) { c.Account = "123456789012" }, http.StatusUnauthorized},
		{"another region", func(c *Config) { c.Regions = []string{"eu-west-1"} }, http.StatusUnauthorized},
		{"its own", func(*Config) {}, http.StatusSwitchingProtocols},
	} {
		s.Close()
		c := first
		change.make(&c)
		s, _ = node(t, c)
		conn, response, err := websocket.Dial(t.Context(), s.MessagingURL(), &websocket.DialOptions{Subprotocols: tokens[i : i+1]})
		if err == nil {
			conn.CloseNow()
		}
		if response == nil || response.StatusCode != change.want {
			t.Errorf("a server of %s answers the token with %v (%v), want %d", change.what, response, err, change.want)
		}
	}
}

// TestStopOrder holds the one call of the control plane that is under way, and
// looks at the server while it waits for that call: no new call is taken,
// nobody is told that it is ready, and viewers come and talk as before. Only
// when the call is answered are they dropped, without a close frame.
func TestStopOrder(t *testing.T) {
	s, _ := node(t, Config{Drain: 50 * time.Millisecond})
	api := devCaller(t, s)
	early := connect(t, s.MessagingURL(), api.token(t, s.Room(), "early"))
	lateToken := api.token(t, s.Room(), "late")

	body, finish := io.Pipe()
	reading := make(chan struct{}) // closed when the server asks for the body
	trace := &httptrace.ClientTrace{Got100Continue: func() { close(reading) }}
	request := api.sign(t, "ListRooms", []byte("{}")).WithContext(httptrace.WithClientTrace(t.Context(), trace))
	request.Header.Set("Expect", "100-continue")
	request.Body = body
	api.client.Transport.(*http.Transport).ExpectContinueTimeout = time.Minute
	underWay := make(chan error, 1)
	go func() {
		response, err := api.client.Do(request)
		if err == nil {
			response.Body.Close()
			if response.StatusCode != http.StatusOK {
				err = errors.New(response.Status)
			}
		}
		underWay <- err
	}()
	select {
	case <-reading:
	case err := <-underWay:
		t.Fatalf("the call was answered without its body: %v", err)
	}

	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	eventually(t, "the control plane refuses connections", func() bool { return refused(s.api.Addr().String()) })
	if status, _ := get(t, s.AdminURL()+"/readyz"); status != http.StatusServiceUnavailable {
		t.Errorf("/readyz answers %d during the stop, want 503", status)
	}
	late := connect(t, s.MessagingURL(), lateToken)
	send(t, early, map[string]any{"Action": "SEND_MESSAGE", "Content": "still here"})
	for _, viewer := range []*websocket.Conn{early, late} {
		if m := receive(t, viewer); m["Content"] != "still here" {
			t.Errorf("got %v during the stop", m)
		}
	}
	select {
	case err := <-closed:
		t.Fatalf("closed (%v) with a call under way", err)
	default:
	}

	io.WriteString(finish, "{}")
	finish.Close()
	if err := <-underWay; err != nil {
		t.Errorf("the call that was under way failed: %v", err)
	}
	for _, viewer := range []*websocket.Conn{early, late} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		_, _, err := viewer.Read(ctx)
		cancel()
		if err == nil || websocket.CloseStatus(err) != -1 || ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			t.Errorf("a viewer ended with %v, want a connection that is lost without a close frame", err)
		}
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	for _, l := range []net.Listener{s.api, s.messaging, s.admin} {
		if !refused(l.Addr().String()) {
			t.Errorf("%v still accepts after the stop", l.Addr())
		}
	}
}

// While load balancers notice that the server is not ready, everybody is served.
func TestTheStopCanWaitForLoadBalancers(t *testing.T) {
	const delay = 3 * time.Second
	s, _ := node(t, Config{DrainDelay: delay})
	began, closed := time.Now(), make(chan error)
	go func() { closed <- s.Close() }()
	eventually(t, "the server is not ready", func() bool {
		status, _ := get(t, s.AdminURL()+"/readyz")
		return status == http.StatusServiceUnavailable
	})
	api := devCaller(t, s)
	conn := connect(t, s.MessagingURL(), api.token(t, s.Room(), "alice"))
	send(t, conn, map[string]any{"Action": "SEND_MESSAGE", "Content": "still here"})
	if m := receive(t, conn); m["Content"] != "still here" {
		t.Errorf("got %v", m)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took < delay {
		t.Errorf("the stop took %v, want %v at least", took, delay)
	}
}

func refused(address string) bool {
	conn, err := net.DialTimeout("tcp", address, time.Second)
	if err == nil {
		conn.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

func TestStartSaysWhatIsInTheWay(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	running, _ := node(t, Config{Data: filepath.Join(t.TempDir(), "data")})
	file := write(t, "file", "")
	for _, c := range []struct {
		sentence string
		config   Config
		want     []string
	}{
		{"a port in use", Config{API: taken.Addr().String()}, []string{taken.Addr().String(), "in use", "--api"}},
		{"another one", Config{Messaging: taken.Addr().String()}, []string{"in use", "--messaging"}},
		{"an address of another machine", Config{Admin: "192.0.2.1:0", AllowRemote: true}, []string{"no address of this machine", "--admin"}},
		{"a store that another server has", Config{Data: running.Data()}, []string{running.Data(), "is used by another", "--data"}},
		{"a file where the store should be", Config{Data: file}, []string{file, "--data"}},
		{"a remote address without allow_remote", Config{API: "0.0.0.0:0"}, []string{"loopback", "--allow-remote"}},
		{"a level of limits that is none", Config{Limits: Limits{Base: "lax"}}, []string{"lax", "strict"}},
		{"a certificate that is none", Config{TLS: TLS{Cert: file, Key: file}}, []string{file, "PEM"}},
		{"an iam file that is not there", Config{IAM: file + "x"}, []string{file + "x", "no such file"}},
	} {
		t.Run(c.sentence, func(t *testing.T) {
			free(&c.config)
			s, err := Start(t.Context(), c.config)
			if err == nil {
				s.Close()
				t.Fatal("it started")
			}
			wantContains(t, err.Error(), c.want...)
		})
	}
	// The server that has the store was not disturbed.
	if _, err := os.Stat(filepath.Join(running.Data(), serverFile)); err != nil {
		t.Errorf("another start took the address of the running server away: %v", err)
	}
}

func TestAdmin(t *testing.T) {
	s, _ := node(t, Config{})
	for path, want := range map[string]string{
		"/healthz": "ok", "/readyz": "ready", "/version": `"go":"go1.`, "/metrics": "hubbub_",
	} {
		if status, body := get(t, s.AdminURL()+path); status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s answers %d without %q: %.300s", path, status, want, body)
		}
	}
	if status, _ := get(t, s.AdminURL()+"/debug/pprof/"); status != http.StatusNotFound {
		t.Errorf("profiles answer %d without being asked for, want 404", status)
	}
	s, _ = node(t, Config{PProf: true})
	if status, body := get(t, s.AdminURL()+"/debug/pprof/"); status != http.StatusOK || !strings.Contains(body, "goroutine") {
		t.Errorf("profiles answer %d: %.300s", status, body)
	}
}

// TestRotateNeedsTheSecret also shows that the published key opens nothing here.
func TestRotateNeedsTheSecret(t *testing.T) {
	s, log := node(t, Config{Data: filepath.Join(t.TempDir(), "data")})
	path := filepath.Join(s.Data(), serverFile)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%s has mode %v (%v), want 0600", path, info.Mode(), err)
	}
	for _, authorization := range []string{"", "Bearer ", "Bearer " + DevSecretKey} {
		request, err := http.NewRequest(http.MethodPost, s.AdminURL()+rotatePath, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", authorization)
		response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusUnauthorized {
			t.Errorf("%q is answered with %d, want 401", authorization, response.StatusCode)
		}
	}
	keys := s.keys.Keys()
	api := devCaller(t, s)
	before := api.token(t, s.Room(), "before")
	if how, err := RotateTokenKeys(t.Context(), s.Data()); err != nil || how != "by the running server" {
		t.Fatalf("got %q, %v", how, err)
	}
	if s.keys.Keys() != keys+1 {
		t.Errorf("the ring has %d keys, had %d", s.keys.Keys(), keys)
	}
	connect(t, s.MessagingURL(), before) // sealed with the old key
	connect(t, s.MessagingURL(), api.token(t, s.Room(), "after"))

	// Stopped, and killed so that its address stays behind.
	late := api.token(t, s.Room(), "late")
	left, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(log.String(), strings.Split(string(left), `"secret":"`)[1][:20]) {
		t.Error("the secret is in the log")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the address stayed after the end: %v", err)
	}
	for _, content := range [][]byte{nil, left} {
		if content != nil {
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if how, err := RotateTokenKeys(t.Context(), s.Data()); err != nil || how != "in the store, no server runs" {
			t.Errorf("got %q, %v for a server that does not run", how, err)
		}
	}
	s, _ = node(t, Config{Data: s.Data()})
	connect(t, s.MessagingURL(), late) // sealed two rotations ago, before the restart
}

func TestRotateExplains(t *testing.T) {
	if _, err := RotateTokenKeys(t.Context(), Memory); err == nil {
		t.Error("memory has keys that outlive it")
	} else {
		wantContains(t, err.Error(), ":memory:", "restart")
	}
	missing := filepath.Join(t.TempDir(), "nowhere")
	if _, err := RotateTokenKeys(t.Context(), missing); err == nil {
		t.Error("a folder that is not there has keys")
	} else {
		wantContains(t, err.Error(), missing, "--data")
	}
}

func TestBadInputIsRefusedCheaply(t *testing.T) {
	s, _ := node(t, Config{})
	for _, c := range []struct{ sentence, request, want string }{
		{"ten thousand headers", "POST /ListRooms HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("a: b\r\n", 10_000) + "\r\n", "431 "},
		{"a header block over 16 KiB", "POST /ListRooms HTTP/1.1\r\nHost: x\r\nA: " + strings.Repeat("b", 16<<10) + "\r\n\r\n", "431 "},
		{"no HTTP", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n", "400 "},
	} {
		t.Run(c.sentence, func(t *testing.T) {
			conn, err := net.Dial("tcp", s.api.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(20 * time.Second))
			go conn.Write([]byte(c.request)) // ends with the connection
			line, err := bufio.NewReader(conn).ReadString('\n')
			if err != nil || !strings.Contains(line, c.want) {
				t.Errorf("answered with %q (%v), want status %s", line, err, c.want)
			}
		})
	}
	devCaller(t, s).ok(t, "ListRooms", map[string]any{})
}

// The kernel's buffers take some 150 KB; behind them 64 frames of 2 KB are far less
// than what waits for a viewer by default.
func TestASlowViewerMayHaveWhatTheConfigurationSays(t *testing.T) {
	s, log := node(t, Config{Limits: Limits{Base: "none"}, SlowViewers: SlowViewers{Frames: 64, Stall: time.Minute}})
	api := devCaller(t, s)
	small := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err == nil {
			err = c.(*net.TCPConn).SetReadBuffer(4 << 10)
		}
		return c, err
	}}}
	slow, _, err := websocket.Dial(t.Context(), s.MessagingURL(), &websocket.DialOptions{Subprotocols: []string{api.token(t, s.Room(), "slow")}, HTTPClient: small})
	if err != nil {
		t.Fatal(err)
	}
	defer slow.CloseNow()
	sender := connect(t, s.MessagingURL(), api.token(t, s.Room(), "sender"))
	content := strings.Repeat("\U0001F600", 500)
	for range 300 {
		send(t, sender, map[string]any{"Action": "SEND_MESSAGE", "Content": content})
		if m := receive(t, sender); m["Type"] != "MESSAGE" {
			t.Fatalf("got %v", m)
		}
	}
	eventually(t, "the slow viewer is cut", func() bool { return strings.Contains(log.String(), `"slow_viewer"`) })
}

// TestAClockThatIsOff: everything that others see of the server's clock is as far
// off as it was told to be.
func TestAClockThatIsOff(t *testing.T) {
	const off = 40 * time.Minute
	s, _ := node(t, Config{ClockOffset: off, Window: time.Hour})
	api := devCaller(t, s)
	room := api.ok(t, "CreateRoom", map[string]any{"name": "lobby"})
	token := api.ok(t, "CreateChatToken", map[string]any{"roomIdentifier": room["arn"], "userId": "u", "capabilities": []string{"SEND_MESSAGE"}})
	viewer := connect(t, s.MessagingURL(), token["token"].(string))
	send(t, viewer, map[string]any{"Action": "SEND_MESSAGE", "Content": "now"})
	for name, c := range map[string]struct {
		shown any
		ahead time.Duration
	}{
		"createTime of a room":           {room["createTime"], off},
		"tokenExpirationTime of a token": {token["tokenExpirationTime"], off + time.Hour},
		"SendTime of a message":          {receive(t, viewer)["SendTime"], off},
	} {
		text, _ := c.shown.(string)
		at, err := time.Parse(time.RFC3339, text)
		if ahead := time.Until(at); err != nil || ahead < c.ahead-time.Minute || ahead > c.ahead+time.Minute {
			t.Errorf("%s is %v, want one that is %v from now", name, c.shown, c.ahead)
		}
	}
	strict, _ := node(t, Config{ClockOffset: off})
	if status, out := devCaller(t, strict).call(t, "ListRooms", map[string]any{}); status != http.StatusForbidden {
		t.Errorf("a request that was signed %v before the server's clock is answered with %d: %v", off, status, out)
	}
	l, err := Load(Dev, Sources{Env: []string{"HUBBUB_CLOCK_OFFSET=10s"}})
	if err != nil || l.Config.ClockOffset != 10*time.Second || len(l.Warnings) != 1 || l.Warnings[0].Where != "HUBBUB_CLOCK_OFFSET" {
		t.Errorf("an offset of 10s gives %v and the warnings %v: %v", l.Config.ClockOffset, l.Warnings, err)
	}
}
