package hubbub

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
)

// iamFile is a file with one user who may do what the policies named allow.
func iamFile(k AccessKey, policy string) string {
	return fmt.Sprintf(`accounts:
  "123456789012":
    users:
      backend:
        policies: ["arn:aws:iam::aws:policy/%s"]
        access_keys: [{id: %s, secret: "%s"}]
`, policy, k.ID, k.Secret)
}

func TestServeKnowsItsPrincipalsAndRegionsAlone(t *testing.T) {
	k := NewAccessKey()
	path := write(t, "iam.yaml", iamFile(k, "IVSReadOnlyAccess"))
	s, log := node(t, Config{Mode: Serve, Regions: []string{"us-west-2", "eu-west-1"}, IAM: path, Account: "123456789012"})
	if s.Room() != "" {
		t.Errorf("serve made the room %s", s.Room())
	}
	call := func(id, secret, region, operation string) int {
		t.Helper()
		status, _ := newCaller(t, s.APIURL(), id, secret, region).call(t, operation, map[string]any{})
		return status
	}
	for _, c := range []struct {
		sentence           string
		id, secret, region string
		operation          string
		want               int
	}{
		{"a principal may what the policy says", k.ID, k.Secret, "us-west-2", "ListRooms", 200},
		{"in each region of the list", k.ID, k.Secret, "eu-west-1", "ListRooms", 200},
		{"in no other region", k.ID, k.Secret, "us-east-1", "ListRooms", 403},
		{"nothing that the policy does not say", k.ID, k.Secret, "us-west-2", "CreateRoom", 403},
		{"the published key lets nobody in", DevAccessKeyID, DevSecretKey, "us-west-2", "ListRooms", 403},
	} {
		if got := call(c.id, c.secret, c.region, c.operation); got != c.want {
			t.Errorf("%s: status %d, want %d", c.sentence, got, c.want)
		}
	}

	// The file changes: asked to look, by itself, and not if it is broken.
	change := func(content string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	change(iamFile(k, "IVSFullAccess"))
	s.Reload()
	if got := call(k.ID, k.Secret, "us-west-2", "CreateRoom"); got != http.StatusOK {
		t.Errorf("after the reload: status %d, want 200", got)
	}
	change("accounts: broken\n")
	s.Reload()
	if got := call(k.ID, k.Secret, "us-west-2", "CreateRoom"); got != http.StatusOK {
		t.Errorf("a broken file took the permission away: status %d", got)
	}
	wantContains(t, log.String(), "what was in force stays so")
	change(iamFile(k, "IVSReadOnlyAccess"))
	eventually(t, "the change is seen without being asked to look", func() bool {
		return call(k.ID, k.Secret, "us-west-2", "CreateRoom") == http.StatusForbidden
	})
	if strings.Contains(log.String(), k.Secret) {
		t.Error("the secret is in the log")
	}
}

func TestDevTakesAnIAMFileBesides(t *testing.T) {
	k := NewAccessKey()
	s, _ := node(t, Config{IAM: write(t, "iam.yaml", iamFile(k, "IVSReadOnlyAccess"))})
	devCaller(t, s).ok(t, "ListRooms", map[string]any{})
	own := newCaller(t, s.APIURL(), k.ID, k.Secret, "ap-south-1")
	own.ok(t, "ListRooms", map[string]any{})
	if status, _ := own.call(t, "CreateRoom", map[string]any{}); status != http.StatusForbidden {
		t.Errorf("a reader made a room: status %d", status)
	}
	s.Reload()
	own.ok(t, "ListRooms", map[string]any{})
}

func TestServeStartRefuses(t *testing.T) {
	k := NewAccessKey()
	good := write(t, "iam.yaml", iamFile(k, "IVSFullAccess"))
	serve := func(change func(*Config)) error {
		c := Config{Mode: Serve, Regions: []string{"us-west-2"}, IAM: good}
		change(&c)
		free(&c)
		s, err := Start(t.Context(), c)
		if err == nil {
			s.Close()
		}
		return err
	}
	for _, c := range []struct {
		sentence string
		change   func(*Config)
		want     string
	}{
		{"an account that the iam file does not have", func(c *Config) { c.Account = "999999999999" }, "account 999999999999 is not in"},
		{"the published key", func(c *Config) {
			c.IAM = write(t, "iam.yaml", iamFile(AccessKey{DevAccessKeyID, k.Secret}, "IVSFullAccess"))
		}, DevAccessKeyID},
		{"the published secret", func(c *Config) { c.IAM = write(t, "iam.yaml", iamFile(AccessKey{k.ID, DevSecretKey}, "IVSFullAccess")) }, "is the published one"},
		{"no regions", func(c *Config) { c.Regions = nil }, "region"},
	} {
		t.Run(c.sentence, func(t *testing.T) {
			err := serve(c.change)
			if err == nil {
				t.Fatal("it started")
			}
			wantContains(t, err.Error(), c.want)
			if strings.Contains(err.Error(), k.Secret) || strings.Contains(err.Error(), DevSecretKey) {
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
	if err := serve(func(*Config) {}); err != nil {
		t.Errorf("what is right is refused: %v", err)
	}
}
