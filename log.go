package hubbub

import (
	"io"
	"log/slog"
	"os"
)

// logger is the server's log: Config.Logger, or standard error in the form asked for.
func (c Config) logger() *slog.Logger {
	if c.Logger != nil {
		return c.Logger
	}
	form := c.Log
	if form == "" {
		form = "json"
		if terminal(os.Stderr) {
			form = "text"
		}
	}
	return newLogger(os.Stderr, form, c.LogLevel)
}

func newLogger(w io.Writer, form string, level slog.Level) *slog.Logger {
	o := &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Value.Kind() == slog.KindDuration { // with its unit, in JSON as well
			a.Value = slog.StringValue(a.Value.Duration().String())
		}
		return a
	}}
	if form == "text" {
		return slog.New(slog.NewTextHandler(w, o))
	}
	return slog.New(slog.NewJSONHandler(w, o))
}

// terminal says whether somebody reads along.
func terminal(f *os.File) bool {
	s, err := f.Stat()
	return err == nil && s.Mode()&(os.ModeDevice|os.ModeCharDevice) == os.ModeDevice|os.ModeCharDevice
}
