package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// OutboxOptions bound the outbox.
type OutboxOptions struct {
	// MaxBytes is the most that the outbox stores; 0 leaves only the bound that
	// always holds: no more than what it leaves, of the store's limit and of the
	// disk, to everything else. Past it the oldest batches are dropped.
	MaxBytes int64

	// MaxAge is how long a batch is kept for its readers; 0 means forever. Older
	// ones are dropped when the outbox is opened, and each minute.
	MaxAge time.Duration

	// Readers names those who each get every batch of a key, and must give the same
	// names whenever it is asked. nil: one that is named like the key.
	Readers func(key string) []string

	// Dropped is told of every record that is lost to a reader: once, and never of
	// one that was handed out and may still be delivered. It runs on the goroutine
	// that made room, holding no lock, and must not call the outbox. nil is fine.
	Dropped func(reader string, records int, why DropReason)
}

// DropReason says why records were dropped before a reader had them.
type DropReason string

const (
	DroppedFull       DropReason = "spool_full" // newer batches needed the space
	DroppedOld        DropReason = "too_old"    // MaxAge has passed
	DroppedUnreadable DropReason = "unreadable" // the store did not give back what it had
)

// Outbox keeps batches of records until their readers have delivered them. A batch
// is stored once for all of its readers: its key says who they are. The methods of
// an Outbox may be called from many goroutines; writes are done one at a time, so
// that one goroutine that appends gets all there is to get.
//
// All batches are in one stream in the order of their writing, so that the oldest
// go first when space is needed, whosever they are. Each is stamped with how many
// records its key had before it. So what is dropped, or not yet delivered, is a
// difference of two stamps and needs no walk through what is stored.
//
// A reader that keeps up is handed what was appended from memory; one that does
// not, or was not there, reads it from the store. Up to where each has acknowledged
// is written down in a stream of its own, all in one message, when it changed.
type Outbox struct {
	engine  *Engine
	options OutboxOptions
	names   outboxNames
	stream  jetstream.Stream

	turn chan struct{} // held by whoever changes what is stored

	// Owned by the holder of the turn.
	scratch  []byte     // stamp and batch
	offset   uint64     // bytes stored since the beginning
	used     int64      // bytes stored now
	batches  int        // stored now
	last     uint64     // newest sequence
	tail     uint64     // the same if that batch is stored, else 0
	bound    int64      // the most that used may be, as of measured
	measured time.Time  // when the space was last looked at
	unsure   *outboxKey // nil, or the key of a write whose answer was lost
	purging  bool       // used and batches are to be asked for: a purge was not heard of

	mu      sync.Mutex
	keys    map[string]*outboxKey
	claims  map[string][]*claim      // by reader
	readers map[string]*OutboxReader // those that are open
	oldest  uint64                   // no batch before this sequence is there
	why     DropReason               // of the latest drop
	closed  bool

	marking  sync.Mutex // held while the marks are written
	marked   []byte     // as they were written last; guarded by marking
	markedAt uint64     // their sequence; guarded by marking

	inherited bool // taken over from another node
	loaded    bool // what another node appends from then on is not for this one
	lost      chan struct{}
	lose      func() // closes lost, once

	acked chan struct{} // marks are to be written, and something may be compacted away
	stop  context.CancelFunc
	over  <-chan struct{} // closed by stop
	done  sync.WaitGroup
}

// outboxKey is what was appended for a key.
type outboxKey struct {
	name   string
	total  position
	last   uint64   // sequence of the newest batch
	claims []*claim // one for each reader
}

// claim is a reader's part in a key: the records up to fresh were acknowledged,
// dropped, or are held by the reader; those from there to total wait for it.
type claim struct {
	key    *outboxKey
	reader string
	fresh  position
	next   uint64 // sequence: the batch at fresh is not before it
}

// waits says whether there is something that the reader was not handed.
func (c *claim) waits() bool { return c.fresh != c.key.total }

// position counts what was appended for a key since its beginning.
type position struct{ records, bytes uint64 }

func (p position) add(records, bytes int) position {
	return position{p.records + uint64(records), p.bytes + uint64(bytes)}
}

// A stamp stands before each batch in the store: the format, four bytes; the
// number of records in the batch; and three counts of what was there before it.
type stamp struct {
	records int
	before  position // of the key
	offset  uint64   // bytes of the outbox
}

const (
	stampSize   = 4 + 4 + 8 + 8 + 8
	stampFormat = "hbo1"
)

