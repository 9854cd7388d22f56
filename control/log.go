package control

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"golang.org/x/time/rate"
)

// finish counts the request and writes its log record: one a request. Errors of
// ours are written at level error with their cause; calls, refusals included, at
// info; what a stranger can cause at will at info too, but so many a second
// only. A request that its caller gave up is nobody's error.
func (h *Handler) finish(r *http.Request, c *call, a answer) {
	now := h.now()
	took := now.Sub(c.began)
	h.metrics.count(c.operation, a.kind, took)

	level := slog.LevelInfo
	gone := errors.Is(a.cause, context.Canceled) && r.Context().Err() != nil
	switch {
	case gone:
	case a.cause != nil:
		level = slog.LevelError
	case c.principal == nil: // whatever a stranger sends
		level = h.strangers.level(now)
	}
	ctx := context.WithoutCancel(r.Context())
	if !h.log.Enabled(ctx, level) {
		return
	}
	attributes := make([]slog.Attr, 0, 12)
	attributes = append(attributes,
		slog.String("request_id", c.requestID),
		slog.String("operation", label(c.operation)),
		slog.Int("status", a.status))
	if a.kind != "" {
		attributes = append(attributes, slog.String("error", string(a.kind)))
	}
	if c.principal != nil {
		attributes = append(attributes, slog.String("principal", c.principal.ARN), slog.String("region", c.scope.Region))
	}
	attributes = append(attributes, slog.Duration("took", took), slog.Int("bytes", len(a.body)))
	if c.why != "" {
		attributes = append(attributes, slog.String("why", c.why))
	}
	if gone {
		attributes = append(attributes, slog.Bool("gone", true))
	} else if a.cause != nil {
		attributes = append(attributes, slog.Any("err", a.cause))
	}
	h.log.LogAttrs(ctx, level, "request", attributes...)
}

// label is the operation's name for log and metrics; "other" for what is none.
func label(o *operation) string {
	if o == nil {
		return "other"
	}
	return string(o.name)
}

// frequency keeps what others can cause at will from flooding the log: so many
// records a second are written at level info, the rest at debug. What was left
// out is still counted by the metrics.
type frequency struct{ limiter *rate.Limiter }

func newFrequency(perSecond float64, burst int) *frequency {
	return &frequency{rate.NewLimiter(rate.Limit(perSecond), burst)}
}

func (f *frequency) level(now time.Time) slog.Level {
	if f.limiter.AllowN(now, 1) {
		return slog.LevelInfo
	}
	return slog.LevelDebug
}
