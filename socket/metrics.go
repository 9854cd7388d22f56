package socket

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	connections         prometheus.Gauge
	framesIn, framesOut prometheus.Counter
	bytesIn, bytesOut   prometheus.Counter
	ended               map[Reason]prometheus.Counter
	refused             *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "hubbub_socket_" + name, Help: help})
	}
	m := &metrics{
		connections: prometheus.NewGauge(prometheus.GaugeOpts{Name: "hubbub_socket_connections", Help: "WebSocket connections that are open."}),
		framesIn:    counter("frames_received_total", "Complete messages that clients sent."),
		framesOut:   counter("frames_sent_total", "Frames written whole, control frames included."),
		bytesIn:     counter("received_bytes_total", "Bytes that clients sent after the upgrade."),
		bytesOut:    counter("sent_bytes_total", "Bytes written from the upgrade on."),
		ended:       map[Reason]prometheus.Counter{},
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hubbub_socket_handshakes_refused_total",
			Help: "Connections that did not become WebSockets, by why."}, []string{"reason"}),
	}
	ended := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hubbub_socket_connections_ended_total", Help: "Connections that ended, by why."}, []string{"reason"})
	for _, why := range reasons {
		m.ended[why] = ended.WithLabelValues(string(why))
	}
	if r != nil {
		r.MustRegister(m.connections, m.framesIn, m.framesOut, m.bytesIn, m.bytesOut, ended, m.refused)
	}
	return m
}

// refusedHandshake counts by a closed list of reasons.
func (m *metrics) refusedHandshake(why string) {
	switch why {
	case "tls", "no_request", "bad_request":
	case http.StatusText(http.StatusUnauthorized):
		why = "unauthorized"
	case http.StatusText(http.StatusForbidden):
		why = "forbidden"
	case http.StatusText(http.StatusNotFound):
		why = "not_found"
	case http.StatusText(http.StatusTooManyRequests):
		why = "too_many"
	case http.StatusText(http.StatusServiceUnavailable):
		why = "unavailable"
	default:
		why = "other"
	}
	m.refused.WithLabelValues(why).Inc()
}
