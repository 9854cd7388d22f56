package iam

import (
	"fmt"
	"log/slog"
	"strings"
	"time"

	"hubbub/ivschat"
	"hubbub/sigv4"
)

// PrincipalType is what kind of principal one is.
type PrincipalType string

// The types, as aws:PrincipalType has them.
const (
	Root        PrincipalType = "Account"
	User        PrincipalType = "User"
	AssumedRole PrincipalType = "AssumedRole"
)

// Principal is who a request comes from. It never changes.
type Principal struct {
	ARN     string // "arn:aws:iam::123456789012:user/apps/backend"
	Account string // 12 digits
	Type    PrincipalType
	Name    string // of the user, role or session
	UserID  string // aws:userid
	Tags    map[string]string

	Temporary   bool
	Issued, MFA time.Time // of temporary credentials; zero if not given

	role     string // ARN of the role of a session
	identity []*Policy
	boundary *Policy   // nil if none
	session  *Policy   // nil if none
	control  []*Policy // service control policies; each must allow
}

// identityARN is the value of aws:PrincipalArn: of a session that of its role.
func (p *Principal) identityARN() string {
	if p.role != "" {
		return p.role
	}
	return p.ARN
}

// Request is a question: may the principal do this?
type Request struct {
	Action   string      // "ivschat:CreateRoom"
	Resource ivschat.ARN // or a pattern of them, for operations that create or list
	Context  Context
}

// Decision is the answer.
type Decision struct {
	Allowed bool
	Message string // for the caller, "" if allowed
	Why     string // for the log: the statement that decided, or which lack did
}

// Decide evaluates the principal's policies. An explicit deny anywhere wins;
// then service control policies, permissions boundary and session policy must
// allow as far as there are any, and at last an identity policy, which the
// account's root does not need. Source: spec iam B.5, B.6.
func (p *Principal) Decide(r Request) Decision {
	r.Context.ResourceAccount = account(r.Resource)
	kinds := []struct {
		name     string // as the message has it, with its article
		policies []*Policy
		required bool
	}{
		{"a service control policy", p.control, len(p.control) > 0},
		{"a permissions boundary", list(p.boundary), p.boundary != nil},
		{"a session policy", list(p.session), p.session != nil},
		{"an identity-based policy", p.identity, p.Type != Root},
	}
	verdicts := make([]verdict, len(kinds))
	for i, k := range kinds {
		verdicts[i] = evaluate(k.policies, &r, p)
		if verdicts[i].denied {
			return p.deny(r, "with an explicit deny in "+k.name, verdicts[i].by)
		}
	}
	if r.Context.ResourceAccount != p.Account {
		return p.deny(r, "because no identity-based policy allows the "+r.Action+" action", "the resource is of another account")
	}
	for _, scp := range p.control { // each level must allow by itself
		if v := evaluate([]*Policy{scp}, &r, p); !v.allowed {
			return p.deny(r, "because no service control policy allows the "+r.Action+" action", fmt.Sprintf("service control policy %q does not allow %s", scp.name, r.Action))
		}
	}
	for i, k := range kinds {
		if k.required && !verdicts[i].allowed {
			name := strings.TrimPrefix(strings.TrimPrefix(k.name, "an "), "a ")
			return p.deny(r, "because no "+name+" allows the "+r.Action+" action", "no statement of "+k.name+" allows "+r.Action)
		}
	}
	why := verdicts[len(verdicts)-1].by
	if why == "" {
		why = "account root"
	}
	return Decision{Allowed: true, Why: why}
}

func list(p *Policy) []*Policy {
	if p == nil {
		return nil
	}
	return []*Policy{p}
}

func (p *Principal) deny(r Request, how, why string) Decision {
	return Decision{
		Message: fmt.Sprintf("User: %s is not authorized to perform: %s on resource: %s %s", p.ARN, r.Action, r.Resource, how),
		Why:     why,
	}
}

func account(a ivschat.ARN) string {
	parts := strings.SplitN(string(a), ":", 6)
	if len(parts) < 6 {
		return ""
	}
	return parts[4]
}

// AccessKey is a key and whose it is. It prints without its secret.
type AccessKey struct {
	Key       sigv4.Key
	Principal *Principal
}

// String hides the secret.
func (AccessKey) String() string { return "[sealed]" }

// GoString hides the secret from %#v.
func (AccessKey) GoString() string { return "[sealed]" }

// LogValue hides the secret from logs.
func (AccessKey) LogValue() slog.Value { return slog.StringValue("[sealed]") }

// Snapshot is everything of a file at one time. It never changes.
type Snapshot struct {
	keys     map[string]AccessKey
	blocked  map[string]bool
	accounts []string
}

// AccessKey finds the key of that id; ok is false for one that is unknown or
// disabled. A temporary key is found after its expiry too: the signature check
// says that.
func (s *Snapshot) AccessKey(id string) (k AccessKey, ok bool) {
	k, ok = s.keys[id]
	return k, ok
}

// Blocked says whether the account is pending verification.
// Source: spec control-plane 3.3.
func (s *Snapshot) Blocked(account string) bool { return s.blocked[account] }

// Accounts are the account ids, in order.
func (s *Snapshot) Accounts() []string { return s.accounts }

// With is the snapshot and, besides, what the other has.
func (s *Snapshot) With(other *Snapshot) *Snapshot {
	sum := &Snapshot{keys: map[string]AccessKey{}, blocked: map[string]bool{}}
	for _, from := range []*Snapshot{other, s} {
		for id, k := range from.keys {
			sum.keys[id] = k
		}
		for a := range from.blocked {
			sum.blocked[a] = true
		}
		for _, a := range from.accounts {
			sum.addAccount(a)
		}
	}
	return sum
}

func (s *Snapshot) addAccount(id string) {
	for i, a := range s.accounts {
		if a == id {
			return
		}
		if a > id {
			s.accounts = append(s.accounts[:i], append([]string{id}, s.accounts[i:]...)...)
			return
		}
	}
	s.accounts = append(s.accounts, id)
}

// Dev is one account whose root has the key given: it may do everything.
func Dev(account, accessKeyID, secret string) *Snapshot {
	root := &Principal{ARN: "arn:aws:iam::" + account + ":root", Account: account, Type: Root, Name: "root", UserID: account}
	return &Snapshot{
		keys:     map[string]AccessKey{accessKeyID: {Key: sigv4.Key{Secret: secret}, Principal: root}},
		accounts: []string{account},
	}
}
