package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/coder/websocket"
	"github.com/go-json-experiment/json"

	"hubbub/engine/natstest"
)

// devNode is a `hubbub dev` that is a node of a cluster, and what it said when it was
// ready.
type devNode struct {
	cmd *exec.Cmd
	log bytes.Buffer

	Account   string `json:"account"`
	Region    string `json:"region"`
	API       string `json:"api"`
	Messaging string `json:"messaging"`
	Admin     string `json:"admin"`
	Room      string `json:"room_arn"`
	KeyID     string `json:"access_key_id"`
	Secret    string `json:"secret_access_key"`
}

// startNode begins a node; ready waits for it.
func startNode(t *testing.T, dir, name, listen string, peers []string) (n *devNode, ready func()) {
	t.Helper()
	n = &devNode{cmd: exec.Command("hubbub", "dev", "--log", "json", "--data", name, "--drain", "0s",
		"--api", "127.0.0.1:0", "--messaging", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--cluster-node", name,
		"--cluster-listen", listen, "--cluster-peers", strings.Join(peers, ","), "--cluster-secret-file", "cluster.secret")}
	n.cmd.Dir, n.cmd.Stderr = dir, &n.log
	n.cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	out, err := n.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.cmd.Process.Kill() }) // it has ended, unless the test failed
	return n, func() {
		t.Helper()
		late := time.AfterFunc(limit, func() { _ = n.cmd.Process.Kill() })
		defer late.Stop()
		line, err := bufio.NewReader(out).ReadBytes('\n')
		if err == nil {
			err = json.Unmarshal(line, n)
		}
		if err != nil {
			_ = n.cmd.Process.Kill()
			t.Fatalf("node %s is not ready: %v; its log:\n%s", name, errors.Join(err, n.cmd.Wait()), &n.log)
		}
	}
}

func (n *devNode) stop(t *testing.T) {
	t.Helper()
	if err := errors.Join(n.cmd.Process.Signal(syscall.SIGTERM), n.cmd.Wait()); err != nil {
		t.Errorf("ended with %v; the log:\n%s", err, &n.log)
	}
}

// token is one for the room, of this node.
func (n *devNode) token(t *testing.T) string {
	t.Helper()
	body := []byte(`{"roomIdentifier":"` + n.Room + `","userId":"alice","capabilities":["SEND_MESSAGE"]}`)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.API+"/CreateChatToken", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(body)
	key := aws.Credentials{AccessKeyID: n.KeyID, SecretAccessKey: n.Secret}
	if err := v4.NewSigner().SignHTTP(t.Context(), key, request, hex.EncodeToString(sum[:]), "ivschat", n.Region, time.Now()); err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var answer struct {
		Token string `json:"token"`
	}
	if err := json.UnmarshalRead(response.Body, &answer); err != nil || answer.Token == "" {
		t.Fatalf("no token: %s, %v", response.Status, err)
	}
	return answer.Token
}

// What docs/scaling.md says of trying a cluster: three `hubbub dev` on one machine.
func TestThreeDevServersAreACluster(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "cluster.secret"), []byte(strings.Repeat("0123456789abcdef", 4)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	names, peers := []string{"a", "b", "c"}, natstest.FreeAddresses(t, 3)
	start := func(which ...int) (nodes []*devNode) {
		var ready []func()
		for _, i := range which {
			n, r := startNode(t, dir, names[i], peers[i], peers)
			nodes, ready = append(nodes, n), append(ready, r)
		}
		for _, r := range ready {
			r()
		}
		return nodes
	}
	nodes := start(0, 1, 2)

	talk := func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		viewers := make([]*websocket.Conn, len(nodes))
		for i, n := range nodes { // with a token of another node
			c, _, err := websocket.Dial(ctx, n.Messaging, &websocket.DialOptions{Subprotocols: []string{nodes[(i+1)%3].token(t)}})
			if err != nil {
				t.Fatal(err)
			}
			defer c.CloseNow()
			viewers[i] = c
		}
		if err := viewers[0].Write(ctx, websocket.MessageText, []byte(`{"Action":"SEND_MESSAGE","Content":"hello"}`)); err != nil {
			t.Fatal(err)
		}
		for i, v := range viewers {
			if _, b, err := v.Read(ctx); err != nil || !strings.Contains(string(b), "hello") {
				t.Errorf("the viewer on node %s got %s, %v", names[i], b, err)
			}
		}
	}
	for i, n := range nodes {
		if n.Room != nodes[0].Room {
			t.Errorf("node %s shows the room %s, and node a %s", names[i], n.Room, nodes[0].Room)
		}
		if out, err := exec.Command("hubbub", "ready", strings.TrimPrefix(n.Admin, "http://")).CombinedOutput(); err != nil {
			t.Errorf("node %s: %s", names[i], out)
		}
	}
	talk()
	nodes[1].stop(t)
	nodes[1] = start(1)[0]
	talk()
	for _, n := range nodes {
		n.stop(t)
	}
}
