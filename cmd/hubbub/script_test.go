package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/coder/websocket"
	"github.com/go-json-experiment/json"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"hubbub": main})
}

// TestScripts runs testdata/*.txtar: what an operator writes, and what comes of it.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Values["servers"] = map[string]*server{}
			e.Setenv("GORACE", "atexit_sleep_ms=0") // a second for each command otherwise
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"start":       start,
			"signal":      sendSignal,
			"ended":       ended,
			"running":     stillRunning,
			"viewer":      viewer,
			"certificate": certificate,
			"occupy":      occupy,
			"bucket":      fakeBucket,
			"chatterbox":  chatterbox,
		},
	})
}

// server is one that a script started.
type server struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// limit is how long anything in a script may take.
const limit = 60 * time.Second

// start NAME ARG... runs hubbub in the background until it has written a line to
// standard output, which goes to NAME.out, or for serve until its log, which goes
// to NAME.err, says that it is ready. If that is JSON, $NAME_api and so on are set
// for each key, $NAME_api_address without the scheme, and $NAME_keys to the names
// of all.
func start(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: start NAME ARG...")
	}
	name := args[0]
	stderr, err := os.Create(ts.MkAbs(name + ".err"))
	ts.Check(err)
	defer stderr.Close()
	stdout, err := os.Create(ts.MkAbs(name + ".out"))
	ts.Check(err)
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "hubbub", args[1:]...)
	cmd.Dir, cmd.Stderr = ts.MkAbs("."), stderr
	cmd.Env = []string{"PATH=" + ts.Getenv("PATH"), "TMPDIR=" + ts.Getenv("TMPDIR"), "GORACE=" + ts.Getenv("GORACE")}
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	s := &server{cmd: cmd, done: make(chan struct{})}
	ts.Value("servers").(map[string]*server)[name] = s
	first := make(chan string, 1)
	go func() {
		defer close(s.done)
		lines := bufio.NewReader(out)
		for {
			line, err := lines.ReadString('\n')
			stdout.WriteString(line)
			select {
			case first <- line:
			default:
			}
			if err != nil {
				break
			}
		}
		stdout.Close()
		cmd.Wait()
	}()
	ts.Defer(func() { cancel(); <-s.done })
	if args[1] == "serve" {
		go func() {
			if line := readyRecord(ts.MkAbs(name+".err"), s.done); line != "" {
				first <- line
			}
		}()
	}
	var line string
	select {
	case line = <-first:
	case <-time.After(limit):
	}
	if line == "" {
		cancel()
		<-s.done
		ts.Fatalf("nothing on standard output; ended with %v; the log:\n%s", cmd.ProcessState, ts.ReadFile(name+".err"))
	}
	if !strings.HasPrefix(line, "{") {
		return
	}
	var made map[string]any
	if err := json.Unmarshal([]byte(line), &made); err != nil {
		ts.Fatalf("the line is not JSON: %v: %s", err, line)
	}
	for k, v := range made {
		v := fmt.Sprint(v)
		ts.Setenv(name+"_"+k, v)
		if _, address, ok := strings.Cut(v, "://"); ok {
			ts.Setenv(name+"_"+k+"_address", address)
		}
	}
	ts.Setenv(name+"_keys", strings.Join(slices.Sorted(maps.Keys(made)), ","))
}

// readyRecord waits for the log record that says ready; "" if the server ends first.
func readyRecord(log string, done <-chan struct{}) string {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		data, _ := os.ReadFile(log)
		for line := range strings.Lines(string(data)) {
			if strings.Contains(line, `"msg":"ready"`) && strings.HasSuffix(line, "\n") {
				return line
			}
		}
		select {
		case <-done:
			return ""
		case <-tick.C:
		}
	}
}

// awaitLog waits until a server's log has a text.
func awaitLog(ts *testscript.TestScript, name, text string) {
	s := ts.Value("servers").(map[string]*server)[name]
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !strings.Contains(ts.ReadFile(name+".err"), text) {
		select {
		case <-s.done:
			ts.Fatalf("%s ended without %q in its log:\n%s", name, text, ts.ReadFile(name+".err"))
		case <-tick.C:
		}
	}
}

