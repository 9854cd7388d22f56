package review

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// outcome is how a review ended, as the metric calls it.
type outcome string

const (
	allow         outcome = "allow"
	deny          outcome = "deny"
	fallbackAllow outcome = "fallback_allow"
	fallbackDeny  outcome = "fallback_deny"
)

// metrics are those of the service, and our own.
type metrics struct {
	invocation, validation, function, skipped *prometheus.CounterVec
	open                                      *prometheus.GaugeVec
	seconds                                   map[outcome]prometheus.Observer
}

// newMetrics registers them; r may be nil.
func newMetrics(r prometheus.Registerer) *metrics {
	counter := func(name, help string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"uri"})
		if r != nil {
			r.MustRegister(c)
		}
		return c
	}
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "hubbub_review_seconds", Help: "Time from a message to its verdict, by verdict.",
		Buckets: []float64{.0001, .001, .005, .01, .025, .05, .075, .1, .15, .2, .25, .5, 1, 2.5},
	}, []string{"verdict"})
	m := &metrics{
		invocation: counter("hubbub_review_invocation_errors_total", "Invocations of a review handler that failed or ran out of time (InvocationErrors)."),
		validation: counter("hubbub_review_response_validation_errors_total", "Answers of a review handler that were invalid (ResponseValidationErrors)."),
		function:   counter("hubbub_review_function_errors_total", "Invocations that the function of a review handler answered with an error of its own."),
		skipped:    counter("hubbub_review_skipped_total", "Messages whose review handler was not called since it had only failed before."),
		open:       prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "hubbub_review_circuit_open", Help: "1 while a review handler is not called since it had only failed before."}, []string{"uri"}),
		seconds:    map[outcome]prometheus.Observer{},
	}
	if r != nil {
		r.MustRegister(m.open, seconds)
	}
	for _, o := range []outcome{allow, deny, fallbackAllow, fallbackDeny} {
		m.seconds[o] = seconds.WithLabelValues(string(o))
	}
	return m
}

func (m *metrics) observe(o outcome, took time.Duration) { m.seconds[o].Observe(took.Seconds()) }

// of are a handler's own; those without a meaning for it are nil and not shown.
func (m *metrics) of(h *handler) handlerMetrics {
	if h.rules != nil {
		return handlerMetrics{}
	}
	own := handlerMetrics{invocation: m.invocation.WithLabelValues(h.uri)}
	if h.caller == nil {
		return own
	}
	own.validation, own.function = m.validation.WithLabelValues(h.uri), m.function.WithLabelValues(h.uri)
	own.skipped, own.open = m.skipped.WithLabelValues(h.uri), m.open.WithLabelValues(h.uri)
	return own
}

type handlerMetrics struct {
	invocation, validation, function, skipped prometheus.Counter
	open                                      prometheus.Gauge
}

// forget ends the series of a handler.
func (m *metrics) forget(uri string) {
	for _, c := range []*prometheus.CounterVec{m.invocation, m.validation, m.function, m.skipped} {
		c.DeleteLabelValues(uri)
	}
	m.open.DeleteLabelValues(uri)
}
