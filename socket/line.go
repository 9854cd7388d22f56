package socket

import (
	"container/list"
	"net/http"
	"sync"
	"time"
)

// line is the queue of upgrade requests that are whole, for the Handler: first
// come, first served, so many at a time. A storm of them takes its turns beside
// what open connections send and are sent, and does not go before it.
type line struct {
	server *Server

	mu      sync.Mutex
	busy    int        // calls of Handler.Handshake and Handler.Open that run
	waiting *list.List // of *Upgrade, oldest first
	delayed int        // by Upgrade.Delay
}

// spot is where an Upgrade is; guarded by line.mu.
type spot struct {
	place   *list.Element // in line.waiting, or nil
	delayed bool          // it waits out a delay
	once    bool          // it has been delayed
}

// join puts the request at the end, and begins with it at once if nobody waits.
func (l *line) join(u *Upgrade) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue(u)
}

// queue is join for who holds l.mu.
func (l *line) queue(u *Upgrade) {
	u.spot.place = l.waiting.PushBack(u)
	l.server.metrics.waiting.Inc()
	l.begin()
}

// begin begins with as many as may be under way. l.mu is held.
func (l *line) begin() {
	for l.busy < l.server.config.MaxDeciding && l.waiting.Len() > 0 {
		u := l.remove(l.waiting.Front())
		l.busy++
		l.server.running.Go(func() {
			defer l.done()
			l.server.ask(u)
		})
	}
}

// remove takes somebody out. l.mu is held.
func (l *line) remove(place *list.Element) *Upgrade {
	u := l.waiting.Remove(place).(*Upgrade)
	u.spot.place = nil
	l.server.metrics.waiting.Dec()
	return u
}

// more counts a call that does not wait for its turn: an Open belongs to a
// Handshake that has had it.
func (l *line) more() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy++
}

// done ends a call.
func (l *line) done() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy--
	l.begin()
}

// leave takes the request out, and is false if the Handler has it, or had.
func (l *line) leave(u *Upgrade) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch s := &u.spot; {
	case s.place != nil:
		l.remove(s.place)
	case s.delayed:
		s.delayed = false
		l.delayed--
	default:
		return false
	}
	return true
}

// delay begins a delay, unless there are too many: they hold places.
func (l *line) delay(u *Upgrade, d time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if u.spot.once || l.delayed >= max(l.server.config.MaxHandshakes/8, 1) {
		return false
	}
	u.spot.once, u.spot.delayed = true, true
	l.delayed++
	l.server.running.Go(func() {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-u.ctx.Done():
			l.leave(u)
			return
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if u.spot.delayed {
			u.spot.delayed = false
			l.delayed--
			l.queue(u)
		}
	})
	return true
}

// quit is for a request that need not wait any more: if it was in line still, that
// is the decision about it.
func (s *Server) quit(u *Upgrade, why decision) bool {
	if !s.line.leave(u) {
		return false
	}
	u.decide(why)
	return true
}

// Our own decisions.
var (
	tooLate = decision{status: http.StatusServiceUnavailable, message: "The server could not decide in time. Try again.", why: undecided}
	tooLong = decision{status: http.StatusServiceUnavailable, message: "The server has too many connections to open at the moment. Try again.", why: overdue}
	wentOff = decision{status: http.StatusServiceUnavailable, message: "The client went before its turn.", why: noRequest}
)

// noPlace answers who comes when all places are taken.
var noPlace = &refusedRequest{status: http.StatusServiceUnavailable, message: tooLong.message}

// complain logs that handshakes are refused for want of time or places: now and
// then, since there may be very many.
func (s *Server) complain(why refusal) {
	s.complaints.Do(func() {
		s.config.Log.Warn("handshakes are refused", "reason", string(why), "places", s.config.MaxHandshakes, "taken", len(s.shaking))
	})
}

const complainEvery = 10 * time.Second
