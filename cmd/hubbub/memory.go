package main

import (
	"context"
	"log/slog"
	"math"
	"os"
	"runtime/debug"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"

	"hubbub"
)

// limitMemory has Go's collector work harder before a container's limit is
// reached, since the kernel ends who goes beyond. GOMEMLIMIT, if it is set, is
// left as it is; where there is no limit nothing changes. say tells the log.
func limitMemory() (say func(*slog.Logger)) {
	limit, err := memlimit.Set(memlimit.WithRatio(0.9), memlimit.WithProvider(memlimit.FromCgroup))
	return func(log *slog.Logger) {
		switch {
		case err != nil:
			log.Debug("no memory limit of a container", "err", err)
		case limit < math.MaxInt64:
			log.Info("soft memory limit, from the container's or GOMEMLIMIT", "bytes", limit)
		}
	}
}

// releaseStart gives back what only the start needed: the memory of what it read,
// which is more than half with many rooms, and the pages of the program. A server
// is ready before.
func releaseStart(log *slog.Logger) {
	debug.FreeOSMemory()
	releaseProgram(log)
}

// releaseAfterStorms calls release each time that a storm of viewers who came or
// went is over, until the returned function is called. What they left behind is
// garbage, and once collected it is room that Go keeps for the next.
func releaseAfterStorms(viewers func() int, release func()) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(stormReading)
		defer tick.Stop()
		var s storm
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if s.over(viewers()) {
					release()
				}
			}
		}
	}()
	return func() { cancel(); <-done }
}

const (
	stormReading = time.Second // between two readings of the number of viewers
	stormLeast   = 1000        // viewers that came or went, and a tenth of all: else it was no storm
	stormCalm    = 2           // readings that hardly differ from the one before: it is over
	stormRest    = 10          // readings between two ends of storms, for a collection costs as much for a small one
)

// storm is what the numbers of viewers say of one that goes on.
type storm struct {
	least, most int // viewers since the last was over
	last        int // reading
	calm, rest  int // readings
}

// over takes the next reading and says whether a storm has ended with it.
func (s *storm) over(viewers int) bool {
	s.least, s.most = min(s.least, viewers), max(s.most, viewers)
	if moved := max(viewers-s.last, s.last-viewers); moved*100 > max(s.most, stormLeast) {
		s.calm = 0
	} else {
		s.calm++
	}
	s.last, s.rest = viewers, max(0, s.rest-1)
	if changed := s.most - s.least; changed < stormLeast || changed*10 < s.most || s.calm < stormCalm || s.rest > 0 {
		return false
	}
	*s = storm{least: viewers, most: viewers, last: viewers, rest: stormRest}
	return true
}

// releaseStorm gives back what a storm has left, unless the collector was told to
// run at the memory's limit alone.
func releaseStorm(s *hubbub.Server) {
	if os.Getenv("GOGC") == "off" {
		return
	}
	began := time.Now()
	debug.FreeOSMemory()
	s.Log().Debug("memory given back after a storm of viewers", "viewers", s.Viewers(), "took", time.Since(began))
}
