package hubbub

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A node goes with chat logs that its destination did not take: another delivers
// them.
func TestChatLogsOfANodeThatIsGoneAreDelivered(t *testing.T) {
	taken := t.TempDir()
	down := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	t.Cleanup(down.Close)
	nodes := trio(t, func(i int, c *Config) {
		c.Logging.CloudWatchLogs = &LogTarget{Directory: taken, Flush: 10 * time.Millisecond}
		if i == 0 {
			c.Logging.CloudWatchLogs = &LogTarget{Endpoint: down.URL, Flush: 10 * time.Millisecond}
		}
	})
	status, out := devCaller(t, nodes[1]).call(t, "CreateLoggingConfiguration", map[string]any{
		"destinationConfiguration": map[string]any{"cloudWatchLogs": map[string]any{"logGroupName": "/chat"}},
	})
	if status != 200 {
		t.Fatalf("CreateLoggingConfiguration answers %d: %v", status, out)
	}
	status, out = devCaller(t, nodes[1]).call(t, "CreateRoom", map[string]any{"loggingConfigurationIdentifiers": []any{out["arn"]}})
	if status != 200 {
		t.Fatalf("CreateRoom answers %d: %v", status, out)
	}
	room := out["arn"].(string)
	for i, s := range nodes[:2] {
		viewer := connect(t, s.MessagingURL(), tokenOf(t, s, room, "user"))
		send(t, viewer, map[string]any{"Action": "SEND_MESSAGE", "Content": "said on " + s.config.Cluster.Node})
		if m := receive(t, viewer); m["Type"] != "MESSAGE" {
			t.Fatalf("node %d sent %v", i, m)
		}
	}
	logged := func(content string) (found bool) {
		err := filepath.WalkDir(taken, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(path)
			found = found || strings.Contains(string(b), content)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	wait := func(content string) {
		for deadline := time.Now().Add(40 * time.Second); !logged(content); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%q was not delivered", content)
			}
		}
	}
	wait("said on b")
	if logged("said on a") {
		t.Fatal("the node whose destination is down delivered")
	}
	if err := nodes[0].Close(); err != nil {
		t.Error(err)
	}
	wait("said on a")
}
