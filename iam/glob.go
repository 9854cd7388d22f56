package iam

import "strings"

// token is an element of a pattern: a character, or a wildcard.
type token struct {
	char      rune
	star, one bool
}

// literal makes the text of a value match itself only.
func literal(out []token, s string) []token {
	for _, r := range s {
		out = append(out, token{char: r})
	}
	return out
}

// wild makes '*' and '?' of s wildcards.
func wild(out []token, s string) []token {
	for _, r := range s {
		out = append(out, token{char: r, star: r == '*', one: r == '?'})
	}
	return out
}

// match says whether s fits the pattern. It never goes back further than to the
// last star, so its time is at most the product of the two lengths.
func match(pattern []token, s []rune) bool {
	p, i, star, mark := 0, 0, -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p].star:
			star, mark = p, i
			p++
		case p < len(pattern) && (pattern[p].one || pattern[p].char == s[i]):
			p++
			i++
		case star >= 0:
			mark++
			p, i = star+1, mark
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p].star {
		p++
	}
	return p == len(pattern)
}

// arnParts cuts a pattern at its first five colons, which is how ARNs are
// compared: a wildcard does not reach from one part into another. ok is false if
// there are fewer.
func arnParts(pattern []token) (parts [6][]token, ok bool) {
	n := 0
	begin := 0
	for i, t := range pattern {
		if n < 5 && t.char == ':' && !t.star && !t.one {
			parts[n] = pattern[begin:i]
			n++
			begin = i + 1
		}
	}
	parts[5] = pattern[begin:]
	return parts, n == 5
}

// matchARN compares part by part; a plain "*" fits everything.
func matchARN(pattern []token, arn string) bool {
	if len(pattern) == 1 && pattern[0].star {
		return true
	}
	parts, ok := arnParts(pattern)
	values := strings.SplitN(arn, ":", 6)
	if !ok || len(values) != 6 {
		return false
	}
	for i, v := range values {
		if !match(parts[i], []rune(v)) {
			return false
		}
	}
	return true
}
