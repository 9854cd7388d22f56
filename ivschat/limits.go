package ivschat

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The fixed limits of the service. Lengths count Unicode code points unless the
// name says bytes. Source: API model; spec quotas 3.
const (
	MaxNameLength            = 128
	MaxARNLength             = 128
	MaxLambdaARNLength       = 170
	MaxUserIDLength          = 128
	MaxEventNameLength       = 100
	MaxReasonLength          = 256
	MaxNextTokenLength       = 1024
	MaxTags                  = 50
	MaxTagKeyLength          = 128
	MaxTagValueLength        = 256
	MaxPageSize              = 50
	MaxRoomConfigurations    = 3 // logging configurations attached to one room
	MaxSessionMinutes        = 180
	DefaultSessionMinutes    = 60
	MaxMessageRate           = 100 // messages per second
	DefaultMessageRate       = 10
	MaxMessageLength         = 500
	DefaultMessageLength     = 500
	MaxBucketNameLength      = 63
	MinBucketNameLength      = 3
	MaxLogGroupNameLength    = 512
	MaxDeliveryStreamLength  = 64
	MaxAttributesBytes       = 1024 // all keys and values in UTF-8
	MaxRequestIDBytes        = 1024
	MaxFrameBytes            = 16 << 10 // beyond it a frame is answered with 413
	MaxCloseReasonBytes      = 123      // RFC 6455, 5.5: 125 less the code
	exampleRoomARN           = "arn:aws:ivschat:us-west-2:123456789012:room/AbCdEf123456"
	exampleConfigurationARN  = "arn:aws:ivschat:us-west-2:123456789012:logging-configuration/AbCdEf123456"
	exampleLambdaFunctionARN = "arn:aws:lambda:us-west-2:123456789012:function:moderate"
)

// The patterns of the API model, anchored. Source: spec control-plane 4 and 5.
var (
	namePattern           = regexp.MustCompile(`^[a-zA-Z0-9-_]*$`)
	lambdaPattern         = regexp.MustCompile(`^$|^arn:aws:lambda:[a-z0-9-]+:[0-9]{12}:function:.+$`)
	bucketPattern         = regexp.MustCompile(`^[a-z0-9-.]+$`)
	logGroupPattern       = regexp.MustCompile(`^[\.\-_/#A-Za-z0-9]+$`)
	deliveryStreamPattern = regexp.MustCompile(`^[a-zA-Z0-9_.-]+$`)
	tagPattern            = regexp.MustCompile(`^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$`)
)

// IsLambdaARN says whether s is a Lambda function as a room may name one, with or
// without version or alias. Source: API model, LambdaArn.
func IsLambdaARN(s string) bool {
	return s != "" && utf8.RuneCountInString(s) <= MaxLambdaARNLength && lambdaPattern.MatchString(s)
}

// AttributesBytes is the size that the 1 KB limits speak of: the UTF-8 bytes of
// all keys and values. Source: spec control-plane 9.1.
func AttributesBytes(attributes map[string]string) int {
	n := 0
	for k, v := range attributes {
		n += len(k) + len(v)
	}
	return n
}

// checks collects every member that fails, in the order in which it is asked.
type checks struct{ failed []Field }

func (c *checks) fail(name, format string, args ...any) {
	c.failed = append(c.failed, Invalid(name, fmt.Sprintf(format, args...)))
}

func (c *checks) err() error { return InvalidFields(c.failed...) }

// required is length for a member that must be there: absent is the same as empty.
func (c *checks) required(name, value string, most int) bool {
	if value == "" {
		c.fail(name, "is required and must not be empty")
		return false
	}
	return c.length(name, value, 1, most)
}

// length checks a number of code points and says whether it was within bounds.
func (c *checks) length(name, value string, least, most int) bool {
	n := utf8.RuneCountInString(value)
	switch {
	case n == 0 && least > 0:
		c.fail(name, "must not be empty")
	case n < least || n > most:
		c.fail(name, "must have a length of %d to %d characters, but has %d", least, most, n)
	default:
		return true
	}
	return false
}

// pattern checks length and pattern; the value is shown, so it must not be a
// sensitive member.
func (c *checks) pattern(name, value string, least, most int, p *regexp.Regexp) {
	if c.length(name, value, least, most) && !p.MatchString(value) {
		c.fail(name, "must match %s, but is %q", strings.Trim(p.String(), "^$|"), shorten(value))
	}
}

func (c *checks) optionalPattern(name string, value *string, least, most int, p *regexp.Regexp) {
	if value != nil {
		c.pattern(name, *value, least, most, p)
	}
}

