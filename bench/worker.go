package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// viewer is one connection of the load.
type viewer struct {
	fd      int32
	state   viewerState
	tries   uint8
	sampled bool // its frames are parsed: order and delay
	far     bool // on another node than its sender
	room    int32
	last    uint32 // number of the last message, if sampled
	begun   int64  // when it began to connect

	// Frame under way: bytes of its head so far, then what is left of the payload.
	have uint8
	op   byte
	head [10]byte
	left int
	any  bool // it had a message

	carry []byte // the upgrade's answer, or the end of what a sampled viewer got
	out   []byte // what the socket did not take yet
}

type viewerState uint8

const (
	waiting viewerState = iota
	connecting
	upgrading
	joining
	open
	slow // reads no more
	gone
)

// worker is one thread that holds connections: one epoll set, one buffer, raw
// reads that do not block. Worker 0 also sends, between two reads, so that no
// other thread must be scheduled for a message to leave when it is due.
type worker struct {
	load    *loadSpec
	wire    wire
	shared  *shared
	viewers []viewer
	first   int // number of viewers[0] in the load; the others follow by stride
	stride  int

	epoll  int
	wake   int
	events []unix.EpollEvent
	buffer []byte
	todo   []int // to connect
	busy   int   // connecting now

	delivered int64 // since the shared count was brought up to date
	seqs      []uint32
	job       *job
	jobs      chan *job
	ended     chan struct{}

	mu    sync.Mutex
	odd   string // a frame that was not expected
	fault error
}

// job is messages to send.
type job struct {
	every    time.Duration // between two messages, in all rooms together; 0 is a closed loop
	total    int           // messages of an open loop
	inFlight int           // of a closed loop
	until    time.Time
	viewers  int32 // that make a message complete

	begun    int64
	sent     int
	complete uint32 // number of the last complete message
	late     histogram
	done     chan struct{} // closed when all is sent and, in a closed loop, complete
}

func (w *worker) number(i int) int { return w.first + i*w.stride }

// run connects the viewers, reads and sends until the load ends.
func (w *worker) run() {
	defer close(w.ended)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer func() {
		for i := range w.viewers {
			if v := &w.viewers[i]; v.fd > 0 {
				_ = unix.Close(int(v.fd))
			}
		}
		_ = unix.Close(w.epoll)
		_ = unix.Close(w.wake)
	}()
	for w.shared.quit.Load() == 0 {
		w.connect()
		n := w.wait()
		for i := range n {
			e := &w.events[i]
			if e.Fd < 0 {
				var b [8]byte
				_, _ = unix.Read(w.wake, b[:])
				continue
			}
			w.ready(int(e.Fd), e.Events)
			if i&7 == 7 {
				w.send()
			}
		}
		if w.delivered > 0 {
			w.shared.delivered.Add(w.delivered)
			w.delivered = 0
		}
		select {
		case w.job = <-w.jobs:
			w.job.begun = time.Now().UnixNano()
			if len(w.seqs) > 0 {
				w.job.complete = w.seqs[0]
			}
		default:
		}
		w.send()
	}
}

// wait is epoll_wait until the next message is due.
func (w *worker) wait() int {
	timeout := 20 * time.Millisecond
	switch {
	case len(w.todo) > 0 && w.busy < w.load.Window:
		timeout = 0
	case w.job != nil && w.job.every > 0:
		timeout = max(0, time.Duration(w.job.begun+int64(w.job.sent)*int64(w.job.every)-time.Now().UnixNano()))
		if len(w.viewers[0].out) > 0 {
			timeout = time.Millisecond
		}
	case w.job != nil && w.shared.workers > 1: // another may complete a message
		timeout = 200 * time.Microsecond
	}
	t := unix.NsecToTimespec(int64(timeout))
	n, _, errno := unix.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(w.epoll), uintptr(unsafe.Pointer(&w.events[0])), uintptr(len(w.events)), uintptr(unsafe.Pointer(&t)), 0, 0)
	if errno == unix.ENOSYS { // before Linux 5.11
		k, _ := unix.EpollWait(w.epoll, w.events, int(timeout.Milliseconds()))
		return max(0, k)
	}
	if errno != 0 {
		return 0
	}
	return int(n)
}

func (w *worker) watch(i int, op int, events uint32) {
	_ = unix.EpollCtl(w.epoll, op, int(w.viewers[i].fd), &unix.EpollEvent{Events: events, Fd: int32(i)})
}

