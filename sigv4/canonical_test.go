package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"hubbub/ivschat"
)

// textbook signs a canonical request that a test has written out, by the steps of
// the SigV4 text and nothing of the package or the SDK.
func textbook(canonical, stamp string) string {
	sum := sha256.Sum256([]byte(canonical))
	toSign := "AWS4-HMAC-SHA256\n" + stamp + "\n" + stamp[:8] + "/us-west-2/ivschat/aws4_request\n" + hex.EncodeToString(sum[:])
	key := []byte("AWS4" + secret)
	for _, part := range []string{stamp[:8], "us-west-2", "ivschat", "aws4_request", toSign} {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(part))
		key = h.Sum(nil)
	}
	return hex.EncodeToString(key)
}

const emptyHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// What the SDK's signer cannot say, or would not by itself, against canonical
// requests written out by hand.
func TestWrittenOutCanonicalRequests(t *testing.T) {
	const arn = "arn%3Aaws%3Aivschat%3Aus-west-2%3A123456789012%3Aroom%2FAbCdEf123456"
	const arnTwice = "arn%253Aaws%253Aivschat%253Aus-west-2%253A123456789012%253Aroom%252FAbCdEf123456"
	for _, c := range []struct {
		name      string
		request   string // without Authorization and the blank line
		signed    string
		canonical string
	}{
		{
			"repeated values sorted before escaping, as older Go SDKs sign",
			"DELETE /tags/" + arn + "?tagKeys=b%2F2&tagKeys=%E6%97%A5%E6%9C%AC&tagKeys=b-1 HTTP/1.1\r\nHost: h\r\nX-Amz-Date: 20261123T120000Z\r\n",
			"host;x-amz-date",
			"DELETE\n/tags/" + arnTwice + "\ntagKeys=b-1&tagKeys=b%2F2&tagKeys=%E6%97%A5%E6%9C%AC\nhost:h\nx-amz-date:20261123T120000Z\n\nhost;x-amz-date\n" + emptyHash,
		},
		{
			"the same sorted after escaping, as the SigV4 text says",
			"DELETE /tags/" + arn + "?tagKeys=b%2F2&tagKeys=%E6%97%A5%E6%9C%AC&tagKeys=b-1 HTTP/1.1\r\nHost: h\r\nX-Amz-Date: 20261123T120000Z\r\n",
			"host;x-amz-date",
			"DELETE\n/tags/" + arnTwice + "\ntagKeys=%E6%97%A5%E6%9C%AC&tagKeys=b%2F2&tagKeys=b-1\nhost:h\nx-amz-date:20261123T120000Z\n\nhost;x-amz-date\n" + emptyHash,
		},
		{
			"a plus in the query is a space",
			"DELETE /tags/x?tagKeys=a+b&tagKeys=c%2Bd HTTP/1.1\r\nHost: h\r\nX-Amz-Date: 20261123T120000Z\r\n",
			"host;x-amz-date",
			"DELETE\n/tags/x\ntagKeys=a%20b&tagKeys=c%2Bd\nhost:h\nx-amz-date:20261123T120000Z\n\nhost;x-amz-date\n" + emptyHash,
		},
		{
			"the tag path without escapes",
			"GET /tags/arn:aws:ivschat:us-west-2:123456789012:room/AbCdEf123456 HTTP/1.1\r\nHost: h\r\nX-Amz-Date: 20261123T120000Z\r\n",
			"host;x-amz-date",
			"GET\n/tags/arn%3Aaws%3Aivschat%3Aus-west-2%3A123456789012%3Aroom/AbCdEf123456\n\nhost:h\nx-amz-date:20261123T120000Z\n\nhost;x-amz-date\n" + emptyHash,
		},
		{
			"lower-case escapes in the path stay as they are",
			"GET /tags/arn%3aaws HTTP/1.1\r\nHost: h\r\nX-Amz-Date: 20261123T120000Z\r\n",
			"host;x-amz-date",
			"GET\n/tags/arn%253aaws\n\nhost:h\nx-amz-date:20261123T120000Z\n\nhost;x-amz-date\n" + emptyHash,
		},
		{
			"a path with raw bytes that should have been escaped",
			"GET /tags/\u00e9\" HTTP/1.1\r\nHost: h\r\nX-Amz-Date: 20261123T120000Z\r\n",
			"host;x-amz-date",
			"GET\n/tags/%C3%A9%22\n\nhost:h\nx-amz-date:20261123T120000Z\n\nhost;x-amz-date\n" + emptyHash,
		},
		{
			"slashes and single dots are not normalised",
			"GET //tags/./x HTTP/1.1\r\nHost: h\r\nX-Amz-Date: 20261123T120000Z\r\n",
			"host;x-amz-date",
			"GET\n//tags/./x\n\nhost:h\nx-amz-date:20261123T120000Z\n\nhost;x-amz-date\n" + emptyHash,
		},
		{
			"the absolute form of a request target",
			"GET http://h:80/tags/a%3Ax?a HTTP/1.1\r\nHost: other\r\nX-Amz-Date: 20261123T120000Z\r\n",
			"host;x-amz-date",
			"GET\n/tags/a%253Ax\na=\nhost:h:80\nx-amz-date:20261123T120000Z\n\nhost;x-amz-date\n" + emptyHash,
		},
		{
			"a signed content-length of 0",
			"POST /ListRooms HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nX-Amz-Date: 20261123T120000Z\r\n",
			"content-length;host;x-amz-date",
			"POST\n/ListRooms\n\ncontent-length:0\nhost:h\nx-amz-date:20261123T120000Z\n\ncontent-length;host;x-amz-date\n" + emptyHash,
		},
		{
			"the Date header in RFC 1123 form",
			"POST /ListRooms HTTP/1.1\r\nHost: h\r\nDate: Mon, 23 Nov 2026 12:00:00 GMT\r\n",
			"date;host",
			"POST\n/ListRooms\n\ndate:Mon, 23 Nov 2026 12:00:00 GMT\nhost:h\n\ndate;host\n" + emptyHash,
		},
		{
			"the Date header in ISO basic form",
			"POST /ListRooms HTTP/1.1\r\nHost: h\r\nDate: 20261123T120000Z\r\n",
			"date;host",
			"POST\n/ListRooms\n\ndate:20261123T120000Z\nhost:h\n\ndate;host\n" + emptyHash,
		},
		{
			"Date signed, X-Amz-Date there and not signed: the string to sign binds it",
			"POST /ListRooms HTTP/1.1\r\nHost: h\r\nDate: Mon, 23 Nov 2026 11:00:00 GMT\r\nX-Amz-Date: 20261123T120000Z\r\n",
			"date;host",
			"POST\n/ListRooms\n\ndate:Mon, 23 Nov 2026 11:00:00 GMT\nhost:h\n\ndate;host\n" + emptyHash,
		},
		{
			"headers that the SDK's signer leaves out by itself",
			"POST /ListRooms HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nUser-Agent: me  and   you\r\nX-Amzn-Trace-Id: Root=1\r\nX-Amz-Date: 20261123T120000Z\r\n",
			"expect;host;user-agent;x-amz-date;x-amzn-trace-id",
			"POST\n/ListRooms\n\nexpect:100-continue\nhost:h\nuser-agent:me and you\nx-amz-date:20261123T120000Z\nx-amzn-trace-id:Root=1\n\nexpect;host;user-agent;x-amz-date;x-amzn-trace-id\n" + emptyHash,
		},
		{
			"several values of one header, with spaces and in the request's order",
			"POST /ListRooms HTTP/1.1\r\nHost: h\r\nX-Note: b  b\r\nX-Amz-Date: 20261123T120000Z\r\nx-note:  a\t\r\n",
			"host;x-amz-date;x-note",
			"POST\n/ListRooms\n\nhost:h\nx-amz-date:20261123T120000Z\nx-note:b b,a\n\nhost;x-amz-date;x-note\n" + emptyHash,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			var v Verifier
			verify := func(signature string) error {
				r, body, err := read([]byte(c.request + "Authorization: AWS4-HMAC-SHA256 Credential=" + longTerm +
					"/20261123/us-west-2/ivschat/aws4_request, SignedHeaders=" + c.signed + ", Signature=" + signature + "\r\n\r\n"))
				if err != nil {
					t.Fatal(err)
				}
				_, err = v.Verify(r, body, noon, keys)
				return err
			}
			if err := verify(textbook(c.canonical, "20261123T120000Z")); err != nil {
				t.Errorf("got %v, want it verified", err)
			}
			other := strings.Replace(c.canonical, ":h", ":g", 1)
			if err := verify(textbook(other, "20261123T120000Z")); !errors.Is(err, ivschat.InvalidSignature) {
				t.Errorf("signed for another host: got %v, want InvalidSignature", err)
			}
		})
	}
}

