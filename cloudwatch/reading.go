package cloudwatch

import (
	"maps"
	"math"
	"strings"

	dto "github.com/prometheus/client_model/go"
)

// series is one metric of CloudWatch with its dimension.
type series struct {
	namespace, metric string
	dimension, of     string // its name and value; "" for none
}

// point is what a series has for a time: the sum of counts, or the statistics of
// samples.
type point struct {
	sum, min, max float64
	samples       float64 // 0 for counts
}

func (p point) and(q point) point {
	switch {
	case p.samples == 0:
		q.sum += p.sum
		return q
	case q.samples == 0:
		return p
	}
	return point{p.sum + q.sum, min(p.min, q.min), max(p.max, q.max), p.samples + q.samples}
}

// points are the data of a push or of a minute.
type points map[series]point

// maxSeries bounds what waits for a push. A server has a handful of series, and
// one for each review handler and logging configuration that fails.
const maxSeries = 20_000

// add merges more into p. It returns how many series found no room.
func (p points) add(more points) (lost int) {
	for s, q := range more {
		old, there := p[s]
		if !there && len(p) >= maxSeries {
			lost++
			continue
		}
		p[s] = old.and(q)
	}
	return lost
}

// The namespaces. The second has the quota of connections.
// Source: spec events-and-metrics 2, 3.
const (
	serviceNamespace = "AWS/IVSChat"
	usageNamespace   = "AWS/Usage"
)

// connections is the family that is sampled; all others are counted.
const connections = "hubbub_concurrent_chat_connections"

// counted is how a family of counters becomes metrics of the service.
type counted struct {
	total     string // over all labels; "" for none
	each      string // by the label
	label     string
	dimension string
	kinds     map[string]string // of the label kind, by its value: a metric that has these only
	always    []string          // of the label: sent if nothing was counted, too
}

// The actions are those that the hub counts.
var actions = []string{"SendMessage", "DeleteMessage", "DisconnectUser", "SendEvent"}

var counters = map[string]counted{
	"hubbub_messaging_requests_total":                {total: "MessagingRequests", each: "Requests", label: "action", dimension: "Action", always: actions},
	"hubbub_messaging_deliveries_total":              {total: "MessagingDeliveries", each: "Deliveries", label: "action", dimension: "Action", always: actions},
	"hubbub_review_invocation_errors_total":          {each: "InvocationErrors", label: "uri", dimension: "Uri"},
	"hubbub_review_response_validation_errors_total": {each: "ResponseValidationErrors", label: "uri", dimension: "Uri"},
	"hubbub_log_destination_errors_total": {each: "LogDestinationErrors", label: "logging_configuration", dimension: "LoggingConfiguration", kinds: map[string]string{
		"access_denied": "LogDestinationAccessDeniedError", // singular, as documented
		"not_found":     "LogDestinationResourceNotFoundErrors",
	}},
}

// meter turns readings of the registry into points. It remembers the counters as
// they were, which begin at 0 with the process.
type meter struct {
	namespace string
	last      map[string]float64 // by family and labels
}

// read adds what was counted since the last reading, and a sample of connections.
// If it is not complete, counters that are not in it have not gone.
func (m *meter) read(families []*dto.MetricFamily, complete bool, to points) {
	seen := make(map[string]float64, len(m.last))
	for _, f := range families {
		if f.GetName() == connections {
			m.sample(f, to)
			continue
		}
		c, ours := counters[f.GetName()]
		if !ours {
			continue
		}
		for _, metric := range f.GetMetric() {
			labels := map[string]string{}
			key := f.GetName()
			for _, l := range metric.GetLabel() { // in order of names
				labels[l.GetName()] = l.GetValue()
				key += "\x00" + l.GetName() + "\x00" + l.GetValue()
			}
			now := metric.GetCounter().GetValue()
			if math.IsNaN(now) || math.IsInf(now, 0) || now < 0 {
				continue
			}
			seen[key] = now
			delta := now - m.last[key]
			if delta < 0 { // it began again
				delta = now
			}
			if delta > 0 {
				m.count(c, labels, delta, to)
			}
		}
	}
	if !complete {
		for key, last := range m.last {
			if _, there := seen[key]; !there {
				seen[key] = last
			}
		}
	}
	m.last = seen // one that is gone begins at 0 if it comes back
}

func (m *meter) count(c counted, labels map[string]string, delta float64, to points) {
	put := func(metric, dimension, of string) {
		s := series{m.namespace, metric, dimension, of}
		to[s] = to[s].and(point{sum: delta})
	}
	if c.total != "" {
		put(c.total, "", "")
	}
	of := labels[c.label]
	if !sendable(of) {
		return
	}
	put(c.each, c.dimension, of)
	if metric := c.kinds[labels["kind"]]; metric != "" {
		put(metric, c.dimension, of)
	}
}

func (m *meter) sample(f *dto.MetricFamily, to points) {
	var now float64
	for _, metric := range f.GetMetric() {
		now += metric.GetGauge().GetValue()
	}
	if len(f.GetMetric()) == 0 || math.IsNaN(now) || math.IsInf(now, 0) {
		return
	}
	p := point{now, now, now, 1}
	s := series{m.namespace, "ConcurrentChatConnections", "", ""}
	to[s] = to[s].and(p)
	if m.namespace == serviceNamespace {
		s := series{usageNamespace, "ResourceCount", "", ""}
		to[s] = to[s].and(p)
	}
}

// zeros adds what a minute has without any count: the four actions and their
// sums. Errors that did not happen are no data, as it is with the service's other
// sparse metrics, and cost nothing.
func (m *meter) zeros(to points) {
	for _, c := range counters {
		if c.always == nil {
			continue
		}
		all := points{series{m.namespace, c.total, "", ""}: {}}
		for _, of := range c.always {
			all[series{m.namespace, c.each, c.dimension, of}] = point{}
		}
		maps.DeleteFunc(all, func(s series, _ point) bool { _, there := to[s]; return there })
		maps.Copy(to, all)
	}
}

// maxDimension is the longest value that PutMetricData takes.
const maxDimension = 1024

// sendable says whether a value may be a dimension's: one that may not would have
// a whole request refused. Source: CloudWatch API reference, Dimension.
func sendable(of string) bool {
	return strings.TrimSpace(of) != "" && len(of) <= maxDimension && !strings.HasPrefix(of, ":") &&
		!strings.ContainsFunc(of, func(r rune) bool { return r < 0x20 || r > 0x7e })
}
