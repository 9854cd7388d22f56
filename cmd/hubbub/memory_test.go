package main

import (
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A storm is over when the number of viewers has changed by much and then hardly
// any more; what is no storm gives nothing back.
func TestMemoryIsReleasedOnceWhenAStormIsOver(t *testing.T) {
	repeat := func(n, times int) (list []int) {
		for range times {
			list = append(list, n)
		}
		return list
	}
	steadily := func(from, to, by int) (list []int) {
		for n := from; n != to; n += by {
			list = append(list, n)
		}
		return list
	}
	join := func(parts ...[]int) (list []int) {
		for _, p := range parts {
			list = append(list, p...)
		}
		return list
	}
	for _, c := range []struct {
		name    string
		viewers []int // a reading each second
		want    []int // readings with which memory is released
	}{
		{"nobody comes", repeat(0, 100), nil},
		{"few come", append([]int{900}, repeat(999, 100)...), nil},
		{"a storm of a second", repeat(10_000, 100), []int{2}},
		{"a storm of four seconds", append([]int{3000, 6000, 9000}, repeat(10_000, 100)...), []int{5}},
		{"some go on to come and go behind it", append([]int{5000, 10_000, 10_100, 10_020}, repeat(10_050, 100)...), []int{3}},
		{"all leave, long after", join(repeat(10_000, 30), repeat(0, 100)), []int{2, 32}},
		{"all leave and come back", join(repeat(10_000, 30), []int{4000, 8000}, repeat(10_000, 100)), []int{2, 34}},
		{"all leave soon: not before a rest", join(repeat(10_000, 4), repeat(0, 100)), []int{2, 12}},
		{"less than a tenth leaves", join(repeat(20_000, 30), repeat(18_100, 100)), []int{2}},
		{"an evening: many come, a few each second", join(steadily(0, 3000, 5), repeat(3000, 100)), []int{200, 400, 600}},
		{"a busy time: so many come or go each second that it never is calm", join(steadily(0, 20_000, 500), steadily(20_000, 1000, -500)), nil},
		{"a busy time with as many viewers as before", join(repeat(20_000, 30), steadily(20_000, 20_900, 1), steadily(20_900, 20_000, -1)), []int{2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var s storm
			var got []int
			for i, n := range c.viewers {
				if s.over(n) {
					got = append(got, i)
				}
			}
			if fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("released with the readings %v, want %v", got, c.want)
			}
		})
	}
}

func TestTheReleaseAfterStormsEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var viewers atomic.Int64
		var released atomic.Int64
		stop := releaseAfterStorms(func() int { return int(viewers.Load()) }, func() { released.Add(1) })
		time.Sleep(time.Minute)
		viewers.Store(5000)
		time.Sleep(time.Minute)
		if n := released.Load(); n != 1 {
			t.Errorf("released %d times after one storm, want once", n)
		}
		stop()
		viewers.Store(0)
		time.Sleep(time.Minute)
		if n := released.Load(); n != 1 {
			t.Errorf("released %d times, the last behind its stop", n)
		}
	})
}
