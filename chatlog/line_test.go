package chatlog

import (
	"errors"
	"strings"
	"testing"
	"time"
	"unicode"

	"hubbub/ivschat"
)

// message is a record of a message, as it is logged.
func message(id, user, content, at string) string {
	return `{"event_timestamp":"` + at[:min(len(at)-1, 23)] + `Z","type":"MESSAGE","payload":{"Type":"MESSAGE","Id":"` + id + `","RequestId":"","Attributes":null,"Content":"` + content +
		`","SendTime":"` + at + `","Sender":{"UserId":"` + user + `","Attributes":{}}},"version":"1.0"}`
}

// event is a record of an event, with its attributes as JSON.
func event(id, name, attributes, at string) string {
	return `{"event_timestamp":"` + at + `","type":"EVENT","payload":{"Type":"EVENT","Id":"` + id + `","RequestId":"","EventName":"` + name + `","Attributes":` + attributes +
		`,"SendTime":"` + at + `"},"version":"1.0"}`
}

func TestLinesOfLogsAreUnderstood(t *testing.T) {
	for _, c := range []struct {
		name, line string
		want       Line
		text       string
	}{
		{"the record that AWS's readers quote",
			`{"event_timestamp":"2025-08-14T05:48:40.415Z","type":"MESSAGE","payload":{"Type":"MESSAGE","Id":"9ojK4zRlO8QQ","RequestId":"d9da9232-6141-443b-9d76-f980c0cad092","Attributes":{"username":"Max"},"Content":"hi","SendTime":"2025-08-14T05:48:40.41551437Z","Sender":{"UserId":"689d78a4fb507800029a7639","Attributes":{}}},"version":"1.0"}`,
			Line{Type: ivschat.MessageRecord, ID: "9ojK4zRlO8QQ", User: "689d78a4fb507800029a7639", Content: "hi", SendTime: time.Date(2025, 8, 14, 5, 48, 40, 415514370, time.UTC)},
			"2025-08-14T05:48:40.415Z - 689d78a4fb507800029a7639: hi\n"},
		{"a time without decimals", message("a", "u", "x", "2025-08-14T05:48:40Z"),
			Line{Type: ivschat.MessageRecord, ID: "a", User: "u", Content: "x", SendTime: time.Date(2025, 8, 14, 5, 48, 40, 0, time.UTC)},
			"2025-08-14T05:48:40.000Z - u: x\n"},
		{"an event", event("e", "aws:DELETE_MESSAGE", `{"Reason":"be nice","MessageID":"a"}`, "2025-08-14T05:48:40.5Z"),
			Line{Type: ivschat.EventRecord, ID: "e", Event: "aws:DELETE_MESSAGE", SendTime: time.Date(2025, 8, 14, 5, 48, 40, 5e8, time.UTC)},
			"2025-08-14T05:48:40.500Z - * aws:DELETE_MESSAGE MessageID=a Reason=\"be nice\"\n"},
		{"content that would take a terminal over", message("a", "u", `\u001b]0;x\u0007\n\u202Eevil\u0085`, "2025-08-14T05:48:40.1Z"),
			Line{Type: ivschat.MessageRecord, ID: "a", User: "u", Content: "\x1b]0;x\a\n\u202eevil\u0085", SendTime: time.Date(2025, 8, 14, 5, 48, 40, 1e8, time.UTC)},
			`2025-08-14T05:48:40.100Z - u: \x1b]0;x\x07\n\u202eevil\u0085` + "\n"},
		{"a user who would like to be another", message("a", `admin: hi, and bob`, "👨‍👩‍👧 é", "2025-08-14T05:48:40.1Z"),
			Line{Type: ivschat.MessageRecord, ID: "a", User: "admin: hi, and bob", Content: "👨‍👩‍👧 é", SendTime: time.Date(2025, 8, 14, 5, 48, 40, 1e8, time.UTC)},
			"2025-08-14T05:48:40.100Z - \"admin: hi, and bob\": 👨‍👩‍👧 é\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ParseLine([]byte(c.line))
			if err != nil {
				t.Fatal(err)
			}
			if got.Type != c.want.Type || got.ID != c.want.ID || got.User != c.want.User || got.Content != c.want.Content ||
				got.Event != c.want.Event || !got.SendTime.Equal(c.want.SendTime) || string(got.Text) != c.line {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
			if text := string(got.AppendText(nil)); text != c.text {
				t.Errorf("for people: got %q, want %q", text, c.text)
			}
		})
	}
}

func TestLinesThatAreNoRecordsAreRefusedWithoutShowingThem(t *testing.T) {
	good := message("a", "u", "x", "2025-08-14T05:48:40.1Z")
	for _, c := range []struct{ name, line, want string }{
		{"half a record", good[:len(good)/2], "not valid JSON"},
		{"two records in a line", good + good, "not valid JSON"},
		{"another object", `{"secret":1}`, "neither MESSAGE nor EVENT"},
		{"no object", `"secret"`, "wrong type"},
		{"an ERROR frame", strings.ReplaceAll(good, "MESSAGE", "ERROR"), "neither MESSAGE nor EVENT"},
		{"two types", strings.Replace(good, `"type":"MESSAGE"`, `"type":"EVENT"`, 1), "another than its type"},
		{"no id", strings.Replace(good, `"Id":"a"`, `"Id":""`, 1), "no Id"},
		{"no time", strings.Replace(good, `"SendTime":"2025-08-14T05:48:40.1Z"`, `"SendTime":"secret"`, 1), "not a time"},
		{"a member twice", strings.Replace(good, `"Id":"a"`, `"Id":"a","Id":"secret"`, 1), "twice"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParseLine([]byte(c.line))
			if !errors.Is(err, errNoRecord) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want that it is no record: %s", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the error shows what is in the line: %v", err)
			}
		})
	}
}

func FuzzParseLine(f *testing.F) {
	f.Add([]byte(message("a", "u", `\u001b`, "2025-08-14T05:48:40.1Z")))
	f.Add([]byte(event("e", "aws:DELETE_MESSAGE", `{"MessageID":"a"}`, "2025-08-14T05:48:40.5Z")))
	f.Add([]byte(`{"type":"EVENT","payload":{"Type":"EVENT","Id":"x","Attributes":{"\ud800":null},"SendTime":"2025-08-14T05:48:40+01:00"}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		line, err := ParseLine(text)
		if err != nil {
			if !errors.Is(err, errNoRecord) {
				t.Fatalf("%v is not one of our errors", err)
			}
			return
		}
		shown := string(line.AppendText(nil))
		body, ended := strings.CutSuffix(shown, "\n")
		if !ended || strings.ContainsFunc(body, func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) }) {
			t.Fatalf("%q is not safe on a terminal", shown)
		}
		again, err := ParseLine(line.Text)
		if err != nil || before(&line, &again) != 0 {
			t.Fatalf("read again, it is %+v, %v; was %+v", again, err, line)
		}
	})
}
