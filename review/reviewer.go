package review

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/prometheus/client_golang/prometheus"

	"hubbub/ivschat"
)

// The defaults of Options. Source: spec review-handler 4.
const (
	DefaultTimeout     = 200 * time.Millisecond
	DefaultConcurrency = 256
)

// maxHandlers bounds the ARNs that are remembered beside the configured ones:
// with a default, rooms may name any. The idle ones go first.
const maxHandlers = 4096

// Options are the settings of a Reviewer.
type Options struct {
	// Timeout is the longest that a review takes, from the start of its
	// invocation; 0 = DefaultTimeout.
	// Source: quotas, "Message review handler timeout", 200 ms.
	Timeout time.Duration
	// Concurrency is the most invocations of one handler at once; 0 =
	// DefaultConcurrency.
	Concurrency int
	// Handlers says where handlers live, by the ARN that rooms name, version or
	// alias included.
	Handlers map[string]Handler
	// Default is the handler of every other ARN; nil = there is none.
	Default *Handler
	// DevCredentials sign the requests to Lambda handlers that have an Endpoint
	// if the AWS SDK's usual chain has none; nil = there are no others. With
	// them, the chain does not ask for those of a cloud machine, so that a
	// laptop does not wait for an answer that cannot come.
	DevCredentials aws.CredentialsProvider

	Log     *slog.Logger          // nil = slog.Default()
	Metrics prometheus.Registerer // nil = none
	Now     func() time.Time      // the breaker's clock; nil = time.Now
}

// Message is a message to review. It is not changed, and must not change until
// the verdict is there.
type Message struct {
	ID         string
	Room       ivschat.ARN
	Content    string
	Attributes map[string]string // nil = none
	Sender     ivschat.Sender
	IP         netip.Addr // of the sender
}

// Verdict is what becomes of a message.
type Verdict struct {
	Allowed    bool
	Content    string            // of the message if it is allowed
	Attributes map[string]string // likewise; nil = none
	Reason     string            // for the sender's eyes if it is not allowed
}

// Reviewer reviews messages. Its methods may be called from many goroutines.
type Reviewer struct {
	// Set by New, read-only after.
	timeout     time.Duration
	concurrency int
	byDefault   *target // nil: unknown ARNs have no handler
	now         func() time.Time
	log         *slog.Logger
	metrics     *metrics
	ctx         context.Context // ends with Close
	cancel      context.CancelFunc
	idle        []func() // close connections that are not in use

	// Shared: reviews, invocations, their timers, and what New started.
	running sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	handlers map[string]*handler // by ARN: the configured ones, and others that rooms named
	others   int                 // of them not configured
}

// target is what a Handler was made into: a caller or rules.
type target struct {
	caller caller
	rules  *ruleSet
}

// caller sends a request to a handler and returns its answer, not yet parsed
// and at most one byte longer than maxResponseBytes. Its errors are *failure.
type caller interface {
	call(ctx context.Context, uri string, room ivschat.ARN, request []byte) ([]byte, error)
}

// handler is what is known of one ARN. Its groups belong to Reviewer.mu, but
// for the first.
type handler struct {
	uri        string
	configured bool // by its ARN: never forgotten
	target
	metrics handlerMetrics

	running int // invocations that have not returned
	used    time.Time
	breaker breaker

	reported time.Time // when a failure was last logged
	failures int       // since then
}

// New makes a Reviewer. It does not ask any handler; credentials are fetched in
// the background, so that the first message need not wait for them. ctx ends
// New, not the Reviewer: Close does.
func New(ctx context.Context, o Options) (*Reviewer, error) {
	r := newReviewer(o)
	b := builder{ctx: ctx, options: o, reviewer: r}
	for _, uri := range slices.Sorted(maps.Keys(o.Handlers)) {
		t, err := b.target(o.Handlers[uri])
		if err != nil {
			r.Close()
			return nil, fmt.Errorf("review handler %s: %w", uri, err)
		}
		r.add(&handler{uri: uri, configured: true, target: t})
	}
	if o.Default != nil {
		t, err := b.target(*o.Default)
		if err != nil {
			r.Close()
			return nil, fmt.Errorf("default review handler: %w", err)
		}
		r.byDefault = &t
	}
	return r, nil
}

