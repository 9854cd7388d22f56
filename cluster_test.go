package hubbub

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"hubbub/engine/natstest"
)

// trio starts three nodes on loopback and ends them after the test.
func trio(t *testing.T, particular ...func(i int, c *Config)) []*Server {
	t.Helper()
	peers := natstest.FreeAddresses(t, 3)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(strings.Repeat("s", 40)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return startAll(t, func(i int) Config {
		return Config{Cluster: &ClusterConfig{Node: string(rune('a' + i)), Listen: peers[i], Peers: peers, SecretFile: secret}}
	}, particular)
}

// outsideTrio starts three nodes that use a NATS cluster of somebody else.
func outsideTrio(t *testing.T, particular ...func(i int, c *Config)) []*Server {
	t.Helper()
	outside := natstest.Start(t, natstest.Options{})
	credentials := outside.Credentials()
	return startAll(t, func(i int) Config {
		return Config{Cluster: &ClusterConfig{Node: string(rune('a' + i)), NATS: NATS{URL: outside.URL(), Credentials: credentials}}}
	}, particular)
}

// onBoth runs a test with nodes that are a cluster, and with nodes that use one of
// somebody else.
func onBoth(t *testing.T, test func(t *testing.T, nodes []*Server)) {
	t.Run("embedded", func(t *testing.T) { test(t, trio(t)) })
	t.Run("external", func(t *testing.T) { test(t, outsideTrio(t)) })
}

// startAll starts three nodes, each with what is particular to it.
func startAll(t *testing.T, config func(i int) Config, particular []func(i int, c *Config)) []*Server {
	t.Helper()
	ctx, giveUp := context.WithCancel(t.Context())
	defer giveUp()
	nodes := make([]*Server, 3)
	var starting sync.WaitGroup
	for i := range nodes {
		c := config(i)
		for _, set := range particular {
			set(i, &c)
		}
		c.Data = t.TempDir()
		free(&c)
		starting.Go(func() {
			var err error
			if nodes[i], err = Start(ctx, c); err != nil {
				giveUp() // the others would wait for it for ever
				t.Errorf("node %d: %v", i, err)
			}
		})
	}
	starting.Wait()
	t.Cleanup(func() {
		var stopping sync.WaitGroup
		for _, s := range nodes {
			if s != nil {
				stopping.Go(func() {
					if err := s.Close(); err != nil {
						t.Error(err)
					}
				})
			}
		}
		stopping.Wait()
	})
	if t.Failed() {
		t.FailNow()
	}
	return nodes
}

// createRoom and roomName are of the control plane of a node.
func createRoom(t *testing.T, s *Server, name string) string {
	t.Helper()
	status, out := devCaller(t, s).call(t, "CreateRoom", map[string]any{"name": name})
	if status != 200 {
		t.Fatalf("CreateRoom answers %d: %v", status, out)
	}
	return out["arn"].(string)
}

func roomName(t *testing.T, s *Server, room string) any {
	t.Helper()
	_, out := devCaller(t, s).call(t, "GetRoom", map[string]any{"identifier": room})
	return out["name"]
}

func tokenOf(t *testing.T, s *Server, room, user string) string {
	t.Helper()
	status, out := devCaller(t, s).call(t, "CreateChatToken", map[string]any{"roomIdentifier": room, "userId": user, "capabilities": []string{"SEND_MESSAGE"}})
	if status != 200 {
		t.Fatalf("CreateChatToken answers %d: %v", status, out)
	}
	return out["token"].(string)
}

// What is said to one node all of them show, and what is said in a room reaches
// its viewers wherever they are.
func TestThreeNodesAreOneService(t *testing.T) { onBoth(t, testThreeNodesAreOneService) }

func testThreeNodesAreOneService(t *testing.T, nodes []*Server) {
	ctx := context.Background()
	for n := range 10 {
		room := createRoom(t, nodes[n%3], fmt.Sprint("room-", n))
		for i, s := range nodes {
			if name := roomName(t, s, room); name != fmt.Sprint("room-", n) {
				t.Fatalf("node %d shows %q of what node %d has acknowledged", i, name, n%3)
			}
		}
	}
	room := createRoom(t, nodes[0], "shared")
	viewers := make([]*websocket.Conn, 3)
	for i, s := range nodes { // a token of another node
		viewers[i] = connect(t, s.MessagingURL(), tokenOf(t, nodes[(i+1)%3], room, fmt.Sprint("user-", i)))
	}
	for i, sender := range viewers {
		send(t, sender, map[string]any{"Action": "SEND_MESSAGE", "Content": fmt.Sprint("from ", i)})
		for k, v := range viewers {
			if m := receive(t, v); m["Content"] != fmt.Sprint("from ", i) {
				t.Errorf("the viewer on node %d got %v of what was said on node %d", k, m, i)
			}
		}
	}

	// A token opens one connection, on whichever node it is shown first.
	token := tokenOf(t, nodes[0], room, "twice")
	var opened []int
	var mu sync.Mutex
	var racing sync.WaitGroup
	for i, s := range nodes {
		racing.Go(func() {
			c, _, err := websocket.Dial(ctx, s.MessagingURL(), &websocket.DialOptions{Subprotocols: []string{token}})
			if err == nil {
				mu.Lock()
				opened = append(opened, i)
				mu.Unlock()
				t.Cleanup(func() { c.CloseNow() })
			}
		})
	}
	racing.Wait()
	if len(opened) != 1 {
		t.Errorf("a token opened connections on the nodes %v", opened)
	}

	// A key that one node rotates is known on all.
	if err := nodes[1].RotateTokenKeys(ctx); err != nil {
		t.Fatal(err)
	}
	after := connect(t, nodes[2].MessagingURL(), tokenOf(t, nodes[1], room, "after"))
	send(t, after, map[string]any{"Action": "SEND_MESSAGE", "Content": "new key"})
	if m := receive(t, viewers[0]); m["Content"] != "new key" {
		t.Errorf("got %v", m)
	}
	for i, s := range nodes {
		if status, body := get(t, s.AdminURL()+"/readyz"); status != 200 {
			t.Errorf("node %d is not ready: %s", i, body)
		}
	}

	// One of them leads, and each hears all.
	leaders := 1
	if nodes[0].config.Cluster.NATS.URL != "" { // then it is a server of that
		leaders = 0
	}
	for _, want := range []struct {
		series string
		sum    int
	}{{`hubbub_cluster_leader{of="resources"} 1`, leaders}, {`hubbub_cluster_leader{of="streams"} 1`, leaders}, {"hubbub_cluster_members 3", 3}, {"hubbub_cluster_majority 1", 3}} {
		show := func() (n int) {
			for _, s := range nodes {
				if _, metrics := get(t, s.AdminURL()+"/metrics"); strings.Contains(metrics, "\n"+want.series+"\n") {
					n++
				}
			}
			return n
		}
		for limit := time.Now().Add(20 * time.Second); show() != want.sum; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(limit) {
				t.Fatalf("%d nodes show %s, want %d", show(), want.series, want.sum)
			}
		}
	}
}

