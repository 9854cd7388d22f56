package chatlog

import (
	"fmt"
	"hash/maphash"
	"testing"
	"time"
)

func TestWindowsAreAlignedOrApart(t *testing.T) {
	now := time.Date(2025, 8, 14, 5, 48, 40, 415514370, time.UTC)
	for _, c := range []struct {
		name    string
		layout  Layout
		aligned bool
	}{
		{"those of objects end with the minutes of their names", (&objects{flush: 5 * time.Minute}).Layout(), true},
		{"log streams have each their own", logEvents(5 * time.Second), false},
		{"delivery streams have each their own", firehoseRecords(5 * time.Second), false},
	} {
		d := &delivery{layout: c.layout, seed: maphash.MakeSeed()}
		quarters := map[time.Duration]bool{} // of the flush time in which some window ends
		for i := range 100 {
			phase := d.phase(fmt.Sprint("room", i))
			due := d.due(phase, now)
			if due != d.due(phase, due.Add(-1)) || !due.After(now) || due.Sub(now) > c.layout.Flush {
				t.Fatalf("%s: an entry of %v is due at %v, which is not within %v, or not for all of its window", c.name, now, due, c.layout.Flush)
			}
			if c.aligned && !due.Equal(due.Truncate(c.layout.Flush)) {
				t.Fatalf("%s: a window ends at %v", c.name, due)
			}
			quarters[due.Sub(now)*4/(c.layout.Flush+1)] = true
		}
		if !c.aligned && len(quarters) != 4 {
			t.Errorf("%s: the windows of 100 rooms end in %d quarters of the flush time; they are to be spread over all", c.name, len(quarters))
		}
	}
}
