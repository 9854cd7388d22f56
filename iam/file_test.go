package iam_test

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"hubbub/iam"
)

// example is the file in the package comment.
func example(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(b), "The file, iam.yaml:\n//\n")
	text, _, _ = strings.Cut(text, "//\n// A key has")
	return regexp.MustCompile(`(?m)^//\t?`).ReplaceAllString(text, "")
}

func TestTheExampleOfTheDocumentation(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "backend.key"), []byte("filesecretfilesecretfilesecretfilesecret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("ALICE_SECRET", "envsecretenvsecretenvsecretenvsecretenvs")
	s, err := iam.Parse(filepath.Join(dir, "iam.yaml"), []byte(example(t)))
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]string{
		"AKIAIOSFODNN7EXAMPLE": "arn:aws:iam::123456789012:user/apps/backend",
		"ASIAIOSFODNN7EXAMPLE": "arn:aws:sts::123456789012:assumed-role/moderator/alice",
		"AKIAROOT0000EXAMPLE":  "arn:aws:iam::123456789012:root",
	} {
		k, ok := s.AccessKey(id)
		if !ok || k.Principal.ARN != want {
			t.Errorf("%s: %v %v", id, ok, k.Principal)
		}
	}
	if _, ok := s.AccessKey("AKIAI44QH8DHBEXAMPLE"); ok {
		t.Error("a disabled key is found")
	}
	k, _ := s.AccessKey("ASIAIOSFODNN7EXAMPLE")
	if k.Key.Secret != "envsecretenvsecretenvsecretenvsecretenvs" || k.Key.SessionToken == "" || !k.Key.Expires.Equal(time.Date(2026, 12, 31, 0, 0, 0, 0, time.UTC)) {
		t.Error("the temporary key is not as it stands in the file")
	}
	if s.Blocked("123456789012") || s.Blocked("999999999999") {
		t.Error("blocked")
	}
	for _, f := range []string{"%v", "%+v", "%#v", "%s"} {
		if got := fmt.Sprintf(f, k); strings.Contains(got, "envsecret") || strings.Contains(got, "FwoGZX") {
			t.Errorf("%s shows a secret: %s", f, got)
		}
	}
}

func TestASecretThatCannotBeReadIsNotCalledShort(t *testing.T) {
	for _, from := range []string{"secret_file: none.key", "secret_env: HUBBUB_TEST_NOT_THERE"} {
		text := "accounts:\n  \"123456789012\":\n    users:\n      a:\n        access_keys: [{id: AKIAIOSFODNN7EXAMPLE, " + from + "}]\n"
		_, err := iam.Parse("iam.yaml", []byte(text))
		if err == nil || strings.Contains(err.Error(), "shorter") {
			t.Errorf("%s: %v; want one line, about what is missing", from, err)
		}
	}
}

// Editors of Windows begin a file with it.
func TestAByteOrderMarkIsNoLetter(t *testing.T) {
	text := "\ufeffaccounts:\n  \"123456789012\":\n    users:\n      a:\n        access_keys: [{id: AKIAIOSFODNN7EXAMPLE, secret: wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY}]\n"
	if _, err := iam.Parse("iam.yaml", []byte(text)); err != nil {
		t.Fatal(err)
	}
}

