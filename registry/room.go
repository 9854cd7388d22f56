package registry

import (
	"context"
	"maps"
	"slices"

	"hubbub/engine"
	"hubbub/ivschat"
	"hubbub/quota"
)

// Room is the room of that name, as it is now: NotFound if there is none. The
// value is shared and never changes.
func (g *Registry) Room(arn ivschat.ARN) (*ivschat.Room, error) {
	g.mu.RLock()
	e, ok := g.rooms.byARN[arn]
	g.mu.RUnlock()
	if !ok {
		return nil, notFound(arn)
	}
	return e.value.Room, nil
}

// Rooms is the number of rooms of all accounts and regions.
func (g *Registry) Rooms() int {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return len(g.rooms.byARN)
}

// CreateRoom makes a room with its tags and associations, all of it or nothing:
// NotFound or Conflict for a logging configuration, Validation for a review
// handler that nothing can invoke, QuotaExceeded. Source: spec control-plane 6.1.
func (g *Registry) CreateRoom(ctx context.Context, s ivschat.Scope, r *ivschat.CreateRoomRequest) (*ivschat.Room, error) {
	handler, err := g.patchHandler(nil, r.MessageReviewHandler)
	if err != nil {
		return nil, err
	}
	made := &ivschat.Room{
		Name: text(r.Name), MaximumMessageRatePerSecond: ivschat.DefaultMessageRate, MaximumMessageLength: ivschat.DefaultMessageLength,
		MessageReviewHandler: handler, Tags: ivschat.Strings{}, LoggingConfigurationIdentifiers: slices.Clone(r.LoggingConfigurationIdentifiers),
		CreateTime: ivschat.At(g.now()),
	}
	made.UpdateTime = made.CreateTime
	maps.Copy(made.Tags, r.Tags)
	if n := r.MaximumMessageRatePerSecond; n != nil {
		made.MaximumMessageRatePerSecond = int(*n)
	}
	if n := r.MaximumMessageLength; n != nil {
		made.MaximumMessageLength = int(*n)
	}
	set := func(n ivschat.Name) any {
		made.ARN, made.ID = n.ARN(), n.ID
		return made
	}
	done := func() {}
	check := func() error {
		done()
		done = func() {}
		unpin, err := g.pin(s, made.LoggingConfigurationIdentifiers, ivschat.Conflict)
		if err != nil {
			return err
		}
		g.mu.Lock()
		release, err := g.reserve(s, quota.Rooms, len(g.rooms.ordered[s]))
		g.mu.Unlock()
		if err != nil {
			unpin()
			return err
		}
		done = func() {
			g.mu.Lock()
			release()
			g.mu.Unlock()
			unpin()
		}
		return nil
	}
	defer func() { done() }()
	g.mu.RLock()
	depends := len(made.LoggingConfigurationIdentifiers) > 0 || g.near(quota.Rooms, len(g.rooms.ordered[s]))
	g.mu.RUnlock()
	err = g.guarded(ctx, depends, check, func(b *engine.Bucket) error {
		revision, err := insert(ctx, b, s, ivschat.RoomType, set)
		if err == nil {
			g.wrote(ctx, revision, func() {
				g.mu.Lock()
				defer g.mu.Unlock()
				g.putRoom(s, made, revision)
			})
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return made, nil
}

// putRoom puts a room into the index; the caller holds mu.
func (g *Registry) putRoom(s ivschat.Scope, r *ivschat.Room, revision uint64) {
	if old, had := g.rooms.byARN[r.ARN]; had {
		if old.revision >= revision {
			return
		}
		g.use(old.value.LoggingConfigurationIdentifiers, -1)
	}
	g.use(r.LoggingConfigurationIdentifiers, 1)
	g.rooms.put(s, room{r}, revision)
}

// patchHandler applies what a request says of the handler to what is stored,
// member by member; nil in a request changes nothing. Source: spec control-plane
// 6.1, 6.3.
func (g *Registry) patchHandler(stored *ivschat.ReviewHandler, in *ivschat.ReviewHandlerInput) (*ivschat.ReviewHandler, error) {
	if in == nil {
		return stored, nil
	}
	patched := ivschat.ReviewHandler{FallbackResult: ivschat.FallbackAllow}
	if stored != nil {
		patched = *stored
	}
	if in.FallbackResult != nil {
		patched.FallbackResult = *in.FallbackResult
	}
	if in.URI != nil {
		if err := g.CheckHandler(in); err != nil {
			return nil, err
		}
		patched.URI = *in.URI
	}
	return &patched, nil
}

// CheckHandler is the Validation of a review handler that nothing can invoke; of
// what is no Lambda ARN the request's own Check speaks.
// Source: spec control-plane 3.4, 6.1.
func (g *Registry) CheckHandler(in *ivschat.ReviewHandlerInput) error {
	if in == nil || in.URI == nil || !ivschat.IsLambdaARN(*in.URI) || g.acceptHandler(*in.URI) {
		return nil
	}
	return ivschat.InvalidFields(ivschat.Invalid("messageReviewHandler.uri", "invalid lambda permission"))
}

// UpdateRoom changes the members that the request has: NotFound for the room or
// a logging configuration, Validation for a review handler. A request that
// changes nothing leaves updateTime alone. Source: spec control-plane 6.3.
func (g *Registry) UpdateRoom(ctx context.Context, r *ivschat.UpdateRoomRequest) (*ivschat.Room, error) {
	n, err := parse(r.Identifier, ivschat.RoomType)
	if err != nil {
		return nil, err
	}
	if _, err := g.Room(r.Identifier); err != nil {
		return nil, err
	}
	unpin := func() {}
	defer func() { unpin() }()
	check := func() (err error) {
		unpin()
		if unpin, err = g.pin(n.Scope, r.LoggingConfigurationIdentifiers, ivschat.NotFound); err != nil {
			unpin = func() {}
		}
		return err
	}
	edit := func(old *ivschat.Room) (*ivschat.Room, error) {
		in := r.MessageReviewHandler
		if in != nil && in.URI == nil && in.FallbackResult == nil {
			in = nil // an empty object changes nothing, on a room that never had a handler either
		}
		handler, err := g.patchHandler(old.MessageReviewHandler, in)
		if err != nil {
			return nil, err
		}
		changed := *old
		changed.MessageReviewHandler = handler
		if r.Name != nil {
			changed.Name = *r.Name
		}
		if v := r.MaximumMessageRatePerSecond; v != nil {
			changed.MaximumMessageRatePerSecond = int(*v)
		}
		if v := r.MaximumMessageLength; v != nil {
			changed.MaximumMessageLength = int(*v)
		}
		if list := r.LoggingConfigurationIdentifiers; list != nil {
			changed.LoggingConfigurationIdentifiers = slices.Clone(list)
		}
		if equalJSON(old, &changed) {
			return old, nil
		}
		changed.UpdateTime = g.next(old.UpdateTime)
		return &changed, nil
	}
	var changed *ivschat.Room
	err = g.guarded(ctx, len(r.LoggingConfigurationIdentifiers) > 0, check, func(b *engine.Bucket) (err error) {
		changed, err = g.changeRoom(ctx, b, n, edit)
		return err
	})
	return changed, err
}

func (g *Registry) changeRoom(ctx context.Context, b *engine.Bucket, n ivschat.Name, edit func(*ivschat.Room) (*ivschat.Room, error)) (*ivschat.Room, error) {
	return change(ctx, g, b, n,
		func() (*ivschat.Room, uint64, bool) {
			g.mu.RLock()
			defer g.mu.RUnlock()
			e, ok := g.rooms.byARN[n.ARN()]
			return e.value.Room, e.revision, ok
		}, edit,
		func(r *ivschat.Room, revision uint64) {
			g.mu.Lock()
			defer g.mu.Unlock()
			// A deletion may have overtaken it; no id is used again.
			if _, there := g.rooms.byARN[r.ARN]; there {
				g.putRoom(n.Scope, r, revision)
			}
		})
}

// DeleteRoom removes a room: NotFound if it is gone already. Its viewers stay
// connected. Source: spec control-plane 6.4.
func (g *Registry) DeleteRoom(ctx context.Context, arn ivschat.ARN) error {
	n, err := parse(arn, ivschat.RoomType)
	if err != nil {
		return err
	}
	g.mu.RLock()
	e, ok := g.rooms.byARN[arn]
	g.mu.RUnlock()
	if !ok {
		return notFound(arn)
	}
	was, err := drop(ctx, g.bucket, n, e.revision)
	if err != nil {
		return err
	}
	g.removed(n, 0)
	if !was {
		return notFound(arn)
	}
	return nil
}

// listOfRooms is the list that a request is a page of, with its filters.
func listOfRooms(s ivschat.Scope, r *ivschat.ListRoomsRequest) (list []byte, name, uri string, configuration ivschat.ARN) {
	name, uri = text(r.Name), text(r.MessageReviewHandlerURI)
	if r.LoggingConfigurationIdentifier != nil {
		configuration = *r.LoggingConfigurationIdentifier
	}
	return listOf(ivschat.OpListRooms, s, name, uri, string(configuration)), name, uri, configuration
}

// CheckListRooms is the Validation of a nextToken that is not of the list.
func (g *Registry) CheckListRooms(s ivschat.Scope, r *ivschat.ListRoomsRequest) error {
	if text(r.NextToken) == "" {
		return nil
	}
	list, _, _, _ := listOfRooms(s, r)
	_, err := g.cursors.Load().open(*r.NextToken, list)
	return err
}

// ListRooms is a page of the rooms of an account and region, the last changed
// first: Validation for a nextToken that is not of this list, NotFound for an
// unknown logging configuration. Source: spec control-plane 6.5, 7.
func (g *Registry) ListRooms(s ivschat.Scope, r *ivschat.ListRoomsRequest) (*ivschat.ListRoomsResponse, error) {
	list, name, uri, configuration := listOfRooms(s, r)
	after, err := g.cursors.Load().open(text(r.NextToken), list)
	if err != nil {
		return nil, err
	}
	if configuration != "" {
		// Nobody authorised the caller for it: elsewhere it is unknown.
		if n, _ := configuration.Parse(); n.Scope != s {
			return nil, notFound(configuration)
		}
		if _, err := g.LoggingConfiguration(configuration); err != nil {
			return nil, err
		}
	}
	g.mu.RLock()
	page, more := g.rooms.page(s, after, pageSize(r.MaxResults), func(r room) bool {
		return (name == "" || r.Name == name) &&
			(uri == "" || r.MessageReviewHandler != nil && r.MessageReviewHandler.URI == uri) &&
			(configuration == "" || r.Attached(configuration))
	})
	g.mu.RUnlock()
	out := &ivschat.ListRoomsResponse{Rooms: make([]ivschat.RoomSummary, len(page))}
	for i, r := range page {
		out.Rooms[i] = r.Summary()
	}
	if more {
		last := page[len(page)-1]
		out.NextToken = g.cursors.Load().seal(position{last.UpdateTime, last.ARN}, list)
	}
	return out, nil
}

func pageSize(n *ivschat.Integer) int {
	if n == nil {
		return ivschat.MaxPageSize
	}
	return int(*n)
}

// pin holds logging configurations, so that none is deleted while a room that
// names it is written. One that is being deleted is refused with the kind given.
func (g *Registry) pin(s ivschat.Scope, list ivschat.ARNs, gone ivschat.Kind) (unpin func(), err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, a := range list {
		e, ok := g.configurations.byARN[a]
		n, _ := a.Parse()
		switch {
		case !ok || n.Scope != s:
			return nil, notFound(a)
		case (g.deleting[a] || e.value.State == ivschat.StateDeleting) && gone == ivschat.Conflict:
			return nil, &ivschat.Error{Kind: ivschat.Conflict, Message: "Resource: " + string(a) + " is being deleted", Resource: a.ID()}
		case g.deleting[a] || e.value.State == ivschat.StateDeleting:
			return nil, notFound(a)
		}
	}
	for _, a := range list {
		g.pins[a]++
	}
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		for _, a := range list {
			if g.pins[a]--; g.pins[a] == 0 {
				delete(g.pins, a)
			}
		}
	}, nil
}
