package conformance

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ivschat"
	"github.com/aws/aws-sdk-go-v2/service/ivschat/types"

	"hubbub/conformance/lambda"
)

// configured writes a configuration file and returns the flag that names it.
func configured(t testing.TB, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "hubbub.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return "--config=" + file
}

// TestRoomsAreReviewed has the server ask real functions, an HTTP endpoint that
// does everything wrong, and rules.
func TestRoomsAreReviewed(t *testing.T) {
	const functions = "arn:aws:lambda:us-west-2:000000000000:function:"
	amazon := lambda.Start(t, 2, map[string][]string{
		"go":   {program(t, "./lambda/moderate")},
		"node": {"node", "lambda/bootstrap.mjs", "lambda/moderate.mjs"},
	})
	web := http.NewServeMux()
	web.HandleFunc("/hang", func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // net/http watches the connection from here on
		<-r.Context().Done()
	})
	web.HandleFunc("/huge", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	})
	web.HandleFunc("/elsewhere", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/allow", http.StatusTemporaryRedirect)
	})
	web.HandleFunc("/allow", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"ReviewResult":"ALLOW","Content":"elsewhere"}`)
	})
	endpoint := listen(t, web)
	patient := configured(t, `
review:
  timeout: 10s # a machine that is busy with tests may start a function slowly
  handlers:
    "`+functions+`words": {rules: {deny_words: [spam], mask_words: [darn]}}
    "`+functions+`huge": {http: {url: "`+endpoint+`/huge"}}
    "`+functions+`elsewhere": {http: {url: "`+endpoint+`/elsewhere"}}
    "`+functions+`go": {lambda: {endpoint: "`+amazon.URL+`"}}
    "`+functions+`node": {lambda: {endpoint: "`+amazon.URL+`"}}
