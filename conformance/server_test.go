package conformance

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ivschat"
	"github.com/aws/smithy-go"
)

// binary is the server under test: HUBBUB_BIN, or ../cmd/hubbub built once with
// the race detector.
var binary string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		// Servers under test sign with these in place of whatever the machine has, and
		// do not wait for a second at their end, which is the race detector's default.
		for _, k := range []string{"AWS_SESSION_TOKEN", "AWS_PROFILE"} {
			os.Unsetenv(k)
		}
		for k, v := range map[string]string{"AWS_ACCESS_KEY_ID": sinkKey, "AWS_SECRET_ACCESS_KEY": sinkSecret, "AWS_EC2_METADATA_DISABLED": "true"} {
			os.Setenv(k, v)
		}
		if os.Getenv("GORACE") == "" {
			os.Setenv("GORACE", "atexit_sleep_ms=50")
		}
		if binary = os.Getenv("HUBBUB_BIN"); binary == "" {
			dir, err := os.MkdirTemp("", "hubbub-conformance-")
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
			defer os.RemoveAll(dir)
			binary = filepath.Join(dir, "hubbub")
			build := exec.Command("go", "build", "-race", "-o", binary, "./cmd/hubbub")
			build.Dir = ".."
			build.Stderr = os.Stderr
			if err := build.Run(); err != nil {
				fmt.Fprintln(os.Stderr, "the server could not be built:", err)
				return 1
			}
		}
		return m.Run()
	}())
}

// server is a running `hubbub dev`.
type server struct {
	API         string `json:"api"`
	Messaging   string `json:"messaging"`
	Admin       string `json:"admin"`
	AccessKeyID string `json:"access_key_id"`
	SecretKey   string `json:"secret_access_key"`
	Account     string `json:"account"`
	Region      string `json:"region"`
	RoomARN     string `json:"room_arn"`

	cmd *exec.Cmd
	log *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// start runs the server on ports of its own until the test ends. Data goes to
// memory unless args say otherwise.
func start(t testing.TB, args ...string) *server {
	t.Helper()
	s, err := startServer(args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.stop(t)
		if t.Failed() {
			t.Logf("the server's log:\n%s", s.log)
		}
	})
	return s
}

func startServer(args ...string) (*server, error) {
	s := &server{log: &lockedBuffer{}}
	s.cmd = exec.Command(binary, append([]string{"dev", "--log", "json", "--data", ":memory:", "--drain", "0s",
		"--api", "127.0.0.1:0", "--messaging", "127.0.0.1:0", "--admin", "127.0.0.1:0"}, args...)...)
	s.cmd.Stderr = s.log
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		return nil, fmt.Errorf("the server said nothing on stdout: %w\n%s", err, s.log)
	}
	go io.Copy(io.Discard, out)
	if err := json.Unmarshal(line, s); err != nil {
		return nil, fmt.Errorf("the line on stdout is not JSON: %w: %s", err, line)
	}
	return s, nil
}

// startServe runs `hubbub serve`, which tells its addresses to the log.
func startServe(file string) (*server, error) {
	s := &server{log: &lockedBuffer{}}
	s.cmd = exec.Command(binary, "serve", "--log", "json", "--config", file)
	s.cmd.Stderr = s.log
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	limit := time.After(patience)
	for tick := time.Tick(10 * time.Millisecond); ; {
		for line := range strings.Lines(s.log.String()) {
			var ready struct{ Msg string }
			if json.Unmarshal([]byte(line), &ready) == nil && ready.Msg == "ready" {
				return s, json.Unmarshal([]byte(line), s)
			}
		}
		select {
		case <-tick:
		case <-limit:
			_ = s.cmd.Process.Kill()
			_ = s.cmd.Wait()
			return nil, fmt.Errorf("not ready within %v:\n%s", patience, s.log)
		}
	}
}

// stop ends the server as an operator would and wants a clean end.
func (s *server) stop(t testing.TB) {
	t.Helper()
	if s.cmd.ProcessState != nil {
		return
	}
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	done := make(chan error, 1)
	go func() { done <- s.cmd.Wait() }()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("the server ended with %v after SIGTERM\n%s", err, s.log)
		}
	case <-time.After(30 * time.Second):
		_ = s.cmd.Process.Signal(syscall.SIGQUIT)
		<-done
		t.Errorf("the server did not end within 30 s of SIGTERM\n%s", s.log)
	}
}

// client is an official SDK client that shows every answer of the server. It
// tries again only what the SDK's own transport broke off: about one response in
// a hundred over 4 KB ends in "use of closed network connection" there, against
// any server, and the SDK's default retries hide that.
func (s *server) client(change ...func(*ivschat.Options)) *ivschat.Client {
	return ivschat.New(ivschat.Options{
		Region:       s.Region,
		BaseEndpoint: aws.String(s.API),
		Credentials:  credentials.NewStaticCredentialsProvider(s.AccessKeyID, s.SecretKey, ""),
		Retryer: retry.NewStandard(func(o *retry.StandardOptions) {
			o.MaxAttempts, o.RateLimiter, o.Backoff = 5, ratelimit.None, retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) { return 0, nil })
			o.Retryables = []retry.IsErrorRetryable{retry.IsErrorRetryableFunc(func(err error) aws.Ternary {
				return aws.BoolTernary(errors.Is(err, net.ErrClosed))
			})}
		}),
	}, change...)
}

// once makes a client give up at the first failure of any kind.
func once(o *ivschat.Options) { o.Retryer = aws.NopRetryer{} }

// wantError fails unless err is the API error of that name and HTTP status.
func wantError(t testing.TB, err error, name string, status int) smithy.APIError {
	t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) {
		t.Fatalf("got %v, want %s", err, name)
	}
	var http interface{ HTTPStatusCode() int }
	if !errors.As(err, &http) {
		t.Fatalf("%v has no HTTP status", err)
	}
	if api.ErrorCode() != name || http.HTTPStatusCode() != status {
		t.Fatalf("got %s with status %d (%s), want %s with %d", api.ErrorCode(), http.HTTPStatusCode(), api.ErrorMessage(), name, status)
	}
	if api.ErrorMessage() == "" {
		t.Errorf("%s has no message", name)
	}
	var id interface{ ServiceRequestID() string }
	if !errors.As(err, &id) || id.ServiceRequestID() == "" {
		t.Errorf("%s has no request id", name)
	}
	return api
}

func limited(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}
