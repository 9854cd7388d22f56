package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"hubbub/faults/history"
)

// Tokens that are kept for later.
const (
	keptUnused = 4
	keptUsed   = 4
)

// redeemer uses one-time tokens as nobody should: on all servers at once.
type redeemer struct {
	*Load
	random *rand.Rand
	number int

	mu     sync.Mutex
	unused []oneTime
	used   []oneTime // the youngest
}

type oneTime struct {
	number int
	token  string
}

// run races tokens, and keeps some for Again.
func (r *redeemer) run() {
	for pause(r.working, time.Second/2) {
		r.number++
		token, err := r.token(context.Background(), r.random.IntN(len(r.apis)), r.rooms[r.random.IntN(len(r.rooms))], fmt.Sprint("racer-", r.number), false)
		if err != nil {
			continue
		}
		t := oneTime{r.number, token}
		r.mu.Lock()
		keep := len(r.unused) < keptUnused
		if keep {
			r.unused = append(r.unused, t)
		}
		r.mu.Unlock()
		if !keep {
			r.race(t)
		}
	}
}

// race uses a token twice on every server at once.
func (r *redeemer) race(t oneTime) {
	var racers sync.WaitGroup
	for place, s := range r.Servers {
		for range 2 {
			racers.Go(func() {
				use := history.Redemption{Token: t.number, Node: s.Name, Outcome: history.Unknown}
				ws, status, err := r.dial(context.Background(), place, t.token)
				switch {
				case err == nil:
					use.Outcome = history.Acked
					ws.CloseNow()
				case status == http.StatusUnauthorized:
					use.Outcome = history.Refused
				}
				use.At = r.Now()
				r.add(func(h *history.History) { h.Redemptions = append(h.Redemptions, use) })
			})
		}
	}
	racers.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.used = append(r.used, t)
	r.used = r.used[max(0, len(r.used)-keptUsed):]
}

// Again tries tokens that were used, and those that were kept unused, on all servers.
func (l *Load) Again() {
	r := l.tokens
	r.mu.Lock()
	all := append(append([]oneTime(nil), r.used...), r.unused...)
	r.unused = nil
	r.mu.Unlock()
	for _, t := range all {
		r.race(t)
	}
}
