package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Feed keeps what a node has in memory of a bucket as the bucket is: it reads all
// of it, and then follows what any node writes. Of a store that stands alone there
// is nothing to follow, since its only writer knows what it wrote.
//
// A change reaches the node as a message that the bucket's leader publishes when
// it is committed. They are numbered: if one is missing, or if a look at the
// leader each second finds that there should be more, what is missing is read from
// the bucket. Watching it with a consumer would be simpler, but one stands still
// for many seconds when the node dies that has it.
//
// Of a deletion nothing is left in the bucket after markerAge. A node that did not
// have everything for half as long asks the leader which keys there are.
type Feed struct {
	bucket *Bucket
	apply  func(Change) error
	stream jetstream.Stream // nil alone

	changes chan *nats.Msg
	sub     *nats.Subscription
	stop    context.CancelFunc
	done    sync.WaitGroup
	asked   chan struct{} // something may be missing
	turn    chan struct{} // held while the leader is asked

	mu      sync.Mutex
	applied uint64
	moved   chan struct{} // closed when applied grows, and made anew
	looking *look         // the next question to the leader, for all who want one

	keys map[string]uint64 // revision of what the node has; owned by Follow, then by follow

	whole  atomic.Pointer[time.Time] // when the node had everything
	failed atomic.Pointer[error]
}

// Change is an entry as it is from now on, or that it is gone.
type Change struct {
	Entry
	Gone bool
}

// look is one question for the last revision of a bucket.
type look struct {
	done chan struct{}
	last uint64
	err  error
}

// lookEvery is how often the leader is asked whether there is more.
const lookEvery = time.Second

// stale is for how long a node may not have been sure of having everything to
// count as fresh. It is more than an election takes: until then nobody can be sure,
// and if all nodes said that they are not ready there would be none to send viewers
// to, who need none. A node that is cut off says so by itself, after 2 s.
const stale = 12 * lookEvery

// Follow hands every entry of the bucket to apply and returns when all are in.
// From Start on it goes on with what is changed, in order, on a goroutine of its
// own. An entry may come again with the revision that it had. If apply fails there
// Follow does, or the feed is not fresh any more.
func (b *Bucket) Follow(ctx context.Context, apply func(Change) error) (*Feed, error) {
	f := &Feed{bucket: b, apply: apply, moved: make(chan struct{}), asked: make(chan struct{}, 1), turn: make(chan struct{}, 1), keys: map[string]uint64{}}
	if b.engine.bus == nil {
		return f, b.Load(ctx, func(e Entry) error { return apply(Change{Entry: e}) })
	}
	// First listen, then read: nothing is between them.
	f.changes = make(chan *nats.Msg, laneDepth)
	var err error
	if f.sub, err = b.engine.conn.ChanSubscribe(changesPrefix+b.name+".>", f.changes); err != nil {
		return nil, fmt.Errorf("follow %s: %w", b.name, err)
	}
	if f.stream, err = b.engine.js.Stream(ctx, streamOf(b.name)); err != nil {
		return nil, fmt.Errorf("follow %s: %w", b.name, err)
	}
	began := time.Now()
	if err := f.load(ctx); err != nil {
		return nil, fmt.Errorf("follow %s: %w", b.name, err)
	}
	f.whole.Store(&began)
	return f, nil
}

// load reads all there is. A replica hands most of it out in one go, but it may be
// behind: what it lacks comes from the leader, which also says what it should lack.
func (f *Feed) load(ctx context.Context) error {
	watcher, err := f.bucket.watch(ctx)
	if err != nil {
		return err
	}
	defer stopWatching(watcher)
	entries, revisions := map[string]Entry{}, map[string]uint64{}
	put := func(c Change) error {
		if c.Gone {
			delete(entries, c.Key)
			delete(revisions, c.Key)
		} else {
			entries[c.Key], revisions[c.Key] = c.Entry, c.Revision
		}
		return nil
	}
	reached := uint64(0)
	timer := time.NewTimer(stalled)
	defer timer.Stop()
	for all := false; !all; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			return fmt.Errorf("nothing came for %v", stalled)
		case e, ok := <-watcher.Updates():
			switch {
			case !ok:
				return errors.New("the store was closed")
			case e == nil:
				all = true
			default:
				reached = max(reached, e.Revision())
				_ = put(Change{Entry{e.Key(), e.Value(), e.Revision()}, e.Operation() != jetstream.KeyValuePut})
			}
			timer.Reset(stalled)
		}
	}
	last, err := f.vanished(ctx, revisions, put)
	if err != nil {
		return err
	}
	if err := f.read(ctx, reached, last, put); err != nil && !errors.Is(err, errNothing) { // deletions, whose markers have gone
		return err
	}
	for _, e := range slices.SortedFunc(maps.Values(entries), func(x, y Entry) int { return cmp.Compare(x.Revision, y.Revision) }) {
		if err := f.apply(Change{Entry: e}); err != nil {
			return err
		}
		f.keys[e.Key] = e.Revision
	}
	f.advance(max(last, reached))
	return nil
}

