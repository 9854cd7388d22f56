package socket

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
)

// refusal is why a connection did not become a WebSocket.
type refusal string

// The refusals.
const (
	failedTLS    refusal = "tls"          // its handshake failed, or took too long
	noRequest    refusal = "no_request"   // went, or said nothing or too little in time
	full         refusal = "full"         // Config.MaxHandshakes, and none of them ends
	overdue      refusal = "overdue"      // its turn with the Handler did not come within Config.LineTimeout
	badRequest   refusal = "bad_request"  // not an upgrade
	tooLarge     refusal = "too_large"    // over Config.MaxHeader
	crowded      refusal = "crowded"      // turned out for a newer one
	undecided    refusal = "undecided"    // no decision within Config.AcceptTimeout
	unauthorized refusal = "unauthorized" // this and what follows: the Handler's decision, by its status
	forbidden    refusal = "forbidden"
	notFound     refusal = "not_found"
	tooMany      refusal = "too_many"
	unavailable  refusal = "unavailable"
	otherwise    refusal = "other"
)

var refusals = []refusal{failedTLS, noRequest, full, overdue, badRequest, tooLarge, crowded, undecided, unauthorized, forbidden, notFound, tooMany, unavailable, otherwise}

// byRequest is the reason of what is not an upgrade.
func byRequest(r *refusedRequest) refusal {
	if r.status == http.StatusRequestHeaderFieldsTooLarge {
		return tooLarge
	}
	return badRequest
}

// byDecision is the reason of a Handler that refused.
func byDecision(d decision) refusal {
	if d.why != "" {
		return d.why
	}
	switch d.status {
	case http.StatusUnauthorized:
		return unauthorized
	case http.StatusForbidden:
		return forbidden
	case http.StatusNotFound:
		return notFound
	case http.StatusTooManyRequests:
		return tooMany
	case http.StatusServiceUnavailable:
		return unavailable
	}
	return otherwise
}

type metrics struct {
	connections         prometheus.Gauge
	waiting             prometheus.Gauge
	framesIn, framesOut prometheus.Counter
	bytesIn, bytesOut   prometheus.Counter
	ended               map[Reason]prometheus.Counter
	handshakes          map[refusal]prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "hubbub_socket_" + name, Help: help})
	}
	byReason := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hubbub_socket_" + name, Help: help}, []string{"reason"})
	}
	m := &metrics{
		connections: prometheus.NewGauge(prometheus.GaugeOpts{Name: "hubbub_socket_connections", Help: "WebSocket connections that are open."}),
		waiting:     prometheus.NewGauge(prometheus.GaugeOpts{Name: "hubbub_socket_handshakes_waiting", Help: "Upgrade requests that wait for their turn."}),
		framesIn:    counter("frames_received_total", "Complete messages that clients sent."),
		framesOut:   counter("frames_sent_total", "Frames written whole, control frames included."),
		bytesIn:     counter("received_bytes_total", "Bytes that clients sent after the upgrade."),
		bytesOut:    counter("sent_bytes_total", "Bytes written from the upgrade on."),
		ended:       map[Reason]prometheus.Counter{},
		handshakes:  map[refusal]prometheus.Counter{},
	}
	ended := byReason("connections_ended_total", "Connections that ended, by why.")
	for _, why := range reasons {
		m.ended[why] = ended.WithLabelValues(string(why))
	}
	refused := byReason("handshakes_refused_total", "Connections that did not become WebSockets, by why.")
	for _, why := range refusals {
		m.handshakes[why] = refused.WithLabelValues(string(why))
	}
	if r != nil {
		r.MustRegister(m.connections, m.waiting, m.framesIn, m.framesOut, m.bytesIn, m.bytesOut, ended, refused)
	}
	return m
}

func (m *metrics) refused(why refusal) { m.handshakes[why].Inc() }
