package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"hubbub/engine"
	"hubbub/engine/natstest"
)

// Servers that use the same NATS are one service too.
func TestServersOnOneExternalNATS(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	alone := natstest.Start(t, natstest.Options{Servers: 1})
	credentials := alone.Credentials()
	nodes := make([]*engine.Engine, 2)
	var starting sync.WaitGroup
	for i := range nodes {
		starting.Go(func() {
			var err error
			nodes[i], err = engine.Open(ctx, engine.Options{External: &engine.External{URL: alone.URL(), Credentials: credentials, Node: fmt.Sprint("n", i)}})
			if err != nil {
				t.Error(err)
			}
		})
	}
	starting.Wait()
	if t.Failed() {
		t.FailNow()
	}
	contents := make([]*content, len(nodes))
	for i, e := range nodes {
		t.Cleanup(func() { closed(t, e) })
		contents[i] = follow(t, e)
	}
	for n := range 10 {
		key := fmt.Sprint("k", n)
		if _, err := bucket(t, nodes[n%2]).Create(ctx, key, []byte("v")); err != nil {
			t.Fatal(err)
		}
		for i, c := range contents {
			if err := c.feed.Sync(ctx); err != nil {
				t.Fatal(err)
			}
			if c.all()[key] != "v" {
				t.Errorf("server %d does not have what server %d was told is written", i, n%2)
			}
		}
	}
	var results [2]error
	var using sync.WaitGroup
	for i, e := range nodes {
		once, err := e.Once(ctx)
		if err != nil {
			t.Fatal(err)
		}
		using.Go(func() { results[i] = once.Use(ctx, "token", time.Now().Add(time.Hour)) })
	}
	using.Wait()
	if errors.Is(results[0], engine.ErrUsed) == errors.Is(results[1], engine.ErrUsed) || results[0] != nil && results[1] != nil {
		t.Errorf("a token used on both: %v, %v", results[0], results[1])
	}
	o, err := nodes[0].Outbox(ctx, engine.OutboxOptions{MaxBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Append(ctx, "key", 1, []byte("record")); err != nil {
		t.Error(err)
	}
	if b := o.Backlog()["key"]; b.Records != 1 {
		t.Errorf("the outbox has %d records, want 1", b.Records)
	}
}

// opened opens a store that is closed after the test.
func opened(t *testing.T, o engine.Options) *engine.Engine {
	t.Helper()
	e, err := engine.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closed(t, e) })
	return e
}

// Who cannot use a NATS is told what to do about it.
func TestWhatCannotBeUsedOfANATS(t *testing.T) {
	t.Parallel()
	c := natstest.Start(t, natstest.Options{})
	credentials := c.Credentials()
	other := opened(t, engine.Options{External: &engine.External{URL: c.URL(), Credentials: credentials, Node: "b"}})
	if _, err := other.Bucket(t.Context(), engine.ResourcesBucket); err != nil {
		t.Fatal(err)
	}
	certificates := newAuthority(t)
	secure := natstest.Start(t, natstest.Options{Servers: 1, TLS: certificates.served()})
	without := natstest.Start(t, natstest.Options{Servers: 1, NoJetStream: true})
	small := natstest.Start(t, natstest.Options{Servers: 1, MaxStreams: 1})
	noCreds := filepath.Join(t.TempDir(), "creds")
	if err := os.WriteFile(noCreds, []byte("user password"), 0o600); err != nil {
		t.Fatal(err)
	}
	alone := t.TempDir()
	closed(t, opened(t, engine.Options{Dir: alone}))

	for _, refused := range []struct {
		name   string
		change func(*engine.Options)
		want   string
	}{
		{"no credentials", func(o *engine.Options) { o.External.Credentials = "" }, "name a .creds file"},
		{"those of somebody else", func(o *engine.Options) { o.External.Credentials = c.Stranger() }, "does not take the credentials"},
		{"a file that is not there", func(o *engine.Options) { o.External.Credentials += "x" }, "cannot be read"},
		{"another kind of file", func(o *engine.Options) { o.External.Credentials = noCreds }, "nsc generate creds"},
		{"no address", func(o *engine.Options) { o.External.URL = "127.0.0.1:4222" }, "nats://HOST:PORT"},
		{"a name that another server has", func(o *engine.Options) { o.External.Node = "b" }, "another node named b"},
		{"a wrong clock", func(o *engine.Options) { o.Now = func() time.Time { return time.Now().Add(-time.Hour) } }, "set it (NTP)"},
		{"the folder of a standalone server", func(o *engine.Options) { o.Dir = alone }, "standalone"},
		{"no JetStream", func(o *engine.Options) { o.External.URL, o.External.Credentials = without.URL(), without.Credentials() }, "has no JetStream"},
		{"no right to JetStream", func(o *engine.Options) { o.External.Credentials = c.Credentials("$JS.API.>") }, "may do everything there"},
		{"no right to talk", func(o *engine.Options) { o.External.Credentials = c.Credentials("bus.>") }, "may do everything there"},
		{"an authority that is not known", func(o *engine.Options) { o.External.URL, o.External.Credentials = secure.URL(), secure.Credentials() }, "cluster.tls.ca"},
		{"TLS that is not there", func(o *engine.Options) { o.External.TLS = certificates.mutual(time.Now().Add(time.Hour)) }, "has no TLS"},
		{"too few streams", func(o *engine.Options) { o.External.URL, o.External.Credentials = small.URL(), small.Credentials() }, "raise the limits"},
	} {
		t.Run(refused.name, func(t *testing.T) {
			o := engine.Options{External: &engine.External{URL: c.URL(), Credentials: credentials, Node: "a"}}
			refused.change(&o)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			e, err := engine.Open(ctx, o)
			if err == nil {
				for _, name := range []string{engine.ResourcesBucket, engine.KeysBucket} {
					if err == nil {
						_, err = e.Bucket(ctx, name)
					}
				}
				closed(t, e)
			}
			if err == nil || !strings.Contains(err.Error(), refused.want) || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("it is told %v, want something about %q", err, refused.want)
			}
		})
	}
}

