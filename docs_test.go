package hubbub

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// example is the first block of that language in a document.
func example(t *testing.T, document, language string) string {
	t.Helper()
	b, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(b), "```"+language+"\n")
	block, _, closed := strings.Cut(rest, "```")
	if !found || !closed {
		t.Fatalf("%s has no block of %s", document, language)
	}
	return block
}

// TestTheExamplesOfTheDocumentationAreAccepted checks the configuration of
// docs/operating.md with the principals of docs/iam.md, as an operator would who
// pastes both.
func TestTheExamplesOfTheDocumentationAreAccepted(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pair(t, TLS{Cert: filepath.Join(dir, "server.crt"), Key: filepath.Join(dir, "server.key")}, 1)
	file("hubbub.yaml", example(t, "docs/operating.md", "yaml"))
	file("iam.yaml", example(t, "docs/iam.md", "yaml"))
	for _, name := range []string{"backend.key", "alice.key", "root.key"} {
		file(name, "secretsecretsecretsecretsecretsecretsecr\n")
	}
	t.Setenv("BACKEND_SECRET", "secretsecretsecretsecretsecretsecretsecr")
	if _, err := Check(Serve, Sources{File: filepath.Join(dir, "hubbub.yaml")}, time.Now()); err != nil {
		t.Error(err)
	}
}
