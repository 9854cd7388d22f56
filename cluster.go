package hubbub

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hubbub/engine"
)

// ClusterConfig makes the server a node of a cluster: of three or more that hold
// the same, or of those that use one external NATS. Source: design interface.md.
type ClusterConfig struct {
	Name      string   // of the cluster; "" = hubbub
	Node      string   // of this one, unique and the same after a restart
	Listen    string   // HOST:PORT for the other nodes; "" = 127.0.0.1:4883
	Advertise string   // HOST:PORT that the others reach it at; "" = Listen
	Peers     []string // the HOST:PORT of all nodes, this one among them

	// What proves that a node is one: a secret that all of them share, or
	// certificates of one authority.
	SecretFile string
	TLS        ClusterTLS

	// Somebody else's, in place of Listen, Peers and SecretFile. TLS is then for the
	// way to it.
	NATS NATS
}

// ClusterTLS names the files of a node, in PEM; all three or none. With NATS CA may be
// alone, if that wants no certificate, or missing, if the system knows the authority.
type ClusterTLS struct{ Cert, Key, CA string }

// NATS is a NATS cluster with JetStream that somebody else runs.
type NATS struct {
	URL         string // nats://host:port or tls://host:port, several with commas between
	Credentials string // path of a .creds file; "" = none

	// Monitoring ports of all its servers, http://host:port: at the start they are
	// asked whether they fsync before they acknowledge. nil = warn in any case.
	Monitors []string
}

const (
	defaultCluster = "hubbub"
	defaultRoutes  = "127.0.0.1:4883"
	minSecret      = 32 // characters
)

// cluster is the section, made with its defaults if it was not there.
func (c *Config) cluster() *ClusterConfig {
	if c.Cluster == nil {
		c.Cluster = &ClusterConfig{Name: defaultCluster, Listen: defaultRoutes}
	}
	return c.Cluster
}

func clusterSettings() []Setting {
	return []Setting{
		{Key: "cluster.name", Form: "NAME", Default: defaultCluster,
			Help: "Name of the cluster, the same on all nodes: letters, digits, '-' and '_'.",
			set:  checked(func(c *Config) *string { return &c.cluster().Name }, checkNode)},
		{Key: "cluster.node", Form: "NAME",
			Help: "Name of this node, unique in the cluster and the same after a restart.",
			set:  checked(func(c *Config) *string { return &c.cluster().Node }, checkNode)},
		{Key: "cluster.listen", Form: "HOST:PORT", Default: defaultRoutes,
			Help: "Address for the other nodes; always TLS.",
			set:  address(func(c *Config) *string { return &c.cluster().Listen })},
		{Key: "cluster.advertise", Form: "HOST:PORT", Default: "cluster.listen",
			Help: "Address that the other nodes reach this one at.",
			set:  address(func(c *Config) *string { return &c.cluster().Advertise })},
		{Key: "cluster.peers", Form: "HOST:PORT,...", list: true,
			Help: "Addresses of all nodes, this one among them, three or more.",
			set:  setPeers},
		{Key: "cluster.secret_file", Form: "FILE", path: true,
			Help: "What all nodes share and nobody else knows, 32 characters or more; `openssl rand -hex 32` makes one.",
			set:  text(func(c *Config) *string { return &c.cluster().SecretFile })},
		{Key: "cluster.tls.cert", Form: "FILE", path: true,
			Help: "Certificate of this node in PEM, in place of a secret; with cluster.nats what it shows that, if it asks.",
			set:  text(func(c *Config) *string { return &c.cluster().TLS.Cert })},
		{Key: "cluster.tls.key", Form: "FILE", path: true,
			Help: "Private key in PEM of the certificate.",
			set:  text(func(c *Config) *string { return &c.cluster().TLS.Key })},
		{Key: "cluster.tls.ca", Form: "FILE", path: true,
			Help: "Authority in PEM that all nodes' certificates are of, and nobody else's; with cluster.nats that of its servers, by default the system's.",
			set:  text(func(c *Config) *string { return &c.cluster().TLS.CA })},
		{Key: "cluster.nats.url", Form: "URL,...",
			Help: "A NATS cluster with JetStream that is there already, nats:// or tls://, in place of listen, peers and secret.",
			set:  text(func(c *Config) *string { return &c.cluster().NATS.URL })},
		{Key: "cluster.nats.credentials", Form: "FILE", path: true,
			Help: "Credentials for it, a .creds file; read again at each connection.",
			set:  text(func(c *Config) *string { return &c.cluster().NATS.Credentials })},
		{Key: "cluster.nats.monitor", Form: "URL,...", list: true,
			Help: "Monitoring ports of all its servers, `http://HOST:8222`; a server that acknowledges before it fsyncs is warned of. Without, a warning says what cannot be seen.",
			set:  setMonitors},
	}
}