// connect begins some more connections, then the loop reads again.
func (w *worker) connect() {
	for range 64 {
		if len(w.todo) == 0 || w.busy >= w.load.Window {
			return
		}
		i := w.todo[0]
		w.todo = w.todo[1:]
		w.busy++
		if err := w.dial(i); err != nil {
			w.fail(err)
			w.left(i)
		}
	}
}

func (w *worker) dial(i int) error {
	v, number := &w.viewers[i], w.number(i)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	v.fd, v.state = int32(fd), connecting
	if v.tries == 0 {
		v.begun = time.Now().UnixNano()
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if w.load.slowIs(number) {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 16<<10)
	}
	// One address has some 28,000 ports to a server.
	_ = unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, byte(2 + number/10_000)}}); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: w.load.port(number), Addr: [4]byte{127, 0, 0, 1}}); err != nil && err != unix.EINPROGRESS {
		return fmt.Errorf("connect: %w", err)
	}
	w.watch(i, unix.EPOLL_CTL_ADD, unix.EPOLLOUT)
	return nil
}

func (w *worker) ready(i int, events uint32) {
	v := &w.viewers[i]
	switch v.state {
	case gone, waiting:
	case connecting:
		w.upgrade(i)
	case slow:
		if events&(unix.EPOLLERR|unix.EPOLLHUP) != 0 {
			w.shared.cut.Add(1)
			w.left(i)
		}
	default:
		if events&unix.EPOLLOUT != 0 {
			w.flush(i)
		}
		if events&^unix.EPOLLOUT != 0 {
			w.read(i)
		}
	}
}

func (w *worker) upgrade(i int) {
	v := &w.viewers[i]
	if e, err := unix.GetsockoptInt(int(v.fd), unix.SOL_SOCKET, unix.SO_ERROR); err != nil || e != 0 {
		w.refused(i, fmt.Sprint("connect: ", unix.Errno(e)))
		return
	}
	var key [16]byte
	binary.LittleEndian.PutUint64(key[:], uint64(w.number(i)))
	token := ""
	if len(w.load.Tokens) > 0 {
		token = w.load.Tokens[w.number(i)]
	}
	path, protocol := w.wire.request(int(v.room), token)
	if protocol != "" {
		protocol = "Sec-WebSocket-Protocol: " + protocol + "\r\n"
	}
	v.state = upgrading
	w.watch(i, unix.EPOLL_CTL_MOD, unix.EPOLLIN)
	w.write(i, fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n%s\r\n",
		path, w.load.Host, base64.StdEncoding.EncodeToString(key[:]), protocol))
}

// read takes what is there, once: epoll says if there is more.
func (w *worker) read(i int) {
	v := &w.viewers[i]
	if w.shared.slow.Load() > 0 && v.state == open && w.load.slowIs(w.number(i)) {
		v.state = slow
		w.watch(i, unix.EPOLL_CTL_MOD, 0)
		return
	}
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(v.fd), uintptr(unsafe.Pointer(&w.buffer[0])), uintptr(len(w.buffer)))
	switch {
	case errno == unix.EAGAIN || errno == unix.EINTR:
		return
	case errno != 0 || n == 0:
		if v.state == open {
			w.shared.lost.Add(1)
			w.left(i)
			return
		}
		w.refused(i, fmt.Sprint("closed in the handshake: ", errno))
		return
	}
	b := w.buffer[:n]
	if v.state == upgrading {
		v.carry = append(v.carry, b...)
		end := bytes.Index(v.carry, []byte("\r\n\r\n"))
		if end < 0 {
			return
		}
		if !bytes.HasPrefix(v.carry, []byte("HTTP/1.1 101")) {
			w.refused(i, string(v.carry[:min(end, 100)]))
			return
		}
		b = v.carry[end+4:]
		v.carry = nil
		v.state = joining
		if m := w.wire.join(nil, int(v.room)); len(m) > 0 {
			w.write(i, m)
		} else {
			w.isOpen(i)
		}
	}
	w.consume(i, b)
}

func (w *worker) isOpen(i int) {
	v := &w.viewers[i]
	v.state = open
	w.busy--
	w.shared.handshakes.add(time.Duration(time.Now().UnixNano() - v.begun))
	w.shared.joined.Add(1)
}

// refused tries again at once, as the official SDKs do, and gives up after four.
func (w *worker) refused(i int, why string) {
	v := &w.viewers[i]
	w.shared.refused.Add(1)
	w.fail(fmt.Errorf("refused: %.100s", why))
	tries := v.tries + 1
	w.left(i)
	if tries <= 4 {
		w.shared.failed.Add(-1)
		*v = viewer{room: v.room, sampled: v.sampled, far: v.far, begun: v.begun, tries: tries}
		w.todo = append(w.todo, i)
	}
}