func TestEverythingWrongIsNamedWithItsLine(t *testing.T) {
	const head = "accounts:\n  \"123456789012\":\n"
	for _, c := range []struct {
		name, file string
		want       []string
	}{
		{"empty", "", []string{"iam.yaml:1: no account"}},
		{"not YAML", "accounts: [", []string{"iam.yaml:1: "}},
		{"unknown key", "account: {}\n", []string{`iam.yaml:1: the file has no "account"; did you mean "accounts"?`}},
		{"account id", "accounts:\n  12: {}\n", []string{"iam.yaml:2: account \"12\", expected 12 digits"}},
		{"unknown member", head + "    user: {}\n", []string{`iam.yaml:3: account 123456789012 has no "user"; did you mean "users"?`}},
		{"several at once", head + "    users:\n      a:\n        access_keys:\n          - {id: short, secret: 0123456789abcdef}\n          - {id: AKIAIOSFODNN7EXAMPLE}\n      b: {polices: []}\n",
			[]string{"iam.yaml:6: the access key id \"short\"", "iam.yaml:7: the access key AKIAIOSFODNN7EXAMPLE must have exactly one of secret", `iam.yaml:8: user b has no "polices"; did you mean "policies"?`}},
		{"the published key", head + "    root: {access_keys: [{id: AKIAHUBBUBDEV0000000, secret: hubbub-dev-secret-key-not-for-production}]}\n", []string{"iam.yaml:3: AKIAHUBBUBDEV0000000 is the published key"}},
		{"the published secret under another id", head + "    root: {access_keys: [{id: AKIAIOSFODNN7EXAMPLE, secret: hubbub-dev-secret-key-not-for-production}]}\n", []string{"iam.yaml:3: the secret of access key AKIAIOSFODNN7EXAMPLE is the published one"}},
		{"a key twice", head + "    root:\n      access_keys:\n        - {id: AKIAIOSFODNN7EXAMPLE, secret: 0123456789abcdef}\n        - {id: AKIAIOSFODNN7EXAMPLE, secret: 0123456789abcdef}\n", []string{"iam.yaml:6: the access key AKIAIOSFODNN7EXAMPLE stands in line 5 already"}},
		{"a secret that is short", head + "    root: {access_keys: [{id: AKIAIOSFODNN7EXAMPLE, secret: hunter2}]}\n", []string{"iam.yaml:3: the secret of access key AKIAIOSFODNN7EXAMPLE is shorter than 16 characters"}},
		{"id and secret in each other's place", head + "    root: {access_keys: [{id: hunter2hunter2hunter2, secret: AKIAIOSFODNN7EXAMPLE, status: on}]}\n", []string{`iam.yaml:3: the access key id "hunt...", expected 16 or more capital letters and digits`}},
		{"a temporary key without its end", head + "    root: {access_keys: [{id: ASIAIOSFODNN7EXAMPLE, secret: 0123456789abcdef, session_token: t}]}\n", []string{"needs expires"}},
		{"an end without a token", head + "    root: {access_keys: [{id: ASIAIOSFODNN7EXAMPLE, secret: 0123456789abcdef, expires: 2026-12-31T00:00:00Z}]}\n", []string{"needs session_token"}},
		{"a bad time", head + "    root: {access_keys: [{id: ASIAIOSFODNN7EXAMPLE, secret: 0123456789abcdef, session_token: t, expires: tomorrow}]}\n", []string{`expires: "tomorrow", expected a time`}},
		{"a file that is not there", head + "    root: {access_keys: [{id: AKIAIOSFODNN7EXAMPLE, secret_file: no-such-file}]}\n", []string{"iam.yaml:3: secret_file: "}},
		{"an unknown policy", head + "    policies: {tokens: '{\"Statement\":{\"Effect\":\"Allow\",\"Action\":\"*\",\"Resource\":\"*\"}}'}\n    users: {a: {policies: [token]}}\n", []string{`iam.yaml:4: policies: no policy "token" in the account; nearest is "tokens"`}},
		{"an unknown group", head + "    users: {a: {groups: [g]}}\n", []string{`iam.yaml:3: no group "g": the account has none`}},
		{"what would have to be followed", head + "    users:\n      a: {tags: {team: &t chat}}\n      b: {tags: {team: *t, n: !!str 1}}\n      c: &c {}\n      d: {<<: *c}\n      e: *c\n    policies: {p: &p {Statement: []}, q: *p}\n",
			[]string{"iam.yaml:4: tag team: anchors", "iam.yaml:5: tag team: anchors", "iam.yaml:5: tag n: anchors", "iam.yaml:6: user c: anchors", "iam.yaml:7: user d: anchors",
				"iam.yaml:8: user e: anchors", "iam.yaml:9: policy p: anchors", "iam.yaml:9: policy q: anchors"}},
		{"a switch", head + "    pending_verification: maybe\n", []string{"iam.yaml:3: pending_verification must be true or false"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := iam.Parse("iam.yaml", []byte(c.file))
			if err == nil {
				t.Fatal("accepted")
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%v\ndoes not say %q", err, w)
				}
			}
			for _, secret := range []string{"hunter2", "0123456789abcdef", "not-for-production"} {
				if strings.Contains(err.Error(), secret) {
					t.Error("the error shows a secret:", err)
				}
			}
		})
	}
}

