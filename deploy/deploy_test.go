// Package deploy has no code: its tests hold the image, the chart, the compose
// file and the systemd unit to what their tools and the server itself accept.
package deploy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

// program is the binary, built as the image's is; in bin of the repository, so
// that a second run does not link it again.
var program = sync.OnceValues(func() (string, error) {
	build, err := buildCommand()
	if err != nil {
		return "", err
	}
	path, err := filepath.Abs("../bin/hubbub-image")
	if err != nil {
		return "", err
	}
	cmd := exec.Command("sh", "-ec", strings.Replace(build, "/out/hubbub", path, 1))
	cmd.Dir = ".."
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", build, err, out)
	}
	return path, nil
})

// hubbub runs the program with env and no other variable, and returns
// what it printed.
func hubbub(t *testing.T, env []string, args ...string) (string, error) {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Env = append([]string{}, env...) // never nil: what the tests' own environment sets is not the server's
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// configured writes a configuration and the files that it names into a folder, as
// they stand in /etc/hubbub, and wants `hubbub check` to accept it without a warning.
func configured(t *testing.T, config string, env []string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	keys, err := hubbub(t, nil, "key", "make")
	if err != nil {
		t.Fatalf("hubbub key make: %v\n%s", err, keys)
	}
	cert, key := pair(t)
	for name, content := range map[string]string{
		"hubbub.yaml": config, "iam.yaml": keys, "cluster.secret": strings.Repeat("0123456789abcdef", 4) + "\n",
		"server.crt": cert, "server.key": key, "tls.crt": cert, "tls.key": key,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := hubbub(t, env, "check", "--config", filepath.Join(dir, "hubbub.yaml")); err != nil || strings.Contains(out, "warning") {
		t.Errorf("hubbub check: %v\n%s\nof\n%s", err, out, config)
	}
	return dir
}

// withoutCluster is a configuration for a server that stands alone.
func withoutCluster(t *testing.T, config string) string {
	t.Helper()
	keys := map[string]any{}
	if err := yaml.UnmarshalStrict([]byte(config), &keys); err != nil {
		t.Fatal(err)
	}
	delete(keys, "cluster")
	b, err := yaml.Marshal(keys)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// pair is a certificate and its key, in PEM.
func pair(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"hubbub"}}
	certDER, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certDER})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
}

// limits are the deadlines that a file of the server names: "storeLimit".
func limits(t *testing.T, file string) map[string]time.Duration {
	t.Helper()
	source := read(t, file)
	found := map[string]time.Duration{}
	for _, m := range regexp.MustCompile(`(\w+Limit)\s*= (\d+) \* time\.(Second|Minute)\b`).FindAllStringSubmatch(source, -1) {
		n, err := strconv.Atoi(m[2])
		if err != nil {
			t.Fatal(err)
		}
		found[m[1]] = time.Duration(n) * map[string]time.Duration{"Second": time.Second, "Minute": time.Minute}[m[3]]
	}
	return found
}

// stopDeadline is what a stop may take at most without the drain: the sum of the
// deadlines of its steps.
func stopDeadline(t *testing.T) (sum time.Duration) {
	t.Helper()
	found := limits(t, "../server.go")
	for _, l := range found {
		sum += l
	}
	if found["adminLimit"] == 0 || sum < 30*time.Second {
		t.Fatalf("the deadlines of the stop were not found in server.go: %v", found)
	}
	return sum + 5*found["adminLimit"] // six short steps have it: ports, files, the address
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func same[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}