// signal NAME TERM|INT|HUP|KILL [again] sends a signal to a server; again, once
// the server has said that it took the first.
func sendSignal(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 3 && args[2] == "again" { // not before the first one was taken
		awaitLog(ts, args[0], "stopping; a second signal stops at once")
		args = args[:2]
	}
	signals := map[string]syscall.Signal{"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "HUP": syscall.SIGHUP, "KILL": syscall.SIGKILL}
	if neg || len(args) != 2 || signals[args[1]] == 0 {
		ts.Fatalf("usage: signal NAME TERM|INT|HUP|KILL")
	}
	ts.Check(ts.Value("servers").(map[string]*server)[args[0]].cmd.Process.Signal(signals[args[1]]))
}

// [!] ended NAME waits for a server to end, and wants exit code 0, or another.
func ended(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: [!] ended NAME")
	}
	s := ts.Value("servers").(map[string]*server)[args[0]]
	select {
	case <-s.done:
	case <-time.After(limit):
		ts.Fatalf("%s has not ended within %v; the log:\n%s", args[0], limit, ts.ReadFile(args[0]+".err"))
	}
	if s.cmd.ProcessState.Success() == neg {
		ts.Fatalf("%s ended with %v; the log:\n%s", args[0], s.cmd.ProcessState, ts.ReadFile(args[0]+".err"))
	}
}

// running NAME wants a server that has not ended.
func stillRunning(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: running NAME")
	}
	select {
	case <-ts.Value("servers").(map[string]*server)[args[0]].done:
		ts.Fatalf("%s has ended; the log:\n%s", args[0], ts.ReadFile(args[0]+".err"))
	default:
	}
}

// viewer NAME connects a viewer to the room of a dev server, until the script ends.
func viewer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: viewer NAME")
	}
	get := func(key string) string { return ts.Getenv(args[0] + "_" + key) }
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	body := []byte(`{"roomIdentifier":"` + get("room_arn") + `","userId":"alice"}`)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, get("api")+"/CreateChatToken", bytes.NewReader(body))
	ts.Check(err)
	sum := sha256.Sum256(body)
	key := aws.Credentials{AccessKeyID: get("access_key_id"), SecretAccessKey: get("secret_access_key")}
	ts.Check(v4.NewSigner().SignHTTP(ctx, key, request, hex.EncodeToString(sum[:]), "ivschat", get("region"), time.Now()))
	response, err := http.DefaultClient.Do(request)
	ts.Check(err)
	defer response.Body.Close()
	var answer struct {
		Token string `json:"token"`
	}
	ts.Check(json.UnmarshalRead(response.Body, &answer))
	conn, _, err := websocket.Dial(ctx, get("messaging"), &websocket.DialOptions{Subprotocols: []string{answer.Token}})
	ts.Check(err)
	ts.Defer(func() { conn.CloseNow() })
}

// certificate CERT KEY DAYS writes a pair for 127.0.0.1 that is good for some
// days from now; for less than none it is expired.
func certificate(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: certificate CERT KEY DURATION")
	}
	life, err := time.ParseDuration(args[2])
	ts.Check(err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(life),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	ts.Check(err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
}

// occupy VAR listens on a port until the script ends, and sets $VAR to HOST:PORT.
func occupy(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: occupy VAR")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { l.Close() })
	ts.Setenv(args[0], l.Addr().String())
}

// bucket VAR FOLDER serves a folder's files as the objects of an S3 bucket of that
// name until the script ends, and sets $VAR to the server's URL.
func fakeBucket(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: bucket VAR FOLDER")
	}
	objects := s3mem.New()
	ts.Check(objects.CreateBucket(args[1]))
	root := ts.MkAbs(args[1])
	ts.Check(filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		key, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		content := ts.ReadFile(path)
		_, err = objects.PutObject(args[1], filepath.ToSlash(key), nil, strings.NewReader(content), int64(len(content)), nil)
		return err
	}))
	server := httptest.NewServer(gofakes3.New(objects, gofakes3.WithLogger(gofakes3.DiscardLog())).Server())
	ts.Defer(server.Close)
	ts.Setenv(args[0], server.URL)
}

// chatterbox VAR takes every request over HTTP until the script ends, says OUT OF
// TURN behind each answer, and sets $VAR to its URL.
func chatterbox(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: chatterbox VAR")
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		c, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}OUT OF TURN")
		_, _ = io.Copy(io.Discard, c) // until the other side closes
	}))
	ts.Defer(server.Close)
	ts.Setenv(args[0], server.URL)
}
