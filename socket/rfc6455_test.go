package socket_test

import (
	"bytes"
	"strings"
	"testing"

	"hubbub/socket"

	"github.com/gobwas/ws"
)

// Cases after the chapters of the Autobahn suite: what comes back, or the code
// that the connection is closed with.
func TestRFC6455(t *testing.T) {
	text := func(fin bool, payload string) []byte { return encoded(ws.Header{Fin: fin, OpCode: ws.OpText}, payload) }
	more := func(fin bool, payload string) []byte {
		return encoded(ws.Header{Fin: fin, OpCode: ws.OpContinuation}, payload)
	}
	control := func(op ws.OpCode, payload string) []byte { return encoded(ws.Header{Fin: true, OpCode: op}, payload) }
	closing := func(code ws.StatusCode, reason string) []byte {
		return control(ws.OpClose, string(ws.NewCloseFrameBody(code, reason)))
	}
	type frames []struct {
		op      ws.OpCode
		payload string
	}
	with := func(b []byte, at int, v byte) []byte {
		b = bytes.Clone(b)
		b[at] = v
		return b
	}
	for _, c := range []struct {
		name  string
		bytes [][]byte
		back  frames
		close ws.StatusCode // 0: it stays open; 1: closed by the client's frame, without a code
	}{
		{"1.1 empty text", [][]byte{text(true, "")}, frames{{ws.OpText, ""}}, 0},
		{"1.1 text of every header size", [][]byte{text(true, strings.Repeat("a", 125)), text(true, strings.Repeat("b", 126)), text(true, strings.Repeat("c", 65536))},
			frames{{ws.OpText, strings.Repeat("a", 125)}, {ws.OpText, strings.Repeat("b", 126)}, {ws.OpText, strings.Repeat("c", 65536)}}, 0},
		{"1.2 binary is taken like text", [][]byte{control(ws.OpBinary, "x")}, frames{{ws.OpText, "x"}}, 0},
		{"2 ping", [][]byte{control(ws.OpPing, "")}, frames{{ws.OpPong, ""}}, 0},
		{"2 ping with 125 bytes", [][]byte{control(ws.OpPing, strings.Repeat("\xff", 125))}, frames{{ws.OpPong, strings.Repeat("\xff", 125)}}, 0},
		{"2 ping with 126 bytes", [][]byte{control(ws.OpPing, strings.Repeat("p", 126))}, nil, 1002},
		{"2 pong unasked", [][]byte{control(ws.OpPong, "x"), text(true, "y")}, frames{{ws.OpText, "y"}}, 0},
		{"3 reserved bit", [][]byte{with(text(true, "x"), 0, 0x80|0x40|1)}, nil, 1002},
		{"4 reserved opcode 3", [][]byte{with(text(true, "x"), 0, 0x83)}, nil, 1002},
		{"4 reserved opcode 11", [][]byte{with(text(true, "x"), 0, 0x8b)}, nil, 1002},
		{"unmasked", [][]byte{{0x81, 1, 'x'}}, nil, 1002},
		{"a length not in its shortest form", [][]byte{{0x81, 0x80 | 126, 0, 1, 0, 0, 0, 0, 'x'}}, nil, 1002},
		{"a 64-bit length not in its shortest form", [][]byte{{0x81, 0x80 | 127, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 'x'}}, nil, 1002},
		{"a length with the highest bit", [][]byte{{0x81, 0x80 | 127, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}}, nil, 1002},
		{"5 fragments", [][]byte{text(false, "a"), more(false, ""), more(true, "b")}, frames{{ws.OpText, "ab"}}, 0},
		{"5 a ping between fragments", [][]byte{text(false, "a"), control(ws.OpPing, "p"), more(true, "b")}, frames{{ws.OpPong, "p"}, {ws.OpText, "ab"}}, 0},
		{"5 a fragmented ping", [][]byte{encoded(ws.Header{OpCode: ws.OpPing}, "p")}, nil, 1002},
		{"5 a continuation of nothing", [][]byte{more(true, "x")}, nil, 1002},
		{"5 a text within a fragmented one", [][]byte{text(false, "a"), text(true, "b")}, nil, 1002},
		{"6 UTF-8", [][]byte{text(true, "κόσμε")}, frames{{ws.OpText, "κόσμε"}}, 0},
		{"6 UTF-8 cut by fragments", [][]byte{text(false, "\xce"), more(true, "\xba")}, frames{{ws.OpText, "κ"}}, 0},
		{"6 bad UTF-8", [][]byte{text(true, "\xce\xba\xed\xa0\x80")}, nil, 1007},
		{"6 UTF-8 that ends early", [][]byte{text(true, "\xce")}, nil, 1007},
		{"6 UTF-8 over the last code point", [][]byte{text(true, "\xf4\x90\x80\x80")}, nil, 1007},
		{"7 close without a code", [][]byte{control(ws.OpClose, "")}, nil, 1},
		{"7 close", [][]byte{closing(1000, "bye")}, nil, 1000},
		{"7 close with 123 bytes", [][]byte{closing(1001, strings.Repeat("r", 123))}, nil, 1001},
		{"7 close of an application", [][]byte{closing(4999, "")}, nil, 4999},
		{"7 close of one byte", [][]byte{control(ws.OpClose, "x")}, nil, 1002},
		{"7 close with 1005", [][]byte{closing(1005, "")}, nil, 1002},
		{"7 close with 999", [][]byte{closing(999, "")}, nil, 1002},
		{"7 close with bad UTF-8", [][]byte{closing(1000, "\xff")}, nil, 1007},
		{"7 nothing after close", [][]byte{closing(1000, ""), text(true, "x")}, nil, 1000},
		{"9 a frame over the limit", [][]byte{{0x81, 0x80 | 127, 0, 0, 0, 0, 0, 2, 0, 1, 0, 0, 0, 0}}, nil, 1009},
		{"9 a message over the limit", [][]byte{text(false, strings.Repeat("x", 100<<10)), more(true, strings.Repeat("x", 29<<10))}, nil, 1009},
		{"9 a frame of exabytes", [][]byte{{0x81, 0x80 | 127, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}}, nil, 1009},
	} {
		t.Run(c.name, func(t *testing.T) {
			each(t, func(t *testing.T, on transport) {
				for _, whole := range []bool{true, false} { // all at once, and byte by byte where that is cheap
					all := bytes.Join(c.bytes, nil)
					if !whole && len(all) > 4096 {
						continue
					}
					s := start(t, on, socket.Config{})
					conn := s.open(t)
					if whole {
						conn.write(all...)
					} else {
						for _, b := range all {
							if _, err := conn.Write([]byte{b}); err != nil {
								break // the server ended it at the first bad byte
							}
						}
					}
					for _, f := range c.back {
						conn.want(f.op, f.payload)
					}
					switch c.close {
					case 0:
						conn.text("still here")
						conn.want(ws.OpText, "still here")
					case 1:
						conn.want(ws.OpClose, "")
					default:
						conn.wantClose(c.close)
					}
				}
			})
		})
	}
}
