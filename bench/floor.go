package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hubbub/chattoken"
	"hubbub/control"
	"hubbub/engine"
	"hubbub/iam"
	"hubbub/ivschat"
	"hubbub/quota"
	"hubbub/registry"
	"hubbub/sigv4"
)

// floor is the least that the control plane can do: what is printed beside it is
// what the real one pays for being one.
func floor(kind string) error {
	if kind != "api" {
		return errors.New("no such floor")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	return floorAPI(listener, func(more ...string) {
		line := map[string]string{"messaging": "ws://" + listener.Addr().String(), "api": "http://" + listener.Addr().String()}
		for i := 0; i < len(more); i += 2 {
			line[more[i]] = more[i+1]
		}
		_ = json.NewEncoder(os.Stdout).Encode(line)
	})
}

// trusting takes every request for one of the account's root.
type trusting struct{}

func (trusting) Verify(_ *http.Request, _ []byte, _ time.Time, lookup func(string) (sigv4.Key, bool)) (sigv4.Identity, error) {
	lookup("AKIAFLOOR00000000000")
	return sigv4.Identity{AccessKeyID: "AKIAFLOOR00000000000", Region: "us-west-2"}, nil
}

// floorAPI serves the same handlers on the same kind of store, without checking
// signatures.
func floorAPI(listener net.Listener, said func(...string)) error {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "hubbub-floor-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	e, err := engine.Open(ctx, engine.Options{Dir: dir})
	if err != nil {
		return err
	}
	keys, err := e.Bucket(ctx, engine.KeysBucket)
	if err != nil {
		return err
	}
	ring, err := chattoken.OpenKeyRing(ctx, keys)
	if err != nil {
		return err
	}
	resources, err := registry.Open(ctx, registry.Options{Engine: e, Limits: quota.None()})
	if err != nil {
		return err
	}
	room, err := resources.CreateRoom(ctx, ivschat.Scope{Account: "000000000000", Region: "us-west-2"}, &ivschat.CreateRoomRequest{})
	if err != nil {
		return err
	}
	root := iam.Dev("000000000000", "AKIAFLOOR00000000000", "floorfloorfloorfloor")
	server := control.NewServer(control.New(control.Options{
		Registry: resources, Tokens: ring, IAM: func() *iam.Snapshot { return root }, Quota: quota.New(quota.None()), Verifier: trusting{},
		Log: slog.New(slog.NewJSONHandler(os.Stderr, nil)), Metrics: prometheus.NewRegistry(),
	}), nil, nil)
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM)
	go func() { <-ended; server.Close() }()
	said("room_arn", string(room.ARN), "region", "us-west-2", "access_key_id", "AKIAFLOOR00000000000", "secret_access_key", "floorfloorfloorfloor")
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return e.Close(ctx)
}
