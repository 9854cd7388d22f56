//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestSystemdIsTold runs a server as systemd does, with a socket for its notes:
// it says when it is ready, that it lives, when it reads files again and when it stops.
func TestSystemdIsTold(t *testing.T) {
	dir := t.TempDir()
	address := &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"}
	notes, err := net.ListenUnixgram("unixgram", address)
	if err != nil {
		t.Fatal(err)
	}
	defer notes.Close()
	if err := notes.SetReadDeadline(time.Now().Add(limit)); err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cmd := exec.CommandContext(ctx, "hubbub", "dev", "--log", "json", "--data", ":memory:", "--drain", "0s",
		"--api", "127.0.0.1:0", "--messaging", "127.0.0.1:0", "--admin", "127.0.0.1:0")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+address.Name, "WATCHDOG_USEC=20000", "GORACE=atexit_sleep_ms=0")
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// told reads notes until one has the line.
	told := func(line string) {
		t.Helper()
		b := make([]byte, 4096)
		for {
			n, err := notes.Read(b)
			if err != nil {
				cancel()
				t.Fatalf("systemd was not told %s: %v; the log:\n%s", line, errors.Join(err, cmd.Wait()), &log)
			}
			for said := range strings.Lines(string(b[:n]) + "\n") {
				if strings.TrimSpace(said) == line {
					return
				}
			}
		}
	}
	signal := func(s syscall.Signal) {
		t.Helper()
		if err := cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	told("READY=1")
	told("WATCHDOG=1")
	signal(syscall.SIGHUP)
	told("RELOADING=1")
	told("READY=1")
	signal(syscall.SIGTERM)
	told("STOPPING=1")
	if err := cmd.Wait(); err != nil {
		t.Errorf("ended with %v; the log:\n%s", err, &log)
	}
}
