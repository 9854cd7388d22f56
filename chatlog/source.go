package chatlog

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"

	"hubbub/ivschat"
)

// Source is where logs lie: see FromPath, FromBucket, FromReader.
type Source interface {
	String() string // as it was named

	// find hands over every file that want may want, in no particular order, and
	// tells the rest to strange.
	find(ctx context.Context, want *choice, found func(logFile), strange func(name, why string)) error
}

// logFile is a file of a source that may hold records.
type logFile struct {
	name string // for people
	open func(context.Context) (io.ReadCloser, error)

	scope ivschat.Scope // zero if not known
	room  string        // id, or "" if not known
	hour  time.Time     // that all its records were received in, or zero if not known
}

// The names of logs. The documentation has the time in two forms.
// Source: spec logging 4, 5.
var (
	objectName = regexp.MustCompile(`^([0-9]+)_IVSChatLogs_[^_]+_([a-z0-9-]+)_room_([A-Za-z0-9-]+)_([0-9]{8})T?([0-9]{2})[0-9]{2}Z?_[^_]+\.log\.gz$`)
	hourFolder = regexp.MustCompile(`(?:^|/)([0-9]{4})/([0-9]{2})/([0-9]{2})/([0-9]{2})/[^/]+$`)
	streamName = regexp.MustCompile(`(?:^|/)aws/IVSChatLogs/[^/]+/room_([A-Za-z0-9-]+)\.log$`)
)

const unfinishedFolder = ".incoming" // where `directory:` writes objects before they have their name

// classifyPath says what the path of a file, with slashes, tells about its records;
// ok is false if it is none of the layouts.
func classifyPath(place string) (f logFile, ok bool) {
	base := path.Base(place)
	if m := objectName.FindStringSubmatch(base); m != nil {
		f.scope, f.room = ivschat.Scope{Account: m[1], Region: m[2]}, m[3]
		hour := m[4] + m[5]
		if d := hourFolder.FindStringSubmatch(place); d != nil {
			hour = strings.Join(d[1:], "")
		}
		var err error
		f.hour, err = time.Parse("2006010215", hour)
		return f, err == nil
	}
	// `directory:` escapes the slashes of a stream.
	unescaped, err := url.PathUnescape(place)
	if err != nil {
		unescaped = place
	}
	if m := streamName.FindStringSubmatch(unescaped); m != nil {
		return logFile{room: m[1]}, true
	}
	return f, strings.HasSuffix(base, ".log") || strings.HasSuffix(base, ".log.gz")
}

// notALog is said of files whose names are of no layout.
const notALog = "is no chat log: its name ends neither in .log nor in .log.gz"

// pathSource is a file or a folder of this machine.
type pathSource string

// FromPath reads a file, or all logs below a folder: what `directory:` wrote,
// or what was copied from a bucket.
func FromPath(path string) Source { return pathSource(path) }

func (p pathSource) String() string { return string(p) }

func (p pathSource) find(ctx context.Context, want *choice, found func(logFile), strange func(name, why string)) error {
	at, err := os.Stat(string(p))
	if err != nil {
		return err
	}
	if !at.IsDir() { // named by hand: read whatever its name is
		place, err := filepath.Abs(string(p))
		if err != nil {
			return err
		}
		f, _ := classifyPath(filepath.ToSlash(place))
		p.offer(f, string(p), want, found)
		return nil
	}
	return fs.WalkDir(os.DirFS(string(p)), ".", func(place string, d fs.DirEntry, err error) error {
		name := filepath.Join(string(p), filepath.FromSlash(place))
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && place == ".":
			return err
		case err != nil:
			strange(name, "cannot be read: "+reason(err))
			return nil
		case d.IsDir() && d.Name() == unfinishedFolder:
			return fs.SkipDir
		case d.IsDir():
			if room := roomFolder.FindStringSubmatch(place); room != nil && !want.room(ivschat.Scope{Account: room[1], Region: room[2]}, room[3]) {
				return fs.SkipDir
			}
			return nil
		}
		mode := d.Type()
		if mode&fs.ModeSymlink != 0 {
			target, err := os.Stat(name)
			if err != nil {
				strange(name, "is a link that leads nowhere")
				return nil
			}
			if mode = target.Mode().Type(); mode.IsDir() {
				strange(name, "is a link to a folder, and those are not followed; name the folder itself")
				return nil
			}
		}
		f, ok := classifyPath(place)
		if at, err := d.Info(); !ok && err == nil && mode.IsRegular() && at.Size() == 0 {
			return nil // nothing is lost
		}
		if !ok || !mode.IsRegular() {
			strange(name, notALog)
			return nil
		}
		p.offer(f, name, want, found)
		return nil
	})
}

func (pathSource) offer(f logFile, name string, want *choice, found func(logFile)) {
	if want.file(&f) {
		f.name = name
		f.open = func(context.Context) (io.ReadCloser, error) { return os.Open(name) }
		found(f)
	}
}

