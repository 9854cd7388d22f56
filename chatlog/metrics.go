package chatlog

import (
	"github.com/prometheus/client_golang/prometheus"

	"hubbub/engine"
	"hubbub/ivschat"
)

// dropReason is why records will not be delivered.
type dropReason string

// The reasons; those of the outbox are the engine's.
const (
	queueFull            dropReason = "queue_full"  // the store does not write as fast as it would have to
	notWritten           dropReason = "not_written" // the store did not take them before the end
	configurationDeleted dropReason = "configuration_deleted"
	refusedForGood       dropReason = "refused"    // the destination will never take them: too old for it
	unreadable           dropReason = "unreadable" // a batch that was damaged
)

var dropReasons = []dropReason{queueFull, notWritten, configurationDeleted, refusedForGood, unreadable, dropReason(engine.DroppedFull), dropReason(engine.DroppedOld)}

type metrics struct {
	records   prometheus.Counter
	delivered prometheus.Counter
	dropped   map[dropReason]prometheus.Counter
	errors    *prometheus.CounterVec
	seconds   prometheus.Histogram
}

// newMetrics registers them; r may be nil.
func newMetrics(r prometheus.Registerer, l *Log) *metrics {
	dropped := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hubbub_chatlog_dropped_records_total",
		Help: "Records that will not be delivered, by reason."}, []string{"reason"})
	m := &metrics{
		records: prometheus.NewCounter(prometheus.CounterOpts{Name: "hubbub_chatlog_records_total",
			Help: "Records made durable, one for each logging configuration."}),
		delivered: prometheus.NewCounter(prometheus.CounterOpts{Name: "hubbub_chatlog_delivered_records_total",
			Help: "Records that a destination took."}),
		dropped: map[dropReason]prometheus.Counter{},
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hubbub_log_destination_errors_total",
			Help: "Failed attempts at a log destination (LogDestinationErrors; by kind also LogDestinationAccessDeniedError and LogDestinationResourceNotFoundErrors)."},
			[]string{"logging_configuration", "kind"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "hubbub_chatlog_put_seconds",
			Help: "Time of one attempt at a log destination.", Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}}),
	}
	for _, why := range dropReasons {
		m.dropped[why] = dropped.WithLabelValues(string(why))
	}
	queued := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "hubbub_chatlog_queued_bytes",
		Help: "Payload of records that are not yet in the store."}, func() float64 { return float64(l.queue.size()) })
	spool := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "hubbub_chatlog_spool_bytes",
		Help: "Bytes of records in the store that wait for a destination, counted for each."}, func() (sum float64) {
		for outbox := range l.outboxes() {
			for _, b := range outbox.Backlog() {
				sum += float64(b.Bytes)
			}
		}
		return sum
	})
	if r != nil {
		r.MustRegister(dropped, m.records, m.delivered, m.errors, m.seconds, queued, spool)
	}
	return m
}

// forget drops the series of a configuration that is gone.
func (m *metrics) forget(arn ivschat.ARN) {
	m.errors.DeletePartialMatch(prometheus.Labels{"logging_configuration": string(arn)})
}
