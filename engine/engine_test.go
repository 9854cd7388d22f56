package engine_test

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hubbub/engine"

	"go.uber.org/goleak"
)

// TestMain is also the process that the tests kill.
func TestMain(m *testing.M) {
	if dir := os.Getenv("HUBBUB_TEST_STORE"); dir != "" {
		writeUntilKilled(dir)
	}
	if dir := os.Getenv("HUBBUB_TEST_OUTBOX"); dir != "" {
		from := map[string]int{}
		for _, key := range []string{"a", "b", "c"} {
			from[key], _ = strconv.Atoi(os.Getenv("HUBBUB_TEST_OUTBOX_" + key))
		}
		useOutboxUntilKilled(dir, os.Getenv("HUBBUB_TEST_OUTBOX_KIND"), from)
	}
	if dir := os.Getenv("HUBBUB_TEST_DAMAGED"); dir != "" {
		engine.SetStartTimeout(2 * time.Second)
		fmt.Println(reopen(dir))
		os.Exit(0)
	}
	goleak.VerifyTestMain(m,
		// NATS ends its own in the background.
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.(*Server).startGoRoutine.func1"),
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.(*fileStore).syncBlocks"),
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.init.0.func1"),
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.(*consumer).cleanupNoInterestMessages"),
	)
}

func open(t testing.TB, dir string) *engine.Engine {
	t.Helper()
	e, err := engine.Open(context.Background(), engine.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closed(t, e) })
	return e
}

