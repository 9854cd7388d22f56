package engine

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// A node of a cluster writes what others ask of it, and cannot refuse that as room
// does. When its disk is full NATS turns the node's store off, and leaves it off when
// there is room again: the other nodes are two then, and one more full disk ends the
// cluster. NATS would turn it on again in a running process, but answers questions
// meanwhile as if it were alone. So the node goes on without, not ready, and ends
// when a restart helps.

const (
	// offEvery is how often the node looks.
	offEvery = time.Second

	// enoughFree is with how much space a restart helps.
	enoughFree = 16 * minFree
)

// errOff says that the node is no replica any more.
var errOff = errors.New("the store of this node is off, since its disk was full; make room, and restart the node if it does not end by itself")

// off is nil if the embedded store is on.
func (e *Engine) off() error {
	if e.server != nil && !e.server.JetStreamEnabled() {
		return errOff
	}
	return nil
}

// watchStore waits until the store was turned off and has room again, or until ctx
// ends, and tells failed of the former.
func (e *Engine) watchStore(ctx context.Context, failed func(error)) {
	tick := time.NewTicker(offEvery)
	defer tick.Stop()
	for told := false; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		free := e.free()
		switch err := e.off(); {
		case err == nil:
		case free >= enoughFree:
			failed(fmt.Errorf("the disk of %s was full and has %d bytes again: the node must be restarted to keep what the others write", e.folder.path, free))
			return
		case !told:
			told = true
			e.log.Error("the disk is full, and the store of this node off", "folder", e.folder.path, "free", free, "err", err)
		}
	}
}
