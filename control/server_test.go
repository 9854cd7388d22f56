package control

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"hubbub/ivschat"
)

// serve puts the fixture behind a real listener; change alters the server first.
func (f *fixture) serve(change func(*http.Server)) string {
	f.tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.tb.Fatal(err)
	}
	s := NewServer(f.Handler, nil, slog.New(slog.NewJSONHandler(f.said, nil)))
	if change != nil {
		change(s)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	f.tb.Cleanup(func() {
		s.Close()
		<-done
	})
	return l.Addr().String()
}

// ask writes raw bytes and reads the first answer.
func ask(t *testing.T, address string, raw string) *http.Response {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	go io.WriteString(c, raw) // the server may answer before it has read it all
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	return response
}

func TestServerLimits(t *testing.T) {
	f := open(t)
	hurried := open(t)
	hurried.bodyLimit = 100 * time.Millisecond
	impatient := hurried.serve(nil)
	patient := f.serve(func(s *http.Server) {
		if s.ReadHeaderTimeout != 10*time.Second || s.ReadTimeout != 30*time.Second || s.IdleTimeout == 0 || s.WriteTimeout == 0 {
			t.Errorf("%+v", s)
		}
	})
	block := func(bytes int) string { // a header block of that size, with the request line
		head, tail := "GET / HTTP/1.1\r\nHost: x\r\nA: ", "\r\n\r\n"
		return head + strings.Repeat("a", bytes-len(head)-len(tail)) + tail
	}
	for _, c := range []struct {
		name, raw string
		status    int
		error     string
	}{
		{"a header block of 16 KiB", block(16 << 10), 400, "ValidationException"},
		{"a header block far larger", block(40 << 10), 431, ""},
		{"10,000 headers", "GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("a: b\r\n", 10_000) + "\r\n", 431, ""},
		{"a body that is announced too large", "POST /CreateRoom HTTP/1.1\r\nHost: x\r\nContent-Length: 65537\r\n\r\n", 413, "RequestEntityTooLargeException"},
		{"an unknown operation with a body that does not come", "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n", 400, "ValidationException"},
		{"a body that is announced huge", "POST /CreateRoom HTTP/1.1\r\nHost: x\r\nContent-Length: 9223372036854775807\r\n\r\n", 413, "RequestEntityTooLargeException"},
		{"a chunked body that grows too large", "POST /CreateRoom HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" +
			strings.Repeat("1000\r\n"+strings.Repeat("x", 0x1000)+"\r\n", 17) + "0\r\n\r\n", 413, "RequestEntityTooLargeException"},
		{"a body of 64 KiB", "POST /CreateRoom HTTP/1.1\r\nHost: x\r\nContent-Length: 65536\r\n\r\n" + strings.Repeat("x", 64<<10), 403, "MissingAuthenticationTokenException"},
		{"a body that does not come", "POST /CreateRoom HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{", 400, "ValidationException"},
		{"broken chunks", "POST /CreateRoom HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "ValidationException"},
		{"any method at *", "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 400, "ValidationException"},
		{"a path of bytes", "GET /\xff\xfe%00 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "ValidationException"},
	} {
		t.Run(c.name, func(t *testing.T) {
			address := patient
			if c.name == "a body that does not come" {
				address = impatient
			}
			got := ask(t, address, c.raw)
			if got.StatusCode != c.status || got.Header.Get("x-amzn-ErrorType") != c.error {
				body, _ := io.ReadAll(got.Body)
				t.Errorf("%d %s, want %d %s", got.StatusCode, body, c.status, c.error)
			}
		})
	}
}

// patience records until when a connection is read from.
type patience struct {
	*httptest.ResponseRecorder
	until []time.Time
}

func (p *patience) SetReadDeadline(until time.Time) error {
	p.until = append(p.until, until)
	return nil
}

func TestABodyHasItsOwnTime(t *testing.T) {
	f := open(t)
	w := &patience{ResponseRecorder: httptest.NewRecorder()}
	before := time.Now()
	f.ServeHTTP(w, f.request("POST", "/CreateRoom", "{}"))
	after := time.Now()
	// What is left of the header's time is not added, and the answer is not cut off.
	if w.Code != 200 || len(w.until) != 2 || w.until[0].Before(before.Add(20*time.Second)) || w.until[0].After(after.Add(20*time.Second)) || !w.until[1].IsZero() {
		t.Errorf("%d: read until %v, asked at %v", w.Code, w.until, before)
	}
	w.until = nil
	f.ServeHTTP(w, f.request("GET", "/tags/"+string(f.room()), ""))
	if len(w.until) != 0 {
		t.Errorf("without a body: read until %v", w.until)
	}
}

func TestOverTheWire(t *testing.T) {
	f := open(t)
	f.at = time.Now()
	address := f.serve(nil)
	r := f.request("POST", "/CreateRoom", `{"tags":{"k":"`+strings.Repeat("v", 256)+`"}}`)
	r.RequestURI, r.URL.Scheme, r.URL.Host = "", "http", address
	r.Host = "chat.example:4880" // as signed
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	body, err := io.ReadAll(response.Body)
	response.Body.Close()
	if err != nil || response.StatusCode != 200 || response.ContentLength != int64(len(body)) || len(response.Header["Date"]) != 1 {
		t.Errorf("%d %v %s %v", response.StatusCode, response.Header, body, err)
	}
	arn := decode(t, string(body))["arn"]
	r = f.request("POST", "/DeleteRoom", fmt.Sprintf(`{"identifier":%q}`, arn))
	r.RequestURI, r.URL.Scheme, r.URL.Host = "", "http", address
	r.Host = "chat.example:4880"
	if response, err = http.DefaultClient.Do(r); err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != 204 || response.Header["Content-Type"] != nil || response.ContentLength > 0 || response.Header.Get("x-amzn-RequestId") == "" {
		t.Errorf("%d %v", response.StatusCode, response.Header)
	}
	if _, err := f.registry.Room(ivschat.ARN(arn.(string))); err == nil {
		t.Error("the room is still there")
	}
}

func TestServerLogIsLimited(t *testing.T) {
	said := &output{}
	s := NewServer(http.NotFoundHandler(), nil, slog.New(slog.NewJSONHandler(said, nil)))
	for range 1000 {
		s.ErrorLog.Printf("http: TLS handshake error from 203.0.113.9:1: EOF")
	}
	s.ErrorLog.Printf("http: Accept error: too many open files; retrying in 1s")
	if n := strings.Count(said.String(), "handshake"); n < 10 || n > 100 {
		t.Errorf("%d of 1000 lines that a stranger caused", n)
	}
	if !strings.Contains(said.String(), `"level":"WARN","msg":"http server","component":"control","said":"http: Accept error`) {
		t.Error("trouble with accepting is lost among them")
	}
}
