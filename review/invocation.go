package review

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"

	"hubbub/ivschat"
)

// failureReason is why a handler gave no verdict, for the log. All but the last
// two are invocation errors.
type failureReason string

const (
	timedOut        failureReason = "timeout"
	network         failureReason = "network" // or an answer that was cut off
	badStatus       failureReason = "status"  // other than 200
	noCredentials   failureReason = "no_credentials"
	tooMany         failureReason = "too_many_invocations"
	noHandler       failureReason = "no_handler" // the configuration has none for the ARN
	broken          failureReason = "panic"      // of ours
	functionError   failureReason = "function_error"
	invalidResponse failureReason = "invalid_response"
)

// failure is why a handler gave no verdict. Err holds nothing that a user wrote,
// and no URL; it may be nil.
type failure struct {
	reason failureReason
	err    error
}

func (f *failure) Error() string {
	if f.err == nil {
		return string(f.reason)
	}
	return string(f.reason) + ": " + f.err.Error()
}

func (f *failure) Unwrap() error { return f.err }

// invocation is the review of one message. Whoever settles it first, the call or
// the timer, decides; the other is not heard.
type invocation struct {
	// Set before the review starts, read-only after.
	r         *Reviewer
	handler   *handler // nil if the reviewer is closed
	epoch     int      // of its breaker
	began     time.Time
	fallback  ivschat.FallbackResult
	maxLength int
	message   Message
	done      func(Verdict)

	settled atomic.Bool
}

// start calls the handler on a goroutine of its own and looks at the clock.
func (v *invocation) start() {
	ctx, cancel := context.WithCancel(v.r.ctx)
	v.r.running.Add(2)
	timer := time.AfterFunc(v.r.timeout, func() {
		defer v.r.running.Done()
		v.fall(&failure{reason: timedOut})
		cancel()
	})
	go func() {
		defer v.r.running.Done()
		defer cancel()
		verdict, err := v.call(ctx)
		if timer.Stop() {
			v.r.running.Done()
		}
		v.r.returned(v.handler)
		switch {
		case err != nil && v.r.ctx.Err() != nil:
			v.fall(errClosed)
		case err != nil:
			v.fall(err)
		case verdict.Allowed:
			v.settle(allow, verdict)
		default:
			v.settle(deny, verdict)
		}
	}()
}

// call returns the handler's verdict, or a *failure.
func (v *invocation) call(ctx context.Context) (verdict Verdict, err error) {
	defer func() {
		if p := recover(); p != nil {
			v.r.log.Error("panic in a review", "handler", v.handler.uri, "stack", string(debug.Stack()))
			err = &failure{reason: broken}
		}
	}()
	m := &v.message
	request := ivschat.ReviewRequest{Content: m.Content, MessageID: m.ID, Room: m.Room, Attributes: m.Attributes, Sender: m.Sender, IP: m.IP}
	body, err := v.handler.caller.call(ctx, v.handler.uri, m.Room, request.Encode())
	if err != nil {
		return Verdict{}, err
	}
	verdict, err = parseResponse(body, v.maxLength, m.Attributes)
	if err != nil {
		return Verdict{}, &failure{reason: invalidResponse}
	}
	return verdict, nil
}

// returned gives a place in the handler back: when the call is really over, not
// when its time is.
func (r *Reviewer) returned(h *handler) {
	r.mu.Lock()
	defer r.mu.Unlock()
	h.running--
}

// settle passes a handler's verdict on, unless there is one.
func (v *invocation) settle(o outcome, verdict Verdict) {
	if !v.settled.CompareAndSwap(false, true) {
		return
	}
	if v.handler.caller != nil {
		v.answered()
	}
	v.r.metrics.observe(o, time.Since(v.began))
	v.done(verdict)
}

// fall gives the message its room's fallback, unless there is a verdict, and
// counts why.
func (v *invocation) fall(why error) {
	if !v.settled.CompareAndSwap(false, true) {
		return
	}
	v.count(why)
	took := time.Since(v.began)
	if v.fallback == ivschat.FallbackDeny {
		v.r.metrics.observe(fallbackDeny, took)
		v.done(Verdict{Reason: ivschat.TextRejected})
		return
	}
	v.r.metrics.observe(fallbackAllow, took)
	v.done(Verdict{Allowed: true, Content: v.message.Content, Attributes: v.message.Attributes})
}

// count tells the metrics, the breaker and the log why a message got the fallback.
func (v *invocation) count(why error) {
	var f *failure
	switch {
	case errors.Is(why, errClosed): // nobody's fault
		return
	case errors.Is(why, errSkipped):
		v.handler.metrics.skipped.Inc()
		return
	case !errors.As(why, &f):
		f = &failure{reason: network, err: why}
	}
	switch f.reason {
	case functionError:
		v.handler.metrics.function.Inc()
		v.answered()
	case invalidResponse:
		v.handler.metrics.validation.Inc()
		v.answered()
	case tooMany, noHandler: // nothing was called
		v.handler.metrics.invocation.Inc()
	default:
		v.handler.metrics.invocation.Inc()
		v.failed()
	}
	v.report(f)
}

func (v *invocation) answered() {
	r, h := v.r, v.handler
	r.mu.Lock()
	closed := h.breaker.answered(v.epoch)
	r.mu.Unlock()
	if closed {
		h.metrics.open.Set(0)
		r.log.Warn("review handler answers again", "handler", h.uri)
	}
}

func (v *invocation) failed() {
	r, h := v.r, v.handler
	r.mu.Lock()
	opened := h.breaker.failed(v.epoch, r.now())
	r.mu.Unlock()
	if opened {
		h.metrics.open.Set(1)
		r.log.Warn("review handler only fails and is not called for a while", "handler", h.uri, "failures", breakerFailures, "pause", breakerPause)
	}
}

// reportEvery is how often the failures of one handler are logged.
const reportEvery = time.Minute

// report logs a failure, or counts it for a later record.
func (v *invocation) report(f *failure) {
	r, h := v.r, v.handler
	now := r.now()
	r.mu.Lock()
	h.failures++
	failures, quiet := h.failures, !h.reported.IsZero() && now.Sub(h.reported) < reportEvery
	if !quiet {
		h.reported, h.failures = now, 0
	}
	r.mu.Unlock()
	if quiet {
		return
	}
	attrs := []slog.Attr{slog.String("handler", h.uri), slog.String("reason", string(f.reason)), slog.Int("failures", failures)}
	if f.err != nil {
		attrs = append(attrs, slog.String("err", fmt.Sprint(f.err)))
	}
	r.log.LogAttrs(context.Background(), slog.LevelWarn, "review handler gave no verdict", attrs...)
}
