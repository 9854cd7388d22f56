package hubbub

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"hubbub/chattoken"
	"hubbub/engine"
)

// RotateTokenKeys gives the store in a data folder a new key for chat tokens. A
// server that runs on it does so itself, asked through its admin listener;
// otherwise the store is opened for it. how says which it was.
func RotateTokenKeys(ctx context.Context, data string) (how string, err error) {
	if data == Memory {
		return "", errors.New("a server with data :memory: keeps its token keys in memory alone: they are new with every start, so restart it; " +
			"for another server name its folder with --data FOLDER")
	}
	if _, err := os.Stat(data); err != nil {
		return "", fmt.Errorf("there is no data folder %s: %w; name that of the server with --data FOLDER or --config FILE", data, unwrapPath(err))
	}
	if !engine.Exists(data) { // to make one would be to say that keys were rotated which are elsewhere
		return "", fmt.Errorf("there is no store in %s; name the data folder of the server with --data FOLDER or --config FILE", data)
	}
	server, err := findRunning(ctx, data)
	if err != nil {
		return "", err
	}
	if server != nil {
		ctx, cancel := context.WithTimeout(ctx, rotateLimit)
		defer cancel()
		response, err := server.ask(ctx, http.MethodPost, rotatePath, nil)
		if err != nil {
			return "", err
		}
		return "by the running server", response.Body.Close()
	}
	return "in the store, no server runs", rotateStored(ctx, data)
}

// rotateStored opens the store, which fails if a server has it.
func rotateStored(ctx context.Context, data string) (err error) {
	e, shut, err := openStored(ctx, data)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, shut()) }()
	b, err := e.Bucket(ctx, engine.KeysBucket)
	if err != nil {
		return err
	}
	k, err := chattoken.OpenKeyRing(ctx, b)
	if err != nil {
		return err
	}
	return k.Rotate(ctx, time.Now())
}

// openStored opens the store of a server that does not run, and shut closes it.
func openStored(ctx context.Context, data string) (e *engine.Engine, shut func() error, err error) {
	opening, cancel := context.WithTimeout(ctx, openLimit)
	defer cancel()
	e, err = engine.Open(opening, engine.Options{Dir: data, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, nil, err
	}
	return e, func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeLimit)
		defer cancel()
		return e.Close(ctx)
	}, nil
}

// AccessKey is a pair that signs requests. It prints as [sealed].
type AccessKey struct{ ID, Secret string }

// String keeps the secret out of what the pair is printed to.
func (AccessKey) String() string { return "[sealed]" }

// GoString keeps it out of %#v.
func (AccessKey) GoString() string { return "[sealed]" }

// LogValue keeps it out of the log.
func (AccessKey) LogValue() slog.Value { return slog.StringValue("[sealed]") }

// NewAccessKey makes a pair of the service's form: AKIA and 16 letters and
// digits, and 40 characters of base64.
func NewAccessKey() AccessKey {
	secret := make([]byte, 30)
	rand.Read(secret)
	// rand.Text has the alphabet of access key ids: A to Z and 2 to 7.
	return AccessKey{"AKIA" + rand.Text()[:16], base64.StdEncoding.EncodeToString(secret)}
}
