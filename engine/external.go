package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// External is a NATS cluster that somebody else runs, with JetStream on.
type External struct {
	URL         string // nats://host:port, several with commas between
	Credentials string // a .creds file; "" for none

	// Node is the name of this server among those that use the same NATS.
	Node string
}

// reconnectPause is between two attempts to reach a NATS that went away.
const reconnectPause = 250 * time.Millisecond

// connect makes the store one that an external NATS keeps.
func (e *Engine) connect(ctx context.Context, o Options) error {
	x := o.External
	if !nameable(x.Node) {
		return fmt.Errorf("node %q: a name has letters, digits, '-' and '_'", x.Node)
	}
	e.node, e.storage, e.replicas = x.Node, jetstream.FileStorage, Least
	var err error
	if e.conn, err = nats.Connect(x.URL, e.connection(o)...); err != nil {
		return fmt.Errorf("connect to NATS: %w; look at cluster.nats", err)
	}
	if e.js, err = jetstream.New(e.conn, jetstream.WithDefaultTimeout(writeTimeout)); err != nil {
		return fmt.Errorf("connect to NATS: %w", err)
	}
	if _, err := e.js.AccountInfo(ctx); err != nil {
		return fmt.Errorf("NATS has no JetStream for this account: %w; turn it on, or look at cluster.nats.credentials", err)
	}
	if e.conn.ConnectedClusterName() == "" {
		e.replicas = 1
		e.log.Warn("the NATS server stands alone: nothing is kept twice, and its end is an outage")
	}
	// Whether it acknowledges before it fsyncs cannot be seen from outside.
	e.log.Warn("set `sync_interval: always` in the jetstream block of every NATS server, unless it is there: otherwise NATS acknowledges up to two minutes before it fsyncs, and what a power cut takes was promised")
	if e.bus, err = e.newBus(o, false); err != nil {
		return err
	}
	return e.bus.meet(ctx, &serverLog{log: e.log})
}
