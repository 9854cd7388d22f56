package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	nats "github.com/nats-io/nats-server/v2/server"
)

// clusterContestants are a cluster, a node that stands alone, and a cluster of
// NATS servers: all processes of each on processor 0, all stores on one disk. The
// limits are off, or the published ones but for an account's messages, so that each
// message is counted against its room's rate.
func clusterContestants() []contestant {
	rates := []string{"--limits", "relaxed", "--limits-send-message-per-second", "1000000"}
	some := fmt.Sprint(*nodes, " nodes")
	cluster := func(name, title string, more []string, binary func(c *contest) string) contestant {
		return contestant{name, title, "hubbub", func(c *contest) (*process, error) { return startCluster(c.dir, binary(c), more...) }, name == "cluster"}
	}
	alone := func(c *contest) (*process, error) {
		data, err := os.MkdirTemp(c.dir, "alone-")
		if err != nil {
			return nil, err
		}
		return hubbub(c.binary, data)
	}
	this, other := func(c *contest) string { return c.binary }, func(*contest) string { return *beside }
	return []contestant{
		cluster("cluster", some, nil, this),
		cluster("beside", some+", beside", nil, other),
		{"alone", "alone", "hubbub", alone, false},
		cluster("cluster-rates", some+", rates counted", rates, this),
		cluster("beside-rates", some+", beside, rates counted", rates, other),
		{"nats", fmt.Sprint("floor: NATS, ", *nodes, " servers"), "nats", startNATS, false},
	}
}

// startCluster starts all nodes together, since none is ready alone.
func startCluster(parent, binary string, more ...string) (*process, error) {
	dir, err := os.MkdirTemp(parent, "cluster-")
	if err != nil {
		return nil, err
	}
	secret := make([]byte, 32)
	_, _ = rand.Read(secret)
	if err := os.WriteFile(filepath.Join(dir, "secret"), []byte(hex.EncodeToString(secret)), 0o600); err != nil {
		return nil, err
	}
	return startNodes(func(i int, peers []string) (*process, error) {
		node := fmt.Sprintf("n%02d", i)
		return hubbub(binary, filepath.Join(dir, node), slices.Concat([]string{"--cluster-node", node, "--cluster-listen", peers[i],
			"--cluster-peers", strings.Join(peers, ","), "--cluster-secret-file", filepath.Join(dir, "secret")}, more)...)
	})
}

func startNodes(start func(i int, peers []string) (*process, error)) (*process, error) {
	peers, err := freeAddresses(*nodes)
	if err != nil {
		return nil, err
	}
	started, errs := make([]*process, *nodes), make([]error, *nodes)
	var starting sync.WaitGroup
	for i := range *nodes {
		starting.Go(func() { started[i], errs[i] = start(i, peers) })
	}
	starting.Wait()
	if err := errors.Join(errs...); err != nil {
		for _, p := range started {
			if p != nil {
				p.stop()
			}
		}
		return nil, err
	}
	p := started[0]
	p.others = started[1:]
	return p, nil
}

// restartLast ends the last node of a cluster and starts it again with what it has.
func (p *process) restartLast() error {
	last := &p.others[len(p.others)-1]
	args := (*last).cmd.Args
	(*last).end()
	again, err := launch(args[0], args[1:]...)
	if err == nil {
		*last = again
	}
	return err
}

// freeAddresses are of loopback, and nobody listens there; nor does the kernel
// give their ports to connections before somebody does.
func freeAddresses(n int) (addresses []string, err error) {
	for range 100 * n {
		l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", 20_000+mathrand.IntN(10_000)))
		if err != nil {
			continue
		}
		defer l.Close()
		if addresses = append(addresses, l.Addr().String()); len(addresses) == n {
			return addresses, nil
		}
	}
	return nil, errors.New("no ports are free between 20000 and 30000")
}

// messagingPorts are those of the nodes, the first of the first.
func messagingPorts(p *process) (ports []int, err error) {
	for _, node := range p.nodes() {
		u, err := url.Parse(node.Messaging)
		if err != nil {
			return nil, err
		}
		port, err := strconv.Atoi(u.Port())
		if err != nil {
			return nil, err
		}
		ports = append(ports, port)
	}
	return ports, nil
}

func startNATS(c *contest) (*process, error) {
	return startNodes(func(i int, peers []string) (*process, error) {
		own := append([]string{peers[i]}, slices.Delete(slices.Clone(peers), i, i+1)...)
		return launch(c.self, "nats-node", strings.Join(own, ","))
	})
}

// natsNode is the process of a NATS server of a cluster: the least that a message
// from node to node can cost with what Hubbub has in it. Its routes are plain TCP.
// The argument is its own route address and those of the others.
func natsNode(addresses string) error {
	var routes []*url.URL
	for _, a := range strings.Split(addresses, ",") {
		routes = append(routes, &url.URL{Scheme: "nats", Host: a})
	}
	free, err := freeAddresses(1)
	if err != nil {
		return err
	}
	ports := make([]int, 2)
	for i, a := range []string{routes[0].Host, free[0]} {
		_, text, err := net.SplitHostPort(a)
		if err != nil {
			return err
		}
		if ports[i], err = strconv.Atoi(text); err != nil {
			return err
		}
	}
	s, err := nats.NewServer(&nats.Options{ServerName: strconv.Itoa(ports[0]), Host: "127.0.0.1", Port: nats.RANDOM_PORT, NoLog: true,
		Cluster: nats.ClusterOpts{Name: "floor", Host: "127.0.0.1", Port: ports[0]}, Routes: routes[1:],
		Websocket: nats.WebsocketOpts{Host: "127.0.0.1", Port: ports[1], NoTLS: true}})
	if err != nil {
		return err
	}
	s.Start()
	if err := await(10*time.Second, func() (bool, error) {
		return s.ReadyForConnections(time.Second) && s.NumRemotes() == len(routes)-1, nil
	}); err != nil {
		return err
	}
	fmt.Printf("{\"messaging\":\"ws://%s\"}\n", free[0])
	s.WaitForShutdown()
	return nil
}
