// Package lambda is AWS Lambda for tests: the Invoke API in front of function
// processes that speak the Runtime API, as real function code does. Each process
// takes one event at a time; one that ends is started again, as Lambda makes a
// new environment.
//
//	client    POST /2015-03-31/functions/NAME/invocations
//	process   GET  /2018-06-01/runtime/invocation/next
//	process   POST /2018-06-01/runtime/invocation/ID/response, or /error
//
// Source: https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html and
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
package lambda

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// maxBytes is the most that an event or an answer has. Source: Lambda quotas.
const maxBytes = 6 << 20

// Server is Lambda with its functions.
type Server struct {
	URL string // of the Invoke API

	ctx       context.Context
	functions map[string]*function // by name
}

// function is the code of one name.
type function struct {
	command []string
	events  chan event // to whichever process asks next
	ids     atomic.Int64
}

// process is one environment of a function, with a Runtime API of its own.
type process struct {
	function *function

	mu      sync.Mutex
	waiting map[string]event // by request id: not answered yet
}

type event struct {
	id, arn string
	payload []byte
	answer  chan answer // of one
}

type answer struct {
	payload []byte
	failed  bool
}

// Start runs a server until the test ends: for each name, so many processes of
// the command.
func Start(t testing.TB, processes int, commands map[string][]string) *Server {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{ctx: ctx, functions: map[string]*function{}}
	var running sync.WaitGroup
	for name, command := range commands {
		f := &function{command: command, events: make(chan event)}
		s.functions[name] = f
		for range processes {
			running.Go(func() {
				for ctx.Err() == nil {
					f.run(ctx, t)
				}
			})
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /2015-03-31/functions/{name}/invocations", s.invoke)
	invoke := httptest.NewServer(mux)
	s.URL = invoke.URL
	t.Cleanup(func() {
		cancel()
		running.Wait()
		invoke.Close()
	})
	return s
}

// run is the life of a process. What it left unanswered has failed.
func (f *function) run(ctx context.Context, t testing.TB) {
	p := &process{function: f, waiting: map[string]event{}}
	api := httptest.NewServer(p.runtime())
	cmd := exec.CommandContext(ctx, f.command[0], f.command[1:]...)
	cmd.Env = append(os.Environ(), "AWS_LAMBDA_RUNTIME_API="+strings.TrimPrefix(api.URL, "http://"))
	if out, err := cmd.CombinedOutput(); ctx.Err() == nil {
		t.Logf("%s ended: %v\n%s", strings.Join(f.command, " "), err, out)
	}
	api.Close()
	for _, e := range p.waiting {
		e.answer <- answer{[]byte(`{"errorType":"Runtime.ExitError","errorMessage":"the process ended"}`), true}
	}
}

// invoke is the Invoke API. Where the caller says for whom it asks, a function of
// another account refuses it, as the usual resource policy does.
func (s *Server) invoke(w http.ResponseWriter, r *http.Request) {
	arn := r.PathValue("name")
	parts := strings.Split(arn, ":") // arn:aws:lambda:region:account:function:name, or the name alone
	name := parts[0]
	if len(parts) >= 7 {
		name = parts[6]
		account, auth := r.Header.Get("X-Amz-Source-Account"), r.Header.Get("Authorization")
		if account != parts[4] || !strings.Contains(auth, "x-amz-source-account") || !strings.Contains(auth, "x-amz-source-arn") {
			refuse(w, http.StatusForbidden, "AccessDeniedException", "no policy of the function allows it")
			return
		}
	}
	f := s.functions[name]
	if f == nil {
		refuse(w, http.StatusNotFound, "ResourceNotFoundException", "Function not found: "+arn)
		return
	}
	payload, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBytes))
	if err != nil {
		refuse(w, http.StatusRequestEntityTooLarge, "RequestTooLargeException", err.Error())
		return
	}
	e := event{id: fmt.Sprintf("8476a536-e9f4-11e8-9739-%012d", f.ids.Add(1)), arn: arn, payload: payload, answer: make(chan answer, 1)}
	select {
	case f.events <- e: // from here on the function runs, whether or not the caller waits
	case <-r.Context().Done():
		return
	}
	select {
	case a := <-e.answer:
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Amz-Executed-Version", "$LATEST")
		if a.failed {
			w.Header().Set("X-Amz-Function-Error", "Unhandled")
		}
		w.Write(a.payload)
	case <-r.Context().Done():
	case <-s.ctx.Done():
		refuse(w, http.StatusServiceUnavailable, "ServiceException", "it ends")
	}
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Amzn-ErrorType", code)
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"Type":"User","message":%q}`, message)
}

// take ends the waiting for an answer.
func (p *process) take(id string) (event, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e, ok := p.waiting[id]
	delete(p.waiting, id)
	return e, ok
}

// runtime is the Runtime API.
func (p *process) runtime() http.Handler {
	const invocation = "/2018-06-01/runtime/invocation/"
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+invocation+"next", func(w http.ResponseWriter, r *http.Request) {
		var e event
		select {
		case e = <-p.function.events:
		case <-r.Context().Done():
			return
		}
		p.mu.Lock()
		p.waiting[e.id] = e
		p.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Lambda-Runtime-Aws-Request-Id", e.id)
		w.Header().Set("Lambda-Runtime-Invoked-Function-Arn", e.arn)
		w.Header().Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(time.Now().Add(time.Minute).UnixMilli(), 10))
		w.Write(e.payload)
	})
	end := func(failed bool) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			payload, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBytes))
			if err != nil {
				http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
				return
			}
			e, ok := p.take(r.PathValue("id"))
			if !ok {
				http.Error(w, "no such request", http.StatusBadRequest)
				return
			}
			e.answer <- answer{payload, failed}
			w.WriteHeader(http.StatusAccepted)
		}
	}
	mux.HandleFunc("POST "+invocation+"{id}/response", end(false))
	mux.HandleFunc("POST "+invocation+"{id}/error", end(true))
	return mux
}
