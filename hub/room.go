package hub

import (
	"sync"
	"time"

	"hubbub/ivschat"
	"hubbub/quota"
	"hubbub/socket"
)

// room is a chat room as long as it has viewers on this node.
type room struct {
	// Set by Hub.enter, read-only after.
	arn   ivschat.ARN
	scope ivschat.Scope

	// Guarded by Hub.mu.
	held      int       // connections that hold the room: viewers and handshakes on their way
	deserted  time.Time // when held became 0
	lingering bool      // is in Hub.lingering

	// mu gives the room its one order: what is queued while it is held is queued
	// for all viewers before anything that comes later. Nothing waits under it.
	mu    sync.Mutex
	group *socket.Group
	users map[string]*viewer // the first connection of each user; the others by viewer.next. Those whose session ended are here until they are closed
	rate  quota.Bucket       // of SEND_MESSAGE, all viewers together
}

// join makes the connection a viewer: from now on it misses nothing.
func (r *room) join(v *viewer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if v.next = r.users[v.userID]; v.next != nil {
		v.next.prev = v
	}
	r.users[v.userID] = v
	r.group.Add(v.conn)
}

// leave ends the viewer for the reason given, unless it ended before: then it is
// false. What was queued for the viewer so far still reaches it, then last, if
// there is one, and nothing more.
func (r *room) leave(v *viewer, e *ending, last *socket.Frame) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e == gone {
		r.forget(v)
	}
	if v.ending.Load() != nil {
		return false
	}
	v.ending.Store(e)
	r.group.Remove(v.conn)
	if last != nil {
		v.conn.Send(last)
	}
	return true
}

// forget takes the viewer from the list of its user's connections, if it is there.
func (r *room) forget(v *viewer) {
	switch {
	case v.prev != nil:
		v.prev.next = v.next
	case r.users[v.userID] != v: // disconnect took it out
		return
	case v.next != nil:
		r.users[v.userID] = v.next
	default:
		delete(r.users, v.userID)
	}
	if v.next != nil {
		v.next.prev = v.prev
	}
	v.prev, v.next = nil, nil
}

// deliver queues the frame for every viewer and says for how many. If its sender
// (nil for the control plane) ended meanwhile, nobody gets it and ended says so:
// after the event that disconnects a user there is nothing more of that user.
func (r *room) deliver(sender *viewer, f *socket.Frame) (deliveries int, ended *ending) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if sender != nil {
		if e := sender.ending.Load(); e != nil {
			return 0, e
		}
	}
	return r.group.Send(f), nil
}

// disconnect is deliver, and then ends every connection of the user with close
// code 1000 and the text, behind the frame. Source: spec messaging 3.3.
func (r *room) disconnect(sender *viewer, f *socket.Frame, userID, text string) (deliveries int, ended *ending) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if sender != nil {
		if e := sender.ending.Load(); e != nil {
			return 0, e
		}
	}
	deliveries = r.group.Send(f)
	for v := r.users[userID]; v != nil; {
		next := v.next
		v.prev, v.next = nil, nil
		v.ending.Store(disconnected)
		r.group.Remove(v.conn)
		v.conn.Close(closeNormal, text)
		v = next
	}
	delete(r.users, userID)
	return deliveries, nil
}

// take takes one message from the room's rate.
func (r *room) take(perSecond int, now func() time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rate.Take(perSecond, now()) // asked here, so that no stamp is overtaken
}
