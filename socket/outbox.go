package socket

import (
	"slices"
	"sync"
)

// outbox is what is pending for a connection. Frames are references. At most one
// goroutine, the writer, takes from it at a time: whoever finds it without one
// has to see that it gets one.
type outbox struct {
	mu      sync.Mutex
	frames  []*Frame
	few     [2]*Frame     // where frames begins, so that a delivery to who is idle allocates nothing
	pong    *Frame        // to be sent ahead of what is not begun
	offset  int           // bytes of frames[0] that are written
	bytes   int           // of all frames
	writing bool          // it has a writer
	shut    bool          // nothing more is taken
	over    bool          // it was over its bounds: the writer resets the connection
	gone    bool          // it was abandoned: the writer empties it
	idle    chan struct{} // closed when the writer is done; nil if nobody waits for that
}

// most is how many bytes one write carries: frames are joined up to it.
const most = 16 << 10

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
	if o.pong != nil && !o.shut {
		// Ahead of all that is not begun, or a busy room would starve it.
		at := 0
		if len(o.frames) > 0 && (o.offset > 0 || o.frames[0].answer) {
			at = 1
		}
		o.frames = slices.Insert(o.frames, at, o.pong)
		o.bytes, o.pong = o.bytes+len(o.pong.bytes), nil
	}
	if len(o.frames) == 0 {
		o.release()
		return nil, false
	}
	first := o.frames[0].bytes[o.offset:]
	if len(o.frames) == 1 || len(first)+len(o.frames[1].bytes) > most {
		return first, false
	}
	*join = append((*join)[:0], first...)
	for _, f := range o.frames[1:] {
		if len(*join)+len(f.bytes) > most {
			break
		}
		*join = append(*join, f.bytes...)
	}
	return *join, false
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
	done := 0
	for done < len(o.frames) {
		f := o.frames[done]
		left := len(f.bytes) - o.offset
		if n < left {
			o.offset += n
			break
		}
		n -= left
		o.bytes -= len(f.bytes)
		o.offset = 0
		last = last || f.last
		if !f.answer {
			whole++
		}
		done++
	}
	if done > 0 {
		rest := copy(o.frames, o.frames[done:])
		clear(o.frames[rest:])
		o.frames = o.frames[:rest]
	}
	return whole, last
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
	o.frames, o.pong, o.bytes, o.offset = nil, nil, 0, 0
}

// isOver says whether the outbox was over its bounds.
func (o *outbox) isOver() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.over
}

// join waits until there is no writer. The outbox is shut, so there will be none.
func (o *outbox) join() {
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
