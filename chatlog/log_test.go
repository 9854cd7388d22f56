package chatlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"hubbub/engine"
	"hubbub/ivschat"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// sink is a destination whose doings a test decides.
type sink struct {
	layout Layout
	answer func(ctx context.Context, entries []Entry) (left []int, lost int, err error) // nil takes everything
	closes func()                                                                       // nil does nothing

	mu    sync.Mutex
	got   []Entry
	tried int
	more  chan struct{} // has room for one
}

func newSink() *sink {
	return &sink{more: make(chan struct{}, 1), layout: Layout{
		Lane: func(e Entry) string { return string(e.Room) }, MaxEntries: 100, MaxBytes: 64 << 10, Flush: 5 * time.Millisecond}}
}

func (s *sink) Layout() Layout { return s.layout }

func (s *sink) Close() {
	if s.closes != nil {
		s.closes()
	}
}

func (s *sink) Put(ctx context.Context, entries []Entry) (left []int, lost int, err error) {
	if s.answer != nil {
		left, lost, err = s.answer(ctx, entries)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tried++
	if err == nil || left != nil {
		for i, e := range entries {
			if !slices.Contains(left, i) {
				s.got = append(s.got, e)
			}
		}
	}
	signal(s.more)
	return left, lost, err
}

// wait waits until the sink has n records, and returns the lines of each room.
func (s *sink) wait(t testing.TB, n int) map[ivschat.ARN][]string {
	t.Helper()
	limit := time.After(patience)
	for {
		s.mu.Lock()
		lines := map[ivschat.ARN][]string{}
		for _, e := range s.got {
			lines[e.Room] = append(lines[e.Room], content(e.Line))
		}
		have := len(s.got)
		s.mu.Unlock()
		if have >= n {
			if have > n {
				t.Errorf("%d records instead of %d", have, n)
			}
			return lines
		}
		select {
		case <-s.more:
		case <-limit:
			t.Fatalf("%d records of %d after %v", have, n, patience)
		}
	}
}

// waitTried waits until n attempts were made.
func (s *sink) waitTried(t testing.TB, n int) {
	t.Helper()
	limit := time.After(patience)
	for {
		s.mu.Lock()
		tried := s.tried
		s.mu.Unlock()
		if tried >= n {
			return
		}
		select {
		case <-s.more:
		case <-limit:
			t.Fatalf("%d attempts of %d after %v", tried, n, patience)
		}
	}
}

// content is what a test's record has as its payload.
func content(line []byte) string {
	_, rest, _ := bytes.Cut(line, []byte(`"payload":"`))
	text, _, _ := bytes.Cut(rest, []byte(`"`))
	return string(text)
}

// fixture is a log on a real store.
type fixture struct {
	*Log
	t       testing.TB
	dir     string
	engine  *engine.Engine
	metrics *prometheus.Registry
	text    *safeBuffer
	spool   int64

	mu             sync.Mutex
	configurations map[ivschat.ARN]*ivschat.LoggingConfiguration
	sinks          map[string]Destination // by bucket
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func newFixture(t testing.TB) *fixture {
	f := &fixture{t: t, dir: t.TempDir(), text: &safeBuffer{}, spool: 64 << 20, configurations: map[ivschat.ARN]*ivschat.LoggingConfiguration{}, sinks: map[string]Destination{}}
	t.Cleanup(func() {
		if f.Log != nil {
			f.stop()
		}
	})
	return f
}

func (f *fixture) start() *fixture {
	f.t.Helper()
	ctx := f.t.Context()
	var err error
	if f.engine, err = engine.Open(ctx, engine.Options{Dir: f.dir}); err != nil {
		f.t.Fatal(err)
	}
	var l *Log
	outbox, err := f.engine.Outbox(ctx, engine.OutboxOptions{MaxBytes: f.spool, Readers: Readers, Dropped: func(k string, n int, why engine.DropReason) { l.OutboxDropped(k, n, why) }})
	if err != nil {
		f.t.Fatal(err)
	}
	f.metrics = prometheus.NewRegistry()
	l, err = New(ctx, Options{Outbox: outbox, Retry: Retry{Timeout: time.Second, MaxPause: 20 * time.Millisecond},
		Log: slog.New(slog.NewTextHandler(f.text, nil)), Metrics: f.metrics,
		Configuration: func(a ivschat.ARN) (*ivschat.LoggingConfiguration, error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			if c := f.configurations[a]; c != nil {
				return c, nil
			}
			return nil, ivschat.Refuse(ivschat.NotFound, "no such configuration")
		},
		Open: func(c *ivschat.LoggingConfiguration) (Destination, error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			if s := f.sinks[c.DestinationConfiguration.S3.BucketName]; s != nil {
				return s, nil
			}
			return nil, &Failure{Kind: NotFound, Class: Final, Err: errors.New("no such bucket")}
		},
	})
	if err != nil {
		f.t.Fatal(err)
	}
	f.Log = l
	return f
}

func (f *fixture) stop() {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := f.Close(ctx); err != nil {
		f.t.Error(err)
	}
	if err := f.engine.Close(ctx); err != nil {
		f.t.Error(err)
	}
	f.Log = nil
}

// configuration makes one with a bucket of its own.
func (f *fixture) configuration(bucket string, s Destination) ivschat.ARN {
	arn := ivschat.Scope{Account: "123456789012", Region: "us-west-2"}.ARN(ivschat.LoggingConfigurationType, ivschat.NewID())
	f.mu.Lock()
	defer f.mu.Unlock()
	f.configurations[arn] = &ivschat.LoggingConfiguration{ARN: arn, State: ivschat.StateActive,
		DestinationConfiguration: ivschat.DestinationConfiguration{S3: &ivschat.S3Destination{BucketName: bucket}}}
	if s != nil {
		f.sinks[bucket] = s
	}
	return arn
}

var rooms = []ivschat.ARN{
	"arn:aws:ivschat:us-west-2:123456789012:room/AAAAAAAAAAAA",
	"arn:aws:ivschat:us-west-2:123456789012:room/BBBBBBBBBBBB",
	"arn:aws:ivschat:us-west-2:123456789012:room/CCCCCCCCCCCC",
}

// say adds records from..to-1, to the rooms in turn.
func (f *fixture) say(from, to int, configurations ...ivschat.ARN) {
	for i := from; i < to; i++ {
		f.Add(ivschat.Record{Room: rooms[i%len(rooms)], Configurations: configurations, Type: ivschat.MessageRecord,
			Received: time.Now(), Payload: fmt.Appendf(nil, `"%06d"`, i)})
	}
}

// inOrder wants records 0..n-1 in the order of each room.
func inOrder(t testing.TB, lines map[ivschat.ARN][]string, n int) {
	t.Helper()
	seen := 0
	for room, got := range lines {
		if !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != len(got) {
			t.Errorf("%s: out of order or twice: %v", room, got)
		}
		seen += len(got)
	}
	if seen != n {
		t.Errorf("%d records, want %d", seen, n)
	}
}

// value is the sum of a metric's series.
func (f *fixture) value(name string, labels ...string) (sum float64) {
	f.t.Helper()
	families, err := f.metrics.Gather()
	if err != nil {
		f.t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
	series:
		for _, m := range family.Metric {
			for _, want := range labels {
				if !slices.ContainsFunc(m.Label, func(l *dto.LabelPair) bool { return l.GetValue() == want }) {
					continue series
				}
			}
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return sum
}

// eventually waits for what another goroutine will bring about.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	limit := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

func TestEveryConfigurationGetsEveryRecordInTheOrderOfTheRoom(t *testing.T) {
	f := newFixture(t).start()
	sinks := []*sink{newSink(), newSink(), newSink()}
	var all []ivschat.ARN
	for i, s := range sinks {
		all = append(all, f.configuration(fmt.Sprint("bucket", i), s))
	}
	f.say(0, 3000, all...)
	for _, s := range sinks {
		inOrder(t, s.wait(t, 3000), 3000)
	}
	eventually(t, "nothing waits", func() bool { return f.value("hubbub_chatlog_spool_bytes") == 0 })
	if got := f.value("hubbub_chatlog_delivered_records_total"); got != 9000 {
		t.Errorf("%v delivered, want 9000", got)
	}
}

// Rooms share configurations in several ways, and change them between two records
// that are written together.
func TestARoomsOrderOutlivesAChangeOfItsConfigurations(t *testing.T) {
	f := newFixture(t).start()
	sinks := []*sink{newSink(), newSink(), newSink()}
	var all ivschat.ARNs
	for i, s := range sinks {
		all = append(all, f.configuration(fmt.Sprint("bucket", i), s))
	}
	sets := []ivschat.ARNs{{all[0]}, {all[1], all[0]}, {all[0], all[1]}, all, {all[2]}, {all[2], all[1]}}
	want := make([]int, len(sinks))
	var records []ivschat.Record
	for i := range 600 {
		of := sets[(i%3+i/7)%len(sets)] // each room has one for seven records
		for s := range sinks {
			if slices.Contains(of, all[s]) {
				want[s]++
			}
		}
		records = append(records, ivschat.Record{Room: rooms[i%3], Configurations: of, Type: ivschat.MessageRecord,
			Received: time.Now(), Payload: fmt.Appendf(nil, `"%06d"`, i)})
	}
	f.store(records) // not through the queue, so that they are written together
	for i, s := range sinks {
		inOrder(t, s.wait(t, want[i]), want[i])
	}
	if got := f.value("hubbub_chatlog_records_total"); got != float64(want[0]+want[1]+want[2]) {
		t.Errorf("%v were written, want %v", got, want)
	}
}

func TestADestinationThatIsDownGetsEverythingInOrderWhenItIsBack(t *testing.T) {
	f := newFixture(t).start()
	s := newSink()
	s.layout.MaxEntries = 7
	var down, hang sync.Mutex
	down.Lock()
	class := Passing
	s.answer = func(ctx context.Context, _ []Entry) ([]int, int, error) {
		if !down.TryLock() {
			hang.Lock()
			class = map[Class]Class{Passing: Final, Final: Throttled, Throttled: Passing}[class]
			defer hang.Unlock()
			return nil, 0, &Failure{Kind: AccessDenied, Class: class, Err: errors.New("closed")}
		}
		down.Unlock()
		return nil, 0, nil
	}
	c := f.configuration("bucket", s)
	f.say(0, 100, c)
	s.waitTried(t, 30)
	f.say(100, 300, c)
	s.waitTried(t, 40)
	down.Unlock()
	inOrder(t, s.wait(t, 300), 300)
	if got := f.value("hubbub_log_destination_errors_total", string(c), "access_denied"); got < 40 {
		t.Errorf("%v errors counted, there were at least 40", got)
	}
	eventually(t, "the log says that it is back", func() bool { return strings.Contains(f.text.String(), "delivered again") })
	if n := strings.Count(f.text.String(), "not taken by their destination"); n == 0 || n > 3 {
		t.Errorf("the log speaks %d times of an outage of a second:\n%s", n, f.text)
	}
}

func TestWhatAnEndInterruptsIsDeliveredAfterTheNextStart(t *testing.T) {
	f := newFixture(t).start()
	s := newSink()
	s.answer = func(context.Context, []Entry) ([]int, int, error) {
		return nil, 0, &Failure{Kind: Other, Class: Passing, Err: errors.New("down")}
	}
	c := f.configuration("bucket", s)
	f.say(0, 50, c)
	s.waitTried(t, 2)
	f.stop()
	s.answer = nil
	f.start()
	inOrder(t, s.wait(t, 50), 50)
	f.say(50, 60, c)
	inOrder(t, s.wait(t, 60), 60)
}

func TestAnEndFlushesWhatWaitsForItsWindow(t *testing.T) {
	f := newFixture(t).start()
	s := newSink()
	s.layout.Flush = time.Hour
	c := f.configuration("bucket", s)
	f.say(0, 10, c)
	f.stop()
	inOrder(t, s.wait(t, 10), 10)
}

func TestADestinationThatHangsDelaysNobodyElse(t *testing.T) {
	f := newFixture(t).start()
	hanging, good := newSink(), newSink()
	hanging.answer = func(ctx context.Context, _ []Entry) ([]int, int, error) {
		<-ctx.Done()
		return nil, 0, &Failure{Kind: Other, Class: Passing, Err: ctx.Err()}
	}
	a, b := f.configuration("hanging", hanging), f.configuration("good", good)
	began := time.Now()
	f.say(0, 30, a, b)
	inOrder(t, good.wait(t, 30), 30)
	if took := time.Since(began); took > f.retry.Timeout {
		t.Errorf("the good one had to wait for the other: %v", took)
	}
	hanging.waitTried(t, 1) // its attempt ends by our own time-out
}

func TestALaneThatFailsDoesNotHoldBackTheOthers(t *testing.T) {
	f := newFixture(t).start()
	s := newSink()
	s.answer = func(_ context.Context, entries []Entry) ([]int, int, error) {
		if entries[0].Room == rooms[0] {
			return nil, 0, &Failure{Kind: Other, Class: Final, Err: errors.New("not this one")}
		}
		return nil, 0, nil
	}
	c := f.configuration("bucket", s)
	f.say(0, 30, c)
	lines := s.wait(t, 20)
	if len(lines[rooms[0]]) != 0 || len(lines[rooms[1]]) != 10 || len(lines[rooms[2]]) != 10 {
		t.Errorf("delivered %v", lines)
	}
}

func TestWhatWasNotTakenIsTriedAgainRecordByRecord(t *testing.T) {
	f := newFixture(t).start()
	s := newSink()
	s.layout.Lane = func(Entry) string { return "" }
	tries := map[string]int{}
	s.answer = func(_ context.Context, entries []Entry) (left []int, _ int, err error) {
		for i, e := range entries {
			if tries[content(e.Line)]++; tries[content(e.Line)] < 3 && i%2 == 1 {
				left = append(left, i)
				err = &Failure{Kind: Other, Class: Throttled, Err: errors.New("slow down")}
			}
		}
		return left, 0, err
	}
	c := f.configuration("bucket", s)
	f.say(0, 40, c)
	seen := map[string]bool{}
	for _, lines := range s.wait(t, 40) {
		for _, l := range lines {
			seen[l] = true
		}
	}
	if len(seen) != 40 {
		t.Errorf("%d different records of 40", len(seen))
	}
	eventually(t, "nothing waits", func() bool { return f.value("hubbub_chatlog_spool_bytes") == 0 })
}

func TestAChangedDestinationGetsWhatTheOldOneDidNotTake(t *testing.T) {
	f := newFixture(t).start()
	old, other := newSink(), newSink()
	old.answer = func(context.Context, []Entry) ([]int, int, error) {
		return nil, 0, &Failure{Kind: NotFound, Class: Final, Err: errors.New("gone")}
	}
	other.layout.Lane = func(Entry) string { return "one lane" }
	c := f.configuration("old", old)
	f.configuration("other", other)
	f.say(0, 20, c)
	old.waitTried(t, 1)
	f.mu.Lock()
	changed := *f.configurations[c]
	changed.DestinationConfiguration = ivschat.DestinationConfiguration{S3: &ivschat.S3Destination{BucketName: "other"}}
	f.configurations[c] = &changed
	f.mu.Unlock()
	f.Changed(c)
	inOrder(t, other.wait(t, 20), 20)
}

func TestAPanicAtADestinationIsAFailure(t *testing.T) {
	f := newFixture(t).start()
	s := newSink()
	panicked := false
	s.answer = func(context.Context, []Entry) ([]int, int, error) {
		if !panicked {
			panicked = true
			panic("a line of a log")
		}
		return nil, 0, nil
	}
	c := f.configuration("bucket", s)
	f.say(0, 1, c)
	inOrder(t, s.wait(t, 1), 1)
	if !strings.Contains(f.text.String(), "panic at a log destination") || strings.Contains(f.text.String(), "a line of a log") {
		t.Errorf("the log says %s", f.text)
	}
}

func TestADeletedConfigurationBringsWhatWasLoggedBefore(t *testing.T) {
	f := newFixture(t).start()
	s := newSink()
	s.layout.Flush = time.Hour
	c := f.configuration("bucket", s)
	f.say(0, 10, c)
	eventually(t, "the records are durable", func() bool { return f.value("hubbub_chatlog_records_total") == 10 })
	f.mu.Lock()
	delete(f.configurations, c)
	f.mu.Unlock()
	f.Changed(c)
	inOrder(t, s.wait(t, 10), 10)
	eventually(t, "the delivery is gone", func() bool { return !f.delivering(c) })
	if strings.Contains(f.text.String(), "cannot be read") {
		t.Errorf("the log takes the end for trouble: %s", f.text)
	}
	f.say(10, 15, c)
	eventually(t, "what comes after is dropped and counted", func() bool {
		return f.value("hubbub_chatlog_dropped_records_total", string(configurationDeleted)) == 5
	})
	if keys, err := f.outbox.Readers(t.Context()); err != nil || len(keys) != 0 {
		t.Errorf("the outbox has %v, %v", keys, err)
	}
}

// What was on its way when the delivery ended holds up the outbox for everybody if
// nobody takes it.
func TestWhatComesAtTheEndOfADeletedConfigurationIsForgotten(t *testing.T) {
	f := newFixture(t).start()
	s := newSink()
	c := f.configuration("bucket", s)
	came := false
	s.closes = func() {
		if came {
			return
		}
		came = true
		if err := f.outbox.Append(t.Context(), readerOf(c, c.ID()), 3, appendEntry(nil, rooms[0], time.Now(), []byte("{}"))); err != nil {
			t.Error(err)
		}
		f.deliver(c, nil)
	}
	f.say(0, 10, c)
	s.wait(t, 10)
	f.mu.Lock()
	delete(f.configurations, c)
	f.mu.Unlock()
	f.Changed(c)
	eventually(t, "they are dropped and counted", func() bool {
		return f.value("hubbub_chatlog_dropped_records_total", string(configurationDeleted)) == 3
	})
	eventually(t, "the delivery is gone", func() bool { return !f.delivering(c) })
}

func TestAConfigurationDeletedWhileNobodyLookedIsForgotten(t *testing.T) {
	f := newFixture(t).start()
	c := f.configuration("nowhere", nil)
	f.say(0, 10, c)
	eventually(t, "the records are durable", func() bool { return f.value("hubbub_chatlog_records_total") == 10 })
	f.stop()
	delete(f.configurations, c)
	f.start()
	eventually(t, "they are dropped and counted", func() bool {
		return f.value("hubbub_chatlog_dropped_records_total", string(configurationDeleted)) == 10
	})
}

func TestOnlyActiveConfigurationsLog(t *testing.T) {
	f := newFixture(t).start()
	s := newSink()
	c := f.configuration("bucket", s)
	f.configurations[c].State = ivschat.StateUpdateFailed
	other := f.configuration("other", newSink())
	f.say(0, 10, c, other)
	f.sinks["other"].(*sink).wait(t, 10)
	f.stop()
	s.wait(t, 0)
}

func TestTheQueueIsBounded(t *testing.T) {
	q := newQueue()
	big := ivschat.Record{Payload: make([]byte, maxQueuedBytes/4)}
	for i := range 4 {
		if !q.add(big) {
			t.Fatalf("refused the %dth quarter", i+1)
		}
	}
	if q.add(ivschat.Record{Payload: []byte("x")}) {
		t.Error("took more than the bound")
	}
	if got := len(q.take(nil)); got != 4 || !q.add(big) {
		t.Errorf("took %d; what was taken makes room", got)
	}
	q.close()
	if q.add(ivschat.Record{}) || q.done() {
		t.Error("a closed queue takes nothing and is done when it is empty")
	}
}

func TestADirectoryHasEveryRecordAfterAnEnd(t *testing.T) {
	f := newFixture(t)
	root := t.TempDir()
	d, err := OpenDestinations(t.Context(), Targets{S3: &Target{Directory: root, Flush: time.Hour}})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	c := f.configuration("bucket", nil)
	to, err := d.Open(f.configurations[c])
	if err != nil {
		t.Fatal(err)
	}
	f.sinks["bucket"] = to
	f.start()
	f.say(0, 30, c)
	f.stop()
	objects := 0
	_ = filepath.WalkDir(root, func(_ string, e os.DirEntry, _ error) error {
		if e != nil && strings.HasSuffix(e.Name(), ".log.gz") {
			objects++
		}
		return nil
	})
	if objects != 3 {
		t.Errorf("%d objects, want one a room", objects)
	}
}

func TestADropIsSpokenOf(t *testing.T) {
	f := newFixture(t).start()
	f.drop(3, queueFull)
	f.stop()
	if !strings.Contains(f.text.String(), "were dropped") || f.value("hubbub_chatlog_dropped_records_total") != 3 {
		t.Errorf("the log: %s", f.text)
	}
}

// TestAWakeUpThatFindsNothingMixesNoRecords has the writer of the outbox wake up
// after it has taken everything, as it does when a record was taken between its
// coming and its signal.
func TestAWakeUpThatFindsNothingMixesNoRecords(t *testing.T) {
	f := newFixture(t).start()
	s := newSink()
	c := f.configuration("bucket", s)
	for i := range 20 {
		f.say(30*i, 30*i+1, c)
		eventually(t, "the queue is empty", func() bool { return f.queue.size() == 0 })
		signal(f.queue.filled)
		eventually(t, "it was found empty", func() bool { return len(f.queue.filled) == 0 })
		f.say(30*i+1, 30*i+15, c)
		eventually(t, "the queue is empty", func() bool { return f.queue.size() == 0 })
		f.say(30*i+15, 30*i+30, c)
	}
	inOrder(t, s.wait(t, 600), 600)
}

// TestADropAtTheEndIsSpokenOf has an end that cuts off an attempt: what the
// outbox has dropped of it is known when the attempt is over, after all else.
func TestADropAtTheEndIsSpokenOf(t *testing.T) {
	f := newFixture(t)
	f.spool = 256 << 10
	f.start()
	trying := make(chan struct{})
	s := newSink()
	s.answer = func(ctx context.Context, _ []Entry) ([]int, int, error) {
		close(trying)
		<-ctx.Done()
		<-time.After(20 * time.Millisecond) // a destination need not be quick to give up
		return nil, 0, &Failure{Kind: Other, Class: Passing, Err: ctx.Err()}
	}
	c := f.configuration("bucket", s)
	f.retry.Timeout = time.Hour
	f.say(0, 1, c)
	<-trying
	for range 4 { // more than fits
		if err := f.outbox.Append(t.Context(), "newer", 1, make([]byte, 100<<10)); err != nil {
			t.Fatal(err)
		}
	}
	before := f.value("hubbub_chatlog_dropped_records_total")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_ = f.Close(ctx)
	want := fmt.Sprintf("records=%v", before+1)
	if !strings.Contains(f.text.String(), want) {
		t.Errorf("the log does not say %s: %s", want, f.text)
	}
}

func TestWhatIsNotWrittenByTheEndIsCounted(t *testing.T) {
	f := newFixture(t).start()
	a, b := f.configuration("a", newSink()), f.configuration("b", newSink())
	if err := f.engine.Close(t.Context()); err != nil { // the store takes nothing more
		t.Fatal(err)
	}
	f.say(0, 10, a, b)
	eventually(t, "the log says so", func() bool { return strings.Contains(f.text.String(), "cannot be written") })
	f.say(10, 300, a, b)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := f.Close(ctx); err == nil {
		t.Error("Close says that everything was written")
	}
	if got := f.value("hubbub_chatlog_dropped_records_total", string(notWritten)); got != 600 {
		t.Errorf("%v records counted, want 300 for each of two configurations", got)
	}
	if !strings.Contains(f.text.String(), "records=600") {
		t.Errorf("the log: %s", f.text)
	}
}
