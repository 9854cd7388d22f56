package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// process is a server under load, on processor 0 alone; of a cluster, the first
// node.
type process struct {
	API, Messaging, Admin, Region string
	AccessKeyID                   string `json:"access_key_id"`
	SecretKey                     string `json:"secret_access_key"`
	RoomARN                       string `json:"room_arn"`

	cmd    *exec.Cmd
	ready  time.Duration
	others []*process // of its cluster
}

// startsWithin is how long a server may take until it is ready.
const startsWithin = time.Minute

// launch starts a server that prints one JSON line when it is ready.
func launch(binary string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(binary, args...)}
	var stderr bytes.Buffer
	p.cmd.Stderr = &stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	if err := pinned(p.cmd.Start); err != nil {
		return nil, err
	}
	slow := time.AfterFunc(startsWithin, func() { _ = p.cmd.Process.Kill() })
	line, err := bufio.NewReader(out).ReadBytes('\n')
	slow.Stop()
	if err != nil {
		p.stop()
		return nil, fmt.Errorf("%s did not start: %w\n%s", binary, err, &stderr)
	}
	p.ready = time.Since(begun)
	under.Store(p.cmd.Process.Pid, p.cmd.Process)
	go func() { _, _ = io.Copy(io.Discard, out) }()
	return p, json.Unmarshal(line, p)
}

func hubbub(binary, data string, more ...string) (*process, error) {
	return launch(binary, append([]string{"dev", "--log", "json", "--data", data, "--limits", "none", "--drain", "0s", fmt.Sprintf("--pprof=%v", *profiles != ""),
		"--api", "127.0.0.1:0", "--messaging", "127.0.0.1:0", "--admin", "127.0.0.1:0"}, more...)...)
}

// under are the servers that run.
var under sync.Map // of *os.Process by its id

// interrupted ends the servers with the benchmark.
func interrupted() {
	told := make(chan os.Signal, 1)
	signal.Notify(told, unix.SIGINT, unix.SIGTERM)
	go func() {
		<-told
		under.Range(func(_, p any) bool {
			_ = p.(*os.Process).Kill()
			return true
		})
		os.Exit(1)
	}()
}

// nodes are the processes of its cluster, itself the first.
func (p *process) nodes() []*process { return append([]*process{p}, p.others...) }

// stop ends the server, of a cluster all nodes.
func (p *process) stop() {
	var ending sync.WaitGroup
	for _, node := range p.nodes() {
		ending.Go(node.end)
	}
	ending.Wait()
}

func (p *process) end() {
	_ = p.cmd.Process.Signal(unix.SIGTERM)
	ended := time.AfterFunc(10*time.Second, func() { _ = p.cmd.Process.Kill() })
	_ = p.cmd.Wait()
	ended.Stop()
	under.Delete(p.cmd.Process.Pid)
}

// pinned runs start on a thread of processor 0, so that the child inherits it;
// the load keeps to the other processors.
func pinned(start func() error) error {
	if runtime.NumCPU() == 1 {
		return start()
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with the goroutine
		var set unix.CPUSet
		set.Set(0)
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			done <- err
			return
		}
		done <- start()
	}()
	return <-done
}

func init() {
	if n := runtime.NumCPU(); n > 1 && !(len(os.Args) > 1 && (os.Args[1] == "floor" || os.Args[1] == "peer")) {
		var set unix.CPUSet
		for i := 1; i < n; i++ {
			set.Set(i)
		}
		// The threads that exist already, or the load would run beside the server at
		// times; those to come inherit it.
		threads, _ := os.ReadDir("/proc/self/task")
		for _, t := range threads {
			if id, err := strconv.Atoi(t.Name()); err == nil {
				_ = unix.SchedSetaffinity(id, &set)
			}
		}
		runtime.GOMAXPROCS(n - 1)
	}
}

// cpu is the processor time that the server has used, of a cluster all nodes.
func (p *process) cpu() (sum time.Duration) {
	for _, node := range p.nodes() {
		sum += node.ownCPU()
	}
	return sum
}

func (p *process) ownCPU() time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	fields := strings.Fields(rest)
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * time.Second / 100
}

// rss is the resident memory in KiB.
func (p *process) rss() float64 { return p.memory("VmRSS") }

// anonymous is the resident memory in KiB that no file has: heap and stacks.
func (p *process) anonymous() float64 { return p.memory("RssAnon") }

// memory is a figure of /proc/PID/status in KiB.
func (p *process) memory(name string) float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), name+":")
	kib, _ := strconv.ParseFloat(strings.Fields(rest + " 0")[0], 64)
	return kib
}
