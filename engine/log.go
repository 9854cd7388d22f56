package engine

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
)

// serverLog hands what NATS says to our log, and remembers what it said of
// damage while it recovered a store: it goes on without the lost messages.
type serverLog struct {
	log *slog.Logger

	mu      sync.Mutex
	damage  []string
	latest  string
	started bool
}

func (l *serverLog) Noticef(format string, v ...any) {
	l.log.Debug("nats", "said", fmt.Sprintf(format, v...))
}
func (l *serverLog) Debugf(string, ...any) {}
func (l *serverLog) Tracef(string, ...any) {}

func (l *serverLog) Warnf(format string, v ...any) {
	l.complain(slog.LevelWarn, fmt.Sprintf(format, v...))
}
func (l *serverLog) Errorf(format string, v ...any) {
	l.complain(slog.LevelError, fmt.Sprintf(format, v...))
}
func (l *serverLog) Fatalf(format string, v ...any) {
	l.complain(slog.LevelError, fmt.Sprintf(format, v...))
}

func (l *serverLog) complain(level slog.Level, text string) {
	l.mu.Lock()
	l.latest = text
	lower := strings.ToLower(text)
	for _, word := range []string{"corrupt", "error recreating stream", "error unmarshalling", "checksum", "could not recover", "bad stream", "error reading metafile", "metafile", "lost"} {
		if !l.started && strings.Contains(lower, word) {
			l.damage = append(l.damage, text)
			break
		}
	}
	l.mu.Unlock()
	l.log.Log(context.Background(), level, "nats", "said", text)
}

// recovered ends the time in which complaints mean damage, and returns them.
func (l *serverLog) recovered() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.started = true
	return l.damage
}

func (l *serverLog) last() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.latest == "" {
		return "it gave no reason"
	}
	return l.latest
}
