package socket

import (
	"net"
	"runtime"
	"testing"
	"time"
)

// Who has said something that nobody has heard yet is not turned out; the oldest of
// those who have not is, if it has been silent for long enough.
func TestWhoSpeaksIsNotTurnedOut(t *testing.T) {
	s := New(Config{PlaceTimeout: time.Nanosecond, MaxHandshakes: 3}, nil)
	var out []string
	come := func(name string, speaks bool) *stranger {
		p := &stranger{out: func() bool {
			if !speaks {
				out = append(out, name)
			}
			return !speaks
		}}
		if got := s.enlist(p, func() {}); got != listed {
			t.Fatalf("%s: %d", name, got)
		}
		return p
	}
	speaker, silent := come("speaker", true), come("silent", false)
	for s.turnOut(); len(out) == 0; s.turnOut() { // the clock may stand still for a moment
		runtime.Gosched()
	}
	if !silent.turned.Load() || speaker.turned.Load() || speaker.place == nil || len(out) != 1 {
		t.Errorf("turned out: %v, speaker %v", out, speaker.turned.Load())
	}
	s.config.PlaceTimeout = time.Hour
	come("young", false)
	if s.turnOut(); len(out) != 1 {
		t.Errorf("turned out: %v", out)
	}
}

func TestUnread(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if unread(c) {
		t.Error("nothing was sent")
	}
	if _, err := client.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if unread(c) != rawReads { // on loopback what was written is there
		t.Error("what was sent is not seen")
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if unread(c) {
		t.Error("of a closed connection")
	}
}
