package engine

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
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
	refusal string // of the latest connection between nodes that did not come about
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

// expected is what NATS warns of after every unclean end, in every store in memory
// or in every cluster, and then mends or means.
var expected = []string{
	"state is outdated", "state outdated", "temporary storage directory",
	// Of a cluster: its nodes do not come and go together, and the routes' own check
	// is in place of the host's name.
	"hostname of solicited routes", "trying to connect to route", "waiting for routing", "contact with a meta leader",
	"metalayer blocking snapshot", "error flushing",
}

// vague is what a node is told by one that it was reached by; those that it reaches
// say what is wrong with its certificate.
const vague = "bad certificate"

// final is what NATS says of a stream that it goes on without. Complaints about
// the state of a stream are not: NATS then reads all of it, and guard compares.
var final = []string{"stream metafile", "reading metafile", "stream checksum", "recreating stream"}

func (l *serverLog) complain(level slog.Level, text string) {
	lower := strings.ToLower(text)
	has := func(words []string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(lower, w) })
	}
	l.mu.Lock()
	l.latest = text
	if _, why, is := strings.Cut(text, "TLS route handshake error: "); is && (l.refusal == "" || strings.Contains(l.refusal, vague)) {
		l.refusal = "no connection to a node: " + strings.TrimSpace(why) + "; all nodes must have certificates that are good (cluster.tls), or the same secret"
	}
	if !l.started && has(final) {
		l.damage = append(l.damage, strings.TrimSpace(text))
	}
	l.mu.Unlock()
	if has(expected) {
		level = slog.LevelDebug
	}
	l.log.Log(context.Background(), level, "nats", "said", strings.TrimSpace(text))
}

// recovered ends the time in which complaints mean damage, and returns them.
func (l *serverLog) recovered() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.started = true
	return l.damage
}

// refused notes why a connection between nodes did not come about.
func (l *serverLog) refused(why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refusal = why
}

// refusals is the latest of them, in words behind a sentence; "" without any.
func (l *serverLog) refusals() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refusal == "" {
		return ""
	}
	return "; " + l.refusal
}

func (l *serverLog) last() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.latest == "" {
		return "it gave no reason"
	}
	return l.latest
}
