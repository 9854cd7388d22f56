package conformance

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

// bucketSink is S3: gofakes3, and a note of each object that was put.
type bucketSink struct {
	*sink
	backend *s3mem.Backend
	put     map[string]bool // bucket and key; guarded by mu
}

func openBuckets(t testing.TB) *bucketSink {
	b := &bucketSink{backend: s3mem.New(), put: map[string]bool{}}
	inner := gofakes3.New(b.backend).Server()
	b.sink = &sink{t: t, service: "s3", read: b.lines,
		to: func(r *http.Request, _ []byte) string {
			bucket, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
			return bucket
		},
		fails: func(w http.ResponseWriter, status int, code string) {
			w.Header().Set("Content-Type", "application/xml")
			w.WriteHeader(status)
			_ = xml.NewEncoder(w).Encode(struct {
				XMLName xml.Name `xml:"Error"`
				Code    string
			}{Code: code})
		},
		handle: func(w http.ResponseWriter, r *http.Request, body []byte) {
			r.Body = io.NopCloser(bytes.NewReader(body))
			answer := httptest.NewRecorder()
			inner.ServeHTTP(answer, r)
			if r.Method == http.MethodPut && answer.Code == 200 {
				b.mu.Lock()
				if b.put[r.URL.Path] {
					t.Errorf("%s was written over", r.URL.Path)
				}
				b.put[r.URL.Path] = true
				b.mu.Unlock()
				if r.Header.Get("Content-Type") != "application/octet-stream" || r.Header.Get("Content-Encoding") != "" {
					t.Errorf("%s has type %q and encoding %q", r.URL.Path, r.Header.Get("Content-Type"), r.Header.Get("Content-Encoding"))
				}
			}
			for k, v := range answer.Header() {
				w.Header()[k] = v
			}
			w.WriteHeader(answer.Code)
			_, _ = w.Write(answer.Body.Bytes())
		}}
	b.open()
	return b
}

func (b *bucketSink) create(bucket string) {
	b.t.Helper()
	if err := b.backend.CreateBucket(bucket); err != nil {
		b.t.Fatal(err)
	}
}

var objectKey = regexp.MustCompile(`^AWSLogs/(\d{12})/IVSChatLogs/1\.0/us-west-2/room_([A-Za-z0-9]{12})/(\d{4}/\d\d/\d\d/\d\d)/(\d{12})_IVSChatLogs_1\.0_us-west-2_room_([A-Za-z0-9]{12})_(\d{8}T\d\d\d\dZ)_([0-9a-f]{8})\.log\.gz$`)

// lines reads a room's objects like AWS's own sample: sort, gunzip, split. Objects
// that begin with the same millisecond have no order in their keys; those are
// sorted by their first SendTime. Layout, hour and minute are checked.
func (b *bucketSink) lines(bucket, room string) (lines []string, wrong error) {
	list, err := b.backend.ListBucket(bucket, &gofakes3.Prefix{}, gofakes3.ListBucketPage{})
	if err != nil {
		return nil, err
	}
	type object struct {
		order string // of the key, without chance
		lines []string
	}
	var objects []object
	for _, c := range list.Contents {
		m := objectKey.FindStringSubmatch(c.Key)
		if m == nil || m[1] != m[4] || m[2] != m[5] {
			return nil, fmt.Errorf("the key %s", c.Key)
		}
		if m[2] != room {
			continue
		}
		o, err := b.backend.GetObject(bucket, c.Key, nil)
		if err != nil {
			return nil, err
		}
		z, err := gzip.NewReader(o.Contents)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.Key, err)
		}
		text, err := io.ReadAll(z)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.Key, err)
		}
		got := strings.Split(string(text), "\n")
		if last := len(got) - 1; last < 1 || got[last] != "" {
			return nil, fmt.Errorf("%s does not end with a newline: %q", c.Key, text)
		}
		got = got[:len(got)-1]
		for _, l := range got {
			if hour := timeOf(l).Format("2006/01/02/15"); hour != m[3] {
				return nil, fmt.Errorf("%s has a record of %s", c.Key, hour)
			}
		}
		if window := timeOf(got[0]).Truncate(5 * time.Minute).Format("20060102T1504Z"); window != m[6] {
			return nil, fmt.Errorf("%s begins with a record of the window %s", c.Key, window)
		}
		hash, err := strconv.ParseUint(m[7], 16, 32)
		if err != nil {
			return nil, err
		}
		objects = append(objects, object{fmt.Sprintf("%s %08x %s", m[6], hash>>13, sendTime(got[0])), got})
	}
	slices.SortFunc(objects, func(x, y object) int { return cmp.Compare(x.order, y.order) })
	for _, o := range objects {
		lines = append(lines, o.lines...)
	}
	return lines, nil
}

// logSink is CloudWatch Logs, as strict as its API reference.
type logSink struct {
	*sink
	groups map[string]map[string][]string // messages by stream by group; guarded by mu
}

// jsonSink is a service of AWS JSON 1.1. An operation returns its answer or the
// name of an exception.
func jsonSink(t testing.TB, service, target string, operations map[string]func(body []byte) (out any, exception string)) *sink {
	fails := func(w http.ResponseWriter, status int, code string) {
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]string{"__type": code + "Exception"})
	}
	return &sink{t: t, service: service, fails: fails,
		to: func(_ *http.Request, body []byte) string {
			var in struct{ LogGroupName, DeliveryStreamName string }
			_ = json.Unmarshal(body, &in)
			return in.LogGroupName + in.DeliveryStreamName
		},
		handle: func(w http.ResponseWriter, r *http.Request, body []byte) {
			called, _ := strings.CutPrefix(r.Header.Get("X-Amz-Target"), target+".")
			operation := operations[called]
			if operation == nil {
				t.Errorf("%s: unknown operation %s", service, r.Header.Get("X-Amz-Target"))
				fails(w, 400, "UnknownOperation")
				return
			}
			out, exception := operation(body)
			if exception != "" {
				if exception != "ResourceNotFound" && exception != "ResourceAlreadyExists" {
					t.Errorf("%s refuses a %s: %s", service, called, exception)
				}
				fails(w, 400, exception)
				return
			}
			w.Header().Set("Content-Type", "application/x-amz-json-1.1")
			_ = json.NewEncoder(w).Encode(out)
		}}
}

