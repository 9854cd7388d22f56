package socket

import "sync"

// errands are the calls of the Handler that may wait, and that the loop must not
// wait for. Each has a goroutine while there are few; a crowd of them, as when a
// node drains, shares a number of goroutines, since each needs a stack.
type errands struct {
	mu      sync.Mutex
	waiting []func()
	workers int
}

const mostErrands = 512 // at a time, of one loop

// errand has do called soon, on another goroutine.
func (l *loop) errand(do func()) {
	e := &l.errands
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.workers == mostErrands {
		e.waiting = append(e.waiting, do)
		return
	}
	e.workers++
	l.server.running.Go(func() {
		for do != nil {
			do()
			do = e.next()
		}
	})
}

// next is what a worker does now; nil ends it.
func (e *errands) next() (do func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.waiting) == 0 {
		e.waiting = nil
		e.workers--
		return nil
	}
	do, e.waiting[0] = e.waiting[0], nil
	e.waiting = e.waiting[1:]
	return do
}
