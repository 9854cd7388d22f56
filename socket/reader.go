package socket

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// reader takes a client's bytes apart into frames and messages. Bytes come in
// pieces of any size; what is complete is handed on without a copy where that
// can be. An idle reader holds no buffer.
type reader struct {
	limit int // bytes of a message

	head   [ws.MaxHeaderSize]byte
	have   int // bytes of the header so far
	header ws.Header
	inside bool // header is complete, its payload is not
	taken  int  // bytes of the payload so far

	op      ws.OpCode // of the message under way; 0 if none
	message []byte    // of its earlier fragments and pieces
	control []byte    // of the control frame under way
}

// violation ends a connection with a close frame of that code.
type violation struct {
	code ws.StatusCode
	text string
}

func (v violation) Error() string { return v.text }

// frames receives what a reader finds. Payloads are valid during the call.
type frames interface {
	message(op ws.OpCode, payload []byte)
	control(op ws.OpCode, payload []byte) error
}

// read takes a piece; it may change it. The error is a violation, or what a
// control frame came to.
func (r *reader) read(b []byte, to frames) error {
	for len(b) > 0 {
		if !r.inside {
			n, err := r.readHeader(b)
			if err != nil {
				return err
			}
			b = b[n:]
			if !r.inside {
				return nil
			}
			if r.header.Length > 0 && len(b) == 0 {
				return nil
			}
		}
		n := min(len(b), int(r.header.Length)-r.taken)
		piece := b[:n]
		ws.Cipher(piece, r.header.Mask, r.taken)
		r.taken += n
		b = b[n:]
		if err := r.payload(piece, to); err != nil {
			return err
		}
	}
	return nil
}

// readHeader takes what it needs of b for the header.
func (r *reader) readHeader(b []byte) (n int, err error) {
	need := 2
	for {
		if r.have >= 2 {
			need = 2
			if r.head[1]&0x80 != 0 {
				need += 4
			}
			switch r.head[1] & 0x7f {
			case 126:
				need += 2
			case 127:
				need += 8
			}
		}
		if r.have == need && need > 2 || r.have == 2 && need == 2 {
			break
		}
		if n == len(b) {
			return n, nil
		}
		took := copy(r.head[r.have:need], b[n:])
		r.have += took
		n += took
	}
	if r.header, err = ws.ReadHeader(bytes.NewReader(r.head[:r.have])); err != nil {
		return n, violation{ws.StatusProtocolError, "bad frame header"}
	}
	r.have = 0
	state := ws.StateServerSide
	if r.op != 0 {
		state = state.Set(ws.StateFragmented)
	}
	if err := ws.CheckHeader(r.header, state); err != nil {
		return n, violation{ws.StatusProtocolError, err.Error()}
	}
	if !minimal(r.header.Length, r.head[1]&0x7f) {
		return n, violation{ws.StatusProtocolError, "length not in its shortest form"}
	}
	if !r.header.OpCode.IsControl() && r.header.Length > int64(r.limit-len(r.message)) {
		return n, violation{ws.StatusMessageTooBig, "message too big"}
	}
	r.inside, r.taken = true, 0
	return n, nil
}

// minimal says whether a length is encoded as short as it can be.
// Source: RFC 6455, 5.2.
func minimal(length int64, code byte) bool {
	switch code {
	case 126:
		return length > 125
	case 127:
		return length > 0xffff
	}
	return true
}

// payload takes a piece of the current frame's payload, unmasked.
func (r *reader) payload(piece []byte, to frames) error {
	done := r.taken == int(r.header.Length)
	h := r.header
	if done {
		r.inside = false
	}
	if h.OpCode.IsControl() {
		if !done || len(r.control) > 0 {
			r.control = append(r.control, piece...)
			piece = r.control
		}
		if !done {
			return nil
		}
		r.control = nil
		return to.control(h.OpCode, piece)
	}
	if h.OpCode != ws.OpContinuation {
		r.op = h.OpCode
	}
	if !done || !h.Fin || len(r.message) > 0 {
		r.message = append(r.message, piece...)
		piece = r.message
	}
	if !done || !h.Fin {
		return nil
	}
	op := r.op
	r.op, r.message = 0, nil
	if op == ws.OpText && !utf8.Valid(piece) {
		return violation{ws.StatusInvalidFramePayloadData, "text that is not UTF-8"}
	}
	to.message(op, piece)
	return nil
}

