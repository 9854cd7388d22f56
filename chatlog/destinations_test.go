package chatlog_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/google/go-cmp/cmp"

	"hubbub/chatlog"
	"hubbub/ivschat"
)

// received is the receipt of the first record of a test.
var received = time.Date(2022, 10, 14, 17, 42, 13, 123e6, time.UTC)

var logScope = ivschat.Scope{Account: "123456789012", Region: serviceRegion}

func logRoom(id string) ivschat.ARN { return logScope.ARN(ivschat.RoomType, id) }

// lineOf is a record of n bytes, or of its own size if n is 0.
func lineOf(i int, content string, n int) []byte {
	payload := fmt.Sprintf(`{"Type":"MESSAGE","Id":"%012d","RequestId":"","Attributes":null,"Content":%q}`, i, content)
	b := ivschat.Record{Type: ivschat.MessageRecord, Received: received, Payload: []byte(payload)}.Encode()
	if n > 0 {
		b = ivschat.Record{Type: ivschat.MessageRecord, Received: received, Payload: []byte(strings.Replace(payload, content, content+strings.Repeat("x", n-len(b)), 1))}.Encode()
	}
	return b
}

// entriesOf are n records of a room, a millisecond apart.
func entriesOf(room ivschat.ARN, first, n int) []chatlog.Entry {
	entries := make([]chatlog.Entry, n)
	for i := range entries {
		entries[i] = chatlog.Entry{Room: room, Received: received.Add(time.Duration(first+i) * time.Millisecond), Line: lineOf(first+i, "hello", 0)}
	}
	return entries
}

func linesOf(entries []chatlog.Entry) (lines []string) {
	for _, e := range entries {
		lines = append(lines, string(e.Line))
	}
	return lines
}

// place is a destination with the way to look at what it has, and to break it.
type place struct {
	chatlog.Destination
	lines   func(t *testing.T, room ivschat.ARN) []string // in the order in which a reader finds them
	hide    func(gone bool)
	service *service // nil for a directory
	path    string   // of a directory
}

// places are all kinds, each new.
var places = []struct {
	name string
	open func(t *testing.T) *place
}{
	{"S3", func(t *testing.T) *place {
		s := newS3Service()
		startService(t, s.service)
		s.create(t, "chat-logs")
		return &place{
			Destination: openPlace(t, chatlog.Targets{S3: &chatlog.Target{Endpoint: s.URL, PathStyle: true}}, toS3),
			lines:       func(t *testing.T, _ ivschat.ARN) []string { return unpack(t, s.objects(t, "chat-logs")) },
			service:     s.service,
			hide: func(gone bool) {
				if !gone {
					s.create(t, "chat-logs")
				} else if err := s.backend.ForceDeleteBucket("chat-logs"); err != nil {
					t.Fatal(err)
				}
			},
		}
	}},
	{"directory of S3", func(t *testing.T) *place {
		path := filepath.Join(t.TempDir(), "logs")
		return &place{
			Destination: openPlace(t, chatlog.Targets{S3: &chatlog.Target{Directory: path}}, toS3),
			lines: func(t *testing.T, _ ivschat.ARN) []string {
				return unpack(t, filesOf(t, filepath.Join(path, "chat-logs")))
			},
			path: path, hide: hideFolder(t, path),
		}
	}},
	{"CloudWatch Logs", func(t *testing.T) *place {
		l := newLogsService(received)
		startService(t, l.service)
		l.createLogGroup("/chat/logs")
		return &place{
			Destination: openPlace(t, chatlog.Targets{CloudWatchLogs: &chatlog.Target{Endpoint: l.URL}}, toLogs),
			lines: func(_ *testing.T, room ivschat.ARN) []string {
				return l.messages("/chat/logs", "aws/IVSChatLogs/1.0/room_"+room.ID())
			},
			service: l.service, hide: func(gone bool) { l.hide("/chat/logs", gone) },
		}
	}},
	{"directory of CloudWatch Logs", func(t *testing.T) *place {
		path := filepath.Join(t.TempDir(), "logs")
		return &place{
			Destination: openPlace(t, chatlog.Targets{CloudWatchLogs: &chatlog.Target{Directory: path}}, toLogs),
			lines: func(t *testing.T, room ivschat.ARN) []string {
				return split(t, filesOf(t, path)["%2Fchat%2Flogs/aws/IVSChatLogs/1.0/room_"+room.ID()+".log"])
			},
			path: path, hide: hideFolder(t, path),
		}
	}},
	{"Firehose", func(t *testing.T) *place {
		f := newFirehoseService()
		startService(t, f.service)
		f.create("chat-logs")
		return &place{
			Destination: openPlace(t, chatlog.Targets{Firehose: &chatlog.Target{Endpoint: f.URL}}, toFirehose),
			lines: func(t *testing.T, _ ivschat.ARN) []string {
				return split(t, []byte(strings.Join(f.data("chat-logs"), "")))
			},
			service: f.service, hide: func(gone bool) { f.hide("chat-logs", gone) },
		}
	}},
	{"directory of Firehose", func(t *testing.T) *place {
		path := filepath.Join(t.TempDir(), "logs")
		return &place{
			Destination: openPlace(t, chatlog.Targets{Firehose: &chatlog.Target{Directory: path}}, toFirehose),
			lines:       func(t *testing.T, _ ivschat.ARN) []string { return split(t, filesOf(t, path)["chat-logs.log"]) },
			path:        path, hide: hideFolder(t, path),
		}
	}},
}

