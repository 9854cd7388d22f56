package chatlog_test

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hubbub/chatlog"
	"hubbub/ivschat"
)

// TestNamesBecomeFiles shows that each name is one file below the folder.
func TestNamesBecomeFiles(t *testing.T) {
	group := func(name string) ivschat.DestinationConfiguration {
		return ivschat.DestinationConfiguration{CloudWatchLogs: &ivschat.CloudWatchLogsDestination{LogGroupName: name}}
	}
	stream := func(name string) ivschat.DestinationConfiguration {
		return ivschat.DestinationConfiguration{Firehose: &ivschat.FirehoseDestination{DeliveryStreamName: name}}
	}
	const room = "/aws/IVSChatLogs/1.0/room_abc123DEF456.log"
	for _, c := range []struct {
		name string
		to   ivschat.DestinationConfiguration
		want string
	}{
		{"a plain group", group("chat-logs_1.x"), "chat-logs_1.x" + room},
		{"a group with slashes", group("/aws/ivs/chat"), "%2Faws%2Fivs%2Fchat" + room},
		{"the folder above", group(".."), "%2E." + room},
		{"a way out", group("../../etc"), "%2E.%2F..%2Fetc" + room},
		{"the folder itself", group("."), "%2E" + room},
		{"a number sign", group("a#b"), "a%23b" + room},
		{"what looks like an escape", group("a%2Fb"), "a%252Fb" + room},
		{"another script", group("é"), "%C3%A9" + room},
		{"the longest that a file has in full", group(strings.Repeat("g", 239)), strings.Repeat("g", 239) + room},
		{"a delivery stream", stream("chat.logs"), "chat.logs.log"},
		{"a hidden delivery stream", stream(".incoming"), "%2Eincoming.log"},
		{"a delivery stream above", stream(".."), "%2E..log"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "logs")
			target := &chatlog.Target{Directory: path}
			d := openPlace(t, chatlog.Targets{CloudWatchLogs: target, Firehose: target}, c.to)
			mustPut(t, d, entriesOf(logRoom("abc123DEF456"), 0, 1))
			files := slices.Collect(maps.Keys(filesOf(t, filepath.Dir(path))))
			if len(files) != 1 || files[0] != "logs/"+c.want {
				t.Errorf("files %q, want logs/%s", files, c.want)
			}
		})
	}
}

func TestLongNamesDiffer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "logs")
	d := openTargets(t, chatlog.Targets{CloudWatchLogs: &chatlog.Target{Directory: path}})
	for _, end := range []string{"x", "y"} {
		to := ivschat.DestinationConfiguration{CloudWatchLogs: &ivschat.CloudWatchLogsDestination{LogGroupName: strings.Repeat("g", 511) + end}}
		group, err := d.Open(configurationOf(to))
		if err != nil {
			t.Fatal(err)
		}
		mustPut(t, group, entriesOf(logRoom("abc123DEF456"), 0, 1))
	}
	folders, err := os.ReadDir(path)
	if err != nil || len(folders) != 2 {
		t.Fatalf("%d folders, %v; want one for each group", len(folders), err)
	}
	for _, f := range folders {
		if name := f.Name(); len(name) != 240 || !strings.HasPrefix(name, strings.Repeat("g", 207)+"%") {
			t.Errorf("folder %s, want 207 letters and a hash", name)
		}
	}
}

func TestFoldersAndFilesAreTheServersAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "logs")
	target := &chatlog.Target{Directory: path}
	d := openTargets(t, chatlog.Targets{S3: target, CloudWatchLogs: target, Firehose: target})
	for _, to := range []ivschat.DestinationConfiguration{toS3, toLogs, toFirehose} {
		destination, err := d.Open(configurationOf(to))
		if err != nil {
			t.Fatal(err)
		}
		mustPut(t, destination, entriesOf(logRoom("abc123DEF456"), 0, 1))
	}
	files := 0
	err := filepath.Walk(filepath.Dir(path), func(name string, f os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		want := os.FileMode(0o700)
		if !f.IsDir() {
			files++
			want = 0o600
		}
		if got := f.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o, want %o", name, got, want)
		}
		return nil
	})
	if err != nil || files != 3 {
		t.Errorf("%d files, %v; want 3", files, err)
	}
}

