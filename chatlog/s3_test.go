package chatlog_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"hubbub/chatlog"
	"hubbub/ivschat"
)

// s3Place is a bucket whose service can be looked into.
func s3Place(t *testing.T) (*s3Service, chatlog.Destination) {
	t.Helper()
	s := newS3Service()
	startService(t, s.service)
	s.create(t, "chat-logs")
	return s, openPlace(t, chatlog.Targets{S3: &chatlog.Target{Endpoint: s.URL, PathStyle: true}}, toS3)
}

func oneEntry(room ivschat.ARN, at time.Time) []chatlog.Entry {
	return []chatlog.Entry{{Room: room, Received: at, Line: lineOf(0, "hello", 0)}}
}

// TestKeys compares with the example of the Chat User Guide.
func TestKeys(t *testing.T) {
	room := logRoom("abc123DEF456")
	for _, c := range []struct {
		name string
		at   time.Time
		want string // without the last 13 bits
		ms   uint64
	}{
		{"the example of the Chat User Guide", time.Date(2022, 10, 14, 17, 42, 13, 0, time.UTC),
			"AWSLogs/123456789012/IVSChatLogs/1.0/us-west-2/room_abc123DEF456/2022/10/14/17/123456789012_IVSChatLogs_1.0_us-west-2_room_abc123DEF456_20221014T1740Z_", 133_000},
		{"the first millisecond of a year", time.Date(2023, 1, 1, 0, 0, 0, 0, time.UTC),
			"AWSLogs/123456789012/IVSChatLogs/1.0/us-west-2/room_abc123DEF456/2023/01/01/00/123456789012_IVSChatLogs_1.0_us-west-2_room_abc123DEF456_20230101T0000Z_", 0},
		{"the last millisecond of a window", time.Date(2023, 1, 2, 3, 4, 59, 999e6, time.UTC),
			"AWSLogs/123456789012/IVSChatLogs/1.0/us-west-2/room_abc123DEF456/2023/01/02/03/123456789012_IVSChatLogs_1.0_us-west-2_room_abc123DEF456_20230102T0300Z_", 299_999},
		{"UTC whatever the zone", time.Date(2023, 1, 1, 1, 7, 0, 0, time.FixedZone("", 2*3600)),
			"AWSLogs/123456789012/IVSChatLogs/1.0/us-west-2/room_abc123DEF456/2022/12/31/23/123456789012_IVSChatLogs_1.0_us-west-2_room_abc123DEF456_20221231T2305Z_", 120_000},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, d := s3Place(t)
			mustPut(t, d, oneEntry(room, c.at))
			for key := range s.objects(t, "chat-logs") {
				rest, found := strings.CutPrefix(key, c.want)
				hash, ended := strings.CutSuffix(rest, ".log.gz")
				if !found || !ended || !regexp.MustCompile(`^[0-9a-f]{8}$`).MatchString(hash) {
					t.Fatalf("key %s\nwant %s<8 hex digits>.log.gz", key, c.want)
				}
				if n, err := strconv.ParseUint(hash, 16, 32); err != nil || n>>13 != c.ms {
					t.Errorf("hash %s begins with %d ms, want %d: keys must sort as the records came", hash, n>>13, c.ms)
				}
			}
		})
	}
}

func TestKeysSortAsRecordsCame(t *testing.T) {
	s, d := s3Place(t)
	room := logRoom("abc123DEF456")
	at := time.Date(2022, 10, 14, 17, 39, 0, 0, time.UTC)
	for i := range 200 {
		mustPut(t, d, oneEntry(room, at.Add(time.Duration(i)*1733*time.Millisecond)))
	}
	if keys := s.keys(); !slices.IsSorted(keys) || len(keys) != 200 {
		t.Errorf("%d keys, sorted: %t", len(keys), slices.IsSorted(keys))
	}
}

func TestAnHourAndARoomIsALane(t *testing.T) {
	_, d := s3Place(t)
	lane := d.Layout().Lane
	a := chatlog.Entry{Room: logRoom("a"), Received: time.Date(2022, 10, 14, 17, 59, 59, 999e6, time.UTC)}
	for _, c := range []struct {
		name string
		with chatlog.Entry
		same bool
	}{
		{"the same hour", chatlog.Entry{Room: a.Room, Received: a.Received.Add(-59 * time.Minute)}, true},
		{"another zone", chatlog.Entry{Room: a.Room, Received: a.Received.In(time.FixedZone("", 1800))}, true},
		{"the next hour", chatlog.Entry{Room: a.Room, Received: a.Received.Add(time.Millisecond)}, false},
		{"the same hour of the next day", chatlog.Entry{Room: a.Room, Received: a.Received.Add(24 * time.Hour)}, false},
		{"another room", chatlog.Entry{Room: logRoom("b"), Received: a.Received}, false},
	} {
		if got := lane(a) == lane(c.with); got != c.same {
			t.Errorf("%s: same lane %t, want %t", c.name, got, c.same)
		}
	}
}

