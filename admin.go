package hubbub

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// adminServer answers on the admin listener: whether the server lives and is
// ready, its metrics and its version, and the orders of commands on this machine.
//
//	GET  /healthz             200 while the process answers
//	GET  /readyz              200 between ready and the begin of the stop, else 503
//	GET  /metrics             Prometheus
//	GET  /version             what it was built from, JSON
//	POST /keys/rotate-tokens  204; with the bearer secret of <data>/server.json, as the next two
//	GET  /export              an archive of the store; without its keys if ?keys=false
//	POST /import              an archive for the store, JSON of what came of it; 409 if it cannot be
//	GET  /prove?nonce=        proof that this server knows that secret
//	GET  /debug/pprof/        if Config.PProf
func (s *Server) adminServer(metrics prometheus.Gatherer, secret string) *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if !s.ready.Load() {
			http.Error(w, "not ready: starting or stopping", http.StatusServiceUnavailable)
			return
		}
		if s.config.Cluster != nil {
			if err := s.registry.Fresh(); err != nil {
				s.log.Warn("not ready", "err", err)
				http.Error(w, "not ready: "+err.Error(), http.StatusServiceUnavailable)
				return
			}
		} else if err := s.store.Health(r.Context()); err != nil {
			s.log.Warn("not ready", "err", err)
			http.Error(w, "not ready: the store does not answer", http.StatusServiceUnavailable)
			return
		}
		io.WriteString(w, "ready\n")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		json.MarshalWrite(w, BuildVersion())
	})
	mux.HandleFunc("GET "+provePath, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, proof(secret, r.URL.Query().Get("nonce")))
	})
	// ordered is for those who have read the secret.
	ordered := func(do http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			given, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
			switch {
			case secret == "" || subtle.ConstantTimeCompare([]byte(given), []byte(secret)) != 1:
				w.Header().Set("WWW-Authenticate", "Bearer")
				http.Error(w, "the bearer secret is that of "+serverFile+" in the data folder", http.StatusUnauthorized)
			case !s.ready.Load():
				http.Error(w, "the server is starting or stopping; try again", http.StatusServiceUnavailable)
			default:
				do(w, r)
			}
		}
	}
	mux.HandleFunc("POST "+rotatePath, ordered(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), rotateLimit)
		defer cancel()
		if err := s.RotateTokenKeys(ctx); err != nil {
			s.log.Error("token keys not rotated", "err", err)
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	mux.HandleFunc("GET "+exportPath, ordered(s.serveExport))
	mux.HandleFunc("POST "+importPath, ordered(s.serveImport))
	if s.config.PProf {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.With("component", "admin").Handler(), slog.LevelDebug),
	}
}

const (
	rotatePath  = "/keys/rotate-tokens"
	rotateLimit = 15 * time.Second // a write to the store may take 10 s
)

// writeFile replaces a file as a whole, readable by its owner alone.
func writeFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // once renamed there is nothing to remove
	_, err = f.Write(data)
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// newSecret is 128 random bits or more, as text.
func newSecret() string { return rand.Text() }
