package hubbub

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/go-json-experiment/json"

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
	asked, err := askRunning(ctx, data)
	if err != nil || asked {
		return "by the running server", err
	}
	return "in the store, no server runs", rotateStored(ctx, data)
}

// askRunning asks the server that left its address in the folder; false if none
// runs there.
func askRunning(ctx context.Context, data string) (bool, error) {
	path := filepath.Join(data, serverFile)
	content, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("%s, left there by the running server, cannot be read: %w; run this as the server's user", path, unwrapPath(err))
	}
	var r running
	if err := json.Unmarshal(content, &r); err != nil {
		return false, fmt.Errorf("%s cannot be understood: %w; if no server runs, remove it", path, err)
	}
	ctx, cancel := context.WithTimeout(ctx, rotateLimit)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.Admin+rotatePath, nil)
	if err != nil {
		return false, fmt.Errorf("%s: %w", path, err)
	}
	request.Header.Set("Authorization", "Bearer "+r.Secret)
	transport := &http.Transport{Proxy: nil} // the server is on this machine
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Do(request)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return false, nil // left behind by a server that was killed
	}
	if err != nil {
		return false, fmt.Errorf("the running server cannot be asked: %w", err)
	}
	defer response.Body.Close()
	said, _ := io.ReadAll(io.LimitReader(response.Body, 4<<10))
	switch response.StatusCode {
	case http.StatusNoContent:
		return true, nil
	case http.StatusUnauthorized, http.StatusNotFound, http.StatusMethodNotAllowed:
		// Another program got the port after the server was killed. If the
		// server does run, opening the store says so.
		return false, nil
	}
	return false, fmt.Errorf("the running server at %s answered %s: %s", r.Admin, response.Status, strings.TrimSpace(string(said)))
}

// rotateStored opens the store, which fails if a server has it.
func rotateStored(ctx context.Context, data string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, openLimit)
	defer cancel()
	e, err := engine.Open(ctx, engine.Options{Dir: data, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeLimit)
		defer cancel()
		err = errors.Join(err, e.Close(ctx))
	}()
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
