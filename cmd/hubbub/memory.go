package main

import (
	"log/slog"
	"math"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"
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
