package engine_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hubbub/engine"
)

// drops counts what the outbox says it dropped.
type drops struct {
	mu    sync.Mutex
	count map[string]int // by key and reason
}

func (d *drops) dropped(key string, records int, why engine.DropReason) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.count == nil {
		d.count = map[string]int{}
	}
	d.count[key+" "+string(why)] += records
}

func (d *drops) all() map[string]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.count)
}

func outbox(t testing.TB, e *engine.Engine, o engine.OutboxOptions) *engine.Outbox {
	t.Helper()
	box, err := e.Outbox(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	return box
}

func put(t testing.TB, o *engine.Outbox, key string, records int, batch string) {
	t.Helper()
	if err := o.Append(context.Background(), key, records, []byte(batch)); err != nil {
		t.Fatal(err)
	}
}

func reader(t testing.TB, o *engine.Outbox, key string) *engine.OutboxReader {
	t.Helper()
	r, err := o.Open(key)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// soon bounds what must not wait for anything.
func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func next(t testing.TB, r *engine.OutboxReader) engine.OutboxBatch {
	t.Helper()
	b, err := r.Next(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func ack(t testing.TB, r *engine.OutboxReader, sequence uint64) {
	t.Helper()
	if err := r.Ack(sequence); err != nil {
		t.Fatal(err)
	}
}

func backlog(t testing.TB, o *engine.Outbox, want map[string]int) {
	t.Helper()
	got := map[string]int{}
	for key, b := range o.Backlog() {
		got[key] = b.Records
	}
	if !maps.Equal(got, want) {
		t.Errorf("the backlog is %v, want %v", got, want)
	}
	keys, err := o.Readers(context.Background())
	if err != nil || !slices.Equal(keys, slices.Sorted(maps.Keys(want))) {
		t.Errorf("the readers are %v, want those of %v: %v", keys, want, err)
	}
}

func TestOutboxDeliversInOrderAndOnce(t *testing.T) {
	each(t, func(t *testing.T, dir string) {
		o := outbox(t, open(t, dir), engine.OutboxOptions{})
		r := reader(t, o, "r.a.1")
		for i := range 100 {
			put(t, o, "r.a.1", 1+i%3, fmt.Sprint("one ", i))
			put(t, o, "r.a.2", 1, fmt.Sprint("two ", i))
		}
		two := reader(t, o, "r.a.2")
		var last uint64
		for i := range 100 {
			b := next(t, r)
			if string(b.Data) != fmt.Sprint("one ", i) || b.Records != 1+i%3 || b.Sequence <= last {
				t.Fatalf("batch %d is %+v after %d", i, b, last)
			}
			last = b.Sequence
			if b := next(t, two); string(b.Data) != fmt.Sprint("two ", i) {
				t.Fatalf("batch %d of the other is %+v", i, b)
			}
		}
		backlog(t, o, map[string]int{"r.a.1": 199, "r.a.2": 100})
		ack(t, r, last)
		ack(t, r, last)
		ack(t, r, 1)
		backlog(t, o, map[string]int{"r.a.2": 100})
		if _, err := o.Open("r.a.1"); err == nil {
			t.Error("a key has two readers")
		}
	})
}

func TestOutboxGivesAgainAtOnceWhatWasNotAcknowledged(t *testing.T) {
	each(t, func(t *testing.T, dir string) {
		e := open(t, dir)
		o := outbox(t, e, engine.OutboxOptions{})
		for i := range 200 {
			put(t, o, "k", 1, fmt.Sprint(i))
		}
		from := 0
		for round := range 4 {
			r := reader(t, o, "k")
			for i := from; i < 150+from; i++ {
				b := next(t, r)
				if string(b.Data) != fmt.Sprint(i) {
					t.Fatalf("round %d: %q came, want %d", round, b.Data, i)
				}
				if i == from+9 {
					ack(t, r, b.Sequence)
				}
			}
			from += 10
			r.Close()
			if err := r.Ack(1); !errors.Is(err, engine.ErrClosed) {
				t.Error("a closed reader acknowledges:", err)
			}
			backlog(t, o, map[string]int{"k": 200 - from})
			if dir != "" { // and over a restart
				closed(t, e)
				e = open(t, dir)
				o = outbox(t, e, engine.OutboxOptions{})
				backlog(t, o, map[string]int{"k": 200 - from})
			}
		}
	})
}

func TestOutboxReaderWaits(t *testing.T) {
	e := open(t, t.TempDir())
	o := outbox(t, e, engine.OutboxOptions{})
	wait := func(r *engine.OutboxReader, ctx context.Context) chan error {
		waits, ended := make(chan struct{}), make(chan error, 1)
		go func() { close(waits); _, err := r.Next(ctx); ended <- err }()
		<-waits
		return ended
	}
	r := reader(t, o, "k")
	ctx, cancel := context.WithCancel(t.Context())
	ended := wait(r, ctx)
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error("the context ended:", err)
	}
	ended = wait(r, t.Context())
	put(t, o, "k", 1, "x")
	if err := <-ended; err != nil {
		t.Error("a batch was appended:", err)
	}
	ended = wait(r, t.Context())
	r.Close()
	if err := <-ended; !errors.Is(err, engine.ErrClosed) {
		t.Error("the reader was closed:", err)
	}
	r.Close()
	r = reader(t, o, "k")
	next(t, r)
	ended = wait(r, t.Context())
	if n, err := o.Remove(t.Context(), "k"); n != 1 || err != nil {
		t.Errorf("%d records were not acknowledged, want 1: %v", n, err)
	}
	if err := <-ended; !errors.Is(err, engine.ErrClosed) {
		t.Error("the key was removed:", err)
	}
	ended = wait(reader(t, o, "k"), t.Context())
	closed(t, e)
	if err := <-ended; !errors.Is(err, engine.ErrClosed) {
		t.Error("the store was closed:", err)
	}
	if err := o.Append(t.Context(), "k", 1, []byte("x")); !errors.Is(err, engine.ErrClosed) {
		t.Error("a closed outbox takes a batch:", err)
	}
	if _, err := o.Open("k"); !errors.Is(err, engine.ErrClosed) {
		t.Error("a closed outbox is opened:", err)
	}
}

func TestOutboxRemove(t *testing.T) {
	dir := t.TempDir()
	e := open(t, dir)
	var d drops
	o := outbox(t, e, engine.OutboxOptions{Dropped: d.dropped})
	for i := range 10 {
		put(t, o, "a", 2, fmt.Sprint("old ", i))
		put(t, o, "b", 1, fmt.Sprint(i))
	}
	r := reader(t, o, "a")
	for range 4 {
		next(t, r)
	}
	ack(t, r, next(t, r).Sequence)
	next(t, r)
	if n, err := o.Remove(t.Context(), "a"); n != 10 || err != nil {
		t.Errorf("%d records were not acknowledged, want 10: %v", n, err)
	}
	if n, err := o.Remove(t.Context(), "a"); n != 0 || err != nil {
		t.Errorf("%d records were removed twice: %v", n, err)
	}
	backlog(t, o, map[string]int{"b": 10})
	put(t, o, "a", 3, "new")
	for range 2 {
		r = reader(t, o, "a")
		if b := next(t, r); string(b.Data) != "new" || b.Records != 3 {
			t.Errorf("%+v came", b)
		}
		closed(t, e)
		e = open(t, dir)
		o = outbox(t, e, engine.OutboxOptions{Dropped: d.dropped})
		backlog(t, o, map[string]int{"a": 3, "b": 10})
	}
	r = reader(t, o, "b")
	for i := range 10 {
		if b := next(t, r); string(b.Data) != fmt.Sprint(i) {
			t.Errorf("%q came, want %d", b.Data, i)
		}
	}
	if all := d.all(); len(all) != 0 {
		t.Error("what was removed counts as dropped:", all)
	}
}

// TestOutboxDropsTheOldest fills a small outbox and wants every record to be
// either delivered or counted as dropped.
func TestOutboxDropsTheOldest(t *testing.T) {
	each(t, func(t *testing.T, dir string) {
		const most = 200_000
		e := open(t, dir)
		var d drops
		o := outbox(t, e, engine.OutboxOptions{MaxBytes: most, Dropped: d.dropped})
		batch := strings.Repeat("x", 1000)
		put(t, o, "held", 1, batch)
		put(t, o, "held", 10, batch)
		put(t, o, "held", 100, batch)
		held := reader(t, o, "held")
		next(t, held)
		next(t, held) // the third is counted, though it is in memory
		put(t, o, "idle", 1000, batch)
		done := reader(t, o, "done")
		put(t, o, "done", 7, batch)
		ack(t, done, next(t, done).Sequence)
		appended := 0
		for appended < 1000 {
			put(t, o, "k", 1, batch)
			appended++
			if used := engine.Used(o); used > most {
				t.Fatalf("%d bytes are stored, at most %d may be", used, most)
			}
		}
		dropped := d.all()
		if dropped["held spool_full"] != 100 || dropped["idle spool_full"] != 1000 || dropped["done spool_full"] != 0 {
			t.Errorf("%v were dropped", dropped)
		}
		put(t, o, "held", 5, "last")
		if b := next(t, held); string(b.Data) != "last" {
			t.Errorf("%+v came", b)
		}
		backlog(t, o, map[string]int{"held": 16, "k": appended - d.all()["k spool_full"]})
		held.Close() // now the first two are lost
		dropped = d.all()
		if dropped["held spool_full"] != 111 {
			t.Errorf("%v were dropped, and 11 of them were never acknowledged", dropped)
		}
		r := reader(t, o, "k")
		got := 0
		for got < appended-dropped["k spool_full"] {
			next(t, r)
			got++
		}
		backlog(t, o, map[string]int{"held": 5, "k": got})
		if got < most/1100*9/10 {
			t.Errorf("only %d of %d batches were kept in %d bytes", got, appended, most)
		}
		r = reader(t, o, "held")
		ack(t, r, next(t, r).Sequence)
		backlog(t, o, map[string]int{"k": got})
	})
}

func TestOutboxDropsWhatIsTooOld(t *testing.T) {
	each(t, func(t *testing.T, dir string) {
		e := open(t, dir)
		var d drops
		o := outbox(t, e, engine.OutboxOptions{MaxAge: time.Hour, Dropped: d.dropped})
		put(t, o, "a", 1, "old")
		put(t, o, "b", 2, "old")
		r := reader(t, o, "a")
		next(t, r)
		put(t, o, "a", 4, "newer")
		young := engine.StoredAt(o, next(t, r).Sequence).Add(time.Hour)
		put(t, o, "b", 8, "newer")
		if err := engine.Expire(o, young.Add(-time.Minute)); err != nil || len(d.all()) != 0 {
			t.Error("young batches are dropped:", d.all(), err)
		}
		if err := engine.Expire(o, young); err != nil {
			t.Fatal(err)
		}
		if all := d.all(); !maps.Equal(all, map[string]int{"b too_old": 2}) {
			t.Error("a batch that was handed out counts, or an old one does not:", all)
		}
		backlog(t, o, map[string]int{"a": 5, "b": 8})
		if b := next(t, reader(t, o, "b")); b.Records != 8 {
			t.Errorf("%+v came", b)
		}
	})
}

func TestOutboxCompactsWhatIsDelivered(t *testing.T) {
	each(t, func(t *testing.T, dir string) {
		o := outbox(t, open(t, dir), engine.OutboxOptions{})
		a, b := reader(t, o, "a"), reader(t, o, "b")
		batch := strings.Repeat("x", 1000)
		for range 10 {
			put(t, o, "a", 1, batch)
		}
		put(t, o, "b", 1, batch)
		for range 10 {
			put(t, o, "a", 1, batch)
		}
		for range 10 {
			next(t, a)
		}
		ack(t, a, next(t, a).Sequence)
		want := func(batches int) {
			t.Helper()
			if err := engine.Compact(o); err != nil {
				t.Fatal(err)
			}
			if used := engine.Used(o); used < int64(batches*1000) || used > int64(batches*1100) {
				t.Errorf("%d bytes are stored, want %d batches", used, batches)
			}
		}
		want(11) // from that of b
		ack(t, b, next(t, b).Sequence)
		want(9)
		for range 8 {
			next(t, a)
		}
		ack(t, a, next(t, a).Sequence)
		want(0)
		backlog(t, o, map[string]int{})
		put(t, o, "a", 1, "after")
		if b := next(t, a); string(b.Data) != "after" {
			t.Errorf("%+v came", b)
		}
	})
}

// fillOutbox appends to two keys what needs more than one block, of which a part
// is acknowledged and compacted away.
func fillOutbox(t testing.TB, e *engine.Engine) {
	t.Helper()
	o := outbox(t, e, engine.OutboxOptions{MaxBytes: smallBlocks})
	for range 60 {
		put(t, o, "a", 1, strings.Repeat("x", 1000))
		put(t, o, "b", 1, strings.Repeat("y", 1000))
	}
	for _, key := range []string{"a", "b"} {
		r := reader(t, o, key)
		for range 9 {
			next(t, r)
		}
		ack(t, r, next(t, r).Sequence)
	}
	if err := engine.Compact(o); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		put(t, o, "a", 1, strings.Repeat("x", 1000))
	}
}

// smallBlocks is a bound for which NATS makes blocks of 32 KiB.
const smallBlocks = 127_000

// readOutbox reads what is there as a server does.
func readOutbox(ctx context.Context, e *engine.Engine) error {
	o, err := e.Outbox(ctx, engine.OutboxOptions{MaxBytes: smallBlocks})
	if err != nil {
		return err
	}
	for key, b := range o.Backlog() {
		r, err := o.Open(key)
		if err != nil {
			return err
		}
		for range b.Records {
			if _, err := r.Next(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

func TestOutboxOfAnOlderStore(t *testing.T) {
	dir := t.TempDir()
	e := open(t, dir)
	b := bucket(t, e)
	load(t, b)
	if _, err := b.Create(t.Context(), "k", []byte("x")); err != nil {
		t.Fatal(err)
	}
	closed(t, e)
	for range 2 { // made, but never written to; then opened as such
		e = open(t, dir)
		backlog(t, outbox(t, e, engine.OutboxOptions{}), map[string]int{})
		closed(t, e)
	}
	e = open(t, dir)
	put(t, outbox(t, e, engine.OutboxOptions{}), "k", 1, "x")
	if _, err := e.Outbox(t.Context(), engine.OutboxOptions{}); err == nil {
		t.Error("the outbox is opened twice")
	}
}

// TestOutboxLeavesRoom wants rooms to be written however much is logged, and the
// outbox to give way when the rooms grow or when the store becomes smaller.
func TestOutboxLeavesRoom(t *testing.T) {
	each(t, func(t *testing.T, dir string) {
		const limit = 4 << 20
		if dir == "" {
			t.Skip("a store in memory has 64 MiB")
		}
		openBounded := func(most int64) *engine.Engine {
			e, err := engine.Open(t.Context(), engine.Options{Dir: dir, MaxBytes: most})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { closed(t, e) })
			return e
		}
		e := openBounded(limit)
		b := bucket(t, e)
		load(t, b)
		var d drops
		o := outbox(t, e, engine.OutboxOptions{Dropped: d.dropped})
		appended := 0
		fill := func(o *engine.Outbox, bytes int) {
			for range bytes / 10_000 {
				put(t, o, "k", 1, strings.Repeat("x", 10_000))
				appended++
			}
		}
		fill(o, 2*limit)
		if used := engine.Used(o); used > limit/2 || used < limit/3 {
			t.Errorf("the outbox has %d of %d bytes", used, limit)
		}
		rooms := 0
		for ; rooms < 200; rooms++ {
			if _, err := b.Create(t.Context(), fmt.Sprint("k", rooms), []byte(strings.Repeat("x", 5000))); err != nil {
				t.Fatalf("room %d: %v", rooms, err)
			}
		}
		engine.Measure(o)
		fill(o, limit/4)
		if used := engine.Used(o); used > (limit-1<<20)/2 {
			t.Errorf("the outbox has %d of %d bytes, of which the rooms have 1 MiB", used, limit)
		}
		backlog(t, o, map[string]int{"k": appended - d.all()["k spool_full"]})
		closed(t, e)

		e = openBounded(limit / 2)
		o = outbox(t, e, engine.OutboxOptions{Dropped: d.dropped})
		if used := engine.Used(o); used > limit/4 {
			t.Errorf("the outbox has %d of %d bytes in a smaller store", used, limit/2)
		}
		backlog(t, o, map[string]int{"k": appended - d.all()["k spool_full"]})
		b = bucket(t, e)
		if n := len(load(t, b)); n != rooms {
			t.Errorf("%d rooms, want %d", n, rooms)
		}
		fill(o, limit/4)
		if _, err := b.Create(t.Context(), "one-more", []byte("x")); err != nil {
			t.Error("no room for a room:", err)
		}
	})
}

func TestOutboxOnAFullStore(t *testing.T) {
	dir := t.TempDir()
	e, err := engine.Open(t.Context(), engine.Options{Dir: dir, MaxBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer closed(t, e)
	b := bucket(t, e)
	load(t, b)
	var d drops
	o := outbox(t, e, engine.OutboxOptions{Dropped: d.dropped})
	r := reader(t, o, "held")
	put(t, o, "held", 3, "x")
	held := next(t, r)
	for range 30 {
		put(t, o, "k", 1, strings.Repeat("x", 10_000))
	}
	for made := 0; err == nil; made++ {
		_, err = b.Create(t.Context(), fmt.Sprint("k", made), []byte(strings.Repeat("x", 50_000)))
	}
	ack(t, r, held.Sequence) // a full store still delivers
	engine.Trust(o)          // the figures of a moment ago: there is room
	for range 100 {
		put(t, o, "k", 1, strings.Repeat("y", 10_000)) // in place of older ones
	}
	backlog(t, o, map[string]int{"k": 130 - d.all()["k spool_full"]})
	if n, err := o.Remove(t.Context(), "k"); err != nil || n != 130-d.all()["k spool_full"] {
		t.Error(n, err)
	}
	for made := 0; err == nil || made == 0; made++ {
		_, err = b.Create(t.Context(), fmt.Sprint("more", made), []byte(strings.Repeat("x", 50_000)))
	}
	err = o.Append(soon(t), "k", 5, []byte("z"))
	if err == nil || !strings.Contains(err.Error(), "the store is full") {
		t.Error("a full store takes a batch, or does not say why not:", err)
	}
}

// TestOutboxOnAStoreThatFails takes the stream's folder away while it is in use.
func TestOutboxOnAStoreThatFails(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the write timeout")
	}
	dir := t.TempDir()
	o := outbox(t, open(t, dir), engine.OutboxOptions{MaxBytes: smallBlocks})
	put(t, o, "k", 1, "x")
	if err := os.RemoveAll(filepath.Join(dir, "standalone", "jetstream", "$G", "streams", "CHATLOG")); err != nil {
		t.Fatal(err)
	}
	start, err := time.Now(), error(nil)
	for i := 0; err == nil; i++ { // until NATS wants a new block
		if i == 100 {
			t.Fatal("nothing is noticed")
		}
		start = time.Now()
		err = o.Append(t.Context(), "k", 1, make([]byte, 6000))
	}
	if took := time.Since(start); took > 15*time.Second || !strings.Contains(err.Error(), "did not say") {
		t.Errorf("after %v: %v", took, err)
	}
}

func TestOutboxRefusesWhatItCannotKeep(t *testing.T) {
	o := outbox(t, open(t, ""), engine.OutboxOptions{MaxBytes: 10_000})
	put(t, o, "k", 1, "small")
	for _, c := range []struct {
		name, key string
		records   int
		batch     []byte
	}{
		{"a batch over the limit", "k", 1, make([]byte, engine.MaxBatchBytes+1)},
		{"no records", "k", 0, []byte("x")},
		{"no key", "", 1, []byte("x")},
		{"an empty token", "a..b", 1, []byte("x")},
		{"a wildcard", "a.*", 1, []byte("x")},
		{"a space", "a b", 1, []byte("x")},
		{"a sign", "a=b", 1, []byte("x")},
	} {
		if err := o.Append(t.Context(), c.key, c.records, c.batch); err == nil {
			t.Errorf("%s is taken", c.name)
		}
	}
	backlog(t, o, map[string]int{"k": 1})
	over, cancel := context.WithCancel(t.Context())
	cancel()
	release := engine.Hold(o)
	if err := o.Append(over, "k", 1, []byte("x")); !errors.Is(err, context.Canceled) {
		t.Error("a caller that has gone waits for its turn:", err)
	}
	release()
	if err := o.Append(t.Context(), "k", 1, make([]byte, 20_000)); err == nil {
		t.Error("a batch is taken that is larger than the outbox")
	}
}

// split makes "a_b" the key of readers a and b.
func split(key string) []string { return strings.Split(key, "_") }

// TestOutboxOfManyReaders wants each reader to get every batch that names it, in
// the order of writing whatever the key, and batches to stay until all have them.
func TestOutboxOfManyReaders(t *testing.T) {
	each(t, func(t *testing.T, dir string) {
		e := open(t, dir)
		var d drops
		options := engine.OutboxOptions{Readers: split, Dropped: d.dropped}
		o := outbox(t, e, options)
		keys := []string{"a_b_c", "a", "a_b", "b_c", "c"}
		want := map[string][]string{}
		fill := func(from, to int) {
			for i := from; i < to; i++ {
				key := keys[i%len(keys)]
				put(t, o, key, 1+i%3, fmt.Sprint(i))
				for _, name := range split(key) {
					want[name] = append(want[name], fmt.Sprint(i))
				}
			}
		}
		expect := func(r *engine.OutboxReader, batches []string) (last uint64) {
			t.Helper()
			for _, data := range batches {
				b := next(t, r)
				if string(b.Data) != data || b.Sequence <= last {
					t.Fatalf("%+v came after %d, want %s", b, last, data)
				}
				last = b.Sequence
			}
			return last
		}
		fill(0, 50)
		a, b := reader(t, o, "a"), reader(t, o, "b")
		half := len(want["a"])
		ack(t, a, expect(a, want["a"])) // from the store
		fill(50, 100)
		expect(a, want["a"][half:half+10]) // handed on in memory
		b.Close()
		b = reader(t, o, "b")
		expect(b, want["b"][:20])
		fill(100, 150)
		ack(t, b, expect(b, want["b"][20:]))
		if err := engine.Compact(o); err != nil {
			t.Fatal(err)
		}
		if n := engine.Batches(o); n != 150 {
			t.Errorf("%d of 150 batches are stored, and c has read none", n)
		}
		if n, err := o.Remove(t.Context(), "c"); err != nil || n == 0 {
			t.Errorf("%d records of c were removed: %v", n, err)
		}
		left := o.Backlog()
		if dir != "" { // and all that is known after a restart
			closed(t, e)
			e = open(t, dir)
			o = outbox(t, e, options)
			if again := o.Backlog(); !maps.Equal(left, again) {
				t.Errorf("the backlog is %v, was %v", again, left)
			}
			a = reader(t, o, "a")
			expect(a, want["a"][half:half+10])
		}
		if len(left) != 1 {
			t.Errorf("the backlog is %v, want that of a", left)
		}
		ack(t, a, expect(a, want["a"][half+10:]))
		backlog(t, o, map[string]int{})
		if all := d.all(); len(all) != 0 {
			t.Error("something was dropped:", all)
		}
	})
}

// TestOutboxReaderFallsBehind appends more than is kept in memory for a reader
// before it takes anything, and goes on while it catches up.
func TestOutboxReaderFallsBehind(t *testing.T) {
	o := outbox(t, open(t, ""), engine.OutboxOptions{Readers: split})
	slow, fast := reader(t, o, "slow"), reader(t, o, "fast")
	pad := strings.Repeat("x", 100_000)
	appended := 0
	fill := func(n int) {
		for range n {
			put(t, o, []string{"slow_fast", "slow"}[appended%2], 1, fmt.Sprint(appended, " ", pad))
			if appended%2 == 0 {
				ack(t, fast, next(t, fast).Sequence)
			}
			appended++
		}
	}
	fill(30)
	for i := 0; i < 100; i++ {
		if i < 40 {
			fill(1 + i%2)
		}
		if i == appended {
			fill(1) // it has caught up
		}
		if b := next(t, slow); number(b.Data) != i {
			t.Fatalf("%d came, want %d", number(b.Data), i)
		}
	}
	backlog(t, o, map[string]int{"slow": appended})
}

// TestOutboxUnderAllAtOnce ends when every record was delivered or counted.
func TestOutboxUnderAllAtOnce(t *testing.T) {
	each(t, func(t *testing.T, dir string) {
		var d drops
		o := outbox(t, open(t, dir), engine.OutboxOptions{MaxBytes: 8_000, Readers: split, Dropped: d.dropped})
		keys := []string{"k0_k1", "k1_k2", "k2"}
		const writers, readers, batches = 4, 3, 150
		acked := make([]int, readers)
		var writing, reading sync.WaitGroup
		stop, cancel := context.WithCancel(t.Context())
		for i := range readers {
			reading.Go(func() {
				last := make([]int, writers)
				for stop.Err() == nil {
					r := reader(t, o, fmt.Sprint("k", i))
					held := 0
					for n := range 50 {
						b, err := r.Next(stop)
						if err != nil {
							break
						}
						var w, number int
						if _, err := fmt.Sscan(string(b.Data), &w, &number); err != nil {
							t.Error(err)
						}
						if number <= last[w] {
							t.Errorf("%d of writer %d came after %d", number, w, last[w])
						}
						last[w] = number
						held++
						if n%20 != 0 {
							continue
						}
						if err := r.Ack(b.Sequence); err != nil {
							t.Error(err)
						}
						acked[i] += held
						held = 0
					}
					for w := range last { // what was not acknowledged comes again
						last[w] = 0
					}
					r.Close()
				}
			})
		}
		for w := range writers {
			writing.Go(func() {
				for i := range batches {
					put(t, o, keys[i%len(keys)], 1, fmt.Sprint(w, " ", i+1, " ", strings.Repeat("x", 1000)))
				}
			})
		}
		for range 50 {
			if err := engine.Compact(o); err != nil {
				t.Error(err)
			}
			o.Backlog()
		}
		writing.Wait()
		cancel()
		reading.Wait()
		for i := range readers {
			name := fmt.Sprint("k", i)
			r := reader(t, o, name)
			for range o.Backlog()[name].Records {
				ack(t, r, next(t, r).Sequence)
				acked[i]++
			}
			appended := 0
			for n := range batches {
				if slices.Contains(split(keys[n%len(keys)]), name) {
					appended += writers
				}
			}
			if dropped := d.all()[name+" spool_full"]; acked[i]+dropped != appended {
				t.Errorf("%s: %d records were acknowledged and %d dropped, of %d", name, acked[i], dropped, appended)
			}
		}
		backlog(t, o, map[string]int{})
	})
}

// TestOutboxReaderClosesDuringADrop closes a reader at each moment of a drop: what
// it held is lost by that, and counted as what it is.
func TestOutboxReaderClosesDuringADrop(t *testing.T) {
	for _, moment := range []string{"before the purge", "before it is known", "behind it"} {
		t.Run(moment, func(t *testing.T) {
			var d drops
			o := outbox(t, open(t, ""), engine.OutboxOptions{MaxAge: time.Hour, Dropped: d.dropped})
			r := reader(t, o, "k")
			put(t, o, "k", 1, "held")
			at := engine.StoredAt(o, next(t, r).Sequence)
			var purge func()
			var look func() error
			switch moment {
			case "before the purge":
				purge = r.Close
			case "before it is known":
				look = func() error { r.Close(); return nil }
			}
			engine.During(o, purge, look, nil)
			if err := engine.Expire(o, at.Add(2*time.Hour)); err != nil {
				t.Fatal(err)
			}
			r.Close()
			if all := d.all(); !maps.Equal(all, map[string]int{"k too_old": 1}) {
				t.Errorf("%v were dropped, want the one that was held", all)
			}
			backlog(t, o, map[string]int{})
		})
	}
}

// TestOutboxReaderClosesWhileItFindsALoss takes a batch out of the store: only that
// one may be lost, at whatever moment the reader is closed.
func TestOutboxReaderClosesWhileItFindsALoss(t *testing.T) {
	for reads := 1; reads <= 2; reads++ { // the second is to be sure
		t.Run(fmt.Sprint("read ", reads), func(t *testing.T) {
			var d drops
			o := outbox(t, open(t, ""), engine.OutboxOptions{Dropped: d.dropped})
			for i := range 5 {
				put(t, o, "k", 1, fmt.Sprint(i))
			}
			r := reader(t, o, "k")
			next(t, r)
			if err := engine.Lose(o, next(t, r).Sequence+1); err != nil {
				t.Fatal(err)
			}
			n := 0
			engine.During(o, nil, nil, func() {
				if n++; n == reads {
					r.Close()
				}
			})
			if b, err := r.Next(t.Context()); !errors.Is(err, engine.ErrClosed) {
				t.Errorf("%+v came: %v", b, err)
			}
			r = reader(t, o, "k")
			for _, want := range []string{"0", "1", "3", "4"} {
				b := next(t, r)
				if string(b.Data) != want {
					t.Errorf("%q came, want %s", b.Data, want)
				}
				ack(t, r, b.Sequence)
			}
			if all := d.all(); !maps.Equal(all, map[string]int{"k unreadable": 1}) {
				t.Errorf("%v were dropped, want the one that is lost", all)
			}
			backlog(t, o, map[string]int{})
		})
	}
}

// TestOutboxFindsAWriteOfWhichNoAnswerCame wants such a batch to be delivered where
// it stands, and the store to be opened again whatever happened in between.
func TestOutboxFindsAWriteOfWhichNoAnswerCame(t *testing.T) {
	dir := t.TempDir()
	e := open(t, dir)
	options := engine.OutboxOptions{Readers: split}
	o := outbox(t, e, options)
	r, slow := reader(t, o, "r"), reader(t, o, "slow")
	put(t, o, "r", 1, "0")
	put(t, o, "slow", 1, "x")
	ack(t, r, next(t, r).Sequence)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Next(over); !errors.Is(err, context.Canceled) { // from now on from memory
		t.Fatal(err)
	}
	if err := engine.Doubt(o, "r_slow", 2, "1"); err != nil {
		t.Fatal(err)
	}
	if err := engine.Compact(o); err != nil { // asks the store what it has
		t.Fatal(err)
	}
	put(t, o, "r", 4, "2")
	put(t, o, "r_slow", 8, "3")
	backlog(t, o, map[string]int{"r": 14, "slow": 11})
	var last uint64
	for _, want := range []string{"1", "2", "3"} {
		b := next(t, r)
		if string(b.Data) != want || b.Sequence <= last {
			t.Errorf("%q came as %d after %d, want %s", b.Data, b.Sequence, last, want)
		}
		last = b.Sequence
	}
	ack(t, r, last)
	slow.Close()
	if n := engine.Batches(o); n != 4 {
		t.Errorf("%d batches are stored, want 4", n)
	}
	closed(t, e)
	backlog(t, outbox(t, open(t, dir), options), map[string]int{"slow": 11})
}

// TestOutboxGivesRoomBackToAFullStore fills the store until not even a mark fits.
func TestOutboxGivesRoomBackToAFullStore(t *testing.T) {
	e, err := engine.Open(t.Context(), engine.Options{Dir: t.TempDir(), MaxBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer closed(t, e)
	b := bucket(t, e)
	load(t, b)
	o := outbox(t, e, engine.OutboxOptions{})
	r := reader(t, o, "k")
	for range 20 {
		put(t, o, "k", 1, strings.Repeat("x", 10_000))
	}
	made := 0
	for _, size := range []int{50_000, 1000, 1} {
		for err = nil; err == nil; made++ {
			_, err = b.Create(t.Context(), fmt.Sprint("k", made), []byte(strings.Repeat("x", size)))
		}
	}
	for range 20 {
		ack(t, r, next(t, r).Sequence)
	}
	for limit := soon(t); err != nil; made++ {
		if limit.Err() != nil {
			t.Fatal("all is delivered, and there is no room for a room:", err)
		}
		_, err = b.Create(t.Context(), fmt.Sprint("k", made), []byte(strings.Repeat("x", 50_000)))
	}
}

// TestOutboxForgetsKeys has one reader that takes nothing while the keys of others
// come and go.
func TestOutboxForgetsKeys(t *testing.T) {
	o := outbox(t, open(t, ""), engine.OutboxOptions{MaxBytes: 20_000, Readers: split})
	r := reader(t, o, "r")
	for i := range 100 {
		put(t, o, fmt.Sprint("r_", i), 1, strings.Repeat("x", 500))
		put(t, o, "stuck", 1, strings.Repeat("x", 500))
		ack(t, r, next(t, r).Sequence)
	}
	if err := engine.Compact(o); err != nil {
		t.Fatal(err)
	}
	if n := engine.Keys(o); n > 30 {
		t.Errorf("%d keys are known, of which no more than 20 have something", n)
	}
}

// TestOutboxReaderWaitsForWhatCannotBeReadNow makes a part of the store unreadable
// for a while: nothing is lost by that.
func TestOutboxReaderWaitsForWhatCannotBeReadNow(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("needs a symbolic link")
	}
	dir := t.TempDir()
	e := open(t, dir)
	var d drops
	options := engine.OutboxOptions{MaxBytes: smallBlocks, Dropped: d.dropped}
	o := outbox(t, e, options)
	for i := range 100 {
		put(t, o, "k", 1, fmt.Sprint(i, " ", strings.Repeat("x", 1000)))
	}
	closed(t, e)
	o = outbox(t, open(t, dir), options) // nothing is in memory
	block := filepath.Join(dir, "standalone", "jetstream", "$G", "streams", "CHATLOG", "msgs", "2.blk")
	if err := errors.Join(os.Rename(block, block+".away"), os.Symlink(block, block)); err != nil {
		t.Fatal(err)
	}
	r := reader(t, o, "k")
	n := 0
	var err error
	for ; err == nil; n++ {
		_, err = r.Next(soon(t))
	}
	if n--; n == 0 || n == 100 {
		t.Fatalf("%d batches came before %v", n, err)
	}
	if err := os.Rename(block+".away", block); err != nil {
		t.Fatal(err)
	}
	for ; n < 100; n++ {
		if b := next(t, r); number(b.Data) != n {
			t.Fatalf("%d came, want %d", number(b.Data), n)
		}
	}
	if all := d.all(); len(all) != 0 {
		t.Errorf("%v were dropped", all)
	}
}

// TestOutboxAfterAPurgeOfWhichNothingIsKnown has a store that does not say what it
// has after a purge: it must open again, after more was written.
func TestOutboxAfterAPurgeOfWhichNothingIsKnown(t *testing.T) {
	dir := t.TempDir()
	e := open(t, dir)
	var d drops
	o := outbox(t, e, engine.OutboxOptions{MaxAge: time.Hour, Dropped: d.dropped})
	for range 10 {
		put(t, o, "k", 1, "x")
	}
	old := time.Now().Add(2 * time.Hour)
	silent := errors.New("silent")
	engine.During(o, nil, func() error { return silent }, nil)
	if err := engine.Expire(o, old); !errors.Is(err, silent) {
		t.Fatal("the purge was not cut off:", err)
	}
	engine.During(o, nil, nil, nil)
	put(t, o, "k", 1, "x")
	if n := engine.Batches(o); n != 1 {
		t.Errorf("%d batches are stored, want 1", n)
	}
	b := next(t, reader(t, o, "k"))
	if all := d.all(); b.Records != 1 || len(all) != 1 || all["k too_old"]+all["k unreadable"] != 10 {
		t.Errorf("%+v came, and %v were dropped, want 10", b, all)
	}
	closed(t, e)
	backlog(t, outbox(t, open(t, dir), engine.OutboxOptions{}), map[string]int{"k": 1})
}
