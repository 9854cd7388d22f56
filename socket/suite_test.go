package socket_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"hubbub/socket"

	"github.com/gobwas/ws"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is for what must come; nothing waits for it that goes right.
const patience = 20 * time.Second

// echo is a Handler that accepts everybody under the first protocol offered. A
// message of the form "close CODE REASON", "drop" or "panic" does that to its
// sender; everything else comes back to the sender, and goes to all if it begins
// with "all ".
type echo struct {
	server    *socket.Server
	group     *socket.Group
	handshake func(*socket.Upgrade) // instead of accepting
	opened    func(*socket.Conn)
	woken     func(*socket.Conn)
	closed    func(*socket.Conn) // behind all else
	ends      chan socket.End

	mu    sync.Mutex
	conns []*socket.Conn
}

func (e *echo) Handshake(u *socket.Upgrade) {
	if e.handshake != nil {
		e.handshake(u)
		return
	}
	protocol := ""
	if p := u.Protocols(); len(p) > 0 {
		protocol = p[0]
	}
	u.Accept(protocol, u.RemoteAddr().String())
}

func (e *echo) Open(c *socket.Conn) {
	e.mu.Lock()
	e.conns = append(e.conns, c)
	e.mu.Unlock()
	e.group.Add(c)
	if e.opened != nil {
		e.opened(c)
	}
}

func (e *echo) Message(c *socket.Conn, payload []byte) {
	text := string(payload)
	var code uint16
	var reason string
	switch n, _ := fmt.Sscanf(text, "close %d %s", &code, &reason); {
	case n >= 1:
		c.Close(code, strings.TrimPrefix(text, fmt.Sprintf("close %d ", code)))
	case text == "drop":
		c.Drop()
	case text == "panic":
		panic("as asked")
	case strings.HasPrefix(text, "all "):
		e.group.Send(socket.NewFrame(payload))
	default:
		c.Send(socket.NewFrame(payload))
	}
}

func (e *echo) Wake(c *socket.Conn) {
	if e.woken != nil {
		e.woken(c)
	}
}

func (e *echo) Closed(c *socket.Conn, end socket.End) {
	e.group.Remove(c)
	e.ends <- end
	if e.closed != nil {
		e.closed(c)
	}
}

// conn is the server's side of a connection, in the order of their opening.
func (e *echo) conn(i int) *socket.Conn {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.conns[i]
}

func (e *echo) end(t testing.TB) socket.End {
	t.Helper()
	select {
	case end := <-e.ends:
		return end
	case <-time.After(patience):
		t.Fatal("no connection ended")
		return socket.End{}
	}
}

// transport is a way in which the suite reaches a server.
type transport struct {
	name             string
	secure, portable bool
}

var (
	plain    = transport{name: "plain"} // event loops, where there are some
	portable = transport{name: "portable", portable: true}
	secure   = transport{name: "tls", secure: true}

	// transports are what the suite runs over; another one joins here.
	transports = []transport{plain, portable, secure}
)

func each(t *testing.T, run func(t *testing.T, on transport)) {
	for _, on := range transports {
		t.Run(on.name, func(t *testing.T) { run(t, on) })
	}
}

var certificate = sync.OnceValue(func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
})

// server runs a server until the test ends.
type server struct {
	*echo
	address string
	on      transport
	metrics *prometheus.Registry
}

// reaches wants a counter to come to that value: a writer notes what it wrote a
// moment later.
func (s *server) reaches(t testing.TB, name, reason string, want float64) {
	t.Helper()
	for until := time.Now().Add(patience); s.count(t, name, reason) != want; runtime.Gosched() {
		if time.Now().After(until) {
			t.Errorf("%s{%s} is %v, want %v", name, reason, s.count(t, name, reason), want)
			return
		}
	}
}

