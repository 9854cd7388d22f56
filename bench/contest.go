package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// contestant is a server that is measured beside the others.
type contestant struct {
	name, title string
	wire        string
	start       func(c *contest) (*process, error)
	ours        bool // whom the others are compared with, if it is the first
}

// contest is what the scenarios measure, and where.
type contest struct {
	binary string // hubbub
	dir    string
	self   string
	node   string // folder of the Node server; "" if it cannot run
	all    []contestant
}

// peer is a mode of this program.
func peer(name, title, wire string) contestant {
	return contestant{name, title, wire, func(c *contest) (*process, error) { return launch(c.self, "peer", name) }, false}
}

var contestants = []contestant{
	{"hubbub", "Hubbub", "hubbub", func(c *contest) (*process, error) { return hubbub(c.binary, ":memory:") }, true},
	{"beside", "Hubbub, beside", "hubbub", func(c *contest) (*process, error) { return hubbub(*beside, ":memory:") }, false},
	peer("floor", "floor: one send each", "plain"),
	peer("merged", "floor: merged", "plain"),
	peer("centrifuge", "Centrifuge", "centrifuge"),
	peer("nats", "NATS", "nats"),
	peer("gorilla", "gorilla, hub example", "plain"),
	peer("gws", "gws, broadcaster", "plain"),
	peer("coder", "coder, chat example", "plain"),
	{"node", "Node ws", "plain", func(c *contest) (*process, error) { return launch(c.node, "node/server.mjs") }, false},
}

// newContest chooses the contestants: all of them, or those that -peers names.
func newContest(binary, dir string, from []contestant) (*contest, error) {
	c := &contest{binary: binary, dir: dir}
	var err error
	if c.self, err = os.Executable(); err != nil {
		return nil, err
	}
	chosen := strings.FieldsFunc(*peers, func(r rune) bool { return r == ',' })
	for _, name := range chosen {
		if !slices.ContainsFunc(slices.Concat(contestants, clusterContestants()), func(o contestant) bool { return o.name == name }) {
			return nil, fmt.Errorf("no such peer: %s", name)
		}
	}
	for _, o := range from {
		switch {
		case strings.HasPrefix(o.name, "beside") && *beside == "":
			continue
		case len(chosen) > 0 && !slices.Contains(chosen, o.name):
			continue
		case o.name == "node":
			if err := c.installNode(); err != nil {
				fmt.Println("Node ws is left out:", err)
				continue
			}
		}
		c.all = append(c.all, o)
	}
	return c, nil
}

func (c *contest) installNode() (err error) {
	if c.node, err = exec.LookPath("node"); err != nil {
		return err
	}
	if _, err := os.Stat("node/node_modules/ws"); err == nil {
		return nil
	}
	install := exec.Command("npm", "ci", "--no-progress", "--no-audit", "--no-fund")
	install.Dir = "node"
	if out, err := install.CombinedOutput(); err != nil {
		return fmt.Errorf("npm ci: %w: %.300s", err, out)
	}
	return nil
}

// servePeer is a peer's process.
func servePeer(name string) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	serve, ok := servers[name]
	if !ok {
		return fmt.Errorf("no such peer: %s", name)
	}
	return serve(listener, func(address string) { fmt.Printf("{\"messaging\":\"ws://%s\"}\n", address) })
}

var servers = map[string]func(l net.Listener, ready func(address string)) error{
	"floor": func(l net.Listener, ready func(string)) error {
		ready(l.Addr().String())
		return serveFloor(l, false)
	},
	"merged": func(l net.Listener, ready func(string)) error {
		ready(l.Addr().String())
		return serveFloor(l, true)
	},
}
