package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// perProcess is the most connections that one process of the load holds; for
// more, it starts others.
const perProcess = 15_000

// loadSpec is a load: viewers spread evenly over rooms, the first of each room
// its sender.
type loadSpec struct {
	Host    string
	Ports   []int // of nodes: the viewers of a room are on them in turn, the first on the first
	Wire    string
	Tokens  []string // one a viewer, or none
	Viewers int
	Base    int // of the rooms' numbers on NATS, where a number is a room
	Rooms   int
	Window  int // connections being opened at a time, in each worker
	Sample  int // the frames of every so manieth viewer are parsed
	Slow    int // viewers that will stop to read, and have small buffers

	First, End int // of a helper process
}

// slowIs says whether a viewer is one that will stop to read. They are spread
// evenly, and the first viewer, which sends, is none of them.
func (s *loadSpec) slowIs(number int) bool {
	return number*s.Slow/s.Viewers != (number+1)*s.Slow/s.Viewers
}

// port is that of the node that a viewer connects to.
func (s *loadSpec) port(number int) int { return s.Ports[number/s.Rooms%len(s.Ports)] }

// page is what all processes of the load count in.
type page struct {
	delivered, joined, refused, failed atomic.Int64
	lost, cut, others, disordered      atomic.Int64
	kicked                             atomic.Int64
	quit, slow, closedLoop             atomic.Int64

	delays, handshakes, closes histogram
	far                        histogram // those of the delays that are of viewers on another node than their sender
}

// shared is a process's view of the memory that they share.
type shared struct {
	*page
	workers int
	counts  []uint32 // messages of each viewer
	perSeq  []int32  // deliveries of each message of a closed loop
	memory  []byte
}

const messagesAtMost = 1 << 20 // of a closed loop

