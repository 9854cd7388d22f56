package hubbub

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	"hubbub/engine/natstest"
)

// moving is what a service has before it is moved, and must have after.
type moving struct {
	rooms, configurations []string
	used, unused          string // tokens
	next                  string // nextToken behind the first room
	shows                 map[string]any
}

// look is everything of a service that its SDK shows, but for tokens.
func look(t *testing.T, s *Server) map[string]any {
	t.Helper()
	api, shows := devCaller(t, s), map[string]any{}
	for _, list := range []struct{ list, get, of string }{{"ListRooms", "GetRoom", "rooms"}, {"ListLoggingConfigurations", "GetLoggingConfiguration", "loggingConfigurations"}} {
		out := api.ok(t, list.list, map[string]any{"maxResults": 50})
		shows[list.list] = out
		for _, r := range out[list.of].([]any) {
			arn := r.(map[string]any)["arn"].(string)
			shows[arn] = api.ok(t, list.get, map[string]any{"identifier": arn})
		}
	}
	return shows
}

// stays fails the test unless a service has what it had.
func (m *moving) stays(t *testing.T, nodes ...*Server) {
	t.Helper()
	for i, s := range nodes {
		if diff := cmp.Diff(m.shows, look(t, s)); diff != "" {
			t.Errorf("node %d shows something else after the move (-before +after):\n%s", i, diff)
		}
		if _, response, err := websocket.Dial(t.Context(), s.MessagingURL(), &websocket.DialOptions{Subprotocols: []string{m.used}}); err == nil || response == nil || response.StatusCode != 401 {
			t.Errorf("a token that was used before the move opens a connection on node %d: %v", i, err)
		}
		out := devCaller(t, s).ok(t, "ListRooms", map[string]any{"maxResults": 1, "nextToken": m.next})
		if rooms := out["rooms"].([]any); len(rooms) != 1 || rooms[0].(map[string]any)["arn"] != m.shows["ListRooms"].(map[string]any)["rooms"].([]any)[1].(map[string]any)["arn"] {
			t.Errorf("a nextToken from before the move shows %v on node %d", rooms, i)
		}
	}
	connect(t, nodes[len(nodes)-1].MessagingURL(), m.unused)
}

// exported is an export of a place, and its checksum.
func exported(t *testing.T, p Place) (text string, sum Moved) {
	t.Helper()
	var b bytes.Buffer
	sum, err := Export(t.Context(), p, &b, true)
	if err != nil {
		t.Fatal(err)
	}
	return b.String(), sum
}

// logged waits until a text is in a file below a folder.
func logged(t *testing.T, folder, text string) {
	t.Helper()
	eventually(t, text+" is delivered below "+folder, func() bool {
		found := false
		_ = filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				b, _ := os.ReadFile(path)
				found = found || strings.Contains(string(b), text)
			}
			return nil
		})
		return found
	})
}

// Everything goes from one server to a cluster of three and back: resources, the
// keys of tokens, used tokens, and records that were not delivered.
func TestAServiceMovesToAClusterAndBack(t *testing.T) {
	t.Run("embedded", func(t *testing.T) { movesThereAndBack(t, trio) })
	t.Run("external", func(t *testing.T) { movesThereAndBack(t, outsideTrio) })
}

