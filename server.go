package hubbub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"hubbub/chatlog"
	"hubbub/chattoken"
	"hubbub/engine"
	"hubbub/hub"
	"hubbub/ivschat"
	"hubbub/registry"
	"hubbub/review"
)

// Server is a running Hubbub. Its methods may be called from many goroutines.
type Server struct {
	// Set by Start, read-only after.
	config                Config
	log                   *slog.Logger
	api, messaging, admin net.Listener
	store                 *engine.Engine
	registry              *registry.Registry
	keys                  *chattoken.KeyRing
	review                *review.Reviewer // nil in Dev without a `review` section
	destinations          *chatlog.Destinations
	policies              *policies
	hub                   *hub.Hub
	certificate           *certificate // nil without TLS
	room                  ivschat.ARN

	// Owned by Start, then by Close.
	steps    []step // what Close undoes, last first
	stopping time.Time

	// Shared.
	logs      atomic.Pointer[chatlog.Log] // nil until it runs
	early     logDrops
	ready     atomic.Bool
	failed    chan error
	loops     sync.WaitGroup // everything that runs until stopLoops
	closing   sync.Once
	closeErr  error
	reloading chan struct{} // asks the certificate's loop
}

// step is one thing that was started, and how it is stopped.
type step struct {
	name  string
	limit time.Duration // after which it is given up
	stop  func(context.Context) error
}

// The deadlines of the steps of the stop, above what each takes by itself.
const (
	answersLimit = 10 * time.Second // calls of the control plane that are under way
	drainLimit   = 5 * time.Second  // beyond Config.Drain
	reviewLimit  = 2 * time.Second  // calls of handlers are ended, not waited for
	logsLimit    = 10 * time.Second // what is not delivered by then stays in the store
	pushLimit    = 10 * time.Second
	storeLimit   = 10 * time.Second
	adminLimit   = 2 * time.Second

	// othersLimit is how long the store waits for other nodes that stop as well, beyond
	// Config.Drain and from the begin of the stop: no longer than this one may take.
	othersLimit = drainLimit + reviewLimit + logsLimit
)

// Start builds the rooms of the house in order and returns when the server is
// ready: the messaging port accepts before the control plane answers. ctx ends
// the starting; Close ends the server. The error is a Problems if the
// configuration is at fault, and says what to change wherever that helps.
func Start(ctx context.Context, c Config) (*Server, error) {
	c = c.filled()
	if p := c.problems(func(string) string { return "" }); len(p) > 0 {
		return nil, p
	}
	s := &Server{config: c, log: c.logger(), failed: make(chan error, 4), reloading: make(chan struct{}, 1)}
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Server) undo(name string, limit time.Duration, stop func(context.Context) error) {
	s.steps = append(s.steps, step{name, limit, stop})
}

// Close stops the server in the reverse order of Start, each step with a
// deadline. It is not ready first, and goes on for Config.DrainDelay. Then the
// control plane stops answering before the messaging port closes and the first
// viewer is dropped, without a close frame, over Config.Drain; then the store is
// closed. The official SDKs ask for a new token at once and give up after four
// refusals, so no token may be had for a port that refuses.
func (s *Server) Close() error {
	s.closing.Do(func() {
		if s.ready.Swap(false) && s.config.DrainDelay > 0 {
			s.log.Info("not ready any more, and going on until load balancers have noticed", "for", s.config.DrainDelay)
			time.Sleep(s.config.DrainDelay)
		}
		if s.store != nil && s.store.Bus() != nil {
			s.store.Bus().Ending()
		}
		s.stopping = time.Now()
		var errs []error
		for _, step := range slices.Backward(s.steps) {
			began := time.Now()
			ctx, cancel := context.WithTimeout(context.Background(), step.limit)
			err := step.stop(ctx)
			cancel()
			if err != nil {
				errs = append(errs, fmt.Errorf("stop %s: %w", step.name, err))
			}
			s.log.Debug("stopped", "part", step.name, "took", time.Since(began), "err", err)
		}
		s.loops.Wait()
		s.closeErr = errors.Join(errs...)
	})
	return s.closeErr
}

// now is the server's clock, for all that others see or sign.
func (s *Server) now() time.Time { return time.Now().Add(s.config.ClockOffset) }

// Failed receives an error if a part of the server ends by itself. The server
// should be closed then.
func (s *Server) Failed() <-chan error { return s.failed }

// Reload reads the iam file and the certificate again, as SIGHUP does. What
// cannot be used is logged, and the old stays in use.
func (s *Server) Reload() {
	s.policies.reload()
	if s.certificate != nil {
		select {
		case s.reloading <- struct{}{}:
		default: // it is asked already
		}
	}
}

// RotateTokenKeys seals chat tokens with a new key from now on. Tokens that are
// out stay good until they expire.
func (s *Server) RotateTokenKeys(ctx context.Context) error {
	if !s.ready.Load() {
		return errors.New("the server is starting or stopping; try again")
	}
	if err := s.keys.Rotate(ctx, s.now()); err != nil {
		return err
	}
	s.log.Info("token keys rotated")
	return nil
}

// APIURL is where the control plane answers on this machine, with the real port:
// "http://127.0.0.1:4880".
func (s *Server) APIURL() string { return urlOf(s.scheme("http"), s.api) }

// MessagingURL is where viewers connect: "ws://127.0.0.1:4881".
func (s *Server) MessagingURL() string { return urlOf(s.scheme("ws"), s.messaging) }

// AdminURL is where health and metrics are: "http://127.0.0.1:4882".
func (s *Server) AdminURL() string { return urlOf("http", s.admin) }

func (s *Server) scheme(plain string) string {
	if s.certificate != nil {
		return plain + "s"
	}
	return plain
}

// Room is the room that Dev made or found; "" in Serve.
func (s *Server) Room() ivschat.ARN { return s.room }

// Scope is the account and region of Dev's credentials and room; zero in Serve.
func (s *Server) Scope() ivschat.Scope {
	if s.config.Mode == Serve {
		return ivschat.Scope{}
	}
	return s.config.devScope()
}

// Data is the folder of the store, absolute, or ":memory:".
func (s *Server) Data() string {
	if s.config.Data == Memory {
		return Memory
	}
	if abs, err := filepath.Abs(s.config.Data); err == nil {
		return abs
	}
	return s.config.Data
}

// Viewers is the number of connections of viewers.
func (s *Server) Viewers() int { return s.hub.Viewers() }

// Log is the server's log, for what runs it.
func (s *Server) Log() *slog.Logger { return s.log }

// serveHTTP answers on a listener until its step is undone, with TLS if the
// server has a configuration for it.
func (s *Server) serveHTTP(name string, limit time.Duration, l net.Listener, server *http.Server) {
	s.undo(name, limit, func(ctx context.Context) error {
		err := server.Shutdown(ctx)
		if err != nil {
			err = errors.Join(err, server.Close())
		}
		return err
	})
	s.loops.Go(func() {
		var err error
		if server.TLSConfig != nil {
			err = server.ServeTLS(l, "", "")
		} else {
			err = server.Serve(l)
		}
		if !errors.Is(err, http.ErrServerClosed) {
			s.failed <- fmt.Errorf("%s: %w", name, err)
		}
	})
}

// makeFolder makes the data folder for its owner alone.
func makeFolder(path string) error {
	if path == Memory {
		return nil
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return fmt.Errorf("the data folder %s cannot be made: %w; choose another with --data FOLDER, or --data :memory: to keep nothing", path, unwrapPath(err))
	}
	return nil
}

// unwrapPath is the cause of a file error without its path, which the caller names.
func unwrapPath(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
