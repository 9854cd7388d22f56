// Package lab is a network of its own with servers on it, and everything that can
// go wrong there.
//
// A lab has sides: one for the clients, which is where this process is, one for
// services outside, one for each node. Each is a network namespace with one
// address, and a relay in this process carries the packets between them. A wire
// between two sides can be cut, in one direction too, be slow, or lose packets: to
// the sides it is as if the packet had never been sent. Nothing touches the network
// of the machine. Namespaces, devices, mounts and servers end with the process,
// however it ends; if it is killed, the test's folder with configuration and logs
// stays.
//
// A program that builds labs runs itself again by Enter first.
package lab

import (
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// require makes the tests fail where no lab can be built; CI sets it.
const require = "TEST_REQUIRE_FAULTS"

// The sides that every lab has.
const (
	Clients = "clients"
	Outside = "outside"
)

// Lab is a network of sides.
type Lab struct {
	t     testing.TB
	dir   string // config, log and data of the nodes
	relay *relay
	sides map[string]*Side
	place map[string]int // in the relay
}

var hidden = sync.OnceValue(hideMounts)

// New builds a lab with these sides beside those of the clients and the services
// outside. It lasts until the test ends. The test is skipped, or fails if
// TEST_REQUIRE_FAULTS is set, where the machine does not give what it needs.
func New(t testing.TB, seed uint64, nodes ...string) *Lab {
	t.Helper()
	missing := t.Skipf
	if os.Getenv(require) != "" {
		missing = t.Fatalf
	}
	if !Inside() {
		missing("no network namespaces here: run as root, or let users make namespaces of their own")
	}
	if err := hidden(); err != nil {
		missing("no lab here: %v", err)
	}
	l := &Lab{t: t, dir: t.TempDir(), sides: map[string]*Side{}, place: map[string]int{}}
	var sides []*Side
	for i, name := range append([]string{Clients, Outside}, nodes...) {
		s, err := newSide(name, hosts[i], name == Clients)
		if err != nil {
			for _, s := range sides {
				s.close()
			}
			missing("no lab here: %v", err)
		}
		sides = append(sides, s)
		l.sides[name], l.place[name] = s, i
	}
	l.relay = newRelay(sides, seed)
	t.Cleanup(func() {
		for _, s := range sides {
			s.close()
		}
		l.relay.close()
	})
	return l
}

// hosts are the addresses of sides by place.
var hosts = func() (all [16]netip.Addr) {
	a := network.Addr()
	for i := range all {
		a = a.Next()
		all[i] = a
	}
	return all
}()

// Side is the side of that name.
func (l *Lab) Side(name string) *Side { return l.sides[name] }

// Wire sets how packets come from one side to another; not the way back.
func (l *Lab) Wire(from, to string, w Wire) { l.relay.set(l.place[from], l.place[to], w) }

// Wires sets all wires between sides of one group and sides of the other, both ways.
func (l *Lab) Wires(group, other []string, w Wire) {
	for _, a := range group {
		for _, b := range other {
			if a != b {
				l.Wire(a, b, w)
				l.Wire(b, a, w)
			}
		}
	}
}

// Heal makes all wires perfect.
func (l *Lab) Heal() {
	for from := range l.place {
		for to := range l.place {
			l.Wire(from, to, Wire{})
		}
	}
}

func (l *Lab) path(name string) string { return filepath.Join(l.dir, name) }
