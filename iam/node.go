package iam

import (
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
)

// file collects what is wrong with an iam file while it is read, each with its
// line.
type file struct {
	name  string
	wrong []string
}

func (f *file) bad(line int, format string, args ...any) {
	f.wrong = append(f.wrong, fmt.Sprintf("%s:%d: %s", f.name, line, fmt.Sprintf(format, args...)))
}

// node is a place in the file.
type node struct {
	ast.Node
	line int
}

func nodeOf(n ast.Node) node {
	line := 0
	if n != nil && n.GetToken() != nil {
		line = n.GetToken().Position.Line
	}
	return node{n, line}
}

// followed says, with a complaint if not, whether a value stands where it is
// read. A reference that is read as text would be a star or an ampersand.
func (f *file) followed(n node, what string) bool {
	switch n.Node.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
		f.bad(n.line, "%s: anchors, aliases and tags (&, *, !) are not followed here; write the value itself", what)
		return false
	}
	return true
}

// member is a key of a mapping with its value.
type member struct {
	key  string
	line int
	node node
}

// members are those of a mapping; null is an empty one.
func (f *file) members(n node, what string) []member {
	var values []*ast.MappingValueNode
	switch m := n.Node.(type) {
	case nil, *ast.NullNode:
		return nil
	case *ast.MappingNode:
		values = m.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{m}
	default:
		if f.followed(n, what) {
			f.bad(n.line, "%s must be a mapping (key: value)", what)
		}
		return nil
	}
	var out []member
	for _, v := range values {
		if _, merge := v.Key.(*ast.MergeKeyNode); merge {
			f.bad(nodeOf(v.Key).line, "%s: anchors, aliases and tags (&, *, !) are not followed here; write the members themselves", what)
			continue
		}
		var key string
		if err := yaml.NodeToValue(v.Key, &key); err != nil {
			f.bad(nodeOf(v.Key).line, "%s has a key that is not text", what)
			continue
		}
		value := nodeOf(v.Value)
		line := nodeOf(v.Key).line
		if value.line == 0 {
			value.line = line
		}
		out = append(out, member{key, line, value})
	}
	return out
}

// known hands each member to the function of its name, and refuses others.
func (f *file) known(n node, what string, known map[string]func(node)) {
	for _, m := range f.members(n, what) {
		if read := known[m.key]; read != nil {
			read(m.node)
			continue
		}
		f.bad(m.line, "%s has no %q; did you mean %q?", what, m.key, nearest(m.key, known))
	}
}

func nearest[V any](name string, known map[string]V) string {
	best, least := "", 1<<30
	for k := range known {
		if d := distance(name, k); d < least || d == least && k < best {
			best, least = k, d
		}
	}
	return best
}

// distance counts insertions, deletions and replacements.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}

// items are those of a list; a single value is a list of one.
func items(n node) []node {
	switch s := n.Node.(type) {
	case nil, *ast.NullNode:
		return nil
	case *ast.SequenceNode:
		out := make([]node, len(s.Values))
		for i, v := range s.Values {
			out[i] = nodeOf(v)
		}
		return out
	}
	return []node{n}
}

// text is a scalar as it is written.
func (f *file) text(n node, what string) string {
	if !f.followed(n, what) {
		return ""
	}
	switch n.Node.(type) {
	case *ast.MappingNode, *ast.MappingValueNode, *ast.SequenceNode, *ast.NullNode, nil:
		f.bad(n.line, "%s must be text", what)
		return ""
	case *ast.StringNode, *ast.LiteralNode:
		var s string
		if err := yaml.NodeToValue(n.Node, &s); err != nil {
			f.bad(n.line, "%s must be text", what)
		}
		return s
	}
	return strings.TrimSpace(n.GetToken().Value) // a number or a date, unquoted
}