func closed(t testing.TB, e *engine.Engine) {
	t.Helper()
	if err := e.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

func bucket(t testing.TB, e *engine.Engine) *engine.Bucket {
	t.Helper()
	b, err := e.Bucket(context.Background(), engine.ResourcesBucket)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func load(t testing.TB, b *engine.Bucket) map[string]string {
	t.Helper()
	all := map[string]string{}
	if err := b.Load(context.Background(), func(e engine.Entry) error { all[e.Key] = string(e.Value); return nil }); err != nil {
		t.Fatal(err)
	}
	return all
}

// each runs on a store in memory and on one on disk.
func each(t *testing.T, run func(t *testing.T, dir string)) {
	t.Run("memory", func(t *testing.T) { run(t, "") })
	t.Run("disk", func(t *testing.T) { run(t, t.TempDir()) })
}

func TestCompareAndSet(t *testing.T) {
	each(t, func(t *testing.T, dir string) {
		ctx := t.Context()
		b := bucket(t, open(t, dir))
		want := func(what string, err, want error) {
			t.Helper()
			if !errors.Is(err, want) || want == nil && err != nil {
				t.Errorf("%s: %v, want %v", what, err, want)
			}
		}
		_, err := b.Get(ctx, "a.b")
		want("get before", err, engine.ErrNotFound)
		first, err := b.Create(ctx, "a.b", []byte("1"))
		want("create", err, nil)
		_, err = b.Create(ctx, "a.b", []byte("x"))
		want("create again", err, engine.ErrExists)
		second, err := b.Update(ctx, "a.b", []byte("2"), first)
		want("update", err, nil)
		_, err = b.Update(ctx, "a.b", []byte("x"), first)
		want("update of an old revision", err, engine.ErrStale)
		want("delete of an old revision", b.Delete(ctx, "a.b", first), engine.ErrStale)
		e, err := b.Get(ctx, "a.b")
		if err != nil || string(e.Value) != "2" || e.Revision != second || second <= first {
			t.Errorf("%+v %v", e, err)
		}
		want("delete", b.Delete(ctx, "a.b", second), nil)
		_, err = b.Get(ctx, "a.b")
		want("get after", err, engine.ErrNotFound)
		_, err = b.Update(ctx, "a.b", []byte("x"), second)
		want("update of what is gone", err, engine.ErrStale)
		third, err := b.Create(ctx, "a.b", []byte("3"))
		if err != nil || third <= second {
			t.Errorf("created anew at %d: %v", third, err)
		}
		canceled, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := b.Create(canceled, "c", []byte("4")); err != nil {
			t.Error("a caller that goes away must not leave a write in doubt:", err)
		}
		if all := load(t, b); len(all) != 2 || all["a.b"] != "3" || all["c"] != "4" {
			t.Error(all)
		}
	})
}

func TestOneOfManyWins(t *testing.T) {
	each(t, func(t *testing.T, dir string) {
		e := open(t, dir)
		b := bucket(t, e)
		o, err := e.Once(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var created, used atomic.Int64
		var callers sync.WaitGroup
		for range 16 {
			callers.Go(func() {
				for i := range 20 {
					if _, err := b.Create(context.Background(), fmt.Sprint("k", i), []byte("x")); err == nil {
						created.Add(1)
					} else if !errors.Is(err, engine.ErrExists) {
						t.Error(err)
					}
					if err := o.Use(context.Background(), fmt.Sprint("k", i), time.Now().Add(time.Hour)); err == nil {
						used.Add(1)
					} else if !errors.Is(err, engine.ErrUsed) {
						t.Error(err)
					}
				}
			})
		}
		callers.Wait()
		if created.Load() != 20 || used.Load() != 20 {
			t.Errorf("%d created, %d used, want 20 of each", created.Load(), used.Load())
		}
	})
}

func TestARestartKeepsEverything(t *testing.T) {
	dir := t.TempDir()
	for round := range 4 {
		e := open(t, dir)
		b := bucket(t, e)
		o, err := e.Once(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if all := load(t, b); len(all) != round {
			t.Fatalf("round %d: %v", round, all)
		}
		for i := range round {
			if err := o.Use(t.Context(), fmt.Sprint("t", i), time.Now().Add(time.Hour)); !errors.Is(err, engine.ErrUsed) {
				t.Errorf("round %d: token %d: %v", round, i, err)
			}
		}
		if err := o.Use(t.Context(), fmt.Sprint("t", round), time.Now().Add(time.Hour)); err != nil {
			t.Error(err)
		}
		if _, err := b.Create(t.Context(), fmt.Sprint("k", round), []byte("x")); err != nil {
			t.Error(err)
		}
		r, err := b.Create(t.Context(), "short-lived", []byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Delete(t.Context(), "short-lived", r); err != nil {
			t.Error(err)
		}
		closed(t, e)
		if err := o.Use(t.Context(), "late", time.Now()); err == nil {
			t.Error("a closed store takes a token")
		}
	}
}

func TestTheFolderIsOneProcesss(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	_, err := engine.Open(t.Context(), engine.Options{Dir: dir})
	if !errors.Is(err, engine.ErrLocked) || !strings.Contains(err.Error(), fmt.Sprint("process ", os.Getpid())) || !strings.Contains(err.Error(), "--data") {
		t.Error(err)
	}
}

// TestDamageIsRefused breaks a store in many ways after a clean end.
func TestDamageIsRefused(t *testing.T) {
	matching := func(t *testing.T, dir, pattern string) []string {
		t.Helper()
		var found []string
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if ok, _ := filepath.Match(pattern, filepath.Base(path)); ok {
				found = append(found, path)
			}
			return err
		})
		if err != nil || len(found) == 0 {
			t.Fatalf("nothing matches %s: %v", pattern, err)
		}
		return found
	}
	onEach := func(pattern string, do func(path string) error) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			for _, path := range matching(t, dir, pattern) {
				if err := do(path); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	cut := func(path string) error { return os.Truncate(path, 0) }
	half := func(path string) error {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		return os.Truncate(path, info.Size()/2)
	}
	short := func(path string) error {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		return os.Truncate(path, info.Size()-1)
	}
	flip := func(path string) error {
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for i := range b {
			if i%50 == 25 {
				b[i] ^= 0xff
			}
		}
		return os.WriteFile(path, b, 0o600)
	}
	// flipAt turns one byte of a block around, at says which: it is given where
	// the records begin, each with four bytes of length and eight of sequence.
	flipAt := func(at func(size int, records []int) int) func(string) error {
		return func(path string) error {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			var records []int
			for i := 0; i < len(b); i += int(binary.LittleEndian.Uint32(b[i:]) &^ (1 << 31)) {
				records = append(records, i)
			}
			b[at(len(b), records)] ^= 0x5a
			return os.WriteFile(path, b, 0o600)
		}
	}
	blocksOf := func(stream string, do func(path string) error) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			for _, path := range matching(t, filepath.Join(dir, "standalone", "jetstream", "$G", "streams", stream), "*.blk") {
				if err := do(path); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	both := func(a, b func(*testing.T, string)) func(*testing.T, string) {
		return func(t *testing.T, dir string) { a(t, dir); b(t, dir) }
	}
	noIndex := onEach("index.db", os.Remove)
	outbox := func(harm func(*testing.T, string)) func(*testing.T, string) {
		return func(t *testing.T, dir string) { harm(t, matching(t, dir, "CHATLOG")[0]) }
	}
	at := func(last bool, do func(string) error) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			blocks := matching(t, dir, "*.blk")
			if len(blocks) < 3 {
				t.Fatal("too few blocks:", blocks)
			}
			slices.SortFunc(blocks, func(a, b string) int { return cmp.Or(len(a)-len(b), strings.Compare(a, b)) })
			block := blocks[0]
			if last {
				block = blocks[len(blocks)-1]
			}
			if err := do(block); err != nil {
				t.Fatal(err)
			}
		}
	}
	first := func(do func(string) error) func(*testing.T, string) { return at(false, do) }
	last := func(do func(string) error) func(*testing.T, string) { return at(true, do) }
	for _, c := range []struct {
		name string
		harm func(*testing.T, string)
	}{
		{"blocks are empty", onEach("*.blk", cut)},
		{"blocks are empty and the index is gone", both(onEach("*.blk", cut), noIndex)},
		{"blocks are cut in half", onEach("*.blk", half)},
		{"blocks are cut in half and the index is gone", both(onEach("*.blk", half), noIndex)},
		{"blocks are gone", onEach("*.blk", os.Remove)},
		{"blocks and index are gone", both(onEach("*.blk", os.Remove), noIndex)},
		{"bits of the blocks are flipped", onEach("*.blk", flip)},
		{"bits are flipped and the index is gone", both(onEach("*.blk", flip), noIndex)},
		{"a bit of one used token is flipped", blocksOf("USED_TOKENS", flipAt(func(_ int, records []int) int { return records[6] - 20 }))},
		{"a bit of the last used token is flipped", blocksOf("USED_TOKENS", flipAt(func(size int, _ []int) int { return size - 20 }))},
		{"a bit of the last change is flipped", blocksOf("KV_resources", flipAt(func(size int, _ []int) int { return size - 2 }))},
		{"the last change is cut short", blocksOf("KV_resources", short)},
		{"the last removal is cut short", blocksOf("KV_others", short)},
		{"a bit of a sequence is flipped", blocksOf("KV_keys", flipAt(func(_ int, records []int) int { return records[len(records)-1] + 4 + 5 }))},
		{"the descriptions of the streams are gone", onEach("meta.inf", os.Remove)},
		{"the descriptions of the streams are nonsense", onEach("meta.inf", func(p string) error { return os.WriteFile(p, []byte("{"), 0o600) })},
		{"a stream is gone", onEach("KV_resources", os.RemoveAll)},
		{"the keys are gone", onEach("KV_keys", os.RemoveAll)},
		{"the used tokens are gone", onEach("USED_TOKENS", os.RemoveAll)},
		{"the outbox is gone", onEach("CHATLOG", os.RemoveAll)},
		{"the blocks of the outbox are empty", outbox(onEach("*.blk", cut))},
		{"the blocks of the outbox are empty and the index is gone", outbox(both(onEach("*.blk", cut), noIndex))},
		{"the blocks of the outbox are gone", outbox(onEach("*.blk", os.Remove))},
		{"the blocks and the index of the outbox are gone", outbox(both(onEach("*.blk", os.Remove), noIndex))},
		{"the first block of the outbox is gone", outbox(first(os.Remove))},
		{"the first block and the index of the outbox are gone", outbox(both(first(os.Remove), noIndex))},
		{"the last block of the outbox is cut", outbox(last(half))},
		{"the last block of the outbox is cut and the index is gone", outbox(both(last(half), noIndex))},
		{"the last block of the outbox is gone", outbox(last(os.Remove))},
		{"the last block and the index of the outbox are gone", outbox(both(last(os.Remove), noIndex))},
		{"bits of the outbox are flipped", outbox(onEach("*.blk", flip))},
		{"bits of the outbox are flipped and the index is gone", outbox(both(onEach("*.blk", flip), noIndex))},
		{"the store is gone", func(t *testing.T, dir string) {
			if err := os.RemoveAll(filepath.Join(dir, "standalone")); err != nil {
				t.Fatal(err)
			}
		}},
		{"the mode is gone", func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, "MODE")); err != nil {
				t.Fatal(err)
			}
		}},
		{"the mode is another", func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, "MODE"), []byte("hubbub cluster store, format 1\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}},
		{"it belongs to a cluster", func(t *testing.T, dir string) {
			if err := os.Mkdir(filepath.Join(dir, "cluster-x"), 0o700); err != nil {
				t.Fatal(err)
			}
		}},
		{"the guard is nonsense", onEach("GUARD", func(p string) error { return os.WriteFile(p, []byte("{"), 0o600) })},
		{"a file is in the store's place", func(t *testing.T, dir string) {
			path := filepath.Join(dir, "standalone")
			if err := errors.Join(os.RemoveAll(path), os.WriteFile(path, nil, 0o600)); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			e := open(t, dir)
			fill(t, e)
			closed(t, e)
			c.harm(t, dir)
			// In a process of its own: NATS may be left in the middle of something.
			child := exec.Command(os.Args[0])
			child.Env = append(os.Environ(), "HUBBUB_TEST_DAMAGED="+dir)
			said, err := child.Output()
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(string(said), "<nil>") {
				t.Fatal("the loss goes unnoticed")
			}
			if !strings.Contains(string(said), dir) {
				t.Errorf("the error does not name the folder: %s", said)
			}
			t.Logf("%s", said)
		})
	}
}

// fill writes to every part of the store.
func fill(t testing.TB, e *engine.Engine) {
	t.Helper()
	ctx := context.Background()
	for _, name := range []string{engine.ResourcesBucket, "others", engine.KeysBucket} {
		b, err := e.Bucket(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Load(ctx, func(engine.Entry) error { return nil }); err != nil {
			t.Fatal(err)
		}
		for i := range 20 {
			if _, err := b.Create(ctx, fmt.Sprint("k", i), []byte(strings.Repeat("x", 50))); err != nil {
				t.Fatal(err)
			}
		}
	}
	// The last entry is a new value of a key: without it the old one is there again.
	b, err := e.Bucket(ctx, engine.ResourcesBucket)
	if err != nil {
		t.Fatal(err)
	}
	old, err := b.Get(ctx, "k0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Update(ctx, "k0", []byte("new"), old.Revision); err != nil {
		t.Fatal(err)
	}
	// Here it is the removal of a key.
	if b, err = e.Bucket(ctx, "others"); err != nil {
		t.Fatal(err)
	}
	if old, err = b.Get(ctx, "k0"); err != nil {
		t.Fatal(err)
	}
	if err := b.Delete(ctx, "k0", old.Revision); err != nil {
		t.Fatal(err)
	}
	o, err := e.Once(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 { // each a batch of its own
		if err := o.Use(ctx, fmt.Sprint("token", i), time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	fillOutbox(t, e)
}

// reopen opens everything as a server does.
func reopen(dir string) error {
	ctx := context.Background()
	e, err := engine.Open(ctx, engine.Options{Dir: dir})
	if err != nil {
		return err
	}
	defer e.Close(ctx)
	for _, name := range []string{engine.ResourcesBucket, "others", engine.KeysBucket} {
		b, err := e.Bucket(ctx, name)
		if err != nil {
			return err
		}
		if err := b.Load(ctx, func(engine.Entry) error { return nil }); err != nil {
			return err
		}
	}
	if _, err = e.Once(ctx); err != nil {
		return err
	}
	return readOutbox(ctx, e)
}

func TestAFullStoreRefusesAndKeepsWhatItHas(t *testing.T) {
	dir := t.TempDir()
	e, err := engine.Open(t.Context(), engine.Options{Dir: dir, MaxBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	b := bucket(t, e)
	load(t, b)
	made := 0
	for err == nil && made < 10_000 {
		if _, err = b.Create(t.Context(), fmt.Sprint("k", made), []byte(strings.Repeat("x", 4096))); err == nil {
			made++
		}
	}
	if err == nil || made < 50 || !strings.Contains(err.Error(), "the store is full") {
		t.Fatalf("%d entries of 4 KiB in 1 MiB, %v", made, err)
	}
	t.Log(made, err)
	if all := load(t, b); len(all) != made {
		t.Errorf("%d entries, acknowledged were %d", len(all), made)
	}
	closed(t, e)
	if all := load(t, bucket(t, open(t, dir))); len(all) != made {
		t.Errorf("%d entries after a restart, acknowledged were %d", len(all), made)
	}
}

// TestAFullDiskRefusesAndTakesAgain has another program fill the disk for a while.
func TestAFullDiskRefusesAndTakesAgain(t *testing.T) {
	dir := t.TempDir()
	e := open(t, dir)
	b := bucket(t, e)
	load(t, b)
	revision, err := b.Create(t.Context(), "before", []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	used, err := e.Once(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	o := outbox(t, e, engine.OutboxOptions{})
	put(t, o, "k", 1, "before")
	hour := time.Now().Add(time.Hour)
	writes := map[string]func() error{
		"a new entry":  func() error { _, err := b.Create(t.Context(), "new", []byte("x")); return err },
		"a used token": func() error { return used.Use(t.Context(), "token", hour) },
		"a batch":      func() error { return o.Append(soon(t), "k", 1, []byte("new")) },
		"a change": func() error {
			changed, err := b.Update(t.Context(), "before", []byte("y"), revision)
			revision = max(revision, changed)
			return err
		},
		"a removal": func() error { return b.Delete(t.Context(), "before", revision) },
	}
	order := []string{"a new entry", "a used token", "a batch", "a change", "a removal"}
	engine.SetFree(e, 1000)
	for _, name := range order {
		if err := writes[name](); err == nil || !strings.Contains(err.Error(), "the disk of "+dir+" is full") {
			t.Errorf("%s on a full disk: %v", name, err)
		}
	}
	backlog(t, o, map[string]int{"k": 1})
	r := reader(t, o, "k")
	ack(t, r, next(t, r).Sequence)
	if err := engine.Compact(o); err == nil {
		t.Error("compacted on a full disk")
	}
	engine.SetFree(e, -1)
	for _, name := range order {
		if err := writes[name](); err != nil {
			t.Errorf("%s when there is room again: %v", name, err)
		}
	}
	backlog(t, o, map[string]int{"k": 1})
	for limit, tick := soon(t), time.Tick(10*time.Millisecond); engine.Batches(o) != 1; <-tick {
		if limit.Err() != nil {
			t.Fatalf("%d batches are stored; what was delivered is not compacted away by itself", engine.Batches(o))
		}
	}
	if err := used.Use(t.Context(), "token", hour); !errors.Is(err, engine.ErrUsed) {
		t.Errorf("the token is used, not %v", err)
	}
}

// writeUntilKilled writes, removes and uses as fast as it can, and says what was
// acknowledged.
func writeUntilKilled(dir string) {
	ctx := context.Background()
	e, err := engine.Open(ctx, engine.Options{Dir: dir})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	b, err := e.Bucket(ctx, engine.ResourcesBucket)
	if err == nil {
		err = b.Load(ctx, func(engine.Entry) error { return nil })
	}
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	o, err := e.Once(ctx)
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	var said sync.Mutex
	say := func(what, key string) {
		said.Lock()
		defer said.Unlock()
		fmt.Println(what, key)
	}
	for w := range 4 {
		go func() {
			for i := 0; ; i++ {
				key := fmt.Sprintf("%d-%d-%d", os.Getpid(), w, i)
				r, err := b.Create(ctx, key, []byte(key))
				if err != nil {
					continue
				}
				say("created", key)
				if i%3 == 0 {
					say("deleting", key)
					if b.Delete(ctx, key, r) == nil {
						say("deleted", key)
					}
				}
				if o.Use(ctx, key, time.Now().Add(time.Hour)) == nil {
					say("used", key)
				}
			}
		}()
	}
	select {}
}

func TestKillNine(t *testing.T) {
	dir := t.TempDir()
	state := map[string]string{}
	used := map[string]bool{}
	for round := range 8 {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), "HUBBUB_TEST_STORE="+dir)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			what, key, _ := strings.Cut(lines.Text(), " ")
			switch what {
			case "error":
				t.Fatalf("round %d: %s", round, key)
			case "used":
				used[key] = true
			default:
				state[key] = what
			}
			if n == 20+round*60 {
				_ = child.Process.Kill() // what it said until then is still read
			}
		}
		_ = child.Wait()

		e := open(t, dir)
		all := load(t, bucket(t, e))
		for key, what := range state {
			_, there := all[key]
			if what == "created" && !there || what == "deleted" && there {
				t.Errorf("round %d: %s was %s, there: %v", round, key, what, there)
			}
		}
		for key, value := range all {
			if key != value {
				t.Errorf("round %d: %s is half-made: %q", round, key, value)
			}
		}
		o, err := e.Once(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for key := range used {
			if err := o.Use(t.Context(), key, time.Now().Add(time.Hour)); !errors.Is(err, engine.ErrUsed) {
				t.Errorf("round %d: token %s: %v", round, key, err)
			}
		}
		if err := o.Use(t.Context(), fmt.Sprint("fresh", round), time.Now().Add(time.Hour)); err != nil {
			t.Error(err)
		}
		closed(t, e)
	}
	t.Logf("%d keys, %d tokens", len(state), len(used))
	if len(used) < 50 {
		t.Error("the processes did too little to prove anything")
	}
}

func BenchmarkOpenEmpty(b *testing.B) {
	for b.Loop() {
		e, err := engine.Open(context.Background(), engine.Options{Dir: b.TempDir()})
		if err != nil {
			b.Fatal(err)
		}
		closed(b, e)
	}
}

func BenchmarkUse(b *testing.B) {
	e, err := engine.Open(context.Background(), engine.Options{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer closed(b, e)
	o, err := e.Once(context.Background())
	if err != nil {
		b.Fatal(err)
	}
	var n atomic.Int64
	b.SetParallelism(64)
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			if err := o.Use(context.Background(), fmt.Sprintf("%016d", n.Add(1)), time.Now().Add(time.Hour)); err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tokens/s")
}

func TestAKeyThatNobodyWaitsForAnyMoreStaysGood(t *testing.T) {
	o, err := open(t, "").Once(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	engine.Queue(over, o, "token")
	// The queue is in order: when this one is done, so is the one before it.
	if err := o.Use(t.Context(), "other", time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if err := o.Use(t.Context(), "token", time.Now().Add(time.Hour)); err != nil {
		t.Error("a token whose handshake was given up before the store had it:", err)
	}
}

func TestAKeyIsRememberedBeyondItsTime(t *testing.T) {
	o, err := open(t, "").Once(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// Two handshakes with one token, begun within its time: the store was down until it was over.
	over := time.Now().Add(-5 * time.Second)
	if err := o.Use(t.Context(), "token", over); err != nil {
		t.Fatal(err)
	}
	if err := o.Use(t.Context(), "token", over); !errors.Is(err, engine.ErrUsed) {
		t.Errorf("got %v, want %v: the token opened two connections", err, engine.ErrUsed)
	}
}