func TestAPolicyThatCannotBeReadIsNotSaidToBeMissing(t *testing.T) {
	_, err := iam.Parse("iam.yaml", []byte("accounts:\n  \"123456789012\":\n    policies: {token: '{'}\n    users: {a: {policies: [token]}}\n"))
	if err == nil || err.Error() != "iam.yaml:3: policy token: not JSON at byte 1: unexpected EOF" {
		t.Error(err)
	}
}

func TestPoliciesThatMeanSomethingElseAreRefused(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"not JSON", `{`, "not JSON"},
		{"unknown element", `{"Statement":[],"Foo":1}`, "unknown element Foo"},
		{"unknown element of a statement", `{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Conditions":{}}}`, "unknown element Statement.Conditions"},
		{"a member twice", `{"Statement":{"Effect":"Allow","Effect":"Deny","Action":"*","Resource":"*"}}`, "duplicate"},
		{"no statement", `{"Version":"2012-10-17"}`, "there is no Statement"},
		{"version", `{"Version":"2020-01-01","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`, "Version"},
		{"effect", `{"Statement":{"Effect":"allow","Action":"*","Resource":"*"}}`, `Statement[0].Effect: "allow", expected "Allow" or "Deny"`},
		{"principal", `{"Statement":{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}}`, "names none"},
		{"both actions", `{"Statement":{"Effect":"Allow","Action":"*","NotAction":"*","Resource":"*"}}`, "exactly one of Action and NotAction"},
		{"no action", `{"Statement":{"Effect":"Allow","Resource":"*"}}`, "exactly one of Action and NotAction"},
		{"no resource", `{"Statement":{"Effect":"Allow","Action":"*"}}`, "exactly one of Resource and NotResource"},
		{"an empty list", `{"Statement":{"Effect":"Allow","Action":[],"Resource":"*"}}`, "an empty list"},
		{"an action without a service", `{"Statement":{"Effect":"Allow","Action":"CreateRoom","Resource":"*"}}`, `"CreateRoom", expected one like "ivschat:CreateRoom"`},
		{"a bare id", `{"Statement":{"Effect":"Allow","Action":"*","Resource":"AbCdEf123456"}}`, "expected an ARN"},
		{"operator", `{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringMatches":{"aws:username":"x"}}}}`, `unknown condition operator "StringMatches"`},
		{"a negation that is none", `{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"NumericNotLessThan":{"aws:username":"1"}}}}`, "unknown condition operator"},
		{"a misspelt action", `{"Statement":{"Effect":"Deny","Action":["ivschat:*Message","ivschat:DeletRoom"],"Resource":"*"}}`, `"ivschat:DeletRoom" is no action of the service; nearest is "ivschat:DeleteRoom"`},
		{"an action that sending does not have", `{"Statement":{"Effect":"Deny","Action":"IVSChat:sendmessage","Resource":"*"}}`, "is no action of the service"},
		{"key", `{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:Usernam":"x"}}}}`, "unknown condition key"},
		{"address", `{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"IpAddress":{"aws:SourceIp":"10.0.0.0/33"}}}}`, "not an address"},
		{"number", `{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"NumericEquals":{"aws:EpochTime":"x"}}}}`, "not a number"},
		{"date", `{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"DateEquals":{"aws:CurrentTime":"x"}}}}`, "not a date"},
		{"bool", `{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"yes"}}}}`, "neither true nor false"},
		{"null with IfExists", `{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"NullIfExists":{"aws:username":"true"}}}}`, "takes neither"},
		{"a variable left open", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"arn:aws:ivschat:*:*:room/${aws:username"}}`, "closing brace"},
		{"an unknown variable", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"arn:aws:ivschat:*:*:room/${aws:user}"}}`, "unknown variable"},
		{"a Sid twice", `{"Statement":[{"Sid":"a","Effect":"Allow","Action":"*","Resource":"*"},{"Sid":"a","Effect":"Allow","Action":"*","Resource":"*"}]}`, "stands twice"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := iam.ParsePolicy("p", []byte(c.text))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v does not say %q", err, c.want)
			}
		})
	}
}

func TestAChangedFileActsAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "iam.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const file = "accounts:\n  \"123456789012\":\n    root: {access_keys: [{id: AKIAIOSFODNN7EXAMPLE, secret: 0123456789abcdef}]}\n"
	write(file)
	var log strings.Builder
	s, err := iam.Open(path, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	write("accounts: {}\n")
	if err := s.Reload(); err == nil {
		t.Error("a file without an account is taken")
	}
	if _, ok := s.Current().AccessKey("AKIAIOSFODNN7EXAMPLE"); !ok {
		t.Error("what was in force is gone")
	}
	write(strings.ReplaceAll(file, "AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN8EXAMPLE"))
	if err := s.Reload(); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Current().AccessKey("AKIAIOSFODNN8EXAMPLE"); !ok {
		t.Error("the new key is not there")
	}
	if _, err := iam.Open(path+".none", nil); err == nil {
		t.Error("a file that is not there is opened")
	}
}

func TestAFileThatABrokenVersionNamesIsFollowed(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const file = "accounts:\n  \"123456789012\":\n    root: {access_keys: [{id: AKIAIOSFODNN7EXAMPLE, secret%s}]}\n"
	write("iam.yaml", fmt.Sprintf(file, ": 0123456789abcdef"))
	var log strings.Builder
	s, err := iam.Open(filepath.Join(dir, "iam.yaml"), slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	write("iam.yaml", fmt.Sprintf(file, "_file: root.key"))
	for range 3 {
		s.Look()
	}
	if n := strings.Count(log.String(), "root.key"); n != 1 {
		t.Errorf("a file that is not there is complained about %d times: %s", n, &log)
	}
	write("root.key", "fedcba9876543210")
	s.Look()
	if k, _ := s.Current().AccessKey("AKIAIOSFODNN7EXAMPLE"); k.Key.Secret != "fedcba9876543210" {
		t.Error("the file that was missing is there, and the policies are not read again")
	}
	write("root.key", "another secret")
	s.Look()
	write("root.key", "fedcba9876543210") // as it was when it was in force
	s.Look()
	write("root.key", "another secret")
	s.Look()
	if n := strings.Count(log.String(), "level=ERROR"); n != 3 {
		t.Errorf("three mistakes, the last two alike and one mended in between, are complained about %d times: %s", n, &log)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(example(f))
	f.Add("accounts: {\"123456789012\": {users: {a: {policies: [{Statement: []}]}}}}")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "file") || strings.Contains(text, "env") {
			t.Skip("it would read what the machine has")
		}
		s, err := iam.Parse("iam.yaml", []byte(text))
		if (s == nil) == (err == nil) {
			t.Fatal("neither or both")
		}
	})
}

func FuzzParsePolicy(f *testing.F) {
	f.Add(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["a:*"],"Resource":"arn:aws:x:::${aws:username, 'x'}","Condition":{"ForAllValues:StringLikeIfExists":{"aws:TagKeys":["*",1,true]}}}]}`)
	p := principal(f, "")
	f.Fuzz(func(t *testing.T, text string) {
		parsed, err := iam.ParsePolicy("p", []byte(text))
		if (parsed == nil) == (err == nil) {
			t.Fatal("neither or both")
		}
		p.Decide(iam.Request{Action: text, Resource: room, Context: request})
	})
}
