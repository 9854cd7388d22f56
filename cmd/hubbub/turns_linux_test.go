package main

import (
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// Threads that are there, and those that they start, have short turns.
func TestThreadsTakeShortTurns(t *testing.T) {
	before, err := unix.SchedGetAttr(0, 0)
	if err != nil || before.Policy != unix.SCHED_NORMAL || before.Runtime == 0 {
		t.Skip("this kernel has no turns to set:", err)
	}
	if err := shortTurns(); err != nil {
		t.Fatal(err)
	}
	blocked := make(chan struct{})
	for range 8 {
		var fds [2]int
		if err := unix.Pipe(fds[:]); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Close(fds[1]) })
		go func() {
			blocked <- struct{}{}
			_, _ = unix.Read(fds[0], make([]byte, 1)) // takes a thread of its own until the test ends
			_ = unix.Close(fds[0])
		}()
		<-blocked
	}
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, thread := range threads {
		id, _ := strconv.Atoi(thread.Name())
		got, err := unix.SchedGetAttr(id, 0)
		if err != nil {
			continue // ended meanwhile
		}
		if got.Runtime != uint64(turn) || got.Nice != before.Nice || got.Policy != before.Policy {
			t.Errorf("thread %d has %+v, had %+v", id, got, before)
		}
	}
}
