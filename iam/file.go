package iam

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"hubbub/sigv4"
)

// The key of `hubbub dev` is published, so that Parse refuses both its parts:
// whoever reads the documentation would be let in. Source: design interface.md.
const (
	DevAccessKeyID = "AKIAHUBBUBDEV0000000"
	DevSecretKey   = "hubbub-dev-secret-key-not-for-production"
)

// managed are AWS's own policies for the service.
var managed = map[string]string{
	"arn:aws:iam::aws:policy/IVSFullAccess":     `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["ivschat:*"],"Resource":"*"}]}`,
	"arn:aws:iam::aws:policy/IVSReadOnlyAccess": `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["ivschat:Get*","ivschat:List*"],"Resource":"*"}]}`,
}

var (
	accountID  = regexp.MustCompile(`^[0-9]{12}$`)
	entityName = regexp.MustCompile(`^[\w+=,.@-]{1,64}$`)
	entityPath = regexp.MustCompile(`^/([\x21-\x7e]+/)?$`)
	keyID      = regexp.MustCompile(`^[A-Z0-9]{16,128}$`)
)

// Parse reads an iam file; name is its path, from which the files that it names
// are found. The error has a line for everything that is wrong:
// "iam.yaml:12: what was given, what was expected".
func Parse(name string, data []byte) (*Snapshot, error) { return parse(name, data, os.ReadFile) }