func (s stamp) append(b []byte) []byte {
	b = append(b, stampFormat...)
	b = binary.BigEndian.AppendUint32(b, uint32(s.records))
	b = binary.BigEndian.AppendUint64(b, s.before.records)
	b = binary.BigEndian.AppendUint64(b, s.before.bytes)
	return binary.BigEndian.AppendUint64(b, s.offset)
}

func readStamp(message []byte) (s stamp, batch []byte, err error) {
	if len(message) < stampSize || string(message[:4]) != stampFormat {
		return stamp{}, nil, errors.New("a batch of the outbox has no stamp")
	}
	s.records = int(binary.BigEndian.Uint32(message[4:]))
	s.before.records = binary.BigEndian.Uint64(message[8:])
	s.before.bytes = binary.BigEndian.Uint64(message[16:])
	s.offset = binary.BigEndian.Uint64(message[24:])
	return s, message[stampSize:], nil
}

// after is the key's position behind the batch.
func (s stamp) after(batch []byte) position { return s.before.add(s.records, len(batch)) }

// storedSize is what NATS needs for a message, give or take.
func (o *Outbox) storedSize(key string, batch []byte) int64 {
	return int64(30 + len(o.names.prefix) + len(key) + stampSize + len(batch))
}

// Outbox opens the outbox, once. What is too old, or too much for its bounds, is
// dropped before Outbox returns.
func (e *Engine) Outbox(ctx context.Context, options OutboxOptions) (*Outbox, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.outbox != nil {
		return nil, errors.New("the outbox is open")
	}
	o := e.newOutbox(e.node, options)
	if err := o.open(ctx); err != nil {
		return nil, err
	}
	o.begin()
	e.outbox = o
	return o, nil
}

// newOutbox is the outbox of a node, yet to be opened.
func (e *Engine) newOutbox(node string, options OutboxOptions) *Outbox {
	if options.Dropped == nil {
		options.Dropped = func(string, int, DropReason) {}
	}
	if options.Readers == nil {
		options.Readers = func(key string) []string { return []string{key} }
	}
	lost := make(chan struct{})
	return &Outbox{
		engine: e, options: options, names: outboxOf(node), turn: make(chan struct{}, 1), acked: make(chan struct{}, 1),
		keys: map[string]*outboxKey{}, claims: map[string][]*claim{}, readers: map[string]*OutboxReader{},
		lost: lost, lose: sync.OnceFunc(func() { close(lost) }),
	}
}

// begin starts what goes on while the outbox is open.
func (o *Outbox) begin() {
	running, stop := context.WithCancel(context.Background())
	o.stop, o.over = stop, running.Done()
	o.done.Go(func() { o.run(running) })
}

func (o *Outbox) open(ctx context.Context) error {
	config := jetstream.StreamConfig{
		Name: o.names.stream, Subjects: []string{o.names.prefix + ">"}, Storage: o.engine.storage, Replicas: o.engine.replicas,
		Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardNew, MaxBytes: -1,
	}
	// NATS sets so much aside on every node that has a replica, and refuses what is
	// not there: in a cluster, where the outboxes of all nodes are on the disks of all,
	// makeRoom alone bounds them.
	if o.engine.bus == nil {
		config.MaxBytes = o.engine.limit / 2
		if o.options.MaxBytes > 0 {
			config.MaxBytes = min(config.MaxBytes, o.options.MaxBytes)
		}
	}
	var err error
	if o.stream, err = o.engine.makeStream(ctx, config, true); err != nil {
		return fmt.Errorf("open the outbox: %w", err)
	}
	if err := o.openMarks(ctx); err != nil {
		return err
	}
	acknowledged, err := o.claim(ctx)
	if err != nil {
		return fmt.Errorf("open the outbox: %w", err)
	}
	if err := o.load(ctx, acknowledged); err != nil {
		return err
	}
	if err := o.expire(ctx, time.Now()); err != nil {
		return fmt.Errorf("open the outbox: %w", err)
	}
	if err := o.makeRoom(ctx, 0); err != nil {
		return fmt.Errorf("open the outbox: %w", err)
	}
	if o.stream.CachedInfo().Config.MaxBytes != config.MaxBytes {
		if _, err := o.engine.js.UpdateStream(ctx, config); err != nil {
			return fmt.Errorf("open the outbox: %w", err)
		}
	}
	return nil
}

