package control

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hubbub/ivschat"
)

// metrics are those of the control plane. Operations that reach viewers are
// counted as messaging requests by the Messenger besides.
type metrics struct {
	requests *prometheus.CounterVec
	done     map[string]prometheus.Counter // requests without an error, by operation
	seconds  map[string]prometheus.Observer
}

// noError is the label of a success.
const noError = "none"

// newMetrics registers them, each operation from the start; r may be nil.
func newMetrics(r prometheus.Registerer) *metrics {
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "hubbub_control_requests_total",
		Help: "Requests to the control plane, by operation (other: none of the API) and by the name of the error they were answered with (none: success).",
	}, []string{"operation", "error"})
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "hubbub_control_request_seconds",
		Help:    "Time from a request's header to its answer, by operation.",
		Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1, 5},
	}, []string{"operation"})
	if r != nil {
		r.MustRegister(requests, seconds)
	}
	m := &metrics{requests: requests, done: map[string]prometheus.Counter{}, seconds: map[string]prometheus.Observer{}}
	for _, o := range append([]*operation{nil}, operations...) {
		name := label(o)
		m.seconds[name] = seconds.WithLabelValues(name)
		if o != nil {
			m.done[name] = requests.WithLabelValues(name, noError)
		}
	}
	return m
}

// count takes one request; kind is "" for a success.
func (m *metrics) count(o *operation, kind ivschat.Kind, took time.Duration) {
	name := label(o)
	m.seconds[name].Observe(took.Seconds())
	if kind == "" {
		m.done[name].Inc()
		return
	}
	m.requests.WithLabelValues(name, string(kind)).Inc()
}
