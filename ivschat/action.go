package ivschat

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// ActionName is what a client's frame asks for, exactly as it must be spelled.
type ActionName string

// The actions. Source: spec messaging 3.
const (
	SendMessage    ActionName = "SEND_MESSAGE"
	DeleteMessage  ActionName = "DELETE_MESSAGE"
	DisconnectUser ActionName = "DISCONNECT_USER"
)

// Capability is what a token must allow for the action; 0 for an unknown action.
func (a ActionName) Capability() Capability { return capabilityBits[CapabilityName(a)] }

// The texts that official clients compare, and those of our own choice.
// Source: spec messaging 4.3.
const (
	TextTooLong         = "Message exceeds maximum length"
	TextRateExceeded    = "rate limit exceeded"
	TextSessionExpired  = "Session expired"
	TextForbidden       = "Forbidden"
	TextRoomNotFound    = "Room not found"
	TextPayloadTooLarge = "Payload too large"
	TextInternal        = "Internal server error"
	TextRejected        = "Message rejected by review handler"
)

// Action is a client's frame, read but not yet checked: Name, RequestID and
// the members, each by its Check. Members that the action does not use are
// ignored, whatever they hold.
type Action struct {
	Name       ActionName
	RequestID  string // "" if absent, not a string, or over MaxRequestIDBytes
	Content    string
	Attributes map[string]string // nil if absent or null
	ID         string
	Reason     string
	UserID     string

	wrong  member // members of the wrong type
	absent member // members that are not there, or null
	long   bool   // RequestId over MaxRequestIDBytes
}

// member is a set of the members of a frame.
type member uint8

const (
	requestIDMember member = 1 << iota
	actionMember
	contentMember
	attributesMember
	idMember
	reasonMember
	userIDMember
)

var members = []struct {
	name string
	bit  member
}{
	{"RequestId", requestIDMember}, {"Action", actionMember}, {"Content", contentMember},
	{"Attributes", attributesMember}, {"Id", idMember}, {"Reason", reasonMember}, {"UserId", userIDMember},
}

