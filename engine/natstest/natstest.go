// Package natstest runs a NATS cluster for tests, as somebody else would for
// servers of ours that are to use it: real servers on loopback, whose accounts and
// users are signed by an operator (JWT), so that one is let in by a .creds file.
package natstest

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
)

// Options say what is unusual about a cluster. The zero value has three servers
// with JetStream that fsync before they acknowledge, and no limits.
type Options struct {
	Servers     int         // 0 = 3; 1 is a server that stands alone
	TLS         *tls.Config // for clients; nil = none
	NoJetStream bool        // for the account
	MaxStreams  int64       // of the account; 0 = no limit
	Unsynced    bool        // acknowledges before it fsyncs, as NATS does unless it is told otherwise
}

// Cluster is a cluster that runs until the end of the test.
type Cluster struct {
	t       testing.TB
	account nkeys.KeyPair
	options []*server.Options
	servers []*server.Server // nil while one is off
}

// ready bounds what the servers need to find one another and elect a leader.
const ready = 30 * time.Second

// Start starts the servers and returns when they take streams.
func Start(t testing.TB, o Options) *Cluster {
	t.Helper()
	n := o.Servers
	if n == 0 {
		n = 3
	}
	c := &Cluster{t: t, servers: make([]*server.Server, n)}
	operator, system := pair(t, nkeys.CreateOperator), pair(t, nkeys.CreateAccount)
	c.account = pair(t, nkeys.CreateAccount)
	accounts := &server.MemAccResolver{}
	for _, k := range []nkeys.KeyPair{system, c.account} {
		claims := jwt.NewAccountClaims(public(t, k))
		if k == c.account && !o.NoJetStream {
			claims.Limits.JetStreamLimits = jwt.JetStreamLimits{
				MemoryStorage: jwt.NoLimit, DiskStorage: jwt.NoLimit, Streams: jwt.NoLimit, Consumer: jwt.NoLimit,
			}
			if o.MaxStreams > 0 {
				claims.Limits.Streams = o.MaxStreams
			}
		}
		text, err := claims.Encode(operator)
		must(t, err)
		must(t, accounts.Store(public(t, k), text))
	}
	ports := freePorts(t, 3*n)
	var routes []string
	for i := range n {
		routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", ports[n+i]))
	}
	for i := range n {
		so := &server.Options{
			ServerName: fmt.Sprint("nats-", i), Host: "127.0.0.1", Port: ports[i], HTTPHost: "127.0.0.1", HTTPPort: ports[2*n+i],
			JetStream: true, StoreDir: t.TempDir(), SyncAlways: !o.Unsynced, NoSigs: true, NoLog: true,
			TrustedKeys: []string{public(t, operator)}, AccountResolver: accounts, SystemAccount: public(t, system),
			TLSConfig: o.TLS, TLSTimeout: 5,
		}
		if n > 1 {
			so.Cluster = server.ClusterOpts{Name: "outside", Host: "127.0.0.1", Port: ports[n+i]}
			so.Routes = server.RoutesFromStr(strings.Join(routes, ","))
		}
		c.options = append(c.options, so)
	}
	t.Cleanup(func() {
		for i := range c.servers {
			c.Stop(i)
		}
	})
	for i := range n {
		c.launch(i)
	}
	for i := range n {
		c.await(i)
	}
	return c
}

// URL has the addresses of all servers.
func (c *Cluster) URL() string {
	scheme := "nats"
	if c.options[0].TLSConfig != nil {
		scheme = "tls"
	}
	var urls []string
	for _, o := range c.options {
		urls = append(urls, fmt.Sprintf("%s://127.0.0.1:%d", scheme, o.Port))
	}
	return strings.Join(urls, ",")
}

// Monitors are the addresses at which the servers say how they are.
func (c *Cluster) Monitors() (urls []string) {
	for _, o := range c.options {
		urls = append(urls, fmt.Sprintf("http://127.0.0.1:%d", o.HTTPPort))
	}
	return urls
}

// Credentials are those of a new user, in a .creds file. deny is what it may
// neither publish to nor subscribe to.
func (c *Cluster) Credentials(deny ...string) (file string) {
	c.t.Helper()
	return credentials(c.t, c.account, deny)
}

// Stranger is the .creds file of a user whom the servers do not know.
func (c *Cluster) Stranger() (file string) {
	c.t.Helper()
	return credentials(c.t, pair(c.t, nkeys.CreateAccount), nil)
}

func credentials(t testing.TB, account nkeys.KeyPair, deny []string) (file string) {
	t.Helper()
	user := pair(t, nkeys.CreateUser)
	claims := jwt.NewUserClaims(public(t, user))
	claims.Pub.Deny.Add(deny...)
	claims.Sub.Deny.Add(deny...)
	text, err := claims.Encode(account)
	must(t, err)
	seed, err := user.Seed()
	must(t, err)
	creds, err := jwt.FormatUserConfig(text, seed)
	must(t, err)
	file = filepath.Join(t.TempDir(), "user.creds")
	must(t, os.WriteFile(file, creds, 0o600))
	return file
}

// Stop ends a server; what it has stays.
func (c *Cluster) Stop(i int) {
	if s := c.servers[i]; s != nil {
		s.Shutdown()
		s.WaitForShutdown()
		c.servers[i] = nil
	}
}

// Start starts a server again, and returns when it is one of the cluster.
func (c *Cluster) Start(i int) {
	c.t.Helper()
	c.launch(i)
	c.await(i)
}

func (c *Cluster) launch(i int) {
	c.t.Helper()
	s, err := server.NewServer(c.options[i].Clone())
	must(c.t, err)
	c.servers[i] = s
	s.Start()
}

func (c *Cluster) await(i int) {
	c.t.Helper()
	s := c.servers[i]
	if !s.ReadyForConnections(ready) {
		c.t.Fatalf("NATS server %d does not start", i)
	}
	for deadline := time.Now().Add(ready); len(c.servers) > 1 && !s.JetStreamIsCurrent(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.t.Fatalf("NATS server %d does not find the others", i)
		}
	}
}

// Leader is the server that leads a stream, or -1.
func (c *Cluster) Leader(stream string) int {
	account := public(c.t, c.account)
	return slices.IndexFunc(c.servers, func(s *server.Server) bool { return s != nil && s.JetStreamIsStreamLeader(account, stream) })
}

// Cut ends the connections of all clients of a server, which may come back at once.
func (c *Cluster) Cut(i int) {
	c.t.Helper()
	list, err := c.servers[i].Connz(&server.ConnzOptions{})
	must(c.t, err)
	for _, client := range list.Conns {
		_ = c.servers[i].DisconnectClientByID(client.Cid) // it may have gone by itself
	}
}

func freePorts(t testing.TB, n int) (ports []int) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

func pair(t testing.TB, create func() (nkeys.KeyPair, error)) nkeys.KeyPair {
	t.Helper()
	k, err := create()
	must(t, err)
	return k
}

func public(t testing.TB, k nkeys.KeyPair) string {
	t.Helper()
	s, err := k.PublicKey()
	must(t, err)
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
