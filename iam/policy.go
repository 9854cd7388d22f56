package iam

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"hubbub/ivschat"
)

// Policy is a checked policy document. Source: spec iam B.4.
type Policy struct {
	name       string
	statements []statement
}

type statement struct {
	label      string // Sid, or its number, for the log
	deny       bool
	actions    [][]token // lower case
	notAction  bool
	resources  []template
	notRes     bool
	conditions []condition
}

// many is one value or a list of them.
type many[T any] []T

// UnmarshalJSONFrom reads a value or a list.
func (m *many[T]) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	*m = many[T]{}
	if d.PeekKind() != '[' {
		var one T
		if err := json.UnmarshalDecode(d, &one); err != nil {
			return err
		}
		*m = append(*m, one)
		return nil
	}
	var list []T
	err := json.UnmarshalDecode(d, &list)
	*m = append(*m, list...)
	return err
}

// scalar is a string, number or boolean, as its text.
type scalar string

// UnmarshalJSONFrom reads a scalar.
func (s *scalar) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	v, err := d.ReadValue()
	if err != nil {
		return err
	}
	switch v.Kind() {
	case '"':
		var text string
		if err := json.Unmarshal(v, &text); err != nil {
			return err
		}
		*s = scalar(text)
	case '0', 't', 'f':
		*s = scalar(v)
	default:
		return &json.SemanticError{JSONKind: v.Kind(), JSONPointer: d.StackPointer(), GoType: reflect.TypeFor[scalar]()}
	}
	return nil
}

// document is a policy as it is written.
type document struct {
	Version   *string            `json:"Version"`
	ID        *string            `json:"Id"`
	Statement many[rawStatement] `json:"Statement"`
}

type rawStatement struct {
	Sid          string                             `json:"Sid"`
	Effect       string                             `json:"Effect"`
	Action       many[string]                       `json:"Action"`
	NotAction    many[string]                       `json:"NotAction"`
	Resource     many[string]                       `json:"Resource"`
	NotResource  many[string]                       `json:"NotResource"`
	Principal    jsontext.Value                     `json:"Principal"`
	NotPrincipal jsontext.Value                     `json:"NotPrincipal"`
	Condition    map[string]map[string]many[scalar] `json:"Condition"`
}

// maxPolicy is the most bytes of a document, far beyond AWS's own bound.
const maxPolicy = 256 << 10

// ParsePolicy reads a policy document and checks everything that could make it
// mean something else than it says. The error joins all that is wrong, each with
// its place in the document.
func ParsePolicy(name string, text []byte) (*Policy, error) {
	if len(text) > maxPolicy {
		return nil, fmt.Errorf("the policy has %d bytes, more than %d", len(text), maxPolicy)
	}
	var d document
	if err := json.Unmarshal(text, &d, json.RejectUnknownMembers(true)); err != nil {
		return nil, jsonError(err)
	}
	variables := false
	var wrong []error
	switch {
	case d.Version == nil, *d.Version == "2008-10-17":
	case *d.Version == "2012-10-17":
		variables = true
	default:
		wrong = append(wrong, fmt.Errorf("the Version %q, expected \"2012-10-17\" (or \"2008-10-17\", without variables)", *d.Version))
	}
	if len(d.Statement) == 0 {
		wrong = append(wrong, errors.New("there is no Statement"))
	}
	p := &Policy{name: name}
	sids := map[string]bool{}
	for i, raw := range d.Statement {
		place := fmt.Sprintf("Statement[%d]", i)
		if raw.Sid != "" && sids[raw.Sid] {
			wrong = append(wrong, fmt.Errorf("%s.Sid: %q stands twice", place, raw.Sid))
		}
		sids[raw.Sid] = true
		s, errs := raw.check(place, variables)
		if s.label = raw.Sid; s.label == "" {
			s.label = place
		}
		wrong = append(wrong, errs...)
		p.statements = append(p.statements, s)
	}
	if len(wrong) > 0 {
		return nil, errors.Join(wrong...)
	}
	return p, nil
}

// jsonError says where a document is not what it should be.
func jsonError(err error) error {
	var semantic *json.SemanticError
	var syntactic *jsontext.SyntacticError
	switch {
	case errors.As(err, &semantic) && errors.Is(err, json.ErrUnknownName):
		return fmt.Errorf("unknown element %s", pointer(semantic.JSONPointer))
	case errors.As(err, &semantic):
		return fmt.Errorf("%s: a JSON %s cannot stand here", pointer(semantic.JSONPointer), semantic.JSONKind)
	case errors.As(err, &syntactic):
		return fmt.Errorf("not JSON at byte %d: %v", syntactic.ByteOffset, syntactic.Err)
	}
	return fmt.Errorf("not a policy: %v", err)
}

func pointer(p jsontext.Pointer) string {
	return strings.Join(slices.Collect(p.Tokens()), ".")
}

