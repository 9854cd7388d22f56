package sigv4

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"hubbub/ivschat"
)

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
