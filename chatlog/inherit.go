package chatlog

import (
	"context"
	"fmt"
	"sync"

	"hubbub/engine"
)

// Inherit delivers what is in the outbox of a node that is gone, and returns when
// all of it was delivered, when ctx ends, or when another node does it instead.
// What was not delivered, or was at that moment, is delivered by the next owner.
func (l *Log) Inherit(ctx context.Context, outbox *engine.Outbox) error {
	readers, err := outbox.Readers(ctx)
	if err != nil {
		return err
	}
	var heirs []*delivery
	for _, reader := range readers {
		arn, ok := configurationOf(reader)
		if !ok {
			return fmt.Errorf("the outbox has records for %q, which is no logging configuration", reader)
		}
		heirs = append(heirs, newDelivery(l, outbox, arn, nil))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(l.running, cancel)()
	var all sync.WaitGroup
	for _, d := range heirs {
		l.mu.Lock()
		l.heirs[d] = true
		l.mu.Unlock()
		all.Go(func() {
			d.run(ctx)
			l.mu.Lock()
			delete(l.heirs, d)
			l.mu.Unlock()
		})
	}
	done := make(chan struct{})
	go func() { defer close(done); all.Wait() }()
	select {
	case <-done:
	case <-ctx.Done():
	case <-outbox.Lost():
	}
	cancel()
	<-done
	return nil
}

// outboxes are all that are delivered from.
func (l *Log) outboxes() map[*engine.Outbox]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := map[*engine.Outbox]bool{l.outbox: true}
	for d := range l.heirs {
		all[d.outbox] = true
	}
	return all
}
