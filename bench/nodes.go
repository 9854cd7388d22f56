package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// clusterScenarios are what several nodes do beside one.
var clusterScenarios = []scenario{
	{
		name: "nodes", title: "one room over all nodes beside one node, all on one processor: 1,000 viewers and 9,000", usual: 3, measure: measureNodes,
		peers:    []string{"cluster", "beside", "alone"},
		compared: []string{"1000: deliveries/s", "1000: CPU s a million", "1000, 50/s: CPU s a million", "1000, 50/s: p99 ms", "9000: deliveries/s", "9000: CPU s a million", "9000, 10/s: CPU s a million", "9000, 10/s: p99 ms"},
	},
	{
		name: "bus", title: "a message seen on its sender's node and on another: 100 messages/s in 20 rooms alone, then beside 1,000/s in 200 rooms over all nodes", usual: 3, measure: measureBus,
		peers:    []string{"cluster", "beside", "alone", "cluster-rates", "nats"},
		compared: []string{"other node: p50 ms", "other node: p99 ms", "beside others, other node: p50 ms", "beside others, other node: p99 ms"},
	},
	{
		name: "message", title: "1,000 messages/s in 200 rooms of 3 viewers: all on the sender's node, one on another, two on two others; CPU above that of doing nothing", usual: 3, measure: measureMessage,
		peers:    []string{"cluster", "beside", "alone", "cluster-rates", "beside-rates"},
		compared: []string{"1 node: CPU µs", "1 node: p50 ms"},
	},
	{
		name: "store", title: "start, memory, and what is written: 16 connections of the control plane, 3,000 handshakes", usual: 3, measure: measureStore,
		peers:    []string{"cluster", "beside", "alone"},
		compared: []string{"CreateChatToken/s", "GetRoom/s", "CreateRoom/s", "64 at a time: handshakes/s", "64 at a time: CPU µs", "at once: handshakes/s"},
	},
}

// benchCluster measures them.
func benchCluster(binary, dir string) error {
	c, err := newContest(binary, dir, clusterContestants())
	if err != nil {
		return err
	}
	return c.runAll(clusterScenarios)
}

// measureNodes has the rooms of room and crowd, a little smaller to be divided by
// three.
func measureNodes(_ *contest, o contestant, p *process, f *figures) error {
	for _, size := range []struct {
		viewers, rate, sample int
		seconds               float64
	}{{1000, 50, 10, 3}, {9000, 10, 50, 5}} {
		n := atMost(size.viewers)
		l, _, err := join(o, p, loadSpec{Viewers: n, Sample: size.sample}, 60*time.Second)
		if err != nil {
			return err
		}
		err = func() error {
			defer l.close()
			if _, err := l.closed(p, 8, length(0.5)); err != nil { // warm
				return err
			}
			name := fmt.Sprint(n)
			s, err := l.closed(p, 8, length(2))
			if err != nil {
				return err
			}
			f.set(name+": deliveries/s", s.Rate)
			f.set(name+": CPU s a million", s.Cost)
			f.set(name+": p50 ms", s.P50)
			f.set(name+": p99 ms", s.P99)
			if s, err = l.open(p, float64(n*size.rate), length(size.seconds), 5*time.Second); err != nil {
				return err
			}
			f.phase(fmt.Sprintf("%s, %d/s", name, size.rate), s)
			return l.check()
		}()
		if err != nil {
			return err
		}
	}
	return nil
}

// measureBus has three viewers in each room, on nodes in turn.
func measureBus(_ *contest, o contestant, p *process, f *figures) error {
	l, _, err := join(o, p, loadSpec{Viewers: 60, Rooms: 20, Base: 1000}, 20*time.Second)
	if err != nil {
		return err
	}
	defer l.close()
	latency := func(name string) error {
		s, err := l.open(p, 3*100, length(5), 5*time.Second)
		if err != nil {
			return err
		}
		far := s.far
		if len(p.others) == 0 {
			far = s.near // to compare with
		}
		f.set(name+"sender's node: p50 ms", s.near.ms(0.5))
		f.set(name+"sender's node: p99 ms", s.near.ms(0.99))
		f.set(name+"other node: p50 ms", far.ms(0.5))
		f.set(name+"other node: p99 ms", far.ms(0.99))
		if len(p.others) > 0 {
			f.set(name+"the bus: p50 ms", far.ms(0.5)-s.near.ms(0.5))
		}
		f.set(name+"load late, p99 ms", s.Late)
		return l.check()
	}
	if err := latency(""); err != nil {
		return err
	}
	others, _, err := join(o, p, messageSpec(p, 3), 30*time.Second)
	if err != nil {
		return err
	}
	defer others.close()
	ended := make(chan error, 1)
	go func() {
		_, err := others.open(p, 3*1000, length(6), 10*time.Second)
		ended <- err
	}()
	err = latency("beside others, ")
	if err := <-ended; err != nil {
		return err
	}
	if err != nil {
		return err
	}
	return others.check()
}

// messageSpec is 200 rooms of three viewers, so many of whose nodes are used: the
// sender and those who are left over are on the first.
func messageSpec(p *process, used int) loadSpec {
	ports, err := messagingPorts(p)
	if err != nil {
		ports = nil // startLoad says so
	}
	at := make([]int, 0, 3)
	for i := range 3 {
		if i < used && i < len(ports) {
			at = append(at, ports[i])
		} else if len(ports) > 0 {
			at = slices.Insert(at, 0, ports[0])
		}
	}
	return loadSpec{Viewers: 600, Rooms: 200, Ports: at}
}

