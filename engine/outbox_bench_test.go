package engine_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"hubbub/engine"
)

// BenchmarkOutboxAppend is one writer that awaits each batch, with readers that
// take and acknowledge them as they come, as a server has it.
func BenchmarkOutboxAppend(b *testing.B) {
	for _, size := range []int{512, 8 << 10, 64 << 10} {
		for _, keys := range []int{1, 10} {
			for _, readers := range []bool{false, true} {
				b.Run(fmt.Sprintf("size=%d/keys=%d/readers=%v", size, keys, readers), func(b *testing.B) {
					e := open(b, b.TempDir())
					o := outbox(b, e, engine.OutboxOptions{})
					ctx := context.Background()
					if readers {
						for i := range keys {
							r := reader(b, o, fmt.Sprint("k", i))
							go func() {
								for {
									batch, err := r.Next(ctx)
									if err != nil || r.Ack(batch.Sequence) != nil {
										return
									}
								}
							}()
						}
					}
					batch := bytes.Repeat([]byte("x"), size)
					var took []time.Duration
					b.ReportAllocs()
					for i := 0; b.Loop(); i++ {
						start := time.Now()
						if err := o.Append(ctx, fmt.Sprint("k", i%keys), 1, batch); err != nil {
							b.Fatal(err)
						}
						took = append(took, time.Since(start))
					}
					slices.Sort(took)
					b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "batches/s")
					b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us")
					b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
					closed(b, e)
				})
			}
		}
	}
}

// BenchmarkOutboxRead is one reader that catches up, with an acknowledgement
// every 64 batches.
func BenchmarkOutboxRead(b *testing.B) {
	for _, size := range []int{512, 8 << 10, 64 << 10} {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			e := open(b, b.TempDir())
			o := outbox(b, e, engine.OutboxOptions{})
			const stored = 1000
			batch := bytes.Repeat([]byte("x"), size)
			for range stored {
				if err := o.Append(b.Context(), "k", 1, batch); err != nil {
					b.Fatal(err)
				}
			}
			r, i := reader(b, o, "k"), 0
			var last uint64
			for b.Loop() {
				if i++; i%stored == 0 { // from the beginning, what was acknowledged apart
					r.Close()
					r = reader(b, o, "k")
				}
				last = next(b, r).Sequence
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "batches/s")
			b.SetBytes(int64(size))
			if last > 0 {
				ack(b, r, last)
			}
		})
	}
}

// BenchmarkOutboxFull appends to an outbox that has to drop as much.
func BenchmarkOutboxFull(b *testing.B) {
	for _, size := range []int{512, 64 << 10} {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			o := outbox(b, open(b, b.TempDir()), engine.OutboxOptions{MaxBytes: 64 << 20})
			batch := bytes.Repeat([]byte("x"), size)
			worst := time.Duration(0)
			for b.Loop() {
				start := time.Now()
				if err := o.Append(b.Context(), "k", 1, batch); err != nil {
					b.Fatal(err)
				}
				worst = max(worst, time.Since(start))
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "batches/s")
			b.ReportMetric(float64(worst.Milliseconds()), "worst-ms")
		})
	}
}
