package review

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hubbub/ivschat"
)

const (
	invocationErrors = "hubbub_review_invocation_errors_total"
	validationErrors = "hubbub_review_response_validation_errors_total"
	functionErrors   = "hubbub_review_function_errors_total"
)

// serve runs a handler until the test ends; connections counts those it was asked over.
func serve(t *testing.T, h http.HandlerFunc) (url string, connections *atomic.Int32) {
	t.Helper()
	connections = new(atomic.Int32)
	s := httptest.NewUnstartedServer(h)
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	s.Start()
	t.Cleanup(s.Close)
	return s.URL, connections
}

// reviewer makes one with the handler under the ARN moderate. The time-out is
// long, so that what a slow machine does is not taken for what the handler did.
func reviewer(t *testing.T, h Handler, change ...func(*Options)) (*Reviewer, *prometheus.Registry, *recorder) {
	t.Helper()
	metrics, log := prometheus.NewRegistry(), &recorder{}
	o := Options{Timeout: 30 * time.Second, Handlers: map[string]Handler{moderate: h}, Metrics: metrics, Log: slog.New(slog.NewTextHandler(log, nil)), DevCredentials: devCredentials}
	for _, c := range change {
		c(&o)
	}
	r, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r, metrics, log
}

func TestAnHTTPHandlerGetsTheRequestByPost(t *testing.T) {
	url, connections := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		const want = `{"Content":"Hello","MessageId":"M2YcHkgffEvU","RoomArn":"arn:aws:ivschat:us-west-2:123456789012:room/AbCdEf123456",` +
			`"Attributes":{"own":"1"},"Sender":{"UserId":"alice","Attributes":{"username":"Alice"},"Ip":"192.0.2.7"}}`
		if r.Method != http.MethodPost || r.URL.String() != "/review?key=1" || r.Header.Get("Content-Type") != "application/json" || string(body) != want {
			t.Errorf("got %s %s %s\n%s", r.Method, r.URL, r.Header, body)
		}
		io.WriteString(w, allows)
	})
	r, metrics, log := reviewer(t, Handler{HTTP: &HTTP{URL: url + "/review?key=1"}})
	for range 5 {
		want(t, ask(r, moderate, ivschat.FallbackDeny), allowed, "allowed")
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections for five messages in turn, want one", n)
	}
	wantSample(t, metrics, invocationErrors, moderate, 0)
	if log.String() != "" {
		t.Errorf("logged:\n%s", log)
	}
}

// faults are handlers that give no verdict, for HTTP and Lambda alike.
var faults = []struct {
	name    string
	handler http.HandlerFunc
	metric  string
	reason  failureReason
}{
	{"no such function", status(http.StatusNotFound), invocationErrors, badStatus},
	{"refused by policy", status(http.StatusForbidden), invocationErrors, badStatus},
	{"throttled", status(http.StatusTooManyRequests), invocationErrors, badStatus},
	{"server error", status(http.StatusInternalServerError), invocationErrors, badStatus},
	{"another success", status(http.StatusAccepted), invocationErrors, badStatus},
	{"no content", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }, invocationErrors, badStatus},
	{"found elsewhere", redirect(http.StatusFound), invocationErrors, badStatus},
	{"temporarily elsewhere", redirect(http.StatusTemporaryRedirect), invocationErrors, badStatus},
	{"permanently elsewhere", redirect(http.StatusPermanentRedirect), invocationErrors, badStatus},
	{"a page that says so", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadGateway)
		io.WriteString(w, "<html>"+strings.Repeat("sorry ", 100_000))
	}, invocationErrors, badStatus},
	{"cut off", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		io.WriteString(w, allows)
	}, invocationErrors, network},
	{"cut off in the middle of a chunk", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, allows)
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}, invocationErrors, network},
	{"closed without an answer", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, invocationErrors, network},
	{"not HTTP", func(w http.ResponseWriter, _ *http.Request) {
		c, _, _ := w.(http.Hijacker).Hijack()
		io.WriteString(c, "220 mail.example.com ESMTP\r\n")
		c.Close()
	}, invocationErrors, network},
	{"endless headers", func(w http.ResponseWriter, _ *http.Request) {
		c, _, _ := w.(http.Hijacker).Hijack()
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 200 OK\r\n")
		for i := range 10_000 {
			if _, err := fmt.Fprintf(c, "X-%d: %s\r\n", i, strings.Repeat("x", 1000)); err != nil {
				return
			}
		}
	}, invocationErrors, network},
	{"endless", func(w http.ResponseWriter, _ *http.Request) {
		for {
			if _, err := w.Write(make([]byte, 4096)); err != nil {
				return
			}
		}
	}, validationErrors, invalidResponse},
	{"one byte too long", text(pad(allows, maxResponseBytes+1)), validationErrors, invalidResponse},
	{"not JSON", text("OK"), validationErrors, invalidResponse},
	{"nothing", text(""), validationErrors, invalidResponse},
	{"an answer to an API gateway", text(`{"statusCode":200,"body":"{\"ReviewResult\":\"ALLOW\",\"Content\":\"Hi\"}"}`), validationErrors, invalidResponse},
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		io.WriteString(w, allows)
	}
}