func TestAClusterThatCannotBeIsRefused(t *testing.T) {
	three := []string{"127.0.0.1:4883", "127.0.0.1:4884", "127.0.0.1:4885"}
	for _, c := range []struct {
		name string
		of   ClusterConfig
		want string
	}{
		{"no name", ClusterConfig{Peers: three, SecretFile: "s"}, "node: a"},
		{"two nodes", ClusterConfig{Node: "a", Peers: three[:2], SecretFile: "s"}, "3 or more"},
		{"not one of them", ClusterConfig{Node: "a", Listen: "127.0.0.1:5000", Peers: three, SecretFile: "s"}, "not among"},
		{"an address of no use", ClusterConfig{Node: "a", Listen: "0.0.0.0:4883", Peers: three, SecretFile: "s"}, "advertise"},
		{"no secret", ClusterConfig{Node: "a", Peers: three}, "secret_file"},
		{"both", ClusterConfig{Node: "a", Peers: three, SecretFile: "s", TLS: ClusterTLS{"c", "k", "a"}}, "keep one"},
		{"half", ClusterConfig{Node: "a", Peers: three, TLS: ClusterTLS{Cert: "c"}}, "all of"},
		{"NATS and peers", ClusterConfig{Node: "a", Peers: three, NATS: NATS{URL: "nats://127.0.0.1:4222"}}, "keep one"},
		{"NATS without an address", ClusterConfig{Node: "a", NATS: NATS{Credentials: "x.creds"}}, "url:"},
		{"no URL of NATS", ClusterConfig{Node: "a", NATS: NATS{URL: "nats-1:4222"}}, "nats://HOST:PORT"},
		{"a certificate without its key", ClusterConfig{Node: "a", NATS: NATS{URL: "tls://nats-1:4222"}, TLS: ClusterTLS{Cert: "c"}}, "cert and key"},
	} {
		problems := Config{Cluster: &c.of}.filled().problems(func(string) string { return "" })
		if !slices.ContainsFunc(problems, func(p Problem) bool { return strings.Contains(p.What, c.want) }) {
			t.Errorf("%s: %v, want something about %q", c.name, problems, c.want)
		}
	}
}

