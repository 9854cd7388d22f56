package hub

import (
	"maps"
	"sync"
	"time"

	"hubbub/ivschat"
	"hubbub/quota"
	"hubbub/socket"
)

// room is a chat room as long as it has viewers on this node.
type room struct {
	// Set by Hub.enter, read-only after.
	arn    ivschat.ARN
	scope  ivschat.Scope
	record func(ivschat.Record)

	cluster *cluster // nil alone
	*shared          // nil alone

	// Guarded by Hub.mu.
	held      int       // holds: viewers, handshakes on their way, requests that wait
	deserted  time.Time // when held became 0
	lingering bool      // is in Hub.lingering

	// mu gives the room its one order: what is queued while it is held is queued
	// for all viewers before anything that comes later. Nothing waits under it.
	mu    sync.Mutex
	group *socket.Group
	users map[string]*viewer // the first connection of each user; the others by viewer.next. Those whose session ended are here until they are closed, those with waiting requests until these are done
	most  int                // users since the map was made
	rate  quota.Bucket       // of SEND_MESSAGE, all viewers together

	perSecond int // of rate, as it was asked last
}

// join makes the connection a viewer: from now on it misses nothing.
func (r *room) join(v *viewer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if v.next = r.users[v.sender.UserID()]; v.next != nil {
		v.next.prev = v
	}
	r.users[v.sender.UserID()] = v
	r.most = max(r.most, len(r.users))
	r.group.Add(v.conn)
}

// leave ends the viewer for the reason given, unless it ended before: then it is
// false. What was queued for the viewer so far still reaches it, then last, if
// there is one, and nothing more.
func (r *room) leave(v *viewer, e *ending, last *socket.Frame) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e == gone {
		v.gone = true
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

// finished ends the waiting of one of the viewer's requests.
func (r *room) finished(v *viewer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if v.waiting--; v.gone {
		r.forget(v)
	}
}

// forget takes the viewer from the list of its user's connections, if it is there
// and none of its requests wait.
func (r *room) forget(v *viewer) {
	if v.waiting > 0 {
		return
	}
	switch {
	case v.prev != nil:
		v.prev.next = v.next
	case r.users[v.sender.UserID()] != v: // disconnect took it out
		return
	case v.next != nil:
		r.users[v.sender.UserID()] = v.next
	default:
		r.remove(v.sender.UserID())
	}
	if v.next != nil {
		v.next.prev = v.prev
	}
	v.prev, v.next = nil, nil
}

// remove takes a user out. After a storm the map is made anew: it keeps the room
// of the most that it ever had. r.mu is held.
func (r *room) remove(userID string) {
	delete(r.users, userID)
	if r.most >= 512 && len(r.users) <= r.most/8 {
		r.users, r.most = maps.Collect(maps.All(r.users)), len(r.users)
	}
}

// deliver queues the frame for every viewer and its record for the log, and says
// for how many. If its sender (nil for the control plane) was disconnected
// meanwhile, nobody gets it: after the event that disconnects a user there is
// nothing more of that user. A sender whose session or connection ended is
// another matter: the request was received before.
func (r *room) deliver(sender *viewer, d dispatch) (deliveries int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.send(sender, d)
}

// send is deliver for who holds r.mu.
func (r *room) send(sender *viewer, d dispatch) (deliveries int, err error) {
	if sender != nil && sender.ending.Load() == disconnected {
		return 0, errDisconnected
	}
	if len(d.record.Configurations) > 0 {
		r.record(d.record)
	}
	if r.cluster != nil && !d.told {
		r.cluster.tell(r.arn, d.label, "", "", d.record.Payload)
	}
	return r.group.Send(d.frame), nil
}

// disconnect is deliver, and then ends every connection of the user with close
// code 1000 and the text, behind the frame. Source: spec messaging 3.3.
func (r *room) disconnect(sender *viewer, d dispatch, userID, text string) (deliveries int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d.told = true // below, with the user
	if deliveries, err = r.send(sender, d); err != nil {
		return 0, err
	}
	if r.cluster != nil {
		r.cluster.tell(r.arn, disconnectUser, userID, text, d.record.Payload)
	}
	r.end(userID, text)
	return deliveries, nil
}

// end ends every connection of a user. r.mu is held.
func (r *room) end(userID, text string) {
	for v := r.users[userID]; v != nil; {
		next := v.next
		v.prev, v.next = nil, nil
		v.ending.Store(disconnected)
		r.group.Remove(v.conn)
		v.conn.Close(closeNormal, text)
		v = next
	}
	r.remove(userID)
}

// take takes one message from the room's rate.
func (r *room) take(perSecond int, now func() time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.perSecond = perSecond
	return r.rate.Take(perSecond, now()) // asked here, so that no stamp is overtaken
}
