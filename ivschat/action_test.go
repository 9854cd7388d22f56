package ivschat_test

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"hubbub/ivschat"

	"github.com/google/go-cmp/cmp"
)

func kindOf(err error) ivschat.Kind {
	var e *ivschat.Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return ""
}

func TestTheRequestIDComesBackWhateverElseIsWrong(t *testing.T) {
	for _, c := range []struct{ name, frame string }{
		{"nested beyond what is followed", `{"RequestId":"r","Action":"SEND_MESSAGE","Content":"x","X":` + strings.Repeat("[", 10_001) + strings.Repeat("]", 10_001) + `}`},
		{"again with another type", `{"RequestId":"r","requestid":7,"Action":"SEND_MESSAGE","Content":"x"}`},
		{"no action", `{"RequestId":"r"}`},
	} {
		if a, err := ivschat.ParseAction([]byte(c.frame)); a.RequestID != "r" || err == nil && a.Check(500) == nil {
			t.Errorf("%s: RequestId %q, %v", c.name, a.RequestID, err)
		}
	}
	a, err := ivschat.ParseAction([]byte(`{"Action":"SEND_MESSAGE","Content":"x","Attributes":{"a":1,"b":"1","a":"2"}}`))
	if err != nil || a.Check(500) != nil || a.Attributes["a"] != "2" {
		t.Error("the last of equal keys does not count", err, a.Check(500))
	}
	a, err = ivschat.ParseAction([]byte(`{"Action":"SEND_MESSAGE","Content":"x","Attributes":{"a":"2","a":1}}`))
	if err != nil || a.Check(500) == nil {
		t.Error("a last value that is no string is taken")
	}
}

func TestParseAction(t *testing.T) {
	for _, c := range []struct {
		name      string
		frame     string
		requestID string
		kind      ivschat.Kind // of ParseAction
		check     ivschat.Kind // of Check
	}{
		{"as the SDK sends it", `{"Action":"SEND_MESSAGE","RequestId":"r","Content":"hi","Attributes":{"a":"b"}}`, "r", "", ""},
		{"lower case as the demos of 2022", `{"id":"0c5b6b43-9c2e-4f5e-8a05-1f21d7d3f5ac","action":"SEND_MESSAGE","content":"hi","requestId":"r","attributes":null}`, "r", "", ""},
		{"an unused member may hold anything", `{"Action":"SEND_MESSAGE","Content":"x","Id":7,"UserId":[],"Reason":{}}`, "", "", ""},
		{"unknown members are ignored", `{"Action":"SEND_MESSAGE","Content":"x","Foo":{"a":[1,{}]}}`, "", "", ""},
		{"null is absent", `{"Action":"DELETE_MESSAGE","Id":"AbCdEf123456","Reason":null,"RequestId":null}`, "", "", ""},
		{"half a surrogate pair is mended", `{"Action":"SEND_MESSAGE","RequestId":"r","Content":"\ud83d"}`, "r", "", ""},
		{"the last of equal members counts", `{"Action":"X","action":"SEND_MESSAGE","Content":"x"}`, "", "", ""},

		{"not JSON", `{"Action":"SEND_MESSAGE","RequestId":"r"`, "", ivschat.Validation, ""},
		{"something behind the object", `{"Action":"SEND_MESSAGE","RequestId":"r"} x`, "", ivschat.Validation, ""},
		{"two objects", `{"Action":"SEND_MESSAGE"}{}`, "", ivschat.Validation, ""},
		{"an array", `[]`, "", ivschat.Validation, ""},
		{"a bare string", `"SEND_MESSAGE"`, "", ivschat.Validation, ""},
		{"nothing", ``, "", ivschat.Validation, ""},
		{"no action", `{"RequestId":"r"}`, "r", ivschat.Validation, ""},
		{"null action", `{"Action":null,"RequestId":"r"}`, "r", ivschat.Validation, ""},
		{"action of another type", `{"Action":1,"RequestId":"r"}`, "r", ivschat.Validation, ""},
		{"SEND_EVENT is the control plane's", `{"Action":"SEND_EVENT","RequestId":"r"}`, "r", ivschat.Validation, ""},
		{"values of Action are exact", `{"Action":"send_message","RequestId":"r"}`, "r", ivschat.Validation, ""},

		{"no content", `{"Action":"SEND_MESSAGE","RequestId":"r"}`, "r", "", ivschat.Validation},
		{"content of another type", `{"Action":"SEND_MESSAGE","RequestId":"r","Content":5}`, "r", "", ivschat.Validation},
		{"request id of another type", `{"Action":"SEND_MESSAGE","RequestId":5,"Content":"x"}`, "", "", ivschat.Validation},
		{"attribute that is no string", `{"Action":"SEND_MESSAGE","RequestId":"r","Content":"x","Attributes":{"a":1}}`, "r", "", ivschat.Validation},
		{"attribute that is null", `{"Action":"SEND_MESSAGE","RequestId":"r","Content":"x","Attributes":{"a":null}}`, "r", "", ivschat.Validation},
		{"attributes as a list", `{"Action":"SEND_MESSAGE","RequestId":"r","Content":"x","Attributes":[]}`, "r", "", ivschat.Validation},
		{"content is counted in code points", `{"Action":"SEND_MESSAGE","Content":"` + strings.Repeat("é", 10) + `"}`, "", "", ""},
		{"one code point too many", `{"Action":"SEND_MESSAGE","Content":"` + strings.Repeat("é", 11) + `"}`, "", "", ivschat.Validation},
		{"attributes of 1 KB", `{"Action":"SEND_MESSAGE","Content":"x","Attributes":{"k":"` + strings.Repeat("a", 1023) + `"}}`, "", "", ""},
		{"attributes over 1 KB", `{"Action":"SEND_MESSAGE","Content":"x","Attributes":{"k":"` + strings.Repeat("a", 1024) + `"}}`, "", "", ivschat.TooLarge},
		{"request id of 1 KB", `{"Action":"SEND_MESSAGE","Content":"x","RequestId":"` + strings.Repeat("a", 1024) + `"}`, strings.Repeat("a", 1024), "", ""},
		{"request id over 1 KB is not echoed", `{"Action":"SEND_MESSAGE","Content":"x","RequestId":"` + strings.Repeat("a", 1025) + `"}`, "", "", ivschat.TooLarge},
		{"delete without id", `{"Action":"DELETE_MESSAGE"}`, "", "", ivschat.Validation},
		{"delete with a bad id", `{"Action":"DELETE_MESSAGE","Id":"AbCdEf12345-"}`, "", "", ivschat.Validation},
		{"reason of 256", `{"Action":"DELETE_MESSAGE","Id":"AbCdEf123456","Reason":"` + strings.Repeat("é", 256) + `"}`, "", "", ""},
		{"reason over 256", `{"Action":"DELETE_MESSAGE","Id":"AbCdEf123456","Reason":"` + strings.Repeat("é", 257) + `"}`, "", "", ivschat.TooLarge},
		{"disconnect without user", `{"Action":"DISCONNECT_USER"}`, "", "", ivschat.Validation},
		{"disconnect an empty user", `{"Action":"DISCONNECT_USER","UserId":""}`, "", "", ivschat.Validation},
		{"user id of 128", `{"Action":"DISCONNECT_USER","UserId":"` + strings.Repeat("é", 128) + `"}`, "", "", ""},
		{"user id over 128", `{"Action":"DISCONNECT_USER","UserId":"` + strings.Repeat("é", 129) + `"}`, "", "", ivschat.TooLarge},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, err := ivschat.ParseAction([]byte(c.frame))
			if kindOf(err) != c.kind || a.RequestID != c.requestID {
				t.Fatalf("parsed with RequestId %q and %v; want %q and %q", a.RequestID, err, c.requestID, c.kind)
			}
			if err != nil {
				return
			}
			if err := a.Check(10); kindOf(err) != c.check {
				t.Fatalf("Check says %v, want kind %q", err, c.check)
			}
		})
	}
}