// parse is Parse; read reads the files that the iam file names.
func parse(name string, data []byte, read func(path string) ([]byte, error)) (*Snapshot, error) {
	r := &fileReader{
		file: file{name: name}, read: read,
		snapshot: &Snapshot{keys: map[string]AccessKey{}, blocked: map[string]bool{}}, keyLines: map[string]int{},
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff")) // of some editors; the parser takes it for a letter
	tree, err := parser.ParseBytes(data, 0)
	if err != nil {
		return nil, yamlError(name, err)
	}
	var body ast.Node
	for _, d := range tree.Docs {
		if d.Body == nil {
			continue
		}
		if body != nil {
			r.bad(nodeOf(d.Body).line, "a second document; one file has one")
			break
		}
		body = d.Body
	}
	r.known(nodeOf(body), "the file", map[string]func(node){"accounts": r.accounts})
	if len(r.wrong) == 0 && len(r.snapshot.accounts) == 0 {
		r.bad(1, "no account; write accounts: with a 12-digit id below it")
	}
	if len(r.wrong) > 0 {
		return nil, errors.New(strings.Join(r.wrong, "\n"))
	}
	return r.snapshot, nil
}

// yamlError keeps the line of a syntax error and leaves out the excerpt, which
// could show a secret.
func yamlError(name string, err error) error {
	var syntax *yaml.SyntaxError
	if errors.As(err, &syntax) && syntax.Token != nil {
		return fmt.Errorf("%s:%d: %s", name, syntax.Token.Position.Line, syntax.Message)
	}
	return fmt.Errorf("%s:1: not YAML", name)
}

type fileReader struct {
	file
	read     func(path string) ([]byte, error)
	snapshot *Snapshot
	keyLines map[string]int // where each key id stands
}

// accountReader reads one account.
type accountReader struct {
	*fileReader
	id       string
	policies map[string]*Policy // nil for one that cannot be read
	groups   map[string][]*Policy
	control  []*Policy
}

func (r *fileReader) accounts(n node) {
	for _, m := range r.members(n, "accounts") {
		if !accountID.MatchString(m.key) {
			r.bad(m.line, "account %q, expected 12 digits in quotes, like \"123456789012\"", m.key)
		}
		r.snapshot.addAccount(m.key)
		a := &accountReader{fileReader: r, id: m.key, policies: map[string]*Policy{}, groups: map[string][]*Policy{}}
		// What is named is read before what names it, wherever it stands.
		var policies, control, groups, users, roles, root node
		r.known(m.node, "account "+m.key, map[string]func(node){
			"pending_verification": func(n node) {
				switch r.text(n, "pending_verification") {
				case "true":
					r.snapshot.blocked[m.key] = true
				case "false":
				default:
					r.bad(n.line, "pending_verification must be true or false")
				}
			},
			"policies": func(n node) { policies = n }, "service_control_policies": func(n node) { control = n },
			"groups": func(n node) { groups = n }, "users": func(n node) { users = n },
			"roles": func(n node) { roles = n }, "root": func(n node) { root = n },
		})
		a.readPolicies(policies)
		a.control = a.named(control, "service_control_policies")
		for _, g := range r.members(groups, "groups") {
			a.name(g)
			r.known(g.node, "group "+g.key, map[string]func(node){"policies": func(n node) { a.groups[g.key] = a.named(n, "policies") }})
		}
		for _, u := range r.members(users, "users") {
			a.readUser(u)
		}
		for _, role := range r.members(roles, "roles") {
			a.readRole(role)
		}
		if root.Node != nil {
			p := &Principal{ARN: "arn:aws:iam::" + a.id + ":root", Account: a.id, Type: Root, Name: "root", UserID: a.id, control: a.control}
			r.known(root, "root", map[string]func(node){"access_keys": func(n node) { a.keys(n, p) }})
		}
	}
}

func (a *accountReader) name(m member) {
	if !entityName.MatchString(m.key) {
		a.bad(m.line, "the name %q, expected 1 to 64 letters, digits and _+=,.@-", m.key)
	}
}

func (a *accountReader) readPolicies(n node) {
	for _, m := range a.members(n, "policies") {
		a.name(m)
		a.policies[m.key] = a.policy(m.key, m.node)
	}
}

// policy reads a document: a mapping, a string of JSON, or {file: path}.
func (a *accountReader) policy(name string, n node) *Policy {
	if !a.followed(n, "policy "+name) {
		return nil
	}
	var text []byte
	switch n.Node.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		members := a.members(n, "policy "+name)
		if len(members) == 1 && members[0].key == "file" {
			path := a.text(members[0].node, "file")
			var err error
			if text, err = a.readFile(path); err != nil {
				a.bad(members[0].line, "policy %s: %v", name, err)
				return nil
			}
			break
		}
		var value any
		err := yaml.NodeToValue(n.Node, &value)
		if err == nil {
			text, err = json.Marshal(value)
		}
		if err != nil {
			a.bad(n.line, "policy %s cannot be read as a document", name)
			return nil
		}
	default:
		text = []byte(a.text(n, "policy "+name))
	}
	p, err := ParsePolicy(name, text)
	if err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			a.bad(n.line, "policy %s: %s", name, line)
		}
		return nil
	}
	return p
}

// readFile reads a file beside the iam file.
func (r *fileReader) readFile(path string) ([]byte, error) {
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(r.name), path)
	}
	data, err := r.read(path)
	if err == nil && len(data) > maxPolicy {
		return nil, fmt.Errorf("%s has %d bytes, more than %d", path, len(data), maxPolicy)
	}
	return data, err
}

// named finds policies by name, in the account or among AWS's own; a document
// may stand in a name's place.
func (a *accountReader) named(n node, what string) []*Policy {
	var out []*Policy
	for i, item := range items(n) {
		switch item.Node.(type) {
		case *ast.MappingNode, *ast.MappingValueNode:
			if p := a.policy(fmt.Sprintf("%s[%d]", what, i), item); p != nil {
				out = append(out, p)
			}
			continue
		}
		name := a.text(item, what)
		if document, ok := managed[name]; ok {
			p, err := ParsePolicy(name, []byte(document))
			if err != nil { // they are ours
				panic(err)
			}
			out = append(out, p)
			continue
		}
		p, there := a.policies[name]
		switch {
		case !there && len(a.policies) == 0:
			a.bad(item.line, "%s: no policy %q: the account has none of its own", what, name)
		case !there:
			a.bad(item.line, "%s: no policy %q in the account; nearest is %q", what, name, nearest(name, a.policies))
		case p != nil: // else what is wrong with it is said where it stands
			out = append(out, p)
		}
	}
	return out
}

