package control

import (
	"context"
	"net/http"

	"hubbub/ivschat"
)

// operation is a row of the table: all that differs between operations.
type operation struct {
	name     ivschat.Operation
	action   string // of IAM
	method   string // HTTP
	tagging  bool   // at /tags/{arn}, not at its name
	verified bool   // refused with PendingVerification while the account is blocked
	status   int    // of a success; 204 has no body

	// read decodes and checks the request into c.request and c.access.
	read func(h *Handler, c *call, body []byte) error
	// also is what else fails in a request that read refused: what only a caller who
	// may use the operation is told. nil for nothing; c.request and c.access are set.
	also func(h *Handler, c *call) error
	// run does what c.request asks. It is allowed, and the ARN is of the region
	// that was signed for; whether the resource exists is for run to find out.
	run func(ctx context.Context, h *Handler, c *call) (any, error)
}

// row is an operation as the table writes it; P is a pointer to its request type.
type row[P any] struct {
	operation

	// fill sets what does not come in the body, before the check; nil for nothing.
	fill func(h *Handler, c *call, request P) error
	// check looks at what needs more than the request itself; nil for nothing.
	check func(h *Handler, c *call, request P) error
	// also looks at what only a caller with permission is told; nil for nothing.
	also func(h *Handler, request P) error
	// asks says what permission is needed for.
	asks func(request P, s ivschat.Scope) access
	// does answers the checked request.
	does func(ctx context.Context, h *Handler, c *call, request P) (any, error)
}

// define makes an operation of its row.
func define[T any, P interface {
	*T
	Check() error
}](r row[P]) *operation {
	o := r.operation
	o.action = o.name.Action()
	if o.method == "" {
		o.method = http.MethodPost
	}
	if o.status == 0 {
		o.status = http.StatusOK
	}
	o.read = func(h *Handler, c *call, body []byte) error {
		request := P(new(T))
		if o.method == http.MethodPost { // GET and DELETE have none
			if err := ivschat.Decode(body, request); err != nil {
				return err
			}
		}
		if r.fill != nil {
			if err := r.fill(h, c, request); err != nil {
				return err
			}
		}
		c.request, c.access = request, r.asks(request, c.scope)
		err := request.Check()
		if r.check != nil {
			err = ivschat.JoinInvalid(err, r.check(h, c, request))
		}
		return err
	}
	if r.also != nil {
		o.also = func(h *Handler, c *call) error { return r.also(h, c.request.(P)) }
	}
	o.run = func(ctx context.Context, h *Handler, c *call) (any, error) {
		return r.does(ctx, h, c, c.request.(P))
	}
	return &o
}

// on is the access to a resource, or to all of a type ("…:room/*").
func on(arn ivschat.ARN) access { return access{resource: arn} }

