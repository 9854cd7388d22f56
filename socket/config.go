package socket

import (
	"crypto/tls"
	"log/slog"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Config are the bounds of a Server. A zero member is its default.
type Config struct {
	MaxFrame  int // bytes of one message, fragments together; 128 KiB; beyond it close 1009
	MaxHeader int // bytes of the upgrade request; 16 KiB; beyond it 431

	HandshakeTimeout time.Duration // from the accepted connection to the whole request, TLS included; 10 s
	LineTimeout      time.Duration // from the request to its turn with the Handler; 10 s; beyond it 503
	AcceptTimeout    time.Duration // from the request to the Handler's decision, the wait for the turn included; 12 s; beyond it 503
	MaxDeciding      int           // requests with the Handler at a time, the others wait in line; 128
	MaxHandshakes    int           // at a time, those in line included; one more waits for a place; 16,384
	PlaceTimeout     time.Duration // after which who has sent no request makes place for one more; without such, and if none of MaxHandshakes began or ended for so long, one more is refused with 503; 1 s

	PingInterval    time.Duration // 30 s
	SilentIntervals int           // without a pong or a complete frame before the connection is dropped; 2
	CloseTimeout    time.Duration // for the peer's part of the closing handshake; 5 s

	QueueFrames  int           // pending for one connection; 2,048
	QueueBytes   int           // of them, referenced; 1 MiB
	StallTimeout time.Duration // without the kernel taking a byte; 5 s
	SendBuffer   int           // SO_SNDBUF, so that the kernel does not hoard for dead readers; 64 KiB

	// Portable serves plain connections as on systems without event loops, too, with
	// a goroutine each. It is there for tests and comparisons.
	Portable bool

	TrustedProxies []netip.Prefix // whose X-Forwarded-For is believed; none
	TLS            *tls.Config    // nil for plain connections

	Log     *slog.Logger          // nil discards
	Metrics prometheus.Registerer // nil keeps them unregistered
}

func (c Config) filled() Config {
	for _, d := range []struct {
		at        *int
		otherwise int
	}{
		{&c.MaxFrame, 128 << 10}, {&c.MaxHeader, 16 << 10}, {&c.MaxHandshakes, 16 << 10}, {&c.MaxDeciding, 128}, {&c.SilentIntervals, 2},
		{&c.QueueFrames, 2048}, {&c.QueueBytes, 1 << 20}, {&c.SendBuffer, 64 << 10},
	} {
		if *d.at == 0 {
			*d.at = d.otherwise
		}
	}
	for _, d := range []struct {
		at        *time.Duration
		otherwise time.Duration
	}{
		{&c.HandshakeTimeout, 10 * time.Second}, {&c.LineTimeout, 10 * time.Second}, {&c.AcceptTimeout, 12 * time.Second}, {&c.PlaceTimeout, time.Second}, {&c.PingInterval, 30 * time.Second},
		{&c.CloseTimeout, 5 * time.Second}, {&c.StallTimeout, 5 * time.Second},
	} {
		if *d.at == 0 {
			*d.at = d.otherwise
		}
	}
	if c.TLS != nil {
		c.TLS = c.TLS.Clone()
		c.TLS.NextProtos = []string{"http/1.1"} // a client that could choose HTTP/2 would, and not find it
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Log = c.Log.With("component", "socket")
	return c
}
