package hubbub

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// fileValue is what the configuration file says about one setting.
type fileValue struct {
	setting Setting
	where   string // "hubbub.yaml:3"
	values  []string
}

// parseFile takes the YAML of a configuration file apart. Scalars are taken as
// they are spelled, so that an account without quotes keeps its leading zeros.
// Everything unknown is a problem, and all problems are found at once, except
// that YAML which cannot be read at all has one.
func parseFile(name string, data []byte) ([]fileValue, []Problem) {
	f := fileReader{name: name}
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		f.syntax(err)
		return nil, f.problems
	}
	documents := slices.DeleteFunc(file.Docs, func(d *ast.DocumentNode) bool { return isNothing(d.Body) })
	if len(documents) > 1 {
		f.refuse(documents[1].Body, "a second document begins here; put everything into one")
		return nil, f.problems
	}
	for _, d := range documents {
		if entries, ok := entriesOf(d.Body); ok {
			f.mapping("", entries)
		} else {
			f.refuse(d.Body, "the file must be keys with values, like `api: 127.0.0.1:4880`")
		}
	}
	return f.values, f.problems
}

type fileReader struct {
	name     string
	values   []fileValue
	problems []Problem
}

func (f *fileReader) where(n ast.Node) string {
	if t := n.GetToken(); t != nil && t.Position != nil {
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
		what = y.GetMessage()
		if t := y.GetToken(); t != nil && t.Position != nil {
			where = fmt.Sprintf("%s:%d", f.name, t.Position.Line)
		}
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
	if what, found := later[key]; found {
		f.refuse(e, "this version of hubbub does not have %s yet; remove the section %s", what, key)
		return
	}
	name := key
	if key == "limits.base" { // the level, beside single quotas
		name = "limits"
	}
	i := slices.IndexFunc(settings, func(s Setting) bool { return s.Key == name })
	section := slices.ContainsFunc(settings, func(s Setting) bool { return strings.HasPrefix(s.Key, key+".") })
	entries, isMapping := entriesOf(e.Value)
	switch {
	case i < 0 && !section:
		f.refuse(e.Key, "%s is no setting%s", key, suggest(key, knownBeside(key)))
	case section && isMapping:
		f.mapping(key+".", entries)
	case i < 0:
		f.refuse(e.Key, "%s is a section; write keys below it, for example `%s: {%s}`", key, key, exampleOf(key))
	default:
		f.value(settings[i], key, e)
	}
}

func (f *fileReader) value(s Setting, key string, e *ast.MappingValueNode) {
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
	f.values = append(f.values, fileValue{s, f.where(e.Key), values})
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

// knownBeside are the keys that could be meant by an unknown one.
func knownBeside(key string) []string {
	known := []string{"limits.base"}
	for _, s := range settings {
		known = append(known, s.Key)
		// "tsl" may have meant the section.
		if section, _, nested := strings.Cut(s.Key, "."); nested && !strings.Contains(key, ".") {
			known = append(known, section)
		}
	}
	return known
}

func exampleOf(section string) string {
	for _, s := range settings {
		if rest, ok := strings.CutPrefix(s.Key, section+"."); ok {
			return rest + ": " + s.Form
		}
	}
	return ""
}
