package chatlog

import (
	"context"
	"time"

	"hubbub/ivschat"
)

// Entry is a record on its way to a destination.
type Entry struct {
	Room     ivschat.ARN
	Received time.Time // in whole milliseconds, UTC
	Line     []byte    // the JSON object, without an end of line; not to be changed
}

// Destination takes the records of one logging configuration. Its methods may be
// called from many goroutines, Put not twice at once for the same lane.
type Destination interface {
	// Layout says how records must be put together for Put.
	Layout() Layout

	// Put hands over entries of one lane, in the order of the room. It returns the
	// indices, ascending, of those that were not taken and should be tried again;
	// if there are any, or if it cannot be known, err is a *Failure. Entries that
	// the destination will never take (too old for it) count as taken by Put, which
	// says how many they were in lost.
	Put(ctx context.Context, entries []Entry) (left []int, lost int, err error)

	// Close gives back what the destination holds open.
	Close()
}

// Layout is how a destination wants its batches.
type Layout struct {
	// Lane names what a batch may hold together: entries of the same lane. A lane
	// has one Put at a time.
	Lane func(Entry) string

	MaxEntries int           // in one Put
	MaxBytes   int           // of the lines of one Put, Overhead added for each
	Overhead   int           // bytes that each entry costs besides its line
	MaxSpan    time.Duration // between the oldest and the newest entry of one Put; 0 is no bound
	Flush      time.Duration // how long an entry waits for others at most
	Aligned    bool          // the windows in which entries wait begin at whole multiples of Flush
}

// Kind is what went wrong with a delivery, as the service's metrics tell it apart.
// Source: spec logging 8.
type Kind string

// The kinds.
const (
	AccessDenied Kind = "access_denied"
	NotFound     Kind = "not_found"
	Other        Kind = "other"
)

// Class is what may be hoped of another attempt.
type Class string

// The classes. All are tried again, since an operator may mend the destination;
// they differ in the pause and in how loudly the log speaks of them.
const (
	Throttled Class = "throttled" // the destination asks for fewer calls
	Passing   Class = "passing"   // no connection, no answer, a 5xx
	Final     Class = "final"     // the destination is missing or refuses
)

// Failure is why a destination did not take a batch. Its text never has a line
// of a log in it.
type Failure struct {
	Kind  Kind
	Class Class
	After time.Duration // as the destination asked; 0 leaves it to us
	Err   error
}

func (f *Failure) Error() string { return string(f.Class) + " failure: " + f.Err.Error() }

func (f *Failure) Unwrap() error { return f.Err }