// left ends a connection.
func (w *worker) left(i int) {
	v := &w.viewers[i]
	if v.fd > 0 {
		_ = unix.Close(int(v.fd))
	}
	if v.state < open {
		w.busy--
		w.shared.failed.Add(1)
	}
	v.fd, v.state = 0, gone
}

func (w *worker) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fault == nil {
		w.fault = err
	}
}

// consume goes through the frames in b. Messages are counted where they lie.
func (w *worker) consume(i int, b []byte) {
	v := &w.viewers[i]
	count := 0
	for len(b) > 0 && v.state != gone {
		if v.left == 0 {
			v.head[v.have] = b[0]
			v.have++
			b = b[1:]
			if v.have < 2 {
				continue
			}
			switch n := v.head[1] & 127; {
			case n < 126 && v.have == 2:
				v.left = int(n)
			case n == 126 && v.have == 4:
				v.left = int(binary.BigEndian.Uint16(v.head[2:]))
			case n == 127 && v.have == 10:
				v.left = int(binary.BigEndian.Uint64(v.head[2:]))
			default:
				continue
			}
			v.have, v.op, v.any = 0, v.head[0]&15, false
			if v.left == 0 {
				w.control(i, nil)
				continue
			}
		}
		whole := len(b) >= v.left
		payload := b[:min(len(b), v.left)]
		fresh := v.left == frameLength(&v.head)
		b = b[len(payload):]
		v.left -= len(payload)
		if v.op > 2 {
			if whole && fresh {
				w.control(i, payload)
			}
			continue
		}
		if v.state == joining {
			v.carry = append(v.carry, payload...)
			if whole && w.wire.joined(v.carry) {
				v.carry = nil
				w.isOpen(i)
			}
			continue
		}
		n := bytes.Count(payload, []byte{mark})
		count += n
		v.any = v.any || n > 0
		if whole && fresh && !v.any {
			w.other(i, payload)
		}
		if v.sampled {
			v.carry = append(v.carry, payload...)
		}
	}
	if count > 0 {
		w.counted(i, count)
	}
	if v.sampled && len(v.carry) > 0 && v.state == open {
		w.sample(v)
	}
}

func frameLength(head *[10]byte) int {
	switch n := head[1] & 127; n {
	case 126:
		return int(binary.BigEndian.Uint16(head[2:]))
	case 127:
		return int(binary.BigEndian.Uint64(head[2:]))
	default:
		return int(n)
	}
}

func (w *worker) counted(i, n int) {
	w.delivered += int64(n)
	c := &w.shared.counts[w.number(i)]
	before := *c
	*c = before + uint32(n)
	if w.shared.closedLoop.Load() == 0 {
		return
	}
	for s := before + 1; s <= before+uint32(n) && int(s) < len(w.shared.perSeq); s++ {
		atomic.AddInt32(&w.shared.perSeq[s], 1)
	}
}

// sample checks the order and takes the delay of the messages in the carry.
func (w *worker) sample(v *viewer) {
	now := time.Now().UnixNano()
	b := v.carry
	for {
		begin := bytes.IndexByte(b, at)
		if begin < 0 {
			b = nil
			break
		}
		b = b[begin:]
		second := bytes.IndexByte(b[1:], at)
		if second < 0 {
			break
		}
		third := bytes.IndexByte(b[second+2:], at)
		if third < 0 {
			break
		}
		seq, _ := strconv.ParseUint(string(b[1:second+1]), 10, 32)
		due, _ := strconv.ParseInt(string(b[second+2:second+2+third]), 10, 64)
		if uint32(seq) != v.last+1 {
			w.shared.disordered.Add(1)
		}
		v.last = uint32(seq)
		w.shared.delays.add(time.Duration(now - due))
		if v.far {
			w.shared.far.add(time.Duration(now - due))
		}
		b = b[second+third+3:]
	}
	v.carry = append(v.carry[:0], b...)
}

// control answers pings and sees the end.
func (w *worker) control(i int, payload []byte) {
	v := &w.viewers[i]
	switch v.op {
	case 9:
		w.write(i, appendFrame(nil, 10, func(b []byte) []byte { return append(b, payload...) }))
	case 8:
		if _, due, ok := stamped(append([]byte{'"'}, payload[min(2, len(payload)):]...)); ok { // kicked
			w.shared.closes.add(time.Since(due))
			w.shared.kicked.Add(1)
			w.left(i)
			return
		}
		w.mu.Lock()
		w.odd = fmt.Sprintf("close: %q", payload)
		w.mu.Unlock()
		w.shared.lost.Add(1)
		w.left(i)
	}
}

