package review

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// words finds the words of a list in a text, in time that grows with the text
// and hardly with the list: a tree of their letters, walked by all readings of
// the text at once.
//
// A text is read as people read it. A character counts as the letter that it is
// under its diacritics and in lower case, or that it is written for (4 for a). A
// letter three times or more may stand for one. A word may be spelled out, its
// single letters apart by one to three separators (s.p.a.m). And it is whole: no
// letter or digit may touch it, and no further single letter the spelled one.
//
// Numbers stay numbers: where a digit stands for a letter, two characters of the
// match must be letters by themselves; where a symbol does, one.
type words struct {
	nodes []node
	first [utf8.RuneSelf]int32 // child of the root, 0 = none: most searches end there
}

// node is the end of a path of letters; ' ' is what lies between two words.
type node struct {
	char    rune
	class   class
	run     uint8 // how many of char are in a row at the end of the path, at most 3
	letters uint8 // letters on the path, at most 3
	end     bool  // of a word of the list
	edges   []edge
}

type edge struct {
	char rune
	node int32
}

// minSpelled is the fewest letters of a word that is looked for spelled out:
// initials are too common.
const minSpelled = 3

// maxGap is the most separators between the letters of a word spelled out.
const maxGap = 3

// newWords builds the tree. An entry is one word or several; what has neither
// letter, digit nor symbol is refused.
func newWords(list []string) (*words, error) {
	w := &words{nodes: make([]node, 1, 1+8*len(list))}
	r := newReader()
	for _, entry := range list {
		r.read(entry)
		at, any := int32(0), false
		between := false
		for _, u := range r.units {
			if apart(u) {
				between = true
				continue
			}
			if between && any {
				at = w.grow(at, ' ', separator)
			}
			between, any = false, true
			at = w.grow(at, u.char, u.class)
		}
		if !any {
			return nil, fmt.Errorf("%q has nothing to look for: a word needs a letter, a digit or a symbol", entry)
		}
		w.nodes[at].end = true
	}
	for _, e := range w.nodes[0].edges {
		if e.char < utf8.RuneSelf {
			w.first[e.char] = e.node
		}
	}
	return w, nil
}

// apart says whether a character of an entry lies between two words. Other
// symbols are looked for as they are.
func apart(u unit) bool {
	return u.class == separator && (u.space || unicode.In(u.char, unicode.Pd, unicode.Pc) || strings.ContainsRune(".,'’/", u.char))
}

func (w *words) grow(from int32, c rune, k class) int32 {
	n := &w.nodes[from]
	i, found := slices.BinarySearchFunc(n.edges, c, func(e edge, c rune) int { return cmp.Compare(e.char, c) })
	if found {
		return n.edges[i].node
	}
	child := node{char: c, class: k, run: 1, letters: n.letters}
	if c == n.char {
		child.run = min(n.run+1, 3)
	}
	if k == letter || k == ideograph {
		child.letters = min(n.letters+1, minSpelled)
	}
	to := int32(len(w.nodes))
	n.edges = slices.Insert(n.edges, i, edge{c, to})
	w.nodes = append(w.nodes, child)
	return to
}

func (w *words) root(c rune) (int32, bool) {
	if c < utf8.RuneSelf {
		return w.first[c], w.first[c] != 0
	}
	return w.child(0, c)
}

func (w *words) child(from int32, c rune) (int32, bool) {
	edges := w.nodes[from].edges
	if len(edges) < 8 {
		for _, e := range edges {
			if e.char == c {
				return e.node, true
			}
		}
		return 0, false
	}
	i, found := slices.BinarySearchFunc(edges, c, func(e edge, c rune) int { return cmp.Compare(e.char, c) })
	if !found {
		return 0, false
	}
	return edges[i].node, true
}

// reading is one way to read the text up to here as the beginning of a word.
type reading struct {
	node  int32
	start int32 // index of its first unit
	how
}

// how a reading came to its node; two that are equal in it have the same future.
type how struct {
	extra   uint8 // characters beyond the run of the node, at most 2
	spelled bool  // its letters are apart
	gap     uint8 // separators since the last letter, if spelled
	genuine uint8 // characters that are what they are read as, at most 2
	digits  bool  // a digit was read as a letter
	symbols bool  // another character was
}

// as is the reading after one more character, itself or a substitute.
func (r reading) as(to int32, u unit, s *substitute) reading {
	r.node, r.extra, r.gap = to, 0, 0
	r.count(u, s)
	return r
}

func (h *how) count(u unit, s *substitute) {
	switch {
	case s == nil:
		if u.class != separator {
			h.genuine = min(h.genuine+1, 2)
		}
	case s.digit:
		h.digits = true
	default:
		h.symbols = true
	}
}

// believable says whether so many letters are letters that the rest may be, too.
func (h how) believable() bool {
	switch {
	case h.digits:
		return h.genuine >= 2
	case h.symbols:
		return h.genuine >= 1
	}
	return true
}

// search is the memory of one search; it is reused.
type search struct {
	reader
	now, next []reading
	hit       []bool // code points to mask
}

func newSearch() *search { return &search{reader: newReader()} }

