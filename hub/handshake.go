package hub

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"hubbub/chattoken"
	"hubbub/engine"
	"hubbub/ivschat"
	"hubbub/socket"
)

// A handshake asks, in this order, and is refused by an HTTP status before the
// upgrade, since an SDK takes any close after it as final:
//
//	an offered sub-protocol is a valid chat token of this node,
//	and its session is not over                                401
//	its user does not come and go without rest                 a delay, no refusal
//	the account is not blocked                                 403
//	the room exists                                            404
//	the account has a connection left                          429
//	the token was not used before, and is now marked           401, 503
//
// Marking the token is the last step, so that a request refused for another
// reason leaves it good. Source: spec messaging 1.

const (
	// storePatience is how long a handshake waits for a store that cannot mark
	// the token: SDKs give up for good after four quick refusals.
	storePatience = 10 * time.Second

	storePause = 250 * time.Millisecond // before the token is tried again

	// answerTime is what is kept of a handshake's time for its answer: one that waited
	// long in line must not have its token used for a decision that is too late.
	answerTime = time.Second
)

// refusal is what a refused client sees, and what we remember. The text never
// says which check of a token failed.
type refusal struct {
	reason refusalReason
	status int
	text   string
	cause  error // for the log
}

const tokenText = "The chat token is not valid, has expired, or was used before. Get a new one from CreateChatToken for each connection."

// Handshake decides on an upgrade. It waits for the store and implements
// socket.Handler.
func (h *Hub) Handshake(u *socket.Upgrade) {
	protocol, session, refused := h.redeem(u.Protocols(), u.Waited())
	if refused != nil {
		h.refuseHandshake(u, "", refused)
		return
	}
	if h.delayed(u, session) {
		return
	}
	v, refused := h.admit(u.Context(), session)
	if refused != nil {
		h.refuseHandshake(u, session.Room, refused)
		return
	}
	accepted := false
	defer func() {
		if !accepted {
			h.exit(v.room)
		}
	}()
	if v.room.shared != nil { // the other nodes know that the room has viewers here
		select {
		case <-v.room.settled:
		case <-u.Context().Done():
		}
	}
	if refused := h.use(u.Context(), session); refused != nil {
		h.refuseHandshake(u, session.Room, refused)
		return
	}
	accepted = u.Accept(protocol, v) // false if it was too late: nobody will call Closed then
}

// redeem finds the first of the offered sub-protocols that is a valid token. A
// token that was good when the handshake began is good: who had to wait for its
// turn is not to blame.
func (h *Hub) redeem(protocols []string, waited time.Duration) (string, chattoken.Session, *refusal) {
	if len(protocols) == 0 {
		return "", chattoken.Session{}, &refusal{noToken, http.StatusUnauthorized,
			"Offer a chat token from CreateChatToken as the WebSocket sub-protocol (Sec-WebSocket-Protocol).", nil}
	}
	now := h.now().Add(-waited)
	refused := &refusal{reason: invalidToken, status: http.StatusUnauthorized, text: tokenText}
	for _, protocol := range protocols {
		session, err := h.tokens.Redeem(protocol, now)
		if err == nil {
			return protocol, session, nil
		}
		// What was a token of ours once says more than what never was.
		switch {
		case errors.Is(err, chattoken.SessionOver):
			refused.reason = sessionOver
		case errors.Is(err, chattoken.Expired):
			refused.reason = expiredToken
		}
	}
	return "", chattoken.Session{}, refused
}

// admit makes the viewer that the session asks for, with its place in the room
// and in the connection quota, which exit gives back.
func (h *Hub) admit(ctx context.Context, s chattoken.Session) (*viewer, *refusal) {
	name, ok := s.Room.Parse()
	switch {
	case !ok || !h.serves(name.Scope):
		return nil, &refusal{wrongScope, http.StatusUnauthorized, tokenText, nil}
	case h.blocked(name.Account):
		return nil, &refusal{accountBlocked, http.StatusForbidden, "The account is pending verification.", nil}
	}
	_, err := h.registry.Room(s.Room)
	if errors.Is(err, ivschat.NotFound) { // in a cluster it may have been made on another node just now
		if err = h.registry.Sync(ctx); err == nil {
			_, err = h.registry.Room(s.Room)
		}
	}
	if errors.Is(err, ivschat.NotFound) {
		return nil, &refusal{roomNotFound, http.StatusNotFound, "The room of the chat token does not exist any more.", nil}
	} else if err != nil {
		return nil, &refusal{internalError, http.StatusInternalServerError, ivschat.TextInternal, err}
	}
	if !h.connects(ctx, name.Scope) {
		return nil, &refusal{tooManyConnections, http.StatusTooManyRequests,
			"The account has as many concurrent connections in this region as its quota allows. Try again later.", nil}
	}
	return &viewer{
		room:         h.enter(s.Room, name.Scope),
		number:       h.numbers.Add(1),
		sender:       ivschat.NewSender(s.UserID, s.Attributes),
		expires:      s.SessionExpires.Unix(),
		capabilities: s.Capabilities,
	}, nil
}

// connects counts a connection, if the quota has room for it.
func (h *Hub) connects(ctx context.Context, s ivschat.Scope) bool {
	if h.cluster != nil {
		return h.cluster.connections.take(ctx, s)
	}
	return h.quota.Connect(s)
}

// use marks the token as used, which exactly one handshake achieves. A store
// that cannot do it is given some time.
func (h *Hub) use(ctx context.Context, s chattoken.Session) *refusal {
	patience := h.patience
	if end, ok := ctx.Deadline(); ok {
		patience = min(patience, time.Until(end)-answerTime)
	}
	patient, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var trouble error
	for {
		err := h.used.Use(patient, s.ID, s.TokenExpires)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, engine.ErrUsed) && trouble == nil:
			return &refusal{usedToken, http.StatusUnauthorized, tokenText, nil}
		case errors.Is(err, engine.ErrUsed):
			// By our own earlier try, whose outcome the store could not tell.
			return unavailable(trouble)
		case patient.Err() == nil || trouble == nil:
			trouble = err
		}
		select {
		case <-patient.Done():
			if errors.Is(ctx.Err(), context.Canceled) { // nobody reads the answer, and the store is not to blame
				return &refusal{clientGone, http.StatusServiceUnavailable, "The client went before its handshake was over.", nil}
			}
			return unavailable(trouble)
		case <-time.After(storePause):
		}
	}
}

func unavailable(cause error) *refusal {
	return &refusal{storeUnavailable, http.StatusServiceUnavailable, "The chat token cannot be checked at the moment. Try again.", cause}
}

func (h *Hub) refuseHandshake(u *socket.Upgrade, room ivschat.ARN, r *refusal) {
	h.metrics.handshakes[r.reason].Inc()
	level := h.refusals.level(h.now())
	attrs := []slog.Attr{slog.String("reason", string(r.reason)), slog.String("room", string(room)), slog.String("remote", u.RemoteAddr().String())}
	if r.cause != nil {
		if level == slog.LevelInfo {
			level = slog.LevelError // somebody must act; once is enough
		}
		attrs = append(attrs, slog.Any("err", r.cause))
	}
	h.log.LogAttrs(context.Background(), level, "handshake refused", attrs...)
	u.Refuse(r.status, r.text)
}
