package engine

import (
	"context"
	"time"
)

// SetStartTimeout shortens the time that a recovery may take.
func SetStartTimeout(d time.Duration) { startTimeout = d }

// Queue puts a use into the queue whose caller is gone already.
func Queue(ctx context.Context, o *Once, key string) {
	o.mu.Lock()
	o.used[key] = time.Now().Add(time.Hour).Unix()
	o.mu.Unlock()
	o.requests <- onceRequest{ctx, key, time.Now().Unix(), make(chan error, 1)}
}