// single is named for a member that takes one policy.
func (a *accountReader) single(n node, what string) *Policy {
	list := a.named(n, what)
	if len(list) > 1 {
		a.bad(n.line, "%s takes one policy", what)
	}
	if len(list) == 0 {
		// A boundary that cannot be read must not be none.
		return &Policy{name: what}
	}
	return list[0]
}

func (a *accountReader) readTags(n node) map[string]string {
	tags := map[string]string{}
	for _, m := range a.members(n, "tags") {
		tags[m.key] = a.text(m.node, "tag "+m.key)
	}
	return tags
}

func (a *accountReader) readUser(m member) {
	a.name(m)
	path := "/"
	p := &Principal{Account: a.id, Type: User, Name: m.key, control: a.control}
	var keys node
	a.known(m.node, "user "+m.key, map[string]func(node){
		"path": func(n node) {
			if path = a.text(n, "path"); !entityPath.MatchString(path) {
				a.bad(n.line, "the path %q, expected one that begins and ends with /, like /apps/", path)
			}
		},
		"tags": func(n node) { p.Tags = a.readTags(n) },
		"groups": func(n node) {
			for _, g := range items(n) {
				name := a.text(g, "groups")
				policies, ok := a.groups[name]
				switch {
				case !ok && len(a.groups) == 0:
					a.bad(g.line, "no group %q: the account has none", name)
				case !ok:
					a.bad(g.line, "no group %q in the account; nearest is %q", name, nearest(name, a.groups))
				}
				p.identity = append(p.identity, policies...)
			}
		},
		"policies":             func(n node) { p.identity = append(p.identity, a.named(n, "policies")...) },
		"permissions_boundary": func(n node) { p.boundary = a.single(n, "permissions_boundary") },
		"access_keys":          func(n node) { keys = n },
	})
	p.ARN = "arn:aws:iam::" + a.id + ":user" + path + m.key
	p.UserID = uniqueID("AIDA", p.ARN)
	a.keys(keys, p)
}

// uniqueID is aws:userid: of that form, and the same at each start.
func uniqueID(prefix, arn string) string {
	sum := sha256.Sum256([]byte(arn))
	return prefix + strings.ToUpper(hex.EncodeToString(sum[:]))[:17]
}

func (a *accountReader) readRole(m member) {
	a.name(m)
	path := "/"
	role := Principal{Account: a.id, Type: AssumedRole, Temporary: true, control: a.control}
	var sessions node
	a.known(m.node, "role "+m.key, map[string]func(node){
		"path": func(n node) {
			if path = a.text(n, "path"); !entityPath.MatchString(path) {
				a.bad(n.line, "the path %q, expected one that begins and ends with /, like /apps/", path)
			}
		},
		"tags":                 func(n node) { role.Tags = a.readTags(n) },
		"policies":             func(n node) { role.identity = a.named(n, "policies") },
		"permissions_boundary": func(n node) { role.boundary = a.single(n, "permissions_boundary") },
		"sessions":             func(n node) { sessions = n },
	})
	role.role = "arn:aws:iam::" + a.id + ":role" + path + m.key
	for _, s := range a.members(sessions, "sessions") {
		a.name(s)
		p := role
		p.Name = s.key
		p.ARN = "arn:aws:sts::" + a.id + ":assumed-role/" + m.key + "/" + s.key
		p.UserID = uniqueID("AROA", role.role) + ":" + s.key
		var keys node
		a.known(s.node, "session "+s.key, map[string]func(node){
			"tags":           func(n node) { p.Tags = merged(role.Tags, a.readTags(n)) },
			"session_policy": func(n node) { p.session = a.single(n, "session_policy") },
			"access_keys":    func(n node) { keys = n },
		})
		a.keys(keys, &p)
	}
}