func (c *checks) rangeOf(name string, value *Integer, least, most int) {
	if value == nil || int(*value) >= least && int(*value) <= most {
		return
	}
	given := strconv.Itoa(int(*value))
	if *value == math.MaxInt32 || *value == math.MinInt32 { // Integer keeps what is beyond at the border
		given = "far beyond"
	}
	c.fail(name, "must be a whole number from %d to %d, but is %s", least, most, given)
}

// arn checks an identifier. The most common mistake, a bare id, is named.
func (c *checks) arn(name string, value ARN, p *regexp.Regexp, example string) {
	switch v := string(value); {
	case v == "":
		c.fail(name, "is required: an ARN like %s", example)
	case !c.length(name, v, 1, MaxARNLength):
	case p.MatchString(v):
	case IsID(v):
		c.fail(name, "must be an ARN like %s, but %q is a bare id: pass the resource's \"arn\", not its \"id\"", example, v)
	default:
		c.fail(name, "must be an ARN like %s, but is %q", example, shorten(v))
	}
}

func (c *checks) room(name string, value ARN) { c.arn(name, value, roomARN, exampleRoomARN) }

func (c *checks) configuration(name string, value ARN) {
	c.arn(name, value, loggingConfigurationARN, exampleConfigurationARN)
}

// resource checks the ARN of a tag operation.
func (c *checks) resource(name string, value ARN) {
	if _, ok := value.Parse(); !ok || len(value) > MaxARNLength {
		c.room(name, value)
	}
}

func (c *checks) configurations(name string, list ARNs) {
	if len(list) > MaxRoomConfigurations {
		c.fail(name, "must have at most %d items, but has %d", MaxRoomConfigurations, len(list))
		return
	}
	for i, a := range list {
		c.configuration(name, a)
		for _, earlier := range list[:i] {
			if a == earlier {
				c.fail(name, "must not name a logging configuration twice, but %q is", shorten(string(a)))
			}
		}
	}
}

func (c *checks) handler(name string, h *ReviewHandlerInput) {
	if h == nil {
		return
	}
	if u := h.URI; u != nil && c.length(name+".uri", *u, 0, MaxLambdaARNLength) && !lambdaPattern.MatchString(*u) {
		c.fail(name+".uri", "must be empty or the ARN of a Lambda function like %s, but is %q", exampleLambdaFunctionARN, shorten(*u))
	}
	if f := h.FallbackResult; f != nil && *f != FallbackAllow && *f != FallbackDeny {
		c.fail(name+".fallbackResult", "must be ALLOW or DENY, but is %q", shorten(string(*f)))
	}
}

func (c *checks) tags(name string, tags Strings) {
	if len(tags) > MaxTags {
		c.fail(name, "must have at most %d items, but has %d", MaxTags, len(tags))
		return // and not one message for each of thousands
	}
	for _, key := range tags.Keys() {
		value := tags[key]
		if key == "" {
			c.fail(name, "a key must not be empty")
		} else if c.length(name, key, 1, MaxTagKeyLength) && !tagPattern.MatchString(key) {
			c.fail(name, "a key may have letters, digits, spaces and _ . : / = + - @ only, but one is %q", shorten(key))
		}
		if c.length(name, value, 0, MaxTagValueLength) && !tagPattern.MatchString(value) {
			c.fail(name, "a value may have letters, digits, spaces and _ . : / = + - @ only, but that of %q has others", shorten(key))
		}
		if reserved(key) || reserved(value) {
			c.fail(name, "keys and values must not begin with the reserved \"aws:\", but %q does", shorten(key))
		}
	}
}

func (c *checks) attributes(name string, attributes map[string]string, most int) {
	if n := AttributesBytes(attributes); most > 0 && n > most {
		c.fail(name, "must have at most %d bytes in all keys and values together, but has %d", most, n)
	}
}

func (c *checks) page(nextToken *string, size *Integer) {
	if nextToken != nil {
		c.length("nextToken", *nextToken, 0, MaxNextTokenLength)
	}
	c.rangeOf("maxResults", size, 1, MaxPageSize)
}

// reserved says whether s has the prefix that the service keeps for itself.
func reserved(s string) bool { return len(s) >= 4 && strings.EqualFold(s[:4], "aws:") }

// shorten keeps what a caller gave short enough for an error message.
func shorten(s string) string {
	const most = 150
	if len(s) <= most {
		return s
	}
	cut := most
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "..."
}
