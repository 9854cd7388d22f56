package hubbub

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/coder/websocket"
	"github.com/go-json-experiment/json"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tell is a log that a test reads.
type tell struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (t *tell) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.Write(p)
}

func (t *tell) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}

// node starts a server on free ports and closes it at the end of the test. The
// log is at debug level, so that what is not to be in it is not in it anywhere.
func node(t testing.TB, c Config) (*Server, *tell) {
	t.Helper()
	log := free(&c)
	s, err := Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if t.Failed() {
			t.Logf("the server's log:\n%s", log)
		}
	})
	return s, log
}

// free gives a configuration free ports, memory if it names no folder, and a log.
func free(c *Config) *tell {
	log := &tell{}
	for _, a := range []*string{&c.API, &c.Messaging, &c.Admin} {
		if *a == "" {
			*a = "127.0.0.1:0"
		}
	}
	if c.Data == "" {
		c.Data = Memory
	}
	c.Logger = newLogger(log, "json", slog.LevelDebug)
	return log
}

// caller signs requests with a key for a region.
type caller struct {
	url, id, secret, region string
	client                  *http.Client
}

func devCaller(t testing.TB, s *Server) *caller {
	return newCaller(t, s.APIURL(), DevAccessKeyID, DevSecretKey, "us-west-2")
}

func newCaller(t testing.TB, url, id, secret, region string) *caller {
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &caller{url, id, secret, region, &http.Client{Transport: transport, Timeout: 30 * time.Second}}
}

// call does one operation and returns its status and members.
func (c *caller) call(t testing.TB, operation string, in map[string]any) (int, map[string]any) {
	t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	response, err := c.client.Do(c.sign(t, operation, body))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]any{}
	if len(data) > 0 {
		if err := json.Unmarshal(data, &out); err != nil {
			t.Fatalf("%s answered with what is no JSON: %s", operation, data)
		}
	}
	return response.StatusCode, out
}

// sign makes the request of an operation.
func (c *caller) sign(t testing.TB, operation string, body []byte) *http.Request {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.url+"/"+operation, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	sum := sha256.Sum256(body)
	err = v4.NewSigner().SignHTTP(t.Context(), aws.Credentials{AccessKeyID: c.id, SecretAccessKey: c.secret}, request,
		hex.EncodeToString(sum[:]), "ivschat", c.region, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return request
}

// ok is call for what must succeed.
func (c *caller) ok(t testing.TB, operation string, in map[string]any) map[string]any {
	t.Helper()
	status, out := c.call(t, operation, in)
	if status != http.StatusOK {
		t.Fatalf("%s: status %d, %v", operation, status, out)
	}
	return out
}

func (c *caller) token(t testing.TB, room any, user string) string {
	t.Helper()
	return c.ok(t, "CreateChatToken", map[string]any{"roomIdentifier": room, "userId": user, "capabilities": []string{"SEND_MESSAGE"}})["token"].(string)
}

// connect opens a WebSocket with a chat token.
func connect(t testing.TB, url, token string) *websocket.Conn {
	t.Helper()
	conn, _, err := websocket.Dial(t.Context(), url, &websocket.DialOptions{Subprotocols: []string{token}})
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() { conn.CloseNow() })
	if conn.Subprotocol() != token {
		t.Fatal("the token was not echoed as sub-protocol")
	}
	return conn
}

func send(t testing.TB, conn *websocket.Conn, action map[string]any) {
	t.Helper()
	data, err := json.Marshal(action)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Write(t.Context(), websocket.MessageText, data); err != nil {
		t.Fatal(err)
	}
}

// receive reads one frame.
func receive(t testing.TB, conn *websocket.Conn) map[string]any {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, data, err := conn.Read(ctx)
	if err != nil {
		t.Fatalf("receive: %v", err)
	}
	var frame map[string]any
	if err := json.Unmarshal(data, &frame); err != nil {
		t.Fatalf("receive: %v: %s", err, data)
	}
	return frame
}

// get asks the admin listener.
func get(t testing.TB, url string) (int, string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	response, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(data)
}

// eventually waits for a condition of the real world.
func eventually(t testing.TB, what string, met func() bool) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !met() {
		select {
		case <-deadline.C:
			t.Fatalf("not within 20 s: %s", what)
		case <-tick.C:
		}
	}
}

func wantContains(t testing.TB, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%q does not have %q", text, p)
		}
	}
}
