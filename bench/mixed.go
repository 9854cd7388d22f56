package main

import (
	"strconv"
	"time"
)

// mixedWire sends messages, deletes and kicks in turn. The number and the due
// time of a delete or a kick stand in its reason, which the event carries, and
// the close frame of whom it meant.
type mixedWire struct {
	ivsWire
	rooms, each int
}

const (
	deleteEvery = 10 // the fifth, fifteenth, ... action of a room is a delete
	kickEvery   = 40 // the twentieth, sixtieth, ... a kick
)

// kicks is the viewer whom an action of a room disconnects, or -1. The sender,
// first in its room, is never one.
func (m mixedWire) kicks(room int, seq uint32) int {
	nth := m.each - 1 - int(seq)/kickEvery
	if seq%kickEvery != kickEvery/2 || nth < 1 {
		return -1
	}
	return room + m.rooms*nth
}

func (m mixedWire) message(dst []byte, room int, seq uint32, due int64) []byte {
	kicked := m.kicks(room, seq)
	if kicked < 0 && seq%deleteEvery != deleteEvery/2 {
		return m.ivsWire.message(dst, room, seq, due)
	}
	return appendFrame(dst, 1, func(b []byte) []byte {
		if kicked >= 0 {
			b = append(b, `{"Action":"DISCONNECT_USER","UserId":"user-`...)
			b = append(strconv.AppendInt(b, int64(kicked), 10), `","Reason":`...)
		} else {
			b = append(b, `{"Action":"DELETE_MESSAGE","Id":"M2YcHkgffEvU","Reason":`...)
		}
		return append(appendContent(b, seq, due), '}')
	})
}

func measureMixed(_ *contest, o contestant, p *process, f *figures) error {
	o.wire = "mixed"
	l, _, err := join(o, p, loadSpec{Viewers: 1000, Rooms: 20, Sample: 4}, 30*time.Second)
	if err != nil {
		return err
	}
	defer l.close()
	s, err := l.open(p, 1000*20, length(8), 5*time.Second)
	if err != nil {
		return err
	}
	c := l.shared.closes.now()
	f.set("CPU s a million", s.Cost)
	f.set("p50 ms", s.P50)
	f.set("p99 ms", s.P99)
	f.set("max ms", s.Max)
	f.set("kicked", float64(l.shared.kicked.Load()))
	f.set("kick until closed, p50 ms", c.ms(0.5))
	f.set("kick until closed, p99 ms", c.ms(0.99))
	return l.check()
}
