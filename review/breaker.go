package review

import "time"

// The breaker's figures. Source: spec review-handler 4.
const (
	breakerFailures = 20              // in a row open it
	breakerPause    = 5 * time.Second // before one message tries the handler again
)

// breaker keeps a handler that only fails from being called each time. The zero
// value is closed: everything calls.
type breaker struct {
	failures int // in a row
	open     bool
	trying   bool      // open, and one message is with the handler
	until    time.Time // open: nothing is called before
	epoch    int       // grows when it opens or closes; what began in an earlier one counts no more
}

// skips says whether a message must not call the handler.
func (b *breaker) skips(now time.Time) bool { return b.open && (b.trying || now.Before(b.until)) }

// begin is told of each call, and returns what to pass when it is over.
func (b *breaker) begin() (epoch int) {
	b.trying = b.open
	return b.epoch
}

// failed is told of a call without any answer, and says whether that opened the breaker.
func (b *breaker) failed(epoch int, now time.Time) (opened bool) {
	if epoch != b.epoch {
		return false
	}
	if b.open {
		b.trying, b.until = false, now.Add(breakerPause)
		return false
	}
	if b.failures++; b.failures < breakerFailures {
		return false
	}
	b.open, b.until = true, now.Add(breakerPause)
	b.epoch++
	return true
}

// answered is told of a call that got any answer, and says whether that closed the breaker.
func (b *breaker) answered(epoch int) (closed bool) {
	if epoch != b.epoch {
		return false
	}
	b.failures = 0
	if !b.open {
		return false
	}
	b.open, b.trying = false, false
	b.epoch++
	return true
}
