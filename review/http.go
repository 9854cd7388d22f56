package review

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
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
		return nil, &failure{reason: network, err: withoutURL(err)}
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "hubbub")
	answer, err := h.client.Do(r)
	if err != nil {
		return nil, &failure{reason: network, err: withoutURL(err)}
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body) // limited by the transport
	if answer.StatusCode != http.StatusOK {
		return nil, &failure{reason: badStatus, err: fmt.Errorf("status %d", answer.StatusCode)}
	}
	if err != nil {
		return nil, &failure{reason: network, err: fmt.Errorf("read the answer: %w", err)}
	}
	return body, nil
}

// withoutURL keeps what may be secret about an address out of an error.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// newClient makes a client on the transport that follows no redirect, reads no
// more of an answer than can be valid, and keeps as many connections as there
// are invocations.
func newClient(t *http.Transport, concurrency int, idle time.Duration) *http.Client {
	t.MaxIdleConns, t.MaxIdleConnsPerHost, t.MaxConnsPerHost = 0, concurrency, 0
	t.IdleConnTimeout = idle
	t.MaxResponseHeaderBytes = maxHeaderBytes
	t.DisableCompression = true // the limit is for what was sent
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
