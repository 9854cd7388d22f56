package sigv4

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"hubbub/ivschat"
)

const (
	algorithm   = "AWS4-HMAC-SHA256"
	service     = "ivschat"
	terminator  = "aws4_request"
	stampLayout = "20060102T150405Z" // ISO 8601 basic, the only form that is signed
	dayLayout   = "20060102"
)

// authorization is the Authorization header, taken apart:
//
//	AWS4-HMAC-SHA256 Credential=AKID/20261123/us-west-2/ivschat/aws4_request, SignedHeaders=host;x-amz-date, Signature=41a8...
//
// Source: spec iam A.1.
type authorization struct {
	credential    string // the five parts below
	accessKeyID   string
	day           string
	region        string
	service       string
	terminator    string
	signedHeaders string
	signature     string
}

// incomplete is the refusal of a header whose form is wrong.
func incomplete(message string) error { return ivschat.Refuse(ivschat.IncompleteSignature, message) }

// invalid is the refusal of a header of good form that proves nothing.
func invalid(message string) error { return ivschat.Refuse(ivschat.InvalidSignature, message) }

// parseAuthorization splits the header's value into its three parameters, in
// any order, with or without spaces at the commas. It leaves out what is
// missing, so that all of it can be named at once. No refusal repeats the
// header: who mixes up the form may have put a secret or a token there.
func parseAuthorization(value string) (authorization, error) {
	var a authorization
	scheme, rest, spaced := strings.Cut(value, " ")
	if scheme != algorithm {
		if !spaced || len(scheme) > 32 {
			return a, incomplete("Unsupported AWS 'algorithm' (only " + algorithm + ").")
		}
		return a, incomplete("Unsupported AWS 'algorithm': " + shown(scheme) + ".")
	}
	rest = strings.Trim(rest, " \t")
	for more := rest != ""; more; {
		var part string
		part, rest, more = strings.Cut(rest, ",")
		name, value, ok := strings.Cut(strings.Trim(part, " \t"), "=")
		if !ok {
			return a, incomplete("Authorization header has a part that is not a valid key=value pair (missing equal-sign).")
		}
		var to *string
		switch name {
		case "Credential":
			to = &a.credential
		case "SignedHeaders":
			to = &a.signedHeaders
		case "Signature":
			to = &a.signature
		default:
			return a, incomplete("Authorization header has a parameter that is none of 'Credential', 'SignedHeaders', 'Signature'.")
		}
		if *to != "" {
			return a, incomplete("Authorization header has the '" + name + "' parameter more than once.")
		}
		*to = value
	}
	return a, nil
}

// splitCredential takes the credential apart into key id and scope.
func (a *authorization) splitCredential() error {
	if n := strings.Count(a.credential, "/") + 1; n != 5 {
		return incomplete("Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got " + strconv.Itoa(n) + " of them.")
	}
	rest := a.credential
	a.accessKeyID, rest, _ = strings.Cut(rest, "/")
	a.day, rest, _ = strings.Cut(rest, "/")
	a.region, rest, _ = strings.Cut(rest, "/")
	a.service, a.terminator, _ = strings.Cut(rest, "/")
	return nil
}

// readAuthorization reads the one Authorization header and the date that
// belongs to it, and refuses with every parameter that is missing.
func readAuthorization(r *http.Request) (authorization, time.Time, error) {
	var a authorization
	values := r.Header["Authorization"]
	if len(values) == 0 || len(values) == 1 && values[0] == "" {
		return a, time.Time{}, ivschat.Refuse(ivschat.MissingAuthenticationToken, "Missing Authentication Token")
	}
	if len(values) > 1 {
		return a, time.Time{}, incomplete("The request has more than one Authorization header.")
	}
	a, err := parseAuthorization(values[0])
	if err != nil {
		return a, time.Time{}, err
	}
	date, dated, err := readDate(r.Header)
	if err != nil {
		return a, date, err
	}
	var missing, given []string
	for _, p := range []struct{ name, value string }{
		{"Credential", a.credential}, {"Signature", a.signature}, {"SignedHeaders", a.signedHeaders},
	} {
		if p.value == "" {
			missing = append(missing, "Authorization header requires '"+p.name+"' parameter.")
		} else {
			given = append(given, p.name+"=...")
		}
	}
	if !dated {
		missing = append(missing, "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")
	}
	if missing != nil {
		// The original repeats the header here; it holds a signature, so only its shape is shown.
		shape := strings.TrimSpace(algorithm + " " + strings.Join(given, ", "))
		return a, date, incomplete(strings.Join(missing, " ") + " Authorization=" + shape)
	}
	return a, date, a.splitCredential()
}

// readDate reads X-Amz-Date or, without one, Date; the time is UTC and in whole
// seconds. ok is false if neither is there.
func readDate(h http.Header) (date time.Time, ok bool, err error) {
	name := "X-Amz-Date"
	values := h[name]
	if len(values) == 0 {
		name = "Date"
		if values = h[name]; len(values) == 0 {
			return time.Time{}, false, nil
		}
	}
	if len(values) > 1 {
		return time.Time{}, false, incomplete("The request has more than one " + name + " header.")
	}
	value := values[0]
	date, err = time.Parse(stampLayout, value)
	// Parse is lenient (fractions of a second); what is signed is the exact form.
	if err == nil && date.Format(stampLayout) == value {
		return date, true, nil
	}
	if name == "Date" {
		if date, err = time.Parse(http.TimeFormat, value); err == nil {
			return date, true, nil
		}
	}
	return time.Time{}, false, incomplete("Date must be in ISO-8601 'basic format'. Got " + shown(value) + ". See http://en.wikipedia.org/wiki/ISO_8601")
}

// shown quotes a foreign value for a message: short, and printable whatever its bytes are.
func shown(s string) string {
	if len(s) > 64 {
		s = s[:64]
	}
	quoted := strconv.QuoteToASCII(s)
	return "'" + quoted[1:len(quoted)-1] + "'"
}
