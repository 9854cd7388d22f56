package main

import (
	"bufio"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
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

// floor is the least that a server can do: what is printed beside it is what
// the real one pays for being one.
func floor(kind string) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	said := func(more ...string) {
		line := map[string]string{"messaging": "ws://" + listener.Addr().String(), "api": "http://" + listener.Addr().String()}
		for i := 0; i < len(more); i += 2 {
			line[more[i]] = more[i+1]
		}
		_ = json.NewEncoder(os.Stdout).Encode(line)
	}
	switch kind {
	case "fanout":
		said()
		floorFanOut(listener)
	case "api":
		if err := floorAPI(listener, said); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	default:
		fmt.Fprintln(os.Stderr, "no such floor:", kind)
		os.Exit(1)
	}
}

// floorFanOut writes each message that comes in to every connection, one system
// call each, and checks nothing.
func floorFanOut(listener net.Listener) {
	var mu sync.Mutex
	var all []net.Conn
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			r := bufio.NewReader(conn)
			request, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			sum := sha1.Sum([]byte(request.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
			fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
				base64.StdEncoding.EncodeToString(sum[:]))
			mu.Lock()
			all = append(all, conn)
			mu.Unlock()
			for {
				var head [8]byte
				if _, err := io.ReadFull(r, head[:]); err != nil {
					return
				}
				in := make([]byte, binary.BigEndian.Uint16(head[2:]))
				if _, err := io.ReadFull(r, in); err != nil {
					return
				}
				_, content, _ := strings.Cut(string(in), `"Content":`)
				out := `{"Type":"MESSAGE","Id":"M2YcHkgffEvU","RequestId":"0c5b6b43-9c2e-4f5e-8a05-1f21d7d3f5ac","Attributes":null,"Content":` +
					strings.TrimSuffix(content, "}") + `,"SendTime":"2022-12-02T08:21:20.754555595Z","Sender":{"UserId":"user-0","Attributes":{"username":"viewer"}}}`
				frame := binary.BigEndian.AppendUint16([]byte{0x81, 126}, uint16(len(out)))
				frame = append(frame, out...)
				mu.Lock()
				for _, c := range all {
					_, _ = c.Write(frame)
				}
				mu.Unlock()
			}
		}()
	}
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
