package load

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"hubbub/faults/history"
)

// Bucket is a service that keeps chat logs, with one bucket.
type Bucket struct {
	t       testing.TB
	name    string
	backend *s3mem.Backend
}

// OpenBucket serves a bucket of that name on a listener, until the test ends.
func OpenBucket(t testing.TB, l net.Listener, name string) *Bucket {
	t.Helper()
	b := &Bucket{t, name, s3mem.New()}
	if err := b.backend.CreateBucket(name); err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: gofakes3.New(b.backend).Server(), ReadHeaderTimeout: time.Minute}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return b
}

var objectKey = regexp.MustCompile(`/room_([A-Za-z0-9]{12})/`)

// Collect puts the records of the load's rooms into its history.
func (l *Load) Collect(b *Bucket) {
	l.t.Helper()
	number := map[string]int{} // by the room's id
	for _, r := range l.rooms {
		number[r.arn[strings.LastIndexByte(r.arn, '/')+1:]] = r.number
	}
	list, err := b.backend.ListBucket(b.name, &gofakes3.Prefix{}, gofakes3.ListBucketPage{})
	if err != nil {
		l.t.Fatal(err)
	}
	var logged []history.Logged
	for _, c := range list.Contents {
		m := objectKey.FindStringSubmatch(c.Key)
		if m == nil || number[m[1]] == 0 {
			l.t.Errorf("an object %s, which is of no room", c.Key)
			continue
		}
		lines, err := b.read(c.Key)
		if err != nil {
			l.t.Errorf("%s: %v", c.Key, err)
		}
		for _, line := range lines {
			var record struct{ Payload frame }
			err := json.Unmarshal([]byte(line), &record)
			id, room, wrong := record.Payload.id()
			if err = errors.Join(err, wrong); err != nil {
				l.t.Errorf("%s: %v", c.Key, err)
				continue
			}
			logged = append(logged, history.Logged{ID: id, Room: number[m[1]], Content: room})
		}
	}
	l.add(func(h *history.History) { h.Logged = logged })
}

// read returns the lines of an object.
func (b *Bucket) read(key string) ([]string, error) {
	o, err := b.backend.GetObject(b.name, key, nil)
	if err != nil {
		return nil, err
	}
	defer o.Contents.Close()
	z, err := gzip.NewReader(o.Contents)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(z)
	if err != nil {
		return nil, err
	}
	whole, ended := strings.CutSuffix(string(text), "\n")
	if !ended {
		return nil, fmt.Errorf("the last line has no end")
	}
	return strings.Split(whole, "\n"), nil
}