// readerSource is a stream of lines, as standard input is.
type readerSource struct {
	name string
	in   io.Reader
}

// FromReader reads lines, or gzip of them, to the end.
func FromReader(name string, in io.Reader) Source { return readerSource{name, in} }

func (s readerSource) String() string { return s.name }

func (s readerSource) find(_ context.Context, _ *choice, found func(logFile), _ func(name, why string)) error {
	found(logFile{name: s.name, open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(s.in), nil }})
	return nil
}

// bucketSource is what of a bucket has a prefix.
type bucketSource struct {
	client         *s3.Client
	bucket, prefix string
}

// FromBucket reads the objects of a bucket whose keys begin with prefix.
func FromBucket(client *s3.Client, bucket, prefix string) Source {
	return &bucketSource{client, bucket, prefix}
}

// Folders of the S3 layout: that of a room, and those beside IVSChatLogs, where
// other services of AWS put their logs.
var (
	roomFolder   = regexp.MustCompile(`(?:^|/)AWSLogs/([0-9]+)/IVSChatLogs/[^/]+/([a-z0-9-]+)/room_([A-Za-z0-9-]+)/?$`)
	roomKey      = regexp.MustCompile(`(?:^|/)AWSLogs/[0-9]+/IVSChatLogs/[^/]+/[a-z0-9-]+/room_[A-Za-z0-9-]+/`)
	otherService = regexp.MustCompile(`(?:^|/)AWSLogs/[0-9]+/([^/]+)/$`)
)

func (b *bucketSource) String() string { return b.name(b.prefix) }

// find walks the folders down to those of rooms, so that rooms that are not
// wanted cost nothing, and lists a room's keys flat: they are in the order of
// time, and a call gives a thousand.
func (b *bucketSource) find(ctx context.Context, want *choice, found func(logFile), strange func(name, why string)) error {
	if roomKey.MatchString(b.prefix) {
		return b.list(ctx, b.prefix, want, found, strange)
	}
	folders := []string{b.prefix}
	for len(folders) > 0 {
		folder := folders[0]
		folders = folders[1:]
		if m := roomFolder.FindStringSubmatch(folder); m != nil {
			if want.room(ivschat.Scope{Account: m[1], Region: m[2]}, m[3]) {
				if err := b.list(ctx, folder, want, found, strange); err != nil {
					return err
				}
			}
			continue
		}
		if m := otherService.FindStringSubmatch(folder); m != nil && m[1] != "IVSChatLogs" {
			strange(b.name(folder), "has the logs of another service; it was not looked into")
			continue
		}
		pages := s3.NewListObjectsV2Paginator(b.client, &s3.ListObjectsV2Input{Bucket: &b.bucket, Prefix: aws.String(folder), Delimiter: aws.String("/")})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return err
			}
			for _, p := range page.CommonPrefixes {
				if sub := aws.ToString(p.Prefix); sub != folder {
					folders = append(folders, sub)
				}
			}
			for _, o := range page.Contents {
				b.offer(aws.ToString(o.Key), want, found, strange)
			}
		}
	}
	return nil
}

// list finds the objects of one room.
func (b *bucketSource) list(ctx context.Context, prefix string, want *choice, found func(logFile), strange func(name, why string)) error {
	in := &s3.ListObjectsV2Input{Bucket: &b.bucket, Prefix: &prefix}
	inOrder := roomFolder.MatchString(prefix)
	if first := want.firstHour(); !first.IsZero() && inOrder {
		in.StartAfter = aws.String(prefix + first.Format("2006/01/02/15")) // sorts before what is in it
	}
	pages := s3.NewListObjectsV2Paginator(b.client, in)
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, o := range page.Contents {
			if f, ok := classifyPath(aws.ToString(o.Key)); ok && inOrder && want.past(&f) {
				return nil
			}
			b.offer(aws.ToString(o.Key), want, found, strange)
		}
	}
	return nil
}

func (b *bucketSource) offer(key string, want *choice, found func(logFile), strange func(name, why string)) {
	if strings.HasSuffix(key, "/") {
		return // a folder, as consoles make them
	}
	f, ok := classifyPath(key)
	if !ok {
		strange(b.name(key), notALog)
		return
	}
	if !want.file(&f) {
		return
	}
	f.name = b.name(key)
	f.open = func(ctx context.Context) (io.ReadCloser, error) {
		out, err := b.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &b.bucket, Key: &key})
		if err != nil {
			return nil, err
		}
		return out.Body, nil
	}
	found(f)
}

func (b *bucketSource) name(key string) string { return "s3://" + b.bucket + "/" + key }

// reason is an error of the file system without the path, which stands beside it,
// or what a server of S3 said.
func reason(err error) string {
	var of *fs.PathError
	var said smithy.APIError
	switch {
	case errors.As(err, &of):
		return of.Err.Error()
	case errors.As(err, &said):
		return strings.TrimSuffix(said.ErrorCode()+": "+said.ErrorMessage(), ": ")
	}
	return err.Error()
}
