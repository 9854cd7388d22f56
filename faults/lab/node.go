package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Ports of every node.
const (
	apiPort       = 4880
	messagingPort = 4881
	adminPort     = 4882
	clusterPort   = 4883
)

// patience is how long a lab waits for what must happen within seconds.
const patience = 60 * time.Second

// Node is a server on a side of its own, with a disk of its own.
type Node struct {
	*Side
	t      testing.TB
	file   string // configuration
	binary string
	disk   string // where its small disk is mounted
	admin  *http.Client

	mu      sync.Mutex
	process *exec.Cmd      // nil if it does not run
	gone    chan struct{}  // closed when the process has ended
	meant   syscall.Signal // that ends the process; 0 if it is to live
	tended  bool           // what ends by itself is started again, as a supervisor does
}

// Nodes puts a server on each of these sides, a cluster if there are several. more
// is added to their configuration files. They are not started.
func (l *Lab) Nodes(binary, more string, names ...string) []*Node {
	l.t.Helper()
	write := func(name, text string) {
		if err := os.WriteFile(l.path(name), []byte(text), 0o600); err != nil {
			l.t.Fatal(err)
		}
	}
	write("iam.yaml", fmt.Sprintf("accounts: {%q: {root: {access_keys: [{id: %s, secret: %s}]}}}\n", Account, AccessKeyID, SecretKey))
	write("cluster.secret", "the-secret-of-the-lab-of-forty-characters\n")
	var peers []string
	for _, name := range names {
		peers = append(peers, fmt.Sprintf("\"%s:%d\"", l.sides[name].IP, clusterPort))
	}
	var nodes []*Node
	for _, name := range names {
		side := l.sides[name]
		text := fmt.Sprintf(`api: %[1]s:%[2]d
messaging: %[1]s:%[3]d
admin: 127.0.0.1:%[4]d
trusted_proxies: [%[5]s]
region: %[6]s
iam: iam.yaml
data: %[7]s/data
log: json
limits: relaxed
%[8]s`, side.IP, apiPort, messagingPort, adminPort, network, Region, name, more)
		if len(names) > 1 {
			text += fmt.Sprintf("cluster: {name: lab, node: %s, listen: %q, peers: [%s], secret_file: cluster.secret}\n",
				name, fmt.Sprintf("%s:%d", side.IP, clusterPort), strings.Join(peers, ", "))
		}
		write(name+".yaml", text)
		n := &Node{Side: side, t: l.t, file: l.path(name + ".yaml"), binary: binary, disk: l.path(name)}
		n.admin = &http.Client{Transport: &http.Transport{DialContext: side.Dial, DisableKeepAlives: true}, Timeout: 5 * time.Second}
		if err := errors.Join(os.Mkdir(n.disk, 0o700), unix.Mount("lab", n.disk, "tmpfs", 0, "size=128m,mode=700")); err != nil {
			l.t.Fatalf("the disk of %s: %v", name, err)
		}
		nodes = append(nodes, n)
	}
	l.t.Cleanup(func() { // before the sides end, and before the folder is removed
		for _, n := range nodes {
			n.tend(false)
			n.Kill()
			for _, wrong := range []string{"WARNING: DATA RACE", "panic: ", "fatal error: "} {
				if strings.Contains(n.Log(), wrong) {
					l.t.Errorf("the log of %s has a %q", n.Name, wrong)
				}
			}
			if l.t.Failed() {
				l.t.Logf("the end of the log of %s:\n%s", n.Name, n.logTail())
			}
			_ = unix.Unmount(n.disk, unix.MNT_DETACH)
		}
	})
	return nodes
}

// The account that nodes know, and its key.
const (
	Account     = "123456789012"
	AccessKeyID = "AKIAFAULTSOFTHELAB00"
	SecretKey   = "a-secret-of-forty-characters-for-the-lab"
	Region      = "us-west-2"
)

// API is the URL of the control plane.
func (n *Node) API() string { return fmt.Sprintf("http://%s:%d", n.IP, apiPort) }

// Messaging is the URL of the messaging plane.
func (n *Node) Messaging() string { return fmt.Sprintf("ws://%s:%d", n.IP, messagingPort) }

