package hub

import (
	"slices"
	"sync"
	"testing"
)

func TestTurnsAreDoneInTheirOrder(t *testing.T) {
	var all turns
	var taken []*turn
	for range 5 {
		taken = append(taken, all.take())
	}
	var done []int
	ready := func(i int) { all.ready(taken[i], func() { done = append(done, i) }) }
	for _, step := range []struct {
		ready int
		want  []int
	}{
		{2, nil},
		{0, []int{0}},
		{1, []int{0, 1, 2}},
		{4, []int{0, 1, 2}},
		{3, []int{0, 1, 2, 3, 4}},
	} {
		if ready(step.ready); !slices.Equal(done, step.want) {
			t.Fatalf("after %d was ready: done %v, want %v", step.ready, done, step.want)
		}
	}
	if !all.idle() {
		t.Error("not idle at the end")
	}
}

func TestATurnIsNotIdleWhileItIsDone(t *testing.T) {
	var all turns
	first := all.take()
	all.ready(first, func() {
		if all.idle() {
			t.Error("idle while the first is being done: who comes now would overtake it")
		}
	})
}

func TestTurnsReadyFromManySidesAreDoneOneAtATime(t *testing.T) {
	for range 100 {
		var all turns
		var readying sync.WaitGroup
		var done []int // guarded by the turns themselves: -race watches
		for i := range 50 {
			turn := all.take()
			readying.Go(func() { all.ready(turn, func() { done = append(done, i) }) })
		}
		readying.Wait()
		if len(done) != 50 || !slices.IsSorted(done) {
			t.Fatalf("done %v", done)
		}
	}
}

func TestTooManyTurnsAreRefused(t *testing.T) {
	var all turns
	for range maxWaiting {
		if all.take() == nil {
			t.Fatal("refused before the bound")
		}
	}
	if all.take() != nil {
		t.Error("not refused at the bound")
	}
}
