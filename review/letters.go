package review

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/transform"
	"golang.org/x/text/unicode/norm"
)

// class is what a character is to the search for words.
type class uint8

const (
	separator class = iota // white space and symbols; some symbols stand for letters as well
	letter
	digit
	ideograph // a letter of a script that puts no spaces between words
)

// word says whether a character holds a word together with its neighbours.
func (c class) word() bool { return c == letter || c == digit }

// unit is one character of a text as the search sees it: in lower case, without
// diacritics, in its plain width. What nobody sees has no unit.
type unit struct {
	char  rune
	at    int32 // index of its code point in the text
	class class
	space bool        // a separator that is white space
	by    *substitute // the letters that it may be written for; nil = none
}

// reader turns texts into units. It is reused, and not by two goroutines at once.
type reader struct {
	units       []unit
	encoded     [utf8.UTFMax]byte
	decomposed  []byte
	folded      [32]byte // of one code point: at most three
	foldingCase transform.Transformer
	known       [512]known // code points beyond ASCII, by their last bits
}

// known is what a code point was read as: a text has few different ones.
type known struct {
	char  rune
	n     uint8
	units [3]unit
}

func newReader() reader { return reader{foldingCase: cases.Fold()} }

// read sets units to those of the text and returns its number of code points.
func (r *reader) read(text string) int {
	r.units = r.units[:0]
	at := int32(0)
	for _, c := range text {
		switch {
		case c >= utf8.RuneSelf:
			r.readWide(c, at)
		case 'A' <= c && c <= 'Z':
			r.units = append(r.units, unit{char: c | 0x20, at: at, class: letter})
		case 'a' <= c && c <= 'z':
			r.units = append(r.units, unit{char: c, at: at, class: letter})
		default:
			r.add(c, at)
		}
		at++
	}
	return int(at)
}

// readWide reads a code point beyond ASCII, which may look like several
// characters ("ﬁ") or, without its diacritics, like none.
func (r *reader) readWide(c rune, at int32) {
	k := &r.known[int(c)%len(r.known)]
	if k.char != c {
		before := len(r.units)
		r.readUnknown(c, at)
		read := r.units[before:]
		if len(read) > len(k.units) || unicode.IsMark(c) {
			return // too long, or it depends on what is before
		}
		k.char, k.n = c, uint8(copy(k.units[:], read))
		return
	}
	for _, u := range k.units[:k.n] {
		u.at = at
		r.units = append(r.units, u)
	}
}

func (r *reader) readUnknown(c rune, at int32) {
	if invisible(c) {
		return
	}
	n := utf8.EncodeRune(r.encoded[:], c)
	r.decomposed = norm.NFKD.Append(r.decomposed[:0], r.encoded[:n]...)
	for rest := r.decomposed; len(rest) > 0; {
		d, size := utf8.DecodeRune(rest)
		if !invisible(d) {
			w, _, _ := r.foldingCase.Transform(r.folded[:], rest[:size], true) // which does not fail
			for _, f := range string(r.folded[:w]) {
				if !invisible(f) {
					r.add(f, at)
				}
			}
		}
		rest = rest[size:]
	}
}

func (r *reader) add(c rune, at int32) {
	u := unit{char: c, at: at}
	switch {
	case 'a' <= c && c <= 'z':
		u.class = letter
	case c < utf8.RuneSelf:
		switch {
		case '0' <= c && c <= '9':
			u.class = digit
		case c == ' ' || '\t' <= c && c <= '\r':
			u.space = true
		case c < ' ' || c == 0x7f:
			return // controls are not seen either
		}
		u.by = substitutes[c]
	default:
		mark := unicode.IsMark(c) // one that tells words apart
		switch {
		case !mark && !unicode.IsLetter(c):
			if u.space = unicode.IsSpace(c); unicode.IsDigit(c) {
				u.class = digit
			}
		case c >= firstUnspaced && unicode.In(c, unspaced...) || voices(c):
			u.class = ideograph
		default:
			u.class = letter
		}
		if n := len(r.units); mark && n > 0 {
			u.at = r.units[n-1].at // part of the letter before it
		}
		u.by = substitutes[c]
	}
	r.units = append(r.units, u)
}

// unspaced are scripts that put no spaces between words: a word ends anywhere.
var unspaced = []*unicode.RangeTable{unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar}

const firstUnspaced = 0x0e00 // Thai; the others are behind it

// invisible says whether a code point is left out of the search: controls, what
// has no width, fillers, and marks that any letter may wear. Marks of one
// script, such as the vowels of Hindi or Thai and the voicing of Japanese, tell
// words apart and stay.
func invisible(c rune) bool {
	switch {
	case c < utf8.RuneSelf || voices(c):
		return false
	case c == 0x115f || c == 0x1160 || c == 0x3164 || c == 0xffa0: // Hangul fillers
		return true
	case unicode.IsLetter(c):
		return false
	}
	return unicode.Is(unicode.Cf, c) || unicode.Is(unicode.Cc, c) && !unicode.IsSpace(c) || unicode.IsMark(c) && unicode.Is(unicode.Inherited, c)
}

// voices says whether c is the mark that makes が of か, or ぱ of は.
func voices(c rune) bool { return c == 0x3099 || c == 0x309a }

// substitute are the letters that another character is written for.
type substitute struct {
	letters string
	digit   bool // by a digit, which more often is just that
}

// substitutes are the characters that are written for letters: digits, symbols,
// letters with a stroke, and letters of other alphabets that look the same.
var substitutes = func() map[rune]*substitute {
	all := map[rune]*substitute{}
	put := func(digit bool, pairs string) {
		for pair := range strings.FieldsSeq(pairs) {
			c, size := utf8.DecodeRuneInString(pair)
			all[c] = &substitute{pair[size:], digit}
		}
	}
	put(true, "0o 1il 3e 4a 5s 7t 8b 9g")
	put(false, "@a $s !il |il +t €e ¢c ıi øo łl đd ħh ŧt")
	put(false, "аa вb еe кk мm оo рp сc тt уy хx іi јj ѕs һh ԁd") // Cyrillic
	put(false, "αa εe ιi κk νv οo ρp τt υu χx")                   // Greek
	return all
}()
