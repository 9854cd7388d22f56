package conformance

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ivschat"
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
	c.Env = append(os.Environ(), ownMounts+"=1", "HUBBUB_BIN="+binary)
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
	for l := range strings.Lines(string(out)) {
		if _, said, found := strings.Cut(l, "_test.go:"); found {
			t.Log(strings.TrimSpace(said))
		}
	}
	return false
}

// fill takes all the space that is left where a file is.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, syscall.ENOSPC) {
			size /= 2
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// TestChatAndLogsOnAFullDisk fills the disk of the store while people chat.
func TestChatAndLogsOnAFullDisk(t *testing.T) {
	if !withMounts(t) {
		return
	}
	disk := t.TempDir()
	if err := syscall.Mount("none", disk, "tmpfs", 0, "size=32m,mode=700"); err != nil {
		t.Skipf("%s: %v", mountsNothing, err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(disk, syscall.MNT_DETACH) })
	k := openSinks(t)
	dir, ballast := filepath.Join(disk, "data"), filepath.Join(disk, "ballast")
	s := start(t, "--limits", "none", "--config", k.file("20ms", "  retry: {timeout: 300ms, max_pause: 50ms}"), "--data", dir)
	c := s.client()
	room := loggedRoom(t, c, loggedTo(t, c, toBucket("logs")))
	alice := watch(t, connect(t, s, c, room, "alice", every))
	bob := watch(t, connect(t, s, c, room, "bob"))
	alice.sayAll("before", 20)
	s.delivered(t)
	k.set(broken)
	alice.sayAll("the sink is away", 20)
	eventually(t, "everything is in the store", func() bool { return s.metric(t, "hubbub_chatlog_records_total") == 40 })

	token := newToken(t, c, room, "carol")
	fill(t, ballast)
	alice.sayAll("the disk is full", 200)
	eventually(t, "the log says that it is", func() bool {
		return strings.Contains(s.log.String(), "chat-log records cannot be written to the store")
	})
	alice.sayAll("the disk is still full", 200)
	bob.wait(440)
	if _, err := c.CreateRoom(limited(t), &ivschat.CreateRoomInput{Name: aws.String("no-room-for-it")}); err == nil {
		t.Error("a room was made on a full disk")
	}
	// Who comes meanwhile has some patience.
	came := make(chan error, 1)
	go func() {
		conn, status, err := dial(limited(t), s, token)
		if err != nil {
			err = fmt.Errorf("status %d: %w", status, err)
		} else {
			conn.CloseNow()
		}
		came <- err
	}()
	alice.sayAll("somebody waits", 1)

	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	k.set(works)
	alice.sayAll("there is room again", 20)
	s.delivered(t)
	got := firsts(k.s3.have("logs", idOf(room)))
	dropped := int(s.metric(t, "hubbub_chatlog_dropped_records_total"))
	want := alice.records()
	t.Logf("%d sent, %d dropped, %d delivered", len(want), dropped, len(got))
	if dropped+len(got) != len(want) {
		t.Errorf("%d dropped and %d delivered of %d", dropped, len(got), len(want))
	}
	if !slices.Equal(got[len(got)-20:], want[len(want)-20:]) {
		t.Error("what was sent when there was room again did not come, or not at the end")
	}
	if _, err := c.CreateRoom(limited(t), &ivschat.CreateRoomInput{Name: aws.String("there-is-room")}); err != nil {
		t.Error(err)
	}
	if err := <-came; err != nil {
		t.Errorf("who came to the full disk: %v", err)
	}
}