// count is the value of a metric now.
func (s *server) count(t testing.TB, name, reason string) float64 {
	t.Helper()
	families, err := s.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			if labels := m.GetLabel(); reason == "" || len(labels) == 1 && labels[0].GetName() == "reason" && labels[0].GetValue() == reason {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	t.Fatalf("there is no %s{%s}", name, reason)
	return 0
}

func start(t testing.TB, on transport, c socket.Config, change ...func(*echo)) *server {
	t.Helper()
	e := &echo{ends: make(chan socket.End, 4096)}
	for _, f := range change {
		f(e)
	}
	if on.secure {
		c.TLS = &tls.Config{Certificates: []tls.Certificate{certificate()}}
	}
	c.Portable = on.portable
	registry := prometheus.NewPedanticRegistry()
	c.Metrics = registry
	e.server = socket.New(c, e)
	e.group = e.server.NewGroup()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- e.server.Serve(l) }()
	t.Cleanup(func() {
		e.server.Close()
		if err := <-served; err != nil {
			t.Error("Serve:", err)
		}
		if n := e.server.Len(); n != 0 {
			t.Errorf("%d connections after Close", n)
		}
		if n := e.group.Len(); n != 0 {
			t.Errorf("%d members after Close", n)
		}
	})
	return &server{e, l.Addr().String(), on, registry}
}

// client is a raw client: it sees every byte.
type client struct {
	net.Conn
	t testing.TB
	r *bufio.Reader
}

func (s *server) dial(t testing.TB) *client {
	t.Helper()
	c, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	if s.on.secure {
		c = tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return &client{c, t, bufio.NewReader(c)}
}

const key = "dGhlIHNhbXBsZSBub25jZQ=="

const request = "GET /any/path?q HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + "\r\n"

func (c *client) write(b ...byte) {
	c.t.Helper()
	if _, err := c.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) response() *http.Response {
	c.t.Helper()
	r, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	return r
}

// open is a client that is connected.
func (s *server) open(t testing.TB) *client {
	t.Helper()
	c := s.dial(t)
	c.write([]byte(request + "Sec-WebSocket-Protocol: token\r\n\r\n")...)
	if r := c.response(); r.StatusCode != 101 || r.Header.Get("Sec-WebSocket-Protocol") != "token" {
		t.Fatal(r.Status, r.Header)
	}
	return c
}

// frame sends a masked frame of one piece.
func (c *client) frame(op ws.OpCode, fin bool, payload string) {
	c.t.Helper()
	c.write(encoded(ws.Header{Fin: fin, OpCode: op}, payload)...)
}

func encoded(h ws.Header, payload string) []byte {
	h.Length, h.Masked, h.Mask = int64(len(payload)), true, [4]byte{1, 2, 3, 4}
	var b strings.Builder
	if err := ws.WriteHeader(&b, h); err != nil {
		panic(err)
	}
	body := []byte(payload)
	ws.Cipher(body, h.Mask, 0)
	return append([]byte(b.String()), body...)
}

func (c *client) text(payload string) { c.t.Helper(); c.frame(ws.OpText, true, payload) }

// next is the next frame of the server, which masks nothing.
func (c *client) next() (ws.OpCode, string, error) {
	h, err := ws.ReadHeader(c.r)
	if err != nil {
		return 0, "", err
	}
	if h.Masked || !h.Fin || h.Rsv != 0 {
		c.t.Errorf("the server sent the header %+v", h)
	}
	b := make([]byte, h.Length)
	_, err = io.ReadFull(c.r, b)
	return h.OpCode, string(b), err
}

func (c *client) want(op ws.OpCode, payload string) {
	c.t.Helper()
	gotOp, got, err := c.next()
	if err != nil || gotOp != op || got != payload {
		c.t.Fatalf("got opcode %d %.100q (%v), want %d %.100q", gotOp, got, err, op, payload)
	}
}

// wantClose wants a close frame of that code and then, once it is answered, the
// end of TCP.
func (c *client) wantClose(code ws.StatusCode) (reason string) {
	c.t.Helper()
	op, got, err := c.next()
	if err != nil || op != ws.OpClose || len(got) < 2 {
		c.t.Fatalf("got opcode %d %.100q (%v), want a close frame of %d", op, got, err, code)
	}
	has, reason := ws.ParseCloseFrameData([]byte(got))
	if has != code {
		c.t.Errorf("closed with %d %q, want %d", has, reason, code)
	}
	_, _ = c.Write(encoded(ws.Header{Fin: true, OpCode: ws.OpClose}, got[:2]))
	if _, err := c.r.ReadByte(); err != io.EOF {
		c.t.Errorf("after the closing handshake: %v, want EOF", err)
	}
	return reason
}