`)
	s := start(t, patient)
	c := s.client()
	room := func(function string, fallback types.FallbackResult) string {
		t.Helper()
		out, err := c.CreateRoom(limited(t), &ivschat.CreateRoomInput{MaximumMessageRatePerSecond: aws.Int32(100),
			MessageReviewHandler: &types.MessageReviewHandler{Uri: aws.String(functions + function), FallbackResult: fallback}})
		if err != nil {
			t.Fatal(err)
		}
		return *out.Arn
	}
	for _, c1 := range []struct {
		function string
		fallback types.FallbackResult
		content  string
		want     string // what everybody gets; "" if it is refused with reason
		reason   string
	}{
		{"go", "DENY", "Hello", "Hello", ""},
		{"go", "ALLOW", "buy SPAM", "", "no spam, alice"},
		{"go", "DENY", "darn it", "**** it", ""},
		{"go", "ALLOW", "boom", "boom", ""}, // an exception: the fallback
		{"go", "DENY", "nonsense", "", "Message rejected by review handler"},
		{"node", "DENY", "Hello", "Hello", ""},
		{"node", "ALLOW", "buy SPAM", "", "no spam, alice"},
		{"words", "DENY", "what a Darn day", "what a **** day", ""},
		{"huge", "DENY", "x", "", "Message rejected by review handler"},
		{"elsewhere", "ALLOW", "here", "here", ""}, // a redirect is not followed
	} {
		arn := room(c1.function, c1.fallback)
		alice := connect(t, s, c, arn, "alice", every)
		bob := connect(t, s, c, arn, "bob")
		send(t, alice, `{"Action":"SEND_MESSAGE","RequestId":"1","Content":"`+c1.content+`"}`)
		f := receive(t, alice)
		if c1.want == "" {
			if f.Type != "ERROR" || f.ErrorCode != 406 || f.ErrorMessage != c1.reason || f.RequestID != "1" || len(f.ID) != 12 {
				t.Errorf("%s, %q: %+v, want a 406 with %q", c1.function, c1.content, f, c1.reason)
			}
			// What bob sees next is this, and nothing of the message.
			if _, err := c.SendEvent(limited(t), &ivschat.SendEventInput{RoomIdentifier: &arn, EventName: aws.String("next")}); err != nil {
				t.Fatal(err)
			}
			if f := receive(t, bob); f.EventName != "next" {
				t.Errorf("%s, %q: bob got %+v", c1.function, c1.content, f)
			}
			continue
		}
		if b := receive(t, bob); f.Type != "MESSAGE" || f.Content != c1.want || b.ID != f.ID || b.Content != c1.want {
			t.Errorf("%s, %q: %+v and %+v, want %q", c1.function, c1.content, f, b, c1.want)
		}
	}

	// Whatever names nothing is refused, on create and on update, and is named.
	var invalid *types.ValidationException
	_, err := c.CreateRoom(limited(t), &ivschat.CreateRoomInput{MessageReviewHandler: &types.MessageReviewHandler{Uri: aws.String(functions + "unknown")}})
	if !errors.As(err, &invalid) || !strings.Contains(invalid.ErrorMessage(), "Request member: uri failed to satisfy the constraints: invalid lambda permission") {
		t.Errorf("an unknown function: %v", err)
	}
	words := room("words", "DENY")
	if _, err := c.UpdateRoom(limited(t), &ivschat.UpdateRoomInput{Identifier: &words, MessageReviewHandler: &types.MessageReviewHandler{Uri: aws.String(functions + "unknown")}}); !errors.As(err, &invalid) {
		t.Errorf("an update to an unknown function: %v", err)
	}

	// An update acts on the next message of who is connected already.
	alice := connect(t, s, c, words, "alice", every)
	say := func(want string) {
		t.Helper()
		send(t, alice, `{"Action":"SEND_MESSAGE","Content":"darn spam"}`)
		if f := receive(t, alice); f.Type+" "+f.Content+f.ErrorMessage != want {
			t.Errorf("%+v, want %s", f, want)
		}
	}
	send(t, alice, `{"Action":"SEND_MESSAGE","Content":"spam"}`)
	if f := receive(t, alice); f.ErrorCode != 406 || strings.Contains(f.ErrorMessage, "spam") {
		t.Errorf("%+v, want a 406 that does not say the word", f)
	}
	if _, err := c.UpdateRoom(limited(t), &ivschat.UpdateRoomInput{Identifier: &words, MessageReviewHandler: &types.MessageReviewHandler{Uri: aws.String("")}}); err != nil {
		t.Fatal(err)
	}
	say("MESSAGE darn spam")

	// The service's own 200 ms: a handler that hangs costs its senders that, and
	// nobody else anything.
	quick := start(t, configured(t, `
review:
  handlers:
    "`+functions+`hang": {http: {url: "`+endpoint+`/hang"}}
    "`+functions+`slow": {lambda: {endpoint: "`+amazon.URL+`"}}
  default: {rules: {deny_words: [spam]}}
`))
	qc := quick.client()
	made, err := qc.CreateRoom(limited(t), &ivschat.CreateRoomInput{MessageReviewHandler: &types.MessageReviewHandler{Uri: aws.String(functions + "hang"), FallbackResult: "DENY"}})
	if err != nil {
		t.Fatal(err)
	}
	alice = connect(t, quick, qc, *made.Arn, "alice", every)
	began := time.Now()
	send(t, alice, `{"Action":"SEND_MESSAGE","RequestId":"1","Content":"x"}`)
	f := receive(t, alice)
	took := time.Since(began)
	if f.ErrorCode != 406 || f.ErrorMessage != "Message rejected by review handler" || took < 200*time.Millisecond || took > 5*time.Second {
		t.Errorf("a hanging handler: %+v after %v", f, took)
	}
	t.Logf("the fallback of a handler that hangs came after %v", took)
	if _, err := qc.CreateRoom(limited(t), &ivschat.CreateRoomInput{MessageReviewHandler: &types.MessageReviewHandler{Uri: aws.String(functions + "any")}}); err != nil {
		t.Errorf("with a default every function is there: %v", err)
	}
}

// listen serves on loopback until the test ends, and returns the URL.
func listen(t testing.TB, h http.Handler) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server.URL
}
