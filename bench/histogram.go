package main

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// histogram counts durations in buckets of less than 1.6 % of their value, so
// that millions of delays of several processes fit in a shared page.
type histogram [2048]atomic.Int64

func (h *histogram) add(d time.Duration) {
	h[bucket(d)].Add(1)
}

// bucket of a duration: microseconds below 64, then 64 buckets an octave.
func bucket(d time.Duration) int {
	us := uint64(max(0, d.Microseconds()))
	if us < 64 {
		return int(us)
	}
	e := bits.Len64(us) - 7
	return min(len(histogram{})-1, (e+1)*64+int(us>>e)-64)
}

// counts is a histogram at one moment.
type counts [len(histogram{})]int64

func (h *histogram) now() (c counts) {
	for i := range h {
		c[i] = h[i].Load()
	}
	return c
}

// since is what was counted after an earlier moment.
func (c *counts) since(earlier *counts) (d counts) {
	for i := range c {
		d[i] = c[i] - earlier[i]
	}
	return d
}

// ms is the percentile in milliseconds, the upper end of its bucket; 1 is the
// maximum.
func (c *counts) ms(p float64) float64 {
	var all int64
	for _, n := range c {
		all += n
	}
	want := int64(p*float64(all)) + 1
	if want > all {
		want = all
	}
	var seen int64
	for i, n := range c {
		if seen += n; n > 0 && seen >= want {
			if i < 64 {
				return float64(i+1) / 1000
			}
			e := i/64 - 1
			return float64((uint64(i%64)+64+1)<<e) / 1000
		}
	}
	return 0
}