// strictly reads JSON that has no other members.
func strictly(body []byte, in any) bool {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	return d.Decode(in) == nil
}

func openLogs(t testing.TB) *logSink {
	l := &logSink{groups: map[string]map[string][]string{}}
	l.sink = jsonSink(t, "logs", "Logs_20140328", map[string]func([]byte) (any, string){
		"PutLogEvents": l.putLogEvents,
		"CreateLogStream": func(body []byte) (any, string) {
			var in struct{ LogGroupName, LogStreamName string }
			if !strictly(body, &in) {
				return nil, "Serialization"
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			group := l.groups[in.LogGroupName]
			switch {
			case group == nil:
				return nil, "ResourceNotFound"
			case group[in.LogStreamName] != nil:
				return nil, "ResourceAlreadyExists"
			}
			group[in.LogStreamName] = []string{}
			return struct{}{}, ""
		},
		"DescribeLogStreams": func(body []byte) (any, string) {
			var in struct {
				LogGroupName string
				Limit        int
			}
			if !strictly(body, &in) {
				return nil, "Serialization"
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			if l.groups[in.LogGroupName] == nil {
				return nil, "ResourceNotFound"
			}
			return map[string]any{"logStreams": []any{}}, ""
		},
	})
	l.read = func(group, room string) ([]string, error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		return slices.Clone(l.groups[group]["aws/IVSChatLogs/1.0/room_"+room]), nil
	}
	l.open()
	return l
}

// putLogEvents holds to the constraints of the API reference.
func (l *logSink) putLogEvents(body []byte) (any, string) {
	var in struct {
		LogGroupName, LogStreamName string
		LogEvents                   []struct {
			Timestamp int64
			Message   string
		}
	}
	if !strictly(body, &in) {
		return nil, "Serialization"
	}
	size := 0
	for i, e := range in.LogEvents {
		size += len(e.Message) + 26
		if e.Message == "" || !utf8.ValidString(e.Message) || i > 0 && e.Timestamp < in.LogEvents[i-1].Timestamp || timeOf(e.Message).UnixMilli() != e.Timestamp {
			return nil, "InvalidParameter"
		}
	}
	if n := len(in.LogEvents); n == 0 || n > 10_000 || size > 1_048_576 || in.LogEvents[n-1].Timestamp-in.LogEvents[0].Timestamp > 24*time.Hour.Milliseconds() {
		return nil, "InvalidParameter"
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	stream, there := l.groups[in.LogGroupName][in.LogStreamName]
	if !there {
		return nil, "ResourceNotFound"
	}
	for _, e := range in.LogEvents {
		stream = append(stream, e.Message)
	}
	l.groups[in.LogGroupName][in.LogStreamName] = stream
	return map[string]string{"nextSequenceToken": "49590302"}, ""
}

func (l *logSink) create(group string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.groups[group] = map[string][]string{}
}

func (l *logSink) remove(group string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.groups, group)
}

// firehoseSink is Firehose, as strict as its API reference.
type firehoseSink struct {
	*sink
	streams map[string][]string // data of the records; guarded by mu
}

func openFirehose(t testing.TB) *firehoseSink {
	f := &firehoseSink{streams: map[string][]string{}}
	f.sink = jsonSink(t, "firehose", "Firehose_20150804", map[string]func([]byte) (any, string){
		"PutRecordBatch": func(body []byte) (any, string) {
			var in struct {
				DeliveryStreamName string
				Records            []struct{ Data []byte }
			}
			if !strictly(body, &in) {
				return nil, "Serialization"
			}
			size := 0
			for _, r := range in.Records {
				size += len(r.Data)
			}
			if n := len(in.Records); n == 0 || n > 500 || size > 4<<20 {
				return nil, "InvalidArgument"
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.streams[in.DeliveryStreamName] == nil {
				return nil, "ResourceNotFound"
			}
			taken := []map[string]string{}
			for _, r := range in.Records {
				f.streams[in.DeliveryStreamName] = append(f.streams[in.DeliveryStreamName], string(r.Data))
				taken = append(taken, map[string]string{"RecordId": "1"})
			}
			return map[string]any{"FailedPutCount": 0, "RequestResponses": taken}, ""
		},
		"DescribeDeliveryStream": func(body []byte) (any, string) {
			var in struct{ DeliveryStreamName string }
			if !strictly(body, &in) {
				return nil, "Serialization"
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.streams[in.DeliveryStreamName] == nil {
				return nil, "ResourceNotFound"
			}
			return map[string]any{"DeliveryStreamDescription": map[string]string{"DeliveryStreamStatus": "ACTIVE"}}, ""
		},
	})
	// A stream has all rooms, and nothing in a record names its own.
	f.read = func(stream, _ string) (lines []string, wrong error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, data := range f.streams[stream] {
			l, ended := strings.CutSuffix(data, "\n")
			if !ended || strings.Contains(l, "\n") {
				return nil, fmt.Errorf("a record of Firehose is not one line: %q", data)
			}
			lines = append(lines, l)
		}
		return lines, nil
	}
	f.open()
	return f
}

func (f *firehoseSink) create(stream string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.streams[stream] = []string{}
}

func (f *firehoseSink) remove(stream string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.streams, stream)
}
