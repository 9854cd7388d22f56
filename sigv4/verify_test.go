package sigv4

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"hubbub/ivschat"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

const (
	longTerm  = "AKIAIOSFODNN7EXAMPLE"
	temporary = "ASIAIOSFODNN7EXAMPLE"
	secret    = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	token     = "FwoGZXIvYXdzEXAMPLETOKEN//////////wEaDA=="
)

func keys(id string) (Key, bool) {
	switch id {
	case longTerm:
		return Key{Secret: secret}, true
	case temporary:
		return Key{Secret: secret, SessionToken: token, Expires: noon.Add(time.Hour)}, true
	case "AKIAEMPTYSECRET":
		return Key{}, true
	}
	return Key{}, false
}

// signing is a request before it is signed; change alters it first, tamper afterwards.
type signing struct {
	method, target, body string
	key                  aws.Credentials
	service, region      string
	at                   time.Time
	change, tamper       func(*http.Request)
}

// request signs with the SDK's signer and returns what a server reads of it.
func (s signing) request(tb testing.TB) (*http.Request, []byte) {
	tb.Helper()
	if s.method == "" {
		s.method, s.target, s.body = "POST", "/CreateRoom", "{}"
	}
	if s.key.AccessKeyID == "" {
		s.key = aws.Credentials{AccessKeyID: longTerm, SecretAccessKey: secret}
	}
	if s.service == "" {
		s.service = "ivschat"
	}
	if s.region == "" {
		s.region = "us-west-2"
	}
	if s.at.IsZero() {
		s.at = noon
	}
	out, err := http.NewRequest(s.method, "http://chat.example:9000"+s.target, strings.NewReader(s.body))
	if err != nil {
		tb.Fatal(err)
	}
	if s.change != nil {
		s.change(out)
	}
	sum := sha256.Sum256([]byte(s.body))
	if err := v4.NewSigner().SignHTTP(context.Background(), s.key, out, hex.EncodeToString(sum[:]), s.service, s.region, s.at); err != nil {
		tb.Fatal(err)
	}
	var wire bytes.Buffer
	if err := out.Write(&wire); err != nil {
		tb.Fatal(err)
	}
	in, body, err := read(wire.Bytes())
	if err != nil {
		tb.Fatal(err)
	}
	if s.tamper != nil {
		s.tamper(in)
	}
	return in, body
}

// swap replaces text in the Authorization header.
func swap(before, after string) func(*http.Request) {
	return func(r *http.Request) {
		r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), before, after, 1))
	}
}

func authorize(value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("Authorization", value) }
}

