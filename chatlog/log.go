package chatlog

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hubbub/engine"
	"hubbub/ivschat"
)

// Options are what a Log is built on. Outbox, Configuration and Open are required.
type Options struct {
	// Outbox keeps the records until a destination has taken them. Its Readers must
	// be those of this package, and its Dropped the OutboxDropped of the Log.
	Outbox *engine.Outbox

	// Configuration is a logging configuration as it is now: NotFound if it was deleted.
	Configuration func(ivschat.ARN) (*ivschat.LoggingConfiguration, error)

	// Open makes the destination of a configuration.
	Open func(*ivschat.LoggingConfiguration) (Destination, error)

	// Begins is called once, when the first record of this run is to be written; nil is fine.
	Begins func()

	Retry   Retry
	Log     *slog.Logger          // nil discards
	Metrics prometheus.Registerer // nil keeps them unregistered
}

// Retry bounds the attempts at a destination that does not take its records. The
// zero value is that of the service's spec. Source: spec logging 7.
type Retry struct {
	Timeout  time.Duration // of one attempt; 0 = 10 s
	MaxPause time.Duration // the longest between two attempts; 0 = 10 s
}

// Log is the chat logs of one node. Its methods may be called from many goroutines.
type Log struct {
	// Set by New, read-only after.
	outbox        *engine.Outbox
	configuration func(ivschat.ARN) (*ivschat.LoggingConfiguration, error)
	open          func(*ivschat.LoggingConfiguration) (Destination, error)
	retry         Retry
	log           *slog.Logger
	metrics       *metrics
	begins        func() // once

	// Shared.
	queue   *queue
	dropped atomic.Int64  // records, since the log spoke of it last
	written chan struct{} // closed when the queue is closed and everything is in the outbox
	running context.Context
	stop    context.CancelFunc // ends every loop at once
	loops   sync.WaitGroup

	mu         sync.Mutex
	deliveries map[ivschat.ARN]*delivery // of its own outbox
	heirs      map[*delivery]bool        // deliveries of those of other nodes
	finishing  bool                      // no new ones
}

// New goes on with the records that an earlier run has left in the outbox, and
// takes new ones.
func New(ctx context.Context, o Options) (*Log, error) {
	l := &Log{
		outbox: o.Outbox, configuration: o.Configuration, open: o.Open, retry: o.Retry, log: o.Log,
		queue: newQueue(), written: make(chan struct{}), deliveries: map[ivschat.ARN]*delivery{}, heirs: map[*delivery]bool{},
	}
	l.begins = sync.OnceFunc(func() {
		if o.Begins != nil {
			o.Begins()
		}
	})
	if l.retry.Timeout == 0 {
		l.retry.Timeout = 10 * time.Second
	}
	if l.retry.MaxPause == 0 {
		l.retry.MaxPause = 10 * time.Second
	}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	l.log = l.log.With("component", "chatlog")
	l.metrics = newMetrics(o.Metrics, l)
	l.running, l.stop = context.WithCancel(context.Background())
	readers, err := l.outbox.Readers(ctx)
	if err != nil {
		return nil, err
	}
	for _, reader := range readers {
		arn, ok := configurationOf(reader)
		if !ok {
			return nil, fmt.Errorf("the outbox has records for %q, which is no logging configuration", reader)
		}
		l.deliver(arn, nil)
	}
	l.loops.Go(l.write)
	l.loops.Go(l.report)
	return l, nil
}

// Add takes a record for each of its configurations. It never waits: what there is
// no room for is dropped, counted and spoken of in the log.
func (l *Log) Add(r ivschat.Record) {
	if !l.queue.add(r) {
		l.drop(len(r.Configurations), queueFull)
	}
}

// Restore takes a batch that another store's outbox had for these readers: it is in
// the outbox when Restore returns nil, and delivered from there.
func (l *Log) Restore(ctx context.Context, readers []string, records int, batch []byte) error {
	key, err := Key(readers)
	if err != nil {
		return err
	}
	if err := l.outbox.Append(ctx, key, records, batch); err != nil {
		return err
	}
	for _, r := range readers {
		if arn, ok := configurationOf(r); ok {
			l.deliver(arn, nil)
		}
	}
	return nil
}

// OutboxDropped is to be called when the outbox drops records past its bounds.
func (l *Log) OutboxDropped(_ string, records int, why engine.DropReason) {
	l.drop(records, dropReason(why))
}

func (l *Log) drop(records int, why dropReason) {
	if records == 0 {
		return
	}
	l.metrics.dropped[why].Add(float64(records))
	l.dropped.Add(int64(records))
}

// report says once a minute how many records were dropped.
func (l *Log) report() {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-l.running.Done():
			return
		case <-tick.C:
			l.sayDropped()
		}
	}
}

func (l *Log) sayDropped() {
	if n := l.dropped.Swap(0); n > 0 {
		l.log.Error("records of chat logs were dropped; see hubbub_chatlog_dropped_records_total for the reasons", "records", n)
	}
}

// Changed says that a logging configuration was changed or deleted. It returns at once.
func (l *Log) Changed(arn ivschat.ARN) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d := l.deliveries[arn]; d != nil {
		d.wake()
	}
	for d := range l.heirs {
		if d.configuration == arn {
			d.wake()
		}
	}
}

// deliver makes sure that the configuration's records are delivered. c is the
// configuration as it was when the first of them was written, nil if that was in
// an earlier run.
func (l *Log) deliver(arn ivschat.ARN, c *ivschat.LoggingConfiguration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.deliveries[arn] != nil || l.finishing {
		return
	}
	d := newDelivery(l, l.outbox, arn, c)
	l.deliveries[arn] = d
	l.loops.Go(func() {
		d.run(l.running)
		l.mu.Lock()
		delete(l.deliveries, arn)
		l.mu.Unlock()
		if l.running.Err() == nil && !d.drained() { // something came while it ended
			l.deliver(arn, nil)
		}
	})
}

// Close writes what is queued to the outbox, and then tries to deliver what the
// outbox has, each destination until it fails once or ctx ends; what is left stays
// in the outbox for the next start.
func (l *Log) Close(ctx context.Context) error {
	defer func() {
		l.stop()
		l.loops.Wait()
		l.sayDropped() // some are dropped by the end of what ran
	}()
	l.queue.close()
	select {
	case <-l.written:
	case <-ctx.Done():
		return fmt.Errorf("chat-log records were not all written to the store: %w", ctx.Err())
	}
	l.mu.Lock()
	l.finishing = true
	all := slices.Collect(maps.Values(l.deliveries))
	l.mu.Unlock()
	for _, d := range all {
		d.finish()
	}
	for _, d := range all {
		select {
		case <-d.done:
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// delivering says whether the configuration's delivery runs.
func (l *Log) delivering(arn ivschat.ARN) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.deliveries[arn] != nil
}