// Senders on three nodes at once get what the room's rate allows, and no more.
func TestARoomsRateHoldsAcrossNodes(t *testing.T) { onBoth(t, testARoomsRateHoldsAcrossNodes) }

func testARoomsRateHoldsAcrossNodes(t *testing.T, nodes []*Server) {
	const rate, each = 10, 10
	for n := range 3 { // whichever node counts
		room := createRoom(t, nodes[n], fmt.Sprint("rated-", n))
		viewers := make([]*websocket.Conn, len(nodes))
		for i, s := range nodes {
			viewers[i] = connect(t, s.MessagingURL(), tokenOf(t, s, room, fmt.Sprint("user-", i)))
		}
		began := time.Now()
		for range each {
			for _, v := range viewers {
				send(t, v, map[string]any{"Action": "SEND_MESSAGE", "Content": "x"})
			}
		}
		// Each request has an ERROR at its sender, or a MESSAGE at everybody.
		messages, refused := make([]int, len(viewers)), make([]int, len(viewers))
		var reading sync.WaitGroup
		var mu sync.Mutex
		settled := func() (accepted int, all bool) {
			mu.Lock()
			defer mu.Unlock()
			sum := 0
			for _, r := range refused {
				sum += r
			}
			for _, m := range messages {
				all = m+sum == each*len(viewers)
				if !all {
					return 0, false
				}
			}
			return messages[0], all
		}
		done := make(chan struct{})
		var once sync.Once
		for i, v := range viewers {
			reading.Go(func() {
				for {
					_, b, err := v.Read(t.Context())
					if err != nil {
						return
					}
					mu.Lock()
					if strings.Contains(string(b), `"MESSAGE"`) {
						messages[i]++
					} else {
						refused[i]++
					}
					mu.Unlock()
					if _, all := settled(); all {
						once.Do(func() { close(done) })
					}
				}
			})
		}
		<-done
		took := time.Since(began)
		for _, v := range viewers {
			v.CloseNow()
		}
		reading.Wait()
		accepted, _ := settled()
		most := rate + rate/2 + int(took.Seconds()*rate)
		if accepted < rate || accepted > most {
			t.Errorf("%d of %d messages were accepted within %v, want %d to %d", accepted, each*len(viewers), took, rate, most)
		}
	}
}

