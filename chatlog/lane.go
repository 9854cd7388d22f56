package chatlog

import (
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// origin is a batch of the outbox whose entries are on their way.
type origin struct {
	sequence uint64
	left     int // entries that no destination has taken yet
}

// held is an entry in memory.
type held struct {
	Entry
	number uint64 // grows with each entry: the order of the outbox
	from   *origin
}

// lane is what may be put together, oldest first.
type lane struct {
	name    string
	phase   time.Duration // of its windows
	entries []held
	bytes   int       // of the entries, with the overhead of each
	due     time.Time // when the first must be put
	putting bool      // a Put is under way

	// Of the last attempts.
	tried  time.Time
	retry  time.Time                   // no attempt before
	pauses *backoff.ExponentialBackOff // nil while all is well
}

// add takes an entry; due is for the first of a lane.
func (l *lane) add(e held, overhead int, due time.Time) {
	if len(l.entries) == 0 {
		l.due = due
	}
	l.entries = append(l.entries, e)
	l.bytes += len(e.Line) + overhead
}

// full says whether the lane has as much as one Put takes.
func (l *lane) full(of Layout) bool {
	return len(l.entries) >= of.MaxEntries || l.bytes >= of.MaxBytes
}

// cut takes the entries of the next Put, at least one: as many as the layout allows.
func (l *lane) cut(of Layout) []held {
	n, bytes := 0, 0
	var oldest, newest time.Time
	for _, e := range l.entries {
		size := len(e.Line) + of.Overhead
		if n == 0 || e.Received.Before(oldest) {
			oldest = e.Received
		}
		if n == 0 || e.Received.After(newest) {
			newest = e.Received
		}
		if n > 0 && (n >= of.MaxEntries || bytes+size > of.MaxBytes || of.MaxSpan > 0 && newest.Sub(oldest) > of.MaxSpan) {
			break
		}
		n++
		bytes += size
	}
	taken := slices.Clone(l.entries[:n])
	rest := copy(l.entries, l.entries[n:])
	clear(l.entries[rest:])
	l.entries = l.entries[:rest]
	l.bytes -= bytes
	return taken
}

// putBack returns entries that were not taken, to the place that they had.
func (l *lane) putBack(entries []held, overhead int) {
	for _, e := range entries {
		l.bytes += len(e.Line) + overhead
	}
	l.entries = append(l.entries, entries...)
	slices.SortFunc(l.entries, byNumber)
	l.due = time.Time{}
}

func byNumber(a, b held) int {
	if a.number < b.number {
		return -1
	}
	return 1
}
