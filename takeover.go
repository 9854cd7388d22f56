package hubbub

import (
	"context"
	"sync"
	"time"

	"hubbub/chatlog"
	"hubbub/engine"
)

const (
	// takeOverGrace is for nodes that are started together with this one: what they
	// have left they deliver themselves.
	takeOverGrace = 5 * time.Second

	// takeOverEvery is how often this node looks for what nobody delivers, besides
	// when a node goes; soon, when it could not find out.
	takeOverEvery = 10 * time.Second
	takeOverSoon  = time.Second

	// takeOverTry bounds an attempt: while there is no leader nobody answers.
	takeOverTry = 2 * time.Second
)

// heir delivers the chat logs that nodes which are gone have left, if it falls to
// this node, until they come back.
type heir struct {
	server *Server
	logs   *chatlog.Log
	look   chan struct{} // has room for one

	mu   sync.Mutex
	held map[string]context.CancelFunc // by node
	done sync.WaitGroup
}

// startTakingOver does so from now on, in a cluster.
func (s *Server) startTakingOver(l *chatlog.Log) {
	bus := s.store.Bus()
	if bus == nil {
		return
	}
	h := &heir{server: s, logs: l, look: make(chan struct{}, 1), held: map[string]context.CancelFunc{}}
	ctx, cancel := context.WithCancel(context.Background())
	h.done.Go(func() { h.run(ctx) })
	s.undo("chat logs of other nodes", logsLimit, func(context.Context) error {
		cancel()
		h.done.Wait()
		return nil
	})
	bus.Changed(func(m engine.Member) {
		if !m.Alive {
			h.wake()
			return
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		if giveBack := h.held[m.Node]; giveBack != nil {
			giveBack()
		}
	})
}

func (h *heir) wake() {
	select {
	case h.look <- struct{}{}:
	default:
	}
}

func (h *heir) run(ctx context.Context) {
	next := time.NewTimer(takeOverGrace)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.look:
		case <-next.C:
		}
		wait := takeOverEvery
		trying, cancel := context.WithTimeout(ctx, takeOverTry)
		nodes, err := h.server.store.Orphans(trying)
		cancel()
		if err != nil && ctx.Err() == nil {
			h.server.log.Debug("it is not known yet whose chat logs nobody delivers", "err", err)
			wait = takeOverSoon
		}
		for _, node := range nodes {
			h.take(ctx, node)
		}
		next.Reset(wait)
	}
}

// take begins with the outbox of a node, unless it is at it.
func (h *heir) take(ctx context.Context, node string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.held[node] != nil {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	h.held[node] = cancel
	h.done.Go(func() {
		defer func() {
			cancel()
			h.mu.Lock()
			defer h.mu.Unlock()
			delete(h.held, node)
		}()
		began := time.Now()
		trying, stop := context.WithTimeout(ctx, takeOverTry)
		defer stop()
		outbox, err := h.server.store.TakeOver(trying, node, h.server.outboxOptions())
		if err != nil {
			if ctx.Err() == nil {
				h.server.log.Warn("the chat logs of a node that is gone cannot be taken over yet", "node_gone", node, "err", err)
				time.AfterFunc(takeOverSoon, h.wake)
			}
			return
		}
		defer outbox.Close()
		left := 0
		for _, b := range outbox.Backlog() {
			left += b.Records
		}
		h.server.log.Info("delivering the chat logs of a node that is gone", "node_gone", node, "records", left)
		err = h.logs.Inherit(ctx, outbox)
		h.server.log.Info("no longer delivering the chat logs of a node that is gone", "node_gone", node, "took", time.Since(began), "err", err)
	})
}
