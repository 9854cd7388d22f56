package hubbub

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync/atomic"

	"hubbub/iam"
)

// policies is who may do what, as it is now: what the iam file says, and in Dev
// the published key besides.
type policies struct {
	// Set by openPolicies, read-only after.
	published *iam.Snapshot // nil in Serve
	file      *iam.Store    // nil without a file
	log       *slog.Logger

	// Shared: the last of the two put together.
	both atomic.Pointer[joined]
}

// joined is the published key with one version of the file.
type joined struct{ file, sum *iam.Snapshot }

func openPolicies(c Config, log *slog.Logger) (*policies, error) {
	p := &policies{log: log.With("component", "iam")}
	if c.Mode == Dev {
		p.published = iam.Dev(c.Account, DevAccessKeyID, DevSecretKey)
	}
	if c.IAM == "" {
		return p, nil
	}
	if problems := iamProblems(c, func(string) string { return "" }); len(problems) > 0 {
		return nil, problems
	}
	var err error
	p.file, err = iam.Open(c.IAM, p.log)
	return p, err
}

// current is what a request is judged by. It does no I/O.
func (p *policies) current() *iam.Snapshot {
	if p.file == nil {
		return p.published
	}
	file := p.file.Current()
	if p.published == nil {
		return file
	}
	last := p.both.Load()
	if last == nil || last.file != file {
		last = &joined{file, p.published.With(file)}
		p.both.Store(last)
	}
	return last.sum
}

// reload reads the file again; if something is wrong with it, what was in force
// stays so.
func (p *policies) reload() {
	if p.file == nil {
		return
	}
	if err := p.file.Reload(); err != nil {
		p.log.Error("the iam file is not used; what was in force stays so", "err", err)
		return
	}
	p.log.Info("iam file read again")
}

// run follows changes of the file until ctx ends.
func (p *policies) run(ctx context.Context) {
	if p.file != nil {
		p.file.Run(ctx)
	}
}

// iamProblems reads the iam file and says all that is wrong with it, and with it
// in this configuration.
func iamProblems(c Config, where func(key string) string) Problems {
	data, err := os.ReadFile(c.IAM)
	if err != nil {
		return Problems{{c.IAM, fmt.Sprintf("cannot be read: %v", unwrapPath(err))}}
	}
	var problems Problems
	snapshot, err := iam.Parse(c.IAM, data)
	if err != nil {
		for line := range strings.Lines(err.Error()) { // each names file and line
			problems = append(problems, Problem{What: strings.TrimRight(line, "\n")})
		}
		return problems
	}
	if accounts := snapshot.Accounts(); c.Mode == Serve && c.Account != "" && !slices.Contains(accounts, c.Account) {
		problems = append(problems, Problem{where("account"), fmt.Sprintf("account %s is not in %s, which has %s; correct one of them, or remove account",
			c.Account, c.IAM, strings.Join(accounts, ", "))})
	}
	return problems
}

// IAMLines are the lines of an iam file that let a new key in, to do everything.
func IAMLines(k AccessKey) string {
	return fmt.Sprintf(`accounts:
  "123456789012":                        # the account of your ARNs
    users:
      admin:                             # as many users, and keys of each, as you like
        policies: ["arn:aws:iam::aws:policy/IVSFullAccess"]
        access_keys:
          - {id: %s, secret: %s}
`, k.ID, k.Secret)
}
