package hub

import (
	"hash/maphash"
	"log/slog"
	"sync"
	"time"

	"hubbub/chattoken"
	"hubbub/ivschat"
	"hubbub/socket"
)

// flapping remembers users who come to a room and go at once, again and again, as
// a client does that fails right after each 101: the official SDKs then reconnect
// without any pause, for ever. Their next handshakes are answered later and later,
// and never refused for it.
//
// What counts is the user in the room. Behind one address there may be a whole
// school, and one page that fails there must not delay the others; a user has a
// token from the application for each connection, and cannot pass for another.
//
// It is a bucket of short connections for each user, that drains as time goes by.
// Who stays is in none.
type flapping struct {
	seed  maphash.Seed
	first time.Duration // the shortest delay

	mu    sync.Mutex
	users map[uint64]int64 // by a hash of room and user, when its bucket will be empty, in nanoseconds of Unix time
	swept time.Time
}

const (
	// shortLived is the age below which a connection's end counts. A page that is
	// left or loaded again soon counts too, and a test suite that comes and goes as
	// one user, which is what flapsFree is for; a token of
	// one minute, which makes an SDK change its connection each 30 s, does not.
	shortLived = 10 * time.Second

	flapsFree  = 30            // short connections that the bucket holds without consequences
	flapDrains = time.Second   // and in this time one of them is forgotten
	flapsMost  = flapsFree + 7 // more are not held, so that a user is in the clear after 37 seconds

	// With each one more the delay doubles. A client that cannot be stopped so comes to
	// rest at a connection a second, which is what the bucket drains.
	flapFirst   = 100 * time.Millisecond
	flapLongest = 5 * time.Second // half of what a handshake may wait: socket.Config.LineTimeout

	// flappers is how many users are remembered, in about a megabyte; those who would
	// be more are not delayed.
	flappers = 16 << 10

	// crowdIsShared is how many connections of a user tell that many people share the
	// id, as anonymous viewers may: then the coming and going is not one client's.
	crowdIsShared = 4
)

func newFlapping() *flapping {
	return &flapping{seed: maphash.MakeSeed(), first: flapFirst, users: map[uint64]int64{}}
}

func (f *flapping) key(room ivschat.ARN, userID string) uint64 {
	return maphash.Comparable(f.seed, [2]string{string(room), userID})
}

// note counts a short connection.
func (f *flapping) note(room ivschat.ARN, userID string, now time.Time) {
	key := f.key(room, userID)
	f.mu.Lock()
	defer f.mu.Unlock()
	empty, known := f.users[key]
	if !known && len(f.users) >= flappers && !f.sweep(now) {
		return
	}
	n := now.UnixNano()
	f.users[key] = min(max(empty, n)+int64(flapDrains), n+flapsMost*int64(flapDrains))
}

// delay is how long the user's next handshake is to wait.
func (f *flapping) delay(room ivschat.ARN, userID string, now time.Time) time.Duration {
	key := f.key(room, userID)
	f.mu.Lock()
	empty := f.users[key]
	f.mu.Unlock()
	held := (time.Duration(empty-now.UnixNano()) + flapDrains - 1) / flapDrains
	if empty == 0 || held <= flapsFree {
		return 0
	}
	return min(f.first<<min(held-flapsFree-1, flapsMost), flapLongest)
}

// sweep forgets who is in the clear, once a second at most, and says whether there
// is room for another. f.mu is held.
func (f *flapping) sweep(now time.Time) bool {
	if now.Sub(f.swept) >= time.Second {
		f.swept = now
		for key, empty := range f.users {
			if empty <= now.UnixNano() {
				delete(f.users, key)
			}
		}
	}
	return len(f.users) < flappers
}

// delayed lets a handshake of a user who flaps wait, with its token unused, and
// then be asked again. Where no rates hold, as in load tests, nobody waits.
func (h *Hub) delayed(u *socket.Upgrade, s chattoken.Session) bool {
	now := h.now()
	d := h.flapping.delay(s.Room, s.UserID, now)
	if d == 0 || h.quota.ConnectionRate() == 0 || h.isShared(s) || !u.Delay(d) {
		return false
	}
	h.metrics.delayed.Inc()
	h.log.Log(u.Context(), h.refusals.level(now), "handshake delayed", slog.String("room", string(s.Room)),
		slog.String("user", hashed(s.UserID)), slog.Duration("delay", d), slog.String("remote", u.RemoteAddr().String()))
	return true
}

// isShared says whether many people seem to use the session's user id in its room.
func (h *Hub) isShared(s chattoken.Session) bool {
	r := h.find(s.Room)
	if r == nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for v := r.users[s.UserID]; v != nil && n < crowdIsShared; v = v.next {
		n++
	}
	return n == crowdIsShared
}
