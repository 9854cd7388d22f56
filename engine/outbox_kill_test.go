package engine_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"hubbub/engine"
)

// useOutboxUntilKilled appends, reads, acknowledges, compacts and removes as fast
// as it can, and says what was done. The batches of a key are its numbers from 0.
// Key a is acknowledged at every fifth batch, b at each, c never.
func useOutboxUntilKilled(dir, kind string, from map[string]int) {
	ctx := context.Background()
	var said sync.Mutex
	say := func(what ...any) {
		said.Lock()
		defer said.Unlock()
		fmt.Println(what...)
	}
	check := func(err error) {
		if err != nil {
			say("error", err)
			os.Exit(1)
		}
	}
	e, err := engine.Open(ctx, engine.Options{Dir: dir})
	check(err)
	options := engine.OutboxOptions{}
	if kind == "small" {
		options.MaxBytes = 100_000
	}
	o, err := e.Outbox(ctx, options)
	check(err)
	keys := []string{"a", "b", "c"}
	if kind == "drained" {
		keys = keys[:2]
	}
	for _, key := range keys {
		go func() {
			for n := from[key]; ; n++ {
				check(o.Append(ctx, key, 1, fmt.Appendf(nil, "%d %s", n, strings.Repeat("x", 500))))
				say("put", key, n)
			}
		}()
	}
	for _, key := range keys[:2] {
		go func() {
			r, err := o.Open(key)
			check(err)
			for i := 1; ; i++ {
				b, err := r.Next(ctx)
				check(err)
				if key == "a" && i%5 != 0 {
					continue
				}
				check(r.Ack(b.Sequence))
				say("acked", key, number(b.Data), time.Now().UnixMilli())
			}
		}()
	}
	go func() {
		for {
			check(engine.Compact(o))
		}
	}()
	for {
		check(o.Append(ctx, "d", 1, []byte("0 x")))
		_, err := o.Remove(ctx, "d")
		check(err)
	}
}

func number(batch []byte) int {
	digits, _, _ := strings.Cut(string(batch), " ")
	n, err := strconv.Atoi(digits)
	if err != nil {
		panic(err)
	}
	return n
}

// TestOutboxKillNine wants no alarm after a kill at any moment, and that
// everything that was not acknowledged, and not dropped, comes again in order.
func TestOutboxKillNine(t *testing.T) {
	for _, kind := range []string{"large", "small", "drained"} {
		t.Run(kind, func(t *testing.T) {
			dir := t.TempDir()
			put, acked, upTo := map[string]int{}, map[string]int{}, map[string]int{}
			var newest uint64
			for round := range 6 {
				child := exec.Command(os.Args[0])
				child.Env = append(os.Environ(), "HUBBUB_TEST_OUTBOX="+dir, "HUBBUB_TEST_OUTBOX_KIND="+kind)
				for key, n := range put {
					child.Env = append(child.Env, fmt.Sprintf("HUBBUB_TEST_OUTBOX_%s=%d", key, n+1))
				}
				out, err := child.StdoutPipe()
				if err != nil {
					t.Fatal(err)
				}
				if err := child.Start(); err != nil {
					t.Fatal(err)
				}
				type ackedAt struct{ n, at int }
				acks := map[string][]ackedAt{}
				end := 0
				lines := bufio.NewScanner(out)
				for n := 0; lines.Scan(); n++ {
					f := strings.Fields(lines.Text())
					if f[0] == "error" {
						t.Fatalf("round %d: %s", round, lines.Text())
					}
					i, _ := strconv.Atoi(f[2])
					if f[0] == "put" {
						put[f[1]] = i
					} else {
						acked[f[1]] = i
						at, _ := strconv.Atoi(f[3])
						acks[f[1]], end = append(acks[f[1]], ackedAt{i, at}), at
					}
					if n == 50+round*100 {
						_ = child.Process.Kill() // what it said until then is still read
					}
				}
				_ = child.Wait()
				for key, all := range acks {
					for _, a := range all {
						if end-a.at > 1000 {
							upTo[key] = a.n // must not come again
						}
					}
				}

				e := open(t, dir)
				o := outbox(t, e, engine.OutboxOptions{})
				again := map[string]int{}
				for key, last := range put {
					waiting := o.Backlog()[key].Records
					r := reader(t, o, key)
					for i := range waiting {
						b := next(t, r)
						n := number(b.Data)
						if i > 0 && n != put[key]+1 {
							t.Fatalf("round %d: %d of %s came after %d", round, n, key, put[key])
						}
						if i == 0 {
							_, some := acked[key]
							if some && kind != "small" && n > acked[key]+1 || !some && kind != "small" && n > 0 {
								t.Errorf("round %d: %s begins with %d, %d was acknowledged", round, key, n, acked[key])
							}
							if u, ok := upTo[key]; ok && n <= u {
								t.Errorf("round %d: %s begins with %d, long before its end %d was acknowledged", round, key, n, u)
							}
							again[key] = acked[key] - n + 1
						}
						put[key] = n
						newest = max(newest, b.Sequence)
					}
					// A purge of everything that is cut off takes the last entry alone.
					if (put[key] < last || waiting == 0) && acked[key] < last {
						t.Errorf("round %d: %s ends at %d, %d was appended", round, key, put[key], last)
					}
					r.Close()
				}
				r := reader(t, o, "fresh")
				if err := o.Append(t.Context(), "fresh", 1, []byte("x")); err != nil {
					t.Fatal(err)
				}
				b := next(t, r)
				if b.Sequence <= newest {
					t.Errorf("round %d: sequence %d comes after %d", round, b.Sequence, newest)
				}
				newest = b.Sequence
				ack(t, r, b.Sequence)
				t.Logf("round %d: appended %v, acknowledged %v, of them again %v", round, put, acked, again)
				closed(t, e)
			}
		})
	}
}
