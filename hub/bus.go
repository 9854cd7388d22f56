package hub

import (
	"context"
	"encoding/binary"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"hubbub/engine"
	"hubbub/ivschat"
	"hubbub/socket"
)

// In a cluster the viewers of a room are on several nodes. What happens in a room
// on one node is told to those others that have viewers in it, by one message of
// the bus, and delivered there as it is here:
//
//	8 bytes   number: one more than that of the node's message before it in the room
//	1 byte    what it is: the place of its label in kinds; and forgetful, if the node is
//	          for disconnectUser: 2 bytes length, the user, 1 byte length, the text of the close frame
//	          the frame's text
//
// The bus loses messages, if a node is cut off or too slow. The numbers show it:
// then the room's viewers on the node that missed something are dropped, so that
// nobody goes on with a gap. That nothing more comes shows when the nodes compare
// their numbers, every few seconds.
//
// A node forgets the number of a room that it has not told anything for long, if
// nobody has asked for it either, and begins anew. A node that may not have asked
// for half that time, since it was cut off, takes whatever comes next for a gap.

// kinds are what is told, in the order of their bytes.
var kinds = []label{sendMessage, sendEvent, deleteMessage, disconnectUser}

const (
	// settleTime is how long the first viewer of a room on a node waits until the
	// other nodes know that there is one. A node that does not answer is cut off.
	settleTime = 250 * time.Millisecond

	// compareEvery is how often nodes compare what they have told.
	compareEvery = 2 * time.Second

	// underWay is how long a message may be, and is lost then.
	underWay = 3 * time.Second / 2

	// forgetAfter is how long a room's number is kept that nobody uses.
	forgetAfter = time.Hour

	forgetful = 0x80 // the node has forgotten the numbers of rooms

	joinQuestion    = "hub.join"    // a room: how many messages were told in it
	compareQuestion = "hub.compare" // rooms, with NUL between them: the same of each, and a byte, forgetful or 0
)

// cluster is a hub's part in those of the other nodes.
type cluster struct {
	hub         *Hub
	bus         *engine.Bus
	rates       *rates
	connections *connections
	stop        context.CancelFunc
	done        sync.WaitGroup
	came        chan struct{} // another node has

	compared atomic.Pointer[map[engine.Run]time.Time] // when it was begun to ask a node for the numbers of all rooms

	mu        sync.Mutex
	told      map[ivschat.ARN]telling
	most      int // rooms since the map was made
	forgetful byte
}

// telling is what a node has told in a room.
type telling struct {
	number uint64    // messages
	used   time.Time // when the last was told, or the number asked for
}

// shared is what a room of a cluster has besides.
type shared struct {
	subscription *engine.Subscription
	settled      chan struct{} // closed when the other nodes know of the room

	// Guarded by room.mu.
	heard   map[engine.Run]uint64    // the number of the latest message of each node
	suspect map[engine.Run]suspicion // of those that tell of more
	made    time.Time                // when the room was made on this node
	anew    map[engine.Run]time.Time // when the viewers were dropped since a node may have begun anew
}

// suspicion is what a node has told, and had not come at a comparison.
type suspicion struct {
	number uint64
	since  time.Time
}

func newCluster(h *Hub, bus *engine.Bus) *cluster {
	ctx, stop := context.WithCancel(context.Background())
	c := &cluster{hub: h, bus: bus, rates: newRates(bus, h.now), connections: newConnections(bus, h.quota), stop: stop, came: make(chan struct{}, 1), told: map[ivschat.ARN]telling{}}
	c.compared.Store(&map[engine.Run]time.Time{})
	bus.Answer(joinQuestion, func(_ engine.Run, room []byte) []byte {
		return binary.BigEndian.AppendUint64(nil, c.number(ivschat.ARN(room)))
	})
	bus.Answer(compareQuestion, func(_ engine.Run, rooms []byte) (numbers []byte) {
		for room := range strings.SplitSeq(string(rooms), "\x00") {
			numbers = binary.BigEndian.AppendUint64(numbers, c.number(ivschat.ARN(room)))
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		return append(numbers, c.forgetful)
	})
	bus.Changed(func(m engine.Member) {
		if m.Alive {
			select {
			case c.came <- struct{}{}:
			default:
			}
		}
	})
	c.done.Go(func() { c.compareAlways(ctx) })
	return c
}

func (c *cluster) close() {
	c.connections.close()
	c.stop()
	c.done.Wait()
	c.bus.Answer(joinQuestion, nil)
	c.bus.Answer(compareQuestion, nil)
	c.bus.Answer(rateQuestion, nil)
}

func (c *cluster) number(room ivschat.ARN) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	t, known := c.told[room]
	if known {
		t.used = c.hub.now()
		c.told[room] = t
	}
	return t.number
}

