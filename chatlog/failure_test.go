package chatlog_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hubbub/chatlog"
	"hubbub/ivschat"
)

func TestAPauseUntilATime(t *testing.T) {
	f, d := firehosePlace(t)
	for header, want := range map[string][2]time.Duration{
		time.Now().Add(time.Hour).UTC().Format(http.TimeFormat): {59 * time.Minute, time.Hour},
		"Wed, 21 Oct 2015 07:28:00 GMT":                         {},
		"soon":                                                  {},
		"-1":                                                    {},
		"99999999999999999999":                                  {},
	} {
		f.set(fault{status: 503, code: "ServiceUnavailableException", retryAfter: header})
		got := putFails(t, d, entriesOf(logRoom("abc123DEF456"), 0, 1), chatlog.Other, chatlog.Throttled)
		if got.After < want[0] || got.After > want[1] {
			t.Errorf("Retry-After %s: %s, want %s to %s", header, got.After, want[0], want[1])
		}
	}
}

// withBrokenChain has a profile whose credentials cannot be had.
func withBrokenChain(t *testing.T) {
	t.Helper()
	withoutChain(t)
	profile := filepath.Join(t.TempDir(), "config")
	// The output of such a process is a secret, and stands in the SDK's error.
	text := "[default]\ncredential_process = echo " + serviceSecret + "\n"
	if err := os.WriteFile(profile, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_CONFIG_FILE", profile)
}

func TestNoCredentials(t *testing.T) {
	for name, prepare := range map[string]func(t *testing.T){
		"none anywhere":             func(t *testing.T) { withoutChain(t); t.Setenv("AWS_EC2_METADATA_DISABLED", "true") },
		"a process that gives none": withBrokenChain,
	} {
		t.Run(name, func(t *testing.T) {
			l := newLogsService(received)
			startService(t, l.service)
			l.createLogGroup("/chat/logs")
			prepare(t)
			d, err := chatlog.OpenDestinations(t.Context(), chatlog.Targets{CloudWatchLogs: &chatlog.Target{Endpoint: l.URL}})
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			group, err := d.Open(configurationOf(toLogs))
			if err != nil {
				t.Fatal(err)
			}
			f := putFails(t, group, entriesOf(logRoom("abc123DEF456"), 0, 1), chatlog.AccessDenied, chatlog.Final)
			if !strings.Contains(f.Error(), "no credentials") || l.called() != 0 {
				t.Errorf("%v, after %d requests", f, l.called())
			}
			if err := d.Check(t.Context(), logScope, toLogs); !errors.Is(err, ivschat.AccessDenied) {
				t.Errorf("Check: %v, want AccessDenied", err)
			}
		})
	}
}

// The metadata service of a machine that is none of AWS's does not answer.
func TestAMetadataServiceThatHangs(t *testing.T) {
	withoutChain(t)
	hangs := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}))
	defer hangs.Close()
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", hangs.URL)
	l := newLogsService(received)
	startService(t, l.service)
	d, err := chatlog.OpenDestinations(t.Context(), chatlog.Targets{CloudWatchLogs: &chatlog.Target{Endpoint: l.URL}})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	group, err := d.Open(configurationOf(toLogs))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, _, err = group.Put(ctx, entriesOf(logRoom("abc123DEF456"), 0, 1))
	wantFailure(t, err, chatlog.AccessDenied, chatlog.Final)
}

func TestTheChainGoesBeforeTheDevCredentials(t *testing.T) {
	l := newLogsService(received)
	startService(t, l.service)
	l.createLogGroup("/chat/logs")
	withoutChain(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDOFTHEENVIRONMENT")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "another")
	d, err := chatlog.OpenDestinations(t.Context(), chatlog.Targets{
		CloudWatchLogs: &chatlog.Target{Endpoint: l.URL}, DevCredentials: devCredentials,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	group, err := d.Open(configurationOf(toLogs))
	if err != nil {
		t.Fatal(err)
	}
	f := putFails(t, group, entriesOf(logRoom("abc123DEF456"), 0, 1), chatlog.AccessDenied, chatlog.Final)
	if !strings.Contains(f.Error(), "InvalidAccessKeyId") {
		t.Errorf("%v; the key of the environment was to be used, which the service does not know", f)
	}
}
