package hubbub

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/prometheus/client_golang/prometheus"

	"hubbub/chatlog"
	"hubbub/cloudwatch"
	"hubbub/engine"
	"hubbub/ivschat"
	"hubbub/review"
)

// What a server calls outside of itself: review handlers, the destinations of chat
// logs, and CloudWatch.

// devCredentials sign what Dev sends to endpoints of the operator's own, if the
// usual chain of the AWS SDK has no credentials: a laptop has none. Serve has no
// such fallback.
func (c Config) devCredentials() aws.CredentialsProvider {
	if c.Mode == Serve {
		return nil
	}
	return credentials.NewStaticCredentialsProvider(DevAccessKeyID, DevSecretKey, "")
}

// openReview makes what asks the rooms' review handlers. Without a `review`
// section Dev has nothing; Serve has no handlers, and says so of the rooms that name
// one.
func (s *Server) openReview(ctx context.Context, metrics prometheus.Registerer) error {
	c := s.config.Review
	switch {
	case c == nil && s.config.Mode == Dev:
		return nil
	case c == nil:
		c = &ReviewConfig{}
	}
	r, err := review.New(ctx, review.Options{
		Timeout: c.Timeout, Concurrency: c.Concurrency, Handlers: c.Handlers, Default: c.Default,
		DevCredentials: s.config.devCredentials(), Log: s.log.With("component", "review"), Metrics: metrics,
	})
	if err != nil {
		return err
	}
	s.review = r
	s.undo("message review", reviewLimit, func(context.Context) error {
		r.Close()
		return nil
	})
	return nil
}

// acceptHandler says whether a room may name a review handler. Dev without a
// `review` section takes every one, so that what makes rooms can be tried out.
func (s *Server) acceptHandler(uri string) bool { return s.review == nil || s.review.Accepts(uri) }

// openDestinations makes what reaches the destinations of chat logs. Dev keeps
// those of a kind that is not configured as files below its data.
func (s *Server) openDestinations(ctx context.Context) error {
	c := s.config.Logging
	targets := chatlog.Targets{S3: target(c.S3), CloudWatchLogs: target(c.CloudWatchLogs), Firehose: target(c.Firehose),
		DevCredentials: s.config.devCredentials(), Log: s.log.With("component", "chatlog")}
	if s.config.Mode == Dev {
		root, err := s.logFolder()
		if err != nil {
			return err
		}
		for _, kind := range []struct {
			name string
			at   **chatlog.Target
		}{{"s3", &targets.S3}, {"cloudwatch_logs", &targets.CloudWatchLogs}, {"firehose", &targets.Firehose}} {
			if *kind.at == nil {
				*kind.at = &chatlog.Target{Directory: filepath.Join(root, kind.name)}
			}
		}
	}
	d, err := chatlog.OpenDestinations(ctx, targets)
	if err != nil {
		return err
	}
	s.destinations = d
	s.undo("log destinations", adminLimit, func(context.Context) error {
		d.Close()
		return nil
	})
	return nil
}

// target is what the settings say of one kind of destination.
func target(t *LogTarget) *chatlog.Target {
	if t == nil {
		return nil
	}
	return &chatlog.Target{Endpoint: t.Endpoint, PathStyle: t.PathStyle, Region: t.Region, Directory: t.Directory, Flush: t.Flush}
}

// logFolder is where Dev's own destinations are: a temporary folder, which goes
// with the server, if nothing is kept.
func (s *Server) logFolder() (string, error) {
	if s.config.Data != Memory {
		return filepath.Join(s.config.Data, "logs"), nil
	}
	folder, err := os.MkdirTemp("", "hubbub-logs-")
	if err != nil {
		return "", fmt.Errorf("make a folder for chat logs: %w", err)
	}
	s.undo("folder of chat logs", adminLimit, func(context.Context) error { return os.RemoveAll(folder) })
	return folder, nil
}

