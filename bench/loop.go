package main

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// floorLoop is the least that a broadcast costs: one thread and one epoll set,
// raw system calls, no check of anything, no limit on what waits for a viewer.
// With merge, everything that came in during a turn of the loop leaves with one
// send for each viewer; without, each message is a send of its own.
type floorLoop struct {
	merge  bool
	epoll  int
	conns  []floorConn // by descriptor
	rooms  map[string]*floorRoom
	buffer []byte
	dirty  []*floorRoom
}

type floorConn struct {
	room    *floorRoom
	in, out []byte
}

type floorRoom struct {
	members []int32
	pending []byte
	dirty   bool
}

func serveFloor(listener net.Listener, merge bool) error {
	runtime.LockOSThread()
	defer runtime.KeepAlive(listener)
	file, err := listener.(*net.TCPListener).File()
	if err != nil {
		return err
	}
	defer file.Close()
	l := &floorLoop{merge: merge, rooms: map[string]*floorRoom{}, buffer: make([]byte, 64<<10)}
	if l.epoll, err = unix.EpollCreate1(0); err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	accept := int(file.Fd())
	if err := unix.SetNonblock(accept, true); err != nil {
		return err
	}
	_ = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, accept, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(accept)})
	events := make([]unix.EpollEvent, 256)
	for {
		// Raw also where it blocks: there is nothing else for Go to run meanwhile, and
		// its signal to a thread that the collector waits for ends the wait.
		n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(l.epoll), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), ^uintptr(0), 0, 0)
		if errno == unix.EINTR {
			runtime.Gosched()
			continue
		}
		if errno != 0 {
			return os.NewSyscallError("epoll_pwait", errno)
		}
		for _, e := range events[:n] {
			switch {
			case int(e.Fd) == accept:
				l.accept(accept)
			case e.Events&unix.EPOLLOUT != 0:
				l.send(e.Fd, nil)
			default:
				l.read(e.Fd)
			}
		}
		for _, r := range l.dirty {
			for _, fd := range r.members {
				l.send(fd, r.pending)
			}
			r.pending, r.dirty = r.pending[:0], false
		}
		l.dirty = l.dirty[:0]
	}
}

func (l *floorLoop) accept(listener int) {
	for range 64 {
		fd, _, err := unix.Accept4(listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err != nil {
			return
		}
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		if fd >= len(l.conns) {
			l.conns = slices.Grow(l.conns, fd+1)[:fd+1]
		}
		l.conns[fd] = floorConn{}
		_ = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
	}
}

func (l *floorLoop) read(fd int32) {
	c := &l.conns[fd]
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&l.buffer[0])), uintptr(len(l.buffer)))
	if errno == unix.EAGAIN {
		return
	}
	if errno != 0 || n == 0 {
		if c.room != nil {
			c.room.members = slices.DeleteFunc(c.room.members, func(m int32) bool { return m == fd })
		}
		*c = floorConn{}
		_ = unix.Close(int(fd))
		return
	}
	b := l.buffer[:n]
	if len(c.in) > 0 {
		c.in = append(c.in, b...)
		b = c.in
	}
	if c.room == nil {
		head, rest, ok := bytes.Cut(b, []byte("\r\n\r\n"))
		if ok {
			l.upgrade(fd, string(head))
			b = rest
		}
	}
	if c.room != nil {
		b = l.frames(c.room, b)
	}
	if len(b) == 0 {
		c.in = nil
	} else {
		c.in = append([]byte(nil), b...)
	}
}

func (l *floorLoop) upgrade(fd int32, head string) {
	path := strings.Fields(head)[1]
	_, key, _ := strings.Cut(head, "Sec-WebSocket-Key: ")
	key, _, _ = strings.Cut(key, "\r\n")
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	r := l.rooms[path]
	if r == nil {
		r = &floorRoom{}
		l.rooms[path] = r
	}
	r.members = append(r.members, fd)
	l.conns[fd].room = r
	l.send(fd, fmt.Appendf(nil, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
		base64.StdEncoding.EncodeToString(sum[:])))
}

// frames sends on the messages in b, which are masked with zeros, and returns
// what is left.
func (l *floorLoop) frames(r *floorRoom, b []byte) []byte {
	for len(b) >= 8 {
		length := int(binary.BigEndian.Uint16(b[2:]))
		if b[1] != 0x80|126 {
			return nil // nothing but messages comes from the load
		}
		if len(b) < 8+length {
			return b
		}
		r.pending = append(r.pending, b[0], 126, b[2], b[3])
		r.pending = append(r.pending, b[8:8+length]...)
		b = b[8+length:]
		switch {
		case !l.merge:
			for _, fd := range r.members {
				l.send(fd, r.pending)
			}
			r.pending = r.pending[:0]
		case !r.dirty:
			r.dirty = true
			l.dirty = append(l.dirty, r)
		}
	}
	return b
}

func (l *floorLoop) send(fd int32, b []byte) {
	c := &l.conns[fd]
	waited := len(c.out) > 0
	if waited {
		if len(b) > 0 { // behind what waits already
			c.out = append(c.out, b...)
			return
		}
		b = c.out
	}
	if len(b) == 0 {
		return
	}
	sent, _, err := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_NOSIGNAL, 0, 0)
	n := int(sent)
	switch {
	case err == unix.EAGAIN:
		n = 0
	case err != 0:
		n = len(b) // the read sees the end
	}
	switch {
	case n == len(b):
		c.out = nil
		if waited {
			_ = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_MOD, int(fd), &unix.EpollEvent{Events: unix.EPOLLIN, Fd: fd})
		}
	case waited:
		c.out = append(c.out[:0], b[n:]...)
	default:
		c.out = append(c.out, b[n:]...)
		_ = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_MOD, int(fd), &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT, Fd: fd})
	}
}