// buffers are for reading; one is held only while there is something to read.
var buffers = sync.Pool{New: func() any { b := make([]byte, 8<<10); return &b }}

// readLoop reads until the connection ends. first is what came behind the
// upgrade request.
func (c *Conn) readLoop(first []byte) {
	r := reader{limit: c.server.config.MaxFrame}
	err := r.read(first, c)
	receive := c.receiver()
	for err == nil {
		var b *[]byte
		var n int
		b, n, err = receive()
		if n > 0 {
			c.server.metrics.bytesIn.Add(float64(n))
			if perr := r.read((*b)[:n], c); perr != nil {
				err = perr
			}
		}
		if b != nil {
			buffers.Put(b)
		}
		if err == nil && n == 0 {
			err = io.EOF
		}
	}
	var v violation
	if !errors.As(err, &v) {
		return
	}
	// The rest of what the peer sends is thrown away until it ends the connection
	// or its time is over: a reset could overtake the close frame.
	c.final.Store(true)
	c.close(uint16(v.code), v.text, ProtocolError)
	c.discard()
}

// discard reads until the peer ends the connection, for CloseTimeout and a few
// megabytes at most.
func (c *Conn) discard() {
	b := buffers.Get().(*[]byte)
	defer buffers.Put(b)
	_ = c.net.SetReadDeadline(time.Now().Add(c.server.config.CloseTimeout))
	for range 1024 {
		if _, err := c.net.Read(*b); err != nil {
			return
		}
	}
}

// receiver makes the function that waits for bytes. For plain connections it
// takes a buffer only when there is something to put into it.
func (c *Conn) receiver() func() (*[]byte, int, error) {
	if c.raw == nil || !rawReads {
		return func() (*[]byte, int, error) {
			b := buffers.Get().(*[]byte)
			n, err := c.net.Read(*b)
			return b, n, err
		}
	}
	var b *[]byte
	var n int
	var err error
	try := func(fd uintptr) bool {
		b = buffers.Get().(*[]byte)
		n, err = receiveOnce(fd, *b)
		if wouldBlock(err) {
			buffers.Put(b)
			b, err = nil, nil
			return false
		}
		return true
	}
	return func() (*[]byte, int, error) {
		b, n, err = nil, 0, nil
		if werr := c.raw.Read(try); werr != nil {
			return b, n, werr
		}
		return b, n, err
	}
}

// message hands a message to the Handler, unless the connection is ending.
func (c *Conn) message(_ ws.OpCode, payload []byte) {
	c.lives()
	c.framesIn++
	c.server.metrics.framesIn.Inc()
	c.mu.Lock()
	ended := c.ended
	c.mu.Unlock()
	if !ended {
		c.server.handler.Message(c, payload)
	}
}

// errClosed ends the read loop when both close frames are through.
var errClosed = errors.New("closed")

func (c *Conn) control(op ws.OpCode, payload []byte) error {
	c.lives()
	switch op {
	case ws.OpPing:
		c.pongs(&Frame{bytes: encode(ws.OpPong, payload)})
	case ws.OpClose:
		return c.closedByPeer(payload)
	}
	return nil
}

// closedByPeer answers a close frame, or completes the handshake that we began.
func (c *Conn) closedByPeer(payload []byte) error {
	code := uint16(0)
	if len(payload) == 1 {
		return violation{ws.StatusProtocolError, "a close frame of one byte"}
	}
	if len(payload) >= 2 {
		code = binary.BigEndian.Uint16(payload)
		if err := ws.CheckCloseFrameData(ws.StatusCode(code), string(payload[2:])); err != nil {
			if !utf8.Valid(payload[2:]) {
				return violation{ws.StatusInvalidFramePayloadData, "a close reason that is not UTF-8"}
			}
			return violation{ws.StatusProtocolError, err.Error()}
		}
	}
	c.mu.Lock()
	ours := c.ended
	c.mu.Unlock()
	if ours {
		return errClosed
	}
	c.final.Store(true)
	noted := code
	if noted == 0 {
		noted = uint16(ws.StatusNoStatusRcvd)
	}
	c.end(ClosedByClient, noted)
	c.Send(closeFrame(code, ""))
	c.discard()
	return errClosed
}