// startLogs goes on with the delivery of chat logs. At the end it brings what is
// there, for a bounded time; the rest waits in the store for the next start.
func (s *Server) startLogs(ctx context.Context, metrics prometheus.Registerer) error {
	c := s.config.Logging
	outbox, err := s.store.Outbox(ctx, s.outboxOptions())
	if err != nil {
		return err
	}
	l, err := chatlog.New(ctx, chatlog.Options{
		Outbox: outbox, Configuration: s.registry.LoggingConfiguration, Open: s.destinations.Open,
		Begins: leaveOneRunning,
		Retry:  chatlog.Retry{Timeout: c.Retry.Timeout, MaxPause: c.Retry.MaxPause},
		Log:    s.log, Metrics: metrics,
	})
	if err != nil {
		return err
	}
	s.runLogs(l)
	s.undo("chat logs", logsLimit, func(ctx context.Context) error { return s.closeLogs(ctx, l) })
	s.startTakingOver(l)
	return nil
}

// alonePatience is how long a node waits at its end for a cluster that has no
// majority: all nodes may be stopping.
const alonePatience = 2 * time.Second

// closeLogs brings what is there to the store and to where it goes. If the other
// nodes stop as well the store takes nothing more: then it is given up soon, and
// what the log says of it is all that can be done.
func (s *Server) closeLogs(ctx context.Context, l *chatlog.Log) error {
	bus := s.store.Bus()
	if bus == nil {
		return l.Close(ctx)
	}
	ctx, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	abandoned := false
	watching.Go(func() {
		tick := time.NewTicker(alonePatience / 20)
		defer tick.Stop()
		var alone time.Time
		for {
			select {
			case <-ctx.Done():
				return
			case now := <-tick.C:
				switch {
				case bus.Majority():
					alone = time.Time{}
				case alone.IsZero():
					alone = now
				case now.Sub(alone) > alonePatience:
					abandoned = true
					s.store.Abandon()
					cancel()
					return
				}
			}
		}
	})
	err := l.Close(ctx)
	cancel()
	watching.Wait()
	if err != nil && abandoned {
		s.log.Error("the end of the chat logs is lost, since the other nodes stopped before this one", "err", err)
		return nil
	}
	return err
}

func (s *Server) outboxOptions() engine.OutboxOptions {
	c := s.config.Logging.Spool
	return engine.OutboxOptions{MaxBytes: c.MaxBytes, MaxAge: c.MaxAge, Readers: chatlog.Readers,
		Dropped: func(reader string, records int, why engine.DropReason) { s.dropped(logDrop{reader, records, why}) }}
}

// startPush pushes the service's metrics, if that was asked for. It begins before
// everything that counts and ends behind it, so that the last push has all.
func (s *Server) startPush(ctx context.Context, metrics prometheus.Gatherer) error {
	c := s.config.Metrics.CloudWatch
	if c == nil {
		return nil
	}
	region := c.Region
	if region == "" {
		region = s.config.devScope().Region // that of the rooms, or the first of them
	}
	p, err := cloudwatch.New(ctx, cloudwatch.Options{Endpoint: c.Endpoint, Region: region, Namespace: c.Namespace, Interval: c.Interval,
		Gather: metrics, DevCredentials: s.config.devCredentials(), Log: s.log.With("component", "cloudwatch")})
	if err != nil {
		return err
	}
	s.undo("pushed metrics", pushLimit, func(ctx context.Context) error {
		_ = p.Close(ctx) // it is in the log; that nobody takes metrics is no failed stop
		return nil
	})
	return nil
}

// logDrops are what the store has dropped of chat logs before these run: while it
// is opened.
type logDrops struct {
	mu   sync.Mutex
	list []logDrop
}

type logDrop struct {
	reader  string
	records int
	why     engine.DropReason
}

// dropped tells the chat logs what the store dropped, when they run.
func (s *Server) dropped(d logDrop) {
	s.early.mu.Lock()
	l := s.logs.Load()
	if l == nil {
		s.early.list = append(s.early.list, d)
	}
	s.early.mu.Unlock()
	if l != nil {
		l.OutboxDropped(d.reader, d.records, d.why)
	}
}

// runLogs makes chat logs known to the rest of the server.
func (s *Server) runLogs(l *chatlog.Log) {
	s.early.mu.Lock()
	s.logs.Store(l)
	early := s.early.list
	s.early.list = nil
	s.early.mu.Unlock()
	for _, d := range early {
		l.OutboxDropped(d.reader, d.records, d.why)
	}
}

// configurationChanged tells the chat logs of a logging configuration.
func (s *Server) configurationChanged(arn ivschat.ARN) {
	if l := s.logs.Load(); l != nil {
		l.Changed(arn)
	}
}
