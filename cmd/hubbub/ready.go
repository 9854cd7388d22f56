package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

type readyCmd struct {
	Address string `arg:"" optional:"" help:"Admin address of the server, HOST:PORT." default:"127.0.0.1:4882"`
}

// readyLimit is less than what asks in turn waits: three seconds is the usual
// time-out of a health check.
const readyLimit = 2 * time.Second

// Run is for health checks of containers: the image has no shell and no curl.
func (c *readyCmd) Run(ctx context.Context) error {
	if _, _, err := net.SplitHostPort(c.Address); err != nil {
		return fmt.Errorf("%q is no HOST:PORT; write the server's admin address, for example 127.0.0.1:4882", c.Address)
	}
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.Address+"/readyz", nil)
	if err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{}} // never through a proxy of the environment
	response, err := client.Do(request)
	if err != nil {
		var cause *url.Error
		if errors.As(err, &cause) {
			err = cause.Err
		}
		return fmt.Errorf("nobody answers at %s: %w; name the server's admin address, for example 127.0.0.1:4882", c.Address, err)
	}
	defer response.Body.Close()
	said, err := io.ReadAll(io.LimitReader(response.Body, 1<<10))
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s: %s", c.Address, response.Status, strings.TrimSpace(string(said)))
	}
	fmt.Println("ready")
	return nil
}
