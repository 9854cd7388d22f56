package chattoken

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"time"

	"hubbub/ivschat"
)

// Session is what a chat token grants.
type Session struct {
	ID           string // 16 random bytes, of this token alone; made by Mint
	Room         ivschat.ARN
	UserID       string
	Attributes   map[string]string // nil if there are none
	Capabilities ivschat.Capability

	// The handshake must begin before TokenExpires, and the connection ends at
	// SessionExpires; both are whole seconds.
	TokenExpires, SessionExpires time.Time
}

// String hides the session: its user and attributes are sensitive.
func (Session) String() string { return "[sealed]" }

// GoString hides the session from %#v.
func (Session) GoString() string { return "[sealed]" }

// LogValue hides the session from logs.
func (Session) LogValue() slog.Value { return slog.StringValue("[sealed]") }

const (
	idBytes = 16
	version = 1
)

// append encodes the session: version, id, capabilities, expiries in seconds of
// Unix time, then room, user and attributes, each text with its length before it.
func (s *Session) append(b []byte) []byte {
	b = append(b, version)
	b = append(b, s.ID...)
	b = append(b, byte(s.Capabilities))
	b = binary.AppendVarint(b, s.TokenExpires.Unix())
	b = binary.AppendVarint(b, s.SessionExpires.Unix())
	b = appendText(b, string(s.Room))
	b = appendText(b, s.UserID)
	b = binary.AppendUvarint(b, uint64(len(s.Attributes)))
	for _, k := range ivschat.Strings(s.Attributes).Keys() {
		b = appendText(b, k)
		b = appendText(b, s.Attributes[k])
	}
	return b
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

var errLayout = errors.New("unknown layout")

// reader takes an encoded session apart; after its first failure everything it
// returns is empty.
type reader struct {
	b   []byte
	err error
}

func (r *reader) take(n uint64) []byte {
	if r.err != nil || n > uint64(len(r.b)) {
		r.err = errLayout
		return nil
	}
	taken := r.b[:n]
	r.b = r.b[n:]
	return taken
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.err = errLayout
		return 0
	}
	r.take(uint64(n))
	return v
}

func (r *reader) time() time.Time {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.err = errLayout
		return time.Time{}
	}
	r.take(uint64(n))
	return time.Unix(v, 0).UTC()
}

func (r *reader) text() string { return string(r.take(r.uvarint())) }

// cut is text, cut out of all, a copy that ends where what is read ends.
func (r *reader) cut(all string) string {
	n := len(r.take(r.uvarint()))
	end := len(all) - len(r.b)
	return all[end-n : end]
}

func readSession(b []byte) (s Session, err error) {
	r := reader{b: b}
	if v := r.take(1); r.err != nil || v[0] != version {
		return s, errLayout
	}
	s.ID = string(r.take(idBytes))
	if c := r.take(1); r.err == nil {
		s.Capabilities = ivschat.Capability(c[0])
	}
	s.TokenExpires, s.SessionExpires = r.time(), r.time()
	s.Room = ivschat.ARN(r.text())
	s.UserID = r.text()
	if n := r.uvarint(); r.err == nil && n > 0 {
		if n > uint64(len(r.b)) {
			return s, errLayout
		}
		s.Attributes = make(map[string]string, n)
		all := string(r.b) // which they share
		for range n {
			k := r.cut(all)
			s.Attributes[k] = r.cut(all)
		}
	}
	if r.err != nil || len(r.b) != 0 {
		return Session{}, errLayout
	}
	return s, nil
}