func text(s string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, s) }
}

func redirect(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/elsewhere") {
			panic("a redirect was followed")
		}
		http.Redirect(w, r, "/elsewhere", code)
	}
}

// wantFaults asks for each fault once and looks at everything that must follow.
func wantFaults(t *testing.T, handler func(url string) Handler) {
	for _, c := range faults {
		t.Run(c.name, func(t *testing.T) {
			var asked atomic.Int32
			url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
				asked.Add(1)
				c.handler(w, r)
			})
			r, metrics, log := reviewer(t, handler(url))
			want(t, ask(r, moderate, ivschat.FallbackAllow), fell, "fallback ALLOW")
			want(t, ask(r, moderate, ivschat.FallbackDeny), refused, "fallback DENY")
			if n := asked.Load(); n != 2 {
				t.Errorf("it was asked %d times for two messages", n)
			}
			for _, m := range []string{invocationErrors, validationErrors, functionErrors} {
				n := 0.0
				if m == c.metric {
					n = 2
				}
				wantSample(t, metrics, m, moderate, n)
			}
			if !strings.Contains(log.String(), "reason="+string(c.reason)) {
				t.Errorf("the log does not say %s:\n%s", c.reason, log)
			}
			for _, secret := range []string{"Hello", "alice", "Alice", "username", "192.0.2.7", "http://", "hunter2", "secret"} {
				if strings.Contains(log.String(), secret) {
					t.Errorf("the log shows %q:\n%s", secret, log)
				}
			}
		})
	}
}

func TestHTTPHandlersThatGiveNoVerdict(t *testing.T) {
	wantFaults(t, func(url string) Handler {
		return Handler{HTTP: &HTTP{URL: strings.Replace(url, "http://", "http://hubbub:hunter2@", 1) + "/?secret=x"}}
	})
}

func TestAnHTTPHandlerThatIsNotThere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	r, metrics, log := reviewer(t, Handler{HTTP: &HTTP{URL: "http://u:hunter2@" + l.Addr().String()}})
	want(t, ask(r, moderate, ivschat.FallbackAllow), fell, "connection refused")
	wantSample(t, metrics, invocationErrors, moderate, 1)
	if !strings.Contains(log.String(), "refused") || strings.Contains(log.String(), "hunter2") {
		t.Errorf("logged:\n%s", log)
	}
}

// Somebody who speaks something else than HTTP may repeat what was sent.
func TestAnAnswerThatIsNoHTTPIsKeptOutOfTheLog(t *testing.T) {
	noChain(t)
	for name, answer := range map[string]string{
		"the request":          "POST /Hello HTTP/1.1\r\nHost: Hello\r\n\r\n",
		"no status":            "HTTP/1.1 Hello\r\n\r\n",
		"a line in the head":   "HTTP/1.1 200 OK\r\nHello\r\n\r\n",
		"no length":            "HTTP/1.1 200 OK\r\nContent-Length: Hello\r\n\r\n",
		"no transfer encoding": "HTTP/1.1 200 OK\r\nTransfer-Encoding: Hello\r\n\r\n",
		"no chunk":             "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nHello\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			url, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				c, _, _ := w.(http.Hijacker).Hijack()
				defer c.Close()
				io.WriteString(c, answer)
			})
			for _, h := range []Handler{{HTTP: &HTTP{URL: url + "/Hello"}}, {Lambda: &Lambda{Endpoint: url}}} {
				r, metrics, log := reviewer(t, h)
				want(t, ask(r, moderate, ivschat.FallbackAllow), fell, "no HTTP")
				wantSample(t, metrics, invocationErrors, moderate, 1)
				if !strings.Contains(log.String(), "reason=network") || strings.Contains(log.String(), "Hello") {
					t.Errorf("logged:\n%s", log)
				}
			}
		})
	}
}

