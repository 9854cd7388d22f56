package sigv4

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"hubbub/ivschat"
)

// refused fails unless err is a refusal of a kind that Verify promises, with a
// message that can be sent as JSON.
func refused(t *testing.T, err error) {
	t.Helper()
	var e *ivschat.Error
	if !errors.As(err, &e) {
		t.Fatalf("%v is no refusal", err)
	}
	switch e.Kind {
	case ivschat.MissingAuthenticationToken, ivschat.IncompleteSignature, ivschat.InvalidSignature,
		ivschat.UnrecognizedClient, ivschat.ExpiredToken:
	default:
		t.Fatalf("kind %s", e.Kind)
	}
	if !utf8.ValidString(e.Message) {
		t.Fatalf("message %q", e.Message)
	}
}

func FuzzAuthorization(f *testing.F) {
	const good = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261123/us-west-2/ivschat/aws4_request, SignedHeaders=host;x-amz-date, Signature=41a8"
	for _, seed := range []string{
		good, "", "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256 ", "Bearer x", strings.ReplaceAll(good, ", ", ","), good + ",", good + ", Signature=a",
		"AWS4-HMAC-SHA256 Signature=a,SignedHeaders=b,Credential=c", "AWS4-HMAC-SHA256 Credential", "AWS4-HMAC-SHA256 =", "\xff \xfe",
		strings.Replace(good, "20261123", "\xff'", 1), strings.Replace(good, "host;", "host;;", 1),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		a, err := parseAuthorization(value)
		if err != nil {
			refused(t, err)
		} else {
			// What was accepted reads the same when it is written out again.
			var parts []string
			for _, p := range [][2]string{{"Signature", a.signature}, {"Credential", a.credential}, {"SignedHeaders", a.signedHeaders}} {
				if p[1] != "" {
					parts = append(parts, p[0]+"="+p[1])
				}
			}
			again, err := parseAuthorization(algorithm + " " + strings.Join(parts, ","))
			if err != nil || again != a {
				t.Fatalf("%q reads as %+v, written out again as %+v, %v", value, a, again, err)
			}
		}
		r, body := signing{tamper: func(r *http.Request) { r.Header["Authorization"] = []string{value} }}.request(t)
		v := Verifier{Debug: true}
		if _, err := v.Verify(r, body, noon, keys); err == nil {
			t.Fatal("verified")
		} else {
			refused(t, err)
		}
	})
}

// FuzzRequest sends whole requests. Nobody without the secret can make one that
// verifies; and whatever is well-formed, our canonical form and the signer's agree.
func FuzzRequest(f *testing.F) {
	for i, row := range recordings(f) {
		if i%20 == 0 || row.Order == "unescaped" {
			raw, _ := row.raw()
			f.Add(raw)
		}
	}
	f.Add([]byte("GET /tags/%2e%2e/x?a=%zz&b;c&X-Amz-Signature= HTTP/1.1\r\nHost: h\r\nDate: x\r\n\r\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, body, err := read(raw)
		if err != nil {
			return
		}
		now := noon
		if c, _, err := readClaim(r); err != nil {
			refused(t, err)
		} else {
			c.payload = emptyHash
			if c.day == c.date.Format(dayLayout) && c.service == service && c.terminator == terminator {
				agree(t, c)
			}
			now = c.date
		}
		v := Verifier{Debug: true}
		_, err = v.Verify(r, body, now, func(string) (Key, bool) { return Key{Secret: "not the one that signed the seeds"}, true })
		if err == nil {
			t.Fatal("verified")
		}
		refused(t, err)
	})
}
