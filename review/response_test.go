package review

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"hubbub/ivschat"
)

func TestResponses(t *testing.T) {
	own := map[string]string{"own": "1"}
	allowed := func(content string, attributes map[string]string) *Verdict {
		return &Verdict{Allowed: true, Content: content, Attributes: attributes}
	}
	denied := func(reason string) *Verdict { return &Verdict{Reason: reason} }
	for _, c := range []struct {
		name, body string
		want       *Verdict // nil = invalid
	}{
		{"allow with everything", `{"ReviewResult":"ALLOW","Content":"Hi","Attributes":{"a":"1"}}`, allowed("Hi", map[string]string{"a": "1"})},
		{"absent attributes keep the message's own", `{"ReviewResult":"ALLOW","Content":"Hi"}`, allowed("Hi", own)},
		{"so do null ones", `{"ReviewResult":"ALLOW","Content":"Hi","Attributes":null}`, allowed("Hi", own)},
		{"an empty object replaces them", `{"ReviewResult":"ALLOW","Content":"Hi","Attributes":{}}`, allowed("Hi", map[string]string{})},
		{"names in any letter case", `{"reviewresult":"ALLOW","CONTENT":"Hi","aTTributes":{"A":"1"}}`, allowed("Hi", map[string]string{"A": "1"})},
		{"unknown members", `{"Version":1,"ReviewResult":"ALLOW","x":{"Content":[]},"Content":"Hi"}`, allowed("Hi", own)},
		{"the last of equal members counts", `{"Content":"a","ReviewResult":"DENY","content":"b","ReviewResult":"ALLOW"}`, allowed("b", own)},
		{"a member that is mended", `{"Content":1,"ReviewResult":null,"content":"b","ReviewResult":"ALLOW","Attributes":7,"attributes":{"a":1,"a":"2"}}`, allowed("b", map[string]string{"a": "2"})},
		{"white space around", " \r\n\t{\"ReviewResult\":\"ALLOW\",\"Content\":\"Hi\"}\n ", allowed("Hi", own)},
		{"half a surrogate pair", `{"ReviewResult":"ALLOW","Content":"\ud83d"}`, allowed("\uFFFD", own)},
		{"the longest content, in code points", `{"ReviewResult":"ALLOW","Content":"ééééé"}`, allowed("ééééé", own)},
		{"the largest attributes", `{"ReviewResult":"ALLOW","Content":"Hi","Attributes":{"a":"` + strings.Repeat("b", 1023) + `"}}`, allowed("Hi", map[string]string{"a": strings.Repeat("b", 1023)})},

		{"deny with a reason", `{"ReviewResult":"DENY","Content":"Hi","Attributes":{"Reason":"no links"}}`, denied("no links")},
		{"deny without a reason", `{"ReviewResult":"DENY","Content":"Hi"}`, denied(ivschat.TextRejected)},
		{"deny with an empty reason", `{"ReviewResult":"DENY","Content":"","Attributes":{"Reason":""}}`, denied(ivschat.TextRejected)},
		{"deny with other attributes", `{"ReviewResult":"DENY","Content":"","Attributes":{"reason":"x"}}`, denied(ivschat.TextRejected)},
		{"deny without content", `{"ReviewResult":"DENY"}`, denied(ivschat.TextRejected)},
		{"deny with null", `{"ReviewResult":"DENY","Content":null,"Attributes":null}`, denied(ivschat.TextRejected)},
		{"deny with too long a content", `{"ReviewResult":"DENY","Content":"` + strings.Repeat("x", 501) + `"}`, denied(ivschat.TextRejected)},

		{"nothing", ``, nil},
		{"null", `null`, nil},
		{"a string", `"ALLOW"`, nil},
		{"a list", `[{"ReviewResult":"ALLOW","Content":"Hi"}]`, nil},
		{"an empty object", `{}`, nil},
		{"no result", `{"Content":"Hi"}`, nil},
		{"null result", `{"ReviewResult":null,"Content":"Hi"}`, nil},
		{"another result", `{"ReviewResult":"MAYBE","Content":"Hi"}`, nil},
		{"a result in lower case", `{"ReviewResult":"allow","Content":"Hi"}`, nil},
		{"a result with a space", `{"ReviewResult":"ALLOW ","Content":"Hi"}`, nil},
		{"a result that is no string", `{"ReviewResult":true,"Content":"Hi"}`, nil},
		{"no content", `{"ReviewResult":"ALLOW"}`, nil},
		{"null content", `{"ReviewResult":"ALLOW","Content":null}`, nil},
		{"empty content", `{"ReviewResult":"ALLOW","Content":""}`, nil},
		{"content one code point too long", `{"ReviewResult":"ALLOW","Content":"éééééé"}`, nil},
		{"content that is no string", `{"ReviewResult":"ALLOW","Content":5}`, nil},
		{"content that is no string, denied", `{"ReviewResult":"DENY","Content":5}`, nil},
		{"attributes that are a list", `{"ReviewResult":"ALLOW","Content":"Hi","Attributes":[]}`, nil},
		{"attributes that are a string", `{"ReviewResult":"ALLOW","Content":"Hi","Attributes":"{}"}`, nil},
		{"a number among the attributes", `{"ReviewResult":"ALLOW","Content":"Hi","Attributes":{"a":1}}`, nil},
		{"null among the attributes", `{"ReviewResult":"ALLOW","Content":"Hi","Attributes":{"a":null}}`, nil},
		{"an object among the attributes, denied", `{"ReviewResult":"DENY","Attributes":{"Reason":{}}}`, nil},
		{"attributes one byte too large", `{"ReviewResult":"ALLOW","Content":"Hi","Attributes":{"a":"` + strings.Repeat("b", 1024) + `"}}`, nil},
		{"attributes too large, denied", `{"ReviewResult":"DENY","Attributes":{"Reason":"` + strings.Repeat("b", 1024) + `"}}`, nil},
		{"something behind", `{"ReviewResult":"ALLOW","Content":"Hi"} x`, nil},
		{"another object behind", `{"ReviewResult":"ALLOW","Content":"Hi"}{}`, nil},
		{"cut off", `{"ReviewResult":"ALLOW","Content":"Hi"`, nil},
		{"a byte order mark", "\xef\xbb\xbf" + `{"ReviewResult":"ALLOW","Content":"Hi"}`, nil},
		{"JSON in JSON", `"{\"ReviewResult\":\"ALLOW\",\"Content\":\"Hi\"}"`, nil},
		{"HTML", `<html>`, nil},
		{"nested beyond measure", `{"x":` + strings.Repeat("[", 20_000), nil},
		{"the longest", pad(`{"ReviewResult":"ALLOW","Content":"Hi"}`, maxResponseBytes), allowed("Hi", own)},
		{"one byte too long", pad(`{"ReviewResult":"ALLOW","Content":"Hi"}`, maxResponseBytes+1), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := parseResponse([]byte(c.body), 5, own)
			if c.want == nil {
				if !errors.Is(err, errInvalid) {
					t.Errorf("got %+v, %v, want it refused", got, err)
				}
				return
			}
			if err != nil {
				t.Fatalf("got %v, want %+v", err, *c.want)
			}
			if d := cmp.Diff(*c.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func pad(s string, n int) string { return s + strings.Repeat(" ", n-len(s)) }

// FuzzResponse compares with a slow reading by the standard library.
func FuzzResponse(f *testing.F) {
	for _, seed := range []string{
		`{"ReviewResult":"ALLOW","Content":"Hi","Attributes":{"a":"1"}}`, `{"reviewResult":"DENY","Attributes":{"Reason":"x"}}`,
		`{"ReviewResult":"ALLOW","Content":"Hi","content":null,"CONTENT":"x"}`, `{"ReviewResult":"ALLOW","Content":"\ud83d","Attributes":{"a":1,"a":"2"}}`,
		"{\"ReviewResult\":\"ALLOW\",\"\u017font\":1,\"Content\":\"\xff\"}", `{"ReviewResult":"ALLOW","Content":"Hi"} {}`, `[]`, ``, `{"Attributes":null}`,
	} {
		f.Add([]byte(seed), 5)
	}
	f.Fuzz(func(t *testing.T, body []byte, maxLength int) {
		if len(body) > 5000 { // below the depth at which decoders give up
			return
		}
		maxLength = 1 + (maxLength&0x7fffffff)%ivschat.MaxMessageLength
		own := map[string]string{"own": "1"}
		got, err := parseResponse(body, maxLength, own)
		want, ok := slowResponse(body, maxLength, own)
		if (err == nil) != ok {
			t.Fatalf("%q: got %+v, %v; the standard library finds %v", body, got, err, ok)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("%q: %s", body, d)
		}
		if got.Allowed && (got.Reason != "" || !utf8.ValidString(got.Content)) || err == nil && !got.Allowed && (got.Reason == "" || got.Content != "") {
			t.Fatalf("%q: %+v", body, got)
		}
	})
}

func slowResponse(body []byte, maxLength int, own map[string]string) (Verdict, bool) {
	member, ok := slowObject(body, func(name string) string { return strings.ToLower(strings.ReplaceAll(name, "ſ", "s")) })
	if !ok {
		return Verdict{}, false
	}
	text := func(raw json.RawMessage) (string, bool) {
		var s *string
		if raw == nil {
			return "", true
		}
		if json.Unmarshal(raw, &s) != nil {
			return "", false
		}
		if s == nil {
			return "", true
		}
		return *s, true
	}
	result, ok1 := text(member["reviewresult"])
	content, ok2 := text(member["content"])
	if !ok1 || !ok2 {
		return Verdict{}, false
	}
	attributes := map[string]string(nil)
	if raw := member["attributes"]; raw != nil && string(raw) != "null" {
		values, ok := slowObject(raw, func(s string) string { return s })
		if !ok {
			return Verdict{}, false
		}
		attributes = map[string]string{}
		for key, value := range values {
			if value[0] != '"' {
				return Verdict{}, false
			}
			attributes[key], _ = text(value)
		}
	}
	size := 0
	for k, v := range maps.All(attributes) {
		size += len(k) + len(v)
	}
	switch n := len([]rune(content)); {
	case size > 1024:
	case result == "DENY" && attributes["Reason"] != "":
		return Verdict{Reason: attributes["Reason"]}, true
	case result == "DENY":
		return Verdict{Reason: "Message rejected by review handler"}, true
	case result == "ALLOW" && n >= 1 && n <= maxLength:
		if attributes == nil {
			attributes = own
		}
		return Verdict{Allowed: true, Content: content, Attributes: attributes}, true
	}
	return Verdict{}, false
}

// slowObject is an object's members, the last of equal names.
func slowObject(b []byte, name func(string) string) (map[string]json.RawMessage, bool) {
	d := json.NewDecoder(bytes.NewReader(b))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, false
	}
	members := map[string]json.RawMessage{}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, false
		}
		var value json.RawMessage
		if d.Decode(&value) != nil {
			return nil, false
		}
		members[name(key.(string))] = bytes.TrimSpace(value)
	}
	if _, err := d.Token(); err != nil {
		return nil, false
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, false
	}
	return members, true
}