// A handler that hangs, before its answer or within it, is cut off in time.
func TestAHandlerThatHangsIsCutOff(t *testing.T) {
	for name, begin := range map[string]string{
		"before the answer": "", "within the head": "HTTP/1.1 200 OK\r\nX-", "within the answer": "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
	} {
		t.Run(name, func(t *testing.T) {
			cut := make(chan struct{})
			url, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				c, _, _ := w.(http.Hijacker).Hijack()
				defer c.Close()
				io.WriteString(c, begin)
				io.Copy(io.Discard, c) // until the other side closes
				close(cut)
			})
			r, metrics, log := reviewer(t, Handler{HTTP: &HTTP{URL: url}}, func(o *Options) { o.Timeout = time.Second })
			began := time.Now()
			want(t, ask(r, moderate, ivschat.FallbackDeny), refused, "hangs")
			if took := time.Since(began); took < time.Second {
				t.Errorf("it took %v, want at least a second", took)
			}
			<-cut
			r.Close()
			wantSample(t, metrics, invocationErrors, moderate, 1)
			if !strings.Contains(log.String(), "reason=timeout") {
				t.Errorf("logged:\n%s", log)
			}
		})
	}
}

// Messages do not wait for one another, and keep their connections.
func TestInvocationsAreConcurrent(t *testing.T) {
	const messages = 50
	var together sync.WaitGroup
	together.Add(messages)
	url, connections := serve(t, func(w http.ResponseWriter, r *http.Request) {
		var request struct{ MessageId string }
		json.NewDecoder(r.Body).Decode(&request)
		if strings.HasPrefix(request.MessageId, "first") {
			together.Done()
			together.Wait() // all of them are here before the first is answered
		}
		fmt.Fprintf(w, `{"ReviewResult":"ALLOW","Content":%q}`, request.MessageId)
	})
	r, _, _ := reviewer(t, Handler{HTTP: &HTTP{URL: url}}, func(o *Options) { o.Concurrency = messages })
	all := func(kind string) {
		var answers []*answer
		for i := range messages {
			m := original
			m.ID = fmt.Sprint(kind, i)
			answers = append(answers, newAnswer())
			r.Review(moderate, ivschat.FallbackDeny, 500, m, answers[i].done)
		}
		for i, a := range answers {
			if v := <-a.verdict; v.Content != fmt.Sprint(kind, i) {
				t.Errorf("message %d got the verdict %+v", i, v)
			}
		}
	}
	all("first")
	for range 3 {
		all("later")
	}
	if n := connections.Load(); n > 2*messages { // a call may ask before the connection of another is back
		t.Errorf("%d connections for %d messages at once, want them to be reused", n, messages)
	}
}

func TestCloseEndsAnHTTPInvocation(t *testing.T) {
	asked := make(chan struct{})
	url, _ := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		close(asked)
		<-r.Context().Done()
	})
	r, metrics, _ := reviewer(t, Handler{HTTP: &HTTP{URL: url}})
	a := newAnswer()
	r.Review(moderate, ivschat.FallbackAllow, 500, original, a.done)
	<-asked
	r.Close()
	v, ok := a.now()
	if !ok {
		t.Fatal("no verdict")
	}
	want(t, v, fell, "closed")
	wantSample(t, metrics, invocationErrors, moderate, 0)
}

// What the handler answers is compressed only if it wants to be refused.
func TestAnAnswerIsNotInflated(t *testing.T) {
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if e := r.Header.Get("Accept-Encoding"); slices.Contains(strings.Split(e, ", "), "gzip") {
			t.Errorf("it is asked for %s", e)
		}
		w.Header().Set("Content-Encoding", "gzip")
		w.Write(bytes.Repeat([]byte{0x1f, 0x8b}, 100))
	})
	for _, h := range []Handler{{HTTP: &HTTP{URL: url}}, {Lambda: &Lambda{Endpoint: url}}} {
		r, metrics, _ := reviewer(t, h)
		want(t, ask(r, moderate, ivschat.FallbackAllow), fell, "compressed")
		wantSample(t, metrics, validationErrors, moderate, 1)
	}
}

// BenchmarkInvocation is what one review costs us, with a server that answers at
// once in the same process.
func BenchmarkInvocation(b *testing.B) {
	s := httptest.NewServer(text(allows))
	defer s.Close()
	for name, h := range map[string]Handler{"http": {HTTP: &HTTP{URL: s.URL}}, "lambda": {Lambda: &Lambda{Endpoint: s.URL}}} {
		b.Run("handler="+name, func(b *testing.B) {
			r, err := New(b.Context(), Options{Handlers: map[string]Handler{moderate: h}, DevCredentials: devCredentials})
			if err != nil {
				b.Fatal(err)
			}
			defer r.Close()
			b.ReportAllocs()
			for b.Loop() {
				if !ask(r, moderate, ivschat.FallbackDeny).Allowed {
					b.Fatal("no verdict")
				}
			}
		})
	}
}