// The destinations of the tests.
var (
	toS3       = ivschat.DestinationConfiguration{S3: &ivschat.S3Destination{BucketName: "chat-logs"}}
	toLogs     = ivschat.DestinationConfiguration{CloudWatchLogs: &ivschat.CloudWatchLogsDestination{LogGroupName: "/chat/logs"}}
	toFirehose = ivschat.DestinationConfiguration{Firehose: &ivschat.FirehoseDestination{DeliveryStreamName: "chat-logs"}}
)

var devCredentials = credentials.NewStaticCredentialsProvider(serviceKey, serviceSecret, "")

// withoutChain takes whatever credentials the machine has out of the SDK's sight.
func withoutChain(t *testing.T) {
	t.Helper()
	nothing := filepath.Join(t.TempDir(), "none")
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, "")
		}
	}
	t.Setenv("AWS_CONFIG_FILE", nothing)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", nothing)
}

func openTargets(t *testing.T, targets chatlog.Targets) *chatlog.Destinations {
	t.Helper()
	withoutChain(t)
	if targets.DevCredentials == nil {
		targets.DevCredentials = devCredentials
	}
	d, err := chatlog.OpenDestinations(t.Context(), targets)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

func configurationOf(to ivschat.DestinationConfiguration) *ivschat.LoggingConfiguration {
	return &ivschat.LoggingConfiguration{ARN: logScope.ARN(ivschat.LoggingConfigurationType, "AbCdEf123456"), DestinationConfiguration: to}
}

func openPlace(t *testing.T, targets chatlog.Targets, to ivschat.DestinationConfiguration) chatlog.Destination {
	t.Helper()
	destination, err := openTargets(t, targets).Open(configurationOf(to))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(destination.Close)
	return destination
}

// hideFolder takes a folder away, and brings it back.
func hideFolder(t *testing.T, path string) func(gone bool) {
	return func(gone bool) {
		t.Helper()
		from, to := path, path+".away"
		if !gone {
			from, to = to, from
		}
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
}

// filesOf are the contents of all files below a folder, by their paths in it.
func filesOf(t *testing.T, folder string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	err := filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, err := filepath.Rel(folder, path)
		if err != nil {
			return err
		}
		files[filepath.ToSlash(name)], err = os.ReadFile(path)
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return files
}

// unpack reads objects as the readers out there do: sort the keys, gunzip, split.
func unpack(t *testing.T, objects map[string][]byte) (lines []string) {
	t.Helper()
	for _, key := range slices.Sorted(maps.Keys(objects)) {
		r, err := gzip.NewReader(bytes.NewReader(objects[key]))
		if err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		lines = append(lines, split(t, b)...)
	}
	return lines
}

func split(t *testing.T, b []byte) []string {
	t.Helper()
	if len(b) == 0 {
		return nil
	}
	text, ended := strings.CutSuffix(string(b), "\n")
	if !ended {
		t.Errorf("the last line is not ended: %.40q", text[max(len(text)-40, 0):])
	}
	return strings.Split(text, "\n")
}

func attempt(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func mustPut(t *testing.T, d chatlog.Destination, entries []chatlog.Entry) {
	t.Helper()
	left, lost, err := d.Put(attempt(t), entries)
	if err != nil || len(left) > 0 || lost > 0 {
		t.Fatalf("Put of %d: left %v, lost %d, %v", len(entries), left, lost, err)
	}
}

// putFails puts and wants a failure that leaves every entry.
func putFails(t *testing.T, d chatlog.Destination, entries []chatlog.Entry, kind chatlog.Kind, class chatlog.Class) *chatlog.Failure {
	t.Helper()
	left, lost, err := d.Put(attempt(t), entries)
	if len(left) != len(entries) || lost != 0 {
		t.Errorf("a failure left %d of %d and lost %d", len(left), len(entries), lost)
	}
	return wantFailure(t, err, kind, class)
}

func wantFailure(t *testing.T, err error, kind chatlog.Kind, class chatlog.Class) *chatlog.Failure {
	t.Helper()
	var f *chatlog.Failure
	if !errors.As(err, &f) {
		t.Fatalf("got %v, want a Failure", err)
	}
	if f.Kind != kind || f.Class != class {
		t.Errorf("got %s, %v; want %s, %s", f.Kind, f, kind, class)
	}
	for _, secret := range []string{"MESSAGE", "hello", serviceSecret, "Signature="} {
		if strings.Contains(f.Error(), secret) {
			t.Errorf("the text of a failure has %q in it: %v", secret, f)
		}
	}
	return f
}

func sameLines(t *testing.T, got, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d lines are there, want %d", len(got), len(want))
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("lines (-want +got):\n%s", d)
	}
}

// TestDestinations is what all of them must do.
func TestDestinations(t *testing.T) {
	room := logRoom("abc123DEF456")
	cases := []struct {
		name string
		run  func(t *testing.T, p *place)
	}{
		{"batches keep the order of the room", func(t *testing.T, p *place) {
			entries := entriesOf(room, 0, 30)
			for batch := range slices.Chunk(entries, 7) {
				mustPut(t, p, batch)
			}
			sameLines(t, p.lines(t, room), linesOf(entries))
		}},
		{"an empty batch writes nothing", func(t *testing.T, p *place) {
			mustPut(t, p, nil)
			if got := p.lines(t, room); len(got) > 0 {
				t.Errorf("%d lines of nothing", len(got))
			}
		}},
		{"text comes as it is", func(t *testing.T, p *place) {
			entries := entriesOf(room, 0, 1)
			for i, content := range []string{"é", "日本語 👩‍👩‍👧 \u2028", `\u00e9 \n "`, "\u0000", "<&>'"} {
				entries = append(entries, chatlog.Entry{Room: room, Received: received.Add(time.Duration(i+1) * time.Millisecond), Line: lineOf(i+1, content, 0)})
			}
			mustPut(t, p, entries)
			sameLines(t, p.lines(t, room), linesOf(entries))
		}},
		{"the largest batch of bytes is taken, and one byte less", func(t *testing.T, p *place) {
			for i, less := range []int{0, 1} {
				const n = 8
				entries, of := entriesOf(room, n*i, n), p.Layout()
				each := of.MaxBytes/n - of.Overhead
				for k := range entries {
					entries[k].Line = lineOf(n*i+k, "hello", each)
				}
				entries[n-1].Line = lineOf(n*i+n-1, "hello", each+of.MaxBytes%n-less)
				mustPut(t, p, entries)
			}
			if got := p.lines(t, room); len(got) != 16 {
				t.Errorf("%d lines, want 16", len(got))
			}
		}},
		{"the largest batch of entries is taken, and one entry less", func(t *testing.T, p *place) {
			n := min(p.Layout().MaxEntries, 10_000) // objects have no bound of their own
			entries := entriesOf(room, 0, 2*n-1)
			for i := range entries { // short, to stay below the bytes
				entries[i].Line = fmt.Appendf(nil, `{"n":%d}`, i)
			}
			mustPut(t, p, entries[:n])
			mustPut(t, p, entries[n:])
			sameLines(t, p.lines(t, room), linesOf(entries))
		}},
		{"a missing destination is final, and taken when it is back", func(t *testing.T, p *place) {
			entries := entriesOf(room, 0, 5)
			p.hide(true)
			putFails(t, p, entries, chatlog.NotFound, chatlog.Final)
			p.hide(false)
			mustPut(t, p, entries)
			sameLines(t, p.lines(t, room), linesOf(entries))
		}},
		{"a destination goes and comes back between batches", func(t *testing.T, p *place) {
			entries := entriesOf(room, 0, 6)
			mustPut(t, p, entries[:3])
			before := p.lines(t, room)
			p.hide(true)
			putFails(t, p, entries[3:], chatlog.NotFound, chatlog.Final)
			p.hide(false)
			mustPut(t, p, entries[3:])
			after := p.lines(t, room)
			sameLines(t, after[len(after)-3:], linesOf(entries[3:]))
			if p.service == nil || p.service.name != "s3" { // a new bucket is empty
				sameLines(t, after[:3], before)
			}
		}},
		{"rooms at once", func(t *testing.T, p *place) {
			var all sync.WaitGroup
			batches := map[ivschat.ARN][]chatlog.Entry{}
			for r := range 8 {
				batches[logRoom(fmt.Sprintf("room%08d", r))] = nil
			}
			for r := range batches {
				batches[r] = entriesOf(r, 0, 20)
			}
			for _, entries := range batches {
				all.Go(func() {
					for batch := range slices.Chunk(entries, 5) {
						if _, _, err := p.Put(t.Context(), batch); err != nil {
							t.Error(err)
						}
					}
				})
			}
			all.Wait()
			n := map[string]int{}
			for _, l := range everyLine(t, p, batches) {
				n[l]++
			}
			if len(n) != 20 {
				t.Errorf("%d different lines, want 20", len(n))
			}
			for l, times := range n {
				if times != len(batches) {
					t.Errorf("%s is there %d times, want one for each of %d rooms", l, times, len(batches))
				}
			}
		}},
	}
	for _, p := range places {
		t.Run(p.name, func(t *testing.T) {
			for _, c := range cases {
				t.Run(c.name, func(t *testing.T) { c.run(t, p.open(t)) })
			}
		})
	}
}

// everyLine reads all rooms; where they lie together, each line once.
func everyLine(t *testing.T, p *place, rooms map[ivschat.ARN][]chatlog.Entry) (lines []string) {
	t.Helper()
	for r := range rooms {
		got := p.lines(t, r)
		if len(got) > 20 {
			return got
		}
		lines = append(lines, got...)
	}
	return lines
}

// TestServicesThatFail is what an answer means, for those that are called.
func TestServicesThatFail(t *testing.T) {
	room := logRoom("abc123DEF456")
	cases := []struct {
		name  string
		fault fault
		kind  chatlog.Kind
		class chatlog.Class
		after time.Duration
	}{
		{"refused", fault{status: 403, code: "AccessDenied"}, chatlog.AccessDenied, chatlog.Final, 0},
		{"refused as the JSON protocols do it", fault{status: 400, code: "AccessDeniedException"}, chatlog.AccessDenied, chatlog.Final, 0},
		{"an expired token", fault{status: 400, code: "ExpiredTokenException"}, chatlog.AccessDenied, chatlog.Final, 0},
		{"an unknown key", fault{status: 400, code: "UnrecognizedClientException"}, chatlog.AccessDenied, chatlog.Final, 0},
		{"refused by a proxy", fault{status: 401, code: "Nonsense"}, chatlog.AccessDenied, chatlog.Final, 0},
		{"missing, says a proxy", fault{status: 404, code: "Nonsense"}, chatlog.NotFound, chatlog.Final, 0},
		{"throttled", fault{status: 400, code: "ThrottlingException"}, chatlog.Other, chatlog.Throttled, 0},
		{"throttled with a pause", fault{status: 429, code: "TooManyRequests", retryAfter: "7"}, chatlog.Other, chatlog.Throttled, 7 * time.Second},
		{"told to slow down", fault{status: 503, code: "SlowDown"}, chatlog.Other, chatlog.Throttled, 0},
		{"unavailable", fault{status: 503, code: "ServiceUnavailableException", retryAfter: "1"}, chatlog.Other, chatlog.Throttled, time.Second},
		{"an error inside", fault{status: 500, code: "InternalFailure"}, chatlog.Other, chatlog.Passing, 0},
		{"a bad gateway", fault{status: 502, code: "Nonsense"}, chatlog.Other, chatlog.Passing, 0},
		{"too slow for the service", fault{status: 400, code: "RequestTimeout"}, chatlog.Other, chatlog.Passing, 0},
		{"not understood", fault{status: 400, code: "InvalidRequest"}, chatlog.Other, chatlog.Final, 0},
		{"a message that repeats the request", fault{status: 400, code: "InvalidRequest", repeats: true}, chatlog.Other, chatlog.Final, 0},
		{"a code that is a line", fault{status: 400, code: `{"Type":"MESSAGE","Content":"hello"}`}, chatlog.Other, chatlog.Final, 0},
		{"cut off", fault{cut: true}, chatlog.Other, chatlog.Passing, 0},
		{"sent elsewhere", fault{redirect: "http://127.0.0.1:1"}, chatlog.Other, chatlog.Final, 0},
	}
	for _, kind := range places {
		t.Run(kind.name, func(t *testing.T) {
			p := kind.open(t)
			if p.service == nil {
				t.Skip("a directory is not called")
			}
			entries := entriesOf(room, 0, 3)
			for _, c := range cases {
				t.Run(c.name, func(t *testing.T) {
					before := p.service.called()
					p.service.set(c.fault)
					if f := putFails(t, p, entries, c.kind, c.class); f.After != c.after {
						t.Errorf("after %s, want %s", f.After, c.after)
					}
					if n := p.service.called() - before; n != 1 {
						t.Errorf("%d requests; the delivery retries, not the client", n)
					}
				})
			}
			p.service.set(fault{})
			mustPut(t, p, entries)
			sameLines(t, p.lines(t, room), linesOf(entries))
		})
	}
}

func TestAnAnswerThatDoesNotCome(t *testing.T) {
	room := logRoom("abc123DEF456")
	for _, kind := range places {
		t.Run(kind.name, func(t *testing.T) {
			p := kind.open(t)
			if p.service == nil {
				t.Skip("a directory is not called")
			}
			p.service.set(fault{hangs: true})
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			entries := entriesOf(room, 0, 3)
			left, _, err := p.Put(ctx, entries)
			wantFailure(t, err, chatlog.Other, chatlog.Passing)
			if len(left) != 3 || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("left %v, %v; want all, and that the time ran out", left, err)
			}
			p.service.set(fault{})
			mustPut(t, p, entries)
			sameLines(t, p.lines(t, room), linesOf(entries))
		})
	}
}

func TestALostAnswerDoublesAndLosesNothing(t *testing.T) {
	room := logRoom("abc123DEF456")
	for _, kind := range places {
		t.Run(kind.name, func(t *testing.T) {
			p := kind.open(t)
			if p.service == nil {
				t.Skip("a directory is not called")
			}
			entries := entriesOf(room, 0, 3)
			mustPut(t, p, entries) // makes the stream
			more := entriesOf(room, 3, 3)
			p.service.set(fault{cut: true, after: true})
			putFails(t, p, more, chatlog.Other, chatlog.Passing)
			p.service.set(fault{})
			mustPut(t, p, more)
			want := slices.Concat(linesOf(entries), linesOf(more), linesOf(more))
			sameLines(t, p.lines(t, room), want)
		})
	}
}

func TestHalfAnAnswer(t *testing.T) {
	for _, kind := range places {
		t.Run(kind.name, func(t *testing.T) {
			p := kind.open(t)
			if p.service == nil || p.service.name == "s3" {
				t.Skip("has no body of an answer")
			}
			mustPut(t, p, entriesOf(logRoom("abc123DEF456"), 0, 3))
			p.service.set(fault{half: true})
			putFails(t, p, entriesOf(logRoom("abc123DEF456"), 3, 3), chatlog.Other, chatlog.Passing)
		})
	}
}

func TestNobodyListens(t *testing.T) {
	for _, kind := range places {
		t.Run(kind.name, func(t *testing.T) {
			p := kind.open(t)
			if p.service == nil {
				t.Skip("a directory is not called")
			}
			p.service.Close()
			f := putFails(t, p, entriesOf(logRoom("abc123DEF456"), 0, 1), chatlog.Other, chatlog.Passing)
			if !strings.Contains(f.Error(), "connection refused") {
				t.Errorf("%v does not say that nobody listens", f)
			}
		})
	}
}

func TestAWrongSecretIsRefused(t *testing.T) {
	withoutChain(t)
	l := newLogsService(received)
	startService(t, l.service)
	l.createLogGroup("/chat/logs")
	d := openTargets(t, chatlog.Targets{
		CloudWatchLogs: &chatlog.Target{Endpoint: l.URL},
		DevCredentials: credentials.NewStaticCredentialsProvider(serviceKey, "wrong", ""),
	})
	destination, err := d.Open(configurationOf(toLogs))
	if err != nil {
		t.Fatal(err)
	}
	putFails(t, destination, entriesOf(logRoom("abc123DEF456"), 0, 1), chatlog.AccessDenied, chatlog.Final)
	if err := d.Check(t.Context(), logScope, toLogs); !errors.Is(err, ivschat.AccessDenied) {
		t.Errorf("Check: %v, want AccessDenied", err)
	}
}

// TestCheck is what is said before a configuration is created or changed.
func TestCheck(t *testing.T) {
	s, l, f := newS3Service(), newLogsService(received), newFirehoseService()
	for _, each := range []*service{s.service, l.service, f.service} {
		startService(t, each)
	}
	s.create(t, "chat-logs")
	l.createLogGroup("/chat/logs")
	f.create("chat-logs")
	var log bytes.Buffer
	d := openTargets(t, chatlog.Targets{
		S3:             &chatlog.Target{Endpoint: s.URL, PathStyle: true},
		CloudWatchLogs: &chatlog.Target{Endpoint: l.URL}, Firehose: &chatlog.Target{Endpoint: f.URL},
		Log: slog.New(slog.NewTextHandler(&log, nil)),
	})
	missing := []ivschat.DestinationConfiguration{
		{S3: &ivschat.S3Destination{BucketName: "no-logs"}},
		{CloudWatchLogs: &ivschat.CloudWatchLogsDestination{LogGroupName: "/chat"}}, // how one begins that is there
		{Firehose: &ivschat.FirehoseDestination{DeliveryStreamName: "no-logs"}},
	}
	for i, to := range []ivschat.DestinationConfiguration{toS3, toLogs, toFirehose} {
		service := []*service{s.service, l.service, f.service}[i]
		t.Run(service.name, func(t *testing.T) {
			for _, c := range []struct {
				name   string
				to     ivschat.DestinationConfiguration
				fault  fault
				want   error
				logged bool
			}{
				{"it is there", to, fault{}, nil, false},
				{"it is not there", missing[i], fault{}, ivschat.NotFound, false},
				{"it refuses", to, fault{status: 403, code: "AccessDenied"}, ivschat.AccessDenied, true},
				{"the service fails", to, fault{status: 500, code: "InternalError"}, nil, true},
				{"the service has too much to do", to, fault{status: 503, code: "SlowDown"}, nil, true},
				{"no answer", to, fault{cut: true}, nil, true},
			} {
				log.Reset()
				service.set(c.fault)
				err := d.Check(t.Context(), logScope, c.to)
				if !errors.Is(err, c.want) {
					t.Errorf("%s: got %v, want %v", c.name, err, c.want)
				}
				var e *ivschat.Error
				if errors.As(err, &e) && (e.Resource != logScope.Account || strings.Contains(e.Message, "127.0.0.1")) {
					t.Errorf("%s: %q of %q; the account stands for what has no id, and where it lives is ours", c.name, e.Message, e.Resource)
				}
				if logged := strings.Contains(log.String(), "level=WARN"); logged != c.logged {
					t.Errorf("%s: logged %t, want %t: %s", c.name, logged, c.logged, &log)
				}
			}
			service.set(fault{hangs: true})
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			if err := d.Check(ctx, logScope, to); err != nil {
				t.Errorf("a service that hangs: %v, want nil: it cannot be told", err)
			}
		})
	}
}

func TestADirectoryHasEveryName(t *testing.T) {
	path := filepath.Join(t.TempDir(), "logs")
	at := &chatlog.Target{Directory: path}
	d := openTargets(t, chatlog.Targets{S3: at, CloudWatchLogs: at, Firehose: at})
	for _, to := range []ivschat.DestinationConfiguration{toS3, toLogs, toFirehose} {
		if err := d.Check(t.Context(), logScope, to); err != nil {
			t.Error(err)
		}
	}
	if left := filesOf(t, path); len(left) > 0 {
		t.Errorf("the question left %d files", len(left))
	}
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	if err := d.Check(t.Context(), logScope, toS3); !errors.Is(err, ivschat.NotFound) {
		t.Errorf("a folder that is gone: %v, want NotFound", err)
	}
}

func TestAKindThatTheServerHasNot(t *testing.T) {
	d := openTargets(t, chatlog.Targets{})
	for key, to := range map[string]ivschat.DestinationConfiguration{"s3": toS3, "cloudwatch_logs": toLogs, "firehose": toFirehose} {
		_, err := d.Open(configurationOf(to))
		wantFailure(t, err, chatlog.NotFound, chatlog.Final)
		err = d.Check(t.Context(), logScope, to)
		if !errors.Is(err, ivschat.NotFound) || !strings.Contains(err.Error(), "logging: {"+key+": {endpoint: URL}}") {
			t.Errorf("%s: %v; want NotFound and what to write", key, err)
		}
	}
}

// TestTheRegion is that of the target, or else that of the configuration.
func TestTheRegion(t *testing.T) {
	l := newLogsService(received)
	startService(t, l.service)
	l.createLogGroup("/chat/logs")
	d := openTargets(t, chatlog.Targets{CloudWatchLogs: &chatlog.Target{Endpoint: l.URL, Region: serviceRegion}})
	elsewhere := configurationOf(toLogs)
	elsewhere.ARN = ivschat.Scope{Account: logScope.Account, Region: "eu-central-1"}.ARN(ivschat.LoggingConfigurationType, "AbCdEf123456")
	group, err := d.Open(elsewhere)
	if err != nil {
		t.Fatal(err)
	}
	mustPut(t, group, entriesOf(logRoom("abc123DEF456"), 0, 1)) // the stand-in complains of another region
}

func TestBatchesWaitAsLongAsTheySay(t *testing.T) {
	path := t.TempDir()
	for _, c := range []struct {
		name   string
		target *chatlog.Target
		want   []time.Duration
	}{
		{"defaults", &chatlog.Target{Directory: path}, []time.Duration{5 * time.Minute, 5 * time.Second, 5 * time.Second}},
		{"set", &chatlog.Target{Directory: path, Flush: time.Second}, []time.Duration{time.Second, time.Second, time.Second}},
		{"defaults of services", &chatlog.Target{Endpoint: "http://127.0.0.1:1"}, []time.Duration{5 * time.Minute, 5 * time.Second, 5 * time.Second}},
	} {
		d := openTargets(t, chatlog.Targets{S3: c.target, CloudWatchLogs: c.target, Firehose: c.target})
		for i, to := range []ivschat.DestinationConfiguration{toS3, toLogs, toFirehose} {
			destination, err := d.Open(configurationOf(to))
			if err != nil {
				t.Fatal(err)
			}
			if got := destination.Layout().Flush; got != c.want[i] {
				t.Errorf("%s: %s, want %s", c.name, got, c.want[i])
			}
		}
	}
}

// The records are for the server that the operator named, and for no other.
func TestNoRedirectIsFollowed(t *testing.T) {
	for _, kind := range places {
		t.Run(kind.name, func(t *testing.T) {
			p := kind.open(t)
			if p.service == nil {
				t.Skip("a directory is not called")
			}
			var called atomic.Int32
			elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called.Add(1) }))
			defer elsewhere.Close()
			p.service.set(fault{redirect: elsewhere.URL})
			putFails(t, p, entriesOf(logRoom("abc123DEF456"), 0, 1), chatlog.Other, chatlog.Final)
			target := &chatlog.Target{Endpoint: p.service.URL, PathStyle: true}
			d := openTargets(t, chatlog.Targets{S3: target, CloudWatchLogs: target, Firehose: target})
			to := map[string]ivschat.DestinationConfiguration{"s3": toS3, "logs": toLogs, "firehose": toFirehose}[p.service.name]
			if err := d.Check(t.Context(), logScope, to); err != nil {
				t.Errorf("Check: %v, want nil: it cannot be told", err)
			}
			if n := called.Load(); n > 0 {
				t.Errorf("the other server was called %d times", n)
			}
		})
	}
}