func mapShared(file *os.File, viewers, workers int) (*shared, error) {
	head := int(unsafe.Sizeof(page{}))
	size := head + 4*viewers + 4*messagesAtMost
	if err := file.Truncate(int64(size)); err != nil {
		return nil, err
	}
	m, err := unix.Mmap(int(file.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	return &shared{
		page: (*page)(unsafe.Pointer(&m[0])), workers: workers, memory: m,
		counts: unsafe.Slice((*uint32)(unsafe.Pointer(&m[head])), viewers),
		perSeq: unsafe.Slice((*int32)(unsafe.Pointer(&m[head+4*viewers])), messagesAtMost),
	}, nil
}

// load is the viewers of one server.
type load struct {
	spec    loadSpec
	shared  *shared
	workers []*worker // of this process; the first sends
	helpers []*exec.Cmd
	begun   time.Time
	sent    int // messages, in all rooms
	slow    int // viewers that stopped to read
}

// startLoad begins to connect.
func startLoad(p *process, spec loadSpec) (*load, error) {
	u, err := url.Parse(p.Messaging)
	if err != nil {
		return nil, err
	}
	spec.Host = u.Host
	if len(spec.Ports) == 0 {
		if spec.Ports, err = messagingPorts(p); err != nil {
			return nil, err
		}
	}
	spec.Rooms, spec.Sample = max(1, spec.Rooms), max(1, spec.Sample)
	if spec.Viewers%spec.Rooms != 0 {
		return nil, errors.New("the rooms are not of one size")
	}
	fd, err := unix.MemfdCreate("load", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	file := os.NewFile(uintptr(fd), "load")
	defer file.Close()
	l := &load{spec: spec, begun: time.Now()}
	here := min(spec.Viewers, perProcess)
	threads := max(1, min(runtime.NumCPU()-1, 4))
	processes := (spec.Viewers + perProcess - 1) / perProcess
	if l.shared, err = mapShared(file, spec.Viewers, threads+processes-1); err != nil {
		return nil, err
	}
	for first := perProcess; first < spec.Viewers; first += perProcess {
		if err := l.help(file, first, min(spec.Viewers, first+perProcess)); err != nil {
			l.close()
			return nil, err
		}
	}
	for k := range threads {
		w, err := newWorker(&l.spec, l.shared, k, here, threads)
		if err != nil {
			l.close()
			return nil, err
		}
		l.workers = append(l.workers, w)
	}
	for _, w := range l.workers {
		go w.run()
	}
	return l, nil
}

// help starts a process for the viewers from first to end.
func (l *load) help(file *os.File, first, end int) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	spec := l.spec
	spec.First, spec.End = first, end
	cmd := exec.Command(self, "load", strconv.Itoa(l.shared.workers))
	cmd.ExtraFiles = []*os.File{file}
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	l.helpers = append(l.helpers, cmd)
	return json.NewEncoder(in).Encode(spec) // left open: its end is the end of the helper
}

// helpLoad is such a process.
func helpLoad(workers string) error {
	var spec loadSpec
	if err := json.NewDecoder(os.Stdin).Decode(&spec); err != nil {
		return err
	}
	n, err := strconv.Atoi(workers)
	if err != nil {
		return err
	}
	s, err := mapShared(os.NewFile(3, "load"), spec.Viewers, n)
	if err != nil {
		return err
	}
	w, err := newWorker(&spec, s, spec.First, spec.End, 1)
	if err != nil {
		return err
	}
	go func() { // should the benchmark be killed
		_, _ = io.Copy(io.Discard, os.Stdin)
		s.quit.Store(1)
	}()
	w.run()
	if s.failed.Load() == 0 {
		return nil
	}
	return w.error()
}

// join waits until every viewer is in, or has given up, and returns how long
// that took.
func (l *load) join(most time.Duration) (took time.Duration, err error) {
	if err := await(most, func() (bool, error) {
		took = time.Since(l.begun)
		return l.shared.joined.Load()+l.shared.failed.Load() >= int64(l.spec.Viewers), nil
	}); err != nil {
		return took, fmt.Errorf("%d of %d viewers joined: %w: %w", l.shared.joined.Load(), l.spec.Viewers, err, l.error())
	}
	if n := l.shared.failed.Load(); n > 0 {
		return took, fmt.Errorf("%d of %d viewers gave up: %w", n, l.spec.Viewers, l.error())
	}
	return took, nil
}

// slowDown makes the slow viewers stop to read.
func (l *load) slowDown() {
	l.slow = l.spec.Slow
	l.shared.slow.Store(1)
}

func (l *load) error() error {
	var errs []error
	for _, w := range l.workers {
		errs = append(errs, w.error())
	}
	return errors.Join(errs...)
}

func (w *worker) error() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.odd != "" {
		return errors.Join(w.fault, errors.New("unexpected: "+w.odd))
	}
	return w.fault
}

// close ends the load. A server that has ended before leaves no connection in
// TIME_WAIT here.
func (l *load) close() {
	l.shared.quit.Store(1)
	for _, w := range l.workers {
		<-w.ended
	}
	for _, h := range l.helpers {
		_ = h.Wait()
	}
	_ = unix.Munmap(l.shared.memory)
}

// phase is what one timed part of a load measured.
type phase struct {
	Rate          float64 `json:"rate"`    // deliveries a second
	Cost          float64 `json:"cost"`    // processor seconds of the server a million
	Missing       int64   `json:"missing"` // deliveries that did not come
	P50, P99, Max float64 // ms from the due time, of the sampled viewers
	Late          float64 // ms at the 99th percentile by which the load itself sent late
	took          time.Duration
	near, far     counts // delays of viewers on the sender's node, and on others
}

// closed keeps so many messages in flight in the one room.
func (l *load) closed(p *process, inFlight int, length time.Duration) (phase, error) {
	l.shared.closedLoop.Store(1)
	defer l.shared.closedLoop.Store(0)
	j := &job{inFlight: inFlight, until: time.Now().Add(length), viewers: int32(l.spec.Viewers), done: make(chan struct{})}
	return l.timed(p, j, length+10*time.Second, 0)
}

// open sends by the clock, so many deliveries a second, whatever the server
// does; patience is how long what is under way at the end may take.
func (l *load) open(p *process, deliveries float64, length, patience time.Duration) (phase, error) {
	each := float64(l.spec.Viewers / l.spec.Rooms)
	every := time.Duration(each / deliveries * float64(time.Second))
	j := &job{every: every, total: max(1, int(length/every)), done: make(chan struct{})}
	return l.timed(p, j, length+patience, patience)
}

func (l *load) timed(p *process, j *job, most, patience time.Duration) (f phase, err error) {
	before, delays, far, cpu := l.shared.delivered.Load(), l.shared.delays.now(), l.shared.far.now(), p.cpu()
	begun := time.Now()
	l.workers[0].begin(j)
	select {
	case <-j.done:
	case <-time.After(most):
		return f, fmt.Errorf("%d messages of the load did not get away in %v: %w", j.total, most, l.error())
	}
	l.sent += j.sent
	want := int64(j.sent)*int64(l.spec.Viewers/l.spec.Rooms-l.slow) - l.leftOut()
	delivered := func() int64 { return l.shared.delivered.Load() - before }
	if patience > 0 {
		_ = await(patience, func() (bool, error) { return delivered() >= want || l.shared.lost.Load() > 0, nil })
	} else {
		time.Sleep(time.Millisecond) // a turn of another worker
	}
	f.took = time.Since(begun)
	used, count := p.cpu()-cpu, delivered()
	f.Missing = want - count
	f.Rate = float64(count) / f.took.Seconds()
	f.Cost = used.Seconds() / float64(count) * 1e6
	now := l.shared.delays.now()
	d := now.since(&delays)
	f.P50, f.P99, f.Max = d.ms(0.5), d.ms(0.99), d.ms(1)
	now = l.shared.far.now()
	f.far = now.since(&far)
	f.near = d.since(&f.far)
	late := j.late.now()
	f.Late = late.ms(0.99)
	return f, nil
}

// owed is how many messages a viewer should have had.
func (l *load) owed(i int) uint32 {
	room := i % l.spec.Rooms
	sent := l.workers[0].seqs[room]
	if m, ok := l.workers[0].wire.(mixedWire); ok {
		for seq := uint32(kickEvery / 2); seq <= sent; seq += kickEvery {
			if m.kicks(room, seq) == i {
				return seq
			}
		}
	}
	return sent
}

// leftOut is what viewers that were kicked need not get.
func (l *load) leftOut() (n int64) {
	if l.spec.Wire == "mixed" {
		for i := range l.spec.Viewers {
			n += int64(l.workers[0].seqs[i%l.spec.Rooms] - l.owed(i))
		}
	}
	return n
}

// check says whether every viewer that reads has had every message once, and the
// sampled ones in order. With slow viewers, what these got counts in none.
func (l *load) check() error {
	s := l.shared
	wrong := 0
	for i, n := range s.counts {
		if l.slow > 0 && l.spec.slowIs(i) {
			continue
		}
		if n != l.owed(i) {
			wrong++
		}
	}
	if wrong > 0 || s.lost.Load() > 0 || s.disordered.Load() > 0 {
		return fmt.Errorf("%d viewers have not had every message once, %d lost their connection, %d messages out of order: %w",
			wrong, s.lost.Load(), s.disordered.Load(), l.error())
	}
	return nil
}
