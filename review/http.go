package review

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"hubbub/ivschat"
)

// maxHeaderBytes bounds the head of a handler's answer.
const maxHeaderBytes = 64 << 10

// httpIdle is how long a connection to an HTTP handler is kept for the next
// message. Node's server closes one after 5 s, and a message sent into that
// moment would be lost.
const httpIdle = 4 * time.Second

// httpCaller posts the request to a URL. Source: spec review-handler 1, 4.
type httpCaller struct {
	client *http.Client
	url    string
}

// call sends the request; only status 200 is an answer.
func (h *httpCaller) call(ctx context.Context, _ string, _ ivschat.ARN, request []byte) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url, bytes.NewReader(request))
	if err != nil {
		return nil, &failure{reason: network, err: unanswered(err)}
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "hubbub")
	answer, err := h.client.Do(r)
	if err != nil {
		return nil, &failure{reason: network, err: unanswered(err)}
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body) // limited by the transport
	if answer.StatusCode != http.StatusOK {
		return nil, &failure{reason: badStatus, err: fmt.Errorf("status %d", answer.StatusCode)}
	}
	if err != nil {
		return nil, &failure{reason: network, err: fmt.Errorf("read the answer: %w", unanswered(err))}
	}
	return body, nil
}

// unanswered says why there is no answer, without what may be secret about the
// address, and without what came in place of one: net/http repeats that, and it
// may be what a user wrote.
func unanswered(err error) error {
	var (
		operation   *net.OpError
		lookup      *net.DNSError
		certificate *tls.CertificateVerificationError
		timeout     net.Error
	)
	switch {
	case errors.As(err, &operation):
		return operation
	case errors.As(err, &lookup):
		return lookup
	case errors.As(err, &certificate):
		return certificate
	case errors.As(err, &timeout) && timeout.Timeout():
		return errors.New("no answer in time")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the connection was closed before the end of the answer")
	case errors.Is(err, http.ErrSchemeMismatch):
		return http.ErrSchemeMismatch
	}
	return errors.New("no answer in HTTP")
}

// connectTimeout bounds an attempt to connect. A message does not wait for it:
// the connection is for the next one.
const connectTimeout = 2 * time.Second

// deadAfter is how long a connection of HTTP/2 on which nothing comes is believed
// in, and again how long a ping of it may take. A call whose time is up leaves such
// a connection to the others, so that one that the network has dropped without a
// word would be asked for minutes.
const deadAfter = time.Second

// newClient makes a client on the transport that follows no redirect, reads no
// more of an answer than can be valid, and keeps as many connections as there
// are invocations, until the reviewer is closed.
func (r *Reviewer) newClient(t *http.Transport, idle time.Duration) *http.Client {
	dialer := net.Dialer{Timeout: connectTimeout}
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(r.ctx, cancel)() // the transport goes on after its request has ended
		return dialer.DialContext(ctx, network, address)
	}
	t.TLSHandshakeTimeout = connectTimeout
	t.MaxIdleConns, t.MaxIdleConnsPerHost, t.MaxConnsPerHost = 0, r.concurrency, 0
	t.IdleConnTimeout = idle
	t.HTTP2 = &http.HTTP2Config{SendPingTimeout: deadAfter, PingTimeout: deadAfter}
	t.MaxResponseHeaderBytes = maxHeaderBytes
	t.DisableCompression = true // the limit is for what was sent
	r.idle = append(r.idle, t.CloseIdleConnections)
	return &http.Client{
		Transport:     limited{t},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// limited is a transport whose answers end one byte beyond maxResponseBytes, so
// that a longer one is seen to be too long and never read.
//
// It sends a copy of the body: the AWS client closes its own as soon as the head
// of an answer is there, which the transport takes for a failed request if it
// has not quite finished, and drops the connection with the rest of the answer.
type limited struct{ *http.Transport }

func (l limited) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		body, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil {
			return nil, err
		}
		r = r.WithContext(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	answer, err := l.Transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	answer.ContentLength = min(answer.ContentLength, maxResponseBytes+1)
	answer.Body = limitedBody{io.LimitReader(answer.Body, maxResponseBytes+1), answer.Body}
	return answer, nil
}

type limitedBody struct {
	io.Reader
	io.Closer
}
