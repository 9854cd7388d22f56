package socket

import (
	"bytes"

	"github.com/gobwas/ws"
)

// Frame is an encoded WebSocket frame that never changes, shared by all who
// receive it.
type Frame struct {
	bytes  []byte
	last   bool // nothing may follow: a close frame
	answer bool // not a frame at all: the answer to the upgrade
}

// NewFrame makes a text frame; the payload must be valid UTF-8. It is copied.
func NewFrame(payload []byte) *Frame { return &Frame{bytes: encode(ws.OpText, payload)} }

func encode(op ws.OpCode, payload []byte) []byte {
	var b bytes.Buffer
	b.Grow(ws.MaxHeaderSize + len(payload))
	// Writing to a buffer cannot fail.
	_ = ws.WriteHeader(&b, ws.Header{Fin: true, OpCode: op, Length: int64(len(payload))})
	b.Write(payload)
	return b.Bytes()
}

// closeFrame ends a connection. The reason is cut to what a control frame holds,
// at a character boundary.
func closeFrame(code uint16, reason string) *Frame {
	const most = ws.MaxControlFramePayloadSize - 2
	if len(reason) > most {
		cut := most
		for cut > 0 && reason[cut]&0xC0 == 0x80 {
			cut--
		}
		reason = reason[:cut]
	}
	var body []byte
	if code != 0 {
		body = ws.NewCloseFrameBody(ws.StatusCode(code), reason)
	}
	return &Frame{bytes: encode(ws.OpClose, body), last: true}
}

var ping = &Frame{bytes: encode(ws.OpPing, nil)}
