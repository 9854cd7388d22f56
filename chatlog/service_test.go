package chatlog_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// The credentials that every stand-in of a service wants.
const (
	serviceKey    = "AKIDCHATLOGS00000000"
	serviceSecret = "chat-logs-secret-that-no-text-may-show"
	serviceRegion = "us-west-2"
)

// fault is how a service fails. The zero value is no fault.
type fault struct {
	status     int
	code       string
	retryAfter string
	repeats    bool // the request stands in the message, as some proxies do it
	cut        bool // the connection ends without an answer
	after      bool // the request takes effect before the connection ends
	half       bool // the answer ends in its middle
	hangs      bool // until the client goes
	redirect   string
}

// service is a stand-in of an AWS service: it checks the signature of every
// request, as the service does, fails when it is told to, and hands the rest on.
type service struct {
	*httptest.Server
	name   string // in the scope of signatures
	handle func(w http.ResponseWriter, r *http.Request, body []byte)
	fails  func(w http.ResponseWriter, code, message string, status int)

	mu    sync.Mutex
	fault fault
	calls int
	wrong []string // what no request may have
}

func startService(t *testing.T, s *service) *service {
	t.Helper()
	s.Server = httptest.NewServer(s)
	t.Cleanup(func() {
		s.Close()
		for _, w := range s.wrong {
			t.Errorf("a request to %s: %s", s.name, w)
		}
	})
	return s
}

func (s *service) set(f fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// callsSince counts requests.
func (s *service) called() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

func (s *service) complain(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wrong = append(s.wrong, fmt.Sprintf(format, args...))
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	s.mu.Lock()
	s.calls++
	f := s.fault
	s.mu.Unlock()
	if why := s.verify(r, body); why != "" {
		s.fails(w, why, "The request signature we calculated does not match: "+r.Header.Get("Authorization"), http.StatusForbidden)
		return
	}
	switch {
	case f.hangs:
		<-r.Context().Done()
	case f.redirect != "":
		http.Redirect(w, r, f.redirect+r.URL.Path, http.StatusTemporaryRedirect)
	case f.cut:
		if f.after {
			s.handle(httptest.NewRecorder(), r, body)
		}
		panic(http.ErrAbortHandler)
	case f.half:
		recorder := httptest.NewRecorder()
		s.handle(recorder, r, body)
		w.Header().Set("Content-Length", "1000")
		w.WriteHeader(recorder.Code)
		_, _ = w.Write(recorder.Body.Bytes()[:recorder.Body.Len()/2])
		panic(http.ErrAbortHandler)
	case f.status != 0:
		message := "It does not work."
		if f.repeats {
			message = r.Header.Get("Authorization") + string(body)
		}
		if f.retryAfter != "" {
			w.Header().Set("Retry-After", f.retryAfter)
		}
		s.fails(w, f.code, message, f.status)
	default:
		s.handle(w, r, body)
	}
}

// verify signs the request again; the code of a refusal, or "".
func (s *service) verify(r *http.Request, body []byte) string {
	authorization, found := strings.CutPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ")
	if !found {
		return "MissingAuthenticationToken"
	}
	part := map[string]string{}
	for p := range strings.SplitSeq(authorization, ", ") {
		name, value, _ := strings.Cut(p, "=")
		part[name] = value
	}
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil {
		return "IncompleteSignature"
	}
	scope := strings.Split(part["Credential"], "/")
	if len(scope) != 5 || scope[2] != serviceRegion || scope[3] != s.name {
		s.complain("scope %s, want %s and %s", part["Credential"], serviceRegion, s.name)
		return "SignatureDoesNotMatch"
	}
	if scope[0] != serviceKey {
		return "InvalidAccessKeyId"
	}
	sum := sha256.Sum256(body)
	hash := hex.EncodeToString(sum[:])
	if h := r.Header.Get("X-Amz-Content-Sha256"); h != "" && h != hash {
		s.complain("X-Amz-Content-Sha256 is %s, and the body's hash %s", h, hash)
	}
	again, err := http.NewRequestWithContext(context.Background(), r.Method, "http://"+r.Host+r.URL.RequestURI(), nil)
	if err != nil {
		return "IncompleteSignature"
	}
	for h := range strings.SplitSeq(part["SignedHeaders"], ";") {
		switch h {
		case "host":
			again.Host = r.Host
		case "content-length":
			again.ContentLength = r.ContentLength
		default:
			again.Header[http.CanonicalHeaderKey(h)] = r.Header.Values(h)
		}
	}
	key := aws.Credentials{AccessKeyID: serviceKey, SecretAccessKey: serviceSecret}
	err = v4.NewSigner().SignHTTP(context.Background(), key, again, hash, s.name, serviceRegion, at, func(o *v4.SignerOptions) {
		o.DisableURIPathEscaping = s.name == "s3"
	})
	if err != nil || again.Header.Get("Authorization") != r.Header.Get("Authorization") {
		return "SignatureDoesNotMatch"
	}
	return ""
}

// operation answers a request of the JSON protocol, or refuses it.
type operation func(body []byte) (any, *exception)

type exception struct{ name, message string }

// jsonService is a service of AWS JSON 1.1.
func jsonService(name, target string, operations map[string]operation) *service {
	s := &service{name: name}
	s.fails = func(w http.ResponseWriter, code, message string, status int) {
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]string{"__type": code, "message": message})
	}
	s.handle = func(w http.ResponseWriter, r *http.Request, body []byte) {
		if got := r.Header.Get("Content-Type"); r.Method != http.MethodPost || r.URL.Path != "/" || got != "application/x-amz-json-1.1" {
			s.complain("%s %s of type %s", r.Method, r.URL.Path, got)
		}
		called, found := strings.CutPrefix(r.Header.Get("X-Amz-Target"), target+".")
		op := operations[called]
		if !found || op == nil {
			s.complain("target %q", r.Header.Get("X-Amz-Target"))
			s.fails(w, "UnknownOperationException", "", http.StatusBadRequest)
			return
		}
		out, refusal := op(body)
		if refusal != nil {
			s.fails(w, refusal.name, refusal.message, http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		_ = json.NewEncoder(w).Encode(out)
	}
	return s
}

// decode is strict: the service refuses members that it does not know.
func decode(body []byte, to any) *exception {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(to); err != nil {
		return &exception{"SerializationException", err.Error()}
	}
	return nil
}
