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
	settings, err := h.check(v, &a, malformed, len(frame), now)
	if err != nil {
		h.refuse(v, id, a.RequestID, err)
		return
	}
	h.arrange(&request{hub: h, viewer: v, Action: a, id: id, settings: settings, received: now})
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
		perSecond := h.rate(settings)
		switch {
		case h.cluster == nil:
			if !r.take(perSecond, h.now) {
				return false
			}
		case !h.cluster.rates.take(r.arn, perSecond, now): // if its home is elsewhere, arrange asks that, too
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