// load reads which keys there are and where their readers stand, by what they have
// acknowledged.
func (o *Outbox) load(ctx context.Context, acknowledged marks) error {
	if err := o.look(ctx); err != nil {
		return err
	}
	info, err := o.stream.Info(ctx, jetstream.WithSubjectFilter(o.names.prefix+">"))
	if err != nil {
		return fmt.Errorf("load the outbox: %w", err)
	}
	for subject := range info.State.Subjects {
		name := strings.TrimPrefix(subject, o.names.prefix)
		newest, err := o.newestOf(ctx, name)
		if err != nil {
			return err
		}
		switch {
		case newest == nil && o.engine.bus != nil:
			if err := o.sureOfNone(ctx, 1, name); err != nil {
				return err
			}
			continue // the last owner has just removed it
		case newest == nil:
			return o.engine.damaged("the batches of " + name + " in the outbox cannot be read")
		}
		k := o.newKey(name)
		k.total, k.last = newest.stamp.after(newest.batch), newest.sequence
		for _, c := range k.claims {
			c.fresh, c.next = k.total, k.last+1
			mark := acknowledged[name][c.reader]
			if mark >= k.last {
				continue
			}
			first, err := o.atOrAfter(ctx, mark+1, name)
			if err != nil {
				return err
			}
			switch {
			case first == nil && o.engine.bus != nil:
				if err := o.sureOfNone(ctx, mark+1, name); err != nil {
					return err
				}
				continue
			case first == nil:
				return o.engine.damaged("the batches of " + name + " in the outbox cannot be read")
			}
			c.fresh, c.next = first.stamp.before, first.sequence
		}
		if k.last == o.last {
			o.tail = k.last
		}
		if end := newest.stamp.offset + uint64(o.storedSize(name, newest.batch)); end > o.offset {
			o.offset = end
		}
	}
	o.loaded = true
	return o.engine.guard.holds(o.batches, o.tail)
}

// newKey makes the state of a key that has nothing; the caller holds mu, or is open.
func (o *Outbox) newKey(name string) *outboxKey {
	k := &outboxKey{name: name}
	for _, reader := range o.options.Readers(name) {
		c := &claim{key: k, reader: reader}
		k.claims = append(k.claims, c)
		o.claims[reader] = append(o.claims[reader], c)
	}
	o.keys[name] = k
	return k
}

// stored is a batch as it was read back.
type stored struct {
	key      string
	sequence uint64
	time     time.Time
	stamp    stamp
	batch    []byte
}

func (o *Outbox) decode(m *jetstream.RawStreamMsg, err error) (*stored, error) {
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the outbox: %w", err)
	}
	s, batch, err := readStamp(m.Data)
	if err != nil {
		return nil, o.engine.damaged(err.Error())
	}
	return &stored{strings.TrimPrefix(m.Subject, o.names.prefix), m.Sequence, m.Time, s, batch}, nil
}

// newestOf reads the last batch of a key; nil if it has none.
func (o *Outbox) newestOf(ctx context.Context, key string) (*stored, error) {
	return o.decode(o.stream.GetLastMsgForSubject(ctx, o.names.prefix+key))
}

// atOrAfter reads the first batch at or after a sequence, of a key or, with "",
// of any; nil if there is none.
func (o *Outbox) atOrAfter(ctx context.Context, sequence uint64, key string) (*stored, error) {
	subject := ">"
	if key != "" {
		subject = o.names.prefix + key
	}
	return o.decode(o.stream.GetMsg(ctx, max(sequence, 1), jetstream.WithGetMsgSubject(subject)))
}

// take waits for the turn.
func (o *Outbox) take(ctx context.Context) error {
	select {
	case o.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-o.over:
		return ErrClosed
	}
}

func (o *Outbox) give() { <-o.turn }

// checkKey refuses a key or reader that is not tokens of letters, digits, '-' and '_' with dots
// between them.
func checkKey(key string) error {
	fine := func(c rune) bool {
		return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_'
	}
	for token := range strings.SplitSeq(key, ".") {
		if token == "" || strings.ContainsFunc(token, func(c rune) bool { return !fine(c) }) {
			return fmt.Errorf("%q is no key of the outbox", key)
		}
	}
	return nil
}

// Append writes a batch of so many records for the readers of a key; nil means that
// it was fsynced. An error means that the store did not take it, or did not say so
// within 10 s: then it may be there, and be delivered. ctx ends the wait for other
// writes, not a write that has begun. A batch may have MaxBatchBytes. The readers
// get batch itself: it must not be changed any more.
//
// When there is no room the oldest batches of all keys are dropped.
func (o *Outbox) Append(ctx context.Context, key string, records int, batch []byte) error {
	if err := checkKey(key); err != nil {
		return err
	}
	if o.inherited {
		return errors.New("the outbox is another node's")
	}
	if len(batch) > MaxBatchBytes || records < 1 {
		return fmt.Errorf("a batch of %d records in %d bytes", records, len(batch))
	}
	deadline := time.Now().Add(writeTimeout)
	waiting, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	if err := o.take(waiting); err != nil {
		return fmt.Errorf("append to the outbox: %w", err)
	}
	defer o.give()
	writing, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline)
	defer cancel()
	if err := o.write(writing, key, records, batch); err != nil {
		return fmt.Errorf("append to the outbox: %w", err)
	}
	return nil
}