// forget forgets the rooms that were not used for long.
func (c *cluster) forget(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.most = max(c.most, len(c.told))
	for room, t := range c.told {
		if now.Sub(t.used) > forgetAfter {
			delete(c.told, room)
			c.forgetful = forgetful
		}
	}
	if c.most >= 512 && len(c.told) <= c.most/8 { // the map keeps the room of the most that it ever had
		c.told, c.most = maps.Collect(maps.All(c.told)), len(c.told)
	}
}

// sure says whether a node that forgets cannot have begun anew in a room since it
// was heard there. The caller holds the room's mu.
func (c *cluster) sure(r *room, run engine.Run, now time.Time) bool {
	for _, at := range []time.Time{r.made, r.anew[run], (*c.compared.Load())[run]} {
		if now.Sub(at) < forgetAfter/2 {
			return true
		}
	}
	return false
}

// subject is where a room is told of.
func subject(arn ivschat.ARN) string {
	n, _ := arn.Parse() // it is a room of the registry
	return "room." + n.Region + "." + n.Account + "." + n.ID
}

// tell tells the other nodes what happens in a room. The caller holds the room's
// mu, if it has viewers here, so that the order is the same everywhere.
func (c *cluster) tell(arn ivschat.ARN, l label, userID, text string, payload []byte) {
	head := make([]byte, 8, 16+len(userID)+len(text))
	head = append(head, byte(slices.Index(kinds, l)))
	if l == disconnectUser {
		head = binary.BigEndian.AppendUint16(head, uint16(len(userID)))
		head = append(head, userID...)
		head = append(head, byte(len(text)))
		head = append(head, text...)
	}
	c.mu.Lock() // over the sending: the numbers go out in their order
	defer c.mu.Unlock()
	number := c.told[arn].number + 1
	c.told[arn] = telling{number, c.hub.now()}
	binary.BigEndian.PutUint64(head, number)
	head[8] |= c.forgetful
	if err := c.bus.Publish(subject(arn), head, payload); err != nil {
		c.hub.log.Error("other nodes are not told of what happens in a room", "err", err)
	}
}

