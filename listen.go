package hubbub

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
)

// listen opens the port of one setting and says what to change if it cannot.
func listen(ctx context.Context, key, address string) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	if err == nil {
		return l, nil
	}
	var dns *net.DNSError
	switch flag := "--" + settingOf(key).Flag(); {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s %s is in use, perhaps by another hubbub; stop what listens there, or choose another port with %s HOST:PORT (port 0 takes a free one)", key, address, flag)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("%s %s may not be used by this user; choose a port of 1024 or above with %s HOST:PORT, or give the program CAP_NET_BIND_SERVICE", key, address, flag)
	case errors.Is(err, syscall.EADDRNOTAVAIL) || errors.As(err, &dns):
		return nil, fmt.Errorf("%s %s is no address of this machine; choose one with %s HOST:PORT, 0.0.0.0 for all", key, address, flag)
	}
	return nil, fmt.Errorf("%s %s cannot be listened on: %w", key, address, err)
}

func settingOf(key string) Setting {
	for _, s := range settings {
		if s.Key == key {
			return s
		}
	}
	panic("no setting " + key)
}

// urlOf is where a client on this machine reaches a listener: what listens on
// all addresses is shown on loopback.
func urlOf(scheme string, l net.Listener) string {
	a, err := netip.ParseAddrPort(l.Addr().String())
	if err != nil {
		return scheme + "://" + l.Addr().String()
	}
	ip := a.Addr().Unmap()
	if ip.IsUnspecified() {
		// [::] takes IPv4 too, but only where IPv4 is there.
		ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		if a.Addr().Is6() && !hasIPv4() {
			ip = netip.IPv6Loopback()
		}
	}
	return scheme + "://" + netip.AddrPortFrom(ip, a.Port()).String()
}

func hasIPv4() bool {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return true
	}
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil {
			return true
		}
	}
	return false
}
