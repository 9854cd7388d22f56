package hub

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"hubbub/ivschat"
	"hubbub/quota"
	"hubbub/socket"
)

// viewer is one connection to a room, bound to its user, attributes and
// capabilities for life: it is the session of a socket.Conn. There may be very
// many, so it is small and has no goroutine, timer or channel of its own.
type viewer struct {
	// Set by the handshake, conn by Open; read-only after.
	room         *room
	conn         *socket.Conn
	sender       ivschat.Sender // the user and the token's attributes
	expires      int64          // end of the session, in seconds of Unix time
	number       uint32         // tells viewers apart in the log
	capabilities ivschat.Capability

	// Guarded by room.mu.
	gone       bool    // the connection has ended
	waiting    uint16  // requests that wait for their turn; maxWaiting at most
	prev, next *viewer // of the same user; both ways, since a user may have very many

	// Owned by Message.
	rate  quota.Bucket
	turns *turns // nil while nothing waits for a verdict

	ending atomic.Pointer[ending] // nil while the viewer is in its room; set under room.mu
}

// ending is why a viewer is no longer in its room.
type ending struct {
	reason goneReason

	// Of a session that ended: what the close frame will say, and when it is sent.
	text  string
	close time.Time
}

// disconnected is the ending of all whom DISCONNECT_USER meant.
var disconnected = &ending{reason: userDisconnected}

// missed is the ending of all of a room on a node that did not hear another.
var missed = &ending{reason: missedMessages}

// gone is the ending of those whose connection ended first; socket knows why.
var gone = &ending{}

// refusal is what an action of the viewer comes to; nil while there is no ending.
func (e *ending) refusal() error {
	switch e {
	case nil:
		return nil
	case disconnected:
		return errDisconnected
	}
	return errSession
}

const (
	closeNormal = 1000

	// grace is how long a viewer may stay after its session's end, so that an SDK
	// acts on the ERROR 401 before it sees a close: a clean close alone would be
	// final for it. Source: spec messaging 6.
	grace = 5 * time.Second
)

// Open joins the connection to its room, before the 101 is on its way: what
// happens in the room from here on reaches it. It implements socket.Handler.
func (h *Hub) Open(c *socket.Conn) {
	v := c.Session().(*viewer)
	v.conn = c
	h.metrics.came()
	h.logViewer("viewer came", v, slog.String("remote", c.RemoteAddr().String()))
	v.room.join(v)
	h.wakeAt(v, time.Unix(v.expires, 0))
}

// Closed takes the connection out of its room and gives its quota back. It
// implements socket.Handler.
func (h *Hub) Closed(c *socket.Conn, end socket.End) {
	v := c.Session().(*viewer)
	v.room.leave(v, gone, nil)
	reason := v.ending.Load().reason
	if reason == "" {
		reason = goneReason(end.Reason)
	}
	if end.Age < shortLived {
		h.flapping.note(v.room.arn, v.sender.UserID(), h.now())
	}
	h.exit(v.room)
	h.metrics.went(reason)
	h.logViewer("viewer went", v, slog.String("reason", string(reason)), slog.Int("code", int(end.Code)),
		slog.Uint64("frames_in", end.FramesIn), slog.Uint64("frames_out", end.FramesOut), slog.Duration("took", end.Age))
}

// Wake ends a session: first the ERROR, after the grace the close frame. It
// implements socket.Handler and may run beside Message.
func (h *Hub) Wake(c *socket.Conn) {
	v := c.Session().(*viewer)
	now := h.now()
	switch e := v.ending.Load(); {
	case e == nil && v.over(now):
		h.expire(v, now)
	case e == nil: // the clock was set back, or the wheel turned early
		h.wakeAt(v, time.Unix(v.expires, 0))
	case e.reason != sessionEnded:
	case now.Before(e.close):
		h.wakeAt(v, e.close)
	default:
		c.Close(closeNormal, e.text)
	}
}

// over says whether the session has ended.
func (v *viewer) over(now time.Time) bool { return now.Unix() >= v.expires }

// expire ends the session: the viewer leaves its room and is told so by an ERROR
// that answers no request; Wake closes the connection after the grace, with the
// same ERROR as the reason, which clients of 2022 read.
// Source: spec messaging 6.
func (h *Hub) expire(v *viewer, now time.Time) {
	text := ivschat.Refusal{ID: ivschat.NewID(), Kind: ivschat.Unauthorized, Message: ivschat.TextSessionExpired}.Encode()
	e := &ending{reason: sessionEnded, text: string(text), close: now.Add(grace)}
	if v.room.leave(v, e, socket.NewFrame(text)) {
		h.metrics.refused(ivschat.Unauthorized)
		h.wakeAt(v, e.close)
	}
}

// wakeAt asks for a Wake when the hub's clock shows the time.
func (h *Hub) wakeAt(v *viewer, at time.Time) {
	v.conn.WakeAt(time.Now().Add(max(at.Sub(h.now()), time.Millisecond)))
}

// refuse answers a frame with an ERROR, to its sender alone. The kind of the
// refusal becomes the ErrorCode by the one table in ivschat/error.go:
//
//	Validation 400 · Unauthorized 401 · PendingVerification, AccessDenied 403 · NotFound 404
//	Rejected 406 · TooLarge 413 · Throttling 429 · everything else 500
//
// and its message the ErrorMessage. An error that is no refusal is internal: the
// client sees a plain 500, the log the cause. Source: spec messaging 4.3.
func (h *Hub) refuse(v *viewer, id, requestID string, err error) {
	var refusal *ivschat.Error
	if !errors.As(err, &refusal) {
		h.log.Error("action failed", "room", v.room.arn, "viewer", v.number, "err", err)
		refusal = ivschat.Refuse(ivschat.Internal, ivschat.TextInternal)
	}
	h.metrics.refused(refusal.Kind)
	v.conn.Send(socket.NewFrame(ivschat.Refusal{ID: id, RequestID: requestID, Kind: refusal.Kind, Message: refusal.Message}.Encode()))
}

// logViewer writes a record of a viewer's life. A storm of them goes to debug.
func (h *Hub) logViewer(what string, v *viewer, more ...slog.Attr) {
	level := h.lives.level(h.now())
	if !h.log.Enabled(context.Background(), level) {
		return
	}
	attrs := append([]slog.Attr{slog.String("room", string(v.room.arn)), slog.Uint64("viewer", uint64(v.number)), slog.String("user", hashed(v.sender.UserID()))}, more...)
	h.log.LogAttrs(context.Background(), level, what, attrs...)
}

// hashed makes a user id fit for the log: the same user shows the same, and the
// id itself does not show.
func hashed(userID string) string {
	sum := sha256.Sum256([]byte(userID))
	return hex.EncodeToString(sum[:8])
}