// newReviewer makes one without handlers.
func newReviewer(o Options) *Reviewer {
	r := &Reviewer{
		timeout:     cmp.Or(o.Timeout, DefaultTimeout),
		concurrency: cmp.Or(o.Concurrency, DefaultConcurrency),
		now:         o.Now,
		log:         o.Log,
		metrics:     newMetrics(o.Metrics),
		handlers:    map[string]*handler{},
	}
	if r.now == nil {
		r.now = time.Now
	}
	if r.log == nil {
		r.log = slog.Default()
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

// add makes a handler known. r.mu is held, or nobody else knows of r yet.
func (r *Reviewer) add(h *handler) {
	h.metrics = r.metrics.of(h)
	r.handlers[h.uri] = h
	if !h.configured {
		r.others++
	}
}

// Accepts says whether the ARN leads to a handler, for whoever is about to name
// it in a room.
func (r *Reviewer) Accepts(uri string) bool {
	if r.byDefault != nil {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.handlers[uri]
	return h != nil && h.configured
}

// Close ends the invocations under way, whose messages get the fallback, and
// returns when nothing of the Reviewer runs any more, calls of done included.
// Later reviews get the fallback, too. It must not be called by done.
func (r *Reviewer) Close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.cancel()
	r.running.Wait()
	for _, closeIdle := range r.idle {
		closeIdle()
	}
}

// Review finds the verdict on a message to a room whose handler is uri. It never
// blocks. It calls done exactly once: before it returns if rules decide, or the
// fallback does since the handler is unknown, busy, or known to fail; otherwise
// from another goroutine, at the latest when the time is up. maxLength is the
// room's maximumMessageLength, for what the handler makes of the content.
//
// The fallback ALLOW delivers the message as it was sent; DENY has a fixed text.
func (r *Reviewer) Review(uri string, fallback ivschat.FallbackResult, maxLength int, m Message, done func(Verdict)) {
	v := &invocation{r: r, began: time.Now(), fallback: fallback, maxLength: maxLength, message: m, done: done}
	call, err := r.begin(v, uri)
	if !errors.Is(err, errClosed) {
		defer r.running.Done()
	}
	switch {
	case err != nil:
		v.fall(err)
	case call:
		v.start()
	default:
		content, reason := v.handler.rules.review(m.Content)
		if reason != "" {
			v.settle(deny, Verdict{Reason: reason})
			return
		}
		v.settle(allow, Verdict{Allowed: true, Content: content, Attributes: m.Attributes})
	}
}

var (
	errClosed  = errors.New("the reviewer is closed")
	errSkipped = errors.New("the handler is not called for a while")
	errUnknown = &failure{reason: noHandler}
	errBusy    = &failure{reason: tooMany}
)

// begin finds the handler and takes a place in it if it must be called. Unless
// the error is errClosed, the caller must end its part of r.running.
func (r *Reviewer) begin(v *invocation, uri string) (call bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false, errClosed
	}
	r.running.Add(1)
	h := r.handlers[uri]
	if h == nil {
		h = &handler{uri: uri}
		if r.byDefault != nil {
			h.target = *r.byDefault
		}
		if r.others >= maxHandlers {
			r.forget()
		}
		r.add(h)
	}
	v.handler = h
	h.used = v.began
	switch {
	case h.rules != nil:
		return false, nil
	case h.caller == nil:
		return false, errUnknown
	case h.breaker.skips(r.now()):
		return false, errSkipped
	case h.running >= r.concurrency:
		return false, errBusy
	}
	h.running++
	v.epoch = h.breaker.begin()
	return true, nil
}

// forget drops half of the handlers that only rooms named, those that have been
// idle longest. One that is being asked stays; there are only so many of them.
func (r *Reviewer) forget() {
	var idle []*handler
	for _, h := range r.handlers {
		if !h.configured && h.running == 0 {
			idle = append(idle, h)
		}
	}
	slices.SortFunc(idle, func(a, b *handler) int { return a.used.Compare(b.used) })
	for _, h := range idle[:(len(idle)+1)/2] {
		delete(r.handlers, h.uri)
		r.others--
		r.metrics.forget(h.uri)
	}
}
