package ivschat

import "slices"

// FallbackResult is what happens to a message whose review gave no verdict.
type FallbackResult string

// The two fallback results; ALLOW is the default.
const (
	FallbackAllow FallbackResult = "ALLOW"
	FallbackDeny  FallbackResult = "DENY"
)

// ReviewHandler is a room's message review handler as stored and returned. An
// empty URI means that it was removed: nothing is reviewed, but the object is
// still there, unlike on a room that never had one.
// Source: spec control-plane 6.1, 6.3.
type ReviewHandler struct {
	URI            string         `json:"uri"`
	FallbackResult FallbackResult `json:"fallbackResult"`
}

// ReviewHandlerInput is a review handler in a request; a nil member is absent.
type ReviewHandlerInput struct {
	URI            *string         `json:"uri"`
	FallbackResult *FallbackResult `json:"fallbackResult"`
}

// Room is a chat room as the API shows it. A Room handed out by the registry is
// shared and must not be changed. Source: spec control-plane 5.1.
type Room struct {
	ARN                             ARN            `json:"arn"`
	ID                              string         `json:"id"`
	Name                            string         `json:"name"`
	CreateTime                      Time           `json:"createTime"`
	UpdateTime                      Time           `json:"updateTime"`
	MaximumMessageRatePerSecond     int            `json:"maximumMessageRatePerSecond"` // 1 to 100, all clients together
	MaximumMessageLength            int            `json:"maximumMessageLength"`        // 1 to 500 code points
	MessageReviewHandler            *ReviewHandler `json:"messageReviewHandler,omitzero"`
	Tags                            Strings        `json:"tags"`
	LoggingConfigurationIdentifiers ARNs           `json:"loggingConfigurationIdentifiers,omitempty"` // as given, at most 3
}

// Summary is the room as ListRooms shows it.
func (r *Room) Summary() RoomSummary {
	return RoomSummary{r.ARN, r.ID, r.Name, r.MessageReviewHandler, r.CreateTime, r.UpdateTime, r.Tags, r.LoggingConfigurationIdentifiers}
}

// RoomSummary is a room without its message limits. Source: spec control-plane 5.1.
type RoomSummary struct {
	ARN                             ARN            `json:"arn"`
	ID                              string         `json:"id"`
	Name                            string         `json:"name"`
	MessageReviewHandler            *ReviewHandler `json:"messageReviewHandler,omitzero"`
	CreateTime                      Time           `json:"createTime"`
	UpdateTime                      Time           `json:"updateTime"`
	Tags                            Strings        `json:"tags"`
	LoggingConfigurationIdentifiers ARNs           `json:"loggingConfigurationIdentifiers,omitempty"`
}

// CreateRoomRequest makes a room; every member is optional.
// Source: API reference, CreateRoom; spec control-plane 6.1.
type CreateRoomRequest struct {
	Name                            *string             `json:"name"`
	MaximumMessageRatePerSecond     *Integer            `json:"maximumMessageRatePerSecond"`
	MaximumMessageLength            *Integer            `json:"maximumMessageLength"`
	MessageReviewHandler            *ReviewHandlerInput `json:"messageReviewHandler"`
	Tags                            Strings             `json:"tags"`
	LoggingConfigurationIdentifiers ARNs                `json:"loggingConfigurationIdentifiers"`
}

// Check names every member that is not as the API model wants it.
func (r *CreateRoomRequest) Check() error {
	var c checks
	c.optionalPattern("name", r.Name, 0, MaxNameLength, namePattern)
	c.rangeOf("maximumMessageRatePerSecond", r.MaximumMessageRatePerSecond, 1, MaxMessageRate)
	c.rangeOf("maximumMessageLength", r.MaximumMessageLength, 1, MaxMessageLength)
	c.handler("messageReviewHandler", r.MessageReviewHandler)
	c.tags("tags", r.Tags)
	c.configurations("loggingConfigurationIdentifiers", r.LoggingConfigurationIdentifiers)
	return c.err()
}

