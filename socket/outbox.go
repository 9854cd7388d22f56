package socket

import "sync"

// outbox is what is pending for a connection. Frames are references. At most one
// goroutine, the writer, takes from it at a time: whoever finds it without one
// has to see that it gets one.
type outbox struct {
	mu sync.Mutex
	queue
	few     [2]*Frame     // where frames begins, so that a delivery to who is idle allocates nothing
	writing bool          // it has a writer
	shut    bool          // nothing more is taken
	over    bool          // it was over its bounds: the writer resets the connection
	gone    bool          // it was abandoned: the writer empties it
	idle    chan struct{} // closed when the writer is done; nil if nobody waits for that
}

// queue adds a frame and says whether the caller must find a writer. A queue over
// its bounds is given up, and the connection is reset by its writer: the caller
// never waits for the network layer.
func (c *Conn) queue(f *Frame) (idle bool) {
	o := &c.out
	o.mu.Lock()
	if o.shut {
		o.mu.Unlock()
		return false
	}
	over := !f.last && (len(o.frames) >= c.server.config.QueueFrames || o.bytes+len(f.bytes) > c.server.config.QueueBytes)
	if over {
		o.over, o.shut = true, true
	} else {
		if o.frames == nil {
			o.frames = o.few[:0]
		}
		o.frames = append(o.frames, f)
		o.bytes += len(f.bytes)
		o.shut = f.last
	}
	idle = !o.writing
	o.writing = true
	o.mu.Unlock()
	if over {
		c.end(SlowViewer, noCode)
		_ = c.base.SetWriteDeadline(past) // the writer may be waiting for this peer
	}
	return idle
}

// pong answers a ping; of several that were not answered yet the last counts, so
// that a flood of pings queues one frame. Source: RFC 6455, 5.5.3.
func (c *Conn) pong(f *Frame) {
	o := &c.out
	o.mu.Lock()
	if o.shut {
		o.mu.Unlock()
		return
	}
	o.pong = f
	idle := !o.writing
	o.writing = true
	o.mu.Unlock()
	if idle {
		c.server.write(c)
	}
}

// next joins what is pending, at most a write's worth, without taking it. With
// nothing pending the writer is done and must not touch the outbox any more; if
// the outbox was over its bounds the writer has to reset the connection.
func (o *outbox) next(join *[]byte) (pending []byte, over bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.over {
		return nil, true
	}
	if o.gone {
		o.forget()
	}
	if !o.shut {
		o.queue.insertPong()
	}
	if len(o.frames) == 0 {
		o.release()
		return nil, false
	}
	return o.queue.join(join), false
}

// release ends the writer's time. o.mu is held.
func (o *outbox) release() {
	o.writing = false
	o.frames = nil // an idle connection holds no array
	if o.idle != nil {
		close(o.idle)
		o.idle = nil
	}
}

// wrote takes n bytes off, and says how many frames are whole now and whether
// the last of all was among them.
func (o *outbox) wrote(n int) (whole uint64, last bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.queue.wrote(n)
}

// abandon gives up what is pending; nothing more is taken. What the writer is
// writing stays until it has noted how much of it was written.
func (o *outbox) abandon() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.over, o.shut, o.gone = false, true, true
	if !o.writing {
		o.forget()
	}
}

// forget drops the references. o.mu is held.
func (o *outbox) forget() {
	clear(o.few[:])
	o.queue = queue{}
}

// isOver says whether the outbox was over its bounds.
func (o *outbox) isOver() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.over
}

// settled waits until there is no writer. The outbox is shut, so there will be none.
func (o *outbox) settled() {
	o.mu.Lock()
	if !o.writing {
		o.mu.Unlock()
		return
	}
	idle := make(chan struct{})
	o.idle = idle
	o.mu.Unlock()
	<-idle
}