func movesThereAndBack(t *testing.T, cluster func(*testing.T, ...func(i int, c *Config)) []*Server) {
	nowhere := "http://" + natstest.FreeAddresses(t, 1)[0]
	broken := func() *LogTarget { return &LogTarget{Endpoint: nowhere, Region: "us-west-2", Flush: minFlush} }
	folder := func(name string) (string, *LogTarget) {
		path := filepath.Join(t.TempDir(), name)
		return path, &LogTarget{Directory: path, Flush: minFlush}
	}
	retry := Retry{Timeout: time.Second, MaxPause: minPause}

	alone := Config{Data: filepath.Join(t.TempDir(), "alone"), Logging: LoggingConfig{CloudWatchLogs: broken(), Retry: retry}}
	s, _ := node(t, alone)
	api, m := devCaller(t, s), moving{}
	for _, d := range []map[string]any{{"cloudWatchLogs": map[string]any{"logGroupName": "group"}}, {"firehose": map[string]any{"deliveryStreamName": "stream"}}} {
		out := api.ok(t, "CreateLoggingConfiguration", map[string]any{"destinationConfiguration": d, "tags": map[string]any{"k": "ü + v"}})
		m.configurations = append(m.configurations, out["arn"].(string))
	}
	for _, name := range []string{"one", "two", "three"} {
		out := api.ok(t, "CreateRoom", map[string]any{"name": name, "tags": map[string]any{"name": name}, "loggingConfigurationIdentifiers": m.configurations[:1]})
		m.rooms = append(m.rooms, out["arn"].(string))
	}
	api.ok(t, "UpdateRoom", map[string]any{"identifier": m.rooms[1], "loggingConfigurationIdentifiers": m.configurations[1:]})
	m.used, m.unused = api.token(t, m.rooms[0], "used"), api.token(t, m.rooms[0], "unused")
	m.next = api.ok(t, "ListRooms", map[string]any{"maxResults": 1})["nextToken"].(string)
	viewer := connect(t, s.MessagingURL(), m.used)
	send(t, viewer, map[string]any{"Action": "SEND_MESSAGE", "Content": "said on the one"})
	receive(t, viewer)
	m.shows = look(t, s)
	_, running := exported(t, Place{Data: alone.Data})
	if _, err := Migrate(t.Context(), Place{Data: alone.Data}, Place{Data: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "stop it first") {
		t.Errorf("what runs alone was moved away from under it: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	delivered, working := folder("cluster")
	nodes := cluster(t, func(_ int, c *Config) {
		c.Logging = LoggingConfig{CloudWatchLogs: working, Firehose: broken(), Retry: retry}
	})
	at := func(s *Server) Place { return Place{Data: s.Data()} }
	if devRoom := nodes[0].Room(); roomName(t, nodes[0], string(devRoom)) != "dev" {
		t.Fatal("the cluster has no room of its own")
	}
	text, before := exported(t, Place{Data: alone.Data})
	if before.Checksum != running.Checksum || before.Resources != 6 || before.UsedTokens != 1 || before.LogRecords != 1 {
		t.Errorf("the stopped server has %v, and had while it ran %v", before, running)
	}
	moved, err := Migrate(t.Context(), Place{Data: alone.Data}, at(nodes[1]))
	if err != nil {
		t.Fatal(err)
	}
	if moved.Checksum != before.Checksum || moved.LogRecords != 1 || moved.There != 0 {
		t.Errorf("moved %v, want %v", moved, before)
	}
	m.stays(t, nodes...)
	logged(t, delivered, "said on the one")
	for i, s := range nodes {
		if _, after := exported(t, at(s)); after.Checksum != before.Checksum || after.Resources != before.Resources {
			t.Errorf("node %d exports %v, want %v", i, after, before)
		}
	}

	// The same again changes nothing; another value is refused.
	again, err := Import(t.Context(), at(nodes[2]), strings.NewReader(text))
	if err != nil || again.There != before.Resources+before.Keys+before.UsedTokens {
		t.Errorf("imported again: %v, %v", again, err)
	}
	devCaller(t, nodes[0]).ok(t, "UpdateRoom", map[string]any{"identifier": m.rooms[0], "name": "changed-since"})
	if _, err := Import(t.Context(), at(nodes[2]), strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), "with another value") {
		t.Errorf("what was changed since is overwritten: %v", err)
	}
	if _, err := Import(t.Context(), at(nodes[2]), strings.NewReader(text[:len(text)/2])); err == nil || !strings.Contains(err.Error(), "cut off") {
		t.Errorf("half an export is imported: %v", err)
	}

	// Back, with what was said meanwhile on another node than the one that is asked.
	m.used, m.unused = tokenOf(t, nodes[0], m.rooms[1], "used"), tokenOf(t, nodes[2], m.rooms[1], "unused")
	viewer = connect(t, nodes[2].MessagingURL(), m.used)
	send(t, viewer, map[string]any{"Action": "SEND_MESSAGE", "Content": "said on the three"})
	receive(t, viewer)
	eventually(t, "the record is in the store", func() bool {
		_, sum := exported(t, at(nodes[0]))
		return sum.LogRecords == 1
	})
	m.shows, m.next = look(t, nodes[1]), devCaller(t, nodes[1]).ok(t, "ListRooms", map[string]any{"maxResults": 1})["nextToken"].(string)
	_, before = exported(t, at(nodes[0]))
	delivered, working = folder("back")
	back := Config{Data: filepath.Join(t.TempDir(), "back"), Logging: LoggingConfig{Firehose: working}}
	if moved, err = Migrate(t.Context(), at(nodes[0]), Place{Data: back.Data}); err != nil {
		t.Fatal(err)
	}
	if moved.Checksum != before.Checksum || moved.LogRecords != 1 || moved.UsedTokens != 3 {
		t.Errorf("moved back %v, want %v", moved, before)
	}
	s, _ = node(t, back)
	m.stays(t, s)
	logged(t, delivered, "said on the three")
	if _, after := exported(t, Place{Data: back.Data}); after.Checksum != before.Checksum {
		t.Errorf("the one exports %v, want %v", after, before)
	}
}

// A source that was written to while it was moved has something that the new
// service has not.
func TestWhatIsWrittenDuringAMoveIsNoticed(t *testing.T) {
	s, _ := node(t, Config{Data: filepath.Join(t.TempDir(), "data")})
	p := Place{Data: s.Data()}
	room := createRoom(t, s, "one")
	token := tokenOf(t, s, room, "late")
	update := func(name string) {
		devCaller(t, s).ok(t, "UpdateRoom", map[string]any{"identifier": room, "name": name})
	}
	remove := func(room string) {
		if status, out := devCaller(t, s).call(t, "DeleteRoom", map[string]any{"identifier": room}); status != 204 {
			t.Fatalf("DeleteRoom: status %d, %v", status, out)
		}
	}
	for _, meanwhile := range []struct {
		what string
		do   func()
		want error
	}{
		{"nothing", func() {}, nil},
		{"a room comes", func() { createRoom(t, s, "late") }, errWrittenTo},
		{"a room comes and goes", func() { remove(createRoom(t, s, "gone")) }, nil},
		{"a room changes", func() { update("two") }, errWrittenTo},
		{"a token is used", func() { connect(t, s.MessagingURL(), token) }, errWrittenTo},
		{"keys are rotated", func() { _ = s.RotateTokenKeys(context.Background()) }, errWrittenTo},
		{"a room goes", func() { remove(room) }, errWrittenTo},
	} {
		text, _ := exported(t, p)
		meanwhile.do()
		err := nothingNew(strings.NewReader(text), func(to io.Writer) error {
			_, err := Export(t.Context(), p, to, true)
			return err
		})
		if !errors.Is(err, meanwhile.want) || err != nil && meanwhile.want == nil {
			t.Errorf("%s meanwhile: %v, want %v", meanwhile.what, err, meanwhile.want)
		}
	}
}

// Another program that got the port of a server that was killed is told nothing.
func TestOnlyTheServerItselfIsAsked(t *testing.T) {
	s, _ := node(t, Config{Data: filepath.Join(t.TempDir(), "data")})
	other := t.TempDir()
	if err := writeRunning(filepath.Join(other, serverFile), running{Admin: s.AdminURL(), Secret: "of another", Cluster: true}); err != nil {
		t.Fatal(err)
	}
	if r, err := findRunning(t.Context(), other); r != nil || err != nil {
		t.Errorf("a server that does not know the secret is taken for it: %v, %v", r, err)
	}
	if r, err := findRunning(t.Context(), s.Data()); r == nil || err != nil || r.Cluster {
		t.Errorf("the server itself: %v, %v", r, err)
	}
	for _, path := range []string{exportPath, importPath} {
		if status, _ := get(t, s.AdminURL()+path); status == 200 {
			t.Errorf("%s answers without the secret", path)
		}
	}
}
