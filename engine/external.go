package engine

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// External is a NATS cluster that somebody else runs, with JetStream on.
type External struct {
	URL         string      // nats://host:port or tls://host:port, several with commas between
	Credentials string      // a .creds file, read again at each connection; "" for none
	TLS         *tls.Config // what its certificates are held against, and what it is shown; nil is the system's

	// Monitors are the monitoring ports of all its servers, http://host:port, which
	// say whether they fsync before they acknowledge; nil leaves it at a warning.
	Monitors []string

	// Node is the name of this server among those that use the same NATS.
	Node string
}

// Check says what cannot work, without a look at anything but files.
func (x *External) Check() error {
	for part := range strings.SplitSeq(x.URL, ",") {
		u, err := url.Parse(strings.TrimSpace(part))
		if err != nil || u.Host == "" || !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme) {
			return errors.New("cluster.nats.url is no list of addresses; write nats://HOST:PORT or tls://HOST:PORT, several with commas between")
		}
	}
	if x.Credentials == "" {
		return nil
	}
	switch b, err := os.ReadFile(x.Credentials); {
	case err != nil:
		return fmt.Errorf("cluster.nats.credentials cannot be read: %w", err)
	case !strings.Contains(string(b), "BEGIN NATS USER JWT") || !strings.Contains(string(b), "BEGIN USER NKEY SEED"):
		return fmt.Errorf("cluster.nats.credentials %s is no .creds file: it must have a user's JWT and seed, as `nsc generate creds` prints them", x.Credentials)
	}
	return nil
}

// hosts are the addresses without what may be secret in them.
func (x *External) hosts() string {
	var hosts []string
	for part := range strings.SplitSeq(x.URL, ",") {
		if u, err := url.Parse(strings.TrimSpace(part)); err == nil {
			hosts = append(hosts, u.Host)
		}
	}
	return strings.Join(hosts, ",")
}

// reconnectPause is between two attempts to reach a NATS that went away.
const reconnectPause = 250 * time.Millisecond

