package main

import (
	"errors"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// turn is how long a thread may run before another that waits for the same
// processor gets it. Usually it is some milliseconds: what a message then waits
// while logs are packed or signed. Linux has it from 6.12 on; an older one takes
// no notice.
const turn = 200 * time.Microsecond

// shortTurns has the threads of this process, and those that they will start,
// take short turns on a processor. Their share of it stays as it is.
func shortTurns() error {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, t := range threads {
		id, err := strconv.Atoi(t.Name())
		if err == nil {
			err = shortTurn(id)
		}
		if err != nil && !errors.Is(err, unix.ESRCH) { // it has ended
			return err
		}
	}
	return nil
}

func shortTurn(thread int) error {
	attributes, err := unix.SchedGetAttr(thread, 0)
	if err != nil || attributes.Policy != unix.SCHED_NORMAL {
		return err
	}
	attributes.Runtime = uint64(turn)
	return unix.SchedSetAttr(thread, attributes, 0)
}