// GetRoomRequest asks for one room. Source: API reference, GetRoom.
type GetRoomRequest struct {
	Identifier ARN `json:"identifier"`
}

// Check names every member that is not as the API model wants it.
func (r *GetRoomRequest) Check() error {
	var c checks
	c.room("identifier", r.Identifier)
	return c.err()
}

// UpdateRoomRequest changes the members that are present; an empty name clears
// it, an empty list detaches all, an empty handler URI removes the handler.
// Source: API reference, UpdateRoom; spec control-plane 6.3.
type UpdateRoomRequest struct {
	Identifier                      ARN                 `json:"identifier"`
	Name                            *string             `json:"name"`
	MaximumMessageRatePerSecond     *Integer            `json:"maximumMessageRatePerSecond"`
	MaximumMessageLength            *Integer            `json:"maximumMessageLength"`
	MessageReviewHandler            *ReviewHandlerInput `json:"messageReviewHandler"`
	LoggingConfigurationIdentifiers ARNs                `json:"loggingConfigurationIdentifiers"`
}

// Check names every member that is not as the API model wants it.
func (r *UpdateRoomRequest) Check() error {
	var c checks
	c.room("identifier", r.Identifier)
	c.optionalPattern("name", r.Name, 0, MaxNameLength, namePattern)
	c.rangeOf("maximumMessageRatePerSecond", r.MaximumMessageRatePerSecond, 1, MaxMessageRate)
	c.rangeOf("maximumMessageLength", r.MaximumMessageLength, 1, MaxMessageLength)
	c.handler("messageReviewHandler", r.MessageReviewHandler)
	c.configurations("loggingConfigurationIdentifiers", r.LoggingConfigurationIdentifiers)
	return c.err()
}

// DeleteRoomRequest deletes a room. Source: API reference, DeleteRoom.
type DeleteRoomRequest struct {
	Identifier ARN `json:"identifier"`
}

// Check names every member that is not as the API model wants it.
func (r *DeleteRoomRequest) Check() error {
	var c checks
	c.room("identifier", r.Identifier)
	return c.err()
}

// ListRoomsRequest asks for a page of rooms; filters combine, and an empty name
// or handler URI is no filter. Source: API reference, ListRooms; spec control-plane 6.5.
type ListRoomsRequest struct {
	Name                           *string  `json:"name"`
	NextToken                      *string  `json:"nextToken"`
	MaxResults                     *Integer `json:"maxResults"`
	MessageReviewHandlerURI        *string  `json:"messageReviewHandlerUri"`
	LoggingConfigurationIdentifier *ARN     `json:"loggingConfigurationIdentifier"`
}

// Check names every member that is not as the API model wants it.
func (r *ListRoomsRequest) Check() error {
	var c checks
	c.optionalPattern("name", r.Name, 0, MaxNameLength, namePattern)
	c.page(r.NextToken, r.MaxResults)
	if u := r.MessageReviewHandlerURI; u != nil {
		c.pattern("messageReviewHandlerUri", *u, 0, MaxLambdaARNLength, lambdaPattern)
	}
	if a := r.LoggingConfigurationIdentifier; a != nil {
		if *a == "" {
			c.fail("loggingConfigurationIdentifier", "must be an ARN like %s or be left out, but is empty", exampleConfigurationARN)
		} else {
			c.configuration("loggingConfigurationIdentifier", *a)
		}
	}
	return c.err()
}

// ListRoomsResponse is a page of rooms, the last changed first; NextToken is
// absent on the last page.
type ListRoomsResponse struct {
	Rooms     []RoomSummary `json:"rooms"`
	NextToken string        `json:"nextToken,omitempty"`
}

// Attached says whether the room uses the logging configuration.
func (r *Room) Attached(configuration ARN) bool {
	return slices.Contains(r.LoggingConfigurationIdentifiers, configuration)
}