// connect makes the store one that an external NATS keeps. It waits for one that
// cannot be reached, as a node of a cluster waits for the others.
func (e *Engine) connect(ctx context.Context, o Options) error {
	x := o.External
	if !nameable(x.Node) {
		return fmt.Errorf("node %q: a name has letters, digits, '-' and '_'", x.Node)
	}
	if err := x.Check(); err != nil {
		return err
	}
	if o.Dir != "" { // nothing is kept there, but nobody else's is to be overlooked
		var err error
		if e.claimed, err = openFolder(o.Dir, external); err != nil {
			return err
		}
	}
	e.node, e.storage, e.replicas = x.Node, jetstream.FileStorage, Least
	if err := e.reach(ctx, o); err != nil {
		return err
	}
	if e.conn.ConnectedClusterName() == "" {
		e.replicas = 1
		e.log.Warn("the NATS server stands alone: nothing is kept twice, and its end is an outage")
	}
	e.syncs(ctx, x.Monitors)
	// First without being a member: others must not take this node for a later run of
	// one that has its name. Then again, so that it knows whom it can ask.
	for _, scout := range []bool{true, false} {
		bus, err := e.newBus(o, scout)
		if err != nil {
			return err
		}
		err = bus.meet(ctx, &serverLog{log: e.log})
		if scout || err != nil {
			bus.close()
		} else {
			e.bus = bus
		}
		if denied := e.refused(); denied != nil {
			return e.worded(x, denied)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// reach connects, and returns when JetStream answers. What will not pass by itself
// ends it.
func (e *Engine) reach(ctx context.Context, o Options) error {
	began := time.Now()
	tell := began.Add(waiting)
	for {
		err := e.attempt(ctx, o)
		if err == nil {
			return nil
		}
		if e.hopeless(o.External, err) != "" && (!withoutJetStream(err) || time.Since(began) > startingUp) {
			return e.worded(o.External, err)
		}
		if now := time.Now(); now.After(tell) {
			tell = now.Add(waiting)
			e.log.Warn("waiting for NATS", "at", o.External.hosts(), "err", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("NATS at %s does not answer: %w; look at cluster.nats.url", o.External.hosts(), errors.Join(err, ctx.Err()))
		case <-time.After(reconnectPause):
		}
	}
}

func (e *Engine) attempt(ctx context.Context, o Options) (err error) {
	if e.conn == nil {
		// What cannot be sent is refused at once, and not sent when nobody waits for it
		// any more.
		if e.conn, err = nats.Connect(o.External.URL, append(e.connection(o), nats.ReconnectBufSize(-1))...); err != nil {
			e.conn = nil
			return err
		}
		if e.js, err = jetstream.New(e.conn, jetstream.WithDefaultTimeout(writeTimeout)); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, streamTry)
	defer cancel()
	if _, err = e.js.AccountInfo(ctx); e.refused() != nil {
		return e.refused()
	}
	return err
}

// hopeless says what is to be done about trouble with NATS that stays; "" if it
// may pass.
func (e *Engine) hopeless(x *External, err error) string {
	var certificate *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	switch {
	case e.refused() != nil:
		return "refuses what hubbub must do; give it an account of its own, and a user that may do everything there (cluster.nats.credentials)"
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked), errors.Is(err, nats.ErrAccountAuthExpired):
		if x.Credentials == "" {
			return "wants credentials; name a .creds file (cluster.nats.credentials)"
		}
		return "does not take the credentials in " + x.Credentials + "; name those of a user of it that are not expired (cluster.nats.credentials)"
	case errors.As(err, &certificate), errors.As(err, &authority):
		return "shows a certificate that cannot be trusted; name the authority that it is of (cluster.tls.ca), or the host that it is for (cluster.nats.url)"
	case errors.Is(err, nats.ErrSecureConnWanted):
		return "has no TLS; turn it on there, or write nats:// in cluster.nats.url and no cluster.tls"
	case withoutJetStream(err):
		return "has no JetStream for this account; turn it on, for the servers (`jetstream {…}`) and for the account, or name a user of another account (cluster.nats.credentials)"
	}
	return ""
}

// startingUp is for how long a server of NATS may say that it has no JetStream:
// one that starts says so, and is connected to before it has recovered its streams.
const startingUp = 3 * time.Second

func withoutJetStream(err error) bool {
	return errors.Is(err, jetstream.ErrJetStreamNotEnabled) || errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount)
}

// worded is trouble with NATS as a sentence.
func (e *Engine) worded(x *External, err error) error {
	return fmt.Errorf("NATS at %s %s: %w", x.hosts(), e.hopeless(x, err), err)
}

// heed takes what NATS says of a connection outside of answers: what it does not
// allow it says nowhere else.
func (e *Engine) heed(_ *nats.Conn, _ *nats.Subscription, err error) {
	if errors.Is(err, nats.ErrPermissionViolation) {
		e.denied.CompareAndSwap(nil, &err)
	}
	e.log.Warn("NATS complains", "err", err)
}

// refused is what NATS does not allow, if there was anything.
func (e *Engine) refused() error {
	if err := e.denied.Load(); err != nil {
		return *err
	}
	return nil
}

// never says whether a stream will not be made later either: an external NATS has
// limits. That it has too few servers may pass.
func never(err error) bool {
	const inUse, noPeers = 10058, 10005 // the first: another node has just made it
	var api *jetstream.APIError
	return errors.As(err, &api) && api.ErrorCode != inUse && api.ErrorCode != noPeers &&
		(api.Code == 400 || api.ErrorCode == 10023 || api.ErrorCode == 10047 || api.ErrorCode == 10074)
}

// A leader is not believed to be one when it has not heard a majority of the
// replicas for so long: after 4 s of silence those choose another. It hears each of
// them every second. Source: nats-server v2.15.2, server/raft.go.
const leaderSilence = 3 * time.Second

// leads says whether who answered for a stream is its leader still.
func leads(c *jetstream.ClusterInfo) bool {
	heard := 1
	for _, r := range c.Replicas {
		if r.Active > 0 && r.Active < leaderSilence {
			heard++
		}
	}
	return 2*heard > len(c.Replicas)+1
}