// An account has as many connections as its quota allows, whichever nodes they are on.
func TestTheConnectionQuotaHoldsAcrossNodes(t *testing.T) {
	const limit, each = 12, 10
	nodes := trio(t, func(_ int, c *Config) { c.Limits.Keys = map[string]string{"connections": fmt.Sprint(limit)} })
	room := createRoom(t, nodes[0], "full")
	var mu sync.Mutex
	var open []*websocket.Conn
	dial := func(s *Server, token string) {
		c, response, err := websocket.Dial(t.Context(), s.MessagingURL(), &websocket.DialOptions{Subprotocols: []string{token}})
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err == nil:
			open = append(open, c)
			t.Cleanup(func() { c.CloseNow() })
		case response == nil || response.StatusCode != 429:
			t.Errorf("a handshake ends with %v", err)
		}
	}
	storm := func() {
		var dialing sync.WaitGroup
		for i, s := range nodes {
			for n := range each {
				token := tokenOf(t, s, room, fmt.Sprint("user-", i, "-", n))
				dialing.Go(func() { dial(s, token) })
			}
		}
		dialing.Wait()
	}
	storm()
	if len(open) != limit {
		t.Fatalf("%d connections are open, want %d", len(open), limit)
	}
	// What one node has given back another may have.
	for _, c := range open {
		c.CloseNow()
	}
	open = nil
	for deadline := time.Now().Add(30 * time.Second); len(open) < limit && time.Now().Before(deadline); {
		dial(nodes[2], tokenOf(t, nodes[0], room, "again"))
	}
	storm()
	if len(open) != limit {
		t.Errorf("%d connections are open, want %d", len(open), limit)
	}
}

// Callers on three nodes at once get what the account's rate allows, and not three
// times as much.
func TestAnAccountsRateHoldsAcrossNodes(t *testing.T) {
	const rate, seconds = 5, 4
	nodes := trio(t, func(_ int, c *Config) { c.Limits.Keys = map[string]string{"get_room_per_second": fmt.Sprint(rate)} })
	room := createRoom(t, nodes[0], "rated")
	call := func(until func(status int) bool) (through, refused int) {
		var mu sync.Mutex
		var calling sync.WaitGroup
		for _, s := range nodes {
			caller := devCaller(t, s)
			calling.Go(func() {
				for began := time.Now(); ; {
					status, out := caller.call(t, "GetRoom", map[string]any{"identifier": room})
					mu.Lock()
					switch status {
					case 200:
						through++
					case 429:
						refused++
					default:
						t.Errorf("GetRoom answers %d: %v", status, out)
					}
					mu.Unlock()
					if until(status) || time.Since(began) > time.Minute { // a machine may be too slow to be refused
						return
					}
				}
			})
		}
		calling.Wait()
		return through, refused
	}
	call(func(status int) bool { return status == 429 }) // the second's worth that was there
	began := time.Now()
	through, refused := call(func(int) bool { return time.Since(began) > seconds*time.Second })
	took := time.Since(began).Seconds()
	// What the nodes let through beside one another before, they make up for.
	least, most := int(rate*(took-2)), int(1.5*rate*took)
	if refused > 0 && through < least || through > most {
		t.Errorf("%d calls went through and %d were refused in %.1f s at a rate of %d, want %d to %d", through, refused, took, rate, least, most)
	}
}

// A node whose hub is not there yet, or not any more, counts nothing: the others
// do so by themselves, and refuse nobody.
func TestANodeWithoutAHubRefusesNoMessage(t *testing.T) {
	nodes := trio(t)
	nodes[2].hub.Close()
	for n := range 8 { // whichever node is to count
		room := createRoom(t, nodes[0], fmt.Sprint("room-", n))
		viewer := connect(t, nodes[n%2].MessagingURL(), tokenOf(t, nodes[0], room, "alice"))
		send(t, viewer, map[string]any{"Action": "SEND_MESSAGE", "Content": "x"})
		if m := receive(t, viewer); m["Type"] != "MESSAGE" {
			t.Errorf("got %v", m)
		}
	}
}
