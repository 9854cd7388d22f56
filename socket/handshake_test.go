package socket_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"hubbub/socket"

	"github.com/coder/websocket"
	"github.com/gobwas/ws"
)

func TestWhatIsNotAnUpgradeIsRefused(t *testing.T) {
	without := func(header string) string {
		var kept []string
		for _, line := range strings.SplitAfter(request, "\r\n") {
			if !strings.HasPrefix(line, header+":") {
				kept = append(kept, line)
			}
		}
		return strings.Join(kept, "") + "\r\n"
	}
	many := strings.Builder{}
	for i := range 10_000 {
		fmt.Fprintf(&many, "X-%d: y\r\n", i)
	}
	each(t, func(t *testing.T, on transport) {
		s := start(t, on, socket.Config{})
		for _, c := range []struct {
			name, request string
			want          int
		}{
			{"a plain GET", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 426},
			{"another method", strings.Replace(request, "GET", "POST", 1) + "\r\n", 400},
			{"HTTP/1.0", strings.Replace(request, "HTTP/1.1", "HTTP/1.0", 1) + "\r\n", 400},
			{"not HTTP", "\x16\x03\x01\x02\x00\r\n\r\n", 400},
			{"no host", without("Host"), 400},
			{"no upgrade", without("Upgrade"), 400},
			{"no connection", without("Connection"), 400},
			{"no key", without("Sec-WebSocket-Key"), 400},
			{"two keys", request + "Sec-WebSocket-Key: " + key + "\r\n\r\n", 400},
			{"a short key", strings.Replace(request, key, "c2hvcnQ=", 1) + "\r\n", 400},
			{"a key that is not base64", strings.Replace(request, key, strings.Repeat("!", 24), 1) + "\r\n", 400},
			{"no version", without("Sec-WebSocket-Version"), 426},
			{"another version", strings.Replace(request, "Version: 13", "Version: 8", 1) + "\r\n", 426},
			{"a body", request + "Content-Length: 5\r\n\r\nhello", 400},
			{"a chunked body", request + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
			{"an endless path", "GET /" + strings.Repeat("a", 20_000) + " HTTP/1.1\r\n\r\n", 431},
			{"an endless token", request + "Sec-WebSocket-Protocol: " + strings.Repeat("a", 20_000) + "\r\n\r\n", 431},
			{"ten thousand headers", request + many.String() + "\r\n", 431},
		} {
			t.Run(c.name, func(t *testing.T) {
				conn := s.dial(t)
				go conn.Write([]byte(c.request)) // the answer may come before all is sent
				r := conn.response()
				body, err := io.ReadAll(r.Body)
				if err != nil {
					t.Fatal(err)
				}
				var said struct{ Message string }
				if err := json.Unmarshal(body, &said); r.StatusCode != c.want || err != nil || said.Message == "" || r.Header.Get("x-amzn-RequestId") == "" {
					t.Errorf("%s %s %v, want %d", r.Status, body, r.Header, c.want)
				}
				if r.StatusCode == 426 && r.Header.Get("Upgrade") != "websocket" {
					t.Error("426 must say what to upgrade to")
				}
			})
		}
		if n := s.server.Len(); n != 0 {
			t.Errorf("%d connections", n)
		}
	})
}

func TestAHandshakeHasItsTime(t *testing.T) {
	each(t, func(t *testing.T, on transport) {
		for name, sent := range map[string]string{"who says nothing": "", "who stops halfway": request} {
			t.Run(name, func(t *testing.T) {
				s := start(t, on, socket.Config{HandshakeTimeout: 500 * time.Millisecond})
				c := s.dial(t)
				c.write([]byte(sent)...)
				if _, err := c.r.ReadByte(); err != io.EOF {
					t.Errorf("got %v, want the end of the connection", err)
				}
			})
		}
		s := start(t, on, socket.Config{AcceptTimeout: 50 * time.Millisecond}, func(e *echo) { e.handshake = func(*socket.Upgrade) {} })
		c := s.dial(t)
		c.write([]byte(request + "\r\n")...)
		if r := c.response(); r.StatusCode != 503 {
			t.Errorf("without a decision: %s", r.Status)
		}
	})
}

func TestTheHandlerDecides(t *testing.T) {
	each(t, func(t *testing.T, on transport) {
		for _, status := range []int{401, 403, 404, 429, 500, 503} {
			s := start(t, on, socket.Config{}, func(e *echo) {
				e.handshake = func(u *socket.Upgrade) {
					go func() { // later, from another goroutine, and only the first time counts
						u.Refuse(status, "as decided")
						u.Accept("", nil)
						u.Refuse(418, "too late")
					}()
				}
			})
			c := s.dial(t)
			c.write([]byte(request + "\r\n")...)
			r := c.response()
			body, err := io.ReadAll(r.Body)
			if err != nil || r.StatusCode != status || string(body) != `{"message":"as decided"}` {
				t.Errorf("%s %s %v", r.Status, body, err)
			}
		}
		panicky := start(t, on, socket.Config{}, func(e *echo) { e.handshake = func(*socket.Upgrade) { panic("as asked") } })
		c := panicky.dial(t)
		c.write([]byte(request + "\r\n")...)
		if r := c.response(); r.StatusCode != 500 {
			t.Error(r.Status)
		}
	})
}

func TestTheAnswerIsTheStandards(t *testing.T) {
	each(t, func(t *testing.T, on transport) {
		s := start(t, on, socket.Config{})
		c := s.dial(t)
		c.write([]byte(request + "Origin: https://example.com\r\nSec-WebSocket-Extensions: permessage-deflate\r\nsec-websocket-protocol:  a-._~!#$%&'*+^`|1 , b\r\n\r\n")...)
		r := c.response()
		for name, want := range map[string]string{
			"Sec-WebSocket-Accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", // of the RFC
			"Upgrade":              "websocket", "Connection": "Upgrade", "Sec-WebSocket-Protocol": "a-._~!#$%&'*+^`|1", "Sec-WebSocket-Extensions": "",
		} {
			if got := r.Header.Get(name); got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
		if r.StatusCode != http.StatusSwitchingProtocols || r.Header.Get("x-amzn-RequestId") == "" {
			t.Error(r.Status, r.Header)
		}
	})
}

// What Open queues is behind the 101, and what the client sent in the same
// packet as its request is not lost.
func TestNothingIsLostAroundTheUpgrade(t *testing.T) {
	each(t, func(t *testing.T, on transport) {
		s := start(t, on, socket.Config{}, func(e *echo) {
			e.opened = func(c *socket.Conn) {
				c.Send(socket.NewFrame([]byte("to you")))
				e.group.Send(socket.NewFrame([]byte("to all")))
			}
		})
		c := s.dial(t)
		c.write(append([]byte(request+"\r\n"), encoded(ws.Header{Fin: true, OpCode: ws.OpText}, "early")...)...)
		if r := c.response(); r.StatusCode != 101 {
			t.Fatal(r.Status)
		}
		c.want(ws.OpText, "to you")
		c.want(ws.OpText, "to all")
		c.want(ws.OpText, "early")
	})
}

func TestTheClientsAddress(t *testing.T) {
	each(t, func(t *testing.T, on transport) {
		for _, c := range []struct{ name, trusted, forwarded, want string }{
			{"nobody is trusted", "", "1.2.3.4", "127.0.0.1"},
			{"the proxy is trusted", "127.0.0.0/8", "1.2.3.4", "1.2.3.4"},
			{"the last that is not trusted", "127.0.0.0/8,10.0.0.0/8", "6.6.6.6, 1.2.3.4, 10.0.0.1", "1.2.3.4"},
			{"what an untrusted one says is not believed", "127.0.0.0/8", "6.6.6.6, 1.2.3.4", "1.2.3.4"},
			{"nothing is said", "127.0.0.0/8", "", "127.0.0.1"},
			{"nonsense is nobody", "127.0.0.0/8", "nonsense", "invalid IP"},
			{"IPv6", "127.0.0.0/8", "2001:db8::1", "2001:db8::1"},
			{"with a port", "127.0.0.0/8", "1.2.3.4:567", "1.2.3.4"},
		} {
			t.Run(c.name, func(t *testing.T) {
				var config socket.Config
				for p := range strings.SplitSeq(c.trusted, ",") {
					if p != "" {
						config.TrustedProxies = append(config.TrustedProxies, netip.MustParsePrefix(p))
					}
				}
				got := make(chan string, 1)
				s := start(t, on, config, func(e *echo) { e.opened = func(c *socket.Conn) { got <- c.RemoteAddr().String() } })
				conn := s.dial(t)
				header := ""
				if c.forwarded != "" {
					header = "X-Forwarded-For: " + c.forwarded + "\r\n"
				}
				conn.write([]byte(request + header + "\r\n")...)
				if g := <-got; g != c.want {
					t.Errorf("%s, want %s", g, c.want)
				}
			})
		}
	})
}

// An independent client, in both directions.
func TestAnIndependentClient(t *testing.T) {
	each(t, func(t *testing.T, on transport) {
		s := start(t, on, socket.Config{})
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
		defer transport.CloseIdleConnections()
		client := &http.Client{Transport: transport}
		defer cancel()
		c, _, err := websocket.Dial(ctx, map[bool]string{false: "ws://", true: "wss://"}[on.secure]+s.address, &websocket.DialOptions{HTTPClient: client, Subprotocols: []string{"token"}, CompressionMode: websocket.CompressionContextTakeover})
		if err != nil {
			t.Fatal(err)
		}
		defer c.CloseNow()
		c.SetReadLimit(1 << 20)
		for _, n := range []int{0, 1, 125, 126, 127, 65535, 65536, 128 << 10} {
			text := strings.Repeat("é", n/2) + strings.Repeat("x", n%2)
			if err := c.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
				t.Fatal(err)
			}
			_, got, err := c.Read(ctx)
			if err != nil || string(got) != text {
				t.Fatalf("%d bytes: %d came back, %v", n, len(got), err)
			}
		}
		go func() { _, _, _ = c.Read(ctx) }() // reads the pong
		if err := c.Ping(ctx); err != nil {
			t.Error(err)
		}
		if err := c.Close(websocket.StatusNormalClosure, "bye"); err != nil {
			t.Error(err)
		}
		if end := s.end(t); end.Reason != socket.ClosedByClient || end.Code != 1000 || end.FramesIn != 8 {
			t.Errorf("%+v", end)
		}
	})
}
