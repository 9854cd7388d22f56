package hub

import (
	"context"
	"strings"
	"unicode/utf8"

	"hubbub/ivschat"
)

// The operations of the control plane that reach viewers. They go through the
// same ordered stream of the room as what the viewers send. A room without
// viewers takes them too, for its log; one that does not exist refuses them with NotFound.
// Their quotas and permissions are the caller's to check.

// SendEvent sends everybody in the room an event and returns its id. nil
// attributes are sent as null. Source: API reference, SendEvent.
func (h *Hub) SendEvent(_ context.Context, arn ivschat.ARN, name string, attributes map[string]string) (id string, err error) {
	h.metrics.requests[sendEvent].Inc()
	settings, err := h.registry.Room(arn)
	if err != nil {
		return "", err
	}
	e := ivschat.Event{ID: ivschat.NewID(), Name: name, Attributes: attributes, SendTime: h.now()}
	h.tell(settings, sendEvent, e)
	return e.ID, nil
}

// DeleteMessage tells everybody in the room to take a message down and returns
// the event's id. Source: API reference, DeleteMessage.
func (h *Hub) DeleteMessage(_ context.Context, arn ivschat.ARN, id, reason string) (string, error) {
	h.metrics.requests[deleteMessage].Inc()
	settings, err := h.registry.Room(arn)
	if err != nil {
		return "", err
	}
	e := ivschat.MessageDeleted(ivschat.NewID(), "", id, reason, h.now())
	h.tell(settings, deleteMessage, e)
	return e.ID, nil
}

// DisconnectUser tells everybody in the room and then ends all connections of
// the user; that there is none is a success. Source: API reference, DisconnectUser.
func (h *Hub) DisconnectUser(_ context.Context, arn ivschat.ARN, userID, reason string) error {
	h.metrics.requests[disconnectUser].Inc()
	settings, err := h.registry.Room(arn)
	if err != nil {
		return err
	}
	e := ivschat.UserDisconnected(ivschat.NewID(), "", userID, reason, h.now())
	d := newDispatch(disconnectUser, settings, ivschat.EventRecord, e.SendTime, e.Encode())
	if r := h.find(arn); r != nil {
		deliveries, _ := r.disconnect(nil, d, userID, closeText(reason))
		h.metrics.deliveries[disconnectUser].Add(float64(deliveries))
		return nil
	}
	h.recordAlone(d)
	if h.cluster != nil {
		h.cluster.tell(arn, disconnectUser, userID, closeText(reason), d.record.Payload)
	}
	return nil
}

func (h *Hub) tell(settings *ivschat.Room, l label, e ivschat.Event) {
	d := newDispatch(l, settings, ivschat.EventRecord, e.SendTime, e.Encode())
	if r := h.find(settings.ARN); r != nil {
		deliveries, _ := r.deliver(nil, d)
		h.metrics.deliveries[l].Add(float64(deliveries))
		return
	}
	h.recordAlone(d)
	if h.cluster != nil {
		h.cluster.tell(settings.ARN, l, "", "", d.record.Payload)
	}
}

// recordAlone logs what nobody on this node sees.
func (h *Hub) recordAlone(d dispatch) {
	if len(d.record.Configurations) > 0 {
		h.record(d.record)
	}
}

// closeText is a reason as the close frame of a disconnected user carries it:
// plain, and cut at a character to what fits. Old clients take a JSON object
// there for the ERROR of a session that ended, so one gets words before it.
// Source: spec messaging 3.3.
func closeText(reason string) string {
	if strings.HasPrefix(strings.TrimSpace(reason), "{") {
		reason = "Disconnected: " + reason
	}
	if len(reason) <= ivschat.MaxCloseReasonBytes {
		return reason
	}
	cut := ivschat.MaxCloseReasonBytes
	for cut > 0 && !utf8.RuneStart(reason[cut]) {
		cut--
	}
	return reason[:cut]
}
