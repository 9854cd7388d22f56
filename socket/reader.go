package socket

import (
	"bytes"
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