// TestWhatACrashLeft cuts the last line off if it is not whole: its batch was
// not acknowledged.
func TestWhatACrashLeft(t *testing.T) {
	whole := string(lineOf(0, "hello", 0)) + "\n"
	for _, c := range []struct {
		name, left, kept string
	}{
		{"nothing", "", ""},
		{"whole lines", whole + whole, whole + whole},
		{"half a line", whole + whole[:20], whole},
		{"half of the only line", whole[:20], ""},
		{"a line without its end", whole + whole[:len(whole)-1], whole},
		{"half a line longer than a look", whole + strings.Repeat("x", 200<<10), whole},
		{"half a line as long as a look", whole + strings.Repeat("x", 64<<10), whole},
		{"half of an only line longer than a look", strings.Repeat("x", 200<<10), ""},
		{"blocks that were not written", whole + string(make([]byte, 4096)), whole},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := t.TempDir()
			file := filepath.Join(path, "chat-logs.log")
			if err := os.WriteFile(file, []byte(c.left), 0o600); err != nil {
				t.Fatal(err)
			}
			d := openPlace(t, chatlog.Targets{Firehose: &chatlog.Target{Directory: path}}, toFirehose)
			entries := entriesOf(logRoom("abc123DEF456"), 1, 2)
			mustPut(t, d, entries)
			got, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if want := c.kept + strings.Join(linesOf(entries), "\n") + "\n"; string(got) != want {
				t.Errorf("%d bytes, want %d: %.100q", len(got), len(want), got)
			}
		})
	}
}

func TestUnfinishedObjectsAreTakenAway(t *testing.T) {
	path := t.TempDir()
	incoming := filepath.Join(path, ".incoming")
	if err := os.Mkdir(incoming, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, age := range map[string]time.Duration{"object-old": 2 * time.Hour, "object-new": time.Minute} {
		file := filepath.Join(incoming, name)
		if err := os.WriteFile(file, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, time.Time{}, time.Now().Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	openTargets(t, chatlog.Targets{S3: &chatlog.Target{Directory: path}})
	if left := slices.Collect(maps.Keys(filesOf(t, path))); !slices.Equal(left, []string{".incoming/object-new"}) {
		t.Errorf("left %q; what may be another server's stays", left)
	}
}

// Two configurations may name one stream, and the lines of both must stay whole.
func TestTwoConfigurationsWriteToOneFile(t *testing.T) {
	path := t.TempDir()
	d := openTargets(t, chatlog.Targets{Firehose: &chatlog.Target{Directory: path}, CloudWatchLogs: &chatlog.Target{Directory: path}})
	var puts sync.WaitGroup
	for i := range 4 {
		destination, err := d.Open(configurationOf(toFirehose))
		if err != nil {
			t.Fatal(err)
		}
		puts.Go(func() {
			for k := range 25 {
				if _, _, err := destination.Put(t.Context(), entriesOf(logRoom("abc123DEF456"), 1000*i+10*k, 10)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	puts.Wait()
	got := split(t, filesOf(t, path)["chat-logs.log"])
	slices.Sort(got)
	if n := len(slices.Compact(got)); n != 1000 {
		t.Errorf("%d different lines, want 1,000", n)
	}
	for _, l := range got {
		if !bytes.HasPrefix([]byte(l), []byte(`{"event_timestamp":`)) || !strings.HasSuffix(l, `"version":"1.0"}`) {
			t.Fatalf("a line is not whole: %s", l)
		}
	}
}

// An operator who clears a log group must not have to restart the server.
func TestAFolderBelowIsMadeAgain(t *testing.T) {
	for _, p := range places {
		p := p.open(t)
		if p.service != nil {
			continue
		}
		room := logRoom("abc123DEF456")
		mustPut(t, p, entriesOf(room, 0, 2))
		entries, err := os.ReadDir(p.path)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if err := os.RemoveAll(filepath.Join(p.path, e.Name())); err != nil {
				t.Fatal(err)
			}
		}
		mustPut(t, p, entriesOf(room, 2, 2))
		sameLines(t, p.lines(t, room), linesOf(entriesOf(room, 2, 2)))
	}
}

func TestARelativeFolder(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, path := range []string{"logs", "./logs/", "logs/../logs", "."} {
		target := &chatlog.Target{Directory: path}
		d := openPlace(t, chatlog.Targets{S3: target}, toS3)
		mustPut(t, d, entriesOf(logRoom("abc123DEF456"), 0, 1))
	}
	if n := len(filesOf(t, "logs/chat-logs")) + len(filesOf(t, "chat-logs")); n != 4 {
		t.Errorf("%d objects, want 4", n)
	}
}

func TestAFolderThatCannotBeMade(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := chatlog.OpenDestinations(t.Context(), chatlog.Targets{S3: &chatlog.Target{Directory: filepath.Join(file, "logs")}})
	if err == nil || !strings.Contains(err.Error(), "logging.s3.directory") {
		t.Errorf("got %v, want an error that names the setting", err)
	}
}
