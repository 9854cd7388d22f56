package hubbub

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"hubbub/chattoken"
	"hubbub/control"
	"hubbub/engine"
	"hubbub/hub"
	"hubbub/ivschat"
	"hubbub/quota"
	"hubbub/registry"
	"hubbub/sigv4"
	"hubbub/socket"
)

// openLimit bounds the opening of a store: 50,000 rooms load in a second.
const openLimit = 2 * time.Minute

// start builds the rooms in order: ports taken, certificate and policies read,
// store, keys, registry, hub, and at last the control plane. Every part leaves its step for Close.
func (s *Server) start(ctx context.Context) error {
	c := s.config
	if c.Cluster == nil { // a node waits for the others as long as it takes
		bounded, cancel := context.WithTimeout(ctx, openLimit)
		defer cancel()
		ctx = bounded
	}
	limits, err := c.Limits.resolve()
	if err != nil {
		return err
	}
	files := raiseOpenFiles()
	viewers := limits.Value(quota.Connections)
	if c.Mode == Dev || viewers == 0 {
		viewers = fewViewers
	}
	for _, a := range kernelAdvice("/", viewers, files) {
		s.log.Warn("the system is set up for fewer viewers", "viewers", viewers, "what", a.what, "is", a.have, "should_be", a.need, "do", a.change)
	}

	// Ports and files first: what is wrong with them needs no store to be said.
	for _, l := range []struct {
		key, address string
		to           *net.Listener
	}{{"admin", c.Admin, &s.admin}, {"messaging", c.Messaging, &s.messaging}, {"api", c.API, &s.api}} {
		if *l.to, err = listen(ctx, l.key, l.address); err != nil {
			return err
		}
		port := *l.to
		s.undo(l.key+" port", adminLimit, func(context.Context) error {
			port.Close() // closed already, unless the start failed before it was served
			return nil
		})
	}
	if s.certificate, err = openCertificate(c.TLS, s.log.With("component", "tls")); err != nil {
		return err
	}
	if s.policies, err = openPolicies(c, s.log); err != nil {
		return err
	}

	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	secret := newSecret()
	s.serveHTTP("admin", adminLimit, s.admin, s.adminServer(metrics, secret))

	if err := s.startPush(ctx, metrics); err != nil {
		return err
	}
	keys, used, err := s.openStore(ctx, limits, metrics)
	if err != nil {
		return err
	}
	// Not before the store is ours: the folder may be another server's.
	if err := s.leaveAddress(secret); err != nil {
		return err
	}
	s.follow()

	counters := quota.New(limits)
	if err := s.shareRates(counters); err != nil {
		return err
	}
	s.hub = s.startHub(used, counters, metrics, files)
	if c.Mode == Dev {
		if s.room, err = s.devRoom(ctx, keys); err != nil {
			return err
		}
	}
	verifier := &sigv4.Verifier{Window: c.Window, Debug: c.Mode == Dev}
	if len(c.Regions) > 0 {
		verifier.Region = func(region string) bool { return slices.Contains(c.Regions, region) }
	}
	api := control.New(control.Options{
		Registry: s.registry, Messenger: s.hub, Tokens: s.keys, IAM: s.policies.current, Quota: counters,
		Verifier: verifier, TokenLifetime: c.TokenLifetime, TrustedProxies: c.TrustedProxies,
		Log: s.log, Metrics: metrics, Now: s.now,
	})
	s.serveHTTP("control plane", answersLimit, s.api, control.NewServer(api, s.certificate.config("h2", "http/1.1"), s.log))
	s.ready.Store(true)
	return nil
}

// maxStrangers is how many handshakes socket allows at a time by itself.
const maxStrangers = 16 << 10

// fewViewers are what every system should carry: those of one busy room.
const fewViewers = 9000