// A server that was started before its NATS goes on when that is there.
func TestANATSThatIsNotThereYet(t *testing.T) {
	t.Parallel()
	c := natstest.Start(t, natstest.Options{})
	o := engine.Options{External: &engine.External{URL: c.URL(), Credentials: c.Credentials(), Node: "a"}}
	c.Kill(0, 1, 2)

	impatient, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if e, err := engine.Open(impatient, o); err == nil {
		closed(t, e)
		t.Fatal("it needs no NATS")
	} else if !strings.Contains(err.Error(), "cluster.nats.url") {
		t.Errorf("it is told %q, want where to look", err)
	}
	come := make(chan error, 1)
	go func() {
		e, err := engine.Open(t.Context(), o)
		if err == nil {
			_, err = e.Bucket(t.Context(), engine.ResourcesBucket)
			err = errors.Join(err, e.Close(context.Background()))
		}
		come <- err
	}()
	c.Start(0, 1, 2)
	if err := <-come; err != nil {
		t.Error(err)
	}
}

func TestExternalNATSOverTLS(t *testing.T) {
	t.Parallel()
	certificates := newAuthority(t)
	c := natstest.Start(t, natstest.Options{TLS: certificates.served()})
	e := opened(t, engine.Options{External: &engine.External{URL: c.URL(), Credentials: c.Credentials(), TLS: certificates.mutual(time.Now().Add(time.Hour)), Node: "a"}})
	if _, err := bucket(t, e).Create(t.Context(), "key", []byte("v")); err != nil {
		t.Error(err)
	}
}

// The folder of a server on an external NATS is no other server's.
func TestTheFolderOfAServerOnAnExternalNATS(t *testing.T) {
	t.Parallel()
	c := startOutside(t, natstest.Options{Servers: 1})
	for _, i := range []int{0, 1, 2} {
		c.stop(i)
		c.start(i)
	}
	c.stop(0)
	cluster := engine.Options{Dir: c.dirs[0], Cluster: &engine.Cluster{
		Name: "test", Node: "a", Listen: "127.0.0.1:1", Peers: []string{"127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"}, Secret: secret,
	}}
	for _, o := range []engine.Options{{Dir: c.dirs[0]}, cluster} {
		e, err := engine.Open(t.Context(), o)
		if err == nil {
			closed(t, e)
			t.Fatal("it is taken")
		}
		if !strings.Contains(err.Error(), "external NATS") || !strings.Contains(err.Error(), "--data") {
			t.Errorf("it is told %q, want whose it is and what to do", err)
		}
	}
	second := c.options(1)
	if e, err := engine.Open(t.Context(), second); !errors.Is(err, engine.ErrLocked) {
		if err == nil {
			closed(t, e)
		}
		t.Errorf("a second server in a folder gets %v, want ErrLocked", err)
	}
}

// A NATS that acknowledges before it fsyncs is warned of, and one that does not is not.
func TestWhetherAnExternalNATSSyncs(t *testing.T) {
	t.Parallel()
	always := natstest.Start(t, natstest.Options{})
	later := natstest.Start(t, natstest.Options{Servers: 1, Sync: "2m"})
	for _, asked := range []struct {
		name     string
		of       *natstest.Cluster
		monitors []string
		want     string // in the log; "" for nothing about it
	}{
		{"all fsync first", always, always.Monitors(), ""},
		{"one was not asked", always, always.Monitors()[:2], "asked=2 of=3"},
		{"one acknowledges first", later, later.Monitors(), "a NATS server acknowledges before it fsyncs"},
		{"nobody is there", always, append([]string{"http://127.0.0.1:1"}, always.Monitors()...), "look at cluster.nats.monitor"},
		{"something else", always, append([]string{"http://" + always.URL(0)[len("nats://"):]}, always.Monitors()...), "look at cluster.nats.monitor"},
		{"nobody is asked", always, nil, "cannot be seen"},
	} {
		var log bytes.Buffer
		closed(t, opened(t, engine.Options{
			External: &engine.External{URL: asked.of.URL(), Credentials: asked.of.Credentials(), Monitors: asked.monitors, Node: "a"},
			Log:      slog.New(slog.NewTextHandler(&log, nil)),
		}))
		warned := strings.Contains(log.String(), "fsyncs")
		if warned != (asked.want != "") || !strings.Contains(log.String(), asked.want) {
			t.Errorf("%s: want %q in the log:\n%s", asked.name, asked.want, &log)
		}
	}
}