func (raw *rawStatement) check(place string, variables bool) (s statement, wrong []error) {
	bad := func(element, format string, args ...any) {
		wrong = append(wrong, fmt.Errorf("%s.%s: %s", place, element, fmt.Sprintf(format, args...)))
	}
	switch raw.Effect {
	case "Allow":
	case "Deny":
		s.deny = true
	default:
		bad("Effect", "%q, expected \"Allow\" or \"Deny\"", raw.Effect)
	}
	if raw.Principal != nil || raw.NotPrincipal != nil {
		bad("Principal", "a policy of a principal names none; remove it")
	}
	if (raw.Action == nil) == (raw.NotAction == nil) {
		bad("Action", "exactly one of Action and NotAction must be there")
	}
	if (raw.Resource == nil) == (raw.NotResource == nil) {
		bad("Resource", "exactly one of Resource and NotResource must be there")
	}
	actions, resources := raw.Action, raw.Resource
	if raw.NotAction != nil {
		actions, s.notAction = raw.NotAction, true
	}
	if raw.NotResource != nil {
		resources, s.notRes = raw.NotResource, true
	}
	if raw.Action != nil && len(actions) == 0 || raw.NotAction != nil && len(raw.NotAction) == 0 {
		bad("Action", "an empty list")
	}
	if raw.Resource != nil && len(resources) == 0 || raw.NotResource != nil && len(raw.NotResource) == 0 {
		bad("Resource", "an empty list")
	}
	for _, a := range actions {
		if service, operation, ok := strings.Cut(a, ":"); a != "*" && (!ok || service == "" || operation == "" || strings.ContainsAny(a, " ${}")) {
			bad("Action", "%q, expected one like \"ivschat:CreateRoom\", \"ivschat:Get*\" or \"*\"", a)
		} else if strings.EqualFold(service, "ivschat") && !namesOperation(operation) {
			bad("Action", "%q is no action of the service; nearest is %q", a, "ivschat:"+nearestOperation(operation))
		}
		s.actions = append(s.actions, wild(nil, strings.ToLower(a)))
	}
	for _, r := range resources {
		t, err := parseTemplate(r, variables)
		if err != nil {
			bad("Resource", "%v", err)
			continue
		}
		if err := knownVariables(t); err != nil {
			bad("Resource", "%v", err)
		}
		if r != "*" && strings.Count(r, ":") < 5 && !(variables && strings.Contains(r, "${")) {
			bad("Resource", "%q, expected an ARN like \"arn:aws:ivschat:us-west-2:123456789012:room/*\", or \"*\"", r)
		}
		s.resources = append(s.resources, t)
	}
	for _, name := range slices.Sorted(maps.Keys(raw.Condition)) {
		operator, err := parseOperator(name)
		if err != nil {
			bad("Condition", "%v", err)
			continue
		}
		for _, key := range slices.Sorted(maps.Keys(raw.Condition[name])) {
			c := condition{operator: operator, key: foldKey(key), written: name + " " + key}
			at := "Condition." + name + "." + key
			if !knownKey(key) {
				bad(at, "unknown condition key, see docs/iam.md; known are aws:ResourceTag/KEY, aws:RequestTag/KEY, aws:TagKeys, aws:PrincipalTag/KEY, global keys, and those of other services")
			}
			values := raw.Condition[name][key]
			if len(values) == 0 {
				bad(at, "no value")
			}
			for _, v := range values {
				t, err := parseTemplate(string(v), variables)
				if err == nil {
					err = knownVariables(t)
				}
				if err == nil && operator.valid != nil && len(t) == 1 && t[0].key == "" {
					err = operator.valid(t[0].text)
				}
				if err != nil {
					bad(at, "%v", err)
				}
				c.values = append(c.values, t)
			}
			s.conditions = append(s.conditions, c)
		}
	}
	return s, wrong
}

// namesOperation says whether it is one, or a pattern. Another is misspelt:
// allowing or denying it would do nothing.
func namesOperation(name string) bool {
	return strings.ContainsAny(name, "*?") ||
		slices.ContainsFunc(ivschat.Operations, func(o ivschat.Operation) bool { return strings.EqualFold(name, string(o)) })
}

func nearestOperation(name string) string {
	known := map[string]bool{}
	for _, o := range ivschat.Operations {
		known[string(o)] = true
	}
	return nearest(name, known)
}

func knownVariables(t template) error {
	for _, s := range t {
		switch s.key {
		case "", "*", "?", "$":
		default:
			if !knownKey(s.key) {
				return fmt.Errorf("unknown variable ${%s}", s.key)
			}
		}
	}
	return nil
}

// applies says whether the statement speaks of the request.
func (s *statement) applies(r *Request, p *Principal) bool {
	action := []rune(strings.ToLower(r.Action))
	if slices.ContainsFunc(s.actions, func(a []token) bool { return match(a, action) }) == s.notAction {
		return false
	}
	named := false
	for _, t := range s.resources {
		pattern, ok := t.pattern(&r.Context, p)
		if !ok {
			return false
		}
		named = named || matchARN(pattern, string(r.Resource))
	}
	if named == s.notRes {
		return false
	}
	for i := range s.conditions {
		if holds, unresolved := s.conditions[i].holds(&r.Context, p); !holds || unresolved {
			return false
		}
	}
	return true
}

// verdict is what a set of policies says.
type verdict struct {
	denied, allowed bool
	by              string // the statement that decided
}

func evaluate(policies []*Policy, r *Request, p *Principal) (v verdict) {
	for _, policy := range policies {
		for i := range policy.statements {
			s := &policy.statements[i]
			if !s.deny && v.allowed || !s.applies(r, p) {
				continue
			}
			by := fmt.Sprintf("policy %q, statement %s", policy.name, s.label)
			if s.deny {
				return verdict{denied: true, by: by}
			}
			v.allowed, v.by = true, by
		}
	}
	return v
}