// operations is the table of all 17.
// Source: spec control-plane 1 (method, status), 3.2 (verified: column P); spec iam B.1 (asks).
var operations = []*operation{
	define(row[*ivschat.CreateChatTokenRequest]{
		operation: operation{name: ivschat.OpCreateChatToken, verified: true},
		asks:      func(q *ivschat.CreateChatTokenRequest, _ ivschat.Scope) access { return on(q.RoomIdentifier) },
		does:      createChatToken,
	}),
	define(row[*ivschat.CreateLoggingConfigurationRequest]{
		operation: operation{name: ivschat.OpCreateLoggingConfiguration, verified: true},
		asks: func(q *ivschat.CreateLoggingConfigurationRequest, s ivschat.Scope) access {
			return access{resource: s.ARN(ivschat.LoggingConfigurationType, "*"), tags: q.Tags}
		},
		does: func(ctx context.Context, h *Handler, c *call, q *ivschat.CreateLoggingConfigurationRequest) (any, error) {
			return h.registry.CreateLoggingConfiguration(ctx, c.scope, q)
		},
	}),
	define(row[*ivschat.CreateRoomRequest]{
		operation: operation{name: ivschat.OpCreateRoom, verified: true},
		also: func(h *Handler, q *ivschat.CreateRoomRequest) error {
			return h.registry.CheckHandler(q.MessageReviewHandler)
		},
		asks: func(q *ivschat.CreateRoomRequest, s ivschat.Scope) access {
			return access{resource: s.ARN(ivschat.RoomType, "*"), tags: q.Tags}
		},
		does: func(ctx context.Context, h *Handler, c *call, q *ivschat.CreateRoomRequest) (any, error) {
			return h.registry.CreateRoom(ctx, c.scope, q)
		},
	}),
	define(row[*ivschat.DeleteLoggingConfigurationRequest]{
		operation: operation{name: ivschat.OpDeleteLoggingConfiguration, verified: true, status: http.StatusNoContent},
		asks:      func(q *ivschat.DeleteLoggingConfigurationRequest, _ ivschat.Scope) access { return on(q.Identifier) },
		does: func(ctx context.Context, h *Handler, _ *call, q *ivschat.DeleteLoggingConfigurationRequest) (any, error) {
			return nil, h.registry.DeleteLoggingConfiguration(ctx, q.Identifier)
		},
	}),
	define(row[*ivschat.DeleteMessageRequest]{
		operation: operation{name: ivschat.OpDeleteMessage, verified: true},
		asks:      func(q *ivschat.DeleteMessageRequest, _ ivschat.Scope) access { return on(q.RoomIdentifier) },
		does: func(ctx context.Context, h *Handler, _ *call, q *ivschat.DeleteMessageRequest) (any, error) {
			id, err := h.messenger.DeleteMessage(ctx, q.RoomIdentifier, q.ID, text(q.Reason))
			return ivschat.DeleteMessageResponse{ID: id}, err
		},
	}),
	define(row[*ivschat.DeleteRoomRequest]{
		operation: operation{name: ivschat.OpDeleteRoom, verified: true, status: http.StatusNoContent},
		asks:      func(q *ivschat.DeleteRoomRequest, _ ivschat.Scope) access { return on(q.Identifier) },
		does: func(ctx context.Context, h *Handler, _ *call, q *ivschat.DeleteRoomRequest) (any, error) {
			return nil, h.registry.DeleteRoom(ctx, q.Identifier)
		},
	}),
	define(row[*ivschat.DisconnectUserRequest]{
		operation: operation{name: ivschat.OpDisconnectUser, verified: true},
		asks:      func(q *ivschat.DisconnectUserRequest, _ ivschat.Scope) access { return on(q.RoomIdentifier) },
		does: func(ctx context.Context, h *Handler, _ *call, q *ivschat.DisconnectUserRequest) (any, error) {
			return ivschat.Empty{}, h.messenger.DisconnectUser(ctx, q.RoomIdentifier, q.UserID, text(q.Reason))
		},
	}),
	define(row[*ivschat.GetLoggingConfigurationRequest]{
		operation: operation{name: ivschat.OpGetLoggingConfiguration},
		asks:      func(q *ivschat.GetLoggingConfigurationRequest, _ ivschat.Scope) access { return on(q.Identifier) },
		does: func(_ context.Context, h *Handler, _ *call, q *ivschat.GetLoggingConfigurationRequest) (any, error) {
			return h.registry.LoggingConfiguration(q.Identifier)
		},
	}),
	define(row[*ivschat.GetRoomRequest]{
		operation: operation{name: ivschat.OpGetRoom},
		asks:      func(q *ivschat.GetRoomRequest, _ ivschat.Scope) access { return on(q.Identifier) },
		does: func(_ context.Context, h *Handler, _ *call, q *ivschat.GetRoomRequest) (any, error) {
			return h.registry.Room(q.Identifier)
		},
	}),
	define(row[*ivschat.ListLoggingConfigurationsRequest]{
		operation: operation{name: ivschat.OpListLoggingConfigurations},
		check: func(h *Handler, c *call, q *ivschat.ListLoggingConfigurationsRequest) error {
			return h.registry.CheckListLoggingConfigurations(c.scope, q)
		},
		asks: func(_ *ivschat.ListLoggingConfigurationsRequest, s ivschat.Scope) access {
			return on(s.ARN(ivschat.LoggingConfigurationType, "*"))
		},
		does: func(_ context.Context, h *Handler, c *call, q *ivschat.ListLoggingConfigurationsRequest) (any, error) {
			return h.registry.ListLoggingConfigurations(c.scope, q)
		},
	}),
	define(row[*ivschat.ListRoomsRequest]{
		operation: operation{name: ivschat.OpListRooms},
		check: func(h *Handler, c *call, q *ivschat.ListRoomsRequest) error {
			return h.registry.CheckListRooms(c.scope, q)
		},
		asks: func(_ *ivschat.ListRoomsRequest, s ivschat.Scope) access { return on(s.ARN(ivschat.RoomType, "*")) },
		does: func(_ context.Context, h *Handler, c *call, q *ivschat.ListRoomsRequest) (any, error) {
			return h.registry.ListRooms(c.scope, q)
		},
	}),
	define(row[*ivschat.ListTagsForResourceRequest]{
		operation: operation{name: ivschat.OpListTagsForResource, method: http.MethodGet, tagging: true},
		fill: func(_ *Handler, c *call, q *ivschat.ListTagsForResourceRequest) error {
			q.ResourceARN = c.path
			return nil
		},
		asks: func(q *ivschat.ListTagsForResourceRequest, _ ivschat.Scope) access { return on(q.ResourceARN) },
		does: func(_ context.Context, h *Handler, _ *call, q *ivschat.ListTagsForResourceRequest) (any, error) {
			tags, err := h.registry.Tags(q.ResourceARN)
			return ivschat.ListTagsForResourceResponse{Tags: tags}, err
		},
	}),
	define(row[*ivschat.SendEventRequest]{
		operation: operation{name: ivschat.OpSendEvent, verified: true},
		fill: func(h *Handler, _ *call, q *ivschat.SendEventRequest) error {
			q.AttributesLimit = h.eventBytes
			return nil
		},
		asks: func(q *ivschat.SendEventRequest, _ ivschat.Scope) access { return on(q.RoomIdentifier) },
		does: func(ctx context.Context, h *Handler, _ *call, q *ivschat.SendEventRequest) (any, error) {
			id, err := h.messenger.SendEvent(ctx, q.RoomIdentifier, q.EventName, given(q.Attributes))
			return ivschat.SendEventResponse{ID: id}, err
		},
	}),
	define(row[*ivschat.TagResourceRequest]{
		operation: operation{name: ivschat.OpTagResource, tagging: true},
		fill: func(_ *Handler, c *call, q *ivschat.TagResourceRequest) error {
			q.ResourceARN = c.path
			return nil
		},
		asks: func(q *ivschat.TagResourceRequest, _ ivschat.Scope) access {
			return access{resource: q.ResourceARN, tags: q.Tags}
		},
		does: func(ctx context.Context, h *Handler, _ *call, q *ivschat.TagResourceRequest) (any, error) {
			return ivschat.Empty{}, h.registry.Tag(ctx, q.ResourceARN, q.Tags)
		},
	}),
	define(row[*ivschat.UntagResourceRequest]{
		operation: operation{name: ivschat.OpUntagResource, method: http.MethodDelete, tagging: true},
		fill: func(_ *Handler, c *call, q *ivschat.UntagResourceRequest) (err error) {
			q.ResourceARN = c.path
			q.TagKeys, err = tagKeys(c.query)
			return err
		},
		asks: func(q *ivschat.UntagResourceRequest, _ ivschat.Scope) access {
			return access{resource: q.ResourceARN, keys: q.TagKeys}
		},
		does: func(ctx context.Context, h *Handler, _ *call, q *ivschat.UntagResourceRequest) (any, error) {
			return ivschat.Empty{}, h.registry.Untag(ctx, q.ResourceARN, q.TagKeys)
		},
	}),
	define(row[*ivschat.UpdateLoggingConfigurationRequest]{
		operation: operation{name: ivschat.OpUpdateLoggingConfiguration, verified: true},
		asks:      func(q *ivschat.UpdateLoggingConfigurationRequest, _ ivschat.Scope) access { return on(q.Identifier) },
		does: func(ctx context.Context, h *Handler, _ *call, q *ivschat.UpdateLoggingConfigurationRequest) (any, error) {
			return h.registry.UpdateLoggingConfiguration(ctx, q)
		},
	}),
	define(row[*ivschat.UpdateRoomRequest]{
		operation: operation{name: ivschat.OpUpdateRoom, verified: true},
		also: func(h *Handler, q *ivschat.UpdateRoomRequest) error {
			return h.registry.CheckHandler(q.MessageReviewHandler)
		},
		asks: func(q *ivschat.UpdateRoomRequest, _ ivschat.Scope) access { return on(q.Identifier) },
		does: func(ctx context.Context, h *Handler, _ *call, q *ivschat.UpdateRoomRequest) (any, error) {
			return h.registry.UpdateRoom(ctx, q)
		},
	}),
}

// text is the value of an optional member, "" if it is absent.
func text(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}

// given is nil for an empty map: that is the same as none.
// Source: spec control-plane 9.1.
func given(attributes ivschat.Strings) map[string]string {
	if len(attributes) == 0 {
		return nil
	}
	return attributes
}
