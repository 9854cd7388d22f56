package review

import (
	"fmt"
	"strings"
	"sync"
	"unicode"
)

// The reasons of a DENY by a rule. They name the kind of rule and never the
// word, so that nobody learns the list by trying.
const (
	reasonWord    = "Message contains a word that is not allowed"
	reasonLink    = "Message contains a link"
	reasonCaps    = "Message has too many capital letters"
	reasonRepeats = "Message repeats a character too often"
)

// minCapsLetters is the fewest letters of a text that MaxCaps looks at.
const minCapsLetters = 8

// ruleSet is Rules, ready to use by many goroutines.
type ruleSet struct {
	deny, mask *words // nil if there are none
	links      bool
	caps       float64
	repeats    int
}

func (r *Rules) compile() (*ruleSet, error) {
	if !(r.MaxCaps >= 0 && r.MaxCaps <= 1) {
		return nil, fmt.Errorf("max_caps must be above 0 and at most 1, but is %v", r.MaxCaps)
	}
	if r.MaxRepeats < 0 {
		return nil, fmt.Errorf("max_repeats must not be negative, but is %d", r.MaxRepeats)
	}
	set := &ruleSet{links: r.DenyLinks, caps: r.MaxCaps, repeats: r.MaxRepeats}
	for _, list := range []struct {
		name string
		from []string
		to   **words
	}{{"deny_words", r.DenyWords, &set.deny}, {"mask_words", r.MaskWords, &set.mask}} {
		if len(list.from) == 0 {
			continue
		}
		w, err := newWords(list.from)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", list.name, err)
		}
		*list.to = w
	}
	return set, nil
}

// searches are free memories of searches.
var searches = sync.Pool{New: func() any { return newSearch() }}

// review returns the content with its words masked, or the reason of a DENY.
func (r *ruleSet) review(content string) (masked, reason string) {
	s := searches.Get().(*search)
	defer searches.Put(s)
	if r.deny != nil || r.links {
		s.read(content)
	}
	switch {
	case r.deny != nil && s.has(r.deny):
		return "", reasonWord
	case r.links && s.hasLink():
		return "", reasonLink
	case r.caps > 0 && tooManyCaps(content, r.caps):
		return "", reasonCaps
	case r.repeats > 0 && longestRun(content) > r.repeats:
		return "", reasonRepeats
	case r.mask != nil:
		content = s.mask(r.mask, content)
	}
	return content, ""
}

func (s *search) has(w *words) (has bool) {
	s.find(w, func(int, int) bool { has = true; return false })
	return has
}

// mask writes '*' for each code point of each match, until there is none: what
// was masked may have stood between the letters of another word.
func (s *search) mask(w *words, text string) string {
	for {
		n := s.read(text)
		s.hit = append(s.hit[:0], make([]bool, n)...)
		matched := false
		s.find(w, func(first, last int) bool {
			matched = true
			for i := s.units[first].at; i <= s.units[last].at; i++ {
				s.hit[i] = true
			}
			return true
		})
		if !matched {
			return text
		}
		var b strings.Builder
		b.Grow(len(text))
		i := 0
		for at, c := range text {
			switch {
			case s.hit[i], i > 0 && s.hit[i-1] && worn(c): // the marks of its last letter, too
				s.hit[i] = true
				b.WriteByte('*')
			case c == unicode.ReplacementChar && !strings.HasPrefix(text[at:], "\uFFFD"):
				b.WriteByte(text[at]) // not UTF-8: left as it is
			default:
				b.WriteRune(c)
			}
			i++
		}
		if text == b.String() {
			return text // nothing but asterisks matched
		}
		text = b.String()
	}
}

// worn says whether a code point is a mark on the letter before it.
func worn(c rune) bool { return unicode.IsMark(c) }

// hasLink looks for the beginning of a link, in any letter case and width.
func (s *search) hasLink() bool {
	for i, u := range s.units {
		switch u.char {
		case 'h':
			if s.reads(i, "http://") || s.reads(i, "https://") {
				return true
			}
		case 'w':
			if (i == 0 || !s.units[i-1].class.word()) && s.reads(i, "www.") {
				return true
			}
		}
	}
	return false
}

// reads says whether the units from i on are the ASCII text.
func (s *search) reads(i int, text string) bool {
	if len(s.units)-i < len(text) {
		return false
	}
	for k := range len(text) {
		if s.units[i+k].char != rune(text[k]) {
			return false
		}
	}
	return true
}

func tooManyCaps(text string, most float64) bool {
	letters, upper := 0, 0
	for _, c := range text {
		if unicode.IsLetter(c) {
			letters++
			if unicode.IsUpper(c) || unicode.IsTitle(c) {
				upper++
			}
		}
	}
	return letters >= minCapsLetters && float64(upper) > most*float64(letters)
}

// longestRun is the longest run of one character, whatever is invisible between.
func longestRun(text string) (longest int) {
	last, run := rune(-1), 0
	for _, c := range text {
		if invisible(c) {
			continue
		}
		if c != last {
			last, run = c, 0
		}
		run++
		longest = max(longest, run)
	}
	return longest
}
