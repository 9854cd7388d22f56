package main

import (
	"encoding/binary"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// sockets is the connections of a server, as the kernel has them.
type sockets struct {
	count  int
	memory float64 // KiB that the kernel holds for them: what is to be sent, what came in, reserves
}

// connections asks the kernel for the server's side of each connection, as
// "ss -tm" does: unlike /proc/net/sockstat this leaves out the load's side, and
// what each processor keeps in reserve.
func (p *process) connections() (s sockets, err error) {
	u, err := url.Parse(p.Messaging)
	if err != nil {
		return s, err
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		return s, err
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return s, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		if err := s.ask(fd, family, uint16(port)); err != nil {
			return s, fmt.Errorf("sock_diag: %w", err)
		}
	}
	return s, nil
}

// The kernel's layouts. Source: linux/inet_diag.h, inet_diag_req_v2 and
// inet_diag_msg; linux/sock_diag.h, SK_MEMINFO_*.
const (
	diagRequest = unix.SizeofNlMsghdr + 56
	diagAnswer  = 72

	diagMemory = 7 // the attribute INET_DIAG_SKMEMINFO, an array of uint32

	memReceived, memReserved, memQueued, memOptions, memBacklog, memAll = 0, 4, 5, 6, 7, 8
)

// ask adds the connections of one family on that port of ours.
func (s *sockets) ask(fd int, family byte, port uint16) error {
	var b [diagRequest]byte
	binary.NativeEndian.PutUint32(b[0:], diagRequest)
	binary.NativeEndian.PutUint16(b[4:], unix.SOCK_DIAG_BY_FAMILY)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	r := b[unix.SizeofNlMsghdr:]
	r[0], r[1], r[2] = family, unix.IPPROTO_TCP, 1<<(diagMemory-1)
	binary.NativeEndian.PutUint32(r[4:], ^uint32(1<<10)) // states: all but listening
	binary.BigEndian.PutUint16(r[8:], port)
	if err := unix.Sendto(fd, b[:], 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	answer := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(fd, answer, 0)
		if err != nil {
			return err
		}
		messages, err := syscall.ParseNetlinkMessage(answer[:n])
		if err != nil {
			return err
		}
		for _, m := range messages {
			switch m.Header.Type {
			case unix.NLMSG_DONE:
				return nil
			case unix.NLMSG_ERROR:
				return unix.Errno(-int32(binary.NativeEndian.Uint32(m.Data)))
			}
			s.add(m.Data)
		}
	}
}

// add takes one connection.
func (s *sockets) add(m []byte) {
	s.count++
	for a := m[min(diagAnswer, len(m)):]; len(a) >= 4; {
		length := int(binary.NativeEndian.Uint16(a))
		if length < 4 || length > len(a) {
			return
		}
		if v := a[4:length]; binary.NativeEndian.Uint16(a[2:]) == diagMemory && len(v) >= 4*memAll {
			for _, i := range []int{memReceived, memReserved, memQueued, memOptions, memBacklog} {
				s.memory += float64(binary.NativeEndian.Uint32(v[4*i:])) / 1024
			}
		}
		a = a[min((length+3)&^3, len(a)):]
	}
}
