package engine_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"hubbub/engine"
)

// lossless are options that refuse to lose anything.
func lossless(t testing.TB) engine.OutboxOptions {
	return engine.OutboxOptions{Dropped: func(reader string, records int, why engine.DropReason) {
		t.Errorf("%d records were lost to %s: %s", records, reader, why)
	}}
}

func appendNumbers(t testing.TB, o *engine.Outbox, key string, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		if err := o.Append(t.Context(), key, 1, []byte(strconv.Itoa(i))); err != nil {
			t.Fatal(err)
		}
	}
}

// take reads so many batches, and acknowledges them.
func take(t testing.TB, r *engine.OutboxReader, n int) (got []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for range n {
		b, err := r.Next(ctx)
		if err != nil {
			t.Fatalf("after %v: %v", got, err)
		}
		got = append(got, string(b.Data))
		if err := r.Ack(b.Sequence); err != nil {
			t.Fatal(err)
		}
	}
	return got
}

func openReader(t testing.TB, o *engine.Outbox, name string) *engine.OutboxReader {
	t.Helper()
	r, err := o.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func numbers(from, to int) (list []string) {
	for i := from; i < to; i++ {
		list = append(list, strconv.Itoa(i))
	}
	return list
}

func TestTheOutboxOfANodeThatIsGoneIsTakenOver(t *testing.T) {
	t.Parallel()
	c := startTrio(t)
	o, err := c.nodes[0].Outbox(t.Context(), lossless(t))
	if err != nil {
		t.Fatal(err)
	}
	appendNumbers(t, o, "x", 0, 10)
	if got, want := take(t, openReader(t, o, "x"), 3), numbers(0, 3); !slices.Equal(got, want) {
		t.Fatalf("the node itself got %v, want %v", got, want)
	}
	if orphans, err := c.nodes[1].Orphans(t.Context()); err != nil || len(orphans) > 0 {
		t.Errorf("orphans while all are there: %v %v", orphans, err)
	}
	c.stop(0)
	orphansOf := func(i int) (orphans []string) {
		eventually(t, 30*time.Second, "it is known whose outbox nobody has", func() bool {
			var err error
			orphans, err = c.nodes[i].Orphans(t.Context())
			return err == nil
		})
		return orphans
	}
	eventually(t, 30*time.Second, "b is to deliver for a", func() bool { return slices.Equal(orphansOf(1), []string{"a"}) })
	if orphans := orphansOf(2); len(orphans) > 0 {
		t.Errorf("c is to deliver for %v as well", orphans)
	}
	heir, err := c.nodes[1].TakeOver(t.Context(), "a", lossless(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := heir.Append(t.Context(), "x", 1, []byte("y")); err == nil {
		t.Error("a node appends to the outbox of another")
	}
	if got, want := take(t, openReader(t, heir, "x"), 3), numbers(3, 6); !slices.Equal(got, want) {
		t.Errorf("b got %v, want %v", got, want)
	}
	// Whoever took it over goes on with it, also if another one is the first.
	heir.Close()
	if heir, err = c.nodes[2].TakeOver(t.Context(), "a", lossless(t)); err != nil {
		t.Fatal(err)
	}
	heir.Close()
	heir.Close() // once more does nothing
	if ofB, ofC := orphansOf(1), orphansOf(2); len(ofB) > 0 || !slices.Equal(ofC, []string{"a"}) {
		t.Errorf("b is to deliver for %v and c for %v, after c has done so for a", ofB, ofC)
	}
	// And b goes too: its part is c's.
	c.start(0) // as of another day: two are needed for a quorum
	c.stop(1)
	o, err = c.nodes[0].Outbox(t.Context(), lossless(t))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := take(t, openReader(t, o, "x"), 4), numbers(6, 10); !slices.Equal(got, want) {
		t.Errorf("a got %v when it was back, want %v", got, want)
	}
}

func TestANodeTakesItsOutboxBack(t *testing.T) {
	t.Parallel()
	c := startTrio(t)
	o, err := c.nodes[0].Outbox(t.Context(), lossless(t))
	if err != nil {
		t.Fatal(err)
	}
	appendNumbers(t, o, "x", 0, 10)
	mine := openReader(t, o, "x")
	take(t, mine, 2)
	if err := engine.Mark(o); err != nil { // the next marks would take the outbox back
		t.Fatal(err)
	}
	// As if b did not hear a, which is alive.
	heir, err := c.nodes[1].TakeOver(t.Context(), "a", lossless(t))
	if err != nil {
		t.Fatal(err)
	}
	theirs := openReader(t, heir, "x")
	appendNumbers(t, o, "x", 10, 15)
	got := take(t, theirs, 1)
	first, err := strconv.Atoi(got[0])
	if err != nil || first > 2 {
		t.Fatalf("b begins with %v, want no more than 2 passed over", got)
	}
	if got, want := take(t, theirs, 9-first), numbers(first+1, 10); !slices.Equal(got, want) {
		t.Errorf("b got %v, want %v: what was there when it took over", got, want)
	}
	if err := engine.Compact(heir); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "b has delivered all that it knows of", func() bool { return len(heir.Backlog()) == 0 })
	seen := map[string]bool{}
	for !seen["14"] {
		for _, n := range take(t, mine, 1) {
			seen[n] = true
		}
	}
	for _, n := range numbers(10, 15) {
		if !seen[n] {
			t.Errorf("batch %s, which was appended after b took over, is gone", n)
		}
	}
	if err := engine.Mark(o); err != nil {
		t.Fatal(err)
	}
	if err := engine.Mark(heir); err != nil && !errors.Is(err, engine.ErrOwned) {
		t.Fatal(err)
	}
	appendNumbers(t, o, "x", 15, 16)
	take(t, mine, 1)
	if err := engine.Mark(o); err != nil {
		t.Errorf("a cannot write marks after it took its outbox back: %v", err)
	}
}

// What another node has removed of an outbox, without that its owner knows of it, is
// not waited for.
func TestWhatAnotherNodeRemovedIsNotWaitedFor(t *testing.T) {
	c := startTrio(t)
	dropped := func(string, int, engine.DropReason) {}
	o, err := c.nodes[0].Outbox(t.Context(), engine.OutboxOptions{Dropped: dropped})
	if err != nil {
		t.Fatal(err)
	}
	appendNumbers(t, o, "x", 0, 10)
	mine := openReader(t, o, "x")
	take(t, mine, 2)
	if err := engine.Mark(o); err != nil {
		t.Fatal(err)
	}
	heir, err := c.nodes[1].TakeOver(t.Context(), "a", engine.OutboxOptions{Dropped: dropped})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := take(t, openReader(t, heir, "x"), 3), numbers(2, 5); !slices.Equal(got, want) {
		t.Fatalf("b got %v, want %v", got, want)
	}
	if err := engine.Mark(heir); err != nil {
		t.Fatal(err)
	}
	if err := engine.Compact(heir); err != nil {
		t.Fatal(err)
	}
	for sequence := range uint64(5) { // as what is too old
		if err := engine.Lose(heir, 6+sequence); err != nil {
			t.Fatal(err)
		}
	}
	appendNumbers(t, o, "y", 0, 1)
	take(t, openReader(t, o, "y"), 1)
	if err := engine.Mark(o); err != nil {
		t.Fatalf("a does not find out what b has removed: %v", err)
	}
	appendNumbers(t, o, "x", 10, 12)
	if got, want := take(t, mine, 2), numbers(10, 12); !slices.Equal(got, want) {
		t.Errorf("a got %v, want %v", got, want)
	}
}

func TestNothingIsLostHoweverOftenAnOutboxIsTakenOver(t *testing.T) {
	t.Parallel()
	c := startTrio(t)
	o, err := c.nodes[0].Outbox(t.Context(), lossless(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	const batches = 300
	var mu sync.Mutex
	seen := map[string]int{}
	deliver := func(ctx context.Context, o *engine.Outbox, most int) {
		r, err := o.Open("x")
		if err != nil {
			t.Error(err)
			return
		}
		defer r.Close()
		for range most {
			b, err := r.Next(ctx)
			switch {
			case ctx.Err() != nil, errors.Is(err, engine.ErrClosed):
				return
			case err != nil:
				t.Error(err)
				return
			}
			mu.Lock()
			seen[string(b.Data)]++
			mu.Unlock()
			if err := r.Ack(b.Sequence); err != nil {
				return
			}
		}
	}
	var running sync.WaitGroup
	taking, enough := context.WithCancel(ctx)
	for i := range 2 { // the others take over as if they heard nobody
		running.Go(func() {
			for taking.Err() == nil {
				heir, err := c.nodes[i+1].TakeOver(taking, "a", lossless(t))
				if err != nil {
					if taking.Err() == nil {
						t.Error(err)
					}
					return
				}
				reading, cancel := context.WithCancel(taking)
				stop := context.AfterFunc(taking, cancel)
				go func() { // what it knows comes to an end
					select {
					case <-heir.Lost():
					case <-time.After(time.Duration(10+rand.IntN(100)) * time.Millisecond):
					case <-reading.Done():
					}
					cancel()
				}()
				deliver(reading, heir, 1+rand.IntN(50))
				_ = engine.Compact(heir)
				stop()
				cancel()
				heir.Close()
			}
		})
	}
	running.Go(func() {
		for ctx.Err() == nil && taking.Err() == nil {
			deliver(taking, o, 1+rand.IntN(100))
		}
	})
	appendNumbers(t, o, "x", 0, batches)
	enough()
	running.Wait()
	deliver(withDeadline(t, ctx, o), o, batches*2)
	twice := 0
	for _, n := range numbers(0, batches) {
		switch seen[n] {
		case 0:
			t.Errorf("batch %s was delivered by nobody", n)
		case 1:
		default:
			twice++
		}
	}
	t.Logf("%d of %d were delivered more than once", twice, batches)
}

// withDeadline ends when an outbox has nothing more.
func withDeadline(t *testing.T, ctx context.Context, o *engine.Outbox) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer cancel()
		for ctx.Err() == nil && len(o.Backlog()) > 0 {
			time.Sleep(5 * time.Millisecond)
		}
	}()
	t.Cleanup(cancel)
	return ctx
}

func TestNodeNamesDoNotMeetInTheNamesOfStreams(t *testing.T) {
	streams := map[string]string{}
	for _, node := range []string{"a", "MARKS_a", "a_MARKS", "MARKS_CHATLOG_a", "MARKS"} {
		for _, name := range engine.OutboxStreams(node) {
			if other, taken := streams[name]; taken {
				t.Errorf("%s is a stream of %q and of %q", name, other, node)
			}
			streams[name] = fmt.Sprint("node ", node)
		}
	}
}
