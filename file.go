package hubbub

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// fileValue is what the configuration file says about one setting: its values, or
// what puts them into a Config. A section that counts by being there is one too,
// with its key alone.
type fileValue struct {
	setting Setting
	where   string // "hubbub.yaml:3"
	values  []string
	put     func(*Config)
}

// parseFile takes the YAML of a configuration file apart. Scalars are taken as
// they are spelled, so that an account without quotes keeps its leading zeros.
// Everything unknown is a problem, and all problems are found at once, except
// that YAML which cannot be read at all has one.
func parseFile(name string, data []byte) ([]fileValue, []Problem) {
	f := &fileReader{name: name, lines: true}
	body := f.document(bytes.TrimPrefix(data, []byte("\ufeff"))) // of some editors; the parser takes it for a letter
	if entries, ok := entriesOf(body); ok {
		f.mapping("", entries)
	} else if body != nil {
		f.refuse(body, "the file must be keys with values, like `api: 127.0.0.1:4880`")
	}
	return f.values, f.problems
}

// parseText takes the YAML of a flag or variable apart, the value of a setting
// that has a structure.
func parseText(s Setting, name, text string) (put func(*Config), problems []Problem) {
	f := &fileReader{name: name, lines: strings.Contains(text, "\n")}
	put = func(*Config) {}
	if body := f.document([]byte(text)); body != nil {
		put = s.tree(branch{f, "", body, body})
	} else if len(f.problems) == 0 {
		f.problems = []Problem{{name, "has no value; write " + s.Form + ", or leave it out"}}
	}
	return put, f.problems
}

type fileReader struct {
	name     string // of the file, flag or variable
	lines    bool   // whether lines are worth telling
	values   []fileValue
	problems []Problem
}

// document is the one that data holds; nil if there is none, or a problem.
func (f *fileReader) document(data []byte) ast.Node {
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		f.syntax(err)
		return nil
	}
	documents := slices.DeleteFunc(file.Docs, func(d *ast.DocumentNode) bool { return isNothing(d.Body) })
	switch len(documents) {
	case 0:
		return nil
	case 1:
		return documents[0].Body
	}
	f.refuse(documents[1].Body, "a second document begins here; put everything into one")
	return nil
}

func (f *fileReader) where(n ast.Node) string { return f.line(n.GetToken()) }

func (f *fileReader) line(t *token.Token) string {
	if f.lines && t != nil && t.Position != nil {
		return fmt.Sprintf("%s:%d", f.name, t.Position.Line)
	}
	return f.name
}

func (f *fileReader) refuse(n ast.Node, format string, args ...any) {
	f.problems = append(f.problems, Problem{f.where(n), fmt.Sprintf(format, args...)})
}

func (f *fileReader) syntax(err error) {
	where, what := f.name, err.Error()
	var y yaml.Error
	if errors.As(err, &y) {
		what, where = y.GetMessage(), f.line(y.GetToken())
	}
	f.problems = append(f.problems, Problem{where, "is no valid YAML: " + what})
}

// entriesOf is what a mapping holds; ok is false for other nodes.
func entriesOf(n ast.Node) (entries []*ast.MappingValueNode, ok bool) {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}, true
	}
	return nil, false
}

// isNothing says whether a node is a comment, or not there.
func isNothing(n ast.Node) bool {
	switch n.(type) {
	case nil, *ast.CommentGroupNode, *ast.CommentNode:
		return true
	}
	return false
}

// mapping reads the keys below prefix, which is "" or ends with a dot.
func (f *fileReader) mapping(prefix string, entries []*ast.MappingValueNode) {
	for _, e := range entries {
		key, ok := scalar(e.Key)
		if !ok {
			f.refuse(e.Key, "%s is no plain key; merge keys, anchors and tags are not supported here", e.Key.String())
			continue
		}
		f.entry(prefix+key, e)
	}
}

func (f *fileReader) entry(key string, e *ast.MappingValueNode) {
	name := key
	if key == "limits.base" { // the level, beside single quotas
		name = "limits"
	}
	i := slices.IndexFunc(settings, func(s Setting) bool { return s.Key == name })
	isSection := slices.ContainsFunc(settings, func(s Setting) bool { return strings.HasPrefix(s.Key, key+".") })
	put := section(key) // nil unless being there is enough
	entries, isMapping := entriesOf(e.Value)
	switch {
	case i < 0 && !isSection:
		name := lastOf(key)
		f.refuse(e.Key, "%s is no setting%s", key, suggest(strings.TrimSuffix(key, name), name, knownBeside(key)))
	case isSection && isMapping:
		if put != nil {
			f.values = append(f.values, fileValue{setting: Setting{Key: key}, where: f.where(e.Key), put: put})
		}
		f.mapping(key+".", entries)
	case i < 0:
		empty := ""
		if put != nil {
			empty = fmt.Sprintf(", or `%s: {}` for its defaults", lastOf(key))
		}
		f.refuse(e.Key, "%s is a section; write keys below it, for example `%s: {%s}`%s", key, lastOf(key), exampleOf(key), empty)
	default:
		f.value(settings[i], key, e)
	}
}

func (f *fileReader) value(s Setting, key string, e *ast.MappingValueNode) {
	if s.tree != nil {
		put := s.tree(branch{f, key, e.Key, e.Value})
		f.values = append(f.values, fileValue{setting: s, where: f.where(e.Key), put: put})
		return
	}
	var values []string
	nodes := []ast.Node{e.Value}
	if sequence, ok := e.Value.(*ast.SequenceNode); ok && s.list {
		nodes = sequence.Values
		if len(nodes) == 0 {
			f.refuse(e, "%s is an empty list; name at least one, or remove the key", key)
			return
		}
	}
	for _, n := range nodes {
		if _, null := n.(*ast.NullNode); null {
			f.refuse(e.Key, "%s has no value; write %s, or remove the key", key, s.Form)
			return
		}
		v, ok := scalar(n)
		if !ok {
			form := "one plain value"
			if s.list {
				form = "one plain value or a list of them"
			}
			f.refuse(e.Key, "%s takes %s: %s", key, form, s.Form)
			return
		}
		values = append(values, v)
	}
	f.values = append(f.values, fileValue{setting: s, where: f.where(e.Key), values: values})
}

// scalar is a plain value as it is spelled, without quotes.
func scalar(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return strings.TrimSpace(n.GetToken().Value), true
	}
	return "", false
}

// knownBeside are the names that could be meant by the last one of an unknown key:
// those of its section, and if it has none the whole keys of all settings too.
func knownBeside(key string) (known []string) {
	prefix := strings.TrimSuffix(key, lastOf(key)) // "" or ends with a dot
	if prefix == "limits." {
		known = append(known, "base")
	}
	for _, s := range settings {
		if rest, below := strings.CutPrefix(s.Key, prefix); below {
			first, _, _ := strings.Cut(rest, ".")
			known = append(known, first)
		}
		if prefix == "" {
			known = append(known, s.Key)
		}
	}
	return known
}

// lastOf is the last name of a key: "cert" of "tls.cert".
func lastOf(key string) string { return key[strings.LastIndexByte(key, '.')+1:] }

// exampleOf is the first key of a section with its form: "cert: FILE".
func exampleOf(section string) string {
	for _, s := range settings {
		if rest, ok := strings.CutPrefix(s.Key, section+"."); ok {
			return strings.ReplaceAll(rest, ".", ": {") + ": " + s.Form + strings.Repeat("}", strings.Count(rest, "."))
		}
	}
	return ""
}
