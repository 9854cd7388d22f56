package socket

import (
	"net"
	"net/netip"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// acceptor accepts connections of a listener for the event loops.
type acceptor struct {
	server   *Server
	listener *net.TCPListener
	raw      syscall.RawConn // of the listener; nil if it has none
	held     *net.TCPConn    // accepted, but there was no descriptor to detach it; else nil
	inARow   int             // accepted without waiting

	// Of one try.
	fd   int
	peer unix.Sockaddr
	err  error
	try  func(fd uintptr)
}

// acceptedInARow is after how many connections the loops have a turn: they are some
// tenths of a millisecond.
const acceptedInARow = 32

// acceptor returns what accepts one connection of the listener for the event
// loops, which it starts if it is the first, and what ends that; nil if they do
// not serve it.
func (s *Server) acceptor(l net.Listener) (accept func() error, end func()) {
	t, plain := l.(*net.TCPListener)
	if !plain || s.config.Portable || s.config.TLS != nil || !s.startLoops() {
		return nil, nil
	}
	a := &acceptor{server: s, listener: t}
	a.raw, _ = t.SyscallConn()
	a.try = func(fd uintptr) {
		for {
			a.fd, a.peer, a.err = unix.Accept4(int(fd), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
			if a.err != unix.EINTR && a.err != unix.ECONNABORTED {
				return
			}
		}
	}
	return a.accept, a.end
}

// accept waits for a connection and begins its handshake. Of those who come
// together the first is waited for, and the others are taken by their descriptors,
// with which the runtime's poller has then nothing to do.
func (a *acceptor) accept() error {
	if a.held == nil && a.raw != nil && a.raw.Control(a.try) == nil {
		switch a.err {
		case nil:
			a.server.admit(a.fd, addressIn(a.peer))
			if a.inARow++; a.inARow%acceptedInARow == 0 {
				runtime.Gosched()
			}
			return nil
		case unix.EAGAIN: // nobody is there
		default:
			return &net.OpError{Op: "accept", Net: "tcp", Addr: a.listener.Addr(), Err: os.NewSyscallError("accept4", a.err)}
		}
	}
	if a.held == nil {
		t, err := a.listener.AcceptTCP()
		if err != nil {
			return err
		}
		a.held = t
	}
	fd, err := detach(a.held)
	if err != nil {
		return &net.OpError{Op: "accept", Net: "tcp", Addr: a.listener.Addr(), Err: err}
	}
	peer := addressOf(a.held)
	a.end()
	a.server.admit(fd, peer)
	return nil
}

func (a *acceptor) end() {
	if a.held != nil {
		_ = a.held.Close()
		a.held = nil
	}
}

// detach is the connection's descriptor, another one of the same connection.
func detach(t *net.TCPConn) (fd int, err error) {
	raw, err := t.SyscallConn()
	if err != nil {
		return -1, err
	}
	if cerr := raw.Control(func(own uintptr) {
		fd, err = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0)
	}); cerr != nil {
		return -1, cerr
	}
	return fd, os.NewSyscallError("fcntl", err)
}

func addressIn(a unix.Sockaddr) netip.Addr {
	switch a := a.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrFrom4(a.Addr)
	case *unix.SockaddrInet6:
		return netip.AddrFrom16(a.Addr).Unmap()
	}
	return netip.Addr{}
}

// admit hands a connection to the loop that has the fewest.
func (s *Server) admit(fd int, peer netip.Addr) {
	l := s.loops[0]
	for _, other := range s.loops[1:] {
		if other.load.Load() < l.load.Load() {
			l = other
		}
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, s.config.SendBuffer)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	c := &Conn{}
	g := &guest{peer: peer}
	g.end = func() { l.post(post{kind: expelled, conn: c}) }
	g.out = func() bool { // the loop sees whether it has said something
		l.post(post{kind: displaced, conn: c})
		return true
	}
	c.own.loop, c.own.fd, c.own.guest = l, int32(fd), g
	switch s.enlist(&g.stranger, func() {
		l.load.Add(1)
		l.post(post{kind: arrived, conn: c})
	}) {
	case denied:
		// Closing with unread bytes would reset the connection.
		_, _ = tryReceive(int32(fd), make([]byte, bufferBytes))
		_, _ = trySend(int32(fd), noPlace.encode())
		fallthrough
	case over:
		_ = unix.Close(fd)
	}
}
