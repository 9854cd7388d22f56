package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"hubbub"
)

type serveCmd struct {
	Config string `help:"Configuration file ($$HUBBUB_CONFIG)." placeholder:"FILE" type:"string"`
	Flags  any    `embed:"" group:"Settings"`
}

func (c *serveCmd) Run(ctx context.Context) error {
	from := sources(c.Config, c.Flags)
	if from.File == "" {
		return errors.New("serve needs a configuration file; write --config hubbub.yaml, or run `hubbub dev` to try things out without one")
	}
	loaded, err := hubbub.Load(hubbub.Serve, from)
	warn(loaded.Warnings)
	if err != nil {
		return err
	}
	return serve(ctx, loaded.Config, func(*hubbub.Server) error { return nil })
}

// serve runs a server until a signal ends it. SIGTERM and SIGINT drain, a second
// one exits at once; SIGHUP reads the iam file and the certificate again. ready
// is called once, when the server is.
func serve(ctx context.Context, c hubbub.Config, ready func(*hubbub.Server) error) error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt, syscall.SIGHUP)
	defer signal.Stop(signals)

	shortened := shortTurns()
	sayMemory := limitMemory()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type start struct {
		server *hubbub.Server
		err    error
	}
	starting := make(chan start, 1)
	go func() {
		s, err := hubbub.Start(ctx, c)
		starting <- start{s, err}
	}()
	var s *hubbub.Server
	for s == nil {
		select {
		case sig := <-signals: // before it was ready
			if sig == syscall.SIGHUP {
				continue
			}
			if ctx.Err() != nil { // the second
				return errors.New("stopped at once, before it was ready")
			}
			cancel()
		case got := <-starting:
			if got.err != nil && ctx.Err() != nil {
				return nil // told to stop before it had begun
			}
			if got.err != nil {
				return got.err
			}
			s = got.server
		}
	}

	sayMemory(s.Log())
	if shortened != nil {
		s.Log().Debug("turns of threads stay as the system has them", "err", shortened)
	}
	took := time.Since(started)
	s.Log().Info("ready", "took", took, "api", s.APIURL(), "messaging", s.MessagingURL(), "admin", s.AdminURL())
	err := ready(s)
	notify(s.Log(), daemon.SdNotifyReady)
	releaseStart(s.Log())
	stopReleasing := releaseAfterStorms(s.Viewers, func() { releaseStorm(s) })
	defer stopReleasing()
	stopWatchdog := watchdog(s.Log())
	defer stopWatchdog()

	for err == nil && ctx.Err() == nil {
		select {
		case sig := <-signals:
			if sig == syscall.SIGHUP {
				// For Type=notify-reload; what came of it is in the log.
				notify(s.Log(), daemon.SdNotifyReloading+"\n"+daemon.SdNotifyMonotonicUsec())
				s.Reload()
				notify(s.Log(), daemon.SdNotifyReady)
				continue
			}
			s.Log().Info("stopping; a second signal stops at once", "signal", sig.String())
			cancel()
		case err = <-s.Failed():
			s.Log().Error("stopping, since a part of the server failed", "err", err)
		}
	}
	notify(s.Log(), daemon.SdNotifyStopping)
	go func() {
		for sig := range signals {
			if sig != syscall.SIGHUP {
				s.Log().Warn("stopped at once", "signal", sig.String())
				os.Exit(exitFailed)
			}
		}
	}()
	closed := s.Close()
	signal.Stop(signals)
	return errors.Join(err, closed)
}

// notify tells systemd, if it listens.
func notify(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("systemd could not be told", "state", state, "err", err)
	}
}

// watchdog tells systemd that the process lives, twice as often as it asks for,
// until the returned function is called.
func watchdog(log *slog.Logger) (stop func()) {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil || interval == 0 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(interval / 2)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				notify(log, daemon.SdNotifyWatchdog)
			}
		}
	}()
	return func() { cancel(); <-done }
}
