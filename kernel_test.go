package hubbub

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestKernelAdvice(t *testing.T) {
	root := t.TempDir()
	set := func(name, value string) {
		t.Helper()
		path := filepath.Join(root, "proc/sys", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(value+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	says := func(viewers int, files uint64) (what []string) {
		for _, a := range kernelAdvice(root, viewers, files) {
			what = append(what, a.what)
		}
		return what
	}
	if got := says(50_000, 0); got != nil {
		t.Errorf("of a system that tells nothing: %q", got)
	}
	set("net/core/somaxconn", "128")
	set("net/ipv4/tcp_max_syn_backlog", "2048")
	set("net/netfilter/nf_conntrack_max", "65536")
	want := []string{"the limit of open files", "net.core.somaxconn", "net.netfilter.nf_conntrack_max"}
	if got := says(50_000, 50_999); !slices.Equal(got, want) {
		t.Errorf("of a small system: %q, want %q", got, want)
	}
	set("net/core/somaxconn", "4096")
	set("net/netfilter/nf_conntrack_max", "garbage")
	if got := says(50_000, 51_000); got != nil {
		t.Errorf("of a system that is large enough: %q", got)
	}
	set("net/core/somaxconn", "128")
	const text = "net.core.somaxconn is 128; for so many viewers it should be 4096: sysctl -w net.core.somaxconn=4096"
	if got := kernelAdvice(root, 10, 0)[0].String(); got != text {
		t.Errorf("%s, want %s", got, text)
	}
}
