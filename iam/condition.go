package iam

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// condition is one key under one operator of a statement.
type condition struct {
	operator operator
	key      string // as foldKey makes it
	values   []template
	written  string // "StringEquals aws:ResourceTag/team", for the log
}

// qualifier says how a condition takes a key with several values.
type qualifier int

const (
	plain qualifier = iota
	forAll
	forAny
)

// operator is a condition operator, taken apart.
type operator struct {
	qualifier qualifier
	ifExists  bool
	null      bool // asks whether the key is there, not what it holds
	negated   bool
	pattern   bool // values are patterns
	compare   func(have, want string) bool
	fits      func(pattern []token, have string) bool // with pattern
	valid     func(want string) error                 // nil if any value will do
}

// parseOperator takes "ForAllValues:StringEqualsIfExists" apart.
func parseOperator(name string) (operator, error) {
	o := operator{}
	base := name
	for _, q := range []struct {
		prefix string
		is     qualifier
	}{{"ForAllValues:", forAll}, {"ForAnyValue:", forAny}} {
		if rest, ok := cutFold(base, q.prefix); ok {
			o.qualifier, base = q.is, rest
			break
		}
	}
	if len(base) > 8 && strings.EqualFold(base[len(base)-8:], "IfExists") {
		o.ifExists, base = true, base[:len(base)-8]
	}
	numeric, date := comparisons(number), comparisons(moment)
	lower := strings.ToLower(base)
	switch lower {
	case "stringequals", "stringnotequals":
		o.compare = func(a, b string) bool { return a == b }
	case "stringequalsignorecase", "stringnotequalsignorecase":
		o.compare = strings.EqualFold
	case "stringlike", "stringnotlike":
		o.pattern, o.fits = true, func(p []token, have string) bool { return match(p, []rune(have)) }
	case "arnequals", "arnlike", "arnnotequals", "arnnotlike":
		o.pattern, o.fits = true, matchARN
	case "bool":
		o.compare, o.valid = strings.EqualFold, isBool
	case "binaryequals":
		o.compare, o.valid = func(a, b string) bool { return a == b }, func(v string) error {
			if _, err := base64.StdEncoding.DecodeString(v); err != nil {
				return fmt.Errorf("%q is not base64", v)
			}
			return nil
		}
	case "ipaddress", "notipaddress":
		o.compare, o.valid = inNetwork, func(v string) error { _, err := network(v); return err }
	case "null":
		if o.ifExists || o.qualifier != plain {
			return o, fmt.Errorf("%s: Null takes neither IfExists nor ForAllValues or ForAnyValue", name)
		}
		o.null, o.valid = true, isBool
		return o, nil
	default:
		if rest, ok := strings.CutPrefix(lower, "numeric"); ok && numeric[strings.TrimPrefix(rest, "not")] != nil {
			o.compare, o.valid = numeric[strings.TrimPrefix(rest, "not")], func(v string) error { _, err := number(v); return err }
			break
		}
		if rest, ok := strings.CutPrefix(lower, "date"); ok && date[strings.TrimPrefix(rest, "not")] != nil {
			o.compare, o.valid = date[strings.TrimPrefix(rest, "not")], func(v string) error { _, err := moment(v); return err }
			break
		}
		return o, fmt.Errorf("unknown condition operator %q", name)
	}
	o.negated = strings.Contains(lower, "not")
	if o.negated && (strings.HasPrefix(lower, "numericnot") || strings.HasPrefix(lower, "datenot")) && !strings.HasSuffix(lower, "notequals") {
		return o, fmt.Errorf("unknown condition operator %q", name)
	}
	return o, nil
}

func cutFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}

func isBool(v string) error {
	if !strings.EqualFold(v, "true") && !strings.EqualFold(v, "false") {
		return fmt.Errorf("%q is neither true nor false", v)
	}
	return nil
}