// vanished puts those keys, by their revisions, as gone that the leader does not have
// any more, and returns the revision up to which it said so: of what is newer it knows
// nothing.
func (f *Feed) vanished(ctx context.Context, keys map[string]uint64, put func(Change) error) (last uint64, err error) {
	info, err := f.stream.Info(ctx, jetstream.WithSubjectFilter(subjectOf(f.bucket.name, ">")))
	if err != nil {
		return 0, fmt.Errorf("ask for the keys of %s: %w", f.bucket.name, err)
	}
	for key, revision := range keys {
		subject := subjectOf(f.bucket.name, key)
		if info.State.Subjects[subject] > 0 || revision > info.State.LastSeq {
			continue
		}
		// Of very many keys the leader does not speak all at once.
		switch _, err := f.stream.GetLastMsgForSubject(ctx, subject); {
		case err == nil:
		case !errors.Is(err, jetstream.ErrMsgNotFound):
			return 0, fmt.Errorf("ask for %s/%s: %w", f.bucket.name, key, err)
		default:
			if err := put(Change{Entry{Key: key, Revision: info.State.LastSeq}, true}); err != nil {
				return 0, err
			}
		}
	}
	return info.State.LastSeq, nil
}

// Start begins to follow. Call it once; alone it does nothing.
func (f *Feed) Start() {
	if f.stream == nil {
		return
	}
	running, stop := context.WithCancel(context.Background())
	f.stop = stop
	f.done.Go(func() { f.follow(running) })
}

// Shared says whether other nodes may write to the bucket.
func (f *Feed) Shared() bool { return f.stream != nil }

// Close ends the following.
func (f *Feed) Close() {
	if f.stream == nil {
		return
	}
	_ = f.sub.Unsubscribe() // of a closed connection
	if f.stop != nil {
		f.stop()
	}
	f.done.Wait()
}

// ask is the last revision of the bucket, as its leader has it. The answer counts
// only if that is sure to be the leader still.
func (f *Feed) ask(ctx context.Context) (uint64, error) {
	for {
		var info *jetstream.StreamInfo
		err := f.bucket.engine.tries(ctx, func(ctx context.Context) (err error) {
			info, err = f.stream.Info(ctx)
			return err
		})
		if err != nil {
			return 0, err
		}
		doubt := f.bucket.engine.doubts(info.Cluster)
		if doubt == nil {
			return info.State.LastSeq, nil
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("ask for the last revision of %s: %w: %w", f.bucket.name, doubt, ctx.Err())
		case <-time.After(askPause):
		}
	}
}

const askPause = 50 * time.Millisecond

// doubts is nil if who answered for a stream is sure to lead it, or says why not.
func (e *Engine) doubts(c *jetstream.ClusterInfo) error {
	switch {
	case c == nil && e.nodes == 0:
		return nil // of one server
	case c == nil || c.Leader == "":
		return errors.New("there is no leader") // who knows of none says what it has itself
	case e.nodes == 0 && leads(c):
		return nil
	case e.nodes == 0:
		return errors.New("the leader in NATS does not hear a majority of the replicas")
	case !e.bus.trusts(c.Leader):
		return errors.New("the leader has just come back, and may be the leader no more")
	}
	return nil
}

func (f *Feed) advance(to uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if to > f.applied {
		f.applied = to
		close(f.moved)
		f.moved = make(chan struct{})
	}
}

// Applied is the revision up to which the node has everything; 0 alone.
func (f *Feed) Applied() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.applied
}

