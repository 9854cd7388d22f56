package hub

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"hubbub/ivschat"
	"hubbub/socket"
)

// label is an action as the service's metrics call it.
// Source: spec events-and-metrics 2.
type label string

const (
	sendMessage    label = "SendMessage"
	deleteMessage  label = "DeleteMessage"
	disconnectUser label = "DisconnectUser"
	sendEvent      label = "SendEvent"
)

var labels = map[ivschat.ActionName]label{
	ivschat.SendMessage: sendMessage, ivschat.DeleteMessage: deleteMessage, ivschat.DisconnectUser: disconnectUser,
}

// goneReason is why a connection ended: one of these, or a reason of package socket.
type goneReason string

const (
	userDisconnected goneReason = "user_disconnected" // by DISCONNECT_USER
	missedMessages   goneReason = "missed_messages"   // of another node
	sessionEnded     goneReason = "session_ended"     // sessionDurationInMinutes ran out
)

// refusalReason is why a handshake was refused, for metric and log alike.
type refusalReason string

const (
	noToken            refusalReason = "no_token"
	invalidToken       refusalReason = "invalid_token" // malformed, not ours or tampered with
	expiredToken       refusalReason = "expired_token"
	usedToken          refusalReason = "used_token"
	sessionOver        refusalReason = "session_over"
	wrongScope         refusalReason = "wrong_scope" // another account or region
	accountBlocked     refusalReason = "account_blocked"
	roomNotFound       refusalReason = "room_not_found"
	tooManyConnections refusalReason = "too_many_connections"
	storeUnavailable   refusalReason = "store_unavailable"
	clientGone         refusalReason = "client_gone" // before its handshake was over
	internalError      refusalReason = "internal_error"
)

var refusalReasons = []refusalReason{noToken, invalidToken, expiredToken, usedToken, sessionOver, wrongScope, accountBlocked,
	roomNotFound, tooManyConnections, storeUnavailable, clientGone, internalError}

// metrics are those of the service that the hub knows, and its own.
type metrics struct {
	connections, viewers, rooms prometheus.Gauge
	delayed                     prometheus.Counter
	requests, deliveries        map[label]prometheus.Counter
	handshakes                  map[refusalReason]prometheus.Counter
	errors                      map[int]prometheus.Counter // by ErrorCode
	gone                        *prometheus.CounterVec
}

// newMetrics registers them, each label value from the start; r may be nil.
func newMetrics(r prometheus.Registerer) *metrics {
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
		if r != nil {
			r.MustRegister(g)
		}
		return g
	}
	counter := func(name, help, by string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{by})
		if r != nil {
			r.MustRegister(c)
		}
		return c
	}
	m := &metrics{
		connections: gauge("hubbub_concurrent_chat_connections", "Open connections to all rooms (ConcurrentChatConnections)."),
		viewers:     gauge("hubbub_hub_viewers", "Viewers on this node."),
		rooms:       gauge("hubbub_hub_rooms", "Rooms with viewers on this node."),
		requests:    map[label]prometheus.Counter{}, deliveries: map[label]prometheus.Counter{},
		handshakes: map[refusalReason]prometheus.Counter{}, errors: map[int]prometheus.Counter{},
		gone: counter("hubbub_hub_viewers_gone_total", "Viewers whose connection ended, by reason.", "reason"),
	}
	requests := counter("hubbub_messaging_requests_total", "Messaging requests, refused ones included, by action (MessagingRequests, Requests).", "action")
	deliveries := counter("hubbub_messaging_deliveries_total", "Frames queued for connections, by action (MessagingDeliveries, Deliveries).", "action")
	for _, l := range []label{sendMessage, deleteMessage, disconnectUser, sendEvent} {
		m.requests[l], m.deliveries[l] = requests.WithLabelValues(string(l)), deliveries.WithLabelValues(string(l))
	}
	handshakes := counter("hubbub_hub_handshakes_refused_total", "Handshakes that the hub refused, by reason.", "reason")
	for _, reason := range refusalReasons {
		m.handshakes[reason] = handshakes.WithLabelValues(string(reason))
	}
	errors := counter("hubbub_hub_errors_total", "ERROR frames sent, by ErrorCode.", "code")
	for _, code := range []int{400, 401, 403, 404, 406, 413, 429, 500} {
		m.errors[code] = errors.WithLabelValues(strconv.Itoa(code))
	}
	m.delayed = prometheus.NewCounter(prometheus.CounterOpts{Name: "hubbub_hub_handshakes_delayed_total", Help: "Handshakes that wait since their users come and go without rest."})
	if r != nil {
		r.MustRegister(m.delayed)
	}
	for _, reason := range []goneReason{userDisconnected, missedMessages, sessionEnded} {
		m.gone.WithLabelValues(string(reason))
	}
	for _, reason := range []socket.Reason{
		socket.ClosedByClient, socket.ClosedByServer, socket.Dropped, socket.ClientGone, socket.SlowViewer,
		socket.Silent, socket.ProtocolError, socket.Draining, socket.Panicked,
	} {
		m.gone.WithLabelValues(string(reason))
	}
	return m
}

func (m *metrics) came() {
	m.connections.Inc()
	m.viewers.Inc()
}

func (m *metrics) went(reason goneReason) {
	m.connections.Dec()
	m.viewers.Dec()
	m.gone.WithLabelValues(string(reason)).Inc()
}

func (m *metrics) refused(k ivschat.Kind) { m.errors[k.Code()].Inc() }
