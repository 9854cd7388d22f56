package hubbub

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/go-json-experiment/json"
)

// running is what a server leaves in its data folder for commands of the same
// user: where its admin listener is, and the secret that it wants to hear.
type running struct {
	Admin   string `json:"admin"`
	Secret  string `json:"secret"`
	Cluster bool   `json:"cluster"` // it is a node of one
}

const (
	serverFile = "server.json" // in the data folder, while a server runs
	provePath  = "/prove"
	proveLimit = 10 * time.Second
)

// writeRunning leaves the file, readable by its owner alone.
func writeRunning(path string, r running) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return writeFile(path, append(data, '\n'))
}

// findRunning is the server that left its address in the folder; nil if none runs
// there. It is asked to prove that it is, since another program may have got the
// port after the server was killed, and would be told secrets.
func findRunning(ctx context.Context, data string) (*running, error) {
	path := filepath.Join(data, serverFile)
	content, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s, left there by the running server, cannot be read: %w; run this as the server's user", path, unwrapPath(err))
	}
	var r running
	if err := json.Unmarshal(content, &r); err != nil {
		return nil, fmt.Errorf("%s cannot be understood: %w; if no server runs, remove it", path, err)
	}
	ctx, cancel := context.WithTimeout(ctx, proveLimit)
	defer cancel()
	nonce := rand.Text()
	response, err := r.send(ctx, http.MethodGet, provePath+"?nonce="+url.QueryEscape(nonce), "", nil)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil, nil // left behind by a server that was killed
	}
	if err != nil {
		return nil, fmt.Errorf("the running server cannot be asked: %w", err)
	}
	defer response.Body.Close()
	said, _ := io.ReadAll(io.LimitReader(response.Body, 4<<10))
	if !hmac.Equal(said, []byte(proof(r.Secret, nonce))) {
		return nil, nil // if the server does run, opening the store says so
	}
	return &r, nil
}

// proof is what only those can say who know the secret.
func proof(secret, nonce string) string {
	h := hmac.New(sha256.New, []byte(secret))
	h.Write([]byte("hubbub server " + nonce))
	return hex.EncodeToString(h.Sum(nil))
}

// ask gives the server an order. What it refuses is an error.
func (r *running) ask(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	response, err := r.send(ctx, method, path, r.Secret, body)
	if err != nil {
		return nil, fmt.Errorf("the running server did not answer: %w; see whether it runs and what it logs, and repeat this, which does no harm", err)
	}
	if response.StatusCode/100 == 2 {
		return response, nil
	}
	defer response.Body.Close()
	said, _ := io.ReadAll(io.LimitReader(response.Body, 4<<10))
	return nil, fmt.Errorf("the running server at %s answered %s: %s", r.Admin, response.Status, strings.TrimSpace(string(said)))
}

func (r *running) send(ctx context.Context, method, path, secret string, body io.Reader) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, r.Admin+path, body)
	if err != nil {
		return nil, err
	}
	if secret != "" {
		request.Header.Set("Authorization", "Bearer "+secret)
	}
	// The server is on this machine, and asked once.
	return (&http.Client{Transport: &http.Transport{Proxy: nil, DisableKeepAlives: true}}).Do(request)
}
