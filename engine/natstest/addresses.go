package natstest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
)

// FreeAddresses are of loopback, and nobody listens there. Their ports are below
// those that a system gives to who does not care, as every connection does: another
// one would have them before they are used.
func FreeAddresses(t testing.TB, n int) (addresses []string) {
	t.Helper()
	for len(addresses) < n {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(22_000)))
		if err != nil {
			continue // somebody has it
		}
		defer l.Close()
		addresses = append(addresses, l.Addr().String())
	}
	return addresses
}
