package chatlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/klauspost/compress/gzip"

	"hubbub/ivschat"
)

// The bounds of an object. Source: spec logging 4.
const (
	objectLines  = 5 << 20 // of lines, before compression
	objectFlush  = 5 * time.Minute
	objectWindow = 5 * time.Minute // that the minute in a name is aligned to
)

// logVersion is that of the layout and of the record. Source: spec logging 3, 4.
const logVersion = "1.0"

// objects is a destination of compressed objects, each of one room and one hour.
type objects struct {
	store objectStore
	flush time.Duration
}

// objectStore holds objects by key: a bucket of S3, or a folder.
type objectStore interface {
	// put makes an object, whole or not at all; errTaken if there is one of that
	// key, which stays as it is.
	put(ctx context.Context, key string, body []byte) error

	// exists is nil if the store is there and may be asked.
	exists(ctx context.Context) error
}

// errTaken is that a key is in use.
var errTaken = errors.New("there is an object of that key")

func (o *objects) Layout() Layout {
	return Layout{
		// An hour's directory has the hour's records, so a batch ends with its hour.
		Lane:       func(e Entry) string { return string(e.Room) + " " + e.Received.UTC().Format("2006-01-02T15") },
		MaxEntries: objectLines, // never reached: each line costs more than a byte
		MaxBytes:   objectLines,
		Overhead:   1, // the end of line
		Flush:      o.flush,
		Aligned:    true, // to the minute in the names: source, spec logging 4
	}
}

// Put makes one object. Each call chooses a new key, since an attempt without an
// answer may have written the object.
func (o *objects) Put(ctx context.Context, entries []Entry) ([]int, int, error) {
	if len(entries) == 0 {
		return nil, 0, nil
	}
	room, ok := entries[0].Room.Parse()
	if !ok {
		return nil, len(entries), nil // there is no key for it, now or later
	}
	body := compress(entries)
	var err error
	for range 8 { // one key in 8,192 is taken where two configurations share a bucket
		err = o.store.put(ctx, objectKey(room, entries[0].Received, rand.Uint32()), body)
		if !errors.Is(err, errTaken) {
			break
		}
	}
	switch {
	case err == nil:
		return nil, 0, nil
	case errors.Is(err, errTaken):
		err = &Failure{Kind: Other, Class: Passing, Err: errors.New("every key that was tried is in use")}
	}
	return every(len(entries)), 0, err
}

func (o *objects) exists(ctx context.Context) error { return o.store.exists(ctx) }

func (o *objects) Close() {}

// objectKey is the key of an object whose first record was received then. Keys
// of one room sort as their objects were begun: the last eight digits are the
// milliseconds into the window, which fit into 19 bits, and 13 random bits.
// Source: spec logging 4; the example of the Chat User Guide decides the form.
func objectKey(room ivschat.Name, first time.Time, random uint32) string {
	first = first.UTC()
	window := first.Truncate(objectWindow)
	hash := uint32(first.Sub(window).Milliseconds())<<13 | random&(1<<13-1)
	return fmt.Sprintf("AWSLogs/%[1]s/IVSChatLogs/%[2]s/%[3]s/room_%[4]s/%[5]s/%[1]s_IVSChatLogs_%[2]s_%[3]s_room_%[4]s_%[6]sZ_%08[7]x.log.gz",
		room.Account, logVersion, room.Region, room.ID, first.Format("2006/01/02/15"), window.Format("20060102T1504"), hash)
}

// compressors are gzip writers at rest: one has 800 KB of tables.
var compressors = sync.Pool{New: func() any { return gzip.NewWriter(io.Discard) }}

// compressing has a place for each object that is compressed at the moment: half
// of the processors, since the windows of all rooms end in one moment, and chat
// does not wait until the last of them is done.
var compressing = make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))

// compressAtOnce is how many bytes of lines are compressed, in a fraction of a
// millisecond, before whoever waits for the processor goes first: for as long as it
// took, since a kernel does not let others in before a thread rests or its time, a
// few milliseconds, is over.
const compressAtOnce = 16 << 10

// compress makes the content of an object: lines, each ended.
func compress(entries []Entry) []byte {
	compressing <- struct{}{}
	defer func() { <-compressing }()
	var b bytes.Buffer
	w := compressors.Get().(*gzip.Writer)
	defer compressors.Put(w)
	w.Reset(&b)
	began, done := time.Now(), 0
	for _, e := range entries { // a buffer takes everything: no error can come
		_, _ = w.Write(e.Line)
		_, _ = w.Write(endOfLine)
		if done += len(e.Line); done >= compressAtOnce {
			time.Sleep(min(time.Since(began), time.Millisecond))
			began, done = time.Now(), 0
		}
	}
	_ = w.Close()
	return b.Bytes()
}

var endOfLine = []byte{'\n'}

// bucket is one of S3, or of a server that speaks like it.
type bucket struct {
	client *s3.Client
	name   string
	region string

	blind atomic.Bool // the server does not know conditions
}

func (b *bucket) regional(o *s3.Options) { o.Region = b.region }

func (b *bucket) put(ctx context.Context, key string, body []byte) error {
	in := &s3.PutObjectInput{
		Bucket: &b.name, Key: &key, Body: bytes.NewReader(body),
		ContentType: aws.String("application/octet-stream"), // and no encoding: readers unpack by the name
	}
	if !b.blind.Load() {
		in.IfNoneMatch = aws.String("*")
	}
	_, err := b.client.PutObject(ctx, in, b.regional)
	if err == nil {
		return nil
	}
	code, status, _ := answer(err)
	switch {
	case in.IfNoneMatch != nil && status == http.StatusPreconditionFailed:
		return errTaken
	case in.IfNoneMatch != nil && (status == http.StatusNotImplemented || code == "NotImplemented"):
		b.blind.Store(true)
		return b.put(ctx, key, body)
	}
	return failed("PutObject to bucket "+b.name, err)
}

func (b *bucket) exists(ctx context.Context) error {
	if _, err := b.client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &b.name}, b.regional); err != nil {
		return failed("HeadBucket of "+b.name, err)
	}
	return nil
}
