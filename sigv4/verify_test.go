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
	"net/url"
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

// The failure table. Source: spec iam A.5.
func TestRefusals(t *testing.T) {
	withToken := aws.Credentials{AccessKeyID: temporary, SecretAccessKey: secret, SessionToken: token}
	credential := longTerm + "/20261123/us-west-2/ivschat/aws4_request"
	const form = "Authorization=AWS4-HMAC-SHA256 "
	const (
		needCredential    = "Authorization header requires 'Credential' parameter."
		needSignature     = "Authorization header requires 'Signature' parameter."
		needSignedHeaders = "Authorization header requires 'SignedHeaders' parameter."
		needDate          = "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header."
	)
	const badDate = "Date must be in ISO-8601 'basic format'. Got '%s'. See http://en.wikipedia.org/wiki/ISO_8601"
	const badList = "'SignedHeaders' must be lower-case header names in ascending order, each once, separated by ';'."
	const badHash = "X-Amz-Content-Sha256 must be the hexadecimal SHA-256 of the body as it was sent; UNSIGNED-PAYLOAD and STREAMING payloads are not supported."
	incomplete, invalid, unknown := ivschat.IncompleteSignature, ivschat.InvalidSignature, ivschat.UnrecognizedClient
	for _, c := range []struct {
		name    string
		s       signing
		kind    ivschat.Kind
		message string
	}{
		{"no Authorization", signing{tamper: func(r *http.Request) { r.Header.Del("Authorization") }},
			ivschat.MissingAuthenticationToken, "Missing Authentication Token"},
		{"an empty Authorization", signing{tamper: authorize("")},
			ivschat.MissingAuthenticationToken, "Missing Authentication Token"},
		{"a signature in the query and no header", signing{tamper: func(r *http.Request) {
			r.Header.Del("Authorization")
			r.URL.RawQuery = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=00"
		}}, incomplete, "A signature in the query is not supported: sign with an Authorization header."},
		{"a signature in the query and a header", signing{method: "POST", target: "/CreateRoom?X-Amz-Signature=00"},
			incomplete, "A signature in the query is not supported: sign with an Authorization header."},
		{"two Authorization headers", signing{tamper: func(r *http.Request) { r.Header.Add("Authorization", "x") }},
			incomplete, "The request has more than one Authorization header."},

		{"no Credential", signing{tamper: authorize(algorithm + " SignedHeaders=host;x-amz-date, Signature=5ec7e7")},
			incomplete, needCredential + " " + form + "Signature=..., SignedHeaders=..."},
		{"no Signature", signing{tamper: authorize(algorithm + " Credential=" + credential + ", SignedHeaders=host;x-amz-date")},
			incomplete, needSignature + " " + form + "Credential=..., SignedHeaders=..."},
		{"an empty Signature", signing{tamper: authorize(algorithm + " Credential=" + credential + ", SignedHeaders=host;x-amz-date, Signature=")},
			incomplete, needSignature + " " + form + "Credential=..., SignedHeaders=..."},
		{"no SignedHeaders", signing{tamper: authorize(algorithm + " Credential=" + credential + ", Signature=5ec7e7")},
			incomplete, needSignedHeaders + " " + form + "Credential=..., Signature=..."},
		{"no date", signing{tamper: func(r *http.Request) { r.Header.Del("X-Amz-Date") }},
			incomplete, needDate + " " + form + "Credential=..., Signature=..., SignedHeaders=..."},
		{"nothing but the algorithm", signing{tamper: func(r *http.Request) {
			r.Header.Del("X-Amz-Date")
			r.Header.Set("Authorization", algorithm)
		}}, incomplete, needCredential + " " + needSignature + " " + needSignedHeaders + " " + needDate + " Authorization=AWS4-HMAC-SHA256"},
		{"a part without an equal sign", signing{tamper: authorize(algorithm + " " + secret)},
			incomplete, "Authorization header has a part that is not a valid key=value pair (missing equal-sign)."},
		{"a comma at the end", signing{tamper: func(r *http.Request) {
			r.Header.Set("Authorization", r.Header.Get("Authorization")+",")
		}}, incomplete, "Authorization header has a part that is not a valid key=value pair (missing equal-sign)."},
		{"an unknown part", signing{tamper: swap("Signature=", "Sign=")},
			incomplete, "Authorization header has a parameter that is none of 'Credential', 'SignedHeaders', 'Signature'."},
		{"a part twice", signing{tamper: swap("SignedHeaders=", "Credential=a, SignedHeaders=")},
			incomplete, "Authorization header has the 'Credential' parameter more than once."},

		{"another algorithm", signing{tamper: swap(algorithm, "AWS4-ECDSA-P256-SHA256")},
			incomplete, "Unsupported AWS 'algorithm': 'AWS4-ECDSA-P256-SHA256'."},
		{"a bearer token", signing{tamper: authorize("Bearer " + token)},
			incomplete, "Unsupported AWS 'algorithm': 'Bearer'."},
		{"a bare token", signing{tamper: authorize(token)},
			incomplete, "Unsupported AWS 'algorithm' (only AWS4-HMAC-SHA256)."},

		{"four parts of a credential", signing{tamper: swap("/20261123", "")},
			incomplete, "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got 4 of them."},
		{"six parts of a credential", signing{tamper: swap(longTerm, "a/b")},
			incomplete, "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got 6 of them."},

		{"a date in another form", signing{tamper: set("X-Amz-Date", "2026-11-23T12:00:00Z")},
			incomplete, fmt.Sprintf(badDate, "2026-11-23T12:00:00Z")},
		{"a date with a fraction", signing{tamper: set("X-Amz-Date", "20261123T120000.5Z")},
			incomplete, fmt.Sprintf(badDate, "20261123T120000.5Z")},
		{"a date that is none", signing{tamper: set("X-Amz-Date", "20261323T120000Z")},
			incomplete, fmt.Sprintf(badDate, "20261323T120000Z")},
		{"a long date of foreign bytes", signing{tamper: set("X-Amz-Date", "\xff'"+strings.Repeat("x", 5000))},
			incomplete, fmt.Sprintf(badDate, `\xff'`+strings.Repeat("x", 62))},
		{"RFC 1123 in X-Amz-Date", signing{tamper: set("X-Amz-Date", "Mon, 23 Nov 2026 12:00:00 GMT")},
			incomplete, fmt.Sprintf(badDate, "Mon, 23 Nov 2026 12:00:00 GMT")},
		{"two X-Amz-Date headers", signing{tamper: func(r *http.Request) { r.Header.Add("X-Amz-Date", "20261123T120000Z") }},
			incomplete, "The request has more than one X-Amz-Date header."},
		{"two session tokens", signing{key: withToken, tamper: func(r *http.Request) { r.Header.Add("X-Amz-Security-Token", token) }},
			incomplete, "The request has more than one X-Amz-Security-Token header."},

		{"host not signed", signing{tamper: swap("host;", "")},
			invalid, "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization."},
		{"date not signed", signing{tamper: swap(";x-amz-date", "")},
			invalid, "'X-Amz-Date' or 'Date' must be a 'SignedHeader' in the AWS Authorization."},
		{"session token not signed", signing{tamper: set("X-Amz-Security-Token", token)},
			invalid, "'X-Amz-Security-Token' must be a 'SignedHeader' in the AWS Authorization."},
		{"authorization signed", signing{tamper: swap("content-length;", "authorization;content-length;")},
			invalid, "'Authorization' cannot be a 'SignedHeader': it holds the signature."},
		{"a signed header that is not there", signing{tamper: swap("content-length;", "content-length;content-type;")},
			invalid, "The request has no header 'content-type', which its 'SignedHeaders' lists."},
		{"a signed header that a proxy took away", signing{change: set("X-Note", "a"), tamper: func(r *http.Request) { r.Header.Del("X-Note") }},
			invalid, "The request has no header 'x-note', which its 'SignedHeaders' lists."},
		{"signed headers in upper case", signing{tamper: swap("host", "Host")}, invalid, badList},
		{"signed headers out of order", signing{tamper: swap("host;x-amz-date", "x-amz-date;host")}, invalid, badList},
		{"a signed header twice", signing{tamper: swap("host", "host;host")}, invalid, badList},
		{"an empty name among the signed headers", signing{tamper: swap("host;", "host;;")}, invalid, badList},

		{"a path with dots", signing{tamper: func(r *http.Request) {
			r.RequestURI, r.URL = "/tags/../CreateRoom", &url.URL{Path: "/tags/../CreateRoom"}
		}}, invalid, "The path of the request must not have '..' segments."},
		{"a path with escaped dots", signing{method: "GET", target: "/tags/%2E%2e%2FCreateRoom"},
			invalid, "The path of the request must not have '..' segments."},
		{"a path that is a star", signing{tamper: func(r *http.Request) { r.RequestURI, r.URL = "*", &url.URL{Path: "*"} }},
			invalid, "The path of the request must begin with '/'."},
		{"a query with a bad escape", signing{tamper: func(r *http.Request) { r.URL.RawQuery = "tagKeys=%zz" }},
			invalid, "The query of the request is not validly escaped."},
		{"a query with half an escape", signing{tamper: func(r *http.Request) { r.URL.RawQuery = "tagKeys=%2" }},
			invalid, "The query of the request is not validly escaped."},

		{"wrong region", signing{region: "US_west"}, invalid, "Credential should be scoped to a valid region."},
		{"no region", signing{tamper: swap("us-west-2", "")}, invalid, "Credential should be scoped to a valid region."},
		{"a region of 33 letters", signing{region: strings.Repeat("a", 33)}, invalid, "Credential should be scoped to a valid region."},
		{"wrong service", signing{service: "ivs"}, invalid, "Credential should be scoped to correct service: 'ivschat'."},
		{"wrong terminator", signing{tamper: swap("aws4_request", "aws5_request")},
			invalid, "Credential should be scoped with a valid terminator: 'aws4_request'"},
		{"scope date is not the request's", signing{tamper: swap("20261123", "20261122")},
			invalid, "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '20261122' != '20261123', from '20261123T120000Z'."},
		{"too old", signing{at: noon.Add(-301 * time.Second)},
			invalid, "Signature expired: 20261123T115459Z is now earlier than 20261123T115500Z (20261123T120000Z - 5 min.)"},
		{"in the future", signing{at: noon.Add(301 * time.Second)},
			invalid, "Signature not yet current: 20261123T120501Z is still later than 20261123T120500Z (20261123T120000Z + 5 min.)"},

		{"the hash of another body", signing{change: set("X-Amz-Content-Sha256", strings.Repeat("0", 64))}, invalid, badHash},
		{"an unsigned payload", signing{change: set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")}, invalid, badHash},
		{"a streaming payload", signing{change: set("X-Amz-Content-Sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD")}, invalid, badHash},
		{"the hash of another body, not signed", signing{tamper: set("X-Amz-Content-Sha256", strings.Repeat("0", 64))}, invalid, badHash},
		{"two hashes of the body", signing{change: func(r *http.Request) {
			h := "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
			r.Header["X-Amz-Content-Sha256"] = []string{h, h}
		}}, invalid, badHash},

		{"unknown key", signing{key: aws.Credentials{AccessKeyID: "AKIAUNKNOWN", SecretAccessKey: secret}}, unknown, unrecognized},
		{"unknown key, signed with the stand-in secret", signing{key: aws.Credentials{AccessKeyID: "AKIAUNKNOWN", SecretAccessKey: noKey.Secret}}, unknown, unrecognized},
		{"a key whose secret is empty", signing{key: aws.Credentials{AccessKeyID: "AKIAEMPTYSECRET"}}, unknown, unrecognized},
		{"no key id", signing{tamper: swap(longTerm, "")}, unknown, unrecognized},
		{"a token for a long-term key", signing{key: aws.Credentials{AccessKeyID: longTerm, SecretAccessKey: secret, SessionToken: token}}, unknown, unrecognized},
		{"an empty token for a long-term key", signing{change: set("X-Amz-Security-Token", "")}, unknown, unrecognized},
		{"no token for a temporary key", signing{key: aws.Credentials{AccessKeyID: temporary, SecretAccessKey: secret}}, unknown, unrecognized},
		{"an empty token for a temporary key", signing{key: aws.Credentials{AccessKeyID: temporary, SecretAccessKey: secret}, change: set("X-Amz-Security-Token", "")}, unknown, unrecognized},
		{"a wrong token", signing{key: aws.Credentials{AccessKeyID: temporary, SecretAccessKey: secret, SessionToken: token + "x"}}, unknown, unrecognized},

		{"a wrong secret", signing{key: aws.Credentials{AccessKeyID: longTerm, SecretAccessKey: secret + "x"}}, invalid, mismatch},
		{"a wrong secret of temporary credentials", signing{key: aws.Credentials{AccessKeyID: temporary, SecretAccessKey: secret + "x", SessionToken: token}}, invalid, mismatch},
		{"another key's id", signing{tamper: swap(longTerm, longTerm)}, "", ""}, // the control: unchanged it verifies
		{"a signature cut short", signing{tamper: func(r *http.Request) {
			a := r.Header.Get("Authorization")
			r.Header.Set("Authorization", a[:len(a)-1])
		}}, invalid, mismatch},
		{"a signature in upper case", signing{tamper: func(r *http.Request) {
			before, signature, _ := strings.Cut(r.Header.Get("Authorization"), "Signature=")
			r.Header.Set("Authorization", before+"Signature="+strings.ToUpper(signature))
		}}, invalid, mismatch},
	} {
		t.Run(c.name, func(t *testing.T) {
			var v Verifier
			r, body := c.s.request(t)
			_, err := v.Verify(r, body, noon, keys)
			if c.kind == "" {
				if err != nil {
					t.Fatalf("got %v, want it verified", err)
				}
				return
			}
			var refusal *ivschat.Error
			if !errors.As(err, &refusal) {
				t.Fatalf("got %v, want a refusal of kind %s", err, c.kind)
			}
			if refusal.Kind != c.kind || refusal.Message != c.message {
				t.Errorf("got  %s: %s\nwant %s: %s", refusal.Kind, refusal.Message, c.kind, c.message)
			}
			_, signature, _ := strings.Cut(r.Header.Get("Authorization"), "Signature=")
			for _, sealed := range []string{secret, token, noKey.Secret, signature} {
				if sealed != "" && strings.Contains(refusal.Message, sealed) {
					t.Errorf("the refusal repeats %q", sealed)
				}
			}
		})
	}
}

// Each check hides the ones behind it: presence and form, scope and time, key, signature.
func TestOrderOfChecks(t *testing.T) {
	stranger := aws.Credentials{AccessKeyID: "AKIAUNKNOWN", SecretAccessKey: "x"}
	for _, c := range []struct {
		name string
		s    signing
		want string
	}{
		{"form before scope", signing{key: stranger, service: "s3", at: noon.Add(-time.Hour), tamper: swap(";x-amz-date", "")}, "'X-Amz-Date' or 'Date' must be"},
		{"scope before time", signing{key: stranger, service: "s3", at: noon.Add(-time.Hour)}, "Credential should be scoped to correct service"},
		{"time before key", signing{key: stranger, at: noon.Add(-time.Hour)}, "Signature expired"},
		{"key before signature", signing{key: stranger}, unrecognized},
	} {
		t.Run(c.name, func(t *testing.T) {
			var v Verifier
			asked := false
			r, body := c.s.request(t)
			_, err := v.Verify(r, body, noon, func(id string) (Key, bool) { asked = true; return keys(id) })
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
			if asked != (c.want == unrecognized) {
				t.Errorf("key looked up: %v", asked)
			}
		})
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
