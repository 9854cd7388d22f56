package engine_test

import (
	"fmt"
	"testing"
	"time"

	"hubbub/engine"
)

// A node whose store NATS turned off, as it does when a disk is full, is not fresh,
// asks to be restarted when there is room, and is then one of the majority.
func TestAStoreThatWasFullComesBack(t *testing.T) {
	t.Parallel()
	c := startTrio(t)
	failed := make(chan error, 1)
	c.failed = func(err error) { failed <- err }
	c.stop(2)
	c.start(2)
	full := follow(t, c.nodes[2])
	engine.SetFree(c.nodes[2], 0)
	if err := engine.TurnOff(c.nodes[2]); err != nil {
		t.Fatal(err)
	}
	b, other := bucket(t, c.nodes[0]), bucket(t, c.nodes[1])
	for n := range 20 {
		if _, err := b.Create(t.Context(), fmt.Sprint("k", n), []byte("v")); err != nil {
			t.Fatal(err)
		}
	}
	if full.feed.Fresh() == nil {
		t.Error("a node that keeps nothing counts as fresh")
	}
	select {
	case err := <-failed:
		t.Errorf("it fails before there is room: %v", err)
	default:
	}
	engine.SetFree(c.nodes[2], -1)
	<-failed
	full.feed.Close()
	c.stop(2)
	c.start(2)
	if back := follow(t, c.nodes[2]); len(back.all()) != 20 {
		t.Errorf("it has %d of 20", len(back.all()))
	}
	c.stop(0)
	var err error
	for limit := time.Now().Add(time.Minute); time.Now().Before(limit); { // a leader is chosen
		if _, err = other.Create(t.Context(), "after", []byte("v")); err == nil {
			return
		}
	}
	t.Errorf("without another node it is no majority: %v", err)
}