func TestEachAttemptHasAKeyOfItsOwn(t *testing.T) {
	s, d := s3Place(t)
	entries := oneEntry(logRoom("abc123DEF456"), received)
	for _, f := range []fault{{cut: true, after: true}, {status: 500, code: "InternalError"}, {cut: true, after: true}, {}} {
		s.set(f)
		_, _, _ = d.Put(attempt(t), entries)
	}
	if objects := s.objects(t, "chat-logs"); len(objects) != 3 {
		t.Errorf("%d objects, want one for each attempt that was written", len(objects))
	}
}

func TestATakenKeyIsNotWrittenAgain(t *testing.T) {
	s, d := s3Place(t)
	s.taken = 2
	mustPut(t, d, oneEntry(logRoom("abc123DEF456"), received))
	keys := s.keys()
	slices.Sort(keys)
	if n := len(slices.Compact(keys)); n != 3 || len(s.objects(t, "chat-logs")) != 1 {
		t.Errorf("%d keys were tried, want 3; %d objects", n, len(s.objects(t, "chat-logs")))
	}
}

// Every key of a millisecond is there already: nothing of it may change.
func TestNoObjectIsOverwritten(t *testing.T) {
	room, name := logRoom("abc123DEF456"), "AWSLogs/123456789012/IVSChatLogs/1.0/us-west-2/room_abc123DEF456/2022/10/14/17/123456789012_IVSChatLogs_1.0_us-west-2_room_abc123DEF456_20221014T1740Z_%08x.log.gz"
	s, d := s3Place(t)
	folder := filepath.Join(t.TempDir(), "logs")
	onDisk := openPlace(t, chatlog.Targets{S3: &chatlog.Target{Directory: folder}}, toS3)
	for low := range uint32(1 << 13) {
		key := fmt.Sprintf(name, uint32(133_123)<<13|low)
		if _, err := s.backend.PutObject("chat-logs", key, map[string]string{}, bytes.NewReader([]byte("old")), 3, nil); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(folder, "chat-logs", key)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for at, d := range map[string]chatlog.Destination{"S3": d, "directory": onDisk} {
		putFails(t, d, oneEntry(room, received), chatlog.Other, chatlog.Passing)
		objects := filesOf(t, filepath.Join(folder, "chat-logs"))
		if at == "S3" {
			objects = s.objects(t, "chat-logs")
		}
		for key, content := range objects {
			if string(content) != "old" {
				t.Errorf("%s: %s was overwritten", at, key)
			}
		}
	}
	if left, _ := os.ReadDir(filepath.Join(folder, ".incoming")); len(left) > 0 {
		t.Errorf("%d unfinished objects are left", len(left))
	}
}

func TestAServerWithoutConditionsIsWrittenTo(t *testing.T) {
	s, d := s3Place(t)
	s.old = true
	for i := range 2 {
		mustPut(t, d, oneEntry(logRoom("abc123DEF456"), received.Add(time.Duration(i)*time.Second)))
	}
	if n := s.called(); n != 3 {
		t.Errorf("%d requests, want 3: the condition is tried once", n)
	}
	sameLines(t, unpack(t, s.objects(t, "chat-logs")), []string{string(lineOf(0, "hello", 0)), string(lineOf(0, "hello", 0))})
}

func TestARoomThatHasNoNameIsLost(t *testing.T) {
	_, d := s3Place(t)
	left, lost, err := d.Put(attempt(t), oneEntry("arn:aws:ivschat:us-west-2:123456789012:room/../..", received))
	if left != nil || lost != 1 || err != nil {
		t.Errorf("left %v, lost %d, %v; want 1 lost: it would block its lane for ever", left, lost, err)
	}
}

func TestABucketInTheHost(t *testing.T) {
	s := newS3Service()
	startService(t, s.service)
	hosts := make(chan string, 1)
	handle := s.handle
	s.handle = func(w http.ResponseWriter, r *http.Request, body []byte) {
		hosts <- r.Host
		r.URL.Path = "/chat-logs" + r.URL.Path
		handle(w, r, body)
	}
	s.create(t, "chat-logs")
	_, port, _ := strings.Cut(strings.TrimPrefix(s.URL, "http://"), ":")
	d := openPlace(t, chatlog.Targets{S3: &chatlog.Target{Endpoint: "http://localhost:" + port}}, toS3)
	_, _, err := d.Put(attempt(t), oneEntry(logRoom("abc123DEF456"), received))
	select {
	case host := <-hosts:
		if !strings.HasPrefix(host, "chat-logs.localhost:") || err != nil {
			t.Errorf("host %s, %v", host, err)
		}
	default:
		t.Skipf("this machine does not know chat-logs.localhost: %v", err)
	}
}

func TestObjectsArePacked(t *testing.T) {
	s, d := s3Place(t)
	mustPut(t, d, entriesOf(logRoom("abc123DEF456"), 0, 1000))
	for key, b := range s.objects(t, "chat-logs") {
		if len(b) > 20_000 {
			t.Errorf("%s has %d bytes of 1,000 lines that are much the same", key, len(b))
		}
	}
}