// MaxBatchBytes is the largest batch: NATS takes messages of 1 MiB.
const MaxBatchBytes = 1<<20 - stampSize

func (o *Outbox) write(ctx context.Context, key string, records int, batch []byte) error {
	if err := o.settle(ctx); err != nil {
		return err
	}
	k := o.keyFor(key)
	size := o.storedSize(key, batch)
	if err := o.engine.room(int(size)); err != nil { // trimming does not help: it needs some, too
		return err
	}
	if err := o.makeRoom(ctx, size); err != nil {
		return err
	}
	for {
		s := stamp{records, k.total, o.offset}
		o.scratch = append(s.append(o.scratch[:0]), batch...)
		ack, err := o.engine.js.Publish(ctx, o.names.prefix+key, o.scratch)
		var api *jetstream.APIError
		switch {
		case err == nil:
			o.used += size
			o.batches++
			o.wrote(k, OutboxBatch{ack.Sequence, records, batch}, s.after(batch), size)
			return nil
		case errors.As(err, &api):
			if !noRoom(api) || o.batches == 0 {
				return full(err)
			}
			if err := o.trim(ctx, size); err != nil {
				return err
			}
		default:
			return o.inDoubt(ctx, k, OutboxBatch{0, records, batch}, s.after(batch), size, err)
		}
	}
}

// keyFor is the key's state, made anew for the first batch.
func (o *Outbox) keyFor(key string) *outboxKey {
	o.mu.Lock()
	defer o.mu.Unlock()
	k := o.keys[key]
	if k == nil {
		k = o.newKey(key)
	}
	return k
}

// settle finds out what was not answered, before another batch is written: what a
// purge has left, so that guard is not told of more, and whether the store has a
// batch of which it did not say so, which is handed on in its place.
func (o *Outbox) settle(ctx context.Context) error {
	if o.purging {
		if err := o.look(ctx); err != nil {
			return err
		}
	}
	k := o.unsure
	if k == nil {
		return nil
	}
	newest, err := o.newestOf(ctx, k.name)
	if err != nil {
		return err
	}
	if newest != nil && newest.sequence > k.last {
		if err := o.look(ctx); err != nil { // it may be among what was counted since
			return err
		}
		o.wrote(k, newest.handed(), newest.stamp.after(newest.batch), o.storedSize(k.name, newest.batch))
	}
	o.unsure = nil
	return nil
}

// inDoubt asks the store whether it has a batch whose acknowledgement did not
// come; the write counts if it is there.
func (o *Outbox) inDoubt(ctx context.Context, k *outboxKey, b OutboxBatch, total position, size int64, lost error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	newest, err := o.newestOf(ctx, k.name)
	if err == nil && newest != nil && newest.sequence > k.last && newest.stamp.after(newest.batch) == total {
		b.Sequence = newest.sequence
		o.used += size
		o.batches++
		o.wrote(k, b, total, size)
		return nil
	}
	o.unsure = k
	if errors.Is(lost, context.DeadlineExceeded) {
		return fmt.Errorf("the store did not say within %v that it has it: %w", writeTimeout, lost)
	}
	return lost
}

// wrote notes a batch that is stored, and counted as such, and hands it to the
// readers that keep up.
func (o *Outbox) wrote(k *outboxKey, b OutboxBatch, total position, size int64) {
	o.offset += uint64(size)
	o.last = max(o.last, b.Sequence)
	o.tail = o.last
	o.engine.guard.wrote(o.names.stream, b.Sequence, 0)
	_ = o.engine.guard.holds(o.batches, o.tail) // more, so it need not be saved now
	o.mu.Lock()
	defer o.mu.Unlock()
	before := k.total
	k.total, k.last = total, b.Sequence
	for _, c := range k.claims {
		if c.fresh == before {
			c.next = b.Sequence
		}
		if r := o.readers[c.reader]; r != nil {
			r.offer(arrival{c, b, before})
		}
	}
}

// Readers are those that have not acknowledged everything.
func (o *Outbox) Readers(context.Context) ([]string, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil, ErrClosed
	}
	var readers []string
	for reader := range o.claims {
		if b := o.backlog(reader); b.Records > 0 {
			readers = append(readers, reader)
		}
	}
	slices.Sort(readers)
	return readers, nil
}

