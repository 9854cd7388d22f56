package sigv4

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"hubbub/ivschat"
)

// DefaultWindow is how far a request's date may be from the server's clock
// unless Verifier says otherwise, in both directions.
// Source: spec iam A.2.8.
const DefaultWindow = 5 * time.Minute

// Key is what a signature is checked against. It prints as [sealed].
type Key struct {
	Secret       string    // never empty; a Key without one counts as unknown
	SessionToken string    // of temporary credentials; "" = long-term
	Expires      time.Time // the first instant at which it is not good any more; zero = never
}

// Format keeps the secret out of whatever a Key is printed to.
func (Key) Format(f fmt.State, _ rune) { io.WriteString(f, "[sealed]") }

// LogValue keeps the secret out of the log.
func (Key) LogValue() slog.Value { return slog.StringValue("[sealed]") }

// Verifier holds the settings of Verify. The zero value works: 5 minutes, any
// region. It is not changed by use; change it only before that.
type Verifier struct {
	// Window is how far a request's date may be from now, the edge included;
	// 0 = DefaultWindow.
	Window time.Duration
	// Region says whether requests may be scoped to a region; nil = to any name
	// of 1 to 32 lower-case letters, digits and hyphens. It is only asked for
	// such names.
	Region func(region string) bool
	// Debug appends the canonical request and the string to sign to the refusal
	// of a wrong signature, session tokens left out. Both are built from what
	// the caller sent, and hold no secret.
	Debug bool
}

// Identity is who signed a request.
type Identity struct {
	AccessKeyID string
	Region      string // of the credential scope
}

// noKey stands in for a key that does not exist, so that its requests cost what
// the others cost.
var noKey = Key{Secret: "no such key, and nothing it signs will verify"}

const (
	mismatch     = "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
	unrecognized = "The security token included in the request is invalid."
	expired      = "The security token included in the request is expired"
)

// Verify checks that the request, with the body that was read from it, was
// signed by the key it names, for this service and an allowed region, at most
// Window before or after now.
//
// lookup is called once, with the id that the request names, if the request is
// well-formed; it returns false for unknown and disabled keys alike. Errors are
// *ivschat.Error of the kinds MissingAuthenticationToken, IncompleteSignature,
// InvalidSignature, UnrecognizedClient and ExpiredToken; none holds a secret, a
// token or a signature. Verify changes neither request nor body, and does not
// read r.Body.
//
// Source: spec iam A.2 (what is checked), A.4 (credentials), A.5 (refusals).
func (v *Verifier) Verify(r *http.Request, body []byte, now time.Time, lookup func(accessKeyID string) (Key, bool)) (Identity, error) {
	c, token, err := readClaim(r)
	if err != nil {
		return Identity{}, err
	}
	if err := v.checkScope(c, now); err != nil {
		return Identity{}, err
	}
	sum := sha256.Sum256(body)
	c.payload = hex.EncodeToString(sum[:])
	if stated := r.Header["X-Amz-Content-Sha256"]; stated != nil && (len(stated) > 1 || stated[0] != c.payload) {
		return Identity{}, invalid("X-Amz-Content-Sha256 must be the hexadecimal SHA-256 of the body as it was sent; UNSIGNED-PAYLOAD and STREAMING payloads are not supported.")
	}

	key, known := lookup(c.accessKeyID)
	if !known || key.Secret == "" {
		key, known = noKey, false
	}
	// All is computed before anything is judged: see "Order of the answers".
	tokenOK := subtle.ConstantTimeCompare([]byte(token.value), []byte(key.SessionToken)) == 1 && token.given == (key.SessionToken != "")
	signed := c.matches(key.Secret)
	switch {
	case !known || !tokenOK:
		return Identity{}, ivschat.Refuse(ivschat.UnrecognizedClient, unrecognized)
	case !key.Expires.IsZero() && !now.Before(key.Expires):
		return Identity{}, ivschat.Refuse(ivschat.ExpiredToken, expired)
	case !signed && v.Debug:
		return Identity{}, invalid(mismatch + c.explain())
	case !signed:
		return Identity{}, invalid(mismatch)
	}
	return Identity{c.accessKeyID, c.region}, nil
}

