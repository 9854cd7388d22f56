package sigv4

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"hubbub/ivschat"
)

// recording is one row of testdata/recorded-requests.jsonl: a request as an
// official client put it on the wire, signed with AKIDEXAMPLE and SECRETEXAMPLE.
type recording struct {
	Client  string      `json:"client"`
	Order   string      `json:"order"`
	Method  string      `json:"method"`
	URL     string      `json:"url"`
	Headers [][2]string `json:"headers"`
	Body    string      `json:"body"`
}

func recordings(tb testing.TB) []recording {
	tb.Helper()
	data, err := os.ReadFile("testdata/recorded-requests.jsonl")
	if err != nil {
		tb.Fatal(err)
	}
	var rows []recording
	for line := range bytes.Lines(data) {
		var row recording
		if err := json.Unmarshal(line, &row); err != nil {
			tb.Fatal(err)
		}
		rows = append(rows, row)
	}
	if len(rows) < 200 {
		tb.Fatalf("%d recorded requests, the file has over 200", len(rows))
	}
	return rows
}

func (r recording) header(name string) string {
	for _, h := range r.Headers {
		if strings.EqualFold(h[0], name) {
			return h[1]
		}
	}
	return ""
}

func (r recording) signedHeaders() []string {
	_, list, _ := strings.Cut(r.header("Authorization"), "SignedHeaders=")
	list, _, _ = strings.Cut(list, ",")
	return strings.Split(list, ";")
}

func (r recording) time(tb testing.TB) time.Time {
	tb.Helper()
	at, err := time.Parse(stampLayout, r.header("X-Amz-Date"))
	if err != nil {
		tb.Fatal(err)
	}
	return at
}

// raw is the request's bytes and the positions that the signature covers: method,
// request target, signed headers, Authorization and body.
func (r recording) raw() (data []byte, covered []int) {
	signed := append(r.signedHeaders(), "authorization")
	cover := func(from int) {
		for i := from; i < len(data); i++ {
			covered = append(covered, i)
		}
	}
	data = append(data, r.Method+" "+r.URL...)
	cover(0)
	data = append(data, " HTTP/1.1\r\n"...)
	for _, h := range r.Headers {
		from := len(data)
		data = append(data, h[0]+": "+h[1]...)
		if slices.Contains(signed, strings.ToLower(h[0])) {
			cover(from)
		}
		data = append(data, "\r\n"...)
	}
	data = append(data, "\r\n"...)
	from := len(data)
	data = append(data, r.Body...)
	cover(from)
	return data, covered
}

// read parses raw bytes as a server does.
func read(raw []byte) (*http.Request, []byte, error) {
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
	if err != nil {
		return nil, nil, err
	}
	body, err := io.ReadAll(r.Body)
	return r, body, err
}

func exampleKey(id string) (Key, bool) {
	return Key{Secret: "SECRETEXAMPLE"}, id == "AKIDEXAMPLE"
}

func TestEveryRecordedRequestVerifies(t *testing.T) {
	var v Verifier
	for i, row := range recordings(t) {
		raw, _ := row.raw()
		r, body, err := read(raw)
		if err != nil {
			t.Fatalf("row %d (%s %s %s): net/http does not take it: %v", i, row.Client, row.Method, row.URL, err)
		}
		if string(body) != row.Body {
			t.Fatalf("row %d: body %q, want %q", i, body, row.Body)
		}
		got, err := v.Verify(r, body, row.time(t), exampleKey)
		if want := (Identity{"AKIDEXAMPLE", "us-west-2"}); err != nil || got != want {
			t.Errorf("row %d (%s, %s order, %s %s): got %v, %v; want %v: an official client would be locked out",
				i, row.Client, row.Order, row.Method, row.URL, got, err, want)
		}
	}
}

// meaning is what a signature binds, as far as two requests that differ in bytes
// may yet be equal by the rules: case of header names, case of the hex digits of
// an escape in the query (it is decoded and escaped anew). The path has none.
func meaning(r *http.Request, body []byte, signed []string) string {
	path, _, _ := strings.Cut(r.RequestURI, "?")
	query, err := url.ParseQuery(r.URL.RawQuery)
	var pairs []string
	for k, values := range query {
		for _, v := range values {
			pairs = append(pairs, fmt.Sprintf("%q=%q", k, v))
		}
	}
	slices.Sort(pairs)
	var b strings.Builder
	fmt.Fprintf(&b, "%q %q %v %v %q %q %d", r.Method, path, pairs, err, body, r.Host, r.ContentLength)
	for _, name := range append(signed, "authorization") {
		fmt.Fprintf(&b, " %q", r.Header.Values(name))
	}
	return b.String()
}

