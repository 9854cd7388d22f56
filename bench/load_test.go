package main

import (
	"encoding/binary"
	"strings"
	"testing"
	"time"
)

// unmasked is a frame as a server sends it.
func unmasked(op byte, payload []byte) []byte {
	if len(payload) < 126 {
		return append([]byte{0x80 | op, byte(len(payload))}, payload...)
	}
	return append(binary.BigEndian.AppendUint16([]byte{0x80 | op, 126}, uint16(len(payload))), payload...)
}

// The load must count and parse the same wherever a read ends, and whether a
// frame has one message, several or a part of one.
func TestEveryMessageIsCountedWhereverAReadEnds(t *testing.T) {
	var stream []byte
	seq := uint32(0)
	event := func() []byte { seq++; return appendEvent(nil, seq, time.Now().UnixNano()) }
	stream = append(stream, unmasked(1, event())...)
	stream = append(stream, unmasked(9, nil)...)
	stream = append(stream, unmasked(1, append(append(event(), '\n'), event()...))...)
	e := event()
	stream = append(stream, unmasked(2, e[:100])...)
	stream = append(stream, unmasked(2, e[100:])...)
	stream = append(stream, unmasked(1, []byte(`{"Type":"EVENT"}`))...)
	stream = append(stream, unmasked(1, event())...)
	for cut := range len(stream) {
		s := &shared{page: &page{}, counts: make([]uint32, 1)}
		w := &worker{load: &loadSpec{Rooms: 1}, wire: plainWire{}, shared: s, stride: 1, viewers: []viewer{{fd: -1, state: open, sampled: true}}}
		w.consume(0, stream[:cut])
		w.consume(0, stream[cut:])
		if s.counts[0] != seq || s.disordered.Load() != 0 || w.viewers[0].last != seq {
			t.Fatalf("cut at %d: %d messages, %d out of order, the last is %d; want %d, 0, %d", cut, s.counts[0], s.disordered.Load(), w.viewers[0].last, seq, seq)
		}
		delays := s.delays.now()
		if n := delays.ms(1); n > 10_000 {
			t.Fatalf("cut at %d: a delay of %v ms", cut, n)
		}
	}
}

func TestALostOrRepeatedMessageIsSeen(t *testing.T) {
	for _, seqs := range [][]uint32{{1, 3}, {1, 1}, {2}} {
		s := &shared{page: &page{}, counts: make([]uint32, 1)}
		w := &worker{load: &loadSpec{Rooms: 1}, wire: plainWire{}, shared: s, stride: 1, viewers: []viewer{{fd: -1, state: open, sampled: true}}}
		for _, n := range seqs {
			w.consume(0, unmasked(1, appendEvent(nil, n, 1)))
		}
		if s.disordered.Load() == 0 {
			t.Errorf("%v passes for 1, 2, ...", seqs)
		}
	}
}

func TestPercentilesOfAHistogramAreWithinTwoPercent(t *testing.T) {
	for _, d := range []time.Duration{3 * time.Microsecond, 64 * time.Microsecond, 127 * time.Microsecond, 4321 * time.Microsecond, 2 * time.Second} {
		var h histogram
		h.add(d)
		c := h.now()
		got, want := c.ms(0.5), float64(d.Microseconds())/1000
		if got < want || got > want*1.016+0.001 {
			t.Errorf("%v: %v ms", d, got)
		}
	}
}

func TestSlowViewersAreSpreadEvenlyAndTheSenderIsNone(t *testing.T) {
	for _, s := range []loadSpec{{Viewers: 200, Slow: 10}, {Viewers: 120, Slow: 100}, {Viewers: 520, Slow: 500}, {Viewers: 200}} {
		n := 0
		for i := range s.Viewers {
			if s.slowIs(i) {
				n++
			}
			if most := (i+1)*s.Slow/s.Viewers + 1; n > most {
				t.Errorf("%d of %d: %d of the first %d, want at most %d", s.Slow, s.Viewers, n, i+1, most)
			}
		}
		if n != s.Slow || s.slowIs(0) {
			t.Errorf("%d of %d are slow, want %d; the sender: %v", n, s.Viewers, s.Slow, s.slowIs(0))
		}
	}
}

// Over a cluster every room has as many viewers on each node, and its sender, the
// first, on the first.
func TestTheViewersOfARoomAreOnAllNodesInTurn(t *testing.T) {
	s := &loadSpec{Viewers: 12, Rooms: 2, Ports: []int{101, 102, 103}}
	viewers := map[[2]int]int{}
	for i := range s.Viewers {
		viewers[[2]int{i % s.Rooms, s.port(i)}]++
		if i < s.Rooms && s.port(i) != 101 {
			t.Errorf("the sender of room %d is on %d", i, s.port(i))
		}
	}
	for room := range s.Rooms {
		for _, port := range s.Ports {
			if n := viewers[[2]int{room, port}]; n != 2 {
				t.Errorf("room %d has %d viewers on %d, want 2", room, n, port)
			}
		}
	}
}

func TestAnUnknownPartIsRefused(t *testing.T) {
	defer func(before string) { *only = before }(*only)
	*only = "room,fanout"
	if err := bench(); err == nil || !strings.Contains(err.Error(), `"fanout"`) || !strings.Contains(err.Error(), "crowd") {
		t.Errorf("fanout is answered with %v, want its name and those that there are", err)
	}
}
