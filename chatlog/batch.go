package chatlog

import (
	"encoding/binary"
	"errors"
	"time"

	"hubbub/ivschat"
)

// A batch in the outbox is entries behind one another:
//
//	length and bytes of the room's ARN · milliseconds of Unix time · length and bytes of the line
//
// Lengths are uvarints, the time is eight bytes, the highest first.

// appendEntry writes the entry of one record.
func appendEntry(b []byte, room ivschat.ARN, received time.Time, line []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(room)))
	b = append(b, room...)
	b = binary.BigEndian.AppendUint64(b, uint64(received.UnixMilli()))
	b = binary.AppendUvarint(b, uint64(len(line)))
	return append(b, line...)
}

var errBatch = errors.New("a batch of chat-log records is cut off")

// readBatch takes a batch apart. The lines are parts of b.
func readBatch(b []byte) ([]Entry, error) {
	var entries []Entry
	var room ivschat.ARN
	for len(b) > 0 {
		name, rest, ok := readBytes(b)
		if !ok || len(rest) < 8 {
			return nil, errBatch
		}
		if string(name) != string(room) { // mostly it is the one before
			room = ivschat.ARN(name)
		}
		received := time.UnixMilli(int64(binary.BigEndian.Uint64(rest))).UTC()
		line, rest, ok := readBytes(rest[8:])
		if !ok {
			return nil, errBatch
		}
		entries = append(entries, Entry{room, received, line})
		b = rest
	}
	return entries, nil
}

func readBytes(b []byte) (value, rest []byte, ok bool) {
	n, size := binary.Uvarint(b)
	if size <= 0 || n > uint64(len(b)-size) {
		return nil, nil, false
	}
	return b[size : size+int(n) : size+int(n)], b[size+int(n):], true
}
