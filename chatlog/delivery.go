package chatlog

import (
	"context"
	"errors"
	"hash/maphash"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"hubbub/engine"
	"hubbub/ivschat"
)

// delivery brings the records of one logging configuration to its destination. A
// batch of the outbox is acknowledged when all its records, and those of all
// batches before it, were taken: what a crash interrupts is delivered again. While
// the destination fails, what was read waits in memory in its order, what was not
// in the outbox, and one attempt at a time asks whether it is back.
type delivery struct {
	// Set by newDelivery, read-only after.
	log           *Log
	outbox        *engine.Outbox
	inherited     bool // the outbox is another node's: there is an end to it
	configuration ivschat.ARN
	reader        string       // in the outbox
	seed          maphash.Seed // of the lanes' phases

	// Shared.
	woken     chan struct{} // has room for one: the configuration changed
	finishing chan struct{} // closed by finish
	finished  sync.Once
	done      chan struct{} // closed when run returns

	// Owned by run.
	current     *ivschat.LoggingConfiguration // that the destination is of; nil if none was seen
	deleted     bool
	destination Destination
	layout      Layout
	lanes       map[string]*lane
	origins     []*origin // oldest first, those at the head are not all taken
	numbers     uint64
	bytes       int // of the lines in memory
	putting     int // Puts under way
	puts        chan put
	trouble     trouble
	told        time.Time // when the log spoke of a failure last, and
	toldKind    Kind      // of which kind
	windUp      time.Time // when a deleted configuration is given up; zero if it is not
	quietSince  time.Time // when the last batch was read
}

// trouble is what is known of a destination that fails.
type trouble struct {
	class    Class
	pauses   *backoff.ExponentialBackOff // nil while all is well
	until    time.Time                   // no attempt before
	attempts int
	since    time.Time
}

// put is one attempt and what came of it.
type put struct {
	lane        string
	destination Destination
	entries     []held
	left        []int
	lost        int
	err         error
}

const (
	// maxHeld bounds the lines that one delivery has in memory. When it is reached
	// everything is due at once, and nothing more is read until there is room.
	maxHeld = 16 << 20

	maxPuts = 8 // at once, one a lane

	// windUpTime is how long the delivery of a deleted configuration tries to bring
	// what was logged before; records that were on their way to the outbox have
	// come by lingerTime.
	windUpTime = 30 * time.Second
	lingerTime = time.Second

	tellAgain = time.Minute // the log speaks of a trouble that lasts
)

// newDelivery makes the delivery of a configuration that was c when it was last
// seen; nil if it was not.
func newDelivery(l *Log, outbox *engine.Outbox, arn ivschat.ARN, c *ivschat.LoggingConfiguration) *delivery {
	return &delivery{
		log: l, outbox: outbox, inherited: outbox != l.outbox, configuration: arn, reader: readerOf(arn, arn.ID()), seed: maphash.MakeSeed(), current: c,
		woken: make(chan struct{}, 1), finishing: make(chan struct{}), done: make(chan struct{}),
		lanes: map[string]*lane{}, puts: make(chan put),
	}
}

func (d *delivery) wake() { signal(d.woken) }

// finish asks for an end as soon as everything is delivered or an attempt fails.
func (d *delivery) finish() { d.finished.Do(func() { close(d.finishing) }) }

