package review

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// credentials are fetched before a message needs them, and fetched again before
// they expire: a review has no time for it.
type credentials struct {
	source aws.CredentialsProvider
	log    *slog.Logger

	current atomic.Pointer[aws.Credentials]
}

const (
	credentialsEarly = 5 * time.Minute  // before they expire they are fetched again
	credentialsRetry = 30 * time.Second // the shortest time between two attempts
)

// credentialsError is that there are none.
type credentialsError struct{ err error }

func (e *credentialsError) Error() string { return "no credentials: " + e.err.Error() }
func (e *credentialsError) Unwrap() error { return e.err }

// Retrieve returns the credentials at hand, or asks for some. It implements
// aws.CredentialsProvider.
func (c *credentials) Retrieve(ctx context.Context) (aws.Credentials, error) {
	if at := c.current.Load(); at != nil && !at.Expired() {
		return *at, nil
	}
	got, err := c.source.Retrieve(ctx)
	if err != nil {
		return aws.Credentials{}, &credentialsError{err}
	}
	return got, nil
}

// keep fetches credentials until ctx ends, or until it has some that stay.
func (c *credentials) keep(ctx context.Context) {
	for failed := false; ; {
		got, err := c.source.Retrieve(ctx)
		wait := credentialsRetry
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !failed:
			failed = true
			c.log.Warn("no credentials to invoke review handlers", "err", err)
		case err == nil:
			failed = false
			c.current.Store(&got)
			if !got.CanExpire {
				return
			}
			wait = max(wait, time.Until(got.Expires.Add(-credentialsEarly)))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		if cache, ok := c.source.(*aws.CredentialsCache); ok {
			cache.Invalidate()
		}
	}
}

// firstOf are the credentials of the first provider that has some.
type firstOf []aws.CredentialsProvider

// Retrieve asks one after the other. It implements aws.CredentialsProvider.
func (f firstOf) Retrieve(ctx context.Context) (aws.Credentials, error) {
	var failed error
	for _, p := range f {
		got, err := p.Retrieve(ctx)
		if err == nil {
			return got, nil
		}
		failed = errors.Join(failed, err)
	}
	return aws.Credentials{}, failed
}
