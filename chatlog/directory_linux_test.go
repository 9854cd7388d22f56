package chatlog_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"hubbub/chatlog"
)

// ownMounts is set for the process that may mount without anybody seeing it.
const ownMounts = "HUBBUB_TEST_OWN_MOUNTS"

const mountsNothing = "this machine mounts nothing"

// withMounts runs the test once more in a process with mounts of its own, and
// says whether this is that process.
func withMounts(t *testing.T) bool {
	t.Helper()
	if os.Getenv(ownMounts) != "" {
		return true
	}
	c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	c.Env = append(os.Environ(), ownMounts+"=1")
	c.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := c.CombinedOutput()
	switch {
	case c.Process == nil:
		t.Skipf("this machine gives no mounts of its own: %v", err)
	case err != nil:
		t.Fatalf("%v\n%s", err, out)
	case strings.Contains(string(out), mountsNothing):
		t.Skip(mountsNothing)
	}
	return false
}

func mount(t *testing.T, path, options string, flags uintptr) {
	t.Helper()
	if err := syscall.Mount("none", path, "tmpfs", flags, options); err != nil {
		t.Skipf("%s: %v", mountsNothing, err)
	}
	if flags&syscall.MS_REMOUNT == 0 {
		t.Cleanup(func() { _ = syscall.Unmount(path, syscall.MNT_DETACH) })
	}
}

// TestAFullDisk fills it, and looks for what a reader would stumble over.
func TestAFullDisk(t *testing.T) {
	if !withMounts(t) {
		return
	}
	room := logRoom("abc123DEF456")
	for _, p := range places {
		t.Run(p.name, func(t *testing.T) {
			p := p.open(t)
			if p.service != nil {
				t.Skip("is not on this disk")
			}
			mount(t, p.path, "size=256k,mode=700", 0)
			mustPut(t, p, entriesOf(room, 0, 3))
			before := filesOf(t, p.path)
			ballast := filepath.Join(p.path, "ballast")
			if err := os.WriteFile(ballast, make([]byte, 160<<10), 0o600); err != nil {
				t.Fatal(err)
			}
			// More than fits, and more than a page, so that some of it is written.
			big := entriesOf(room, 3, 400)
			for i := range big {
				big[i].Line = noisy(3+i, 500)
			}
			f := putFails(t, p, big, chatlog.Other, chatlog.Passing)
			if !strings.Contains(f.Error(), "no space left on device") {
				t.Errorf("%v does not say what is the matter", f)
			}
			after := filesOf(t, p.path)
			delete(after, "ballast")
			if !maps.EqualFunc(before, after, func(a, b []byte) bool { return string(a) == string(b) }) {
				t.Errorf("a batch that was not taken left something: %q, before %q", slices.Sorted(maps.Keys(after)), slices.Sorted(maps.Keys(before)))
			}
			if err := os.Remove(ballast); err != nil {
				t.Fatal(err)
			}
			mustPut(t, p, big)
			sameLines(t, p.lines(t, room), append(linesOf(entriesOf(room, 0, 3)), linesOf(big)...))
		})
	}
}

func TestAFolderThatMayNotBeWritten(t *testing.T) {
	if !withMounts(t) {
		return
	}
	for _, p := range places {
		t.Run(p.name, func(t *testing.T) {
			p := p.open(t)
			if p.service != nil {
				t.Skip("is not on this disk")
			}
			mount(t, p.path, "mode=700", 0)
			entries := entriesOf(logRoom("abc123DEF456"), 0, 3)
			mustPut(t, p, entries[:1])
			mount(t, p.path, "", syscall.MS_REMOUNT|syscall.MS_RDONLY)
			putFails(t, p, entries[1:], chatlog.AccessDenied, chatlog.Final)
			mount(t, p.path, "", syscall.MS_REMOUNT)
			mustPut(t, p, entries[1:])
		})
	}
}

// noisy is a line that cannot be packed.
func noisy(i, n int) []byte {
	r := rand.NewPCG(uint64(i), 0)
	line := fmt.Appendf(nil, `{"n":%d,"noise":"`, i)
	for len(line) < n {
		line = fmt.Appendf(line, "%016x", r.Uint64())
	}
	return append(line, `"}`...)
}
