package hub

import (
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"hubbub/engine"
	"hubbub/ivschat"
	"hubbub/review"
	"hubbub/socket"
)

// request is an action that has passed every check and waits for nothing but its
// turn and, in a room with a review handler, the verdict. What it was received
// with stays: its id, its time and the room's settings as they were then.
type request struct {
	ivschat.Action
	hub      *Hub
	viewer   *viewer
	id       string // of the MESSAGE or EVENT, or of the ERROR
	settings *ivschat.Room
	received time.Time

	home    engine.Run     // of a SEND_MESSAGE: the node that counts it; 0 if it is counted
	verdict review.Verdict // of a SEND_MESSAGE; set before perform
}

// arrange performs the request, now if it waits for nothing. A message of a room
// with a review handler waits for the verdict, and whatever its sender sends
// behind it waits for its turn, so that a sender's requests keep their order.
// It returns at once. Source: spec messaging 7, review-handler 4.
func (h *Hub) arrange(r *request) {
	v := r.viewer
	if v.turns != nil && v.turns.idle() {
		v.turns = nil
	}
	asks := h.asks(r)
	if h.cluster != nil && r.Name == ivschat.SendMessage && h.rate(r.settings) > 0 {
		r.home = h.cluster.rates.home(v.room.arn)
	}
	if v.turns == nil && !asks && r.home == 0 {
		r.perform()
		return
	}
	h.wait(*r, asks)
}

// wait is arrange for a request that is not performed now. It has a copy of its
// own, so that the others need no memory that outlives them.
func (h *Hub) wait(r request, asks bool) {
	v := r.viewer
	if v.turns == nil {
		v.turns = &turns{}
	}
	t, turn := v.turns, v.turns.take()
	if turn == nil {
		h.refuse(v, r.id, r.RequestID, errRate)
		return
	}
	h.hold(v)
	ready := func() {
		t.ready(turn, func() {
			defer h.release(v)
			r.guarded()
		})
	}
	if r.home == 0 {
		h.judge(&r, asks, ready)
		return
	}
	h.cluster.done.Go(func() {
		perSecond := h.rate(r.settings)
		fine, err := h.cluster.rates.ask(r.home, v.room.arn, perSecond)
		if err != nil {
			fine = v.room.take(perSecond, h.now)
		}
		if !fine {
			t.ready(turn, func() {
				defer h.release(v)
				h.refuse(v, r.id, r.RequestID, errRate)
			})
			return
		}
		h.judge(&r, asks, ready)
	})
}

// rate is the messages a second that the room may have.
func (h *Hub) rate(settings *ivschat.Room) int {
	return h.quota.RoomRate(settings.MaximumMessageRatePerSecond)
}

// judge calls ready when the request has its verdict.
func (h *Hub) judge(r *request, asks bool, ready func()) {
	if !asks {
		ready()
		return
	}
	v, handler := r.viewer, r.settings.MessageReviewHandler
	m := review.Message{ID: r.id, Room: v.room.arn, Content: r.Content, Attributes: r.Attributes, Sender: v.sender, IP: v.conn.RemoteAddr()}
	h.review.Review(handler.URI, handler.FallbackResult, r.settings.MaximumMessageLength, m, func(verdict review.Verdict) {
		r.verdict = verdict
		ready()
	})
}

// asks says whether the request needs a verdict from somebody. If not, it has one.
func (h *Hub) asks(r *request) bool {
	if r.Name != ivschat.SendMessage {
		return false
	}
	handler := r.settings.MessageReviewHandler
	if handler != nil && handler.URI != "" {
		if h.review != nil {
			return true
		}
		if handler.FallbackResult == ivschat.FallbackDeny { // nothing reviews anything here
			r.verdict = review.Verdict{Reason: ivschat.TextRejected}
			return false
		}
	}
	r.verdict = review.Verdict{Allowed: true, Content: r.Content, Attributes: r.Attributes}
	return false
}

// guarded is perform where no caller recovers: a panic ends the connection that it
// was for, and nothing else.
func (r *request) guarded() {
	defer func() {
		if p := recover(); p != nil {
			r.hub.log.Error("action panicked", "room", r.viewer.room.arn, "viewer", r.viewer.number, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			r.viewer.conn.Drop()
		}
	}()
	r.perform()
}

// perform does what the action asks, and sends everybody the frame that says so,
// or its sender the ERROR.
func (r *request) perform() {
	h, v := r.hub, r.viewer
	var deliveries int
	var err error
	switch r.Name {
	case ivschat.SendMessage:
		if !r.verdict.Allowed {
			h.refuse(v, r.id, r.RequestID, ivschat.Refuse(ivschat.Rejected, r.verdict.Reason))
			return
		}
		m := ivschat.Message{ID: r.id, RequestID: r.RequestID, Attributes: r.verdict.Attributes, Content: r.verdict.Content, SendTime: r.received, Sender: v.sender}
		deliveries, err = v.room.deliver(v, newDispatch(sendMessage, r.settings, ivschat.MessageRecord, r.received, m.Encode()))
	case ivschat.DeleteMessage:
		e := ivschat.MessageDeleted(r.id, r.RequestID, r.ID, r.Reason, r.received)
		deliveries, err = v.room.deliver(v, newDispatch(deleteMessage, r.settings, ivschat.EventRecord, r.received, e.Encode()))
	case ivschat.DisconnectUser:
		e := ivschat.UserDisconnected(r.id, r.RequestID, r.UserID, r.Reason, r.received)
		deliveries, err = v.room.disconnect(v, newDispatch(disconnectUser, r.settings, ivschat.EventRecord, r.received, e.Encode()), r.UserID, closeText(r.Reason))
	}
	h.metrics.deliveries[labels[r.Name]].Add(float64(deliveries))
	if err != nil && !errors.Is(err, errDisconnected) {
		h.refuse(v, r.id, r.RequestID, err)
	}
}

// dispatch is what goes to everybody in a room: the frame for its viewers, and the
// record of it for the room's chat logs, in the order of the room.
type dispatch struct {
	label  label
	frame  *socket.Frame
	record ivschat.Record
	told   bool // the other nodes are told by whoever delivers it
}

// newDispatch wraps an encoded frame. The settings are those of the room when the
// request was received: attaching a log takes effect for what is received later.
func newDispatch(l label, settings *ivschat.Room, t ivschat.RecordType, received time.Time, payload []byte) dispatch {
	return dispatch{label: l, frame: socket.NewFrame(payload), record: ivschat.Record{
		Room: settings.ARN, Configurations: settings.LoggingConfigurationIdentifiers, Type: t, Received: received, Payload: payload,
	}}
}

// hold keeps the viewer's room, and the viewer in its list of users, while a
// request of the viewer waits: what disconnects the user must find it.
func (h *Hub) hold(v *viewer) {
	h.mu.Lock()
	v.room.held++
	h.mu.Unlock()
	v.room.mu.Lock()
	v.waiting++
	v.room.mu.Unlock()
}

// release ends a hold.
func (h *Hub) release(v *viewer) {
	v.room.finished(v)
	h.leaveRoom(v.room)
}
