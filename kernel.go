package hubbub

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// advice is one thing about the system that bounds how many viewers a server can
// carry, and what to do about it.
type advice struct {
	what   string // what is too small
	have   uint64
	need   uint64
	change string // a command or a line of a configuration, that mends it
}

func (a advice) String() string {
	return fmt.Sprintf("%s is %d; for so many viewers it should be %d: %s", a.what, a.have, a.need, a.change)
}

// spareFiles are those that a server opens besides the connections of its viewers:
// the store, calls of the control plane, connections to handlers and destinations.
const spareFiles = 1000

// backlog is how many connections the kernel should hold for a server that has not
// accepted them yet: after a deploy everybody comes back within a second.
const backlog = 4096

// kernelAdvice says which limits of the system are too small for so many viewers.
// files is the limit of open files, 0 if there is none; root is where /proc is. A
// setting that cannot be read is not spoken of.
func kernelAdvice(root string, viewers int, files uint64) (list []advice) {
	if need := uint64(viewers + spareFiles); files > 0 && files < need {
		list = append(list, advice{"the limit of open files", files, need,
			fmt.Sprintf("LimitNOFILE=%d for systemd, --ulimit nofile=%d for Docker, ulimit -n %[1]d in a shell", need, need)})
	}
	for _, s := range []struct {
		name string
		need uint64
	}{
		{"net.core.somaxconn", backlog},
		{"net.ipv4.tcp_max_syn_backlog", min(backlog, 1024)},
		// A connection that has ended stays for two minutes.
		{"net.netfilter.nf_conntrack_max", uint64(viewers) * 2},
	} {
		b, err := os.ReadFile(filepath.Join(root, "proc/sys", strings.ReplaceAll(s.name, ".", "/")))
		if err != nil {
			continue
		}
		if have, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64); err == nil && have < s.need {
			list = append(list, advice{s.name, have, s.need, fmt.Sprintf("sysctl -w %s=%d", s.name, s.need)})
		}
	}
	return list
}

// leaveOneRunning gives a server that has one processor two threads to run Go on.
// Whoever waits in a system call that is no waiting for the network, above all for
// the disk, keeps its thread for up to 10 ms, and nobody else would be served. Chat
// logs wait for the disk a hundred times a second. Without them one thread is
// better: the two cost a handshake a third more. GOMAXPROCS, if it is set, is left
// as it is.
func leaveOneRunning() {
	if runtime.GOMAXPROCS(0) == 1 && os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(2)
	}
}
