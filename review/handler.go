package review

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
)

// Handler says where a review handler lives: exactly one member is set.
type Handler struct {
	Lambda *Lambda
	HTTP   *HTTP
	Rules  *Rules
}

// Lambda is an endpoint that speaks Lambda's Invoke API.
type Lambda struct {
	Endpoint string // URL; "" is the AWS service
	Region   string // that requests are signed for; "" is the function's
}

// HTTP is an endpoint that gets the request by POST.
type HTTP struct {
	URL string
}

// Rules are decided here, in microseconds. Each zero value is off. They are asked
// in the order of the members; words to mask are masked in what passes the others.
// They look at the content alone, not at attributes.
type Rules struct {
	DenyWords  []string // whole words, in any letter case and through simple obfuscation
	MaskWords  []string // likewise; each of their characters becomes '*'
	DenyLinks  bool     // http://, https:// and www.
	MaxCaps    float64  // share of upper-case letters in a text with at least 8 letters, above 0 to 1
	MaxRepeats int      // longest run of one character
}

// Check says what is wrong with a handler, without asking anybody.
func (h Handler) Check() error {
	switch {
	case h.Lambda != nil && h.HTTP == nil && h.Rules == nil:
		if r := h.Lambda.Region; r != "" && !regionPattern.MatchString(r) {
			return fmt.Errorf("lambda: region must be 1 to 32 lower-case letters, digits and hyphens, but is %q", r)
		}
		if h.Lambda.Endpoint == "" {
			return nil
		}
		if err := checkURL(h.Lambda.Endpoint); err != nil {
			return fmt.Errorf("lambda: endpoint %w", err)
		}
		return nil
	case h.HTTP != nil && h.Lambda == nil && h.Rules == nil:
		if err := checkURL(h.HTTP.URL); err != nil {
			return fmt.Errorf("http: url %w", err)
		}
		return nil
	case h.Rules != nil && h.Lambda == nil && h.HTTP == nil:
		if _, err := h.Rules.compile(); err != nil {
			return fmt.Errorf("rules: %w", err)
		}
		return nil
	}
	return errors.New("exactly one of lambda, http and rules must be set")
}

var regionPattern = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)

// checkURL does not repeat the URL: it may hold a password.
func checkURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return errors.New("must be an address like http://127.0.0.1:9002/review or https://review.example.com")
	}
	return nil
}
