package engine_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"hubbub/engine"
)

// ownNATS is a NATS server that somebody else runs.
func ownNATS(t *testing.T) (url string) {
	t.Helper()
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), SyncAlways: true, NoSigs: true, NoLog: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("NATS does not start")
	}
	return s.ClientURL()
}

// Servers that use the same NATS are one service too.
func TestServersOnOneExternalNATS(t *testing.T) {
	ctx := t.Context()
	url := ownNATS(t)
	nodes := make([]*engine.Engine, 2)
	var starting sync.WaitGroup
	for i := range nodes {
		starting.Go(func() {
			var err error
			nodes[i], err = engine.Open(ctx, engine.Options{External: &engine.External{URL: url, Node: fmt.Sprint("n", i)}})
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
