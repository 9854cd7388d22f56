//go:build unix

// Package natstest runs a NATS cluster for tests, as somebody else would for
// servers of ours that are to use it: processes of their own on loopback, which can
// be killed and stopped, with accounts and users that an operator signed (JWT), so
// that one is let in by a .creds file.
//
// The processes are the test's own binary: whatever imports this package becomes a
// NATS server if the environment says so.
package natstest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
)

// Options say what is unusual about a cluster. The zero value has three servers
// with JetStream that fsync before they acknowledge, and no limits.
type Options struct {
	Servers     int    // 0 = 3; 1 is a server that stands alone
	TLS         string // block `tls` of the configuration; "" = none
	NoJetStream bool   // for the account
	MaxStreams  int64  // of the account; 0 = no limit
	Sync        string // sync_interval; "" = always
}

// Cluster is a cluster that runs until the end of the test.
type Cluster struct {
	t           testing.TB
	tls         string
	account     nkeys.KeyPair
	credentials string
	servers     []*process
	wires       map[[2]int]*Wire // from a server to another, over which they are a cluster
}

// process is a server, or what is left of it.
type process struct {
	name                 string
	port, route, monitor int
	config               string    // a file
	run                  *exec.Cmd // nil while it is off
	life                 io.Closer // what ends it, should we end before
}

// ready bounds what the servers need to find one another and elect a leader.
const ready = 30 * time.Second

// configEnv names the configuration file of a process that is to be a server.
const configEnv = "HUBBUB_NATSTEST_CONFIG"