// run delivers until the configuration is deleted and everything of it brought,
// until it is asked to finish and has, until the outbox of another node has no more
// of it, or until ctx is cancelled. It returns after
// everything that it started.
func (d *delivery) run(ctx context.Context) {
	defer close(d.done)
	reader := d.openReader(ctx)
	if reader == nil {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	batches := make(chan engine.OutboxBatch)
	var reading sync.WaitGroup
	reading.Go(func() { d.read(ctx, reader, batches) })
	defer func() {
		cancel()
		for ; d.putting > 0; d.putting-- {
			<-d.puts
		}
		reading.Wait()
		reader.Close()
		if d.destination != nil {
			d.destination.Close()
		}
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	finishing := d.finishing
	ending := false
	d.quietSince = time.Now()
	d.follow()
	for {
		in := batches
		if d.bytes >= maxHeld {
			in = nil
		}
		select {
		case <-ctx.Done():
			return
		case <-finishing:
			finishing, ending = nil, true
		case <-d.woken:
			d.follow()
		case b := <-in:
			d.quietSince = time.Now()
			if err := d.take(b, d.quietSince); err != nil {
				d.log.log.Error("a batch of chat-log records cannot be read", "configuration", d.configuration, "sequence", b.Sequence, "err", err)
				d.log.drop(max(b.Records-d.origins[len(d.origins)-1].left, 0), unreadable)
				d.acknowledge(ctx, reader)
			}
		case p := <-d.puts:
			d.putting--
			d.settle(p, time.Now())
			d.acknowledge(ctx, reader)
		case <-timer.C:
		}
		now := time.Now()
		if ending && d.trouble.pauses != nil {
			return // what is left waits in the outbox
		}
		quiet := d.bytes == 0 && d.putting == 0
		switch {
		case d.deleted && (d.current == nil || now.After(d.windUp) || quiet && now.Sub(d.quietSince) > lingerTime && d.drained()):
			d.remove(ctx, reader)
			return
		case (ending || d.inherited) && quiet && d.drained():
			return
		}
		d.start(ctx, now, ending || d.deleted || d.bytes >= maxHeld)
		timer.Reset(d.next(now, ending))
	}
}

// openReader opens the outbox, again and again if the store does not answer.
func (d *delivery) openReader(ctx context.Context) *engine.OutboxReader {
	pause := pauses(Passing, d.log.retry.MaxPause)
	for failed := 0; ; failed++ {
		reader, err := d.outbox.Open(d.reader)
		if err == nil {
			return reader
		}
		if ctx.Err() == nil && failed == 0 {
			d.log.log.Error("the outbox of chat logs cannot be read; trying on", "configuration", d.configuration, "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-d.finishing:
			return nil
		case <-time.After(pause.NextBackOff()):
		}
	}
}

// read hands on what the outbox has.
func (d *delivery) read(ctx context.Context, reader *engine.OutboxReader, to chan<- engine.OutboxBatch) {
	pause := pauses(Passing, d.log.retry.MaxPause)
	for {
		b, err := reader.Next(ctx)
		switch {
		case ctx.Err() != nil, errors.Is(err, engine.ErrClosed): // by our own end, or with the configuration
			return
		case err != nil:
			d.log.log.Error("the outbox of chat logs cannot be read; trying on", "configuration", d.configuration, "err", err)
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause.NextBackOff()):
			}
			continue
		}
		pause.Reset()
		select {
		case to <- b:
		case <-ctx.Done():
			return
		}
	}
}

// follow looks at the configuration as it is now: where the records go, and
// whether there is one still.
func (d *delivery) follow() {
	c, err := d.log.configuration(d.configuration)
	switch {
	case errors.Is(err, ivschat.NotFound):
		if !d.deleted {
			d.deleted, d.windUp = true, time.Now().Add(windUpTime)
		}
		return
	case err != nil || d.current != nil && d.current.DestinationConfiguration == c.DestinationConfiguration && d.destination != nil:
		return
	}
	d.current = c
	if d.destination != nil {
		d.destination.Close() // Puts that are under way end by themselves
		d.destination = nil
	}
	d.reopen()
}

// reopen opens the destination and sorts what is in memory into its lanes.
func (d *delivery) reopen() {
	destination, err := d.log.open(d.current)
	if err != nil {
		d.failed(err, time.Now())
		return
	}
	d.destination, d.layout = destination, destination.Layout()
	d.trouble.until = time.Time{} // another destination may do better
	var entries []held
	for _, l := range d.lanes {
		entries = append(entries, l.entries...)
	}
	slices.SortFunc(entries, byNumber)
	putting := d.lanes
	d.lanes = map[string]*lane{}
	for name, l := range putting {
		if l.putting { // its lane is not free yet, if the new layout has it too
			d.laneOf(name).putting = true
		}
	}
	for _, e := range entries {
		d.enlane(e, time.Now())
	}
}

// take takes a batch apart into lanes.
func (d *delivery) take(b engine.OutboxBatch, now time.Time) error {
	entries, err := readBatch(b.Data)
	from := &origin{b.Sequence, len(entries)}
	d.origins = append(d.origins, from)
	for _, e := range entries {
		d.numbers++
		d.bytes += len(e.Line)
		d.enlane(held{e, d.numbers, from}, now)
	}
	return err
}

func (d *delivery) enlane(e held, now time.Time) {
	name := ""
	if d.layout.Lane != nil { // it has none as long as no destination could be opened
		name = d.layout.Lane(e.Entry)
	}
	l := d.laneOf(name)
	l.add(e, d.layout.Overhead, d.due(l.phase, now))
}

func (d *delivery) laneOf(name string) *lane {
	l := d.lanes[name]
	if l == nil {
		l = &lane{name: name, phase: d.phase(name)}
		d.lanes[name] = l
	}
	return l
}

// phase is when a lane's windows begin: with whole multiples of the flush time,
// those of five minutes with the minutes 0, 5, 10, if the layout wants it so; else
// each lane has its own time, so that rooms are not all put in one moment, in
// which chat would wait for a processor.
func (d *delivery) phase(lane string) time.Duration {
	if d.layout.Aligned || d.layout.Flush <= 0 {
		return 0
	}
	return time.Duration(maphash.String(d.seed, lane) % uint64(d.layout.Flush))
}

// due is the end of the window that now is in.
func (d *delivery) due(phase time.Duration, now time.Time) time.Time {
	if d.layout.Flush <= 0 {
		return now
	}
	return now.Add(-phase).Truncate(d.layout.Flush).Add(d.layout.Flush + phase)
}

// most is how many Puts there may be at once.
func (d *delivery) most() int {
	if d.trouble.pauses != nil {
		return 1
	}
	return maxPuts
}

// start begins the Puts that are due, first those not tried for the longest time: one a lane, several
// lanes at once, and one in all while the destination fails. all makes every lane due.
func (d *delivery) start(ctx context.Context, now time.Time, all bool) {
	most := d.most()
	if now.Before(d.trouble.until) || d.putting >= most {
		return
	}
	if d.destination == nil {
		if d.current != nil {
			d.reopen()
		}
		if d.destination == nil {
			return
		}
	}
	var ready []*lane
	for _, l := range d.lanes {
		if !l.putting && len(l.entries) > 0 && !now.Before(l.retry) && (all || !now.Before(l.due) || l.full(d.layout)) {
			ready = append(ready, l)
		}
	}
	slices.SortFunc(ready, func(a, b *lane) int {
		if c := a.tried.Compare(b.tried); c != 0 { // one that fails does not hold back the others
			return c
		}
		return byNumber(a.entries[0], b.entries[0])
	})
	for _, l := range ready[:min(len(ready), most-d.putting)] {
		p := put{lane: l.name, destination: d.destination, entries: l.cut(d.layout)}
		l.putting = true
		d.putting++
		go d.attempt(ctx, p) // run receives from puts until putting is 0
	}
}

// attempt is one Put, within its time.
func (d *delivery) attempt(ctx context.Context, p put) {
	ctx, cancel := context.WithTimeout(ctx, d.log.retry.Timeout)
	defer cancel()
	entries := make([]Entry, len(p.entries))
	for i, e := range p.entries {
		entries[i] = e.Entry
	}
	began := time.Now()
	p.left, p.lost, p.err = d.guarded(ctx, p.destination, entries)
	d.log.metrics.seconds.Observe(time.Since(began).Seconds())
	d.puts <- p
}

// guarded is Put; a panic in it is a failure like another, and not the end of the
// node.
func (d *delivery) guarded(ctx context.Context, to Destination, entries []Entry) (left []int, lost int, err error) {
	defer func() {
		if p := recover(); p != nil {
			d.log.log.Error("panic at a log destination", "configuration", d.configuration, "stack", string(debug.Stack()))
			left, lost, err = nil, 0, &Failure{Kind: Other, Class: Final, Err: errors.New("panic")}
		}
	}()
	return to.Put(ctx, entries)
}

// settle takes the outcome of an attempt.
func (d *delivery) settle(p put, now time.Time) {
	l := d.laneOf(p.lane)
	l.putting = false
	if p.err != nil && p.left == nil { // nothing was taken, or it is not known
		p.left = make([]int, len(p.entries))
		for i := range p.left {
			p.left[i] = i
		}
	}
	var back []held
	for i, e := range p.entries {
		if len(p.left) > 0 && p.left[0] == i {
			p.left = p.left[1:]
			back = append(back, e)
			continue
		}
		e.from.left--
		d.bytes -= len(e.Line)
	}
	taken := len(p.entries) - len(back)
	d.log.drop(p.lost, refusedForGood)
	d.log.metrics.delivered.Add(float64(taken - p.lost))
	switch {
	case len(back) == 0:
	case p.destination == d.destination:
		l.putBack(back, d.layout.Overhead)
	default: // the configuration was changed meanwhile: other lanes
		for _, e := range back {
			d.enlane(e, now)
		}
		for _, l := range d.lanes {
			slices.SortFunc(l.entries, byNumber)
		}
	}
	if len(l.entries) == 0 {
		delete(d.lanes, l.name)
	}
	if p.destination != d.destination { // what the old one says of itself concerns nobody any more
		return
	}
	l.tried = now
	if p.err == nil {
		l.pauses = nil
		d.recovered(now)
		return
	}
	if taken > 0 { // it takes some
		l.pauses = nil
		if d.trouble.pauses != nil {
			d.trouble.pauses.Reset()
		}
	}
	f := d.failed(p.err, now)
	if l.pauses == nil {
		l.pauses = pauses(f.Class, d.log.retry.MaxPause)
	}
	l.retry = now.Add(d.pause(l.pauses, f))
}

// failed counts a failure and sets the time of the next attempt.
func (d *delivery) failed(err error, now time.Time) *Failure {
	f := &Failure{Kind: Other, Class: Passing, Err: err}
	errors.As(err, &f)
	if errors.Is(err, context.Canceled) {
		return f // by our own end
	}
	d.log.metrics.errors.WithLabelValues(string(d.configuration), string(f.Kind)).Inc()
	t := &d.trouble
	if t.pauses == nil {
		t.since, t.attempts = now, 0
	}
	if t.pauses == nil || t.class != f.Class {
		t.class, t.pauses = f.Class, pauses(f.Class, d.log.retry.MaxPause)
	}
	t.attempts++
	t.until = now.Add(d.pause(t.pauses, f))
	if now.Sub(d.told) >= tellAgain || d.toldKind != f.Kind {
		d.told, d.toldKind = now, f.Kind
		level := slog.LevelWarn
		if f.Class == Final {
			level = slog.LevelError // somebody must act
		}
		d.log.log.Log(context.Background(), level, "chat logs are not taken by their destination; trying on",
			"configuration", d.configuration, "kind", f.Kind, "class", f.Class, "attempts", t.attempts, "err", f.Err)
	}
	return f
}

// pause is the next one, or what the destination asked for.
func (d *delivery) pause(p *backoff.ExponentialBackOff, f *Failure) time.Duration {
	return min(max(p.NextBackOff(), f.After), d.log.retry.MaxPause)
}

func (d *delivery) recovered(now time.Time) {
	if d.trouble.pauses == nil {
		return
	}
	d.log.log.Info("chat logs are delivered again", "configuration", d.configuration, "attempts", d.trouble.attempts, "took", now.Sub(d.trouble.since))
	d.trouble = trouble{}
}

// drained says whether the outbox has nothing more of the configuration.
func (d *delivery) drained() bool { return d.outbox.Backlog()[d.reader].Records == 0 }

// acknowledge lets the outbox forget what was taken.
func (d *delivery) acknowledge(ctx context.Context, reader *engine.OutboxReader) {
	n := 0
	for n < len(d.origins) && d.origins[n].left == 0 {
		n++
	}
	if n == 0 {
		return
	}
	if err := reader.Ack(d.origins[n-1].sequence); err != nil && ctx.Err() == nil {
		// The next one covers it.
		d.log.log.Warn("delivered chat-log records could not be acknowledged", "configuration", d.configuration, "err", err)
	}
	d.origins = slices.Delete(d.origins, 0, n)
}

// next is how long run may wait if nothing happens.
func (d *delivery) next(now time.Time, ending bool) time.Duration {
	wait := time.Hour
	until := func(t time.Time) { wait = min(wait, max(t.Sub(now), time.Millisecond)) }
	if d.deleted || ending || d.inherited {
		until(now.Add(50 * time.Millisecond))
	}
	if d.putting >= d.most() { // the end of one wakes us
		return wait
	}
	if d.trouble.until.After(now) {
		until(d.trouble.until)
		return wait
	}
	for _, l := range d.lanes {
		if !l.putting && len(l.entries) > 0 {
			if l.retry.After(now) {
				until(l.retry)
			} else {
				until(l.due)
			}
		}
	}
	return wait
}

// remove forgets a configuration that was deleted.
func (d *delivery) remove(ctx context.Context, reader *engine.OutboxReader) {
	reader.Close()
	left, err := d.outbox.Remove(ctx, d.reader)
	if err != nil {
		d.log.log.Warn("the outbox could not forget a deleted logging configuration", "configuration", d.configuration, "err", err)
	}
	d.log.drop(left, configurationDeleted)
	d.log.metrics.forget(d.configuration)
	d.log.log.Info("logging configuration is gone", "configuration", d.configuration, "undelivered", left)
}

// pauses grow from attempt to attempt, by the class of the failure, up to most.
func pauses(c Class, most time.Duration) *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.MaxInterval = most
	switch c {
	case Throttled:
		b.InitialInterval = 500 * time.Millisecond
	case Final:
		b.InitialInterval = time.Second
	default:
		b.InitialInterval = 100 * time.Millisecond
	}
	b.InitialInterval = min(b.InitialInterval, most)
	b.Multiplier = 2
	return b
}
