package socket

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Upgrade is a well-formed request to become a WebSocket. Accept or Refuse
// decides about it, once. Its methods may be called from any goroutine.
type Upgrade struct {
	request *http.Request
	came    time.Time // its last byte
	remote  netip.Addr
	ctx     context.Context
	line    *line
	spot    spot // in line
	once    sync.Once
	tell    func(decision) // hands the decision to the connection's transport; does not wait
}

type decision struct {
	accepted bool
	protocol string
	session  any
	status   int
	message  string
	why      refusal // it is ours; "" if it is the Handler's
}

// Protocols are the values offered in Sec-WebSocket-Protocol, in order; what
// they are made of is for the Handler to judge.
func (u *Upgrade) Protocols() []string { return protocols(u.request.Header) }

// RemoteAddr is the client's address, behind trusted proxies its own; the zero
// Addr if it cannot be told.
func (u *Upgrade) RemoteAddr() netip.Addr { return u.remote }

// Context ends when the time for a decision is over, when the client is gone, and
// when the server stops. A decision is still wanted then, and soon.
func (u *Upgrade) Context() context.Context { return u.ctx }

// Waited is how long the request has waited for its turn, since it came.
func (u *Upgrade) Waited() time.Duration { return time.Since(u.came) }

// Accept upgrades; protocol, one of those offered, is echoed if it is not "", and
// session becomes Conn.Session. True promises Handler.Open, and Handler.Closed
// after it, even if the client is gone already; false says that the decision had
// been made before, by another call or because AcceptTimeout was over, and that
// nothing comes of this one.
func (u *Upgrade) Accept(protocol string, session any) bool {
	return u.decide(decision{accepted: true, protocol: protocol, session: session})
}

// Refuse answers with an HTTP status and a JSON body that holds the message. False
// says that the decision had been made before.
func (u *Upgrade) Refuse(status int, message string) bool {
	return u.decide(decision{status: status, message: message})
}

// Delay has Handshake called for u once more, after that time and behind those who
// wait for their turn then; the caller returns without a decision. False says that
// nothing comes of it: u was delayed before, or too many are. Of the time for a
// decision the delay is a part: it should be well below Config.LineTimeout.
func (u *Upgrade) Delay(d time.Duration) bool { return u.line.delay(u, d) }

func (u *Upgrade) decide(d decision) (first bool) {
	u.once.Do(func() {
		first = true
		u.tell(d)
	})
	return first
}

// refusedRequest is an HTTP answer to what is not an upgrade.
type refusedRequest struct {
	status  int
	message string
	headers http.Header
}

func (r *refusedRequest) Error() string { return r.message }

func refuse(status int, message string, headers ...string) *refusedRequest {
	r := &refusedRequest{status: status, message: message, headers: http.Header{}}
	for i := 0; i < len(headers); i += 2 {
		r.headers.Set(headers[i], headers[i+1])
	}
	return r
}

// readRequest reads a request of at most limit bytes and returns it with what
// came behind it.
func readRequest(from *source, limit int) (*http.Request, []byte, error) {
	var all []byte
	take := func(b []byte) { all = append(all, b...) }
	searched := 0
	for {
		err := from.receive(take)
		head, refused := headOf(all, searched, limit)
		if refused != nil {
			return nil, nil, refused
		}
		if head != nil {
			request, refused := parseRequest(head)
			if refused != nil {
				return nil, nil, refused
			}
			return request, bytes.Clone(all[len(head):]), nil
		}
		searched = len(all)
		if err != nil {
			return nil, nil, err
		}
	}
}

// headOf is the part of what was read that is the whole request, nil if there is
// more to come. The first searched bytes were looked at before.
func headOf(all []byte, searched, limit int) ([]byte, *refusedRequest) {
	start := max(searched-3, 0)
	if at := bytes.Index(all[start:], []byte("\r\n\r\n")); at >= 0 && start+at+4 <= limit {
		return all[:start+at+4], nil
	}
	if len(all) >= limit {
		return nil, refuse(http.StatusRequestHeaderFieldsTooLarge, fmt.Sprintf("The request is over %d bytes.", limit))
	}
	return nil, nil
}

var requestReaders = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 1<<10) }}

func parseRequest(head []byte) (*http.Request, *refusedRequest) {
	r := requestReaders.Get().(*bufio.Reader)
	defer requestReaders.Put(r)
	r.Reset(bytes.NewReader(head))
	request, err := http.ReadRequest(r)
	r.Reset(nil)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "The request is not HTTP.")
	}
	request.Body = nil // it may hold the reader
	return request, nil
}

