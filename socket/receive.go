package socket

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"sync"
	"syscall"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// buffers are for reading from raw connections: one is held only while there is
// something to read.
var buffers = sync.Pool{New: func() any { b := make([]byte, 8<<10); return &b }}

// source waits for bytes. With a raw connection it takes a buffer only once there
// is something to put into it; otherwise it has a small one of its own, since TLS
// keeps a record anyway.
type source struct {
	conn net.Conn
	raw  syscall.RawConn // nil with TLS
	own  []byte          // nil if raw is not

	// Of one receive.
	buffer *[]byte
	n      int
	err    error
	try    func(fd uintptr) bool
}

func newSource(c net.Conn) *source {
	s := &source{conn: c}
	if t, ok := c.(*net.TCPConn); ok && rawReads {
		if raw, err := t.SyscallConn(); err == nil {
			s.raw = raw
		}
	}
	if s.raw == nil {
		s.own = make([]byte, 1<<10)
		return s
	}
	s.try = func(fd uintptr) bool {
		s.buffer = buffers.Get().(*[]byte)
		s.n, s.err = receiveOnce(fd, *s.buffer)
		if wouldBlock(s.err) {
			s.release()
			s.err = nil
			return false
		}
		return true
	}
	return s
}

// receive waits for some bytes and hands them to take, during whose call they are
// valid. Bytes may come together with an error; io.EOF is the end.
func (s *source) receive(take func(b []byte)) error {
	if s.raw == nil {
		n, err := s.conn.Read(s.own)
		if n > 0 {
			take(s.own[:n])
		}
		return err
	}
	s.n, s.err = 0, nil
	defer s.release()
	if err := s.raw.Read(s.try); err != nil {
		return err
	}
	if s.n > 0 {
		take((*s.buffer)[:s.n])
	} else if s.err == nil {
		return io.EOF
	}
	return s.err
}

// unread says whether bytes have come from the client that nobody has read.
func unread(c net.Conn) (some bool) {
	t, ok := c.(*net.TCPConn)
	if !ok {
		return false
	}
	if raw, err := t.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { some = peekOnce(fd) })
	}
	return some
}

// look hands what is there to take, if anything is. It sees nothing of TLS.
func (s *source) look(take func(b []byte)) {
	if s.raw == nil {
		return
	}
	defer s.release()
	s.n = 0
	if err := s.raw.Control(func(fd uintptr) { s.try(fd) }); err == nil && s.n > 0 {
		take((*s.buffer)[:s.n])
	}
}

func (s *source) release() {
	if s.buffer != nil {
		buffers.Put(s.buffer)
		s.buffer = nil
	}
}

// readLoop reads until the connection ends. early is what came behind the upgrade
// request.
func (c *Conn) readLoop(from *source, early []byte) {
	r := reader{limit: c.server.config.MaxFrame}
	err := r.read(early, c)
	if err == nil {
		err = c.readAll(from, &r)
	}
	var v violation
	if !errors.As(err, &v) {
		return
	}
	// The rest of what the peer sends is thrown away until it ends the connection
	// or its time is over: a reset could overtake the close frame.
	c.final.Store(true)
	c.close(uint16(v.code), v.text, ProtocolError)
	if c.closeSent.Load() { // an earlier one, of Close
		c.endWriting()
	}
	c.discard()
}

// yieldBytes is after how much a connection lets others go first. Who sends
// without pause never waits in the kernel, and would keep a processor for the
// 10 ms of the scheduler's time slice, again and again.
const yieldBytes = 8 << 10

func (c *Conn) readAll(from *source, r *reader) error {
	var bad error // of the bytes themselves
	since := 0    // the last yield, in bytes
	take := func(b []byte) {
		since += len(b)
		c.server.metrics.bytesIn.Add(float64(len(b)))
		bad = r.read(b, c)
	}
	for {
		err := from.receive(take)
		if since >= yieldBytes {
			since = 0
			runtime.Gosched()
		}
		if bad != nil {
			return bad
		}
		if err != nil {
			return err
		}
	}
}

// discard reads until the peer ends the connection, for a few megabytes at most:
// as long as our close frame is not written the writer and the timer see to it
// that this ends, then the peer has CloseTimeout.
func (c *Conn) discard() {
	b := buffers.Get().(*[]byte)
	defer buffers.Put(b)
	for range 1024 {
		if _, err := c.net.Read(*b); err != nil {
			return
		}
	}
}

// message hands a message to the Handler, unless the connection is ending.
func (c *Conn) message(_ ws.OpCode, payload []byte) {
	c.lives()
	c.framesIn++
	c.server.metrics.framesIn.Inc()
	if !c.ending() {
		c.server.handler.Message(c, payload)
	}
}

// errClosed ends the read loop when both close frames are through.
var errClosed = errors.New("closed")

func (c *Conn) control(op ws.OpCode, payload []byte) error {
	c.lives()
	switch op {
	case ws.OpPing:
		c.pong(&Frame{bytes: encode(ws.OpPong, payload)})
	case ws.OpClose:
		return c.closedByPeer(payload)
	}
	return nil
}

// closedByPeer answers a close frame, or completes the handshake that we began.
func (c *Conn) closedByPeer(payload []byte) error {
	code, noted, err := closeCode(payload)
	if err != nil {
		return err
	}
	c.final.Store(true)
	if !c.ending() {
		c.end(ClosedByClient, noted)
		c.Send(closeFrame(code, ""))
	} else if c.closeSent.Load() {
		return errClosed
	}
	c.discard() // until the peer has ours, which is behind what is queued, and ends TCP
	return errClosed
}

// closeCode checks the payload of a close frame and returns its code, 0 if there
// is none, and what that is noted as.
func closeCode(payload []byte) (code, noted uint16, err error) {
	switch {
	case len(payload) == 0:
		return 0, uint16(ws.StatusNoStatusRcvd), nil
	case len(payload) == 1:
		return 0, 0, violation{ws.StatusProtocolError, "a close frame of one byte"}
	}
	code = binary.BigEndian.Uint16(payload)
	if err := ws.CheckCloseFrameData(ws.StatusCode(code), string(payload[2:])); err != nil {
		if !utf8.Valid(payload[2:]) {
			return 0, 0, violation{ws.StatusInvalidFramePayloadData, "a close reason that is not UTF-8"}
		}
		return 0, 0, violation{ws.StatusProtocolError, err.Error()}
	}
	return code, code, nil
}
