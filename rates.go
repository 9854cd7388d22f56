package hubbub

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"hubbub/engine"
	"hubbub/quota"
)

const (
	// ratesSubject is where a node tells the others what it let through of the rates
	// of accounts, a line each: region, account, key, number.
	ratesSubject = "rates"

	// ratesEvery is how often, if there is something and it was not told at once.
	ratesEvery = 100 * time.Millisecond

	// ratesTold bounds the lines of one message.
	ratesTold = 1000
)

// shareRates has the rates of accounts hold over all nodes of a cluster.
func (s *Server) shareRates(counters *quota.Counters) error {
	bus := s.store.Bus()
	if bus == nil {
		return nil
	}
	heard, err := bus.Subscribe(ratesSubject, func(_ engine.Run, told []byte) []byte {
		counters.Took(readUses(told), time.Now())
		return nil
	})
	if err != nil {
		return fmt.Errorf("share the rates with the other nodes: %w", err)
	}
	due := counters.Share()
	ctx, cancel := context.WithCancel(context.Background())
	s.loops.Go(func() {
		tick := time.NewTicker(ratesEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-due:
			case <-tick.C:
			}
			for some := range slices.Chunk(counters.Taken(), ratesTold) {
				if err := bus.Publish(ratesSubject, writeUses(some)); err != nil {
					s.log.Warn("other nodes are not told what was taken of the rates", "err", err)
				}
			}
		}
	})
	s.undo("shared rates", adminLimit, func(context.Context) error {
		cancel()
		heard.Close()
		return nil
	})
	return nil
}

func writeUses(uses []quota.Use) (lines []byte) {
	for _, u := range uses {
		lines = fmt.Appendf(lines, "%s %s %s %d\n", u.Scope.Region, u.Scope.Account, u.Key, u.N)
	}
	return lines
}

// readUses passes over what a later version says in another way.
func readUses(lines []byte) (uses []quota.Use) {
	for l := bufio.NewScanner(bytes.NewReader(lines)); l.Scan(); {
		var u quota.Use
		var key string
		if n, _ := fmt.Sscan(l.Text(), &u.Scope.Region, &u.Scope.Account, &key, &u.N); n == 4 {
			u.Key = quota.Key(key)
			uses = append(uses, u)
		}
	}
	return uses
}
