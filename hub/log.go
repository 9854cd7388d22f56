package hub

import (
	"log/slog"
	"time"

	"golang.org/x/time/rate"
)

// frequency keeps what others can cause at will from flooding the log: so many
// records a second are written at level info, the rest at debug. What was left
// out is still counted by the metrics.
type frequency struct{ limiter *rate.Limiter }

func newFrequency(perSecond float64, burst int) *frequency {
	return &frequency{rate.NewLimiter(rate.Limit(perSecond), burst)}
}

func (f *frequency) level(now time.Time) slog.Level {
	if f.limiter.AllowN(now, 1) {
		return slog.LevelInfo
	}
	return slog.LevelDebug
}
