package conformance

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ivschat"
	"github.com/aws/aws-sdk-go-v2/service/ivschat/types"
)

// The credentials that servers under test sign with.
const (
	sinkKey    = "AKIDCHATLOGS00000000"
	sinkSecret = "chat-logs-secret-that-no-text-may-show"
)

// fault is how a sink fails. A destination's own goes before that of all.
type fault string

const (
	works  fault = ""
	broken fault = "500 InternalError"
	slow   fault = "503 SlowDown"
	denied fault = "403 AccessDenied"
	hangs  fault = "no answer"
	cutOff fault = "stored, and then no answer"
)

// sink is a stand-in of a service that keeps chat logs: it holds to the bounds of
// the service, and fails as it is told.
type sink struct {
	t       testing.TB
	service string                                                       // in the scope of signatures
	handle  func(w http.ResponseWriter, r *http.Request, body []byte)    // does it
	fails   func(w http.ResponseWriter, status int, code string)         // refuses it
	to      func(r *http.Request, body []byte) string                    // the bucket, group or stream
	read    func(destination, room string) (lines []string, wrong error) // in the order that a reader gets

	server  *http.Server
	address string

	mu       sync.Mutex
	faults   map[string]fault // by destination; "" is all
	answered map[fault]int    // requests that a fault has met
	waiting  map[string]int   // requests that hang now, by destination
}

// open starts the sink on an address of its own.
func (s *sink) open() *sink {
	s.faults, s.answered, s.waiting = map[string]fault{}, map[fault]int{}, map[string]int{}
	s.address = "127.0.0.1:0"
	s.up()
	s.t.Cleanup(func() { s.server.Close() })
	return s
}

// up listens where the sink listened before.
func (s *sink) up() {
	s.t.Helper()
	var l net.Listener
	eventually(s.t, "the sink has its port again", func() (ok bool) {
		var err error
		l, err = net.Listen("tcp", s.address)
		return err == nil
	})
	s.address = l.Addr().String()
	s.server = &http.Server{Handler: s}
	go s.server.Serve(l) // ends with the server
}

// down refuses connections, and ends those that are there.
func (s *sink) down() { s.server.Close() }

// set makes a destination fail, "" all that have no fault of their own.
func (s *sink) set(destination string, f fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[destination] = f
}

// met is how many requests were answered by a fault.
func (s *sink) met(f fault) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.answered[f]
}

// hanging is how many requests for a destination hang.
func (s *sink) hanging(destination string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiting[destination]
}

var scope = regexp.MustCompile(`^AWS4-HMAC-SHA256 Credential=` + sinkKey + `/\d{8}/us-west-2/([a-z0-9]+)/aws4_request, SignedHeaders=[a-z0-9;-]+, Signature=[0-9a-f]{64}$`)

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client went
	}
	if m := scope.FindStringSubmatch(r.Header.Get("Authorization")); m == nil || m[1] != s.service {
		s.t.Errorf("%s: a request is signed like this: %s", s.service, r.Header.Get("Authorization"))
	}
	sum := sha256.Sum256(body)
	if h := r.Header.Get("X-Amz-Content-Sha256"); h != "" && h != hex.EncodeToString(sum[:]) {
		s.t.Errorf("%s: the signature is of another body", s.service)
	}
	destination := s.to(r, body)
	s.mu.Lock()
	f, own := s.faults[destination]
	if !own {
		f = s.faults[""]
	}
	s.answered[f]++
	if f == hangs {
		s.waiting[destination]++
	}
	s.mu.Unlock()
	switch f {
	case broken:
		s.fails(w, 500, "InternalError")
	case slow:
		s.fails(w, 503, "SlowDown")
	case denied:
		s.fails(w, 403, "AccessDenied")
	case hangs:
		<-r.Context().Done()
		s.mu.Lock()
		s.waiting[destination]--
		s.mu.Unlock()
	case cutOff:
		s.handle(httptest.NewRecorder(), r, body)
		panic(http.ErrAbortHandler)
	default:
		s.handle(w, r, body)
	}
}

// sinks are the services of one test, with a bucket, a group and a stream of the
// name "logs".
type sinks struct {
	t        testing.TB
	s3       *bucketSink
	logs     *logSink
	firehose *firehoseSink
}

func openSinks(t testing.TB) *sinks {
	k := &sinks{t, openBuckets(t), openLogs(t), openFirehose(t)}
	k.s3.create("logs")
	k.logs.create("logs")
	k.firehose.create("logs")
	return k
}

func (k *sinks) all() []*sink { return []*sink{k.s3.sink, k.logs.sink, k.firehose.sink} }

func (k *sinks) set(f fault) {
	for _, s := range k.all() {
		s.set("", f)
	}
}

// file writes a configuration file that names the sinks, and what else is wanted
// below `logging:`.
func (k *sinks) file(flush string, more ...string) string {
	k.t.Helper()
	text := fmt.Sprintf(`logging:
  s3: {endpoint: "http://%s", path_style: true, region: us-west-2, flush: %[4]s}
  cloudwatch_logs: {endpoint: "http://%[2]s", region: us-west-2, flush: %[4]s}
  firehose: {endpoint: "http://%[3]s", region: us-west-2, flush: %[4]s}
`, k.s3.address, k.logs.address, k.firehose.address, flush) + strings.Join(more, "\n") + "\n"
	name := filepath.Join(k.t.TempDir(), "hubbub.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		k.t.Fatal(err)
	}
	return name
}

