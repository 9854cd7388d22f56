package control

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"hubbub/chattoken"
	"hubbub/iam"
	"hubbub/ivschat"
	"hubbub/quota"
	"hubbub/registry"
	"hubbub/sigv4"
)

// DefaultTokenLifetime is the validity of a chat token unless Options says
// otherwise. Source: spec control-plane 9.5.
const DefaultTokenLifetime = time.Hour

// Messenger is the messaging plane as the control plane uses it. A room without
// viewers takes everything; one that does not exist refuses with NotFound.
type Messenger interface {
	// SendEvent sends everybody in the room an event and returns its id. nil
	// attributes are none.
	SendEvent(ctx context.Context, room ivschat.ARN, name string, attributes map[string]string) (id string, err error)
	// DeleteMessage tells everybody in the room to take a message down and
	// returns the id of the operation. An absent reason is "".
	DeleteMessage(ctx context.Context, room ivschat.ARN, id, reason string) (operation string, err error)
	// DisconnectUser ends all connections of the user to the room; that there
	// are none is a success. An absent reason is "".
	DisconnectUser(ctx context.Context, room ivschat.ARN, userID, reason string) error
}

// Verifier says whose request it is: sigv4.Verifier, and in the benchmark's floor
// one that believes everybody.
type Verifier interface {
	Verify(r *http.Request, body []byte, now time.Time, lookup func(accessKeyID string) (sigv4.Key, bool)) (sigv4.Identity, error)
}

// Options are what a control plane is built from. The first five members are
// required.
type Options struct {
	Registry  *registry.Registry
	Messenger Messenger
	Tokens    *chattoken.KeyRing
	IAM       func() *iam.Snapshot // the policies as they are now; asked once a request
	Quota     *quota.Counters

	Verifier       Verifier       // nil means the zero sigv4.Verifier
	TokenLifetime  time.Duration  // validity of a chat token; 0 means DefaultTokenLifetime
	TrustedProxies []netip.Prefix // whose X-Forwarded-For and X-Forwarded-Proto are believed

	Log     *slog.Logger          // nil discards
	Metrics prometheus.Registerer // nil keeps them unregistered
	Now     func() time.Time      // nil means time.Now
}

// Handler answers the operations of the control plane. It may be used from many
// goroutines.
type Handler struct {
	registry      *registry.Registry
	messenger     Messenger
	tokens        *chattoken.KeyRing
	iam           func() *iam.Snapshot
	quota         *quota.Counters
	eventBytes    int // ivschat.SendEventRequest.AttributesLimit
	verifier      Verifier
	tokenLifetime time.Duration
	bodyLimit     time.Duration
	proxies       []netip.Prefix
	log           *slog.Logger
	strangers     *frequency
	metrics       *metrics
	now           func() time.Time
}

// New makes the handler of the control plane's listener.
func New(o Options) *Handler {
	h := &Handler{
		registry: o.Registry, messenger: o.Messenger, tokens: o.Tokens, iam: o.IAM,
		quota: o.Quota, eventBytes: o.Quota.Limits().EventAttributes(),
		verifier: o.Verifier, tokenLifetime: o.TokenLifetime, bodyLimit: bodyLimit, proxies: o.TrustedProxies,
		log: o.Log, strangers: newFrequency(10, 50), metrics: newMetrics(o.Metrics), now: o.Now,
	}
	if h.verifier == nil {
		h.verifier = new(sigv4.Verifier)
	}
	if h.tokenLifetime == 0 {
		h.tokenLifetime = DefaultTokenLifetime
	}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	h.log = h.log.With("component", "control")
	if h.now == nil {
		h.now = time.Now
	}
	return h
}

// answer is what goes back to the caller.
type answer struct {
	status int
	kind   ivschat.Kind // of the error; "" for a success
	body   []byte       // JSON; empty for a 204
	cause  error        // for the log: what made it an internal error
}

// ServeHTTP takes one request through the pipeline.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{requestID: uuid.NewString(), began: h.now()}
	a := h.answer(w, r, c)

	header := w.Header()
	header["X-Amzn-Requestid"] = []string{c.requestID}
	header["Date"] = []string{h.now().UTC().Format(http.TimeFormat)} // SDKs set their clock by it
	if a.kind != "" {
		header["X-Amzn-Errortype"] = []string{string(a.kind)}
	}
	if len(a.body) > 0 {
		header["Content-Type"] = []string{"application/json"}
		header["Content-Length"] = []string{strconv.Itoa(len(a.body))}
	}
	if !c.read && r.ContentLength != 0 {
		// Else net/http waits for the body that was refused before it answers.
		header["Connection"] = []string{"close"}
	}
	w.WriteHeader(a.status)
	if len(a.body) > 0 {
		_, _ = w.Write(a.body) // who does not take the answer is gone
	}
	h.finish(r, c, a)
}

// answer runs the pipeline. A panic of it ends the request, not the node.
func (h *Handler) answer(w http.ResponseWriter, r *http.Request, c *call) (a answer) {
	defer func() {
		if p := recover(); p != nil {
			h.log.LogAttrs(r.Context(), slog.LevelError, "panic in a request",
				slog.String("request_id", c.requestID), slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
			a = render(c, errPanic)
		}
	}()
	body := bodies.Get().(*bytes.Buffer)
	defer bodies.Put(body)
	body.Reset()
	out, err := h.serve(w, r, c, body)
	if err != nil {
		return render(c, err)
	}
	if c.operation.status == http.StatusNoContent {
		return answer{status: http.StatusNoContent}
	}
	encoded, err := ivschat.Encode(out)
	if err != nil {
		return render(c, err)
	}
	return answer{status: c.operation.status, body: encoded}
}

// bodies are buffers of request bodies. Nothing of a decoded request points into
// its body.
var bodies = sync.Pool{New: func() any { return new(bytes.Buffer) }}
