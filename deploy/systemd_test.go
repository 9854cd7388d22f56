package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// tool is the path of a program that not every machine has.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not there", name)
	}
	return path
}

func TestSystemdTakesTheUnit(t *testing.T) {
	analyze := tool(t, "systemd-analyze")
	binary, err := program()
	if err != nil {
		t.Fatal(err)
	}
	unit := filepath.Join(t.TempDir(), "hubbub.service")
	must(t, os.WriteFile(unit, []byte(strings.ReplaceAll(read(t, "systemd/hubbub.service"), "/usr/local/bin/hubbub", binary)), 0o644))
	if out, err := exec.CommandContext(t.Context(), analyze, "verify", unit).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	// The threshold is in tenths: what is left is that it talks to the network, and has a user of its own.
	if out, err := exec.CommandContext(t.Context(), analyze, "security", "--offline=true", "--threshold=15", "--no-pager", unit).CombinedOutput(); err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
}

// seconds is the value of a line of the unit.
func seconds(t *testing.T, unit, key string) time.Duration {
	t.Helper()
	m := regexp.MustCompile(`(?m)^` + key + `=(\d+)$`).FindStringSubmatch(unit)
	if m == nil {
		t.Fatalf("the unit has no %s in seconds", key)
	}
	n, err := strconv.Atoi(m[1])
	must(t, err)
	return time.Duration(n) * time.Second
}

func TestSystemdWaitsLongEnough(t *testing.T) {
	unit := read(t, "systemd/hubbub.service")
	const drain = 5 * time.Second // the default
	if got, least := seconds(t, unit, "TimeoutStopSec"), stopDeadline(t)+drain; got < least {
		t.Errorf("TimeoutStopSec is %v; the steps of the stop may take %v", got, least)
	}
	if !strings.Contains(unit, "\nType=notify\n") {
		t.Error("the unit does not wait until the server says that it is ready")
	}
	open := limits(t, "../start.go")["openLimit"]
	if got := seconds(t, unit, "TimeoutStartSec"); open == 0 || got <= open {
		t.Errorf("TimeoutStartSec is %v; the start may take %v", got, open)
	}
}

func TestSystemdMakesTheUser(t *testing.T) {
	sysusers := tool(t, "systemd-sysusers")
	if os.Getuid() != 0 {
		t.Skip("only root may make users")
	}
	root := t.TempDir()
	must(t, os.Mkdir(filepath.Join(root, "etc"), 0o755))
	path, err := filepath.Abs("systemd/hubbub.sysusers")
	must(t, err)
	if out, err := exec.CommandContext(t.Context(), sysusers, "--root="+root, path).CombinedOutput(); err != nil {
		t.Fatalf("systemd-sysusers: %v\n%s", err, out)
	}
	if got := read(t, filepath.Join(root, "etc/passwd")); !strings.HasPrefix(got, "hubbub:") {
		t.Errorf("the users are %q, want hubbub", got)
	}
}

func TestTheFilesBesideTheUnitAreAccepted(t *testing.T) {
	for _, file := range []string{"systemd/hubbub.yaml", "systemd/cluster.yaml"} {
		configured(t, read(t, file), nil)
	}
}
