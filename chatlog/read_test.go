package chatlog

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/google/go-cmp/cmp"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

// compressed is one gzip member with lines.
func compressed(lines ...string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	for _, l := range lines {
		_, _ = io.WriteString(w, l+"\n")
	}
	_ = w.Close()
	return b.String()
}

// object is a key of a room, in the hour and minute of at ("2025-08-14T05:45").
func object(room, at, hash string) string {
	t, err := time.Parse("2006-01-02T15:04", at)
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf("AWSLogs/123456789012/IVSChatLogs/1.0/us-west-2/room_%[1]s/%[2]s/123456789012_IVSChatLogs_1.0_us-west-2_room_%[1]s_%[3]sZ_%[4]s.log.gz",
		room, t.Format("2006/01/02/15"), t.Format("20060102T1504"), hash)
}

// logsIn makes files below a folder.
func logsIn(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		place := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(place), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(place, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// read is what a reader hands out, as "room/id", and what it reports, with
// folder cut off.
func read(t *testing.T, r Reader, folder string, sources ...Source) (ids, problems []string) {
	t.Helper()
	r.Report = func(p Problem) {
		text := p.String()
		if folder != "" {
			text = strings.ReplaceAll(text, folder+string(filepath.Separator), "")
		}
		problems = append(problems, text)
	}
	n, err := r.Each(t.Context(), sources, func(l *Line) error {
		ids = append(ids, l.Room+"/"+l.ID)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n != len(problems) {
		t.Errorf("%d problems were counted, %d reported", n, len(problems))
	}
	return ids, problems
}

// The records of the tests: rooms A and B, two hours.
var (
	a1 = message("a1", "max", "first", "2025-08-14T05:48:40.41551437Z")
	a2 = message("a2", "eve", "second", "2025-08-14T05:48:40.4155144Z")
	a3 = event("a3", "aws:DELETE_MESSAGE", `{"MessageID":"a2","MessageId":"a2","Reason":"no"}`, "2025-08-14T05:59:59.999999999Z")
	a4 = message("a4", "max", "next hour", "2025-08-14T06:00:00Z")
	a5 = event("a5", "aws:DISCONNECT_USER", `{"UserId":"eve","Reason":"no"}`, "2025-08-14T06:30:00.1Z")
	a6 = event("a6", "aws:DELETE_MESSAGE", `{"MessageID":"a4"}`, "2025-08-14T08:00:00.5Z")
	b1 = message("b1", "max", "other room", "2025-08-14T05:50:00.5Z")
	b2 = message("a1", "max", "other room, same id", "2025-08-14T05:48:40.41551437Z")
)

// layouts are the same records as each of the destinations has them.
func layouts() map[string]string {
	return map[string]string{
		"s3/bucket/" + object("A", "2025-08-14T05:45", "00000002"): compressed(a2, a1) + compressed(a1), // out of order, and delivered again
		"s3/bucket/" + object("A", "2025-08-14T05:55", "00000001"): compressed(a3),
		"s3/bucket/" + object("A", "2025-08-14T06:00", "00000001"): compressed(a4, a5),
		"s3/bucket/" + object("A", "2025-08-14T08:00", "00000001"): compressed(a6),
		"s3/bucket/" + object("B", "2025-08-14T05:45", "00000001"): compressed(b1, b2),

		"cloudwatch_logs/group/aws%2FIVSChatLogs%2F1.0%2Froom_A.log": strings.Join([]string{a1, a3, a2, a4, a5, a6, a6, ""}, "\n"),
		"cloudwatch_logs/group/aws%2FIVSChatLogs%2F1.0%2Froom_B.log": b1 + "\r\n" + b2 + "\r\n\r\n",

		"firehose/stream.log": strings.Join([]string{b1, a1, a3, a2, a4, a5, a6}, "\n"),
		".incoming/object-1":  "half an obj",
	}
}

const roomA = "arn:aws:ivschat:us-west-2:123456789012:room/A"

func at(s string) time.Time {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		panic(err)
	}
	return t
}

func TestLogsAreReadBack(t *testing.T) {
	dir := logsIn(t, layouts())
	inA := []string{"A/a1", "A/a2", "A/a3", "A/a4", "A/a5", "A/a6"}
	both := []string{"A/a1", "B/a1", "A/a2", "B/b1", "A/a3", "A/a4", "A/a5", "A/a6"}
	for _, c := range []struct {
		name     string
		folder   string
		reader   Reader
		want     []string
		problems []string
	}{
		{"objects", "s3", Reader{}, both, nil},
		{"streams", "cloudwatch_logs", Reader{}, both, nil},
		{"a delivery stream, whose records do not say their room", "firehose", Reader{}, []string{"/a1", "/a2", "/b1", "/a3", "/a4", "/a5", "/a6"}, nil},
		{"one record of three destinations is one record", "", Reader{}, both, nil},
		{"every copy, when asked for", "s3", Reader{KeepDuplicates: true}, slices.Insert(slices.Clone(both), 1, "A/a1"), nil},
		{"a room by its id", "s3", Reader{Room: "A"}, inA, nil},
		{"a room by its ARN", "s3", Reader{Room: roomA}, inA, nil},
		{"a room of another region", "s3", Reader{Room: strings.Replace(roomA, "us-west-2", "eu-west-1", 1)}, nil, nil},
		{"a room of a stream", "cloudwatch_logs", Reader{Room: roomA}, inA, nil},
		{"a room cannot be chosen where none is named", "firehose", Reader{Room: "A"}, nil,
			[]string{"stream.log: does not say which room its records are of; it was left out, since a room was asked for"}},
		{"a user", "s3", Reader{User: "eve"}, []string{"A/a2", "A/a5"}, nil},
		{"messages", "s3", Reader{Type: "MESSAGE", Room: "A"}, []string{"A/a1", "A/a2", "A/a4"}, nil},
		{"events", "s3", Reader{Type: "EVENT"}, []string{"A/a3", "A/a5", "A/a6"}, nil},
		{"from a time on, that one included", "s3", Reader{From: at("2025-08-14T06:00:00Z")}, []string{"A/a4", "A/a5", "A/a6"}, nil},
		{"to a time, that one not included", "s3", Reader{To: at("2025-08-14T06:00:00Z"), Room: "A"}, []string{"A/a1", "A/a2", "A/a3"}, nil},
		{"a window within an hour", "cloudwatch_logs", Reader{From: at("2025-08-14T05:49:00Z"), To: at("2025-08-14T05:51:00Z")}, []string{"B/b1"}, nil},
		{"without what was deleted in its room", "s3", Reader{WithoutDeleted: true}, []string{"A/a1", "B/a1", "B/b1", "A/a3", "A/a5", "A/a6"}, nil},
		{"without what was deleted after the window, the deletes not chosen", "s3",
			Reader{WithoutDeleted: true, Type: "MESSAGE", User: "max", Room: "A", To: at("2025-08-14T06:30:00Z")}, []string{"A/a1"}, nil},
		{"deletes of unknown rooms", "firehose", Reader{WithoutDeleted: true, Type: "MESSAGE"}, []string{"/a1", "/b1"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, memory := range []int{0, 1} { // all at once, and each record a run of its own
				c.reader.memory = memory
				folder := filepath.Join(dir, c.folder)
				ids, problems := read(t, c.reader, folder, FromPath(folder))
				if d := cmp.Diff(c.want, ids); d != "" {
					t.Errorf("memory %d: the records (-want +got):\n%s", memory, d)
				}
				if d := cmp.Diff(c.problems, problems); d != "" {
					t.Errorf("memory %d: the problems (-want +got):\n%s", memory, d)
				}
			}
		})
	}
}

func TestWhatCannotBeReadIsReportedAndTheRestIsRead(t *testing.T) {
	whole := compressed(a1, a2)
	random := make([]byte, 4096) // so that it does not compress, and the cut lies in it
	for i := range random {
		random[i] = 'a' + byte(rand.IntN(26))
	}
	long := message("long", "u", string(random), "2025-08-14T05:49:00.1Z")
	cut := compressed(a1, long)
	cut = cut[:len(cut)-2000]
	odd := []byte(whole)
	odd[len(odd)-5]++ // of the checksum
	name := object("A", "2025-08-14T05:45", "00000001")
	for _, c := range []struct {
		name, file, content string
		want, problems      []string
	}{
		{"members one after another are fine", name, compressed(a1) + compressed() + compressed(a2), []string{"A/a1", "A/a2"}, nil},
		{"a line may go on in the next member", name, split(a1+"\n"+a2+"\n", 100), []string{"A/a1", "A/a2"}, nil},
		{"no end of the last line", "x.log", a1 + "\n" + a2, []string{"/a1", "/a2"}, nil},
		{"an empty object", name, compressed(), nil, nil},
		{"an empty file", "x.log", "", nil, nil},
		{"an object that was unpacked on its way", name, a1 + "\n", []string{"A/a1"}, nil},
		{"a packed file of lines", "x.log", compressed(a1), []string{"/a1"}, nil},
		{"damaged lines", "x.log", a1 + "\n{\n\n" + a2 + "\nnot json\x1b[2J\n" + a3[:50], []string{"/a1", "/a2"}, []string{
			"x.log:2: is no record of a chat log: it is not valid JSON at byte 1",
			"x.log:5: is no record of a chat log: it is not valid JSON at byte 1",
			"x.log:6: is no record of a chat log: it is not valid JSON at byte 50"}},
		{"a line without end", "x.log", a1 + "\n" + strings.Repeat("x", maxLine+1) + "\n" + a2 + "\n" + strings.Repeat("x", 3*maxLine), []string{"/a1", "/a2"}, []string{
			"x.log:2: is no record of a chat log: it is longer than 1048576 bytes", "x.log:4: is no record of a chat log: it is longer than 1048576 bytes"}},
		{"a member that is cut off", name, cut, []string{"A/a1"}, []string{name + ":2: the gzip stream is cut off here"}},
		{"a member cut off in the checksum", name, whole[:len(whole)-6], []string{"A/a1", "A/a2"}, []string{name + ":3: the gzip stream is cut off here"}},
		{"a member cut off in the head", name, whole[:5], nil, []string{name + ":1: the gzip stream is cut off here"}},
		{"a wrong checksum", name, string(odd), []string{"A/a1", "A/a2"}, []string{name + ":3: the gzip checksum is wrong: lines above may be damaged"}},
		{"something behind the members", name, whole + "rubbish", []string{"A/a1", "A/a2"}, []string{name + ":3: something that is not gzip follows here"}},
		{"foreign files", "notes.txt", "hello", nil, []string{"notes.txt: " + notALog}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := logsIn(t, map[string]string{c.file: c.content})
			ids, problems := read(t, Reader{}, dir, FromPath(dir))
			if d := cmp.Diff(c.want, ids); d != "" {
				t.Errorf("the records (-want +got):\n%s", d)
			}
			for i, p := range problems {
				problems[i] = filepath.ToSlash(p)
			}
			if d := cmp.Diff(c.problems, problems); d != "" {
				t.Errorf("the problems (-want +got):\n%s", d)
			}
		})
	}

	t.Run("a member that is cut off, with others behind it", func(t *testing.T) {
		dir := logsIn(t, map[string]string{name: cut + compressed(a2, a3)})
		ids, problems := read(t, Reader{}, dir, FromPath(dir))
		if d := cmp.Diff([]string{"A/a1", "A/a2", "A/a3"}, ids); d != "" {
			t.Errorf("the records (-want +got):\n%s", d)
		}
		if len(problems) == 0 || !strings.Contains(strings.Join(problems, "\n"), "; another member follows") {
			t.Errorf("the cut was not reported: %q", problems)
		}
	})
	t.Run("more damaged lines than anybody reads are counted", func(t *testing.T) {
		dir := logsIn(t, map[string]string{"x.log": strings.Repeat("x\n", maxReports+7)})
		_, problems := read(t, Reader{}, dir, FromPath(dir))
		if len(problems) != maxReports+1 || problems[maxReports] != "x.log: has 7 more such lines" {
			t.Errorf("got %d problems, the last %q", len(problems), problems[len(problems)-1])
		}
	})
	t.Run("a source that is not there does not hide the others", func(t *testing.T) {
		dir := logsIn(t, map[string]string{"x.log": a1})
		ids, problems := read(t, Reader{}, dir, FromPath(filepath.Join(dir, "none")), FromPath(dir))
		if !slices.Equal(ids, []string{"/a1"}) || !slices.Equal(problems, []string{"none: cannot be read: no such file or directory"}) {
			t.Errorf("got %q and %q", ids, problems)
		}
	})
	t.Run("a record in the folder of another hour comes out of order, and that is said", func(t *testing.T) {
		dir := logsIn(t, map[string]string{
			object("A", "2025-08-14T05:00", "1"): compressed(a1),
			object("A", "2025-08-14T06:00", "1"): compressed(a4),
			object("A", "2025-08-14T08:00", "1"): compressed(a2),
		})
		ids, problems := read(t, Reader{}, dir, FromPath(dir))
		if !slices.Equal(ids, []string{"A/a1", "A/a4", "A/a2"}) || len(problems) != 1 || !strings.Contains(problems[0], "_20250814T0800Z_1.log.gz:1: was sent long before the hour of its folder") {
			t.Errorf("got %q and %q", ids, problems)
		}
	})
}

// split is a text in two members.
func split(text string, at int) string {
	member := func(s string) string {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, _ = io.WriteString(w, s)
		_ = w.Close()
		return b.String()
	}
	return member(text[:at]) + member(text[at:])
}

func TestALogThatDoesNotFitIntoMemoryIsSorted(t *testing.T) {
	const records = 5000
	r := rand.New(rand.NewPCG(1, 2))
	var lines, want []string
	for i := range records {
		id := fmt.Sprintf("id%06d", i)
		want = append(want, "/"+id)
		// Digits vary: as text, .5 would come after .49.
		stamp := at("2025-08-14T05:00:00Z").Add(time.Duration(i)*time.Millisecond*50 + 1).Truncate([]time.Duration{1, time.Millisecond * 50}[i%2])
		for range 1 + r.IntN(2) {
			lines = append(lines, message(id, "u", strings.Repeat("x", r.IntN(500)), stamp.Format(time.RFC3339Nano)))
		}
	}
	r.Shuffle(len(lines), func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	ids, problems := read(t, Reader{memory: 100 << 10}, "", FromReader("lines", strings.NewReader(strings.Join(lines, "\n"))))
	if problems != nil {
		t.Fatal(problems)
	}
	if d := cmp.Diff(want, ids); d != "" {
		t.Errorf("the records (-want +got):\n%s", d)
	}
	if left, _ := os.ReadDir(temporary); len(left) > 0 {
		t.Errorf("%v is left of sorting", left)
	}
}

func TestReadingEndsWithItsReader(t *testing.T) {
	dir := logsIn(t, layouts())
	enough := errors.New("enough")
	if _, err := (&Reader{}).Each(t.Context(), []Source{FromPath(dir)}, func(*Line) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("got %v, want the error of who takes the lines", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (&Reader{}).Each(ctx, []Source{FromPath(dir)}, func(*Line) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that it was cancelled", err)
	}
	if _, err := (&Reader{Room: "rooms/A"}).Each(t.Context(), nil, nil); err == nil {
		t.Error("took a room that is none")
	}
}

// fakeS3 is a server of S3 with objects of one bucket; asked is what was asked of it.
func fakeS3(t *testing.T, objects map[string]string) (client *s3.Client, asked func(method string) []string) {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket("logs"); err != nil {
		t.Fatal(err)
	}
	for key, content := range objects {
		if _, err := backend.PutObject("logs", key, nil, strings.NewReader(content), int64(len(content)), nil); err != nil {
			t.Fatal(err)
		}
	}
	var mu sync.Mutex
	var requests []string
	fake := gofakes3.New(backend, gofakes3.WithLogger(gofakes3.DiscardLog())).Server()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		requests = append(requests, r.Method+" "+r.URL.RequestURI())
		mu.Unlock()
		if strings.Contains(r.URL.Path, "refused") {
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>`)
			return
		}
		fake.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	client = s3.New(s3.Options{
		BaseEndpoint: &server.URL, UsePathStyle: true, Region: "us-west-2",
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "secret"}, nil
		}),
	})
	return client, func(prefix string) (some []string) {
		mu.Lock()
		defer mu.Unlock()
		for _, r := range requests {
			if rest, ok := strings.CutPrefix(r, prefix); ok {
				some = append(some, rest)
			}
		}
		return some
	}
}

func TestABucketIsReadAsItsFoldersWouldBe(t *testing.T) {
	objects := map[string]string{}
	for place, content := range layouts() {
		if key, ok := strings.CutPrefix(place, "s3/bucket/"); ok {
			objects[key] = content
		}
	}
	objects["AWSLogs/123456789012/elasticloadbalancing/us-west-2/x.log.gz"] = "no chat"
	objects["AWSLogs/123456789012/"] = ""
	objects["readme.txt"] = "no log"
	objects[object("C", "2025-08-14T05:00", "refused")] = "x"

	foreign := []string{
		"s3://logs/readme.txt: " + notALog,
		"s3://logs/AWSLogs/123456789012/elasticloadbalancing/: has the logs of another service; it was not looked into",
	}
	refused := "s3://logs/" + object("C", "2025-08-14T05:00", "refused") + ": cannot be read: AccessDenied: Access Denied"
	for _, c := range []struct {
		name     string
		prefix   string
		reader   Reader
		want     []string
		gets     int
		problems []string
	}{
		{"all", "", Reader{}, []string{"A/a1", "B/a1", "A/a2", "B/b1", "A/a3", "A/a4", "A/a5", "A/a6"}, 6, append(slices.Clone(foreign), refused)},
		{"other rooms are not read", "", Reader{Room: roomA}, []string{"A/a1", "A/a2", "A/a3", "A/a4", "A/a5", "A/a6"}, 4, foreign},
		{"hours outside are not read", "AWSLogs/123456789012/IVSChatLogs/", Reader{Room: "A", From: at("2025-08-14T06:15:00Z"), To: at("2025-08-14T07:45:00Z")}, []string{"A/a5"}, 1, nil},
		{"a prefix within a room", "AWSLogs/123456789012/IVSChatLogs/1.0/us-west-2/room_A/2025/08/14/05/", Reader{}, []string{"A/a1", "A/a2", "A/a3"}, 2, nil},
		{"one object", object("A", "2025-08-14T06:00", "00000001"), Reader{}, []string{"A/a4", "A/a5"}, 1, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, asked := fakeS3(t, objects)
			ids, problems := read(t, c.reader, "", FromBucket(client, "logs", c.prefix))
			if d := cmp.Diff(c.want, ids); d != "" {
				t.Errorf("the records (-want +got):\n%s", d)
			}
			if d := cmp.Diff(c.problems, problems); d != "" {
				t.Errorf("the problems (-want +got):\n%s", d)
			}
			if gets := asked("GET /logs/AWSLogs"); len(gets) != c.gets {
				t.Errorf("%d objects were read, want %d:\n%s", len(gets), c.gets, strings.Join(gets, "\n"))
			}
		})
	}
	t.Run("a bucket that is not there", func(t *testing.T) {
		client, _ := fakeS3(t, nil)
		ids, problems := read(t, Reader{}, "", FromBucket(client, "none", ""))
		if len(ids) > 0 || len(problems) != 1 || !strings.HasPrefix(problems[0], "s3://none/: cannot be read: NoSuchBucket") {
			t.Errorf("got %q and %q", ids, problems)
		}
	})
}

func TestThousandsOfObjectsAreListedInPages(t *testing.T) {
	objects := map[string]string{}
	for i := range 2500 {
		stamp := at("2025-08-14T00:00:00Z").Add(time.Duration(i) * time.Minute)
		objects[object("A", stamp.Format("2006-01-02T15:04"), "1")] = compressed(message(fmt.Sprintf("id%04d", i), "u", "x", stamp.Format(time.RFC3339)))
	}
	client, asked := fakeS3(t, objects)
	ids, problems := read(t, Reader{From: at("2025-08-15T00:00:00Z"), To: at("2025-08-15T01:00:00Z")}, "", FromBucket(client, "logs", ""))
	if len(ids) != 60 || problems != nil {
		t.Errorf("got %d records, want the 60 of the hour; problems %q", len(ids), problems)
	}
	if lists := asked("GET /logs?"); len(lists) > 7 {
		t.Errorf("%d calls list the bucket; the room's pages outside the time should not be asked for", len(lists))
	}
	if gets := asked("GET /logs/AWSLogs"); len(gets) != 180 { // the hours beside have records of batches that began before
		t.Errorf("%d objects were read, want those of the hour and of the hours beside it", len(gets))
	}
	if ids, _ := read(t, Reader{}, "", FromBucket(client, "logs", "")); len(ids) != 2500 || !slices.IsSorted(ids) {
		t.Errorf("got %d records, want 2500 in order", len(ids))
	}
}

func FuzzLines(f *testing.F) {
	f.Add([]byte(a1 + "\n" + a2))
	f.Add([]byte(compressed(a1, a2)))
	f.Add([]byte(compressed(a1) + compressed(a2)[:60] + compressed(a3)))
	f.Fuzz(func(t *testing.T, file []byte) {
		got, wrongs := 0, 0
		err := lines(bytes.NewReader(file), func(text []byte, wrong error) error {
			if got++; bytes.IndexByte(text, '\n') >= 0 {
				t.Fatalf("%q is more than a line", text)
			}
			return nil
		}, func(string) { wrongs++ })
		if err != nil {
			t.Fatal(err)
		}
		if len(file) > 0 && got+wrongs == 0 && !bytes.HasPrefix(file, gzipMagic) {
			t.Fatal("nothing was handed out and nothing reported")
		}
	})
}