func merged(a, b map[string]string) map[string]string {
	out := map[string]string{}
	for _, m := range []map[string]string{a, b} {
		for k, v := range m {
			out[k] = v
		}
	}
	return out
}

func (a *accountReader) keys(n node, p *Principal) {
	for _, item := range items(n) {
		a.key(item, p)
	}
}

// key reads an access key. What is wrong with a secret never shows it.
func (a *accountReader) key(n node, p *Principal) {
	var id, status string
	var secrets []string
	var k sigv4.Key
	who := *p
	session := false
	unread := false // why is said already, and how long it is nobody knows
	a.known(n, "an access key", map[string]func(node){
		"id":     func(n node) { id = a.text(n, "id") },
		"secret": func(n node) { secrets = append(secrets, a.text(n, "secret")) },
		"secret_file": func(n node) {
			text, err := a.readFile(a.text(n, "secret_file"))
			if err != nil {
				a.bad(n.line, "secret_file: %v", err)
				unread = true
			}
			secrets = append(secrets, strings.TrimSpace(string(text)))
		},
		"secret_env": func(n node) {
			name := a.text(n, "secret_env")
			secret, ok := os.LookupEnv(name)
			if !ok {
				a.bad(n.line, "secret_env: the environment has no %s", name)
				unread = true
			}
			secrets = append(secrets, secret)
		},
		"status":         func(n node) { status = a.text(n, "status") },
		"session_token":  func(n node) { k.SessionToken, session = a.text(n, "session_token"), true },
		"expires":        func(n node) { k.Expires = a.time(n, "expires") },
		"issued":         func(n node) { who.Issued = a.time(n, "issued") },
		"mfa":            func(n node) { who.MFA = a.time(n, "mfa") },
		"session_policy": func(n node) { who.session = a.single(n, "session_policy") },
	})
	wellFormed := keyID.MatchString(id)
	if !wellFormed && len(id) >= 16 {
		id = id[:4] + "..." // it may be the secret, in the id's place
	}
	switch {
	case !wellFormed:
		a.bad(n.line, "the access key id %q, expected 16 or more capital letters and digits, like AKIAIOSFODNN7EXAMPLE", id)
	case id == DevAccessKeyID:
		a.bad(n.line, "%s is the published key of `hubbub dev`; make one of your own with `hubbub key make`", id)
	case a.keyLines[id] > 0:
		a.bad(n.line, "the access key %s stands in line %d already", id, a.keyLines[id])
	}
	a.keyLines[id] = n.line
	switch {
	case len(secrets) != 1:
		a.bad(n.line, "the access key %s must have exactly one of secret, secret_file and secret_env", id)
		return
	case secrets[0] == DevSecretKey:
		a.bad(n.line, "the secret of access key %s is the published one of `hubbub dev`; make one of your own with `hubbub key make`", id)
	case len(secrets[0]) < 16 && !unread:
		a.bad(n.line, "the secret of access key %s is shorter than 16 characters", id)
	}
	k.Secret = secrets[0]
	switch {
	case session && k.SessionToken == "":
		a.bad(n.line, "the session_token of access key %s is empty", id)
	case session && k.Expires.IsZero():
		a.bad(n.line, "the access key %s has a session_token and so needs expires, like 2026-12-31T00:00:00Z", id)
	case !session && p.Type == AssumedRole:
		a.bad(n.line, "the access key %s of a role's session is temporary: it needs session_token and expires", id)
	case !session && !k.Expires.IsZero():
		a.bad(n.line, "the access key %s has expires and so needs session_token; a long-term key has neither", id)
	}
	who.Temporary = session
	switch status {
	case "", "active":
		a.snapshot.keys[id] = AccessKey{Key: k, Principal: &who}
	case "disabled":
	default:
		a.bad(n.line, "the status %q of access key %s, expected active or disabled", status, id)
	}
}

func (a *accountReader) time(n node, what string) time.Time {
	text := a.text(n, what)
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		a.bad(n.line, "%s: %q, expected a time like 2026-12-31T00:00:00Z", what, text)
	}
	return t
}