// Wait returns when the node has everything up to a revision, or when ctx ends.
// Alone it returns at once.
func (f *Feed) Wait(ctx context.Context, revision uint64) error {
	if f.stream == nil {
		return nil
	}
	for {
		f.mu.Lock()
		enough, moved := f.applied >= revision, f.moved
		f.mu.Unlock()
		if enough {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("wait for revision %d of %s: %w", revision, f.bucket.name, ctx.Err())
		}
	}
}

// Sync returns when the node has everything that was in the bucket when it was
// called: what anybody was told is written is there. All who call it meanwhile
// share a question to the leader. It fails if there is no leader before ctx ends,
// or if this node hears less than a majority of the nodes: then another leader may
// have been chosen. Alone it returns at once.
func (f *Feed) Sync(ctx context.Context) error {
	if f.stream == nil {
		return nil
	}
	if err := f.bucket.engine.bus.alone(); err != nil {
		return err
	}
	last, err := f.look(ctx)
	if err != nil {
		return fmt.Errorf("ask for the last revision of %s: %w", f.bucket.name, err)
	}
	if f.Applied() < last {
		wake(f.asked) // it is on its way, unless it was lost
	}
	return f.Wait(ctx, last)
}

// look joins the next question to the leader, and asks it if nobody does. One that
// is under way already may have been answered before the caller came.
func (f *Feed) look(ctx context.Context) (uint64, error) {
	f.mu.Lock()
	l := f.looking
	if l == nil {
		l = &look{done: make(chan struct{})}
		f.looking = l
		f.done.Go(func() { f.lookFor(l) })
	}
	f.mu.Unlock()
	select {
	case <-l.done:
		return l.last, l.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// lookFor asks for all who have joined by the time that the question before it is
// answered.
func (f *Feed) lookFor(l *look) {
	f.turn <- struct{}{}
	defer func() { <-f.turn }()
	f.mu.Lock()
	f.looking = nil // who comes now needs a later answer
	f.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), lookTimeout)
	defer cancel()
	l.last, l.err = f.ask(ctx)
	close(l.done)
}

// lookTimeout bounds one question. A leader that is there answers in a millisecond,
// and is not trusted before echo if it has just come back.
const lookTimeout = echo + time.Second

// Fresh is nil if the node has had everything lately and keeps it too, or says why
// not.
func (f *Feed) Fresh() error {
	if f.stream == nil {
		return nil
	}
	if err := f.failed.Load(); err != nil {
		return *err
	}
	if err := f.bucket.engine.off(); err != nil {
		return err
	}
	if err := f.bucket.engine.bus.alone(); err != nil {
		return err
	}
	if age := f.behind(); age > stale {
		return fmt.Errorf("%s was last seen whole %v ago", f.bucket.name, age.Round(time.Second))
	}
	return nil
}

// behind is for how long the node may not have had everything. A clock that was
// set, or stood still with the machine, does not make it less.
func (f *Feed) behind() time.Duration {
	whole := *f.whole.Load()
	return max(time.Since(whole), time.Since(whole.Round(0)))
}

// found is what a look of follow came to.
type found struct {
	last  uint64
	err   error
	began time.Time
	took  time.Duration
}

func (f *Feed) follow(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	looked := make(chan found, 1)
	looking, again := false, false
	look := func() { // beside what comes: the leader may be far away
		if again = looking; looking {
			return
		}
		looking = true
		f.done.Go(func() {
			patient, cancel := context.WithTimeout(ctx, lookTimeout)
			defer cancel()
			began := time.Now()
			last, err := f.look(patient)
			looked <- found{last, err, began, time.Since(began)}
		})
	}
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case m := <-f.changes:
			err = f.take(ctx, m)
		case <-f.asked:
			if len(f.changes) == 0 {
				look()
			}
		case <-tick.C:
			look()
		case l := <-looked:
			looking = false
			err = f.catchUp(ctx, l)
			if again {
				look()
			}
		}
		if err != nil && ctx.Err() == nil {
			f.bucket.engine.log.Debug("the node may lack changes", "bucket", f.bucket.name, "err", err)
		}
	}
}