// checkRequest says why a request is not an upgrade, or nil. Source: RFC 6455,
// 4.2.1; spec messaging 1.3.
func checkRequest(r *http.Request) *refusedRequest {
	const status = http.StatusBadRequest
	h := r.Header
	switch {
	case r.Method != http.MethodGet:
		return refuse(status, "This port speaks WebSocket: the method must be GET, not "+shown(r.Method)+".")
	case !r.ProtoAtLeast(1, 1):
		return refuse(status, "This port speaks WebSocket over HTTP/1.1.")
	case r.Host == "":
		return refuse(status, "The Host header is missing.")
	case r.ContentLength > 0 || len(r.TransferEncoding) > 0:
		return refuse(status, "An upgrade has no body.")
	case !hasToken(h, "Connection", "upgrade") && !hasToken(h, "Upgrade", "websocket"):
		return refuse(http.StatusUpgradeRequired, "This port speaks WebSocket: connect with a WebSocket client and a chat token as its sub-protocol.",
			"Upgrade", "websocket", "Connection", "Upgrade")
	case !hasToken(h, "Connection", "upgrade") || !hasToken(h, "Upgrade", "websocket"):
		return refuse(status, "An upgrade needs the headers Connection: Upgrade and Upgrade: websocket.")
	case len(h["Sec-Websocket-Version"]) != 1 || h.Get("Sec-WebSocket-Version") != "13":
		return refuse(http.StatusUpgradeRequired, "The Sec-WebSocket-Version must be 13.", "Sec-WebSocket-Version", "13", "Upgrade", "websocket", "Connection", "Upgrade")
	case len(h["Sec-Websocket-Key"]) != 1 || !isKey(h.Get("Sec-WebSocket-Key")):
		return refuse(status, "The Sec-WebSocket-Key must be 16 bytes in base64.")
	}
	return nil
}

func isKey(key string) bool {
	b, err := base64.StdEncoding.Strict().DecodeString(key)
	return err == nil && len(b) == 16
}

func protocols(h http.Header) []string {
	var all []string
	for _, line := range h["Sec-Websocket-Protocol"] {
		for p := range strings.SplitSeq(line, ",") {
			if p = strings.Trim(p, " \t"); p != "" {
				all = append(all, p)
			}
		}
	}
	return all
}

func hasToken(h http.Header, name, token string) bool {
	for _, line := range h[name] {
		for v := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.Trim(v, " \t"), token) {
				return true
			}
		}
	}
	return false
}

// shown keeps what a stranger sent short and printable.
func shown(s string) string { return fmt.Sprintf("%.20q", s) }

// answer is the 101 as the first thing that a connection is sent.
func answer(r *http.Request, protocol string) *Frame {
	var b bytes.Buffer
	b.WriteString("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ")
	b.WriteString(acceptKey(r.Header.Get("Sec-WebSocket-Key")))
	if protocol != "" {
		b.WriteString("\r\nSec-WebSocket-Protocol: ")
		b.WriteString(protocol)
	}
	fmt.Fprintf(&b, "\r\nDate: %s\r\nx-amzn-RequestId: %s\r\n\r\n", time.Now().UTC().Format(http.TimeFormat), uuid.NewString())
	return &Frame{bytes: b.Bytes(), answer: true}
}

// linger is how long a refused client has to take its answer.
const linger = 2 * time.Second

// writeRefusal sends the answer and sees that the client gets it: closing with
// unread bytes would reset the connection and may destroy it. base is below TLS.
func writeRefusal(c, base net.Conn, r *refusedRequest) {
	_ = c.SetDeadline(time.Now().Add(linger))
	if _, err := c.Write(r.encode()); err != nil {
		return
	}
	closeWrite(c, base)
	_, _ = io.CopyN(io.Discard, base, lingerBytes)
}

// lingerBytes is how much of what a refused client still sends is read.
const lingerBytes = 256 << 10

func (r *refusedRequest) encode() []byte {
	body, err := json.Marshal(map[string]string{"message": r.message})
	if err != nil { // a string is JSON
		panic(err)
	}
	h := r.headers
	if h == nil {
		h = http.Header{}
	}
	h.Set("Content-Type", "application/json")
	h.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	h.Set("x-amzn-RequestId", uuid.NewString())
	h.Set("Connection", strings.TrimPrefix(h.Get("Connection")+", close", ", "))
	h.Set("Content-Length", fmt.Sprint(len(body)))
	var b bytes.Buffer
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\n", r.status, http.StatusText(r.status))
	_ = h.Write(&b) // to a buffer
	b.WriteString("\r\n")
	b.Write(body)
	return b.Bytes()
}

// acceptKey is the answer to the client's key. Source: RFC 6455, 4.2.2.
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}
