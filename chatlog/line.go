package chatlog

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"hubbub/ivschat"
)

// Line is a record that was read back from a log. What is not in a record of its
// type is zero: Content and User of events, Event of messages.
type Line struct {
	Text       []byte // as logged, without the end of line
	Room       string // its id; "" if the log does not say it (Firehose, single files)
	Type       ivschat.RecordType
	ID         string // of the message or event
	SendTime   time.Time
	User       string // the Sender
	Content    string
	Event      string // the EventName
	Attributes map[string]string

	// Where it stood, for the order of records with equal times.
	file, number int
}

// maxLine is the longest line that is looked at. A record has a few KB: content
// and attributes are bounded by the service.
const maxLine = 1 << 20

// What is wrong with a line. None of it shows what is in the line.
var (
	errNoRecord = errors.New("is no record of a chat log")
	errTooLong  = fmt.Errorf("%w: it is longer than %d bytes", errNoRecord, maxLine)
)

// ParseLine reads a record. Members that are not known are ignored; those that
// decide about order and choice must be there. The line keeps text.
// Source: spec logging 3.
func ParseLine(text []byte) (Line, error) {
	var record struct {
		Type    ivschat.RecordType `json:"type"`
		Payload struct {
			Type       ivschat.RecordType `json:"Type"`
			ID         string             `json:"Id"`
			EventName  string             `json:"EventName"`
			Attributes map[string]string  `json:"Attributes"`
			Content    string             `json:"Content"`
			SendTime   string             `json:"SendTime"`
			Sender     struct {
				UserID string `json:"UserId"`
			} `json:"Sender"`
		} `json:"payload"`
	}
	if err := json.Unmarshal(text, &record); err != nil {
		return Line{}, fmt.Errorf("%w: %s", errNoRecord, jsonReason(err))
	}
	p := &record.Payload
	line := Line{Text: text, Type: record.Type, ID: p.ID, Attributes: p.Attributes}
	switch {
	case record.Type != ivschat.MessageRecord && record.Type != ivschat.EventRecord:
		return Line{}, fmt.Errorf("%w: its type is neither MESSAGE nor EVENT", errNoRecord)
	case p.Type != record.Type:
		return Line{}, fmt.Errorf("%w: the Type of its payload is another than its type", errNoRecord)
	case p.ID == "":
		return Line{}, fmt.Errorf("%w: its payload has no Id", errNoRecord)
	}
	// The format's fraction may have any number of digits, or be absent.
	var err error
	if line.SendTime, err = time.Parse(time.RFC3339, p.SendTime); err != nil {
		return Line{}, fmt.Errorf("%w: the SendTime of its payload is not a time", errNoRecord)
	}
	if record.Type == ivschat.MessageRecord {
		line.User, line.Content = p.Sender.UserID, p.Content
	} else {
		line.Event = p.EventName
	}
	return line, nil
}

// jsonReason is what is wrong with JSON, without any of its values.
func jsonReason(err error) string {
	var syntactic *jsontext.SyntacticError
	var semantic *json.SemanticError
	switch {
	case errors.As(err, &syntactic) && errors.Is(err, jsontext.ErrDuplicateName):
		return fmt.Sprintf("a member comes twice, at byte %d", syntactic.ByteOffset)
	case errors.As(err, &syntactic):
		return fmt.Sprintf("it is not valid JSON at byte %d", syntactic.ByteOffset)
	case errors.As(err, &semantic):
		return fmt.Sprintf("it has a value of a wrong type at byte %d", semantic.ByteOffset)
	}
	return "it is not valid JSON"
}

// deletes is the id of the message that a DELETE_MESSAGE event takes down, or "".
func (l *Line) deletes() string {
	if l.Event != ivschat.DeleteMessageEvent {
		return ""
	}
	if id := l.Attributes["MessageID"]; id != "" {
		return id
	}
	return l.Attributes["MessageId"] // as newer documents write it
}

// concerns says whether a record is a user's: a message of theirs, or the end of
// their connections.
func (l *Line) concerns(user string) bool {
	if l.Type == ivschat.MessageRecord {
		return l.User == user
	}
	return l.Event == ivschat.DisconnectUserEvent && l.Attributes["UserId"] == user
}

// AppendText appends the record for people, with the end of line:
//
//	2025-08-14T05:48:40.415Z abc123DEF456 max: hi
//	2025-08-14T05:49:02.007Z abc123DEF456 * aws:DELETE_MESSAGE MessageID=9ojK4zRlO8QQ Reason="be nice"
//
// The room is "-" if it is not known. Whatever could move a terminal's cursor or
// turn the direction of its text is escaped.
func (l *Line) AppendText(b []byte) []byte {
	b = l.SendTime.UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z")
	b = append(b, ' ')
	if l.Room == "" {
		b = append(b, '-')
	}
	b = append(b, Printable(l.Room)...)
	b = append(b, ' ')
	if l.Type == ivschat.MessageRecord {
		b = append(b, word(l.User)...)
		b = append(b, ": "...)
		b = append(b, Printable(l.Content)...)
		return append(b, '\n')
	}
	b = append(b, "* "...)
	b = append(b, word(l.Event)...)
	for _, name := range slices.Sorted(maps.Keys(l.Attributes)) {
		b = append(b, ' ')
		b = append(b, word(name)...)
		b = append(b, '=')
		b = append(b, word(l.Attributes[name])...)
	}
	return append(b, '\n')
}

// word is text that stands between others: in quotes, if it could be taken for
// more than one.
func word(s string) string {
	if s == "" || strings.ContainsAny(s, ` ="`) || strings.Contains(s, ": ") || strings.HasSuffix(s, ":") {
		return `"` + strings.ReplaceAll(Printable(s), `"`, `\"`) + `"`
	}
	return Printable(s)
}

// Joiners are invisible and needed: in emoji and in Persian.
const (
	zeroWidthJoiner    = '\u200d'
	zeroWidthNonJoiner = '\u200c'
)

// Printable is s with everything escaped that does not print by itself: control
// characters, ends of lines, marks that turn the direction of text, bytes that
// are no UTF-8.
func Printable(s string) string {
	prints := func(r rune) bool {
		return r != unicode.ReplacementChar && unicode.IsPrint(r) || r == zeroWidthJoiner || r == zeroWidthNonJoiner
	}
	if strings.IndexFunc(s, func(r rune) bool { return !prints(r) }) < 0 {
		return s
	}
	var b bytes.Buffer
	for i, r := range s {
		switch {
		case prints(r):
			b.WriteRune(r)
		case r == unicode.ReplacementChar && !strings.HasPrefix(s[i:], "\ufffd"):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r == unicode.ReplacementChar:
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\r':
			b.WriteString(`\r`)
		case r < 0x80:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	return b.String()
}