// ParseAction reads a client's frame. Member names match in any letter case, the
// last of equal ones counts, and null is absent. The error, a Validation for the
// client's eyes, is about JSON and the action's name alone, so that the caller
// can put its other checks before Check; RequestID is set whenever the frame is
// an object that has one. Source: spec messaging 2, 3, 4.3, 5.1.
func ParseAction(frame []byte) (Action, error) {
	a := Action{absent: ^member(0)}
	// A browser sends half a surrogate pair as an escape when an application cut
	// a text within an emoji; it becomes U+FFFD instead of a promise that hangs.
	d := jsontext.NewDecoder(bytes.NewReader(frame), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if err := a.read(d); err != nil {
		refused := Action{}
		if tooDeep(err) { // JSON all the same, as far as it was read
			refused.RequestID = a.RequestID
		}
		return refused, Refuse(Validation, "Invalid request: the frame must be one JSON object")
	}
	switch {
	case a.absent&actionMember != 0:
		return a, Refuse(Validation, "Invalid request: Action is required")
	case a.wrong&actionMember != 0:
		return a, Refuse(Validation, "Invalid request: Action must be a string")
	case a.Name.Capability() == 0:
		return a, Refuse(Validation, "Invalid request: Action must be SEND_MESSAGE, DELETE_MESSAGE or DISCONNECT_USER")
	}
	return a, nil
}

// tooDeep says whether a frame is nested beyond what the decoder follows, 10,000
// levels. The module has no name for that error.
func tooDeep(err error) bool {
	var syntactic *jsontext.SyntacticError
	return errors.As(err, &syntactic) && syntactic.Err != nil && strings.Contains(syntactic.Err.Error(), "max depth")
}

var errNotObject = Refuse(Validation, "not an object")

func (a *Action) read(d *jsontext.Decoder) error {
	if d.PeekKind() != '{' {
		return errNotObject
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	for d.PeekKind() != '}' {
		name, err := d.ReadToken()
		if err != nil {
			return err
		}
		m := memberOf(name.String())
		if m == 0 {
			if err := d.SkipValue(); err != nil {
				return err
			}
			continue
		}
		if err := a.set(m, d); err != nil {
			return err
		}
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	return atEnd(d)
}

func memberOf(name string) member {
	for _, m := range members {
		if strings.EqualFold(m.name, name) {
			return m.bit
		}
	}
	return 0
}

// set takes one member's value; a later one of the same name replaces it.
func (a *Action) set(m member, d *jsontext.Decoder) error {
	a.wrong &^= m
	a.absent &^= m
	if m == attributesMember {
		return a.setAttributes(d)
	}
	var text string
	switch d.PeekKind() {
	case '"':
		t, err := d.ReadToken()
		if err != nil {
			return err
		}
		text = t.String()
	case 'n':
		a.absent |= m
		if err := d.SkipValue(); err != nil {
			return err
		}
	default:
		a.wrong |= m
		if err := d.SkipValue(); err != nil {
			return err
		}
	}
	switch m {
	case requestIDMember:
		if a.wrong&m != 0 {
			break // what it was before is still the best answer
		}
		if a.long = len(text) > MaxRequestIDBytes; a.long {
			text = ""
		}
		a.RequestID = text
	case actionMember:
		a.Name = ActionName(text)
	case contentMember:
		a.Content = text
	case idMember:
		a.ID = text
	case reasonMember:
		a.Reason = text
	case userIDMember:
		a.UserID = text
	}
	return nil
}

func (a *Action) setAttributes(d *jsontext.Decoder) error {
	attributes, ok, err := ReadStrings(d)
	a.Attributes = attributes
	switch {
	case err != nil:
		return err
	case !ok:
		a.wrong |= attributesMember
	case attributes == nil:
		a.absent |= attributesMember
	}
	return nil
}

// ReadStrings reads an object whose values are strings, as attributes are; null is
// nil. Of equal keys the last counts. ok is false for any other value, which is
// read to its end all the same; err is that of the decoder.
func ReadStrings(d *jsontext.Decoder) (values map[string]string, ok bool, err error) {
	switch d.PeekKind() {
	case 'n':
		return nil, true, d.SkipValue()
	case '{':
	default:
		return nil, false, d.SkipValue()
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, false, err
	}
	values = map[string]string{}
	var wrong map[string]bool // keys whose last value is no string
	for d.PeekKind() != '}' {
		t, err := d.ReadToken()
		if err != nil {
			return values, false, err
		}
		key := t.String()
		if d.PeekKind() != '"' {
			if err := d.SkipValue(); err != nil {
				return values, false, err
			}
			if wrong == nil {
				wrong = map[string]bool{}
			}
			wrong[key] = true
			continue
		}
		if t, err = d.ReadToken(); err != nil {
			return values, false, err
		}
		values[key] = t.String()
		delete(wrong, key)
	}
	_, err = d.ReadToken()
	return values, len(wrong) == 0, err
}

// Check names the first member that is missing, of the wrong type or too large:
// Validation (400) or TooLarge (413). maxLength is the room's
// maximumMessageLength in code points. Source: spec messaging 3, 4.3.
func (a *Action) Check(maxLength int) error {
	for _, m := range members {
		if a.wrong&m.bit == 0 || !a.uses(m.bit) {
			continue
		}
		want := "a string"
		if m.bit == attributesMember {
			want = "an object whose values are strings"
		}
		return Refuse(Validation, "Invalid request: "+m.name+" must be "+want)
	}
	if a.long {
		return Refuse(TooLarge, TextPayloadTooLarge)
	}
	switch a.Name {
	case SendMessage:
		return a.checkMessage(maxLength)
	case DeleteMessage:
		if !IsID(a.ID) {
			return Refuse(Validation, "Invalid request: Id must be the 12 letters and digits of a message's Id")
		}
	case DisconnectUser:
		if a.UserID == "" {
			return Refuse(Validation, "Invalid request: UserId is required and must not be empty")
		}
		if utf8.RuneCountInString(a.UserID) > MaxUserIDLength {
			return Refuse(TooLarge, TextPayloadTooLarge)
		}
	}
	if utf8.RuneCountInString(a.Reason) > MaxReasonLength {
		return Refuse(TooLarge, TextPayloadTooLarge)
	}
	return nil
}

func (a *Action) checkMessage(maxLength int) error {
	switch {
	case a.Content == "":
		return Refuse(Validation, "Invalid request: Content is required and must not be empty")
	case utf8.RuneCountInString(a.Content) > maxLength:
		return Refuse(Validation, TextTooLong)
	case AttributesBytes(a.Attributes) > MaxAttributesBytes:
		return Refuse(TooLarge, TextPayloadTooLarge)
	}
	return nil
}

// uses says whether the action looks at the member at all.
func (a *Action) uses(m member) bool {
	switch m {
	case requestIDMember, actionMember:
		return true
	case contentMember, attributesMember:
		return a.Name == SendMessage
	case idMember:
		return a.Name == DeleteMessage
	case userIDMember:
		return a.Name == DisconnectUser
	case reasonMember:
		return a.Name != SendMessage
	}
	return false
}

// atEnd refuses anything but white space behind the object.
func atEnd(d *jsontext.Decoder) error {
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return errNotObject
	}
	return nil
}