// The destinations of a logging configuration.

func toBucket(name string) types.DestinationConfiguration {
	return &types.DestinationConfigurationMemberS3{Value: types.S3DestinationConfiguration{BucketName: &name}}
}

func toGroup(name string) types.DestinationConfiguration {
	return &types.DestinationConfigurationMemberCloudWatchLogs{Value: types.CloudWatchLogsDestinationConfiguration{LogGroupName: &name}}
}

func toStream(name string) types.DestinationConfiguration {
	return &types.DestinationConfigurationMemberFirehose{Value: types.FirehoseDestinationConfiguration{DeliveryStreamName: &name}}
}

// loggedTo makes a logging configuration and returns its ARN.
func loggedTo(t testing.TB, c *ivschat.Client, d types.DestinationConfiguration) string {
	t.Helper()
	out, err := c.CreateLoggingConfiguration(limited(t), &ivschat.CreateLoggingConfigurationInput{DestinationConfiguration: d})
	if err != nil {
		t.Fatal(err)
	}
	return *out.Arn
}

// loggedRoom makes a room with logging configurations and returns its ARN.
func loggedRoom(t testing.TB, c *ivschat.Client, configurations ...string) string {
	t.Helper()
	return *newRoom(t, c, &ivschat.CreateRoomInput{LoggingConfigurationIdentifiers: configurations, MaximumMessageRatePerSecond: aws.Int32(100)}).Arn
}

func idOf(arn string) string { return arn[strings.LastIndexByte(arn, '/')+1:] }

// lineOf is the record that must be there of a frame that a viewer got. Source:
// Chat User Guide, chat logging; spec logging 3.
func lineOf(raw []byte) string {
	var f frame
	if err := json.Unmarshal(raw, &f); err != nil {
		return err.Error()
	}
	second, fraction, _ := strings.Cut(strings.TrimSuffix(f.SendTime, "Z"), ".")
	return fmt.Sprintf(`{"event_timestamp":"%s.%sZ","type":"%s","payload":%s,"version":"1.0"}`, second, (fraction + "000")[:3], f.Type, raw)
}

// timeOf is a record's event_timestamp, zero if it has none.
func timeOf(line string) time.Time {
	text, _ := strings.CutPrefix(line, `{"event_timestamp":"`)
	text, _, _ = strings.Cut(text, `"`)
	at, _ := time.Parse("2006-01-02T15:04:05.000Z", text)
	return at
}

var sendTimeOf = regexp.MustCompile(`"SendTime":"([^"]+)Z"`)

func sendTime(line string) string {
	if m := sendTimeOf.FindStringSubmatch(line); m != nil {
		return m[1]
	}
	return ""
}

// firsts drops doubles, as readers do.
func firsts(lines []string) (once []string) {
	seen := map[string]bool{}
	for _, l := range lines {
		if !seen[l] {
			seen[l] = true
			once = append(once, l)
		}
	}
	return once
}

// have reads a room's records from a sink.
func (s *sink) have(destination, room string) []string {
	s.t.Helper()
	lines, err := s.read(destination, room)
	if err != nil {
		s.t.Fatal(err)
	}
	return lines
}

// wait waits until the sink has at least n different records of the room.
func (s *sink) wait(destination, room string, n int) []string {
	s.t.Helper()
	var lines []string
	eventually(s.t, fmt.Sprintf("%s: %d records", s.service, n), func() bool {
		lines = firsts(s.have(destination, room))
		return len(lines) >= n
	})
	return lines
}

// same compares lines one by one.
func same(t testing.TB, what string, got, want []string) {
	t.Helper()
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			t.Errorf("%s: record %d of %d is\n%s, want\n%s", what, i, len(want), got[i], want[i])
			return
		}
	}
	if len(got) != len(want) {
		t.Errorf("%s: %d records, want %d", what, len(got), len(want))
	}
}

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// eventually waits for what others will bring about.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	limit := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// metric is the sum of a metric's series that have all the labels, each written
// as in the exposition: kind="other".
func (s *server) metric(t testing.TB, name string, labels ...string) (sum float64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Admin+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
series:
	for l := range strings.SplitSeq(string(text), "\n") {
		rest, found := strings.CutPrefix(l, name)
		if !found || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		for _, want := range labels {
			if !strings.Contains(rest, want) {
				continue series
			}
		}
		v, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
		if err != nil {
			t.Fatalf("%s: %v", l, err)
		}
		sum += v
	}
	return sum
}

// delivered waits until no record waits anywhere.
func (s *server) delivered(t testing.TB) {
	t.Helper()
	eventually(t, "every record is delivered", func() bool {
		return s.metric(t, "hubbub_chatlog_queued_bytes") == 0 && s.metric(t, "hubbub_chatlog_spool_bytes") == 0
	})
}
