package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// syncAdvice is what makes a write durable in a NATS that is not ours.
const syncAdvice = "set `sync_interval: always` in the jetstream block of every NATS server; otherwise NATS acknowledges up to two minutes before it fsyncs, and what a power cut takes was promised"

// monitorTime bounds a question to a monitoring port.
const monitorTime = 2 * time.Second

// syncs warns of every server that acknowledges before it fsyncs. NATS says so at
// its monitoring ports alone: without them the warning stands for all.
func (e *Engine) syncs(ctx context.Context, monitors []string) {
	if len(monitors) == 0 {
		e.log.Warn("whether NATS fsyncs before it acknowledges cannot be seen: name its monitoring ports (cluster.nats.monitor), and " + syncAdvice)
		return
	}
	asked, size := map[string]bool{}, 0
	for _, m := range monitors {
		about, err := askMonitor(ctx, m)
		switch {
		case err != nil:
			e.log.Warn("whether a NATS server fsyncs before it acknowledges cannot be seen; look at cluster.nats.monitor, and "+syncAdvice, "monitor", m, "err", err)
			continue
		case !about.Disabled && !about.Config.SyncAlways:
			e.log.Warn("a NATS server acknowledges before it fsyncs; "+syncAdvice, "monitor", m)
		}
		asked[about.ID] = true
		size = max(size, about.Meta.Size)
	}
	if len(asked) < size {
		e.log.Warn("not every NATS server was asked whether it fsyncs before it acknowledges; name all of them in cluster.nats.monitor", "asked", len(asked), "of", size)
	}
}

// jetStreamInfo is what we read of a server's /jsz. Source: nats-server v2.15.2,
// server/monitor.go, JSInfo.
type jetStreamInfo struct {
	ID       string `json:"server_id"`
	Disabled bool   `json:"disabled"`
	Config   struct {
		SyncAlways bool `json:"sync_always"`
	} `json:"config"`
	Meta struct {
		Size int `json:"cluster_size"`
	} `json:"meta_cluster"`
}

func askMonitor(ctx context.Context, url string) (about jetStreamInfo, err error) {
	ctx, cancel := context.WithTimeout(ctx, monitorTime)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(url, "/")+"/jsz", nil)
	if err != nil {
		return about, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return about, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return about, fmt.Errorf("it answers %s", answer.Status)
	}
	if err := json.NewDecoder(answer.Body).Decode(&about); err != nil || about.ID == "" {
		return about, errors.New("it is no monitoring port of NATS")
	}
	return about, nil
}