// openStore opens the engine and what is kept in it.
func (s *Server) openStore(ctx context.Context, limits quota.Limits, metrics prometheus.Registerer) (*engine.Bucket, *engine.Once, error) {
	c := s.config
	o := engine.Options{Log: s.log.With("component", "store"), Now: s.now,
		Failed: func(err error) { s.failed <- fmt.Errorf("store: %w", err) }}
	if c.Data != Memory {
		if err := makeFolder(c.Data); err != nil {
			return nil, nil, err
		}
		o.Dir = c.Data
	}
	if c.Cluster != nil {
		if err := c.Cluster.join(&o); err != nil {
			return nil, nil, err
		}
	}
	e, err := engine.Open(ctx, o)
	if err != nil {
		return nil, nil, err
	}
	s.undo("store", storeLimit+s.config.Drain+othersLimit, func(ctx context.Context) error {
		ctx, cancel := context.WithDeadline(ctx, s.stopping.Add(s.config.Drain+othersLimit))
		defer cancel()
		return e.Close(ctx)
	})
	s.store = e
	keys, err := e.Bucket(ctx, engine.KeysBucket)
	if err != nil {
		return nil, nil, err
	}
	if s.keys, err = chattoken.OpenKeyRing(ctx, keys); err != nil {
		return nil, nil, err
	}
	used, err := e.Once(ctx)
	if err != nil {
		return nil, nil, err
	}
	if err := s.openDestinations(ctx); err != nil {
		return nil, nil, err
	}
	s.registry, err = registry.Open(ctx, registry.Options{
		Engine: e, Limits: limits, AcceptHandler: s.acceptHandler,
		CheckDestination: s.destinations.Check, ConfigurationChanged: s.configurationChanged,
		Log: s.log.With("component", "registry"), Now: s.now,
	})
	if err != nil {
		return nil, nil, err
	}
	s.undo("registry", adminLimit, func(context.Context) error {
		s.registry.Close()
		return nil
	})
	s.shareKeys()
	s.clusterMetrics(metrics)
	if err := s.startLogs(ctx, metrics); err != nil {
		return nil, nil, err
	}
	return keys, used, s.openReview(ctx, metrics)
}

// leaveAddress tells commands of the same user where this server is, and what it
// wants to hear from them.
func (s *Server) leaveAddress(secret string) error {
	if s.config.Data == Memory {
		return nil
	}
	path := filepath.Join(s.config.Data, serverFile)
	s.undo("address in the data folder", adminLimit, func(context.Context) error {
		if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) { // gone is as good
			return err
		}
		return nil
	})
	return writeRunning(path, running{s.AdminURL(), secret, s.config.Cluster != nil})
}

// startHub accepts viewers. Those who have not shown a token yet get a quarter of
// the files that may be open, so that strangers who connect and say nothing leave
// the rest to viewers and to the control plane.
func (s *Server) startHub(used *engine.Once, counters *quota.Counters, metrics *prometheus.Registry, files uint64) *hub.Hub {
	slow := s.config.SlowViewers
	o := socket.Config{
		QueueFrames: slow.Frames, QueueBytes: int(slow.Bytes), StallTimeout: slow.Stall,
		TrustedProxies: s.config.TrustedProxies, TLS: s.certificate.config("http/1.1"),
	}
	if files > 0 && files/4 < maxStrangers {
		o.MaxHandshakes = int(max(files/4, 1))
	}
	h := hub.New(hub.Options{
		Registry: s.registry, Tokens: s.keys, Used: used, Quota: counters, Review: s.review, Record: s.logs.Load().Add,
		Bus:     s.store.Bus(),
		Blocked: func(account string) bool { return s.policies.current().Blocked(account) },
		Serves:  s.serves,
		Socket:  o, Log: s.log, Metrics: metrics, Now: s.now,
	})
	s.undo("messaging plane", s.config.Drain+drainLimit, func(ctx context.Context) error {
		s.log.Info("dropping viewers", "viewers", h.Viewers(), "over", s.config.Drain)
		h.Drain(ctx, s.config.Drain)
		h.Close()
		return nil
	})
	s.loops.Go(func() {
		if err := h.Serve(s.messaging); err != nil {
			s.failed <- fmt.Errorf("messaging plane: %w", err)
		}
	})
	return h
}

// serves says whether rooms of an account and region are this server's: after a
// change of the accounts or regions the store may hold others.
func (s *Server) serves(scope ivschat.Scope) bool {
	return slices.Contains(s.policies.current().Accounts(), scope.Account) &&
		(len(s.config.Regions) == 0 || slices.Contains(s.config.Regions, scope.Region))
}

// follow keeps policies and certificate as their files are.
func (s *Server) follow() {
	ctx, cancel := context.WithCancel(context.Background())
	s.loops.Go(func() { s.policies.run(ctx) })
	if s.certificate != nil {
		s.loops.Go(func() { s.certificate.run(ctx, s.reloading) })
	}
	s.undo("files", adminLimit, func(context.Context) error {
		cancel()
		return nil
	})
}
