package control

import (
	"context"
	"crypto/tls"
	"log"
	"log/slog"
	"net/http"
	"strings"
	"time"
)

// What a stranger may take of the listener. Source: issue "Bad input".
const (
	headerLimit = 10 * time.Second // for the header block, and for who connects and says nothing
	bodyLimit   = 20 * time.Second // for the body after it, held by readBody
	answerLimit = time.Minute      // a write to the store may take two tries of 10 s
	idleLimit   = 2 * time.Minute  // between requests; longer than the 90 s and less for which SDKs keep a connection
	maxHeader   = 16 << 10         // the header block with the request line, in bytes

	headerSlop = 4 << 10 // what net/http reads beyond MaxHeaderBytes
)

// NewServer makes the HTTP server for a Handler: with limits on what a stranger
// may take in time and bytes. c is nil to serve without TLS. What net/http has to
// say, most of it about broken handshakes of strangers, goes to the log at level
// info, ten lines a second at most, and at debug beyond that.
func NewServer(h http.Handler, c *tls.Config, logger *slog.Logger) *http.Server {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return &http.Server{
		Handler:                      h,
		TLSConfig:                    c,
		ReadHeaderTimeout:            headerLimit,
		ReadTimeout:                  headerLimit + bodyLimit,
		WriteTimeout:                 answerLimit,
		IdleTimeout:                  idleLimit,
		MaxHeaderBytes:               maxHeader - headerSlop,
		DisableGeneralOptionsHandler: true, // OPTIONS * is no operation either
		ErrorLog:                     log.New(&serverLog{logger.With("component", "control"), newFrequency(10, 20)}, "", 0),
	}
}

// serverLog takes the lines of net/http.
type serverLog struct {
	log    *slog.Logger
	public *frequency
}

// Write logs one line.
func (l *serverLog) Write(line []byte) (int, error) {
	said := strings.TrimSpace(string(line))
	level := l.public.level(time.Now())
	if strings.Contains(said, "Accept error") { // net/http waits in between
		level = slog.LevelWarn
	}
	l.log.LogAttrs(context.Background(), level, "http server", slog.String("said", said))
	return len(line), nil
}