func checkNode(s string) error {
	if len(s) > 64 || s == "" || strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "" {
		return fmt.Errorf("%q is no name; write up to 64 letters, digits, '-' and '_'", s)
	}
	return nil
}

func setMonitors(c *Config, v []string) error {
	for _, s := range v {
		if u, err := url.Parse(s); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
			return errors.New("no address of a monitoring port; write http://HOST:8222")
		}
	}
	c.cluster().NATS.Monitors = v
	return nil
}

func setPeers(c *Config, v []string) error {
	peers := make([]string, len(v))
	for i, s := range v {
		if err := address(func(*Config) *string { return &peers[i] })(c, []string{s}); err != nil {
			return err
		}
	}
	c.cluster().Peers = peers
	return nil
}

// problems says what no cluster can be made of.
func (c *ClusterConfig) problems(data string, refuse func(key, format string, args ...any)) {
	if c.Node == "" {
		refuse("cluster.node", "a node of a cluster needs a name of its own; write `node: a`")
	}
	own := c.Listen
	if c.Advertise != "" {
		own = c.Advertise
	}
	host, _, _ := net.SplitHostPort(own)
	certificates := []string{c.TLS.Cert, c.TLS.Key, c.TLS.CA}
	given := 3 - len(slices.DeleteFunc(slices.Clone(certificates), func(s string) bool { return s != "" }))
	switch {
	case c.NATS.URL == "" && (c.NATS.Credentials != "" || c.NATS.Monitors != nil):
		refuse("cluster.nats", "cluster.nats has no address; write `url: \"nats://nats-1:4222,nats-2:4222\"`")
	case c.NATS.URL != "" && (len(c.Peers) > 0 || c.SecretFile != ""):
		refuse("cluster.nats.url", "cluster.nats is for a NATS that is there already, and cluster.peers with a secret or certificates is for one of its own; keep one of them")
	case c.NATS.URL != "" && (c.TLS.Cert == "") != (c.TLS.Key == ""):
		refuse("cluster.tls", "cluster.tls needs cert and key, or neither of them")
	case c.NATS.URL != "":
		if err := (&engine.External{URL: c.NATS.URL}).Check(); err != nil {
			refuse("cluster.nats.url", "%v", err)
		}
	case data == Memory:
		refuse("data", "a node of a cluster keeps what it has acknowledged; write a folder in place of :memory:")
	case len(c.Peers) < engine.Least:
		refuse("cluster.peers", "cluster.peers has %d addresses; write those of all nodes, this one among them, %d or more (one server alone needs no `cluster` section)", len(c.Peers), engine.Least)
	case host == "" || host == "0.0.0.0" || host == "::":
		refuse("cluster.advertise", "the other nodes cannot reach %s; write the address of this node that is among cluster.peers as `advertise: HOST:PORT`", own)
	case !slices.Contains(c.Peers, own):
		refuse("cluster.peers", "this node's address %s is not among cluster.peers (%s); add it, or write as `advertise` the one that is", own, strings.Join(c.Peers, ", "))
	case given != 0 && given != 3:
		refuse("cluster.tls", "cluster.tls needs all of cert, key and ca")
	case given == 0 && c.SecretFile == "":
		refuse("cluster.secret_file", "nodes must know one another: write `secret_file: cluster.secret` (`openssl rand -hex 32 > cluster.secret`, the same file for every node), or `tls: {cert: …, key: …, ca: …}`")
	case given == 3 && c.SecretFile != "":
		refuse("cluster.secret_file", "cluster.secret_file and cluster.tls are both given; keep one of them")
	}
}

// secret reads what the nodes share.
func (c *ClusterConfig) secret() ([]byte, error) {
	b, err := os.ReadFile(c.SecretFile)
	if err != nil {
		return nil, fmt.Errorf("cluster.secret_file %s cannot be read: %w", c.SecretFile, unwrapPath(err))
	}
	if b = bytes.TrimSpace(b); len(b) < minSecret {
		return nil, fmt.Errorf("cluster.secret_file %s has %d characters, and must have %d or more; `openssl rand -hex 32` makes them", c.SecretFile, len(b), minSecret)
	}
	return b, nil
}

