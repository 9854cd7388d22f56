// Package history is what clients saw of servers while things went wrong, and what
// must be true of that. It knows no server and no clock: a history goes in, a list
// of what breaks a promise comes out.
//
// What is unknown is taken at its best: a write without an answer may have happened,
// at any time after it was asked for, or not; what was on its way on a connection
// that ended may be lost. What was acknowledged is certain.
package history

import "time"

// Time is since the begin of the run, on one clock that does not jump.
type Time = time.Duration

// History is all that was seen in one run.
type History struct {
	Nodes  []string
	Faults []Fault // in order of time
	Deaths []Death
	Full   []Full

	Writes []Write // of a room in the order in which they were asked for: it has one writer
	Reads  []Read
	Lists  []List

	Sent        []Sent
	Connections []Connection
	Redemptions []Redemption

	Kept    map[int]bool // rooms whose messages are logged
	Logged  []Logged
	Dropped int // records that the servers say they dropped
}

// Fault is one thing that went wrong.
type Fault struct {
	Name    string
	Began   Time
	Ended   Time // it was undone
	Settled Time // from here on nothing may be late for it
	Until   Time // the next one began, or the run ended

	// Away are the nodes that the others had to do without: killed, stopped or cut
	// off. Those are living nodes if they are a majority.
	Away []string
}

// Death is a kill -9.
type Death struct {
	Node string
	At   Time
}

// Full is the time in which a disk took nothing, and a while after.
type Full struct {
	Node     string
	From, To Time
}

// Outcome is what a client knows of what it asked for.
type Outcome string

const (
	Acked   Outcome = "acked"
	Refused Outcome = "refused" // it did not happen
	Unknown Outcome = "unknown" // no answer, or one that leaves it open
)

// Op is an operation on a room.
type Op string

const (
	Create Op = "create"
	Change Op = "change" // of one field
	Delete Op = "delete"
)

// Fields are what is compared of a room: tags and settings by name. What is not
// there is not in the map.
type Fields map[string]string

// Write is one attempt of one writer at one operation.
type Write struct {
	Writer int    // below 0: a prober, who does not wait for its last attempt
	Node   string // that was asked
	Room   string // its name, which no two attempts to create a room share
	Op     Op
	Fields Fields // of Create: all. Of Change: one; "" takes it away

	Began, Ended Time
	Outcome      Outcome
}

// Read is what a node said of one room.
type Read struct {
	Node         string
	Room         string
	Fields       Fields // nil if it said that there is none
	Began, Ended Time
}

// List is what a node said of all rooms that writers may have made.
type List struct {
	Node         string
	Rooms        []Listed
	Hides        []string // fields that it does not show
	Began, Ended Time
}

// Listed is one entry of a list.
type Listed struct {
	Room   string
	ARN    string
	Fields Fields
}

// ID is the place of a message: the connection that it was sent on and its number
// there, from 1. An event is alone in its stream.
type ID struct{ Stream, N int }

// Sent is one message or event.
type Sent struct {
	ID
	Sender  int // 0 of an event
	Room    int
	Node    string // that it was sent to
	At      Time   // before it was written to the connection
	Acked   Time   // its sender had the frame of it; 0 if never
	Refused bool   // its sender had an ERROR for it
}

// Frame is what a connection brought.
type Frame struct {
	ID
	Room  int // that its content names
	At    Time
	Frame string // the frame's Id
	Sum   uint64 // of its bytes
}

// Connection is one that a viewer had, from its 101 to its end.
type Connection struct {
	Viewer int // below 0: a sender
	Room   int
	Node   string
	Opened Time
	Ended  Time
	Closed bool    // by a close frame of the server, after which SDKs do not come back
	Frames []Frame // in the order of their coming
}

// Redemption is one use of a one-time token.
type Redemption struct {
	Token   int
	Node    string
	At      Time
	Outcome Outcome // Refused is a 401
}

// Logged is a record that a destination of chat logs has.
type Logged struct {
	ID
	Room    int // that it is filed under
	Content int // the room that its content names
}