func (w *worker) other(i int, frame []byte) {
	if answer := w.wire.answer(frame); answer != nil {
		w.write(i, answer)
		return
	}
	w.shared.others.Add(1)
	if bytes.Contains(frame, []byte(`"ERROR"`)) || bytes.Contains(frame, []byte(`"error"`)) || bytes.HasPrefix(frame, []byte("-ERR")) {
		w.mu.Lock()
		w.odd = string(frame[:min(len(frame), 200)])
		w.mu.Unlock()
	}
}

// write sends, and keeps what the socket does not take.
func (w *worker) write(i int, b []byte) {
	v := &w.viewers[i]
	if len(v.out) > 0 {
		v.out = append(v.out, b...)
		return
	}
	n, err := unix.Write(int(v.fd), b)
	if err != nil && err != unix.EAGAIN {
		return // the read says why
	}
	if n = max(n, 0); n < len(b) {
		v.out = append(v.out, b[n:]...)
		w.watch(i, unix.EPOLL_CTL_MOD, unix.EPOLLIN|unix.EPOLLOUT)
	}
}

func (w *worker) flush(i int) {
	v := &w.viewers[i]
	n, err := unix.Write(int(v.fd), v.out)
	if err != nil && err != unix.EAGAIN {
		v.out = nil
	} else {
		v.out = append(v.out[:0], v.out[max(n, 0):]...)
	}
	if len(v.out) == 0 {
		w.watch(i, unix.EPOLL_CTL_MOD, unix.EPOLLIN)
	}
}

// send sends what is due, or what the closed loop has room for. Viewer i sends
// for room i; what a server does not take stays due.
func (w *worker) send() {
	j := w.job
	if j == nil {
		return
	}
	now := time.Now()
	if j.every == 0 {
		w.sendClosed(j, now)
		return
	}
	var burst []byte // of one room, written at once
	for j.sent < j.total {
		due := j.begun + int64(j.sent)*int64(j.every)
		room := j.sent % len(w.seqs)
		if due > now.UnixNano() || len(w.viewers[room].out) > 0 || w.viewers[room].state == gone {
			break
		}
		w.seqs[room]++
		burst = w.wire.message(burst, room, w.seqs[room], due)
		j.late.add(time.Duration(now.UnixNano() - due))
		j.sent++
		if len(w.seqs) > 1 || len(burst) > 32<<10 {
			w.write(room, burst)
			burst = burst[:0]
		}
	}
	if len(burst) > 0 {
		w.write(0, burst)
	}
	if j.sent == j.total || w.viewers[0].state == gone {
		w.job = nil
		close(j.done)
	}
}

func (w *worker) sendClosed(j *job, now time.Time) {
	for j.complete < w.seqs[0] && atomic.LoadInt32(&w.shared.perSeq[j.complete+1]) >= j.viewers {
		j.complete++
	}
	more := now.Before(j.until) && int(w.seqs[0])+j.inFlight < len(w.shared.perSeq)
	var burst []byte
	for more && int(w.seqs[0]-j.complete) < j.inFlight {
		w.seqs[0]++
		j.sent++
		burst = w.wire.message(burst, 0, w.seqs[0], now.UnixNano())
	}
	if len(burst) > 0 {
		w.write(0, burst)
	}
	if !more && j.complete == w.seqs[0] || w.viewers[0].state == gone {
		w.job = nil
		close(j.done)
	}
}

// begin hands a job to worker 0.
func (w *worker) begin(j *job) {
	w.jobs <- j
	one := [8]byte{1}
	_, _ = unix.Write(w.wake, one[:])
}

// newWorker prepares the worker for every stride-th viewer of the load from
// first up to end.
func newWorker(spec *loadSpec, s *shared, first, end, stride int) (*worker, error) {
	w := &worker{load: spec, wire: wireOf(spec), shared: s, first: first, stride: stride,
		events: make([]unix.EpollEvent, 512), buffer: make([]byte, 256<<10), jobs: make(chan *job, 1), ended: make(chan struct{})}
	for n := first; n < end; n += stride {
		w.todo = append(w.todo, len(w.viewers))
		w.viewers = append(w.viewers, viewer{room: int32(n % spec.Rooms), sampled: n%spec.Sample == 0, far: spec.port(n) != spec.Ports[0]})
	}
	if first == 0 {
		w.seqs = make([]uint32, spec.Rooms)
	}
	var err error
	if w.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if w.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	return w, os.NewSyscallError("epoll_ctl", unix.EpollCtl(w.epoll, unix.EPOLL_CTL_ADD, w.wake, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: -1}))
}
