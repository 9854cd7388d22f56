package hubbub

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// branch is a part of a setting that has a structure, and where it stands. What is
// wrong with it is told to its reader, all of it.
type branch struct {
	f     *fileReader
	path  string   // "review.default.lambda"; in a flag or variable what follows the setting: "lambda"
	key   ast.Node // its line is told
	value ast.Node
}

// named is a branch with the key that it stands under.
type named struct {
	branch
	name string
}

// member is a key that a mapping may have, and what reads its value.
type member struct {
	key  string
	read func(branch)
}

// refuse tells a problem. A sentence that begins with the path loses nothing if
// there is none: the flag or variable stands before it.
func (b branch) refuse(format string, args ...any) {
	b.f.refuse(b.key, "%s", strings.TrimLeft(fmt.Sprintf(format, args...), " :"))
}

// problems is how many were told.
func (b branch) problems() int { return len(b.f.problems) }

// entries are those of a mapping; anything else is refused, and what should be
// there named by form.
func (b branch) entries(form string) (entries []named) {
	values, ok := entriesOf(b.value)
	if _, null := b.value.(*ast.NullNode); null {
		b.refuse("%s has no value; write %s", b.path, form)
	} else if !ok {
		b.refuse("%s takes keys with values: %s", b.path, form)
	}
	for _, e := range values {
		name, ok := scalar(e.Key)
		if !ok {
			b.f.refuse(e.Key, "%s is no plain key; merge keys, anchors and tags are not supported here", e.Key.String())
			continue
		}
		step := name
		if strings.ContainsAny(name, ".:") { // an ARN
			step = strconv.Quote(name)
		}
		entries = append(entries, named{branch{b.f, b.below(step), e.Key, e.Value}, name})
	}
	return entries
}

// below is the path of a key of the branch.
func (b branch) below(name string) string {
	if b.path == "" {
		return name
	}
	return b.path + "." + name
}

// members reads a mapping of known keys, and returns how many of them were there.
func (b branch) members(form string, known ...member) (given int) {
	var names []string
	for _, m := range known {
		names = append(names, m.key)
	}
	for _, e := range b.entries(form) {
		i := slices.IndexFunc(known, func(m member) bool { return m.key == e.name })
		if i < 0 {
			e.refuse("%s is no setting%s", e.path, suggest(b.below(""), e.name, names))
			continue
		}
		given++
		known[i].read(e.branch)
	}
	return given
}

// list are the items of a list; ok is false for anything else.
func (b branch) list() (items []branch, ok bool) {
	sequence, ok := b.value.(*ast.SequenceNode)
	if !ok {
		return nil, false
	}
	for _, n := range sequence.Values {
		items = append(items, branch{b.f, b.path, n, n})
	}
	return items, true
}

// scalar hands a plain value to set, which says what is wrong with it.
func (b branch) scalar(form string, set func(string) error) {
	if _, null := b.value.(*ast.NullNode); null {
		b.refuse("%s has no value; write %s, or remove the key", b.path, form)
		return
	}
	v, ok := scalar(b.value)
	if !ok {
		b.refuse("%s takes one plain value: %s", b.path, form)
		return
	}
	if err := set(v); err != nil {
		b.refuse("%s: %v", b.path, err)
	}
}
