package hub

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/fnv"
	"sync"
	"sync/atomic"
	"time"

	"hubbub/engine"
	"hubbub/ivschat"
	"hubbub/quota"
)

// In a cluster the message rate of a room is counted on one node, the room's home,
// which all others ask for each message: so it is held exactly, whichever nodes the
// senders are on. The home is chosen by a hash over the names of those that are
// alive, which all nodes do alike. It is asked for no more than the room's rate by
// each node, which refuses by itself what comes on top: a room full of people who
// write at once must not cost the home a question for each. When a node comes or goes some rooms have
// another home, which begins with a full second's worth; and a node whose home
// does not answer, or is starting or stopping, counts by itself what it hears in
// the room.
type rates struct {
	bus     *engine.Bus
	members atomic.Pointer[[]engine.Member]

	mu    sync.Mutex
	rooms map[ivschat.ARN]*homeRate
	swept time.Time
}

type homeRate struct {
	bucket quota.Bucket
	used   time.Time
}

const (
	rateQuestion = "hub.rate" // 4 bytes messages a second, the room; the answer is one byte, 1 for yes

	// homePatience is how long a message waits for the home's word.
	homePatience = 200 * time.Millisecond

	// idleRate is after what time a room's count is forgotten: it is full again.
	idleRate = 2 * time.Second
)

func newRates(bus *engine.Bus, now func() time.Time) *rates {
	r := &rates{bus: bus, rooms: map[ivschat.ARN]*homeRate{}}
	bus.Changed(func(engine.Member) {
		members := bus.Members()
		r.members.Store(&members)
	})
	bus.Answer(rateQuestion, func(_ engine.Run, q []byte) []byte {
		if len(q) > 4 && r.take(ivschat.ARN(q[4:]), int(binary.BigEndian.Uint32(q)), now()) {
			return []byte{1}
		}
		return []byte{0}
	})
	return r
}

// home is the node that counts a room's messages; 0 is this one.
func (r *rates) home(arn ivschat.ARN) engine.Run {
	members := r.members.Load()
	if members == nil {
		return 0
	}
	weigh := func(node string) uint64 {
		h := fnv.New64a()
		_, _ = h.Write([]byte(arn)) // never fails
		_, _ = h.Write([]byte(node))
		sum := h.Sum64()
		return (sum ^ sum>>31) * 0x9e3779b97f4a7c15 // the last letters count as much as the first
	}
	home, most := engine.Run(0), weigh(r.bus.Node())
	for _, m := range *members {
		if w := weigh(m.Node); w > most {
			home, most = m.Run, w
		}
	}
	return home
}

// take counts a message: of a room whose home is here all of them, of others those
// that this node is to ask about. Of those it refuses none that the home would
// grant, but for one message in a burst: both fill alike, and while the home refuses
// it has nothing left either.
func (r *rates) take(arn ivschat.ARN, perSecond int, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.swept) > idleRate {
		r.swept = now
		for arn, h := range r.rooms {
			if now.Sub(h.used) > idleRate {
				delete(r.rooms, arn)
			}
		}
	}
	h := r.rooms[arn]
	if h == nil {
		h = &homeRate{}
		r.rooms[arn] = h
	}
	h.used = now
	return h.bucket.Take(perSecond, now)
}

// ask asks a room's home; an error says that it did not answer, or does not count:
// it is starting or stopping.
func (r *rates) ask(home engine.Run, arn ivschat.ARN, perSecond int) (bool, error) {
	ctx, cancel := context.WithTimeout(context.Background(), homePatience)
	defer cancel()
	answer, err := r.bus.AskOne(ctx, home, rateQuestion, binary.BigEndian.AppendUint32(nil, uint32(perSecond)), []byte(arn))
	if err == nil && len(answer) != 1 {
		err = errors.New("the node does not count")
	}
	return err == nil && answer[0] == 1, err
}
