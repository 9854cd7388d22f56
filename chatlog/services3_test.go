package chatlog_test

import (
	"bytes"
	"encoding/xml"
	"io"
	"net/http"
	"sync"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

// s3Service is S3 with the checks that gofakes3 leaves out.
type s3Service struct {
	*service
	backend *s3mem.Backend

	mu    sync.Mutex
	puts  []string // paths, in the order of their requests
	old   bool     // knows no conditions
	taken int      // so many requests are told that there is such an object
}

func newS3Service() *s3Service {
	b := s3mem.New()
	s := &s3Service{backend: b}
	// The clock of requests is checked with their signature, not against ours.
	inner := gofakes3.New(b, gofakes3.WithTimeSkewLimit(0)).Server()
	s.service = &service{name: "s3"}
	s.fails = func(w http.ResponseWriter, code, message string, status int) {
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(status)
		_ = xml.NewEncoder(w).Encode(struct {
			XMLName xml.Name `xml:"Error"`
			Code    string
			Message string
		}{Code: code, Message: message})
	}
	s.handle = func(w http.ResponseWriter, r *http.Request, body []byte) {
		if r.Method == http.MethodPut {
			for h, want := range map[string]string{
				"Content-Type": "application/octet-stream", "Content-Encoding": "", "X-Amz-Trailer": "", "X-Amz-Decoded-Content-Length": "",
			} {
				if got := r.Header.Get(h); got != want {
					s.complain("header %s: %q, want %q", h, got, want)
				}
			}
			s.mu.Lock()
			s.puts = append(s.puts, r.URL.Path)
			old, taken := s.old, s.taken > 0
			s.taken--
			s.mu.Unlock()
			if taken {
				s.fails(w, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold", http.StatusPreconditionFailed)
				return
			}
			if old && r.Header.Get("If-None-Match") != "" {
				s.fails(w, "NotImplemented", "A header you provided implies functionality that is not implemented", http.StatusNotImplemented)
				return
			}
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		inner.ServeHTTP(w, r)
	}
	return s
}

func (s *s3Service) create(t *testing.T, bucket string) {
	t.Helper()
	if err := s.backend.CreateBucket(bucket); err != nil {
		t.Fatal(err)
	}
}

// objects are the contents by key.
func (s *s3Service) objects(t *testing.T, bucket string) map[string][]byte {
	t.Helper()
	list, err := s.backend.ListBucket(bucket, &gofakes3.Prefix{}, gofakes3.ListBucketPage{})
	if err != nil {
		t.Fatal(err)
	}
	objects := map[string][]byte{}
	for _, c := range list.Contents {
		o, err := s.backend.GetObject(bucket, c.Key, nil)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(o.Contents)
		if err != nil {
			t.Fatal(err)
		}
		objects[c.Key] = b
	}
	return objects
}

// keys are those that were asked for, in order.
func (s *s3Service) keys() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.puts...)
}