// Backlog is what a reader has not acknowledged.
type Backlog struct {
	Records int
	Bytes   int64 // of the batches as they were appended
}

// Backlog is what is not acknowledged, by reader; those that have nothing are left
// out. It does no I/O.
func (o *Outbox) Backlog() map[string]Backlog {
	o.mu.Lock()
	defer o.mu.Unlock()
	all := map[string]Backlog{}
	for reader := range o.claims {
		if b := o.backlog(reader); b.Records > 0 {
			all[reader] = b
		}
	}
	return all
}

// backlog is what waits for a reader or is held by it; the caller holds mu.
func (o *Outbox) backlog(reader string) (b Backlog) {
	for _, c := range o.claims[reader] {
		b.Records += int(c.key.total.records - c.fresh.records)
		b.Bytes += int64(c.key.total.bytes - c.fresh.bytes)
	}
	if r := o.readers[reader]; r != nil {
		for _, h := range r.held {
			b.Records += h.records
			b.Bytes += h.bytes
		}
	}
	return b
}

// Remove gives up everything for a reader whose configuration is gone, and ends
// it. It returns how many records were not acknowledged; Dropped is not told of
// them.
func (o *Outbox) Remove(ctx context.Context, reader string) (records int, err error) {
	if err := checkKey(reader); err != nil {
		return 0, err
	}
	if err := o.take(ctx); err != nil {
		return 0, fmt.Errorf("remove %s from the outbox: %w", reader, err)
	}
	defer o.give()
	o.mu.Lock()
	r := o.readers[reader]
	o.mu.Unlock()
	if r != nil {
		records += r.end()
	}
	o.mu.Lock()
	records += o.backlog(reader).Records
	for _, c := range o.claims[reader] {
		c.fresh, c.next = c.key.total, c.key.last+1
	}
	o.mu.Unlock()
	// First what nobody wants any more: a full store may have no room for marks.
	if err := errors.Join(o.compact(ctx), o.mark(ctx)); err != nil {
		return records, fmt.Errorf("remove %s from the outbox: %w", reader, err)
	}
	return records, nil
}

// run writes marks, compacts and drops what is too old, until ctx is cancelled.
func (o *Outbox) run(ctx context.Context) {
	minute := time.NewTicker(time.Minute)
	defer minute.Stop()
	pause := time.NewTimer(0) // between two rounds
	defer pause.Stop()
	acked := o.acked
	var told, compacted time.Time // when the log spoke of trouble last
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-o.lost:
			return
		case <-pause.C:
			acked = o.acked
			continue
		case <-acked:
			acked = nil
			pause.Reset(markEvery)
			err = o.mark(ctx)
			due := time.Since(compacted) >= compactEvery
			if due && !o.isLost() { // also without marks: a full store has room for them then
				compacted = time.Now()
				err = errors.Join(err, o.inTurn(ctx, o.compact))
			}
			if !due || err != nil {
				wake(o.acked)
			}
		case now := <-minute.C:
			err = o.inTurn(ctx, func(ctx context.Context) error { return o.expire(ctx, now) })
		}
		if err != nil && ctx.Err() == nil && time.Since(told) >= time.Minute {
			told = time.Now()
			o.engine.log.Warn("the outbox cannot be cleaned", "err", err)
		}
	}
}

func (o *Outbox) inTurn(ctx context.Context, do func(context.Context) error) error {
	if err := o.take(ctx); err != nil {
		return err
	}
	defer o.give()
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return do(ctx)
}

// close ends readers and goroutine, and compacts a last time.
func (o *Outbox) close() {
	o.stop()
	o.done.Wait()
	o.mu.Lock()
	again := o.closed
	o.closed = true
	readers := slices.Collect(maps.Values(o.readers))
	o.mu.Unlock()
	if again {
		return
	}
	for _, r := range readers {
		r.Close()
	}
	o.turn <- struct{}{} // whoever has it ends within the write timeout
	if o.isLost() {
		return
	}
	limit := writeTimeout
	if o.engine.bus != nil {
		limit = leaveTimeout
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := errors.Join(o.compact(ctx), o.mark(ctx)); err != nil && !o.isLost() {
		o.engine.log.Warn("the outbox cannot be cleaned", "err", err)
	}
}

// leaveTimeout bounds the last cleaning of a node, whose others may be gone: what
// is not marked comes again, no more.
const leaveTimeout = 2 * time.Second
