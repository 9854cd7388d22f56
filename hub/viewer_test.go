package hub

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/coder/websocket"

	"hubbub/ivschat"
)

// TestARequestWhoseSenderEndedMeanwhile is the race between a request that passed
// its checks and the end of its sender, played by hand.
func TestARequestWhoseSenderEndedMeanwhile(t *testing.T) {
	n := start(t)
	room := n.room()
	bob := n.join(room, "bob")
	settings, err := n.registry.Room(room)
	ok(t, err)
	requests := func(v *viewer) (done []string) {
		for _, a := range []ivschat.Action{
			{Name: ivschat.SendMessage, Content: "x"},
			{Name: ivschat.DeleteMessage, ID: "AbCdEf123456"},
			{Name: ivschat.DisconnectUser, UserID: "nobody"},
		} {
			n.arrange(&request{Action: a, hub: n.Hub, viewer: v, id: ivschat.NewID(), settings: settings, received: n.clock.now()})
		}
		return []string{"MESSAGE  x", "EVENT  aws:DELETE_MESSAGE", "EVENT  aws:DISCONNECT_USER"}
	}
	n.join(room, "alice")
	v := n.viewerOf(room, "alice")
	ok(t, n.DisconnectUser(t.Context(), room, "alice", ""))
	bob.want("EVENT  aws:DISCONNECT_USER")
	requests(v) // nothing more of a user who was disconnected
	n.fence(room, bob)

	n.join(room, "alice")
	v = n.viewerOf(room, "alice")
	n.expire(v, n.clock.now())
	for _, want := range requests(v) { // they were received before the session's end
		bob.want(want)
	}
	n.fence(room, bob)
}

func TestAnInternalErrorIsPlainForTheClientAndWholeForTheLog(t *testing.T) {
	var log bytes.Buffer
	n := start(t, func(s *setup) { s.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	room := n.room()
	c := n.join(room, "alice")
	n.refuse(n.viewerOf(room, "alice"), "AbCdEf123456", "r", errors.New("the cause"))
	c.want("ERROR r 500 Internal server error")
	n.Close()
	if !strings.Contains(log.String(), "the cause") {
		t.Errorf("the log says %s", log.String())
	}
}

func TestADrainDropsEverybodyWithoutACloseFrame(t *testing.T) {
	n := start(t)
	room := n.room()
	alice := n.join(room, "alice")
	n.Drain(context.Background(), 0)
	if text, err := alice.read(); err == nil || websocket.CloseStatus(err) != -1 {
		t.Errorf("%s %v", text, err)
	}
	eventually(t, "nobody is held", func() bool { return n.Viewers() == 0 && n.quotaHeld() == 0 })
}

func TestAStormOfRecordsGoesToDebug(t *testing.T) {
	f, now := newFrequency(1, 2), time.Now()
	var levels []slog.Level
	for _, after := range []time.Duration{0, 0, 0, time.Second, time.Second} {
		levels = append(levels, f.level(now.Add(after)))
	}
	want := []slog.Level{slog.LevelInfo, slog.LevelInfo, slog.LevelDebug, slog.LevelInfo, slog.LevelDebug}
	for i := range want {
		if levels[i] != want[i] {
			t.Fatalf("levels %v, want %v", levels, want)
		}
	}
}

func TestAViewerIsSmall(t *testing.T) {
	// A size class of the allocator: there may be very many viewers.
	if size := unsafe.Sizeof(viewer{}); size > 128 {
		t.Errorf("a viewer has %d bytes", size)
	}
}
