package socket

import (
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// poller is an epoll set that is itself watched by the runtime's poller. So a
// loop that waits is a goroutine that is parked like any other: no thread is
// blocked in the kernel, the scheduler has nothing to take back from it, and who
// has something for the loop wakes it without a system call.
type poller struct {
	fd     int
	file   *os.File
	raw    syscall.RawConn
	events []unix.EpollEvent
	n      int
	try    func(fd uintptr) bool
}

// eventsATurn is how many events a loop takes at once.
const eventsATurn = 256

func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // so that the runtime watches it
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	p := &poller{fd: fd, file: os.NewFile(uintptr(fd), "epoll"), events: make([]unix.EpollEvent, eventsATurn)}
	if err := p.file.SetReadDeadline(time.Time{}); err != nil {
		_ = p.file.Close()
		return nil, err
	}
	if p.raw, err = p.file.SyscallConn(); err != nil {
		_ = p.file.Close()
		return nil, err
	}
	p.try = func(uintptr) bool {
		p.n = p.look()
		return p.n > 0
	}
	return p, nil
}

func (p *poller) close() { _ = p.file.Close() }

// look says how many events there are now.
func (p *poller) look() int {
	// Raw, since it does not wait: the scheduler need not know.
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.fd), uintptr(unsafe.Pointer(&p.events[0])), uintptr(len(p.events)), 0, 0, 0)
	if errno != 0 { // EINTR
		return 0
	}
	return int(n)
}

// until sets the time at which wait returns in any case; zero is never.
func (p *poller) until(at time.Time) { _ = p.file.SetReadDeadline(at) }

// wake ends wait, or the next one. It may be called from any goroutine.
func (p *poller) wake() { _ = p.file.SetReadDeadline(past) }

// wait waits for events, until's time or wake, and says how many events there are.
func (p *poller) wait() int {
	p.n = 0
	if err := p.raw.Read(p.try); err != nil {
		return 0
	}
	return p.n
}

const (
	forInput  = unix.EPOLLIN
	forOutput = unix.EPOLLOUT
)

// watch has the set watch a descriptor for other events than before; 0 takes it
// out, so that not even its end is reported.
func (p *poller) watch(fd int, before, now uint8) {
	op := unix.EPOLL_CTL_MOD
	switch {
	case before == now:
		return
	case before == 0:
		op = unix.EPOLL_CTL_ADD
	case now == 0:
		op = unix.EPOLL_CTL_DEL
	}
	// It can fail for want of kernel memory alone. Then the connection stands still
	// until its timers end it.
	event := unix.EpollEvent{Events: uint32(now), Fd: int32(fd)}
	_, _, _ = unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(p.fd), uintptr(op), uintptr(fd), uintptr(unsafe.Pointer(&event)), 0, 0)
}

// trySend writes what the kernel takes at once.
func trySend(fd int32, b []byte) (int, unix.Errno) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0:
			return int(n), 0
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// tryReceive reads what the kernel has; 0 bytes without an error are the end.
func tryReceive(fd int32, b []byte) (int, unix.Errno) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			return int(n), 0
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}
