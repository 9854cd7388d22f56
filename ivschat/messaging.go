package ivschat

import (
	"reflect"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Capability is what a chat token allows beyond viewing, as a set of bits. The
// zero value may only read.
type Capability uint8

// The capabilities. Source: API reference, CreateChatToken.
const (
	CanSendMessage Capability = 1 << iota
	CanDeleteMessage
	CanDisconnectUser
)

// CapabilityName is a capability as a request spells it.
type CapabilityName string

// The names.
const (
	SendMessageCapability    CapabilityName = "SEND_MESSAGE"
	DisconnectUserCapability CapabilityName = "DISCONNECT_USER"
	DeleteMessageCapability  CapabilityName = "DELETE_MESSAGE"
)

var capabilityBits = map[CapabilityName]Capability{
	SendMessageCapability:    CanSendMessage,
	DisconnectUserCapability: CanDisconnectUser,
	DeleteMessageCapability:  CanDeleteMessage,
}

// CapabilityNames is the list of a request.
type CapabilityNames []CapabilityName

// UnmarshalJSONFrom reads a list of strings; null leaves it nil.
func (l *CapabilityNames) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	return readStrings(d, reflect.TypeFor[CapabilityNames](), func() { *l = CapabilityNames{} },
		func(s string) { *l = append(*l, CapabilityName(s)) })
}

// Set is the list as bits; duplicates count once, unknown names not at all.
func (l CapabilityNames) Set() Capability {
	var set Capability
	for _, name := range l {
		set |= capabilityBits[name]
	}
	return set
}

// CreateChatTokenRequest asks for a token that opens one connection.
// Source: API reference, CreateChatToken; spec control-plane 9.5.
type CreateChatTokenRequest struct {
	RoomIdentifier           ARN             `json:"roomIdentifier"`
	UserID                   string          `json:"userId"`
	Capabilities             CapabilityNames `json:"capabilities"`
	SessionDurationInMinutes *Integer        `json:"sessionDurationInMinutes"`
	Attributes               Strings         `json:"attributes"`
}

// Check names every member that is not as the API model wants it. User id and
// attributes are sensitive and never shown.
func (r *CreateChatTokenRequest) Check() error {
	var c checks
	c.room("roomIdentifier", r.RoomIdentifier)
	c.required("userId", r.UserID, MaxUserIDLength)
	for _, name := range slices.Compact(slices.Sorted(slices.Values(r.Capabilities))) {
		if _, ok := capabilityBits[name]; !ok {
			c.fail("capabilities", "must be SEND_MESSAGE, DISCONNECT_USER or DELETE_MESSAGE, but one is %q", shorten(string(name)))
			break
		}
	}
	c.rangeOf("sessionDurationInMinutes", r.SessionDurationInMinutes, 1, MaxSessionMinutes)
	c.attributes("attributes", r.Attributes, MaxAttributesBytes)
	return c.err()
}

// CreateChatTokenResponse has the token, until when it may be used, and until
// when the connection that it opens may last.
type CreateChatTokenResponse struct {
	Token                 string    `json:"token"`
	TokenExpirationTime   TokenTime `json:"tokenExpirationTime"`
	SessionExpirationTime TokenTime `json:"sessionExpirationTime"`
}

// SendEventRequest sends an event to everybody in a room.
// Source: API reference, SendEvent; spec control-plane 9.2.
type SendEventRequest struct {
	RoomIdentifier ARN     `json:"roomIdentifier"`
	EventName      string  `json:"eventName"`
	Attributes     Strings `json:"attributes"`

	// AttributesLimit is the most bytes that the attributes may have; 0 means
	// MaxAttributesBytes, less than 0 no limit. It is a setting of the server,
	// not a member of the request.
	AttributesLimit int `json:"-"`
}

// Check names every member that is not as the API model wants it.
func (r *SendEventRequest) Check() error {
	var c checks
	c.room("roomIdentifier", r.RoomIdentifier)
	if c.required("eventName", r.EventName, MaxEventNameLength) && reserved(r.EventName) {
		c.fail("eventName", "must not begin with the reserved \"aws:\"")
	}
	limit := r.AttributesLimit
	if limit == 0 {
		limit = MaxAttributesBytes
	}
	c.attributes("attributes", r.Attributes, limit)
	return c.err()
}

// SendEventResponse has the Id of the event that the viewers receive.
type SendEventResponse struct {
	ID string `json:"id"`
}

// DeleteMessageRequest tells everybody in a room to take a message down.
// Source: API reference, DeleteMessage; spec control-plane 9.3.
type DeleteMessageRequest struct {
	RoomIdentifier ARN     `json:"roomIdentifier"`
	ID             string  `json:"id"`
	Reason         *string `json:"reason"`
}

// Check names every member that is not as the API model wants it.
func (r *DeleteMessageRequest) Check() error {
	var c checks
	c.room("roomIdentifier", r.RoomIdentifier)
	if !IsID(r.ID) {
		c.fail("id", "must be the id of a message, 12 characters [a-zA-Z0-9], but is %q", shorten(r.ID))
	}
	c.reason(r.Reason)
	return c.err()
}

func (c *checks) reason(reason *string) {
	if reason != nil {
		c.length("reason", *reason, 1, MaxReasonLength)
	}
}

// DeleteMessageResponse has the id of the operation, which is that of the event.
type DeleteMessageResponse struct {
	ID string `json:"id"`
}

// DisconnectUserRequest ends all connections of a user to a room.
// Source: API reference, DisconnectUser; spec control-plane 9.4.
type DisconnectUserRequest struct {
	RoomIdentifier ARN     `json:"roomIdentifier"`
	UserID         string  `json:"userId"`
	Reason         *string `json:"reason"`
}

// Check names every member that is not as the API model wants it.
func (r *DisconnectUserRequest) Check() error {
	var c checks
	c.room("roomIdentifier", r.RoomIdentifier)
	c.required("userId", r.UserID, MaxUserIDLength)
	c.reason(r.Reason)
	return c.err()
}

// Empty is the response of an operation that has none: "{}".
type Empty struct{}

// String names the set, for logs: "SEND_MESSAGE|DELETE_MESSAGE".
func (c Capability) String() string {
	var names []string
	for _, name := range []CapabilityName{SendMessageCapability, DeleteMessageCapability, DisconnectUserCapability} {
		if c&capabilityBits[name] != 0 {
			names = append(names, string(name))
		}
	}
	return strings.Join(names, "|")
}
