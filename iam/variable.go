package iam

import (
	"fmt"
	"strings"
)

// template is a text of a policy in which variables stand. Source: spec iam B.4.
type template []segment

// segment is text, or a variable with its default.
type segment struct {
	text      string
	key       string // of the variable, as foldKey makes it; "" for text
	otherwise *string
}

// parseTemplate takes "${key}", "${key, 'default'}" and the escapes "${*}",
// "${?}", "${$}" apart. With variables off, all of s is text.
func parseTemplate(s string, variables bool) (template, error) {
	var t template
	for variables {
		before, rest, found := strings.Cut(s, "${")
		if !found {
			break
		}
		inside, after, closed := strings.Cut(rest, "}")
		if !closed {
			return nil, fmt.Errorf("the variable in %q has no closing brace", s)
		}
		if before != "" {
			t = append(t, segment{text: before})
		}
		key, otherwise, hasDefault := strings.Cut(inside, ",")
		seg := segment{key: foldKey(strings.TrimSpace(key))}
		if hasDefault {
			d := strings.TrimSpace(otherwise)
			if len(d) < 2 || d[0] != '\'' || d[len(d)-1] != '\'' {
				return nil, fmt.Errorf("the default in ${%s} must stand in single quotes: ${%s, 'text'}", inside, key)
			}
			d = d[1 : len(d)-1]
			seg.otherwise = &d
		}
		if seg.key == "" {
			return nil, fmt.Errorf("${%s} names no variable", inside)
		}
		t = append(t, seg)
		s = after
	}
	if s != "" || len(t) == 0 {
		t = append(t, segment{text: s})
	}
	return t, nil
}

// resolve makes the text as of a request; ok is false if a variable has no
// single value and no default.
func (t template) resolve(c *Context, p *Principal) (string, bool) {
	if len(t) == 1 && t[0].key == "" {
		return t[0].text, true
	}
	var b strings.Builder
	for _, s := range t {
		v, ok := s.value(c, p)
		if !ok {
			return "", false
		}
		b.WriteString(v)
	}
	return b.String(), true
}

// pattern makes the pattern as of a request: wildcards of the policy's text are
// wildcards, those that come out of variables are not.
func (t template) pattern(c *Context, p *Principal) ([]token, bool) {
	var out []token
	for _, s := range t {
		if s.key == "" {
			out = wild(out, s.text)
			continue
		}
		v, ok := s.value(c, p)
		if !ok {
			return nil, false
		}
		out = literal(out, v)
	}
	return out, true
}

func (s *segment) value(c *Context, p *Principal) (string, bool) {
	switch s.key {
	case "":
		return s.text, true
	case "*", "?", "$":
		return s.key, true
	}
	if values, ok := c.lookup(s.key, p); ok && len(values) == 1 {
		return values[0], true
	}
	if s.otherwise != nil {
		return *s.otherwise, true
	}
	return "", false
}
