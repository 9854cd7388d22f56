package ivschat_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hubbub/ivschat"
)

// The frames recorded from the live service, member by member.
func TestFramesAreTheServices(t *testing.T) {
	at := time.Date(2022, 12, 2, 8, 21, 20, 754555595, time.UTC)
	long := strings.Repeat("x", 1000)
	for _, c := range []struct {
		name string
		got  []byte
		want string
	}{
		{"message", ivschat.Message{ID: "M2YcHkgffEvU", RequestID: "8fe65e61", Content: "Hi", SendTime: at,
			Sender: ivschat.NewSender("alice.55b2", map[string]string{"username": "alice"})}.Encode(),
			`{"Type":"MESSAGE","Id":"M2YcHkgffEvU","RequestId":"8fe65e61","Attributes":null,"Content":"Hi","SendTime":"2022-12-02T08:21:20.754555595Z","Sender":{"UserId":"alice.55b2","Attributes":{"username":"alice"}}}`},
		{"sender without attributes, message with empty ones", ivschat.Message{ID: "M2YcHkgffEvU", Attributes: map[string]string{}, Content: "a\"\\\n", SendTime: at,
			Sender: ivschat.NewSender("u", nil)}.Encode(),
			`{"Type":"MESSAGE","Id":"M2YcHkgffEvU","RequestId":"","Attributes":{},"Content":"a\"\\\n","SendTime":"2022-12-02T08:21:20.754555595Z","Sender":{"UserId":"u","Attributes":{}}}`},
		{"sender with attributes of every length, in the order of their keys", ivschat.Message{ID: "M2YcHkgffEvU", Content: "Hi", SendTime: at,
			Sender: ivschat.NewSender("a\"b", map[string]string{"b": long, "": "", "a": "é\n", "c": ""})}.Encode(),
			`{"Type":"MESSAGE","Id":"M2YcHkgffEvU","RequestId":"","Attributes":null,"Content":"Hi","SendTime":"2022-12-02T08:21:20.754555595Z","Sender":{"UserId":"a\"b","Attributes":{"":"","a":"é\n","b":"` + long + `","c":""}}}`},
		{"deleted message names it twice", ivschat.MessageDeleted("1OjMY6p8h4uv", "", "I4fme01f7HYM", "", at).Encode(),
			`{"Type":"EVENT","Id":"1OjMY6p8h4uv","RequestId":"","EventName":"aws:DELETE_MESSAGE","Attributes":{"MessageID":"I4fme01f7HYM","MessageId":"I4fme01f7HYM","Reason":""},"SendTime":"2022-12-02T08:21:20.754555595Z"}`},
		{"disconnected user", ivschat.UserDisconnected("1OjMY6p8h4uv", "r", "bob", "spam", at).Encode(),
			`{"Type":"EVENT","Id":"1OjMY6p8h4uv","RequestId":"r","EventName":"aws:DISCONNECT_USER","Attributes":{"Reason":"spam","UserId":"bob"},"SendTime":"2022-12-02T08:21:20.754555595Z"}`},
		{"event without attributes; trailing zeros are cut", ivschat.Event{ID: "1OjMY6p8h4uv", Name: "x", SendTime: at.Truncate(time.Second).Add(136 * time.Millisecond)}.Encode(),
			`{"Type":"EVENT","Id":"1OjMY6p8h4uv","RequestId":"","EventName":"x","Attributes":null,"SendTime":"2022-12-02T08:21:20.136Z"}`},
		{"a whole second still has a fraction", ivschat.Event{ID: "1OjMY6p8h4uv", Name: "x", SendTime: at.Truncate(time.Second)}.Encode(),
			`{"Type":"EVENT","Id":"1OjMY6p8h4uv","RequestId":"","EventName":"x","Attributes":null,"SendTime":"2022-12-02T08:21:20.000000001Z"}`},
		{"error", ivschat.Refusal{ID: "IG5mcmlvdGlv", RequestID: "q", Kind: ivschat.Throttling, Message: ivschat.TextRateExceeded}.Encode(),
			`{"Type":"ERROR","Id":"IG5mcmlvdGlv","RequestId":"q","ErrorCode":429,"ErrorMessage":"rate limit exceeded"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if string(c.got) != c.want {
				t.Errorf("got  %s\nwant %s", c.got, c.want)
			}
			if !json.Valid(c.got) {
				t.Error("not JSON")
			}
		})
	}
}

// Lengths around those from which they take more bits, and as many as there can be.
func TestASendersAttributesAreWhatItsTokenHas(t *testing.T) {
	check := func(what string, want map[string]string) {
		t.Helper()
		var frame struct {
			Sender struct {
				UserID     string `json:"UserId"`
				Attributes map[string]string
			}
		}
		sender := ivschat.NewSender("é.55b2", want)
		if err := json.Unmarshal(ivschat.Message{Sender: sender}.Encode(), &frame); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if d := cmp.Diff(want, frame.Sender.Attributes); d != "" || frame.Sender.UserID != "é.55b2" || sender.UserID() != "é.55b2" {
			t.Errorf("%s: user %q, %q; %s", what, frame.Sender.UserID, sender.UserID(), d)
		}
	}
	check("none", map[string]string{})
	for _, n := range []int{0, 1, 2, 3, 6, 7, 14, 15, 16, 254, 255, 1000, 1023, 1024} {
		for _, m := range []int{0, 1, 2, 3, 6, 7, 143, 1023} {
			check(fmt.Sprintf("a key of %d bytes and a value of %d", n, m), map[string]string{strings.Repeat("k", n): strings.Repeat("v", m), "a": strings.Repeat("w", n)})
		}
	}
	many := map[string]string{}
	for i := range 576 {
		many[string(rune(i))] = ""
		check(fmt.Sprintf("%d keys", i+1), many)
	}
}

// The iOS SDK decodes the code into a closed enum; any other number is lost.
func TestEveryKindHasACodeOfTheEight(t *testing.T) {
	known := map[int]bool{400: true, 401: true, 403: true, 404: true, 406: true, 413: true, 429: true, 500: true}
	for _, k := range []ivschat.Kind{
		ivschat.Validation, ivschat.AccessDenied, ivschat.PendingVerification, ivschat.NotFound, ivschat.Conflict,
		ivschat.QuotaExceeded, ivschat.Throttling, ivschat.Internal, ivschat.Unavailable, ivschat.MissingAuthenticationToken,
		ivschat.IncompleteSignature, ivschat.UnrecognizedClient, ivschat.ExpiredToken, ivschat.InvalidSignature,
		ivschat.BodyTooLarge, ivschat.Unauthorized, ivschat.Rejected, ivschat.TooLarge, "unheard of",
	} {
		if !known[k.Code()] {
			t.Errorf("%s has code %d", k, k.Code())
		}
	}
}

func TestIDs(t *testing.T) {
	seen := map[string]bool{}
	for range 10_000 {
		id := ivschat.NewID()
		if !ivschat.IsID(id) || seen[id] {
			t.Fatalf("bad or repeated id %q", id)
		}
		seen[id] = true
	}
	for _, bad := range []string{"", "short", "AbCdEf12345", "AbCdEf1234567", "AbCdEf12345-", "AbCdEf12345é"} {
		if ivschat.IsID(bad) {
			t.Errorf("%q passes as an id", bad)
		}
	}
}