// sessionToken is X-Amz-Security-Token; an empty one that is given is not the
// same as none.
type sessionToken struct {
	value string
	given bool
}

// readClaim checks presence and form, and gathers all but the payload.
func readClaim(r *http.Request) (*claim, sessionToken, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if query.Has("X-Amz-Signature") {
		return nil, sessionToken{}, incomplete("A signature in the query is not supported: sign with an Authorization header.")
	}
	c := claim{method: r.Method, query: query, rawQuery: r.URL.RawQuery, host: r.Host, contentLength: r.ContentLength}
	var formErr error
	if c.authorization, c.date, formErr = readAuthorization(r); formErr != nil {
		return nil, sessionToken{}, formErr
	}
	if err != nil { // the signer would drop such a pair and sign the rest
		return nil, sessionToken{}, invalid("The query of the request is not validly escaped.")
	}
	if c.path, err = readPath(r); err != nil {
		return nil, sessionToken{}, err
	}
	if c.headers, err = readHeaders(r, c.signedHeaders); err != nil {
		return nil, sessionToken{}, err
	}
	tokens := r.Header["X-Amz-Security-Token"]
	switch len(tokens) {
	case 0:
		return &c, sessionToken{}, nil
	case 1:
		return &c, sessionToken{tokens[0], true}, nil
	}
	return nil, sessionToken{}, incomplete("The request has more than one X-Amz-Security-Token header.")
}

// checkScope checks what the signature is limited to: region, service, day and time.
func (v *Verifier) checkScope(c *claim, now time.Time) error {
	if !isRegion(c.region) || v.Region != nil && !v.Region(c.region) {
		return invalid("Credential should be scoped to a valid region.")
	}
	if c.service != service {
		return invalid("Credential should be scoped to correct service: '" + service + "'.")
	}
	if c.terminator != terminator {
		return invalid("Credential should be scoped with a valid terminator: '" + terminator + "'")
	}
	stamp := c.date.Format(stampLayout)
	if day := c.date.Format(dayLayout); c.day != day {
		return invalid("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: " +
			shown(c.day) + " != '" + day + "', from '" + stamp + "'.")
	}
	window := v.Window
	if window == 0 {
		window = DefaultWindow
	}
	now = now.UTC().Truncate(time.Second) // as precise as the request's date is
	clock := now.Format(stampLayout)
	if first := now.Add(-window); c.date.Before(first) {
		return invalid("Signature expired: " + stamp + " is now earlier than " + first.Format(stampLayout) + " (" + clock + " - " + minutes(window) + ")")
	}
	if last := now.Add(window); c.date.After(last) {
		return invalid("Signature not yet current: " + stamp + " is still later than " + last.Format(stampLayout) + " (" + clock + " + " + minutes(window) + ")")
	}
	return nil
}

// isRegion says whether a name has the form of a region: [a-z0-9-]{1,32}.
func isRegion(name string) bool {
	for i := range len(name) {
		if c := name[i]; !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-') {
			return false
		}
	}
	return 1 <= len(name) && len(name) <= 32
}

// minutes words a window as the service does: "5 min."
func minutes(d time.Duration) string {
	if d%time.Minute == 0 {
		return strconv.FormatInt(int64(d/time.Minute), 10) + " min."
	}
	return d.String()
}

// explain words what should have been signed, as the original does.
func (c *claim) explain() string {
	_, _, query := c.sign(noKey.Secret)
	sealed := *c
	sealed.headers = slices.Clone(c.headers)
	for i, h := range sealed.headers {
		if h.name == "x-amz-security-token" {
			sealed.headers[i].values = []string{"[sealed]"}
		}
	}
	// Header values may be any bytes, a message is UTF-8.
	return strings.ToValidUTF8("\n\nThe Canonical String for this request should have been\n'"+sealed.canonical(query)+
		"'\n\nThe String-to-Sign should have been\n'"+c.stringToSign(c.canonical(query))+"'\n", "?")
}