// Every covered byte of every row is altered by its lowest bit, and in one row of
// each kind (client, method, header list, with or without a query, order) in two
// more ways: letter case and the highest bit.
func TestNoAlteredRequestVerifies(t *testing.T) {
	var altered, refusedByHTTP, equal atomic.Int64
	t.Run("rows", func(t *testing.T) {
		seen := map[string]bool{}
		for i, row := range recordings(t) {
			kind := fmt.Sprint(row.Client, row.Method, row.signedHeaders(), strings.Contains(row.URL, "?"), row.Order)
			masks := []byte{0x01}
			if !seen[kind] {
				seen[kind] = true
				masks = []byte{0x01, 0x20, 0x80}
			}
			t.Run(fmt.Sprintf("%d-%s", i, row.Client), func(t *testing.T) {
				t.Parallel()
				var v Verifier
				raw, covered := row.raw()
				r, body, err := read(raw)
				if err != nil {
					t.Fatal(err)
				}
				at := row.time(t)
				original := meaning(r, body, row.signedHeaders())
				for _, pos := range covered {
					for _, mask := range masks {
						raw[pos] ^= mask
						r, body, err := read(raw)
						switch {
						case err != nil:
							refusedByHTTP.Add(1)
						case meaning(r, body, row.signedHeaders()) == original:
							equal.Add(1)
						default:
							altered.Add(1)
							if _, err := v.Verify(r, body, at, exampleKey); err == nil {
								t.Errorf("verifies with byte %d altered: %q", pos, raw[max(0, pos-20):min(len(raw), pos+20)])
							}
						}
						raw[pos] ^= mask
					}
				}
			})
		}
		if len(seen) < 15 {
			t.Errorf("only %d kinds of rows, the file has more", len(seen))
		}
	})
	t.Logf("%d altered requests refused, %d not even HTTP, %d equal by the rules", altered.Load(), refusedByHTTP.Load(), equal.Load())
	if altered.Load() < 20_000 || equal.Load() > altered.Load()/20 {
		t.Error("too few real alterations: the test has lost its grip")
	}
}

// A byte more or less in body, path or query is an alteration too.
func TestNoLengthenedOrShortenedRequestVerifies(t *testing.T) {
	var v Verifier
	for i, row := range recordings(t) {
		for _, alter := range []struct {
			what  string
			alter func(*http.Request, *[]byte) bool
		}{
			{"body and a space", func(_ *http.Request, b *[]byte) bool { *b = append(*b, ' '); return true }},
			{"body less a byte", func(_ *http.Request, b *[]byte) bool {
				if len(*b) == 0 {
					return false
				}
				*b = (*b)[:len(*b)-1]
				return true
			}},
			{"path and a slash", func(r *http.Request, _ *[]byte) bool {
				r.RequestURI = strings.Replace(r.RequestURI, r.URL.EscapedPath(), r.URL.EscapedPath()+"/", 1)
				r.URL.Path += "/"
				r.URL.RawPath = ""
				return true
			}},
			{"query and a pair", func(r *http.Request, _ *[]byte) bool { r.URL.RawQuery += "&tagKeys=more"; return true }},
			{"query and a pair that does not decode", func(r *http.Request, _ *[]byte) bool { r.URL.RawQuery += "&tagKeys=%zz"; return true }},
			{"query and a semicolon", func(r *http.Request, _ *[]byte) bool { r.URL.RawQuery += "&a;b"; return true }},
			{"one more value of a signed header", func(r *http.Request, _ *[]byte) bool {
				for _, name := range row.signedHeaders() {
					if r.Header.Get(name) != "" && name != "content-length" { // net/http has judged that one
						r.Header.Add(name, "x")
						return true
					}
				}
				return false
			}},
			{"another host", func(r *http.Request, _ *[]byte) bool { r.Host = "127.0.0.1"; return true }},
		} {
			raw, _ := row.raw()
			r, body, err := read(raw)
			if err != nil {
				t.Fatal(err)
			}
			if !alter.alter(r, &body) {
				continue
			}
			if _, err := v.Verify(r, body, row.time(t), exampleKey); err == nil {
				t.Errorf("row %d (%s %s %s) verifies with %s", i, row.Client, row.Method, row.URL, alter.what)
			}
		}
	}
}

func TestRecordedRequestsFailOutsideTheirTime(t *testing.T) {
	var v Verifier
	row := recordings(t)[0]
	raw, _ := row.raw()
	r, body, err := read(raw)
	if err != nil {
		t.Fatal(err)
	}
	for _, late := range []time.Duration{-24 * time.Hour, -301 * time.Second, 301 * time.Second, 24 * time.Hour} {
		if _, err := v.Verify(r, body, row.time(t).Add(late), exampleKey); !errors.Is(err, ivschat.InvalidSignature) {
			t.Errorf("%v after its date: got %v, want InvalidSignature", late, err)
		}
	}
}