func TestAbsentAndEmptyAttributesDiffer(t *testing.T) {
	for frame, want := range map[string]map[string]string{
		`{"Action":"SEND_MESSAGE","Content":"x"}`:                               nil,
		`{"Action":"SEND_MESSAGE","Content":"x","Attributes":null}`:             nil,
		`{"Action":"SEND_MESSAGE","Content":"x","Attributes":{}}`:               {},
		`{"Action":"SEND_MESSAGE","Content":"x","attributes":{"A":"1","a":""}}`: {"A": "1", "a": ""},
	} {
		a, err := ivschat.ParseAction([]byte(frame))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, a.Attributes); d != "" {
			t.Errorf("%s: %s", frame, d)
		}
	}
}

func FuzzParseAction(f *testing.F) {
	f.Add([]byte(`{"Action":"SEND_MESSAGE","RequestId":"r","Content":"hi","Attributes":{"a":"b"}}`))
	f.Add([]byte(`{"Action":"DELETE_MESSAGE","Id":"AbCdEf123456","Reason":null}`))
	f.Add([]byte(`{"action":"DISCONNECT_USER","userid":"\ud83d"} `))
	f.Add([]byte("{\"Action\":\"SEND_MESSAGE\",\"Content\":\"\xff\"}"))
	f.Add([]byte(strings.Repeat(`[`, 20000)))
	f.Fuzz(func(t *testing.T, frame []byte) {
		a, err := ivschat.ParseAction(frame)
		if len(a.RequestID) > ivschat.MaxRequestIDBytes {
			t.Fatal("a request id over the limit would be echoed")
		}
		if err != nil || a.Check(500) != nil {
			return
		}
		m := ivschat.Message{ID: ivschat.NewID(), RequestID: a.RequestID, Attributes: a.Attributes, Content: a.Content, Sender: ivschat.NewSender("u", nil)}
		if !utf8.Valid(m.Encode()) {
			t.Fatal("a text frame is not valid UTF-8")
		}
	})
}
