package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"
)

// wire is what the load must know of a server's protocol above WebSocket.
type wire interface {
	// request is the path and sub-protocol of connection i, which is in the room.
	request(room int, token string) (path, protocol string)
	// join is what a connection sends when it is open, if anything.
	join(dst []byte, room int) []byte
	// joined says that a frame is the answer to join. Without join there is none.
	joined(frame []byte) bool
	// message appends the frame of one message to a room.
	message(dst []byte, room int, seq uint32, due int64) []byte
	// answer is what a frame without a message asks for: nil is nothing.
	answer(frame []byte) []byte
}

// mark stands once in each message and nowhere else; at stands before, between
// and behind its number and its due time.
const (
	mark = '~'
	at   = '@'
)

func wireOf(spec *loadSpec) wire {
	switch spec.Wire {
	case "mixed":
		return mixedWire{rooms: spec.Rooms, each: spec.Viewers / spec.Rooms}
	case "hubbub":
		return ivsWire{}
	case "centrifuge":
		return centrifugeWire{}
	case "nats":
		return natsWire{spec.Base}
	}
	return plainWire{}
}

func appendContent(dst []byte, seq uint32, due int64) []byte {
	dst = append(dst, '"', at)
	dst = strconv.AppendUint(dst, uint64(seq), 10)
	dst = append(dst, at)
	dst = strconv.AppendInt(dst, due, 10)
	dst = append(dst, at)
	dst = append(dst, padding...)
	return append(dst, mark, '"')
}

// appendEvent is the event that Hubbub makes of a message, for servers that
// send on what they get: the bytes delivered are the same to within a few.
func appendEvent(dst []byte, seq uint32, due int64) []byte {
	dst = append(dst, `{"Type":"MESSAGE","Id":"M2YcHkgffEvU","RequestId":"0c5b6b43-9c2e-4f5e-8a05-1f21d7d3f5ac","Attributes":null,"Content":`...)
	dst = appendContent(dst, seq, due)
	return append(dst, `,"SendTime":"2022-12-02T08:21:20.754555595Z","Sender":{"UserId":"user-0","Attributes":{"username":"viewer"}}}`...)
}

// appendFrame encloses what body appends in a frame with a mask of zeros, which
// changes nothing.
func appendFrame(dst []byte, op byte, body func([]byte) []byte) []byte {
	begin := len(dst)
	dst = append(dst, 0x80|op, 0x80|126, 0, 0, 0, 0, 0, 0)
	dst = body(dst)
	n := len(dst) - begin - 8
	if n >= 126 {
		binary.BigEndian.PutUint16(dst[begin+2:], uint16(n))
		return dst
	}
	dst[begin+1] = 0x80 | byte(n) // the shortest form, as the standard demands
	return append(dst[:begin+6], dst[begin+8:]...)
}

func text(s string) []byte {
	return appendFrame(nil, 1, func(b []byte) []byte { return append(b, s...) })
}

// plainWire is that of servers that broadcast what comes in to the room that
// the path names.
type plainWire struct{}

func (plainWire) request(room int, _ string) (string, string) { return "/" + strconv.Itoa(room), "" }
func (plainWire) join(dst []byte, _ int) []byte               { return dst }
func (plainWire) joined([]byte) bool                          { return true }
func (plainWire) answer([]byte) []byte                        { return nil }
func (plainWire) message(dst []byte, _ int, seq uint32, due int64) []byte {
	return appendFrame(dst, 1, func(b []byte) []byte { return appendEvent(b, seq, due) })
}

// ivsWire is that of Amazon IVS Chat.
type ivsWire struct{ plainWire }

func (ivsWire) request(_ int, token string) (string, string) { return "/", token }
func (ivsWire) message(dst []byte, _ int, seq uint32, due int64) []byte {
	return appendFrame(dst, 1, func(b []byte) []byte {
		b = append(b, `{"Action":"SEND_MESSAGE","RequestId":"0c5b6b43-9c2e-4f5e-8a05-1f21d7d3f5ac","Content":`...)
		return append(appendContent(b, seq, due), '}')
	})
}

// centrifugeWire is the JSON protocol of Centrifuge.
type centrifugeWire struct{}

func (centrifugeWire) request(int, string) (string, string) { return "/", "" }
func (centrifugeWire) join(dst []byte, room int) []byte {
	return append(dst, text(fmt.Sprintf("{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{\"channel\":\"r%d\"}}", room))...)
}
func (centrifugeWire) joined(frame []byte) bool { return bytes.Contains(frame, []byte(`"subscribe":`)) }
func (centrifugeWire) answer(frame []byte) []byte {
	if len(frame) == 2 { // {}, its ping
		return text("{}")
	}
	return nil
}
func (centrifugeWire) message(dst []byte, room int, seq uint32, due int64) []byte {
	return appendFrame(dst, 1, func(b []byte) []byte {
		b = append(b, `{"id":3,"publish":{"channel":"r`...)
		b = strconv.AppendInt(b, int64(room), 10)
		b = append(b, `","data":`...)
		return append(appendEvent(b, seq, due), "}}"...)
	})
}

// natsWire is the client protocol of NATS in binary frames.
type natsWire struct{ base int } // of its rooms' numbers

func (natsWire) request(int, string) (string, string) { return "/", "" }
func (n natsWire) join(dst []byte, room int) []byte {
	return appendFrame(dst, 2, func(b []byte) []byte {
		return fmt.Appendf(b, "CONNECT {\"verbose\":false,\"pedantic\":false,\"protocol\":1}\r\nSUB r%d 1\r\nPING\r\n", n.base+room)
	})
}
func (natsWire) joined(frame []byte) bool { return bytes.Contains(frame, []byte("PONG\r\n")) }
func (natsWire) answer(frame []byte) []byte {
	if bytes.HasPrefix(frame, []byte("PING\r\n")) {
		return appendFrame(nil, 2, func(b []byte) []byte { return append(b, "PONG\r\n"...) })
	}
	return nil
}
func (n natsWire) message(dst []byte, room int, seq uint32, due int64) []byte {
	event := appendEvent(nil, seq, due)
	return appendFrame(dst, 2, func(b []byte) []byte {
		b = fmt.Appendf(b, "PUB r%d %d\r\n", n.base+room, len(event))
		return append(append(b, event...), "\r\n"...)
	})
}
