package hubbub

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// examples are the blocks of that language in a document, at least one.
func examples(t *testing.T, document, language string) (blocks []string) {
	t.Helper()
	b, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	for rest := string(b); ; {
		_, after, found := strings.Cut(rest, "```"+language+"\n")
		if !found {
			break
		}
		block, behind, closed := strings.Cut(after, "```")
		if !closed {
			t.Fatalf("%s has a block of %s without end", document, language)
		}
		blocks, rest = append(blocks, block), behind
	}
	if len(blocks) == 0 {
		t.Fatalf("%s has no block of %s", document, language)
	}
	return blocks
}

// TestTheExamplesOfTheDocumentationAreAccepted checks the configuration of
// docs/operating.md with the principals of docs/iam.md, as an operator would who
// pastes both; and that of docs/configuration.md, by itself and with each of the
// sections shown below it and in docs/logging.md.
func TestTheExamplesOfTheDocumentationAreAccepted(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pair(t, TLS{Cert: filepath.Join(dir, "server.crt"), Key: filepath.Join(dir, "server.key")}, 1)
	file("iam.yaml", examples(t, "docs/iam.md", "yaml")[0])
	for _, name := range []string{"backend.key", "alice.key", "root.key"} {
		file(name, "secretsecretsecretsecretsecretsecretsecr\n")
	}
	file("cluster.secret", "secretsecretsecretsecretsecretsecretsecr\n")
	t.Setenv("BACKEND_SECRET", "secretsecretsecretsecretsecretsecretsecr")
	accepted := func(content string) {
		t.Helper()
		file("hubbub.yaml", content)
		l, err := Check(Serve, Sources{File: filepath.Join(dir, "hubbub.yaml")}, time.Now())
		if err != nil || len(l.Warnings) > 0 {
			t.Errorf("%s\n%v %v", content, err, l.Warnings)
		}
	}
	accepted(examples(t, "docs/operating.md", "yaml")[0])
	page := examples(t, "docs/configuration.md", "yaml")
	accepted(page[0])
	for _, sections := range page[1:] {
		accepted(page[0] + sections)
	}
	for _, sections := range examples(t, "docs/logging.md", "yaml") {
		accepted(page[0] + sections)
	}
}
