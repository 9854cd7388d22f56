package hub

import (
	"errors"
	"time"

	"hubbub/ivschat"
	"hubbub/quota"
	"hubbub/socket"
)

// Message takes a client's frame. Its effect is a frame to the whole room, which
// is the sender's answer too, or an ERROR to the sender alone. It implements
// socket.Handler.
func (h *Hub) Message(c *socket.Conn, frame []byte) {
	v := c.Session().(*viewer)
	now := h.now() // the time of receipt
	id := ivschat.NewID()
	a, malformed := ivschat.ParseAction(frame)
	if malformed == nil {
		h.metrics.requests[labels[a.Name]].Inc()
	}
	room, err := h.check(v, &a, malformed, len(frame), now)
	if err == nil {
		err = h.perform(v, &a, id, room, now)
	}
	if err != nil && !errors.Is(err, errDisconnected) {
		h.refuse(v, id, a.RequestID, err)
	}
}

// check asks everything that an action must satisfy before it costs the room
// anything, in the order of spec messaging 5.1, and returns the room's settings.
// The frame was parsed before, so that even one that comes too fast gets its
// RequestId back.
func (h *Hub) check(v *viewer, a *ivschat.Action, malformed error, size int, now time.Time) (*ivschat.Room, error) {
	if !v.rate.Take(h.quota.ConnectionRate(), now) {
		return nil, errRate
	}
	if malformed != nil {
		return nil, malformed
	}
	if v.ending.Load() == nil && v.over(now) {
		h.expire(v, now) // before the clock of socket came to it
	}
	if err := v.ending.Load().refusal(); err != nil {
		return nil, err
	}
	if v.capabilities&a.Name.Capability() == 0 {
		return nil, ivschat.Refuse(ivschat.AccessDenied, ivschat.TextForbidden)
	}
	if h.blocked(v.room.scope.Account) {
		return nil, ivschat.Refuse(ivschat.PendingVerification, ivschat.TextForbidden)
	}
	room, err := h.registry.Room(v.room.arn)
	if errors.Is(err, ivschat.NotFound) {
		return nil, ivschat.Refuse(ivschat.NotFound, ivschat.TextRoomNotFound)
	} else if err != nil {
		return nil, err
	}
	if size > ivschat.MaxFrameBytes {
		return nil, ivschat.Refuse(ivschat.TooLarge, ivschat.TextPayloadTooLarge)
	}
	if err := a.Check(room.MaximumMessageLength); err != nil {
		return nil, err
	}
	if !h.take(v.room, a.Name, room, now) {
		return nil, errRate
	}
	return room, nil
}

var (
	errRate    = ivschat.Refuse(ivschat.Throttling, ivschat.TextRateExceeded)
	errSession = ivschat.Refuse(ivschat.Unauthorized, ivschat.TextSessionExpired)

	// errDisconnected is what becomes of an action whose sender was disconnected
	// while it was under way: nobody hears of it.
	errDisconnected = errors.New("the user was disconnected")
)

// take takes the action from the rates that its room and account share.
func (h *Hub) take(r *room, action ivschat.ActionName, settings *ivschat.Room, now time.Time) bool {
	switch action {
	case ivschat.SendMessage:
		if !r.take(h.quota.RoomRate(settings.MaximumMessageRatePerSecond), h.now) {
			return false
		}
		_, ok := h.quota.Take(r.scope, quota.SendMessage, now)
		return ok
	case ivschat.DeleteMessage:
		_, ok := h.quota.Take(r.scope, quota.DeleteMessage, now)
		return ok
	default:
		_, ok := h.quota.Take(r.scope, quota.DisconnectUser, now)
		return ok
	}
}

// perform does what the action asks, and sends everybody the frame that says so.
func (h *Hub) perform(v *viewer, a *ivschat.Action, id string, settings *ivschat.Room, now time.Time) error {
	var deliveries int
	var ended *ending
	switch a.Name {
	case ivschat.SendMessage:
		// The message has its id, its time and its place among its sender's from
		// here on. This is where the room's review handler is asked: whoever
		// does so returns at once, delivers a sender's messages in their order as
		// the verdicts come, and refuses with this id.
		if !allowed(settings) {
			return ivschat.Refuse(ivschat.Rejected, ivschat.TextRejected)
		}
		m := ivschat.Message{ID: id, RequestID: a.RequestID, Attributes: a.Attributes, Content: a.Content, SendTime: now, Sender: v.sender}
		deliveries, ended = v.room.deliver(v, socket.NewFrame(m.Encode()))
	case ivschat.DeleteMessage:
		e := ivschat.MessageDeleted(id, a.RequestID, a.ID, a.Reason, now)
		deliveries, ended = v.room.deliver(v, socket.NewFrame(e.Encode()))
	case ivschat.DisconnectUser:
		e := ivschat.UserDisconnected(id, a.RequestID, a.UserID, a.Reason, now)
		deliveries, ended = v.room.disconnect(v, socket.NewFrame(e.Encode()), a.UserID, closeText(a.Reason))
	}
	h.metrics.deliveries[labels[a.Name]].Add(float64(deliveries))
	return ended.refusal()
}

// allowed is the verdict on a message that nothing can review: that of the
// room's fallbackResult. Source: spec review-handler 4.
func allowed(settings *ivschat.Room) bool {
	handler := settings.MessageReviewHandler
	return handler == nil || handler.URI == "" || handler.FallbackResult != ivschat.FallbackDeny
}
