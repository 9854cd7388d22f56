package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// inside is set for the process whose network and mounts are its own.
const inside = "HUBBUB_TEST_OWN_NETWORK"

// Inside says whether this process may build a lab.
func Inside() bool { return os.Getenv(inside) != "" }

// Enter runs this program once more, with the same arguments, in a process whose
// network and mounts are its own, and returns how it ended. The error says why
// this machine cannot. It needs root, or user namespaces that anybody may make.
func Enter() (exit int, err error) {
	c := exec.Command("/proc/self/exe", os.Args[1:]...)
	c.Args[0] = os.Args[0]
	c.Env = append(os.Environ(), inside+"=1")
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 {
		c.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		c.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		c.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	runtime.LockOSThread() // the process dies with the thread that started it
	defer runtime.UnlockOSThread()
	if err := c.Start(); err != nil {
		return 0, fmt.Errorf("a process with a network of its own: %w", err)
	}
	if err := c.Wait(); err != nil {
		if ended := (*exec.ExitError)(nil); !errors.As(err, &ended) {
			return 0, err
		}
	}
	if code := c.ProcessState.ExitCode(); code >= 0 {
		return code, nil
	}
	return 1, nil // by a signal
}

// hideMounts keeps what is mounted from now on to this process and its children.
func hideMounts() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("mounts of its own: %w", err)
	}
	return nil
}