// certificates are the node's own, for both ends of a connection between nodes, or
// for this end of one to NATS; the node's is read again for each. nil if none are
// given.
func (c *ClusterConfig) certificates(now time.Time) (*tls.Config, error) {
	if c.TLS == (ClusterTLS{}) {
		return nil, nil
	}
	config := &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12}
	if c.TLS.Cert != "" {
		load := func() (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(c.TLS.Cert, c.TLS.Key)
			if err != nil {
				return nil, fmt.Errorf("cluster.tls: %w", err)
			}
			return &pair, nil
		}
		pair, err := load()
		if err != nil {
			return nil, err
		}
		if now.After(pair.Leaf.NotAfter) {
			return nil, fmt.Errorf("cluster.tls.cert %s expired on %s; renew it", c.TLS.Cert, pair.Leaf.NotAfter.Format(time.DateOnly))
		}
		config.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return load() }
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	}
	if c.TLS.CA != "" {
		b, err := os.ReadFile(c.TLS.CA)
		if err != nil {
			return nil, fmt.Errorf("cluster.tls.ca %s cannot be read: %w", c.TLS.CA, unwrapPath(err))
		}
		authority := x509.NewCertPool()
		if !authority.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("cluster.tls.ca %s has no certificate in PEM", c.TLS.CA)
		}
		config.RootCAs, config.ClientCAs = authority, authority
	}
	return config, nil
}

// join has the store be one of a cluster.
func (c *ClusterConfig) join(o *engine.Options) error {
	certificates, err := c.certificates(time.Now())
	if err != nil {
		return err
	}
	if c.NATS.URL != "" {
		o.External = &engine.External{URL: c.NATS.URL, Credentials: c.NATS.Credentials, TLS: certificates, Monitors: c.NATS.Monitors, Node: c.Node}
		return nil
	}
	o.Cluster = &engine.Cluster{Name: c.Name, Node: c.Node, Listen: c.Listen, Advertise: c.Advertise, Peers: c.Peers, TLS: certificates}
	if c.SecretFile != "" {
		o.Cluster.Secret, err = c.secret()
	}
	return err
}

// clusterMetrics shows this node's part in the cluster.
func (s *Server) clusterMetrics(metrics prometheus.Registerer) {
	bus := s.store.Bus()
	if bus == nil {
		return
	}
	gauge := func(name, help string, labels prometheus.Labels, value func() float64) {
		metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, value))
	}
	oneIf := func(is func() bool) func() float64 {
		return func() float64 {
			if is() {
				return 1
			}
			return 0
		}
	}
	gauge("hubbub_cluster_members", "Nodes that are alive as this one sees it, itself among them.", nil, func() float64 { return float64(1 + len(bus.Members())) })
	gauge("hubbub_cluster_majority", "1 if these are a majority of the cluster.", nil, oneIf(bus.Majority))
	for of, leads := range map[string]func() bool{"resources": s.store.Leads(engine.ResourcesBucket), "streams": s.store.LeadsCluster()} {
		if leads == nil {
			continue // a server of the external NATS does
		}
		gauge("hubbub_cluster_leader", "1 if this node leads: resources are all writes of the control plane, streams is where the cluster's streams are.",
			prometheus.Labels{"of": of}, oneIf(leads))
	}
}

const (
	// keysQuestion has a node read the keys again.
	keysQuestion = "keys"
	keysTime     = 5 * time.Second
)

// reloadKeys takes over what is in the store.
func (s *Server) reloadKeys(ctx context.Context) error {
	return errors.Join(s.keys.Reload(ctx), s.registry.ReloadKeys(ctx))
}

// shareKeys takes over what other nodes rotate or import, before they use it.
func (s *Server) shareKeys() {
	bus := s.store.Bus()
	if bus == nil {
		return
	}
	reload := func() (read []byte) {
		ctx, cancel := context.WithTimeout(context.Background(), keysTime)
		defer cancel()
		if err := s.reloadKeys(ctx); err != nil {
			s.log.Error("the keys that another node has written cannot be read", "err", err)
			return nil
		}
		return []byte("ok")
	}
	bus.Answer(keysQuestion, func(engine.Run, []byte) []byte { return reload() })
	bus.Changed(func(m engine.Member) { // it may have rotated while it could not be heard
		if m.Alive {
			s.loops.Go(func() { reload() })
		}
	})
	s.keys.Announce(s.tellKeys)
}

// tellKeys has the other nodes know of new keys.
func (s *Server) tellKeys(ctx context.Context) error {
	bus := s.store.Bus()
	ctx, cancel := context.WithTimeout(ctx, keysTime)
	defer cancel()
	answers, err := bus.Ask(ctx, keysQuestion)
	for _, a := range answers {
		if string(a) != "ok" {
			err = errors.Join(err, errors.New("a node could not read the new keys; see its log"))
		}
	}
	return err
}
