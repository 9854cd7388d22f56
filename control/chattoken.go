package control

import (
	"context"
	"time"

	"hubbub/chattoken"
	"hubbub/ivschat"
)

// createChatToken seals a session. The session counts from now, not from the
// connection; the token is good for the lifetime set, but never beyond the
// session. Both ends are whole seconds. Nothing is written: the room stays as it
// is, and the token is known to nobody but the caller.
// Source: spec control-plane 9.5.
func createChatToken(_ context.Context, h *Handler, _ *call, q *ivschat.CreateChatTokenRequest) (any, error) {
	if _, err := h.registry.Room(q.RoomIdentifier); err != nil {
		return nil, err
	}
	minutes := ivschat.Integer(ivschat.DefaultSessionMinutes)
	if q.SessionDurationInMinutes != nil {
		minutes = *q.SessionDurationInMinutes
	}
	now := h.now().UTC()
	s := chattoken.Session{
		Room: q.RoomIdentifier, UserID: q.UserID, Attributes: given(q.Attributes), Capabilities: q.Capabilities.Set(),
		TokenExpires:   now.Add(h.tokenLifetime).Truncate(time.Second),
		SessionExpires: now.Add(time.Duration(minutes) * time.Minute).Truncate(time.Second),
	}
	if s.TokenExpires.After(s.SessionExpires) {
		s.TokenExpires = s.SessionExpires
	}
	token, err := h.tokens.Mint(s)
	if err != nil {
		return nil, err
	}
	return ivschat.CreateChatTokenResponse{
		Token:                 token,
		TokenExpirationTime:   ivschat.TokenTime{Time: s.TokenExpires},
		SessionExpirationTime: ivschat.TokenTime{Time: s.SessionExpires},
	}, nil
}
