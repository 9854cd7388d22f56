package control

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"hubbub/ivschat"
)

// sink is a ResponseWriter that costs next to nothing.
type sink struct {
	header http.Header
	status int
}

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) Write(b []byte) (int, error) { return len(b), nil }
func (s *sink) WriteHeader(status int)      { s.status = status }

// bench serves one signed request over and over: the whole pipeline, log and
// metrics included, without the connection.
func bench(b *testing.B, o ivschat.Operation, body string) {
	f := open(b, func(_ *fixture, o *Options) { o.Log = slog.New(slog.NewJSONHandler(io.Discard, nil)) })
	body = fmt.Sprintf(body, f.room())
	r := f.request("POST", "/"+string(o), body)
	r.Header.Set("User-Agent", "aws-sdk-go-v2/1.41.9 ua/2.1 os/linux lang/go#1.26 md/GOOS#linux md/GOARCH#amd64 api/ivschat#1.22.2")
	content := strings.NewReader(body)
	w := &sink{header: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		content.Reset(body)
		r.Body = io.NopCloser(content)
		clear(w.header)
		f.ServeHTTP(w, r)
		if w.status != http.StatusOK {
			b.Fatal(w.status)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
}

func BenchmarkCreateChatToken(b *testing.B) {
	bench(b, ivschat.OpCreateChatToken, `{"roomIdentifier":%q,"userId":"alice","capabilities":["SEND_MESSAGE"],"attributes":{"username":"alice"}}`)
}

func BenchmarkGetRoom(b *testing.B) { bench(b, ivschat.OpGetRoom, `{"identifier":%q}`) }
