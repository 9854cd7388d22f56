package socket

import "slices"

// queue is frames that wait for the kernel to take them. It is not safe for more
// than one goroutine.
type queue struct {
	frames []*Frame
	pong   *Frame // to be sent ahead of what is not begun
	offset int    // bytes of frames[0] that are written
	bytes  int    // of all frames
}

// most is how many bytes one write carries: frames are joined up to it.
const most = 16 << 10

// insertPong puts the pong ahead of all that is not begun, or a busy room would
// starve it.
func (q *queue) insertPong() {
	if q.pong == nil {
		return
	}
	at := 0
	if len(q.frames) > 0 && (q.offset > 0 || q.frames[0].answer) {
		at = 1
	}
	q.frames = slices.Insert(q.frames, at, q.pong)
	q.bytes, q.pong = q.bytes+len(q.pong.bytes), nil
}

// join is a write's worth of what waits, which stays in the queue. The queue is
// not empty.
func (q *queue) join(room *[]byte) []byte {
	first := q.frames[0].bytes[q.offset:]
	if len(q.frames) == 1 || len(first)+len(q.frames[1].bytes) > most {
		return first
	}
	*room = append((*room)[:0], first...)
	for _, f := range q.frames[1:] {
		if len(*room)+len(f.bytes) > most {
			break
		}
		*room = append(*room, f.bytes...)
	}
	return *room
}

// wrote takes n bytes off, and says how many frames are whole now and whether
// the last of all was among them.
func (q *queue) wrote(n int) (whole uint64, last bool) {
	done := 0
	for done < len(q.frames) {
		f := q.frames[done]
		left := len(f.bytes) - q.offset
		if n < left {
			q.offset += n
			break
		}
		n -= left
		q.bytes -= len(f.bytes)
		q.offset = 0
		last = last || f.last
		if !f.answer {
			whole++
		}
		done++
	}
	if done > 0 {
		rest := copy(q.frames, q.frames[done:])
		clear(q.frames[rest:])
		q.frames = q.frames[:rest]
	}
	return whole, last
}