// enter makes a room one that other nodes tell of. Hub.mu is held.
func (c *cluster) enter(r *room) {
	r.shared = &shared{settled: make(chan struct{}), heard: map[engine.Run]uint64{}, suspect: map[engine.Run]suspicion{}, made: c.hub.now(), anew: map[engine.Run]time.Time{}}
	var err error
	r.subscription, err = c.bus.Subscribe(subject(r.arn), func(from engine.Run, data []byte) []byte {
		c.hear(r, from, data)
		return nil
	})
	if err != nil {
		c.hub.log.Error("the room does not hear other nodes", "room", r.arn, "err", err)
	}
	c.done.Go(func() {
		defer close(r.settled)
		ctx, cancel := context.WithTimeout(context.Background(), settleTime)
		defer cancel()
		answers, err := c.bus.Ask(ctx, joinQuestion, []byte(r.arn))
		if err != nil {
			c.hub.log.Warn("a node does not answer; viewers here miss what it tells until it does", "err", err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		for run, a := range answers {
			if len(a) == 8 {
				r.heard[run] = max(r.heard[run], binary.BigEndian.Uint64(a))
			}
		}
	})
}

func (c *cluster) leave(r *room) {
	if r.subscription != nil {
		r.subscription.Close()
	}
}

// hear delivers what another node tells of a room.
func (c *cluster) hear(r *room, from engine.Run, data []byte) {
	if len(data) < 9 || int(data[8]&^forgetful) >= len(kinds) {
		return // of a later version
	}
	number, l, forgets, rest := binary.BigEndian.Uint64(data), kinds[data[8]&^forgetful], data[8]&forgetful != 0, data[9:]
	var userID, text string
	if l == disconnectUser {
		var ok bool
		if userID, rest, ok = cut(rest, 2); !ok {
			return
		}
		if text, rest, ok = cut(rest, 1); !ok {
			return
		}
	}
	deliveries := r.hear(from, number, forgets, socket.NewFrame(rest), l, userID, text)
	c.hub.metrics.deliveries[l].Add(float64(deliveries))
}

// cut takes a text off, behind its length of so many bytes.
func cut(b []byte, size int) (text string, rest []byte, ok bool) {
	if len(b) < size {
		return "", nil, false
	}
	n := 0
	for _, x := range b[:size] {
		n = n<<8 | int(x)
	}
	if b = b[size:]; len(b) < n {
		return "", nil, false
	}
	return string(b[:n]), b[n:], true
}

// hear is cluster.hear for the room.
func (r *room) hear(from engine.Run, number uint64, forgets bool, frame *socket.Frame, l label, userID, text string) (deliveries int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.cluster.hub.now()
	switch last := r.heard[from]; {
	case forgets && !r.cluster.sure(r, from, now):
		r.anew[from] = now
		r.missed()
	case number <= last:
		return 0 // before the room was one of this node
	case number > last+1:
		r.missed()
	}
	r.heard[from] = number
	deliveries = r.group.Send(frame)
	if l == sendMessage {
		r.rate.Use(r.perSecond, r.cluster.hub.now())
	}
	if l == disconnectUser {
		r.end(userID, text)
	}
	return deliveries
}

// missed drops all viewers, so that they come back and go on without a gap. r.mu
// is held.
func (r *room) missed() {
	for _, v := range r.users {
		for ; v != nil; v = v.next {
			if v.ending.Load() == nil {
				v.ending.Store(missed)
				r.group.Remove(v.conn)
				v.conn.Drop()
			}
		}
	}
}

// compareAlways finds messages of which nothing came, not even a later one. A node
// that comes may be one that was cut off, so it is asked at once.
func (c *cluster) compareAlways(ctx context.Context) {
	timer := time.NewTimer(compareEvery)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.came:
		case <-timer.C:
		}
		c.compare(ctx)
		c.forget(c.hub.now())
		timer.Reset(compareEvery)
	}
}

// maxCompared bounds the rooms in one question.
const maxCompared = 1000

func (c *cluster) compare(ctx context.Context) {
	began := c.hub.now() // who comes later is new
	c.hub.mu.Lock()
	rooms := slices.Collect(maps.Values(c.hub.rooms))
	c.hub.mu.Unlock()
	silent := map[engine.Run]bool{} // to some question
	heard := map[engine.Run]bool{}
	for some := range slices.Chunk(rooms, maxCompared) {
		names := make([]string, len(some))
		for i, r := range some {
			names[i] = string(r.arn)
		}
		ctx, cancel := context.WithTimeout(ctx, compareEvery)
		answers, _ := c.bus.Ask(ctx, compareQuestion, []byte(strings.Join(names, "\x00"))) // who is silent is asked again
		cancel()
		for _, m := range c.bus.Members() {
			numbers := answers[m.Run]
			if len(numbers) != 8*len(some)+1 {
				silent[m.Run] = true
				continue
			}
			heard[m.Run] = true
			for i, r := range some {
				r.compare(m.Run, binary.BigEndian.Uint64(numbers[8*i:]), numbers[8*len(some)] == forgetful)
			}
		}
	}
	compared := maps.Clone(*c.compared.Load())
	maps.DeleteFunc(compared, func(_ engine.Run, at time.Time) bool { return began.Sub(at) > forgetAfter })
	for run := range heard {
		if !silent[run] {
			compared[run] = began
		}
	}
	c.compared.Store(&compared)
}

// compare says up to which number a node had told. What has not come is on its way,
// or lost.
func (r *room) compare(run engine.Run, told uint64, forgets bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.cluster.hub.now()
	if forgets && !r.cluster.sure(r, run, now) {
		r.anew[run], r.heard[run] = now, told
		delete(r.suspect, run)
		r.missed()
		return
	}
	if s := r.suspect[run]; r.heard[run] < s.number {
		if now.Sub(s.since) < underWay {
			return
		}
		r.heard[run] = s.number
		r.missed()
	}
	delete(r.suspect, run)
	if r.heard[run] < told {
		r.suspect[run] = suspicion{told, now}
	}
}
