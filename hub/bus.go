package hub

import (
	"context"
	"encoding/binary"
	"maps"
	"slices"
	"strings"
	"sync"
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
//	1 byte    what it is: the place of its label in kinds
//	          for disconnectUser: 2 bytes length, the user, 1 byte length, the text of the close frame
//	          the frame's text
//
// The bus loses messages, if a node is cut off or too slow. The numbers show it:
// then the room's viewers on the node that missed something are dropped, so that
// nobody goes on with a gap. That nothing more comes shows when the nodes compare
// their numbers, every few seconds.

// kinds are what is told, in the order of their bytes.
var kinds = []label{sendMessage, sendEvent, deleteMessage, disconnectUser}

const (
	// settleTime is how long the first viewer of a room on a node waits until the
	// other nodes know that there is one. A node that does not answer is cut off.
	settleTime = 250 * time.Millisecond

	// compareEvery is how often nodes compare what they have told.
	compareEvery = 2 * time.Second

	joinQuestion    = "hub.join"    // a room: how many messages were told in it
	compareQuestion = "hub.compare" // rooms, with NUL between them: the same of each
)

// cluster is a hub's part in those of the other nodes.
type cluster struct {
	hub         *Hub
	bus         *engine.Bus
	rates       *rates
	connections *connections
	stop        context.CancelFunc
	done        sync.WaitGroup

	mu   sync.Mutex
	told map[ivschat.ARN]uint64 // messages of this node, by room
}

// shared is what a room of a cluster has besides.
type shared struct {
	subscription *engine.Subscription
	settled      chan struct{} // closed when the other nodes know of the room

	// Guarded by room.mu.
	heard   map[engine.Run]uint64 // the number of the latest message of each node
	suspect map[engine.Run]uint64 // what should have come by the next comparison
}

func newCluster(h *Hub, bus *engine.Bus) *cluster {
	ctx, stop := context.WithCancel(context.Background())
	c := &cluster{hub: h, bus: bus, rates: newRates(bus), connections: newConnections(bus, h.quota), stop: stop, told: map[ivschat.ARN]uint64{}}
	bus.Answer(joinQuestion, func(_ engine.Run, room []byte) []byte {
		return binary.BigEndian.AppendUint64(nil, c.number(ivschat.ARN(room)))
	})
	bus.Answer(compareQuestion, func(_ engine.Run, rooms []byte) (numbers []byte) {
		for room := range strings.SplitSeq(string(rooms), "\x00") {
			numbers = binary.BigEndian.AppendUint64(numbers, c.number(ivschat.ARN(room)))
		}
		return numbers
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
	return c.told[room]
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
	c.told[arn]++
	binary.BigEndian.PutUint64(head, c.told[arn])
	if err := c.bus.Publish(subject(arn), head, payload); err != nil {
		c.hub.log.Error("other nodes are not told of what happens in a room", "err", err)
	}
}

// enter makes a room one that other nodes tell of. Hub.mu is held.
func (c *cluster) enter(r *room) {
	r.shared = &shared{settled: make(chan struct{}), heard: map[engine.Run]uint64{}, suspect: map[engine.Run]uint64{}}
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
	if len(data) < 9 || int(data[8]) >= len(kinds) {
		return // of a later version
	}
	number, l, rest := binary.BigEndian.Uint64(data), kinds[data[8]], data[9:]
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
	deliveries := r.hear(from, number, socket.NewFrame(rest), l, userID, text)
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
func (r *room) hear(from engine.Run, number uint64, frame *socket.Frame, l label, userID, text string) (deliveries int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch last := r.heard[from]; {
	case number <= last:
		return 0 // before the room was one of this node
	case number > last+1:
		r.missed()
	}
	r.heard[from] = number
	deliveries = r.group.Send(frame)
	if l == sendMessage {
		r.rate.Use(r.perSecond, time.Now())
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

// compareAlways finds messages of which nothing came, not even a later one.
func (c *cluster) compareAlways(ctx context.Context) {
	tick := time.NewTicker(compareEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			c.compare(ctx)
		}
	}
}

// maxCompared bounds the rooms in one question.
const maxCompared = 1000

func (c *cluster) compare(ctx context.Context) {
	c.hub.mu.Lock()
	rooms := slices.Collect(maps.Values(c.hub.rooms))
	c.hub.mu.Unlock()
	for some := range slices.Chunk(rooms, maxCompared) {
		names := make([]string, len(some))
		for i, r := range some {
			names[i] = string(r.arn)
		}
		ctx, cancel := context.WithTimeout(ctx, compareEvery)
		answers, _ := c.bus.Ask(ctx, compareQuestion, []byte(strings.Join(names, "\x00"))) // who is silent is asked again
		cancel()
		for run, numbers := range answers {
			if len(numbers) != 8*len(some) {
				continue
			}
			for i, r := range some {
				r.compare(run, binary.BigEndian.Uint64(numbers[8*i:]))
			}
		}
	}
}

// compare says up to which number a node had told. What is on its way has until
// the next comparison.
func (r *room) compare(run engine.Run, told uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if due := r.suspect[run]; r.heard[run] < due {
		r.heard[run] = due
		r.missed()
	}
	delete(r.suspect, run)
	if r.heard[run] < told {
		r.suspect[run] = told
	}
}
