package engine

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Cluster makes the store one of several that hold the same: each write is on the
// disks of a majority of three before it counts, and any one of them may die.
type Cluster struct {
	// Name is that of the cluster, Node that of this member: unique in it, and the
	// same after a restart. Both have letters, digits, '-' and '_'.
	Name, Node string

	// Listen is where the other nodes reach this one, host:port; Advertise is the
	// address that they are told instead, if it is not that.
	Listen, Advertise string

	// Peers are the addresses of all nodes, this one among them, host:port. A host
	// may be a name that is not to be resolved yet.
	Peers []string

	// Secret is what all nodes share; the routes' certificates are made from it.
	// Without one there must be TLS, which all nodes have from one authority.
	Secret []byte
	TLS    *tls.Config
}

// Least is the number of nodes that a cluster must have: of two, none may die.
const Least = 3

// check says what no cluster can be made of.
func (c *Cluster) check() error {
	switch {
	case !nameable(c.Name) || !nameable(c.Node):
		return fmt.Errorf("cluster %q with node %q: names have letters, digits, '-' and '_'", c.Name, c.Node)
	case len(c.Peers) < Least:
		return fmt.Errorf("a cluster of %d nodes: name the addresses of all of them, this one among them, %d or more; a single server needs no cluster", len(c.Peers), Least)
	case len(c.Secret) == 0 && c.TLS == nil:
		return errors.New("nodes of a cluster must know one another: give them a secret (cluster.secret_file) or certificates (cluster.tls)")
	}
	return nil
}

// nameable says whether a name can be a part of a folder's and a subject's.
func nameable(name string) bool {
	return name != "" && len(name) <= 64 && !strings.ContainsFunc(name, func(c rune) bool { return !letter(c) })
}

func letter(c rune) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}

// What is known of a route that is silent: two pings unanswered end it. A shorter
// break is bridged by TCP, and what was sent meanwhile comes late.
const (
	routePing     = 2 * time.Second
	routePingsOut = 2
	routeTLS      = 5 * time.Second // for a handshake, on a bad network as well
)

// route makes the server one of the cluster. refused is told why a connection
// between nodes did not come about.
func (c *Cluster) route(o *server.Options, refused func(string)) error {
	host, port, err := splitAddress(c.Listen)
	if err != nil {
		return fmt.Errorf("cluster.listen: %w", err)
	}
	config := c.TLS
	var password string
	if config == nil {
		if config, password, err = secretTLS(c.Name, c.Secret, refused); err != nil {
			return err
		}
	}
	// Routes are not taken before clients are. Nobody but this process can be one.
	o.DontListen, o.Host, o.Port, o.Authorization = false, "127.0.0.1", server.RANDOM_PORT, rand.Text()
	// A server of another domain is not counted among those that could have a store.
	o.ServerName, o.JetStreamDomain = c.Node, "hubbub"
	o.Cluster = server.ClusterOpts{
		Name: c.Name, Host: host, Port: port, Advertise: c.Advertise,
		TLSConfig: config, TLSTimeout: routeTLS.Seconds(),
		Username: "node", Password: password,
	}
	if password == "" {
		o.Cluster.Username = ""
	}
	for _, p := range c.Peers {
		if _, _, err := splitAddress(p); err != nil {
			return fmt.Errorf("cluster.peers: %w", err)
		}
		u := &url.URL{Scheme: "nats", Host: p}
		if password != "" {
			u.User = url.UserPassword(o.Cluster.Username, password)
		}
		o.Routes = append(o.Routes, u)
	}
	o.PingInterval, o.MaxPingsOut = routePing, routePingsOut
	o.LameDuckDuration, o.LameDuckGracePeriod = time.Second, time.Millisecond // its only clients are gone by then
	o.NoFastProducerStall = true                                              // who talks to many is not to wait for one
	return nil
}

func splitAddress(address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, fmt.Errorf("%q is no address: write host:port", address)
	}
	if port, err = strconv.Atoi(text); err != nil || port < 1 || port > 65535 {
		return "", 0, fmt.Errorf("%q is no address: the port is a number from 1 to 65535", address)
	}
	return host, port, nil
}

// waiting is how often the log says what a node waits for while it starts.
const waiting = 10 * time.Second

// scout finds out whether this node may be a member before its store starts, which
// would take part in elections under its name. It meets the others with a server
// that has no store, and another name for NATS.
func scout(ctx context.Context, o Options, now func() time.Time, logger *serverLog) error {
	options := &server.Options{NoSigs: true, DisableJetStreamBanner: true}
	if err := o.Cluster.route(options, logger.refused); err != nil {
		return err
	}
	options.ServerName, options.JetStreamDomain = options.ServerName+"-"+rand.Text(), "scouts"
	s, err := server.NewServer(options)
	if err != nil {
		return fmt.Errorf("meet the other nodes: %w", err)
	}
	s.SetLoggerV2(logger, false, false, false)
	s.Start()
	defer func() {
		s.Shutdown()
		s.WaitForShutdown()
	}()
	if !s.ReadyForConnections(writeTimeout) {
		return fmt.Errorf("meet the other nodes at %s: %s", o.Cluster.Listen, logger.last())
	}
	e := &Engine{log: logger.log, now: now, node: o.Cluster.Node, nodes: len(o.Cluster.Peers), server: s, token: options.Authorization}
	bus, err := e.newBus(o, true)
	if err != nil {
		return err
	}
	defer bus.close()
	if err := bus.meet(ctx, logger); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
	case <-time.After(2 * meetEvery): // until the others have seen how far this one is
	}
	return nil
}