// find calls found with the first and last unit of each match until it returns
// false. The units must have been read.
func (s *search) find(w *words, found func(first, last int) bool) {
	s.now = s.now[:0]
	for i, u := range s.units {
		s.next = s.next[:0]
		for _, r := range s.now {
			s.step(w, r, i, u)
		}
		s.begin(w, i, u)
		for _, r := range s.next {
			if w.nodes[r.node].end && s.whole(w, r, i) && !found(int(r.start), i) {
				return
			}
		}
		s.now, s.next = s.next, s.now
	}
}

// maxReadings bounds the readings of a text at one character, and with them the
// time of a search. A thousand words have less than 20 of the worst text.
const maxReadings = 64

// push adds a reading unless one with the same future is there; the earlier
// start is pushed first.
func (s *search) push(r reading) {
	if len(s.next) == maxReadings {
		return
	}
	for _, other := range s.next {
		if other.node == r.node && other.how == r.how {
			return
		}
	}
	s.next = append(s.next, r)
}

// begin starts readings at unit i, where a word may begin.
func (s *search) begin(w *words, i int, u unit) {
	if i > 0 && s.units[i-1].at == u.at {
		return // within a code point
	}
	touched := i > 0 && s.units[i-1].class.word()
	if touched && u.class.word() {
		return // within a word
	}
	first := func(c rune, by *substitute) {
		to, ok := w.root(c)
		if ok && !(touched && w.nodes[to].class.word()) {
			s.push(reading{start: int32(i)}.as(to, u, by))
		}
	}
	first(u.char, nil)
	if u.by != nil {
		for _, c := range u.by.letters {
			first(c, u.by)
		}
	}
}

// step carries a reading over unit i.
func (s *search) step(w *words, r reading, i int, u unit) {
	n := &w.nodes[r.node]
	between := n.char == ' ' && n.class == separator && r.node != 0
	switch {
	case r.spelled:
		if u.class == separator && r.gap < maxGap {
			apart := r
			apart.gap++
			s.push(apart)
		}
		if r.gap == 0 || !s.single(i) {
			return
		}
	case between:
		if u.class == separator {
			s.push(r)
		}
	case u.class == separator:
		if to, ok := w.child(r.node, ' '); ok && n.complete(r.extra) {
			between := r
			between.node, between.extra = to, 0
			s.push(between)
		}
		if int(r.start) == i-1 && s.single(i-1) && s.alone(i-1, -1) {
			apart := r
			apart.spelled, apart.gap = true, 1
			s.push(apart)
		}
	}
	s.extend(w, r, u, u.char, nil)
	if u.by != nil {
		for _, c := range u.by.letters {
			s.extend(w, r, u, c, u.by)
		}
	}
}

// extend carries a reading over a unit that is read as c.
func (s *search) extend(w *words, r reading, u unit, c rune, by *substitute) {
	n := &w.nodes[r.node]
	repeated := !r.spelled && c == n.char && n.class != separator
	if to, ok := w.child(r.node, c); ok && c != ' ' && (repeated && r.extra == 0 || !repeated && n.complete(r.extra)) {
		s.push(r.as(to, u, by))
	}
	if repeated {
		again := r
		again.extra = min(again.extra+1, 2)
		again.count(u, by)
		s.push(again)
	}
}

// complete says whether a run of the node's letter with so many extra ones may
// stand for it: none, or three and more in all. Two do not stand for one, since
// that tells words apart ("good" is not "god").
func (n *node) complete(extra uint8) bool { return extra == 0 || n.run+extra >= 3 }

// whole says whether a reading that ends with unit i has read a whole word.
func (s *search) whole(w *words, r reading, i int) bool {
	n := &w.nodes[r.node]
	if !r.believable() || !n.complete(r.extra) {
		return false
	}
	touched := i+1 < len(s.units) && s.units[i+1].class.word()
	switch {
	case i+1 < len(s.units) && s.units[i+1].at == s.units[i].at: // within a code point
		return false
	case r.spelled:
		return r.gap == 0 && n.letters >= minSpelled && !touched && s.alone(i, 1)
	}
	return !n.class.word() || !touched
}

// single says whether unit i may be a letter of a word spelled out: any letter or
// digit, and a symbol that has white space around it.
func (s *search) single(i int) bool {
	space := func(i int) bool { return i < 0 || i >= len(s.units) || s.units[i].space }
	return s.units[i].class != separator || space(i-1) && space(i+1)
}

// alone says whether the single letter i is the first or the last of its spelled
// word: whether no other single letter lies beyond a gap in that direction. A
// vowel beyond white space, with no single letter behind it, is a word of its
// own ("a s p a m").
func (s *search) alone(i, direction int) bool {
	j, spaces, ok := s.neighbour(i, direction)
	if !ok {
		return true
	}
	if !spaces || !strings.ContainsRune("aeiouy", s.units[j].char) {
		return false
	}
	_, _, ok = s.neighbour(j, direction)
	return !ok
}

// neighbour is the single letter beyond a gap next to unit i, and whether the
// gap is nothing but white space.
func (s *search) neighbour(i, direction int) (j int, spaces, ok bool) {
	at := func(j int) class {
		if j < 0 || j >= len(s.units) {
			return separator
		}
		return s.units[j].class
	}
	j, spaces = i+direction, true
	for gap := 0; gap < maxGap && j >= 0 && j < len(s.units) && s.units[j].class == separator; gap++ {
		spaces = spaces && s.units[j].space
		j += direction
	}
	return j, spaces, j != i+direction && at(j) == letter && !at(j+direction).word()
}
