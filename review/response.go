package review

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"hubbub/ivschat"
)

// maxResponseBytes is the most that is read of a handler's answer; a longer one
// is invalid. Source: spec review-handler 3.
const maxResponseBytes = 64 << 10

// errInvalid is any answer that is not a response. Its cause is not kept: it
// could only be told by showing some of what a user wrote.
var errInvalid = errors.New("the response is invalid")

// response is a handler's answer as it was read, not yet checked.
//
//	{"ReviewResult":"ALLOW","Content":"string","Attributes":{"string":"string"}}
//
// Source: spec review-handler 3.
type response struct {
	result     string
	content    string
	attributes map[string]string // nil if absent or null
	wrong      member            // members of the wrong type
}

// member is a set of the members of a response.
type member uint8

const (
	resultMember member = 1 << iota
	contentMember
	attributesMember
)

var members = []struct {
	name string
	bit  member
}{{"ReviewResult", resultMember}, {"Content", contentMember}, {"Attributes", attributesMember}}

// parseResponse reads and checks a handler's answer and returns the verdict for
// the message, whose own attributes are kept if an ALLOW has none. Member names
// match in any letter case, the last of equal ones counts, null is absent, and
// half a surrogate pair becomes U+FFFD: all as in a client's frame. maxLength is
// the room's maximumMessageLength in code points.
func parseResponse(body []byte, maxLength int, own map[string]string) (Verdict, error) {
	if len(body) > maxResponseBytes {
		return Verdict{}, errInvalid
	}
	var r response
	d := jsontext.NewDecoder(bytes.NewReader(body), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if err := r.read(d); err != nil || r.wrong != 0 || ivschat.AttributesBytes(r.attributes) > ivschat.MaxAttributesBytes {
		return Verdict{}, errInvalid
	}
	switch r.result {
	case "ALLOW":
		if n := utf8.RuneCountInString(r.content); n == 0 || n > maxLength {
			return Verdict{}, errInvalid
		}
		if r.attributes == nil {
			r.attributes = own
		}
		return Verdict{Allowed: true, Content: r.content, Attributes: r.attributes}, nil
	case "DENY":
		reason := r.attributes["Reason"]
		if reason == "" {
			reason = ivschat.TextRejected
		}
		return Verdict{Reason: reason}, nil
	}
	return Verdict{}, errInvalid
}

func (r *response) read(d *jsontext.Decoder) error {
	if d.PeekKind() != '{' {
		return errInvalid
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
		switch m {
		case 0:
			err = d.SkipValue()
		case attributesMember:
			err = r.readAttributes(d)
		default:
			err = r.readText(m, d)
		}
		if err != nil {
			return err
		}
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return errInvalid // something behind the object
	}
	return nil
}

func memberOf(name string) member {
	for _, m := range members {
		if strings.EqualFold(m.name, name) {
			return m.bit
		}
	}
	return 0
}

func (r *response) readText(m member, d *jsontext.Decoder) error {
	r.wrong &^= m
	var text string
	switch d.PeekKind() {
	case '"':
		t, err := d.ReadToken()
		if err != nil {
			return err
		}
		text = t.String()
	case 'n':
		if err := d.SkipValue(); err != nil {
			return err
		}
	default:
		r.wrong |= m
		return d.SkipValue()
	}
	if m == resultMember {
		r.result = text
	} else {
		r.content = text
	}
	return nil
}

func (r *response) readAttributes(d *jsontext.Decoder) error {
	attributes, ok, err := ivschat.ReadStrings(d)
	r.attributes = attributes
	if r.wrong &^= attributesMember; !ok {
		r.wrong |= attributesMember
	}
	return err
}
