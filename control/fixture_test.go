package control

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/go-json-experiment/json"
	"github.com/prometheus/client_golang/prometheus"

	"hubbub/chattoken"
	"hubbub/engine"
	"hubbub/iam"
	"hubbub/ivschat"
	"hubbub/quota"
	"hubbub/registry"
	"hubbub/sigv4"
)

const (
	account = "123456789012"
	region  = "us-west-2"
	unmade  = "AbCdEf123456" // the id of nothing
	lambda  = "arn:aws:lambda:us-west-2:123456789012:function:moderate"
)

var (
	scope = ivschat.Scope{Account: account, Region: region}
	noon  = time.Date(2026, 11, 24, 12, 0, 0, 123_456_789, time.UTC)
	admin = aws.Credentials{AccessKeyID: "AKIAADMIN00000000000", SecretAccessKey: "the secret of the administrator"}
)

// sent is one call that a Messenger got.
type sent struct {
	operation  ivschat.Operation
	room       ivschat.ARN
	what       string // event name, message id or user id
	reason     string
	attributes map[string]string
}

// messenger records what it gets, and knows the rooms as the hub does.
type messenger struct {
	registry *registry.Registry
	fail     error // answers every call, if set

	mu   sync.Mutex
	sent []sent
}

func (m *messenger) take(s sent) error {
	if m.fail != nil {
		return m.fail
	}
	if _, err := m.registry.Room(s.room); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sent = append(m.sent, s)
	return nil
}

func (m *messenger) SendEvent(_ context.Context, room ivschat.ARN, name string, attributes map[string]string) (string, error) {
	return "eventEVENT01", m.take(sent{ivschat.OpSendEvent, room, name, "", attributes})
}

func (m *messenger) DeleteMessage(_ context.Context, room ivschat.ARN, id, reason string) (string, error) {
	return "operationID1", m.take(sent{ivschat.OpDeleteMessage, room, id, reason, nil})
}

func (m *messenger) DisconnectUser(_ context.Context, room ivschat.ARN, userID, reason string) error {
	return m.take(sent{ivschat.OpDisconnectUser, room, userID, reason, nil})
}

// output is a buffer that a log may write to from many goroutines.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// fixture is a control plane on the real parts, but for a Messenger that records.
type fixture struct {
	*Handler
	tb        testing.TB
	engine    *engine.Engine
	messenger *messenger
	said      *output // the log
	gathered  *prometheus.Registry
	accept    func(uri string) bool // review handlers

	// What the next call sees.
	at      time.Time
	caller  aws.Credentials
	policy  *iam.Snapshot
	region  string // that it is signed for
	peer    string
	headers map[string]string // of the next call; not signed
}

type setting func(*fixture, *Options)

func withLimits(l quota.Limits) setting {
	return func(_ *fixture, o *Options) { o.Quota = quota.New(l) }
}

func open(tb testing.TB, settings ...setting) *fixture {
	tb.Helper()
	ctx := context.Background()
	e, err := engine.Open(ctx, engine.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := e.Close(ctx); err != nil {
			tb.Error(err)
		}
	})
	keys, err := e.Bucket(ctx, engine.KeysBucket)
	if err != nil {
		tb.Fatal(err)
	}
	f := &fixture{tb: tb, engine: e, said: &output{}, gathered: prometheus.NewRegistry(), at: noon, caller: admin, region: region, peer: "198.51.100.7:4321",
		accept: func(uri string) bool { return uri == lambda }}
	now := func() time.Time { return f.at }
	o := Options{
		IAM: func() *iam.Snapshot { return f.policy }, Quota: quota.New(quota.None()), Verifier: &sigv4.Verifier{},
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
		Log:            slog.New(slog.NewJSONHandler(f.said, nil)), Metrics: f.gathered, Now: now,
	}
	f.policy = iam.Dev(account, admin.AccessKeyID, admin.SecretAccessKey)
	for _, s := range settings {
		s(f, &o)
	}
	if o.Tokens, err = chattoken.OpenKeyRing(ctx, keys); err != nil {
		tb.Fatal(err)
	}
	o.Registry, err = registry.Open(ctx, registry.Options{Engine: e, Limits: o.Quota.Limits(), Now: now, AcceptHandler: f.accept})
	if err != nil {
		tb.Fatal(err)
	}
	f.messenger = &messenger{registry: o.Registry}
	o.Messenger = f.messenger
	f.Handler = New(o)
	return f
}

// request is a signed request as net/http reads it off the wire.
func (f *fixture) request(method, target, body string) *http.Request {
	f.tb.Helper()
	out, err := http.NewRequest(method, "http://chat.example:4880"+target, strings.NewReader(body))
	if err != nil {
		f.tb.Fatal(err)
	}
	if body != "" {
		out.Header.Set("Content-Type", "application/json")
	}
	if f.caller.AccessKeyID != "" {
		sum := sha256.Sum256([]byte(body))
		if err := v4.NewSigner().SignHTTP(context.Background(), f.caller, out, hex.EncodeToString(sum[:]), "ivschat", f.region, f.at); err != nil {
			f.tb.Fatal(err)
		}
	}
	for name, value := range f.headers {
		out.Header.Set(name, value)
	}
	var wire bytes.Buffer
	if err := out.Write(&wire); err != nil {
		f.tb.Fatal(err)
	}
	in, err := http.ReadRequest(bufio.NewReader(&wire))
	if err != nil {
		f.tb.Fatal(err)
	}
	in.RemoteAddr = f.peer
	return in
}

// reply is an answer as its caller reads it.
type reply struct {
	status int
	header http.Header
	body   string
	json   map[string]any
}

