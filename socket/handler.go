package socket

import "time"

// Handler decides about connections and takes what they send. No lock is held
// during a call, and each method may use every method of this package but
// Server.Drain and Server.Close. Calls for different connections run beside each
// other. For one connection they come in the order Open, then Message and Wake,
// then Closed; only Message and Wake may overlap, each with the other and never
// with itself. A panic ends the connection that the call was for and nothing else.
type Handler interface {
	// Handshake is called for each well-formed upgrade request, in the order in which
	// they came, on a goroutine of its own. It calls u.Accept or u.Refuse once, at once
	// or later and from any goroutine, also when u's context has ended, or u.Delay.
	// Without a decision the client is refused with 503 after Config.AcceptTimeout. It
	// may block, until u's context ends; of Config.MaxDeciding it is one until it
	// returns.
	Handshake(u *Upgrade)

	// Open is called once for each accepted connection, before the 101 is sent and
	// before any other method: what is queued for c, or for a group that c was added
	// to, from here on is written behind the 101. The 101 waits for it.
	Open(c *Conn)

	// Message is called for each complete message, text or binary, one at a time for
	// a connection and in order. Text is valid UTF-8; binary is whatever it is. The
	// payload is valid during the call only. It must not block: an event loop calls
	// it, which does nothing for all its other connections meanwhile. After Close or
	// Drop was called it is not called any more.
	Message(c *Conn, payload []byte)

	// Wake is called after the time that c.WakeAt set. It may run beside Message, and
	// after c.Close too.
	Wake(c *Conn)

	// Closed is called once for each connection that Open saw, after everything else:
	// no other call for it runs or will run, and nothing is written to it any more.
	Closed(c *Conn, end End)
}

// Reason is why a connection ended, for metrics and log.
type Reason string

// The reasons.
const (
	ClosedByClient Reason = "closed_by_client" // its close frame came first
	ClosedByServer Reason = "closed_by_server" // Conn.Close
	Dropped        Reason = "dropped"          // Conn.Drop
	ClientGone     Reason = "client_gone"      // TCP ended without a close frame
	SlowViewer     Reason = "slow_viewer"      // its queue was over its bounds, or stood still
	Silent         Reason = "silent"           // no pong and no frame for too long
	ProtocolError  Reason = "protocol_error"   // 1002, 1007 or 1009 was sent
	Draining       Reason = "draining"         // the server is shutting down
	Panicked       Reason = "panic"            // the Handler failed
)

var reasons = []Reason{ClosedByClient, ClosedByServer, Dropped, ClientGone, SlowViewer, Silent, ProtocolError, Draining, Panicked}

// End is how a connection ended.
type End struct {
	Reason    Reason
	Code      uint16        // of the close frame that came first, 1006 if there was none
	FramesIn  uint64        // complete messages
	FramesOut uint64        // frames written whole, control frames included
	Age       time.Duration // since it was accepted
}