func number(v string) (float64, error) {
	n, err := strconv.ParseFloat(v, 64)
	if err != nil || n != n {
		return 0, fmt.Errorf("%q is not a number", v)
	}
	return n, nil
}

// moment reads ISO 8601 or seconds of Unix time.
func moment(v string) (float64, error) {
	if n, err := number(v); err == nil && n > 9999 { // below, it is a year
		return n, nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04Z07:00", "2006-01-02T15:04:05", "2006-01-02", "2006-01", "2006"} {
		if t, err := time.Parse(layout, v); err == nil {
			return float64(t.Unix()) + float64(t.Nanosecond())/1e9, nil // UnixNano ends in 2262
		}
	}
	return 0, fmt.Errorf("%q is not a date like 2026-12-31T00:00:00Z", v)
}

// comparisons are the six of a kind of value; what cannot be read is unequal.
func comparisons(read func(string) (float64, error)) map[string]func(have, want string) bool {
	with := func(holds func(a, b float64) bool) func(have, want string) bool {
		return func(have, want string) bool {
			a, errA := read(have)
			b, errB := read(want)
			return errA == nil && errB == nil && holds(a, b)
		}
	}
	return map[string]func(have, want string) bool{
		"equals":            with(func(a, b float64) bool { return a == b }),
		"lessthan":          with(func(a, b float64) bool { return a < b }),
		"lessthanequals":    with(func(a, b float64) bool { return a <= b }),
		"greaterthan":       with(func(a, b float64) bool { return a > b }),
		"greaterthanequals": with(func(a, b float64) bool { return a >= b }),
	}
}

func network(v string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(v); err == nil {
		return p.Masked(), nil
	}
	a, err := netip.ParseAddr(v)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is not an address or a network like 203.0.113.0/24", v)
	}
	return netip.PrefixFrom(a, a.BitLen()), nil
}

func inNetwork(have, want string) bool {
	a, errA := netip.ParseAddr(have)
	p, errP := network(want)
	return errA == nil && errP == nil && p.Contains(a.Unmap())
}

// holds says whether the condition is met; unresolved is true if a variable has
// no value, which keeps the whole statement from matching.
func (c *condition) holds(ctx *Context, p *Principal) (holds, unresolved bool) {
	have, present := ctx.lookup(c.key, p)
	o := c.operator
	if o.null {
		for _, v := range c.values {
			want, ok := v.resolve(ctx, p)
			if !ok {
				return false, true
			}
			if strings.EqualFold(want, "true") != present {
				return true, false
			}
		}
		return false, false
	}
	wants, ok := c.resolved(ctx, p)
	if !ok {
		return false, true
	}
	// A negated operator holds for a value that none of the wants fits.
	fits := func(value string) bool {
		return slices.ContainsFunc(wants, func(w want) bool { return w.fits(o, value) }) != o.negated
	}
	switch {
	case o.qualifier == forAll:
		// True where there is nothing: a missing key, an empty set.
		return !slices.ContainsFunc(have, func(v string) bool { return !fits(v) }), false
	case o.qualifier == forAny:
		return present && slices.ContainsFunc(have, fits) || !present && o.ifExists, false
	case !present:
		return o.negated || o.ifExists, false
	case o.negated:
		return !slices.ContainsFunc(have, func(v string) bool { return !fits(v) }), false
	}
	return slices.ContainsFunc(have, fits), false
}

// want is a value of a condition as of a request.
type want struct {
	text    string
	pattern []token
}

func (w want) fits(o operator, have string) bool {
	if o.pattern {
		return o.fits(w.pattern, have)
	}
	return o.compare(have, w.text)
}

func (c *condition) resolved(ctx *Context, p *Principal) ([]want, bool) {
	wants := make([]want, len(c.values))
	for i, v := range c.values {
		var ok bool
		if c.operator.pattern {
			wants[i].pattern, ok = v.pattern(ctx, p)
		} else {
			wants[i].text, ok = v.resolve(ctx, p)
		}
		if !ok {
			return nil, false
		}
	}
	return wants, true
}
