package lab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Side is one end of the lab's network: a network namespace with one address.
type Side struct {
	Name string
	IP   netip.Addr

	device *os.File // a packet that is read was sent by the side; one that is written comes to it
	calls  chan func()
}

// newSide makes a side. Its namespace is that of a thread of its own, or of this
// process, and lasts as long as the thread and what was made in it.
func newSide(name string, ip netip.Addr, here bool) (*Side, error) {
	s := &Side{Name: name, IP: ip, calls: make(chan func())}
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // for ever: the thread ends with the goroutine
		err := func() (err error) {
			if !here {
				if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
					return fmt.Errorf("a network namespace: %w", err)
				}
			}
			s.device, err = attach(ip)
			return err
		}()
		made <- err
		if err != nil {
			return
		}
		for f := range s.calls {
			f()
		}
	}()
	if err := <-made; err != nil {
		return nil, fmt.Errorf("side %s: %w", name, err)
	}
	return s, nil
}

// network is that of all sides.
var network = netip.MustParsePrefix("10.83.0.0/24")

// attach gives the thread's network namespace a loopback device and one that
// leads to the relay.
func attach(ip netip.Addr) (*os.File, error) {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(socket)
	device, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/net/tun: %w", err)
	}
	const name = "lab0"
	request := func(device string, set func(*unix.Ifreq) error) *unix.Ifreq {
		r, e := unix.NewIfreq(device)
		if e == nil {
			e = set(r)
		}
		if err == nil {
			err = e
		}
		return r
	}
	do := func(fd int, number uint, what string, r *unix.Ifreq) {
		if err != nil {
			return
		}
		if e := unix.IoctlIfreq(fd, number, r); e != nil {
			err = fmt.Errorf("%s: %w", what, e)
		}
	}
	flags := func(f uint16) func(*unix.Ifreq) error {
		return func(r *unix.Ifreq) error { r.SetUint16(f); return nil }
	}
	address := func(a netip.Addr) func(*unix.Ifreq) error {
		return func(r *unix.Ifreq) error { return r.SetInet4Addr(a.AsSlice()) }
	}
	mask, _ := netip.AddrFromSlice(net.CIDRMask(network.Bits(), 32))
	do(device, unix.TUNSETIFF, "a TUN device", request(name, flags(unix.IFF_TUN|unix.IFF_NO_PI)))
	do(socket, unix.SIOCSIFADDR, "its address", request(name, address(ip)))
	do(socket, unix.SIOCSIFNETMASK, "its mask", request(name, address(mask)))
	do(socket, unix.SIOCSIFFLAGS, "its start", request(name, flags(unix.IFF_UP|unix.IFF_RUNNING)))
	do(socket, unix.SIOCSIFFLAGS, "the start of loopback", request("lo", flags(unix.IFF_UP|unix.IFF_RUNNING)))
	if err != nil {
		_ = unix.Close(device)
		return nil, err
	}
	return os.NewFile(uintptr(device), "tun"), nil
}

// do runs f in the side's network namespace.
func (s *Side) do(f func()) {
	done := make(chan struct{})
	s.calls <- func() { defer close(done); f() }
	<-done
}

// Start starts a program in the side's network namespace. It is killed when the
// lab, or the process that built it, ends.
func (s *Side) Start(c *exec.Cmd) (err error) {
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	s.do(func() { err = c.Start() })
	return err
}

// Listen listens on the side's own address.
func (s *Side) Listen(port int) (l net.Listener, err error) {
	s.do(func() { l, err = net.Listen("tcp", netip.AddrPortFrom(s.IP, uint16(port)).String()) })
	return l, err
}

// Dial connects from within the side, one call at a time: for what answers at once.
func (s *Side) Dial(ctx context.Context, network, address string) (c net.Conn, err error) {
	s.do(func() { c, err = (&net.Dialer{}).DialContext(ctx, network, address) })
	return c, err
}

// close ends the side's thread.
func (s *Side) close() {
	close(s.calls)
	_ = s.device.Close()
}
