package sigv4

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// claim is everything that goes into a signature, as the request has it.
type claim struct {
	authorization
	date          time.Time // UTC, whole seconds
	method        string
	path          string // as on the wire, still escaped; begins with "/"
	query         url.Values
	rawQuery      string
	host          string
	contentLength int64
	headers       []header // as SignedHeaders lists them
	payload       string   // hex SHA-256 of the body
}

// header is a signed header with all its values, in the request's order.
type header struct {
	name   string // lower case
	values []string
}

// matches says whether the signature was made with the secret. It does the same
// work for every secret that does not match.
func (c *claim) matches(secret string) bool {
	signature, listed, query := c.sign(secret)
	// A list other than ours means that the signer could not express the
	// request: it always signs X-Amz-Date and never a content-length of 0.
	if listed != c.signedHeaders {
		signature = hmacHex(c.signingKey(secret), c.stringToSign(c.canonical(query)))
	}
	if subtle.ConstantTimeCompare([]byte(signature), []byte(c.signature)) == 1 {
		return true
	}
	other := unescapedOrder(c.query)
	if other == query {
		return false
	}
	signature = hmacHex(c.signingKey(secret), c.stringToSign(c.canonical(other)))
	return subtle.ConstantTimeCompare([]byte(signature), []byte(c.signature)) == 1
}

// sign has aws-sdk-go-v2 sign the request and returns the signature, the
// header list that the signer made it over, and its canonical query.
func (c *claim) sign(secret string) (signature, listed, query string) {
	r := http.Request{
		Method: c.method,
		// Opaque is the signer's own way to hand it a path as it was on the wire.
		URL:    &url.URL{Opaque: "//-" + c.path, RawQuery: c.rawQuery},
		Host:   c.host,
		Header: make(http.Header, len(c.headers)+2),
	}
	for _, h := range c.headers {
		switch h.name {
		case "host", "x-amz-date": // the signer writes these itself
		case "content-length":
			r.ContentLength = c.contentLength
		default:
			// Lower case keeps the signer from leaving out what it ignores by
			// default (User-Agent, Expect, ...): what the client listed, it signed.
			r.Header[h.name] = h.values
		}
	}
	// A new signer each time: a signer caches derived keys by access key id, so it
	// would honour a secret that has been replaced, and answer a known id sooner.
	credentials := aws.Credentials{AccessKeyID: c.accessKeyID, SecretAccessKey: secret}
	if err := v4.NewSigner().SignHTTP(context.Background(), credentials, &r, c.payload, service, c.region, c.date); err != nil {
		return "", "", ""
	}
	signed, err := parseAuthorization(r.Header.Get("Authorization"))
	if err != nil {
		return "", "", ""
	}
	return signed.signature, signed.signedHeaders, r.URL.RawQuery
}

// canonical is the canonical request with the given canonical query.
// Source: spec iam A.2.
func (c *claim) canonical(query string) string {
	var b strings.Builder
	b.Grow(len(c.method) + 2*len(c.path) + len(query) + 2*len(c.signedHeaders) + 256)
	b.WriteString(c.method)
	b.WriteByte('\n')
	writeEscaped(&b, c.path)
	b.WriteByte('\n')
	b.WriteString(query)
	b.WriteByte('\n')
	for _, h := range c.headers {
		b.WriteString(h.name)
		for i, v := range h.values {
			b.WriteByte(":,"[min(i, 1)])
			b.WriteString(folded(v))
		}
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
	b.WriteString(c.signedHeaders)
	b.WriteByte('\n')
	b.WriteString(c.payload)
	return b.String()
}

// stringToSign binds a canonical request to date and scope.
func (c *claim) stringToSign(canonical string) string {
	sum := sha256.Sum256([]byte(canonical))
	return algorithm + "\n" + c.date.Format(stampLayout) + "\n" +
		c.day + "/" + c.region + "/" + service + "/" + terminator + "\n" + hex.EncodeToString(sum[:])
}

// signingKey derives the key of the request's day and region from the secret.
func (c *claim) signingKey(secret string) []byte {
	key := []byte("AWS4" + secret)
	for _, part := range []string{c.day, c.region, service, terminator} {
		key = hmacSum(key, part)
	}
	return key
}

func hmacSum(key []byte, data string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(data))
	return h.Sum(nil)
}