func set(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

func TestWhatVerifies(t *testing.T) {
	withToken := aws.Credentials{AccessKeyID: temporary, SecretAccessKey: secret, SessionToken: token}
	for _, c := range []struct {
		name string
		s    signing
	}{
		{"a plain call", signing{}},
		{"no body and no content type", signing{method: "POST", target: "/ListRooms"}},
		{"the escaped tag path", signing{method: "GET", target: "/tags/arn%3Aaws%3Aivschat%3Aus-west-2%3A123456789012%3Aroom%2FAbCdEf123456"}},
		{"the tag path without escapes", signing{method: "GET", target: "/tags/arn:aws:ivschat:us-west-2:123456789012:room/AbCdEf123456"}},
		{"repeated tag keys in the escaped order", signing{method: "DELETE", target: "/tags/arn%3Aaws%3Aivschat%3Aus-west-2%3A123456789012%3Aroom%2FAbCdEf123456?tagKeys=b-1&tagKeys=%E6%97%A5%E6%9C%AC&tagKeys=b%2F2&tagKeys=b-1"}},
		{"a bare question mark", signing{method: "DELETE", target: "/tags/x?"}},
		{"a name without a value", signing{method: "DELETE", target: "/tags/x?tagKeys&a"}},
		{"temporary credentials", signing{key: withToken}},
		{"another region", signing{region: "eu-central-1"}},
		{"spaces folded", signing{change: set("X-Note", "  a   b \t")}},
		{"several values of one header", signing{change: func(r *http.Request) { r.Header["X-Note"] = []string{"b", "a  c", ""} }}},
		{"an empty signed header", signing{change: set("X-Note", "")}},
		{"the hash of the body stated", signing{change: set("X-Amz-Content-Sha256", "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a")}},
		{"no spaces after the commas", signing{tamper: func(r *http.Request) {
			r.Header.Set("Authorization", strings.ReplaceAll(r.Header.Get("Authorization"), ", ", ","))
		}}},
		{"more spaces around the commas", signing{tamper: func(r *http.Request) {
			r.Header.Set("Authorization", strings.ReplaceAll(r.Header.Get("Authorization"), ", ", "  ,\t "))
		}}},
		{"the parts in another order", signing{tamper: func(r *http.Request) {
			parts := strings.Split(strings.TrimPrefix(r.Header.Get("Authorization"), algorithm+" "), ", ")
			r.Header.Set("Authorization", algorithm+" "+parts[2]+", "+parts[0]+", "+parts[1])
		}}},
		{"unsigned headers added by a proxy", signing{tamper: func(r *http.Request) {
			r.Header.Set("X-Forwarded-For", "192.0.2.1")
			r.Header.Set("X-Amz-Cf-Id", "abc")
		}}},
		{"five minutes old", signing{at: noon.Add(-5 * time.Minute)}},
		{"five minutes ahead", signing{at: noon.Add(5 * time.Minute)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, body := c.s.request(t)
			before := fmt.Sprint(r.Header, r.URL, r.Host, r.ContentLength)
			var v Verifier
			got, err := v.Verify(r, body, noon, keys)
			if err != nil {
				t.Fatalf("got %v, want it verified", err)
			}
			want := Identity{AccessKeyID: longTerm, Region: "us-west-2"}
			if c.s.key.AccessKeyID != "" {
				want.AccessKeyID = c.s.key.AccessKeyID
			}
			if c.s.region != "" {
				want.Region = c.s.region
			}
			if got != want {
				t.Errorf("got %v, want %v", got, want)
			}
			if after := fmt.Sprint(r.Header, r.URL, r.Host, r.ContentLength); after != before {
				t.Errorf("Verify changed the request from\n%s to\n%s", before, after)
			}
			if id, err := v.Verify(r, body, noon, keys); err != nil || id != want {
				t.Errorf("the second time: %v, %v; there is no replay cache", id, err)
			}
		})
	}
}

func TestAcrossMidnight(t *testing.T) {
	var v Verifier
	midnight := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
	r, body := signing{at: midnight.Add(-time.Minute)}.request(t)
	if _, err := v.Verify(r, body, midnight.Add(time.Minute), keys); err != nil {
		t.Errorf("signed yesterday, two minutes ago: %v", err)
	}
	local := midnight.Add(time.Minute).In(time.FixedZone("", -11*3600))
	if _, err := v.Verify(r, body, local, keys); err != nil {
		t.Errorf("a server's clock in another zone: %v", err)
	}
}

func TestExpiry(t *testing.T) {
	var v Verifier
	for _, c := range []struct {
		name   string
		secret string
		left   time.Duration
		want   error
	}{
		{"a second before", secret, time.Second, nil},
		{"at the instant", secret, 0, ivschat.ExpiredToken},
		{"after", secret, -time.Hour, ivschat.ExpiredToken},
		{"after, with a wrong signature: key before signature", "x", -time.Hour, ivschat.ExpiredToken},
	} {
		r, body := signing{key: aws.Credentials{AccessKeyID: temporary, SecretAccessKey: c.secret, SessionToken: token}}.request(t)
		_, err := v.Verify(r, body, noon, func(string) (Key, bool) {
			return Key{Secret: secret, SessionToken: token, Expires: noon.Add(c.left)}, true
		})
		if !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
		if c.want != nil && err.Error() != "ExpiredTokenException: "+expired {
			t.Errorf("%s: got %v: SDKs refresh credentials by the exact name", c.name, err)
		}
	}
	// A wrong token is not told that the key has expired.
	r, body := signing{key: aws.Credentials{AccessKeyID: temporary, SecretAccessKey: secret, SessionToken: "x"}}.request(t)
	_, err := v.Verify(r, body, noon, func(string) (Key, bool) {
		return Key{Secret: secret, SessionToken: token, Expires: noon.Add(-time.Hour)}, true
	})
	if !errors.Is(err, ivschat.UnrecognizedClient) {
		t.Errorf("wrong token of an expired key: got %v, want UnrecognizedClient", err)
	}
}

func TestWindowEdges(t *testing.T) {
	for _, c := range []struct {
		window, age time.Duration
		want        string
	}{
		{0, 5 * time.Minute, ""},
		{0, 5*time.Minute + time.Second, "- 5 min.)"},
		{0, -5 * time.Minute, ""},
		{0, -5*time.Minute - time.Second, "+ 5 min.)"},
		{15 * time.Minute, 15 * time.Minute, ""},
		{15 * time.Minute, 15*time.Minute + time.Second, "- 15 min.)"},
		{90 * time.Second, 90 * time.Second, ""},
		{90 * time.Second, 91 * time.Second, "- 1m30s)"},
		{90 * time.Second, -91 * time.Second, "+ 1m30s)"},
	} {
		v := Verifier{Window: c.window}
		r, body := signing{at: noon.Add(-c.age)}.request(t)
		// The request's date has whole seconds, so the fraction of the clock does not count.
		for _, fraction := range []time.Duration{0, 999 * time.Millisecond} {
			_, err := v.Verify(r, body, noon.Add(fraction), keys)
			if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, ivschat.InvalidSignature) || !strings.HasSuffix(err.Error(), c.want)) {
				t.Errorf("window %v, %v old, clock +%v: got %v, want %q", c.window, c.age, fraction, err, c.want)
			}
		}
	}
}