// Transfer-Encoding is another header that net/http takes out of the map.
func TestSignedTransferEncoding(t *testing.T) {
	var v Verifier
	canonical := "POST\n/ListRooms\n\nhost:h\ntransfer-encoding:chunked\nx-amz-date:20261123T120000Z\n\nhost;transfer-encoding;x-amz-date\n" +
		"44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
	r, body, err := read([]byte("POST /ListRooms HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nX-Amz-Date: 20261123T120000Z\r\n" +
		"Authorization: AWS4-HMAC-SHA256 Credential=" + longTerm + "/20261123/us-west-2/ivschat/aws4_request, SignedHeaders=host;transfer-encoding;x-amz-date, Signature=" +
		textbook(canonical, "20261123T120000Z") + "\r\n\r\n2\r\n{}\r\n0\r\n\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(r, body, noon, keys); err != nil {
		t.Error(err)
	}
	r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), "host;", "content-length;host;", 1))
	if _, err := v.Verify(r, body, noon, keys); err == nil || !strings.Contains(err.Error(), "no header 'content-length'") {
		t.Errorf("content-length signed of a body without a length: got %v", err)
	}
}

// agree fails unless our own canonical form gives the signer's signature, for a
// claim that the signer can express.
func agree(tb interface{ Fatalf(string, ...any) }, c *claim) (compared bool) {
	signature, listed, query := c.sign(secret)
	if listed != c.signedHeaders {
		return false
	}
	canonical := c.canonical(query)
	if got := hmacHex(c.signingKey(secret), c.stringToSign(canonical)); got != signature {
		tb.Fatalf("our signature %s, the signer's %s, over\n%q", got, signature, canonical)
	}
	return true
}

