package engine

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// What is on its way is not read from the leader, which may be far away: this feed
// has none to read from.
func TestWhatIsOnItsWayIsWaitedFor(t *testing.T) {
	var had []uint64
	f := &Feed{bucket: &Bucket{name: "b"}, changes: make(chan *nats.Msg), moved: make(chan struct{}), keys: map[string]uint64{},
		apply: func(c Change) error {
			had = append(had, c.Revision)
			return nil
		}}
	f.advance(4)
	go func() {
		for _, sequence := range []int{4, 5, 6, 7} {
			f.changes <- &nats.Msg{Subject: changesPrefix + "b.k", Header: nats.Header{"Nats-Sequence": {strconv.Itoa(sequence)}}}
		}
	}()
	began := time.Now()
	if err := f.catchUp(t.Context(), found{last: 7, began: began, took: time.Hour}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(had, []uint64{5, 6, 7}) || f.Applied() != 7 || *f.whole.Load() != began {
		t.Errorf("it had %v, up to %d, and is whole since %v", had, f.Applied(), f.whole.Load())
	}
}
