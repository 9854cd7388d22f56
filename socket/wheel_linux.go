package socket

import (
	"math/bits"
	"time"
)

// wheel has the connections of a loop by when something is due for them: one
// place each, whatever it waits for. Times are nanoseconds since the loop began.
// What is due after the wheel's whole turn is put at its end and looked at again
// then.
type wheel struct {
	slots [spokes]*Conn // lists by owned.next and prev
	taken [spokes / 64]uint64
	tick  int64 // the last that was done
}

const (
	spokes = 4096
	tick   = int64(5 * time.Millisecond)
)

// set puts the connection where its time is due, and no earlier.
func (w *wheel) set(c *Conn, due int64) {
	at := (due + tick - 1) / tick
	at = min(max(at, w.tick+1), w.tick+spokes-1)
	o := &c.own
	if o.due == at {
		return
	}
	w.remove(c)
	o.due = at
	slot := at % spokes
	if o.next = w.slots[slot]; o.next != nil {
		o.next.own.prev = c
	}
	w.slots[slot] = c
	w.taken[slot/64] |= 1 << (slot % 64)
}

// remove takes the connection out, if it is there.
func (w *wheel) remove(c *Conn) {
	o := &c.own
	if o.due == 0 {
		return
	}
	slot := o.due % spokes
	if o.prev != nil {
		o.prev.own.next = o.next
	} else if w.slots[slot] = o.next; o.next == nil {
		w.taken[slot/64] &^= 1 << (slot % 64)
	}
	if o.next != nil {
		o.next.own.prev = o.prev
	}
	o.next, o.prev, o.due = nil, nil, 0
}

// turn takes out all whose time has come, one after the other.
func (w *wheel) turn(now int64, due func(*Conn)) {
	for to := now / tick; w.tick < to; {
		if w.nothing() {
			w.tick = to
			return
		}
		w.tick++
		slot := w.tick % spokes
		for w.slots[slot] != nil {
			c := w.slots[slot]
			w.remove(c)
			due(c) // which may put it into another slot, but not into this one
		}
	}
}

func (w *wheel) nothing() bool {
	for _, word := range w.taken {
		if word != 0 {
			return false
		}
	}
	return true
}

// next is when turn must be called again; 0 if nothing is due.
func (w *wheel) next() int64 {
	first := (w.tick + 1) % spokes
	for i := range int64(len(w.taken)) + 1 {
		at := (first/64 + i) % int64(len(w.taken))
		word := w.taken[at]
		if i == 0 {
			word &= ^uint64(0) << (first % 64)
		}
		if word != 0 {
			slot := at*64 + int64(bits.TrailingZeros64(word))
			return (w.tick + 1 + (slot-first+spokes)%spokes) * tick
		}
	}
	return 0
}