// Run starts the server, with its clock off by skew, and returns at once.
func (n *Node) Run(skew time.Duration) {
	n.t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.process != nil {
		n.t.Fatalf("node %s runs already", n.Name)
	}
	c := exec.Command(n.binary, "serve", "--config", n.file)
	c.Env = os.Environ()
	if skew != 0 {
		c.Env = append(c.Env, "HUBBUB_CLOCK_OFFSET="+skew.String())
	}
	log, err := os.OpenFile(n.file+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		n.t.Fatal(err)
	}
	c.Stdout, c.Stderr = log, log
	if err := errors.Join(n.Start(c), log.Close()); err != nil {
		n.t.Fatalf("node %s: %v", n.Name, err)
	}
	gone := make(chan struct{})
	n.process, n.gone, n.meant = c, gone, 0
	go func() {
		err := c.Wait()
		n.mu.Lock()
		meant, tended := n.meant, n.tended
		n.process = nil
		n.mu.Unlock()
		switch {
		case meant == 0 && tended:
			time.AfterFunc(restartPause, func() {
				if n.isTended() {
					n.Run(skew)
				}
			})
		case meant == 0:
			n.t.Errorf("node %s ended by itself: %v\n%s", n.Name, err, n.logTail())
		case meant == syscall.SIGTERM && err != nil:
			n.t.Errorf("node %s ended with %v after %v\n%s", n.Name, err, meant, n.logTail())
		}
		close(gone)
	}()
}

// restartPause is that of a supervisor.
const restartPause = time.Second

func (n *Node) isTended() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.tended
}

func (n *Node) tend(on bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.tended = on
}

// Ready waits until the node says that it is ready.
func (n *Node) Ready() {
	n.t.Helper()
	limit := time.Now().Add(patience)
	for status := 0; status != http.StatusOK; {
		if time.Now().After(limit) {
			n.t.Fatalf("node %s is not ready after %v: its last answer is %d", n.Name, patience, status)
		}
		time.Sleep(20 * time.Millisecond)
		status, _ = n.Admin("/readyz")
	}
}

// Admin asks the node's admin address, past all cut wires. Status 0 is no answer.
func (n *Node) Admin(path string) (status int, body string) {
	r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", adminPort, path), nil)
	if err != nil {
		n.t.Fatal(err)
	}
	answer, err := n.admin.Do(r)
	if err != nil {
		return 0, ""
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return 0, ""
	}
	return answer.StatusCode, string(text)
}

// end sends the process a signal that ends it, and waits for that.
func (n *Node) end(s syscall.Signal) {
	n.mu.Lock()
	p, gone := n.process, n.gone
	n.meant = s
	n.mu.Unlock()
	if p == nil {
		return
	}
	_ = p.Process.Signal(s)
	select {
	case <-gone:
	case <-time.After(patience):
		n.t.Errorf("node %s did not end within %v of %v", n.Name, patience, s)
		_ = p.Process.Kill()
		<-gone
	}
}

// Kill is kill -9.
func (n *Node) Kill() { n.end(syscall.SIGKILL) }

// Stop ends the server as an operator would.
func (n *Node) Stop() { n.end(syscall.SIGTERM) }

// Pause stops the process until Resume; its connections stay.
func (n *Node) Pause() { n.signal(syscall.SIGSTOP) }

// Resume lets a paused process go on.
func (n *Node) Resume() { n.signal(syscall.SIGCONT) }

func (n *Node) signal(s syscall.Signal) {
	n.t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.process == nil {
		n.t.Fatalf("node %s does not run", n.Name)
	}
	if err := n.process.Process.Signal(s); err != nil {
		n.t.Fatalf("node %s: %v", n.Name, err)
	}
}

// FillDisk takes all the space that is left on the node's disk. From now on the
// server may end by itself, and is then started again.
func (n *Node) FillDisk() {
	n.t.Helper()
	n.tend(true)
	f, err := os.Create(n.ballast())
	if err != nil {
		n.t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, syscall.ENOSPC) {
			size /= 2
		} else if err != nil {
			n.t.Fatal(err)
		}
	}
}

// FreeDisk gives back what FillDisk took.
func (n *Node) FreeDisk() {
	n.t.Helper()
	if err := os.Remove(n.ballast()); err != nil {
		n.t.Fatal(err)
	}
}

func (n *Node) ballast() string { return filepath.Join(n.disk, "ballast") }

// Log is what the node wrote to its log.
func (n *Node) Log() string {
	b, _ := os.ReadFile(n.file + ".log")
	return string(b)
}

// logTail are the last lines of the log, and before them the last that are no routine.
func (n *Node) logTail() string {
	const unusual, last = 60, 10
	all := strings.Split(n.Log(), "\n")
	from := max(0, len(all)-last)
	odd := slices.DeleteFunc(slices.Clone(all[:from]), func(line string) bool {
		return strings.Contains(line, `"level":"INFO"`) && !strings.Contains(line, `"component":"store"`) || strings.Contains(line, `"msg":"not ready"`)
	})
	return strings.Join(append(odd[max(0, len(odd)-unusual):], all[from:]...), "\n")
}