func init() {
	config := os.Getenv(configEnv)
	if config == "" {
		return
	}
	options, err := server.ProcessConfigFile(config)
	var s *server.Server
	if err == nil {
		options.NoSigs = true
		s, err = server.NewServer(options)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	s.Start()
	_, _ = io.Copy(io.Discard, os.Stdin) // until the test is over
	os.Exit(0)
}

// Start starts the servers and returns when they take streams.
func Start(t testing.TB, o Options) *Cluster {
	t.Helper()
	n := o.Servers
	if n == 0 {
		n = 3
	}
	c := &Cluster{t: t, tls: o.TLS, wires: map[[2]int]*Wire{}, account: pair(t, nkeys.CreateAccount)}
	operator, system := pair(t, nkeys.CreateOperator), pair(t, nkeys.CreateAccount)
	accounts := ""
	for _, k := range []nkeys.KeyPair{system, c.account} {
		claims := jwt.NewAccountClaims(public(t, k))
		if k == c.account && !o.NoJetStream {
			limits := jwt.JetStreamLimits{MemoryStorage: jwt.NoLimit, DiskStorage: jwt.NoLimit, Streams: jwt.NoLimit, Consumer: jwt.NoLimit}
			if o.MaxStreams > 0 {
				limits.Streams = o.MaxStreams
			}
			claims.Limits.JetStreamLimits = limits
		}
		text, err := claims.Encode(operator)
		must(t, err)
		accounts += public(t, k) + ": " + text + "\n"
	}
	signer, err := jwt.NewOperatorClaims(public(t, operator)).Encode(operator)
	must(t, err)
	ports := freePorts(t, 3*n)
	for i := range n {
		c.servers = append(c.servers, &process{name: fmt.Sprint("nats-", i), port: ports[i], route: ports[n+i], monitor: ports[2*n+i]})
	}
	sync := o.Sync
	if sync == "" {
		sync = "always"
	}
	for i, p := range c.servers {
		config := fmt.Sprintf("server_name: %s\nlisten: 127.0.0.1:%d\nhttp: 127.0.0.1:%d\njetstream {store_dir: %q, sync_interval: %s}\n"+
			"operator: %s\nsystem_account: %s\nresolver: MEMORY\nresolver_preload {\n%s}\n",
			p.name, p.port, p.monitor, t.TempDir(), sync, signer, public(t, system), accounts)
		if n > 1 { // what they tell one another of their addresses leads nowhere: there are the wires
			config += fmt.Sprintf("cluster {name: outside, listen: 127.0.0.1:%d, advertise: \"127.0.0.1:1\", no_advertise: true, routes: [%s]}\n",
				p.route, strings.Join(c.wire(i), ", "))
		}
		if o.TLS != "" {
			config += "tls {" + o.TLS + "}\n"
		}
		p.config = filepath.Join(t.TempDir(), "nats.conf")
		must(t, os.WriteFile(p.config, []byte(config), 0o600))
	}
	c.credentials = c.Credentials()
	t.Cleanup(func() { c.Kill(c.all()...) })
	c.Start(c.all()...)
	return c
}

// wire makes the wires from a server to the others.
func (c *Cluster) wire(from int) (routes []string) {
	for to, p := range c.servers {
		if to != from {
			w := NewWire(c.t, fmt.Sprintf("127.0.0.1:%d", p.route))
			c.wires[[2]int{from, to}] = w
			routes = append(routes, "nats://"+w.Address)
		}
	}
	return routes
}

// Isolate cuts a server off from the others, silently, but not from its clients; or
// ends that.
func (c *Cluster) Isolate(i int, cut bool) {
	for between, w := range c.wires {
		if between[0] == i || between[1] == i {
			w.set(cut, false)
		}
	}
}

// URL has the addresses of all servers, or of some. Clients are told of no others.
func (c *Cluster) URL(which ...int) string {
	scheme := "nats"
	if c.tls != "" {
		scheme = "tls"
	}
	if len(which) == 0 {
		which = c.all()
	}
	var urls []string
	for _, i := range which {
		urls = append(urls, fmt.Sprintf("%s://127.0.0.1:%d", scheme, c.servers[i].port))
	}
	return strings.Join(urls, ",")
}

// Monitors are the addresses at which the servers say how they are.
func (c *Cluster) Monitors() (urls []string) {
	for _, p := range c.servers {
		urls = append(urls, fmt.Sprintf("http://127.0.0.1:%d", p.monitor))
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

// Start starts servers, and returns when they are of a cluster that takes streams.
func (c *Cluster) Start(which ...int) {
	c.t.Helper()
	self, err := os.Executable()
	must(c.t, err)
	for _, i := range which {
		p := c.servers[i]
		p.run = exec.Command(self)
		p.run.Env = append(os.Environ(), configEnv+"="+p.config)
		if os.Getenv("HUBBUB_TEST_LOG") != "" {
			p.run.Stderr = os.Stderr
		}
		p.life, err = p.run.StdinPipe()
		must(c.t, err)
		must(c.t, p.run.Start())
	}
	for _, i := range which {
		c.await(c.servers[i])
	}
}

func (c *Cluster) await(p *process) {
	c.t.Helper()
	why := "it does not answer"
	for deadline := time.Now().Add(ready); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		answer, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/healthz", p.monitor))
		if err != nil {
			continue
		}
		b, _ := io.ReadAll(answer.Body)
		answer.Body.Close()
		if answer.StatusCode == http.StatusOK {
			return
		}
		why = string(b)
	}
	c.t.Fatalf("the NATS server %s does not start: %s", p.name, why)
}

// Kill ends servers as kill -9 does; what they have on disk stays.
func (c *Cluster) Kill(which ...int) {
	for _, i := range which {
		if p := c.servers[i]; p.run != nil {
			_ = p.run.Process.Kill()
			_ = p.run.Wait() // it was killed
			_ = p.life.Close()
			p.run = nil
		}
	}
}

// Freeze stops a server without a word to anybody, as when its machine hangs.
func (c *Cluster) Freeze(i int) { must(c.t, c.servers[i].run.Process.Signal(syscall.SIGSTOP)) }

// Thaw has it go on as if nothing had been.
func (c *Cluster) Thaw(i int) { must(c.t, c.servers[i].run.Process.Signal(syscall.SIGCONT)) }

// Leader is the server that leads a stream.
func (c *Cluster) Leader(stream string) int {
	c.t.Helper()
	return c.Replicas(stream)[0]
}

// Replicas are the servers that have a stream, its leader first.
func (c *Cluster) Replicas(stream string) (servers []int) {
	c.t.Helper()
	conn, err := nats.Connect(c.URL(), nats.UserCredentials(c.credentials))
	must(c.t, err)
	defer conn.Close()
	js, err := jetstream.New(conn)
	must(c.t, err)
	ctx, cancel := context.WithTimeout(c.t.Context(), ready)
	defer cancel()
	s, err := js.Stream(ctx, stream)
	must(c.t, err)
	names := []string{s.CachedInfo().Cluster.Leader}
	for _, r := range s.CachedInfo().Cluster.Replicas {
		names = append(names, r.Name)
	}
	for _, name := range names {
		servers = append(servers, slices.IndexFunc(c.servers, func(p *process) bool { return p.name == name }))
	}
	return servers
}

func (c *Cluster) all() (all []int) {
	for i := range c.servers {
		all = append(all, i)
	}
	return all
}

func freePorts(t testing.TB, n int) (ports []int) {
	t.Helper()
	for _, address := range FreeAddresses(t, n) {
		a, err := net.ResolveTCPAddr("tcp", address)
		must(t, err)
		ports = append(ports, a.Port)
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