// join waits until the cluster can be written, a majority of its nodes has come and
// agreed on a leader, and until this node has what they have and knows whom it can
// ask. At the first start of a cluster, when none of them has anything, all must
// come: NATS does not take the word of nodes that know nothing, since they might
// have lost what was acknowledged. That lasts as long as it lasts, since all nodes
// may have been off; ctx ends it.
func (e *Engine) join(ctx context.Context, o Options, logger *serverLog) error {
	var err error
	if e.bus, err = e.newBus(o, false); err != nil {
		return err
	}
	c, began := o.Cluster, time.Now()
	tell := began.Add(waiting)
	whole := map[string]bool{}
	for {
		attempt, cancel := context.WithTimeout(ctx, time.Second)
		_, err := e.js.AccountInfo(attempt)
		if err == nil && e.server.JetStreamIsCurrent() {
			err = errors.Join(e.catchUp(attempt, whole), e.bus.alone())
		} else if err == nil {
			err = errors.New("it does not know yet which streams there are")
		}
		cancel()
		if err == nil {
			e.log.Info("joined the cluster", "cluster", c.Name, "node", c.Node, "nodes", e.connected(), "took", time.Since(began))
			return nil
		}
		if now := time.Now(); now.After(tell) {
			tell = now.Add(waiting)
			e.log.Warn("waiting for a majority of the cluster's nodes; at the first start of a cluster all must come", "cluster", c.Name, "node", c.Node, "of", len(c.Peers),
				"connected", e.connected(), "refused", logger.refusals(), "err", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the cluster %s did not form: %d nodes are wanted, a majority of them, or all at the first start, and this one reaches %v%s: %w",
				c.Name, len(c.Peers), e.connected(), logger.refusals(), ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// catchUp is nil once this node has had all of each stream that it keeps a replica of:
// from then on it counts, and another one may be taken away. whole are those that it
// has had.
func (e *Engine) catchUp(ctx context.Context, whole map[string]bool) error {
	streams := e.js.StreamNames(ctx)
	for name := range streams.Name() {
		switch {
		case whole[name] || !e.server.JetStreamIsStreamAssigned(server.DEFAULT_GLOBAL_ACCOUNT, name):
		case e.server.JetStreamIsStreamCurrent(server.DEFAULT_GLOBAL_ACCOUNT, name):
			whole[name] = true
		default:
			return fmt.Errorf("it does not have all of %s yet", name)
		}
	}
	return streams.Err()
}

// connected are the names of the nodes that this one has a route to, itself
// excepted.
func (e *Engine) connected() []string {
	if e.server == nil {
		return nil
	}
	routes, err := e.server.Routez(nil)
	if err != nil {
		return nil
	}
	names := []string{}
	for _, r := range routes.Routes {
		if !slices.Contains(names, r.RemoteName) && r.RemoteName != "" {
			names = append(names, r.RemoteName)
		}
	}
	slices.Sort(names)
	return names
}

// Leads returns what tells whether this node leads a bucket: whether all writes to
// it, and the reads that must be the latest, go through this node. A node that was
// cut off may take itself for the leader for some seconds after the others have
// chosen one. Alone and with an external NATS it is nil; it may be called after
// Close.
func (e *Engine) Leads(bucket string) func() bool {
	s := e.server
	if s == nil || e.bus == nil {
		return nil
	}
	return func() bool { return s.JetStreamIsStreamLeader(server.DEFAULT_GLOBAL_ACCOUNT, streamOf(bucket)) }
}

// LeadsCluster is Leads for the cluster's own leader, which places its streams.
// Writes to those that are there do not need it.
func (e *Engine) LeadsCluster() func() bool {
	s := e.server
	if s == nil || e.bus == nil {
		return nil
	}
	return s.JetStreamIsLeader
}

// secretTLS is mutual TLS between all who know the secret. Each derives the same
// certificate authority from it, and has that sign a certificate of its own: who
// shows one knows the secret, which is all that a member needs. The host's name
// proves nothing more, so it is not looked at; nor is the time, since a clock may
// be wrong. The password is for the route, on top of that.
func secretTLS(cluster string, secret []byte, refused func(string)) (config *tls.Config, password string, err error) {
	authority, certificate, password, err := fromSecret(cluster, secret)
	if err != nil {
		return nil, "", fmt.Errorf("make certificates from the cluster's secret: %w", err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(authority)
	verify := func(state tls.ConnectionState) error {
		err := errors.New("it shows no certificate")
		if len(state.PeerCertificates) > 0 {
			_, err = state.PeerCertificates[0].Verify(x509.VerifyOptions{
				Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}, CurrentTime: authority.NotBefore.Add(time.Hour),
			})
		}
		if err != nil {
			refused("a node has another secret or is of another cluster (cluster.secret_file and cluster.name must be the same on all of them)")
			return fmt.Errorf("the other node has another secret or cluster: %w", err)
		}
		return nil
	}
	return &tls.Config{
		Certificates: []tls.Certificate{certificate}, ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS13,
		InsecureSkipVerify: true, // verify does it, without the name
		VerifyConnection:   verify,
	}, password, nil
}