func TestRegionOfTheVerifier(t *testing.T) {
	v := Verifier{Region: func(region string) bool { return region == "eu-central-1" }}
	r, body := signing{region: "eu-central-1"}.request(t)
	if id, err := v.Verify(r, body, noon, keys); err != nil || id.Region != "eu-central-1" {
		t.Errorf("its own region: got %v, %v", id, err)
	}
	r, body = signing{region: "us-west-2"}.request(t)
	if _, err := v.Verify(r, body, noon, keys); !errors.Is(err, ivschat.InvalidSignature) {
		t.Errorf("another region: got %v, want InvalidSignature", err)
	}
}

// Key ids that do not exist, are disabled, or have another secret or token must
// not be told apart by the work they cause. Allocations stand for the work: the
// signing makes most of them, and a path that skipped it would show.
func TestUnknownKeysCostTheSame(t *testing.T) {
	var v Verifier
	cost := func(s signing) float64 {
		r, body := s.request(t)
		return testing.AllocsPerRun(100, func() {
			if _, err := v.Verify(r, body, noon, keys); err == nil {
				t.Fatal("verified")
			}
		})
	}
	want := cost(signing{key: aws.Credentials{AccessKeyID: longTerm, SecretAccessKey: "wrong"}})
	early := cost(signing{service: "s3"})
	if early > want/2 {
		t.Fatalf("a refusal before the signing makes %v allocations, one after it %v: they no longer stand for the work", early, want)
	}
	for name, s := range map[string]signing{
		"unknown key":        {key: aws.Credentials{AccessKeyID: "AKIAUNKNOWNUNKNOWNXX", SecretAccessKey: "wrong"}},
		"key without secret": {key: aws.Credentials{AccessKeyID: "AKIAEMPTYSECRET", SecretAccessKey: "wrong"}},
		"missing token":      {key: aws.Credentials{AccessKeyID: temporary, SecretAccessKey: "wrong"}},
	} {
		if got := cost(s); got != want {
			t.Errorf("%s: %v allocations, a wrong signature makes %v", name, got, want)
		}
	}
}

// A secret that is replaced under the same id takes effect at once.
func TestReplacedSecret(t *testing.T) {
	var v Verifier
	r, body := signing{}.request(t)
	if _, err := v.Verify(r, body, noon, keys); err != nil {
		t.Fatal(err)
	}
	_, err := v.Verify(r, body, noon, func(string) (Key, bool) { return Key{Secret: "another"}, true })
	if !errors.Is(err, ivschat.InvalidSignature) {
		t.Errorf("signed with the old secret: got %v, want InvalidSignature", err)
	}
}