// measureMessage says what a message costs on all nodes together, and on those of
// its sender and of one viewer. What the nodes do anyway is taken off.
func measureMessage(_ *contest, o contestant, p *process, f *figures) error {
	idle, idleEach := idleCPU(p, length(3))
	f.set("idle: CPU, %", idle*100)
	for used := 1; used <= min(3, len(p.nodes())); used++ {
		l, _, err := join(o, p, messageSpec(p, used), 30*time.Second)
		if err != nil {
			return err
		}
		err = func() error {
			defer l.close()
			if _, err := l.open(p, 3*1000, length(0.5), 5*time.Second); err != nil { // warm
				return err
			}
			var before []time.Duration
			for _, node := range p.nodes() {
				before = append(before, node.ownCPU())
			}
			nodes := p.nodes()
			profiles := []<-chan error{profiled(p, o.profile(fmt.Sprintf("message-%d", used)), length(4))}
			if used > 1 && len(nodes) > 1 {
				profiles = append(profiles, profiled(nodes[1], o.profile(fmt.Sprintf("message-%d-second", used)), length(4)))
			}
			s, err := l.open(p, 3*1000, length(4), 5*time.Second)
			if err != nil {
				return err
			}
			messages := s.Rate * s.took.Seconds() / 3
			name := strings.Replace(fmt.Sprint(used, " nodes: "), "1 nodes", "1 node", 1)
			f.set(name+"CPU µs", s.Cost*3-idle*s.took.Seconds()*1e6/messages)
			for i, node := range p.nodes() {
				if i > 0 && i < used || i == 0 && used == 3 {
					f.set(name+[]string{"sender's", "second", "third"}[i]+" CPU µs", ((node.ownCPU()-before[i]).Seconds()-idleEach[i]*s.took.Seconds())*1e6/messages)
				}
			}
			f.set(name+"p50 ms", s.P50)
			f.set(name+"p99 ms", s.P99)
			for _, ended := range profiles {
				if err := <-ended; err != nil {
					return err
				}
			}
			return l.check()
		}()
		if err != nil {
			return err
		}
	}
	return nil
}

// idleCPU is the share of a processor that a server without anything to do takes,
// all nodes together and each.
func idleCPU(p *process, length time.Duration) (all float64, each []float64) {
	begun := time.Now()
	for _, node := range p.nodes() {
		each = append(each, -node.ownCPU().Seconds())
	}
	time.Sleep(length)
	took := time.Since(begun).Seconds()
	for i, node := range p.nodes() {
		each[i] = (each[i] + node.ownCPU().Seconds()) / took
		all += each[i]
	}
	return all, each
}

func measureStore(_ *contest, o contestant, p *process, f *figures) error {
	nodes := p.nodes()
	var slowest time.Duration
	for _, node := range nodes {
		slowest = max(slowest, node.ready)
	}
	f.set("start to ready, empty, ms", float64(slowest.Microseconds())/1000)
	if len(nodes) > 1 {
		if err := p.restartLast(); err != nil {
			return err
		}
		nodes = p.nodes()
		f.set("restart of a node to ready, ms", float64(nodes[len(nodes)-1].ready.Microseconds())/1000)
	}
	time.Sleep(2 * time.Second) // what the start needed is given back
	idle, _ := idleCPU(p, length(4))
	f.set("idle: CPU of a node, %", idle*100/float64(len(nodes)))
	var rss, anonymous float64
	for _, node := range nodes {
		rss += node.rss()
		anonymous += node.anonymous()
	}
	f.set("idle: RSS MiB of a node", rss/1024/float64(len(nodes)))
	f.set("idle: anonymous", anonymous/1024/float64(len(nodes)))
	for _, operation := range []struct{ name, body string }{
		{"CreateChatToken", fmt.Sprintf(`{"roomIdentifier":%q,"userId":"alice","capabilities":["SEND_MESSAGE"],"attributes":{"username":"alice"}}`, p.RoomARN)},
		{"GetRoom", fmt.Sprintf(`{"identifier":%q}`, p.RoomARN)},
		{"CreateRoom", `{"name":"bench","tags":{"k":"v"}}`},
	} {
		s, err := measureOperation(p, "/"+operation.name, operation.body, o.profile("store-"+operation.name))
		if err != nil {
			return err
		}
		f.set(operation.name+"/s", s.rate)
		f.set(operation.name+" CPU µs", s.cost)
		f.set(operation.name+" p50 ms", s.p50)
		f.set(operation.name+" p99 ms", s.p99)
	}
	for _, storm := range []struct {
		name   string
		window int
	}{{"64 at a time", 64}, {"at once", 3000}} {
		const n = 3000
		tokens, err := mintTokens(p, p.RoomARN, n)
		if err != nil {
			return err
		}
		before := make([]time.Duration, len(nodes))
		for i, node := range nodes {
			before[i] = node.ownCPU()
		}
		l, err := startLoad(p, loadSpec{Viewers: n, Sample: n, Window: storm.window, Wire: o.wire, Tokens: tokens})
		if err != nil {
			return err
		}
		took, err := l.join(60 * time.Second)
		var sum, most time.Duration
		for i, node := range nodes {
			used := node.ownCPU() - before[i]
			sum, most = sum+used, max(most, used)
		}
		joined := float64(l.shared.joined.Load())
		h := l.shared.handshakes.now()
		f.set(storm.name+": handshakes/s", joined/took.Seconds())
		f.set(storm.name+": CPU µs", float64(sum.Microseconds())/joined)
		if len(nodes) > 1 {
			f.set(storm.name+": CPU µs of the busiest node", float64(most.Microseconds())/joined)
		}
		f.set(storm.name+": p50 ms", h.ms(0.5))
		f.set(storm.name+": p99 ms", h.ms(0.99))
		f.set(storm.name+": refused, tried again", float64(l.shared.refused.Load()))
		l.close()
		if err != nil {
			return err
		}
	}
	return nil
}
