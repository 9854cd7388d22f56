package ivschat

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Decode reads the body of a request into one of the request types. An empty
// body is an empty object (some clients send none), null members are absent,
// unknown members are ignored, types are strict, and a member may come once
// only. What does not fit is refused with Validation, reason OTHER.
// Source: spec control-plane 2.1, 3.4.
func Decode(body []byte, request any) error {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil
	}
	if k := jsontext.Value(body).Kind(); k != '{' {
		return &Error{Kind: Validation, Reason: OtherReason, Message: "The request body must be a JSON object."}
	}
	err := json.Unmarshal(body, request)
	if err == nil {
		return nil
	}
	return &Error{Kind: Validation, Reason: OtherReason, Message: decodeMessage(err)}
}

// decodeMessage says what is wrong without showing any of the content.
func decodeMessage(err error) string {
	var semantic *json.SemanticError
	var syntactic *jsontext.SyntacticError
	switch {
	case errors.As(err, &syntactic):
		if errors.Is(err, jsontext.ErrDuplicateName) {
			return fmt.Sprintf("The request body has the member %s twice.", memberName(syntactic.JSONPointer))
		}
		return fmt.Sprintf("The request body is not valid JSON, at byte %d.", syntactic.ByteOffset)
	case errors.As(err, &semantic):
		given := "a value of another type"
		if k := semantic.JSONKind; k != 0 {
			given = "a JSON " + k.String()
		}
		return fmt.Sprintf("Request member: %s has the wrong type: %s is expected, but %s was given.",
			memberName(semantic.JSONPointer), expected(semantic.GoType), given)
	}
	return "The request body could not be read."
}

// memberName turns a JSON pointer into the notation of fieldList. What lies
// below the second level is a key of the caller's and not repeated.
func memberName(p jsontext.Pointer) string {
	parts := slices.Collect(p.Tokens())
	if len(parts) > 2 {
		parts = parts[:2]
	}
	if len(parts) == 0 {
		return "(the whole body)"
	}
	return shorten(strings.Join(parts, "."))
}

func expected(t reflect.Type) string {
	if t == nil {
		return "another type"
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Int:
		return "a whole number"
	case reflect.Slice:
		return "a list of strings"
	case reflect.Map:
		return "an object with string values"
	}
	return "an object"
}

// Integer is a whole number of a request. JSON numbers with a fraction or an
// exponent are refused; those beyond 32 bits are kept at the border, where the
// range check refuses them.
type Integer int

// UnmarshalJSONFrom reads a JSON integer.
func (n *Integer) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	v, err := d.ReadValue()
	if err != nil {
		return err
	}
	if v.Kind() != '0' {
		return &json.SemanticError{JSONKind: v.Kind(), JSONPointer: d.StackPointer(), GoType: reflect.TypeFor[Integer]()}
	}
	i, err := strconv.ParseInt(string(v), 10, 32)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return &json.SemanticError{JSONKind: v.Kind(), JSONPointer: d.StackPointer(), GoType: reflect.TypeFor[Integer](), Err: err}
	}
	*n = Integer(i)
	return nil
}

// Strings is an object of strings: tags or attributes. A null value is refused.
type Strings map[string]string

// Keys are its keys in order.
func (s Strings) Keys() []string { return slices.Sorted(maps.Keys(s)) }

// UnmarshalJSONFrom reads an object of strings; null leaves it nil.
func (s *Strings) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() == 'n' {
		return d.SkipValue()
	}
	wrong := func(k jsontext.Kind) error {
		return &json.SemanticError{JSONKind: k, JSONPointer: d.StackPointer(), GoType: reflect.TypeFor[Strings]()}
	}
	t, err := d.ReadToken()
	if err != nil {
		return err
	}
	if t.Kind() != '{' {
		return wrong(t.Kind())
	}
	m := Strings{}
	for d.PeekKind() != '}' {
		key, err := d.ReadToken()
		if err != nil {
			return err
		}
		name := key.String()
		value, err := d.ReadToken()
		if err != nil {
			return err
		}
		if value.Kind() != '"' {
			return wrong(value.Kind())
		}
		m[name] = value.String()
	}
	_, err = d.ReadToken()
	*s = m
	return err
}

// readStrings reads a list of strings and hands each to add; null is no list.
func readStrings(d *jsontext.Decoder, list reflect.Type, begin func(), add func(string)) error {
	if d.PeekKind() == 'n' {
		return d.SkipValue()
	}
	wrong := func(k jsontext.Kind) error {
		return &json.SemanticError{JSONKind: k, JSONPointer: d.StackPointer(), GoType: list}
	}
	t, err := d.ReadToken()
	if err != nil {
		return err
	}
	if t.Kind() != '[' {
		return wrong(t.Kind())
	}
	begin()
	for d.PeekKind() != ']' {
		item, err := d.ReadToken()
		if err != nil {
			return err
		}
		if item.Kind() != '"' {
			return wrong(item.Kind())
		}
		add(item.String())
	}
	_, err = d.ReadToken()
	return err
}

// ARNs is a list of identifiers: nil if absent, empty if an empty one was given.
type ARNs []ARN

// UnmarshalJSONFrom reads a list of strings; null leaves it nil.
func (l *ARNs) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	return readStrings(d, reflect.TypeFor[ARNs](), func() { *l = ARNs{} }, func(s string) { *l = append(*l, ARN(s)) })
}

// Time is the time of a resource: UTC, milliseconds, "2024-02-11T23:01:25.058Z".
// Source: spec control-plane 2.3.
type Time struct{ time.Time }

const timeLayout = "2006-01-02T15:04:05.000Z"

// At cuts t to the precision that a resource's time has.
func At(t time.Time) Time { return Time{t.UTC().Truncate(time.Millisecond)} }

// MarshalJSONTo writes the time as an ISO 8601 string.
func (t Time) MarshalJSONTo(e *jsontext.Encoder) error {
	return e.WriteToken(jsontext.String(t.UTC().Format(timeLayout)))
}

// UnmarshalJSONFrom reads what MarshalJSONTo wrote.
func (t *Time) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	token, err := d.ReadToken()
	if err != nil {
		return err
	}
	t.Time, err = time.Parse(timeLayout, token.String())
	return err
}

// TokenTime is a time of a chat token: UTC, whole seconds, "2024-02-11T23:01:25Z".
type TokenTime struct{ time.Time }

// MarshalJSONTo writes the time as an ISO 8601 string without a fraction.
func (t TokenTime) MarshalJSONTo(e *jsontext.Encoder) error {
	return e.WriteToken(jsontext.String(t.UTC().Format("2006-01-02T15:04:05Z")))
}

// Encode makes the JSON of a response.
func Encode(response any) ([]byte, error) { return json.Marshal(response, json.Deterministic(true)) }
