package socket

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// storm has so many connections at once in a group with others, all of which are
// sent something, and ends them. The memory is that in use while they are there.
func (s *still) storm(g *Group, connections int) (memory int64) {
	s.t.Helper()
	var peers []int
	for range connections {
		c, peer := s.pair()
		s.server.enrol(&stranger{}, c)
		g.Add(c)
		peers = append(peers, peer)
	}
	f := NewFrame([]byte("to all"))
	for range 300 {
		g.Send(f)
	}
	for s.turn(); s.busy(); {
		s.turn()
	}
	memory = inUse()
	for _, peer := range peers {
		_ = unix.Close(peer)
	}
	for ended := 0; ended < connections; {
		for _, e := range s.poll.events[:s.poll.look()] {
			s.event(e)
		}
		for len(s.h.ends) > 0 {
			<-s.h.ends
			ended++
		}
		s.turn()
	}
	s.server.running.Wait()
	s.turn()
	return memory
}

// inUse is the memory of the heap that has something reachable in it.
func inUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse)
}

func TestMemoryReturnsAfterAStorm(t *testing.T) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	connections := min(5000, int(min(limit.Cur, 1<<20)-500)/2)
	s := newStill(t, Config{})
	s.h.closed = func(c *Conn) { c.own.home.Load().Remove(c) }
	g := s.server.NewGroup()
	stays, _ := s.connect()
	s.server.enrol(&stranger{}, stays)
	g.Add(stays)
	s.storm(g, min(1500, connections)) // the runtime keeps goroutines for those to come
	before := inUse()
	most := s.storm(g, connections) - before
	left := inUse() - before
	t.Logf("%d connections: %d KiB more in use with them, %d KiB after them", connections, most>>10, left>>10)
	if left > most/3 {
		t.Errorf("of %d bytes for %d connections %d stay in use when they are gone, want less than a third", most, connections, left)
	}
	if g.Len() != 1 || s.server.Len() != 1 || len(s.conns.in) != 1 || s.held != 1 {
		t.Errorf("%d members, %d connections, %d and %d of the loop, want one that stays", g.Len(), s.server.Len(), len(s.conns.in), s.held)
	}
	for _, room := range []struct {
		name      string
		has, most int
	}{
		{"connections", s.server.conns.most, smallCrowd},
		{"connections by descriptor", s.conns.most, smallCrowd},
		{"members", cap(stays.own.section.members), 64},
		{"frames", cap(stays.own.section.frames), 256},
		{"spare backlogs", len(s.spare), mostSpare},
		{"posts", max(cap(s.taken), cap(s.posted)), mostPosts},
	} {
		if room.has > room.most {
			t.Errorf("there is room for %d %s, want at most %d", room.has, room.name, room.most)
		}
	}
}

func TestACrowdGivesItsMemoryBack(t *testing.T) {
	var c crowd[int, int]
	for i := range 4 * smallCrowd {
		c.add(i, -i)
	}
	for i := range 4*smallCrowd - 1 {
		c.remove(i)
		c.remove(i)
		if c.in[i+1] != -i-1 {
			t.Fatalf("%d is lost", i+1)
		}
	}
	if len(c.in) != 1 || c.most >= smallCrowd {
		t.Errorf("%d are left, and there is room for %d", len(c.in), c.most)
	}
}
