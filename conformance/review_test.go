package conformance

import (
	"bufio"
	"encoding/json"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/google/go-cmp/cmp"

	"hubbub/conformance/lambda"
	"hubbub/ivschat"
	"hubbub/review"
)

const functions = "arn:aws:lambda:us-west-2:123456789012:function:"

// program builds a Go program and returns its path.
func program(t *testing.T, source string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "program")
	if b, err := exec.Command("go", "build", "-o", out, source).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	return out
}

// reviewer reviews through Lambda at the endpoint.
func reviewer(t *testing.T, endpoint string, timeout time.Duration) *review.Reviewer {
	t.Helper()
	r, err := review.New(t.Context(), review.Options{
		Timeout: timeout, Default: &review.Handler{Lambda: &review.Lambda{Endpoint: endpoint}}, Log: slog.New(slog.DiscardHandler),
		DevCredentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", ""),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// verdict is what becomes of a message of that content; whatever fails is denied.
func verdict(r *review.Reviewer, uri, content string) review.Verdict {
	got := make(chan review.Verdict, 1)
	r.Review(uri, ivschat.FallbackDeny, 500, review.Message{
		ID: "M2YcHkgffEvU", Room: "arn:aws:ivschat:us-west-2:123456789012:room/AbCdEf123456", Content: content, Attributes: map[string]string{"own": "1"},
		Sender: ivschat.NewSender("alice", map[string]string{"username": "Alice"}), IP: netip.MustParseAddr("192.0.2.7"),
	}, func(v review.Verdict) { got <- v })
	return <-got
}

// The functions are real processes: one of AWS's library for Go, and one in Node.
func TestLambdaFunctionsReview(t *testing.T) {
	server := lambda.Start(t, 2, map[string][]string{
		"go":   {program(t, "./lambda/moderate")},
		"node": {"node", "lambda/bootstrap.mjs", "lambda/moderate.mjs"},
	})
	own := map[string]string{"own": "1"}
	fallback := review.Verdict{Reason: "Message rejected by review handler"}
	for _, language := range []string{"go", "node"} {
		t.Run(language, func(t *testing.T) {
			r := reviewer(t, server.URL, 30*time.Second)
			for _, c := range []struct {
				name, content string
				want          review.Verdict
			}{
				{"allowed as it is", "Hello", review.Verdict{Allowed: true, Content: "Hello", Attributes: own}},
				{"denied with a reason", "buy SPAM", review.Verdict{Reason: "no spam, alice"}},
				{"masked, with an attribute more", "darn it", review.Verdict{Allowed: true, Content: "**** it", Attributes: map[string]string{"own": "1", "masked": "true"}}},
				{"an exception", "boom", fallback},
				{"the end of the process", "crash", fallback},
				{"an invalid response", "nonsense", fallback},
			} {
				if d := cmp.Diff(c.want, verdict(r, functions+language, c.content)); d != "" {
					t.Errorf("%s: (-want +got)\n%s", c.name, d)
				}
			}
			var event struct {
				MessageId, RoomArn string
				Attributes         map[string]string
				Sender             struct {
					UserId, Ip string
					Attributes map[string]string
				}
			}
			who := verdict(r, functions+language, "who")
			if err := json.Unmarshal([]byte(who.Content), &event); err != nil {
				t.Fatalf("%v: %+v", err, who)
			}
			if event.MessageId != "M2YcHkgffEvU" || event.RoomArn == "" || event.Attributes["own"] != "1" || event.Sender.UserId != "alice" ||
				event.Sender.Ip != "192.0.2.7" || event.Sender.Attributes["username"] != "Alice" {
				t.Errorf("the function got %s", who.Content)
			}
			quick := reviewer(t, server.URL, 200*time.Millisecond)
			began := time.Now()
			if d := cmp.Diff(fallback, verdict(quick, functions+language, "slow")); d != "" {
				t.Errorf("slow: (-want +got)\n%s", d)
			}
			if took := time.Since(began); took < 200*time.Millisecond || took > 1500*time.Millisecond {
				t.Errorf("the verdict on a slow function's message took %v, want about 200 ms", took)
			}
		})
	}
	t.Run("empty attributes in Node replace the message's", func(t *testing.T) {
		want := review.Verdict{Allowed: true, Content: "bare", Attributes: map[string]string{}}
		if d := cmp.Diff(want, verdict(reviewer(t, server.URL, 30*time.Second), functions+"node", "bare")); d != "" {
			t.Error(d)
		}
	})
	t.Run("a function that does not exist, and one of another account", func(t *testing.T) {
		r := reviewer(t, server.URL, 30*time.Second)
		for _, uri := range []string{functions + "other", strings.Replace(functions, "123456789012", "210987654321", 1) + "go"} {
			if d := cmp.Diff(fallback, verdict(r, uri, "Hello")); d != "" {
				t.Errorf("%s: (-want +got)\n%s", uri, d)
			}
		}
	})
}

// block is the first block of that language in docs/review.md, as a file.
func block(t *testing.T, language, name string) string {
	t.Helper()
	b, err := os.ReadFile("../docs/review.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(b), "```"+language+"\n")
	code, _, closed := strings.Cut(rest, "```")
	if !found || !closed {
		t.Fatalf("docs/review.md has no block of %s", language)
	}
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// What the documentation shows does what it says.
func TestTheHandlersOfTheDocumentationReview(t *testing.T) {
	server := lambda.Start(t, 1, map[string][]string{
		"go":   {program(t, block(t, "go", "main.go"))},
		"node": {"node", "lambda/bootstrap.mjs", block(t, "js", "index.mjs")},
	})
	web := exec.CommandContext(t.Context(), "node", block(t, "javascript", "review.mjs"))
	web.Env = append(os.Environ(), "PORT=0")
	out, err := web.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := web.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = web.Process.Kill()
		_ = web.Wait()
	})
	said, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	url := strings.TrimSpace(strings.TrimPrefix(said, "listening on "))
	r, err := review.New(t.Context(), review.Options{
		Timeout: 30 * time.Second, Default: &review.Handler{Lambda: &review.Lambda{Endpoint: server.URL}}, Log: slog.New(slog.DiscardHandler),
		Handlers:       map[string]review.Handler{functions + "web": {HTTP: &review.HTTP{URL: url}}},
		DevCredentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", ""),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	for _, handler := range []string{"go", "node", "web"} {
		for content, want := range map[string]review.Verdict{
			"Hello":    {Allowed: true, Content: "Hello", Attributes: map[string]string{"own": "1"}},
			"buy spam": {Reason: "No advertising, please"},
			"darn it":  {Allowed: true, Content: "**** it", Attributes: map[string]string{"own": "1"}},
		} {
			if d := cmp.Diff(want, verdict(r, functions+handler, content)); d != "" {
				t.Errorf("%s, %q: (-want +got)\n%s", handler, content, d)
			}
		}
	}
}