func hmacHex(key []byte, data string) string { return hex.EncodeToString(hmacSum(key, data)) }

// unescapedOrder is the canonical query as Go SDKs up to v1.41 at least sign it:
// names and values are sorted before they are escaped.
// Source: spec clients-wire, trap 1.
func unescapedOrder(query url.Values) string {
	for _, values := range query {
		slices.Sort(values)
	}
	return strings.ReplaceAll(query.Encode(), "+", "%20") // a "+" of the query is %2B by now
}

// writeEscaped writes a path with all but "/" and the unreserved characters
// escaped, the percent signs of its own escapes included.
func writeEscaped(b *strings.Builder, path string) {
	const digits = "0123456789ABCDEF"
	for i := range len(path) {
		switch c := path[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9',
			c == '-', c == '_', c == '.', c == '~', c == '/':
			b.WriteByte(c)
		default:
			b.WriteByte('%')
			b.WriteByte(digits[c>>4])
			b.WriteByte(digits[c&15])
		}
	}
}

// folded is a header value without outer white space and with inner runs of
// spaces as one.
func folded(v string) string {
	if !strings.Contains(v, "  ") {
		return strings.TrimSpace(v)
	}
	var b strings.Builder
	b.Grow(len(v))
	for i := range len(v) {
		if v[i] != ' ' || i == 0 || v[i-1] != ' ' {
			b.WriteByte(v[i])
		}
	}
	return strings.TrimSpace(b.String())
}

// readHeaders looks up the headers that SignedHeaders lists and insists on the
// ones without which a signature would not bind the request.
// Source: spec iam A.2.4.
func readHeaders(r *http.Request, list string) ([]header, error) {
	names := strings.Split(list, ";")
	for i, name := range names {
		if name == "" || name != strings.ToLower(name) || i > 0 && name <= names[i-1] {
			return nil, invalid("'SignedHeaders' must be lower-case header names in ascending order, each once, separated by ';'.")
		}
	}
	has := func(name string) bool { _, ok := slices.BinarySearch(names, name); return ok }
	if !has("host") {
		return nil, invalid("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
	}
	if !has("x-amz-date") && !has("date") {
		return nil, invalid("'X-Amz-Date' or 'Date' must be a 'SignedHeader' in the AWS Authorization.")
	}
	if has("authorization") {
		return nil, invalid("'Authorization' cannot be a 'SignedHeader': it holds the signature.")
	}
	if r.Header["X-Amz-Security-Token"] != nil && !has("x-amz-security-token") {
		return nil, invalid("'X-Amz-Security-Token' must be a 'SignedHeader' in the AWS Authorization.")
	}
	headers := make([]header, len(names))
	for i, name := range names {
		values := readHeader(r, name)
		if len(values) == 0 {
			return nil, invalid("The request has no header " + shown(name) + ", which its 'SignedHeaders' lists.")
		}
		headers[i] = header{name, values}
	}
	return headers, nil
}

// readHeader is the values of a header by its lower-case name, those that
// net/http keeps outside the header map included.
func readHeader(r *http.Request, name string) []string {
	switch name {
	case "host":
		if r.Host == "" {
			return nil
		}
		return []string{r.Host}
	case "content-length":
		if r.ContentLength < 0 {
			return nil
		}
		return []string{strconv.FormatInt(r.ContentLength, 10)}
	case "transfer-encoding":
		return r.TransferEncoding
	}
	return r.Header[http.CanonicalHeaderKey(name)]
}

// readPath is the path as it was on the wire. A path with a ".." segment, in
// whatever escaping, is refused: what was signed and what is meant could differ.
func readPath(r *http.Request) (string, error) {
	path, _, _ := strings.Cut(r.RequestURI, "?")
	if !strings.HasPrefix(path, "/") { // absolute form, or a request that did not come from a server
		path = r.URL.EscapedPath()
	}
	if path == "" {
		path = "/"
	}
	if path[0] != '/' {
		return "", invalid("The path of the request must begin with '/'.")
	}
	for segment := range strings.SplitSeq(r.URL.Path, "/") {
		if segment == ".." {
			return "", invalid("The path of the request must not have '..' segments.")
		}
	}
	return path, nil
}