func TestDebugShowsWhatShouldHaveBeenSigned(t *testing.T) {
	v := Verifier{Debug: true}
	r, body := signing{
		key:    aws.Credentials{AccessKeyID: temporary, SecretAccessKey: "wrong", SessionToken: token},
		change: set("X-Note", "caf\xe9"),
	}.request(t)
	_, err := v.Verify(r, body, noon, keys)
	if !errors.Is(err, ivschat.InvalidSignature) {
		t.Fatalf("got %v", err)
	}
	want := mismatch + `

The Canonical String for this request should have been
'POST
/CreateRoom

content-length:2
host:chat.example:9000
x-amz-date:20261123T120000Z
x-amz-security-token:[sealed]
x-note:caf?

content-length;host;x-amz-date;x-amz-security-token;x-note
44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a'

The String-to-Sign should have been
'AWS4-HMAC-SHA256
20261123T120000Z
20261123/us-west-2/ivschat/aws4_request
`
	got := err.(*ivschat.Error).Message
	if !strings.HasPrefix(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if strings.Contains(got, token) || strings.Contains(got, secret) {
		t.Error("it holds a token or a secret")
	}
	r, body = signing{key: aws.Credentials{AccessKeyID: "AKIAUNKNOWN", SecretAccessKey: "x"}}.request(t)
	if _, err := v.Verify(r, body, noon, keys); err.Error() != "UnrecognizedClientException: "+unrecognized {
		t.Errorf("unknown key: got %v; debugging is for signatures only", err)
	}
}

func TestKeyPrintsSealed(t *testing.T) {
	k := Key{Secret: secret, SessionToken: token}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		if got := fmt.Sprintf(verb, k); got != "[sealed]" {
			t.Errorf("%s prints %s", verb, got)
		}
		if got := fmt.Sprintf(verb, struct{ K Key }{k}); strings.Contains(got, secret) {
			t.Errorf("%s of what holds it prints %s", verb, got)
		}
	}
	var b bytes.Buffer
	slog.New(slog.NewTextHandler(&b, nil)).Info("key", "key", k)
	if strings.Contains(b.String(), secret) || !strings.Contains(b.String(), "[sealed]") {
		t.Errorf("logs %s", b.String())
	}
}

// The same over a real server: what net/http keeps out of the header map, the
// path as a handler gets it, HTTP/1.1 and HTTP/2.
func TestOverHTTP(t *testing.T) {
	var v Verifier
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			_, err = v.Verify(r, body, noon, keys)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
		}
	})
	for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
		srv := httptest.NewUnstartedServer(handler)
		srv.EnableHTTP2 = proto == "HTTP/2.0"
		srv.StartTLS()
		t.Cleanup(srv.Close)
		client := srv.Client()
		for _, c := range []struct{ method, target, body string }{
			{"POST", "/CreateRoom", `{"name":"café"}`},
			{"POST", "/ListRooms", ""},
			{"GET", "/tags/arn%3Aaws%3Aivschat%3Aus-west-2%3A123456789012%3Aroom%2FAbCdEf123456", ""},
			{"GET", "/tags/arn:aws:ivschat:us-west-2:123456789012:room/AbCdEf123456", ""},
			{"DELETE", "/tags/x?tagKeys=b-1&tagKeys=%E6%97%A5&tagKeys=b%2F2", ""},
		} {
			r, err := http.NewRequest(c.method, srv.URL+c.target, strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			sum := sha256.Sum256([]byte(c.body))
			err = v4.NewSigner().SignHTTP(t.Context(), aws.Credentials{AccessKeyID: longTerm, SecretAccessKey: secret}, r, hex.EncodeToString(sum[:]), "ivschat", "us-west-2", noon)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != 200 || resp.Proto != proto {
				t.Errorf("%s %s %s: got %s %s", proto, c.method, c.target, resp.Proto, resp.Status)
			}
		}
	}
}
