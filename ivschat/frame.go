package ivschat

import (
	"encoding/binary"
	"math/bits"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// What the server sends is one JSON object a frame, its members named and
// ordered as the service does:
//
//	MESSAGE  Type Id RequestId Attributes Content SendTime Sender{UserId Attributes}
//	EVENT    Type Id RequestId EventName Attributes SendTime
//	ERROR    Type Id RequestId ErrorCode ErrorMessage
//
// RequestId is always there, "" if the sender gave none. Source: spec messaging 4.

// The system events. Source: spec messaging 4.2.
const (
	DeleteMessageEvent  = "aws:DELETE_MESSAGE"
	DisconnectUserEvent = "aws:DISCONNECT_USER"
)

// Sender is who sends messages: the user and the attributes of its token. There
// is one for each viewer, and most never send: so it is small, and encoded with
// each message, which costs little beside the message's way to all others.
type Sender struct {
	user       string // the length of the user id, the id, and behind it the lengths of keys and values, see appendLength
	attributes string // keys and values, by key, one behind the other
}

// NewSender makes a sender; absent attributes are shown as {}. It shares nothing
// with them. 1 KB of attributes takes 1.3 KB if they are as many and as short as
// they can be, and 1 KB as usual.
func NewSender(userID string, attributes map[string]string) Sender {
	size := 0
	for k, v := range attributes {
		size += len(k) + len(v)
	}
	var texts strings.Builder
	texts.Grow(size)
	user := append(binary.AppendUvarint(nil, uint64(len(userID))), userID...)
	at := 8 * len(user)
	for _, k := range Strings(attributes).Keys() {
		v := attributes[k]
		texts.WriteString(k)
		texts.WriteString(v)
		user, at = appendLength(user, at, len(k))
		user, at = appendLength(user, at, len(v))
	}
	return Sender{string(user), texts.String()}
}

// UserID is the user's id, as the token has it.
func (s Sender) UserID() string {
	id, _ := s.cut()
	return id
}

// cut finds the user's id, and the bit at which the lengths begin.
func (s Sender) cut() (userID string, lengths int) {
	n, size := binary.Uvarint([]byte(s.user[:min(len(s.user), binary.MaxVarintLen64)]))
	end := size + int(n)
	return s.user[size:end], 8 * end
}

// appendLength appends a length from the given bit on and says where the next one
// begins. It is the Elias gamma code of n+1, since most lengths are small: 1 bit for
// 0, 3 for 1 and 2, 5 to 6, 7 to 14. The rest of the last byte is 0.
func appendLength(b []byte, at, n int) ([]byte, int) {
	for i := 2*bits.Len(uint(n+1)) - 2; i >= 0; i-- {
		if at%8 == 0 {
			b = append(b, 0)
		}
		b[at/8] |= byte((n+1)>>i&1) << (7 - at%8)
		at++
	}
	return b, at
}

// cutLength reads the length that begins at a bit, and says where the next one does.
// There is none if ok is false.
func cutLength(s string, at int) (n, next int, ok bool) {
	more := 0 // bits behind the first 1
	for ; ; at++ {
		if at == 8*len(s) {
			return 0, at, false
		}
		if bit(s, at) == 1 {
			break
		}
		more++
	}
	for end := at + more; at <= end; at++ {
		n = n<<1 | bit(s, at)
	}
	return n - 1, at, true
}

func bit(s string, at int) int { return int(s[at/8] >> (7 - at%8) & 1) }

// size is about what append adds.
func (s Sender) size() int { return 32 + len(s.user) + len(s.attributes)*5/4 }

// append writes the sender's members, with an opening brace and no closing one:
// others may follow.
func (s Sender) append(b []byte) []byte {
	id, first := s.cut()
	b = append(b, `{"UserId":`...)
	b = appendString(b, id)
	b = append(b, `,"Attributes":{`...)
	for texts, at := s.attributes, first; ; {
		k, next, ok := cutLength(s.user, at)
		if !ok {
			return append(b, '}')
		}
		v, next, _ := cutLength(s.user, next)
		if at > first {
			b = append(b, ',')
		}
		b = appendString(b, texts[:k])
		b = append(b, ':')
		b = appendString(b, texts[k:k+v])
		texts, at = texts[k+v:], next
	}
}

// Message is a chat message on its way to the viewers.
type Message struct {
	ID         string
	RequestID  string
	Attributes map[string]string // nil is sent as null, an empty map as {}
	Content    string
	SendTime   time.Time // of receipt
	Sender     Sender
}

// Encode makes the MESSAGE frame that every viewer gets.
func (m Message) Encode() []byte {
	b := make([]byte, 0, 160+len(m.RequestID)+len(m.Content)+m.Sender.size()+AttributesBytes(m.Attributes)*5/4)
	b = appendHead(b, "MESSAGE", m.ID, m.RequestID)
	b = append(b, `,"Attributes":`...)
	b = appendStrings(b, m.Attributes)
	b = append(b, `,"Content":`...)
	b = appendString(b, m.Content)
	b = appendSendTime(b, m.SendTime)
	b = append(b, `,"Sender":`...)
	b = m.Sender.append(b)
	return append(b, "}}"...)
}

// Event is an event on its way to the viewers.
type Event struct {
	ID         string
	RequestID  string // "" if the control plane caused it
	Name       string
	Attributes map[string]string // nil is sent as null
	SendTime   time.Time
}

// MessageDeleted is the event that tells viewers to take a message down. It
// names the message twice: every official client reads the deprecated
// MessageID. Source: spec messaging 4.2.
func MessageDeleted(id, requestID, message, reason string, at time.Time) Event {
	return Event{id, requestID, DeleteMessageEvent,
		map[string]string{"MessageID": message, "MessageId": message, "Reason": reason}, at}
}

// UserDisconnected is the event that precedes the end of a user's connections.
func UserDisconnected(id, requestID, userID, reason string, at time.Time) Event {
	return Event{id, requestID, DisconnectUserEvent, map[string]string{"UserId": userID, "Reason": reason}, at}
}

// Encode makes the EVENT frame that every viewer gets.
func (e Event) Encode() []byte {
	b := make([]byte, 0, 128+len(e.RequestID)+len(e.Name)+AttributesBytes(e.Attributes)*5/4)
	b = appendHead(b, "EVENT", e.ID, e.RequestID)
	b = append(b, `,"EventName":`...)
	b = appendString(b, e.Name)
	b = append(b, `,"Attributes":`...)
	b = appendStrings(b, e.Attributes)
	b = appendSendTime(b, e.SendTime)
	return append(b, '}')
}

// Refusal is an ERROR frame, for the connection that caused it alone.
type Refusal struct {
	ID        string
	RequestID string
	Kind      Kind // decides the ErrorCode
	Message   string
}

// Encode makes the ERROR frame.
func (r Refusal) Encode() []byte {
	b := make([]byte, 0, 96+len(r.RequestID)+len(r.Message))
	b = appendHead(b, "ERROR", r.ID, r.RequestID)
	b = append(b, `,"ErrorCode":`...)
	b = strconv.AppendInt(b, int64(r.Kind.Code()), 10)
	b = append(b, `,"ErrorMessage":`...)
	b = appendString(b, r.Message)
	return append(b, '}')
}

func appendHead(b []byte, kind, id, requestID string) []byte {
	b = append(b, `{"Type":"`...)
	b = append(b, kind...)
	b = append(b, `","Id":"`...)
	b = append(b, id...)
	b = append(b, `","RequestId":`...)
	return appendString(b, requestID)
}

// appendSendTime writes RFC 3339 with nanoseconds, trailing zeros cut, and never
// without a fraction: the iOS SDK's decoder wants one (spec messaging 4.1).
func appendSendTime(b []byte, t time.Time) []byte {
	if t.Nanosecond() == 0 {
		t = t.Add(1)
	}
	b = append(b, `,"SendTime":"`...)
	b = t.UTC().AppendFormat(b, time.RFC3339Nano)
	return append(b, '"')
}

// appendStrings writes an object with its keys in order; a nil map is null.
func appendStrings(b []byte, m map[string]string) []byte {
	if m == nil {
		return append(b, "null"...)
	}
	b = append(b, '{')
	for i, k := range Strings(m).Keys() {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, k)
		b = append(b, ':')
		b = appendString(b, m[k])
	}
	return append(b, '}')
}

// appendString writes a JSON string; invalid UTF-8 becomes U+FFFD.
func appendString(b []byte, s string) []byte {
	b, _ = jsontext.AppendQuote(b, s)
	return b
}