// take applies a change if it is the next one, and reads what is missing before it.
func (f *Feed) take(ctx context.Context, m *nats.Msg) error {
	sequence, err := strconv.ParseUint(m.Header.Get("Nats-Sequence"), 10, 64)
	if err != nil {
		return nil // nobody else publishes here
	}
	switch applied := f.Applied(); {
	case sequence <= applied:
		return nil
	case sequence > applied+1:
		return f.fill(ctx, sequence)
	}
	key := strings.TrimPrefix(m.Subject, changesPrefix+f.bucket.name+".")
	if err := f.put(Change{Entry{key, m.Data, sequence}, isGone(m.Header)}); err != nil {
		return err
	}
	f.advance(sequence)
	return nil
}

// isGone says whether a stored message is the deletion of a key, or the end of
// its time.
func isGone(h nats.Header) bool {
	return h.Get("KV-Operation") != "" || h.Get("Nats-Marker-Reason") != ""
}

func (f *Feed) put(c Change) error {
	if err := f.apply(c); err != nil {
		err = fmt.Errorf("a change of %s cannot be used: %w", f.bucket.name, err)
		if f.failed.CompareAndSwap(nil, &err) {
			f.bucket.engine.log.Error("the node cannot follow the others any more; restart it, with their version", "err", err)
		}
		return err
	}
	if c.Gone {
		delete(f.keys, c.Key)
	} else {
		f.keys[c.Key] = c.Revision
	}
	return nil
}

// catchUp waits for what the leader had when it was asked, and reads what does not
// come. It was on its way before the answer was.
func (f *Feed) catchUp(ctx context.Context, l found) error {
	if l.err != nil {
		return l.err
	}
	patience := time.NewTimer(max(l.took, leastPatience))
	defer patience.Stop()
	for f.Applied() < l.last {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case m := <-f.changes:
			if err := f.take(ctx, m); err != nil {
				return err
			}
		case <-patience.C:
			if err := f.fill(ctx, l.last); err != nil {
				return err
			}
		}
	}
	f.whole.Store(&l.began)
	return nil
}

// leastPatience is how long what is on its way is waited for at least.
const leastPatience = 20 * time.Millisecond

// fill gets what the node lacks up to a revision. If it does not end in time it
// goes on the next time where it was.
func (f *Feed) fill(ctx context.Context, upTo uint64) error {
	if f.Applied() >= upTo {
		return nil
	}
	long := f.behind() > markerAge/2
	if long {
		patient, cancel := context.WithTimeout(ctx, stalled)
		defer cancel()
		if _, err := f.vanished(patient, f.keys, f.put); err != nil {
			return err
		}
	}
	patient, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	err := f.read(patient, f.Applied(), upTo, func(c Change) error {
		if err := f.put(c); err != nil {
			return err
		}
		f.advance(c.Revision)
		return nil
	})
	if long && errors.Is(err, errNothing) { // deletions, whose markers have gone
		err = nil
	}
	if err == nil {
		f.advance(upTo)
	}
	return err
}

// errNothing says that who answered has nothing behind a revision. There was
// something: either it was a deletion, and its time is over, or a leader answered that
// was cut off, and does not know yet of the next one.
var errNothing = errors.New("who answered for the bucket has nothing behind a revision that was passed")

// read hands on what is in the bucket behind a revision, up to another. What was
// replaced meanwhile is not there any more, and comes later with its newer one. It
// fails with errNothing if there is nothing up to the end, nor anything newer.
func (f *Feed) read(ctx context.Context, after, upTo uint64, each func(Change) error) error {
	for after < upTo {
		var m *jetstream.RawStreamMsg
		err := f.bucket.engine.tries(ctx, func(ctx context.Context) (err error) {
			m, err = f.stream.GetMsg(ctx, after+1, jetstream.WithGetMsgSubject(subjectOf(f.bucket.name, ">")))
			return err
		})
		switch {
		case errors.Is(err, jetstream.ErrMsgNotFound):
			return errNothing
		case err != nil:
			return fmt.Errorf("read %s from revision %d on: %w", f.bucket.name, after+1, err)
		case m.Sequence > upTo: // nothing is left of what is before
			return nil
		}
		key := strings.TrimPrefix(m.Subject, subjectOf(f.bucket.name, ""))
		if err := each(Change{Entry{key, m.Data, m.Sequence}, isGone(m.Header)}); err != nil {
			return err
		}
		after = m.Sequence
	}
	return nil
}
