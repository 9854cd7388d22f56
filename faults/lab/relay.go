package lab

import (
	"errors"
	"math/rand/v2"
	"os"
	"sync"
	"time"
)

// Wire is one direction between two sides. The zero value is a perfect one.
type Wire struct {
	Cut     bool          // nothing comes through, and the sender is not told
	Latency time.Duration // of each packet
	Loss    float64       // share of packets that do not come, 0 to 1
}

// onTheWay is how many packets a wire with latency holds; those that come to a
// full one are lost, as at a router.
const onTheWay = 4096

// relay carries IP packets between the sides. The last byte of an address, less
// one, is the side's place.
type relay struct {
	sides  []*Side
	done   chan struct{}
	loops  sync.WaitGroup
	random *rand.Rand // guarded by mu

	mu    sync.Mutex
	wires [][]Wire // from, to

	delayed [][]chan packet // from, to
}

// packet is one that is on its way.
type packet struct {
	due   time.Time
	bytes []byte
}

func newRelay(sides []*Side, seed uint64) *relay {
	r := &relay{sides: sides, done: make(chan struct{}), random: rand.New(rand.NewPCG(seed, 'w'))}
	for range sides {
		r.wires = append(r.wires, make([]Wire, len(sides)))
		late := make([]chan packet, len(sides))
		for to := range late {
			late[to] = make(chan packet, onTheWay)
			r.loops.Go(func() { r.carry(late[to], sides[to].device) })
		}
		r.delayed = append(r.delayed, late)
	}
	for from := range sides {
		r.loops.Go(func() { r.read(from) })
	}
	return r
}

// read takes what a side sends until its device is closed.
func (r *relay) read(from int) {
	b := make([]byte, 1<<16)
	for {
		n, err := r.sides[from].device.Read(b)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		const header = 20
		if err != nil || n < header || b[0]>>4 != 4 {
			continue
		}
		to := int(b[19]) - 1
		if to < 0 || to >= len(r.sides) || to == from {
			continue
		}
		latency, comes := r.fate(from, to)
		switch {
		case !comes:
		case latency == 0:
			_, _ = r.sides[to].device.Write(b[:n])
		default:
			select {
			case r.delayed[from][to] <- packet{time.Now().Add(latency), append([]byte(nil), b[:n]...)}:
			default:
			}
		}
	}
}

// fate says what becomes of a packet.
func (r *relay) fate(from, to int) (latency time.Duration, comes bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := r.wires[from][to]
	if w.Cut || w.Loss > 0 && r.random.Float64() < w.Loss {
		return 0, false
	}
	return w.Latency, true
}

// carry brings packets when they are due.
func (r *relay) carry(late <-chan packet, to *os.File) {
	for {
		select {
		case p := <-late:
			due := time.NewTimer(time.Until(p.due))
			select {
			case <-due.C:
				_, _ = to.Write(p.bytes)
			case <-r.done:
				due.Stop()
				return
			}
		case <-r.done:
			return
		}
	}
}

func (r *relay) set(from, to int, w Wire) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wires[from][to] = w
}

// close waits for the loops; the devices are closed by now.
func (r *relay) close() {
	close(r.done)
	r.loops.Wait()
}
