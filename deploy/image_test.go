package deploy

import (
	"bufio"
	"debug/elf"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// stages are those of the Dockerfile. What its linter says of them is an error.
func stages() ([]instructions.Stage, error) {
	f, err := os.Open("Dockerfile")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	parsed, err := parser.Parse(f)
	if err != nil {
		return nil, err
	}
	var said []error
	lint := linter.New(&linter.Config{Warn: func(rule, description, _, message string, _ []parser.Range) {
		said = append(said, errors.New(rule+": "+description+" "+message))
	}})
	list, _, err := instructions.Parse(parsed.AST, lint)
	return list, errors.Join(append(said, err)...)
}

// buildCommand is the line of the Dockerfile that builds the binary.
func buildCommand() (string, error) {
	list, err := stages()
	if err != nil {
		return "", err
	}
	for _, c := range list[0].Commands {
		if run, ok := c.(*instructions.RunCommand); ok && strings.Contains(run.CmdLine[0], "go build") {
			return run.CmdLine[0], nil
		}
	}
	return "", errors.New("the Dockerfile has no RUN with go build")
}

func TestTheImageHasABinaryAndNothingElse(t *testing.T) {
	list, err := stages()
	if err != nil {
		t.Fatal(err)
	}
	last := list[len(list)-1]
	if last.BaseName != "scratch" {
		t.Errorf("the image is made from %s, want scratch", last.BaseName)
	}
	var user string
	var entry, cmd, copied []string
	for _, c := range last.Commands {
		switch c := c.(type) {
		case *instructions.UserCommand:
			user = c.User
		case *instructions.EntrypointCommand:
			entry = c.CmdLine
		case *instructions.CmdCommand:
			cmd = c.CmdLine
		case *instructions.CopyCommand:
			copied = append(copied, c.DestPath)
		}
	}
	if user != "10001:10001" {
		t.Errorf("USER is %q, want a number that is not root's, as the chart has it: 10001:10001", user)
	}
	if !slices.Equal(entry, []string{"/hubbub"}) || !slices.Equal(cmd, []string{"serve", "--config", "/etc/hubbub/hubbub.yaml"}) {
		t.Errorf("it runs %q %q", entry, cmd)
	}
	if want := []string{"/etc/ssl/certs/", "/hubbub", "/etc/hubbub", "/var/lib/hubbub"}; !slices.Equal(copied, want) {
		t.Errorf("it has %q, want %q", copied, want)
	}
}

func TestTheBinaryIsStatic(t *testing.T) {
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	libraries, err := f.ImportedLibraries()
	if err != nil || len(libraries) > 0 {
		t.Errorf("it needs %q (%v), and the image has no libraries", libraries, err)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("it needs a dynamic linker, and the image has none")
		}
	}
	if out, err := hubbub(t, nil, "version"); err != nil || !strings.HasPrefix(out, "hubbub ") {
		t.Errorf("hubbub version: %v\n%s", err, out)
	}
}

// TestTheImageIsEnough runs the server where there is nothing but what the image
// has, as its user, who may write to the data folder alone: with the configuration
// of the compose file, from start to stop, asked by its health check.
func TestTheImageIsEnough(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may change the root folder of a process")
	}
	const user = 10001
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	must(t, os.Chmod(root, 0o755))
	must(t, os.MkdirAll(filepath.Join(root, "etc"), 0o755))
	must(t, os.MkdirAll(filepath.Join(root, "var/lib/hubbub"), 0o755))
	must(t, os.Chmod(filepath.Join(root, "var/lib/hubbub"), 0o700))
	must(t, os.Chown(filepath.Join(root, "var/lib/hubbub"), user, user))
	must(t, os.CopyFS(filepath.Join(root, "etc/hubbub"), os.DirFS(configured(t, withoutCluster(t, read(t, "compose/hubbub.yaml")), nil))))
	binary, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(root, "hubbub"), binary, 0o755))
	inside := func(args ...string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), "/hubbub", args...)
		cmd.Dir, cmd.Env = "/", []string{} // not this process's
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: user, Gid: user}}
		return cmd
	}

	server := inside("serve", "--config", "/etc/hubbub/hubbub.yaml", "--drain", "0s",
		"--api", "127.0.0.1:0", "--messaging", "127.0.0.1:0", "--admin", "127.0.0.1:0")
	log, err := server.StderrPipe()
	must(t, err)
	must(t, server.Start())
	stuck := time.AfterFunc(time.Minute, func() { server.Process.Kill() })
	defer stuck.Stop()
	var said strings.Builder
	admin := ""
	lines := bufio.NewScanner(io.TeeReader(log, &said))
	for admin == "" && lines.Scan() {
		var record struct {
			Msg   string `json:"msg"`
			Admin string `json:"admin"`
		}
		if err := json.Unmarshal(lines.Bytes(), &record); err == nil && record.Msg == "ready" {
			admin = strings.TrimPrefix(record.Admin, "http://")
		}
	}
	if out, err := inside("ready", admin).CombinedOutput(); err != nil {
		t.Errorf("the health check: %v\n%s", err, out)
	}
	must(t, server.Process.Signal(syscall.SIGTERM))
	_, err = io.Copy(&said, log)
	if err := errors.Join(err, server.Wait()); err != nil {
		t.Errorf("it ended with %v; the log:\n%s", err, &said)
	}
	if entries, err := os.ReadDir(root); err != nil || len(entries) != 3 {
		t.Errorf("the root folder has %v (%v), want etc, hubbub and var", entries, err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
