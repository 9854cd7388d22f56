package engine

import (
	"context"
	"time"
)

// stage is how far a node is with its beginning or its end. The others are told:
// nodes begin together, see Bus.meet, and the store needs a majority of them for as
// long as one has something to write. When all are told to stop at once, the first
// that is done waits for the last.
type stage uint32

const (
	serving stage = iota
	ending        // it has things to store yet
	ended         // it stores nothing more
	gone          // this is its last beat
	met           // it is no member yet, and a majority is there
)

// Ending tells the other nodes that this one is about to end. If so many do that the
// rest is no majority, Engine.Close waits until all that end have stored what they
// have.
func (b *Bus) Ending() { b.enter(ending) }

// leave tells the other nodes that this one stores nothing more, and returns when
// none needs it any more, or when ctx ends.
func (b *Bus) leave(ctx context.Context) {
	if stage(b.stage.Load()) == serving || b.engine.nodes == 0 { // nobody was told, or the store needs none of the nodes
		return
	}
	b.enter(ended)
	began := time.Now()
	for b.needed() || time.Since(began) < hearsay {
		select {
		case <-ctx.Done():
			return
		case <-time.After(meetEvery):
		}
	}
}

// hearsay is how much later others may be told to end, and be waited for.
const hearsay = 2 * beatEvery

func (b *Bus) enter(s stage) {
	b.stage.Store(uint32(s))
	wake(b.news)
}

// needed says whether another node that ends could not store what it has without
// this one.
func (b *Bus) needed() bool {
	stay, waits := 0, false
	for _, m := range b.Members() {
		switch m.stage {
		case serving:
			stay++
		case ending:
			waits = true
		}
	}
	return waits && 2*stay <= b.engine.nodes
}
