package engine_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hubbub/engine"
)

// names answers questions for addresses, as the DNS of Kubernetes does for the pods
// of a service without an address of its own.
type names struct {
	mu      sync.Mutex
	of      map[string]net.IP
	unknown map[string]bool // was asked for in vain
}

func newNames() *names { return &names{of: map[string]net.IP{}, unknown: map[string]bool{}} }

func (n *names) asked(all ...string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !slices.ContainsFunc(all, func(name string) bool { return !n.unknown[name] })
}

func (n *names) set(name string, to net.IP) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.of[name] = to
}

// resolver asks n.
func (n *names) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		go n.serve(far) // until the resolver closes its end
		return near, nil
	}}
}

// serve answers on a stream: each message has its length before it. Source: RFC 1035,
// 4.1 and 4.2.2.
func (n *names) serve(c net.Conn) {
	defer c.Close()
	for {
		var size [2]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		question := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(c, question); err != nil {
			return
		}
		var labels []string
		at := 12 // behind the head
		for question[at] != 0 {
			labels = append(labels, string(question[at+1:at+1+int(question[at])]))
			at += 1 + int(question[at])
		}
		at += 5 // the end of the name, type and class
		name := strings.Join(labels, ".")
		n.mu.Lock()
		ip := n.of[name].To4()
		n.unknown[name] = n.unknown[name] || ip == nil
		n.mu.Unlock()
		answer := append([]byte{question[0], question[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, question[12:at]...)
		switch isA := question[at-3] == 1; {
		case ip == nil:
			answer[3] |= 3 // no such name
		case isA:
			answer[7] = 1
			answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
			answer = append(answer, ip...)
		}
		if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)); err != nil {
			return
		}
	}
}

// The names of nodes lead nowhere until their pods run, and elsewhere when one was
// replaced.
func TestNodesHaveNames(t *testing.T) {
	ctx := t.Context()
	dns, old := newNames(), net.DefaultResolver
	net.DefaultResolver = dns.resolver()
	t.Cleanup(func() { net.DefaultResolver = old })
	_, port, err := net.SplitHostPort(freePorts(t, 1)[0])
	if err != nil {
		t.Fatal(err)
	}
	c := &trio{t: t, nodes: make([]*engine.Engine, 3)}
	listen := make([]net.IP, 3)
	name := func(i int) string { return fmt.Sprintf("hubbub-%d.hubbub-nodes", i) }
	for i := range 3 {
		c.dirs = append(c.dirs, t.TempDir())
		c.peers = append(c.peers, name(i)+":"+port)
		listen[i] = net.IPv4(127, 0, 0, byte(2+i))
	}
	c.change = func(i int, o *engine.Options) {
		o.Cluster.Listen, o.Cluster.Advertise = net.JoinHostPort(listen[i].String(), port), c.peers[i]
	}
	t.Cleanup(func() { c.stop(0, 1, 2) })

	// A pod's name is there once it runs, and the others learn of it later.
	var starting sync.WaitGroup
	starting.Go(func() { c.start(0, 1, 2) })
	eventually(t, 10*time.Second, "somebody asks for all names", func() bool { return dns.asked(name(0), name(1), name(2)) })
	for i := range 3 {
		dns.set(name(i), listen[i])
	}
	starting.Wait()
	if t.Failed() {
		t.FailNow()
	}
	for i, e := range c.nodes {
		if _, err := bucket(t, e).Create(ctx, fmt.Sprint("k", i), []byte("v")); err != nil {
			t.Fatal(err)
		}
	}

	// Another pod of the same name, that cannot find the others: they find it.
	c.stop(2)
	listen[2] = net.IPv4(127, 0, 0, 9)
	dns.set(name(2), listen[2])
	net.DefaultResolver = newNames().resolver()
	c.start(2)
	if have := follow(t, c.nodes[2]).all(); len(have) != 3 {
		t.Errorf("it has %v, want three keys", have)
	}
}