var uuidPattern = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// send serves the request and checks what holds of every answer.
func (f *fixture) send(r *http.Request) reply {
	f.tb.Helper()
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	got := reply{status: w.Code, header: w.Header(), body: w.Body.String()}
	if !uuidPattern.MatchString(got.header.Get("x-amzn-RequestId")) {
		f.tb.Errorf("x-amzn-RequestId is %q", got.header.Get("x-amzn-RequestId"))
	}
	if date := got.header.Get("Date"); date != f.at.UTC().Format(http.TimeFormat) {
		f.tb.Errorf("Date is %q at %v: SDKs set their clock by it", date, f.at)
	}
	if got.status == http.StatusNoContent {
		if got.body != "" || got.header["Content-Type"] != nil {
			f.tb.Errorf("a 204 with body %q and Content-Type %q", got.body, got.header["Content-Type"])
		}
		return got
	}
	if got.header.Get("Content-Type") != "application/json" || got.header.Get("Content-Length") != fmt.Sprint(len(got.body)) {
		f.tb.Errorf("headers %v for a body of %d bytes", got.header, len(got.body))
	}
	if err := json.Unmarshal([]byte(got.body), &got.json); err != nil {
		f.tb.Fatalf("the body is no JSON object: %v: %s", err, got.body)
	}
	if got.status != http.StatusOK {
		f.checkError(got)
	} else if got.header["X-Amzn-Errortype"] != nil {
		f.tb.Error("a success with an error's name")
	}
	return got
}

var errorStatus = map[string]int{ // spec control-plane 3.1, iam A.5
	"ValidationException": 400, "AccessDeniedException": 403, "PendingVerification": 403, "ResourceNotFoundException": 404, "ConflictException": 409,
	"ServiceQuotaExceededException": 402, "ThrottlingException": 429, "InternalServerException": 500, "ServiceUnavailableException": 503,
	"RequestEntityTooLargeException": 413, "MissingAuthenticationTokenException": 403, "IncompleteSignatureException": 403,
	"UnrecognizedClientException": 403, "ExpiredTokenException": 403, "InvalidSignatureException": 403,
}

var idPattern = regexp.MustCompile(`^[a-zA-Z0-9]+$`)

// checkError checks that an error has what the API model requires of it.
func (f *fixture) checkError(got reply) {
	f.tb.Helper()
	name := got.header.Get("x-amzn-ErrorType")
	if want, ok := errorStatus[name]; !ok || want != got.status {
		f.tb.Errorf("%q with status %d, want %d", name, got.status, want)
	}
	if got.json["__type"] != name || got.json["message"] == "" || got.json["message"] == nil {
		f.tb.Errorf("%s: __type and message: %s", name, got.body)
	}
	want := map[string]bool{"__type": true, "message": true}
	switch name {
	case "ValidationException":
		want["reason"] = true
		switch got.json["reason"] {
		case "FIELD_VALIDATION_FAILED":
			want["fieldList"] = true
		case "UNKNOWN_OPERATION", "OTHER":
		default:
			f.tb.Errorf("reason %v", got.json["reason"])
		}
	case "ServiceQuotaExceededException", "ThrottlingException":
		want["limit"] = true
		fallthrough
	case "ResourceNotFoundException", "ConflictException":
		want["resourceId"], want["resourceType"] = true, true
		if id, _ := got.json["resourceId"].(string); !idPattern.MatchString(id) || got.json["resourceType"] != "ROOM" {
			f.tb.Errorf("%s: resourceId %v, resourceType %v", name, got.json["resourceId"], got.json["resourceType"])
		}
	}
	for member := range want {
		if _, ok := got.json[member]; !ok {
			f.tb.Errorf("%s without its %s: %s", name, member, got.body)
		}
	}
	for member := range got.json {
		if !want[member] {
			f.tb.Errorf("%s with a %s: %s", name, member, got.body)
		}
	}
}

// call signs and sends an operation by its name.
func (f *fixture) call(o ivschat.Operation, body string) reply {
	f.tb.Helper()
	return f.send(f.request("POST", "/"+string(o), body))
}

// ok is call that must succeed.
func (f *fixture) ok(o ivschat.Operation, format string, args ...any) reply {
	f.tb.Helper()
	got := f.call(o, fmt.Sprintf(format, args...))
	if got.status >= 300 {
		f.tb.Fatalf("%s %s: %d %s", o, fmt.Sprintf(format, args...), got.status, got.body)
	}
	return got
}

// refused checks the name of an error.
func (f *fixture) refused(got reply, k ivschat.Kind) {
	f.tb.Helper()
	if name := got.header.Get("x-amzn-ErrorType"); name != string(k) {
		f.tb.Errorf("got %d %s, want %s", got.status, got.body, k)
	}
}

func (f *fixture) room() ivschat.ARN {
	f.tb.Helper()
	return ivschat.ARN(f.ok(ivschat.OpCreateRoom, `{}`).json["arn"].(string))
}

func (f *fixture) configuration() ivschat.ARN {
	f.tb.Helper()
	return ivschat.ARN(f.ok(ivschat.OpCreateLoggingConfiguration, `{"destinationConfiguration":{"s3":{"bucketName":"bucket"}}}`).json["arn"].(string))
}

func fields(got reply) (names []string) {
	list, _ := got.json["fieldList"].([]any)
	for _, f := range list {
		names = append(names, f.(map[string]any)["name"].(string))
	}
	return names
}

var errStore = errors.New("disk on fire at /var/lib/secret")

func decode(tb testing.TB, text string) (m map[string]any) {
	tb.Helper()
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		tb.Fatalf("no JSON object: %v: %s", err, text)
	}
	return m
}

func body(text string) io.ReadCloser { return io.NopCloser(strings.NewReader(text)) }

// failing is a body that cannot be read.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
func (f failing) Close() error             { return nil }