func TestCanonicalFormIsTheSigners(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOf(rapid.OneOf(rapid.RuneFrom([]rune(" \t,;=%&+/?:~-_.abzAZ09\u00a0é日'\"\\")), rapid.Rune()))
		values := url.Values{}
		for range rapid.IntRange(0, 5).Draw(t, "pairs") {
			values.Add(rapid.SampledFrom([]string{"tagKeys", "a", "é", "a b", ""}).Draw(t, "name"), text.Draw(t, "value"))
		}
		c := claim{
			authorization: authorization{accessKeyID: longTerm, day: "20261123", region: "us-west-2"},
			date:          noon,
			method:        rapid.SampledFrom([]string{"GET", "POST", "DELETE", "get"}).Draw(t, "method"),
			path:          "/" + strings.ReplaceAll(text.Draw(t, "path"), "?", ""),
			query:         values,
			rawQuery:      values.Encode(),
			host:          rapid.SampledFrom([]string{"h", "h:80", "[::1]:9000", "  a   b "}).Draw(t, "host"),
			contentLength: int64(rapid.IntRange(1, 1<<20).Draw(t, "length")),
			payload:       emptyHash,
		}
		c.headers = append(c.headers, header{"content-length", []string{fmt.Sprint(c.contentLength)}})
		if rapid.Bool().Draw(t, "expect") {
			c.headers = append(c.headers, header{"expect", []string{text.Draw(t, "value")}})
		}
		c.headers = append(c.headers, header{"host", []string{c.host}}, header{"x-amz-date", []string{c.date.Format(stampLayout)}})
		if rapid.Bool().Draw(t, "note") {
			c.headers = append(c.headers, header{"x-note", rapid.SliceOfN(text, 1, 4).Draw(t, "values")})
		}
		var names []string
		for _, h := range c.headers {
			names = append(names, h.name)
		}
		c.signedHeaders = strings.Join(names, ";")
		if !agree(t, &c) {
			t.Fatalf("the signer signed another list than %s", c.signedHeaders)
		}
	})
}

// Thousands of headers cost no more than their bytes: unsigned ones nothing, and
// ten times the signed ones ten times as much, sorting aside.
func TestManyHeaders(t *testing.T) {
	var v Verifier
	allocations := func(s signing) float64 {
		r, body := s.request(t)
		return testing.AllocsPerRun(3, func() {
			if _, err := v.Verify(r, body, noon, keys); err != nil {
				t.Fatal(err)
			}
		})
	}
	add := func(n int) func(*http.Request) {
		return func(r *http.Request) {
			for i := range n {
				r.Header.Set(fmt.Sprintf("X-Note-%d", i), "a  b")
			}
		}
	}
	few, none := allocations(signing{}), allocations(signing{tamper: add(10_000)})
	if none != few {
		t.Errorf("10,000 unsigned headers: %v allocations, without them %v", none, few)
	}
	some, many := allocations(signing{change: add(1_000)}), allocations(signing{change: add(10_000)})
	if many > 15*some {
		t.Errorf("10,000 signed headers: %v allocations, 1,000: %v", many, some)
	}
}

func TestDates(t *testing.T) {
	for value, want := range map[string]time.Time{
		"Mon, 23 Nov 2026 12:00:00 GMT":  noon,
		"20261123T120000Z":               noon,
		"Mon, 23 Nov 2026 12:00:00 PST":  {}, // a zone that Go would take for UTC
		"Monday, 23-Nov-26 12:00:00 GMT": {},
		"2026-11-23T12:00:00Z":           {},
		"20261123T1200Z":                 {},
		"":                               {},
	} {
		got, ok, err := readDate(http.Header{"Date": {value}})
		if ok == want.IsZero() || (err == nil) == want.IsZero() || !got.Equal(want) {
			t.Errorf("%q: got %v, %v, %v; want %v", value, got, ok, err, want)
		}
	}
}
