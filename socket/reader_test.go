package socket

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// found notes what a reader finds.
type found struct {
	t    *testing.T
	what []string
}

func (f *found) message(op ws.OpCode, payload []byte) {
	if op == ws.OpText && !utf8.Valid(payload) {
		f.t.Errorf("text that is not UTF-8: %q", payload)
	}
	f.what = append(f.what, fmt.Sprintf("%d %q", op, payload))
}

func (f *found) control(op ws.OpCode, payload []byte) error {
	if len(payload) > ws.MaxControlFramePayloadSize {
		f.t.Errorf("a control frame of %d bytes", len(payload))
	}
	f.what = append(f.what, fmt.Sprintf("%d %q", op, payload))
	return nil
}

func readIn(t *testing.T, b []byte, piece int) ([]string, error) {
	const limit = 1000
	r, to := reader{limit: limit}, &found{t: t}
	for piece := range slices.Chunk(bytes.Clone(b), piece) {
		if err := r.read(piece, to); err != nil {
			return to.what, err
		}
		if len(r.message) > limit || len(r.control) > ws.MaxControlFramePayloadSize {
			t.Fatalf("it holds %d and %d bytes", len(r.message), len(r.control))
		}
	}
	return to.what, nil
}

// What a reader finds does not depend on how the bytes come.
func FuzzReader(f *testing.F) {
	frame := func(fin bool, op ws.OpCode, payload string) []byte {
		h := ws.Header{Fin: fin, OpCode: op, Masked: true, Mask: [4]byte{9, 8, 7, 6}, Length: int64(len(payload))}
		var b bytes.Buffer
		if err := ws.WriteHeader(&b, h); err != nil {
			f.Fatal(err)
		}
		body := []byte(payload)
		ws.Cipher(body, h.Mask, 0)
		return append(b.Bytes(), body...)
	}
	f.Add(frame(true, ws.OpText, "hello"))
	f.Add(slices.Concat(frame(false, ws.OpText, "\xce"), frame(true, ws.OpPing, "p"), frame(false, ws.OpContinuation, ""), frame(true, ws.OpContinuation, "\xba"), frame(true, ws.OpBinary, "\xff")))
	f.Add(slices.Concat(frame(true, ws.OpText, string(make([]byte, 200))), frame(false, ws.OpText, string(make([]byte, 900))), frame(true, ws.OpContinuation, string(make([]byte, 101)))))
	f.Add(frame(true, ws.OpText, "\xff"))
	f.Add([]byte{0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0})
	f.Add([]byte{0x81, 0x00, 0x89, 0x80, 1, 2, 3, 4})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 {
			return
		}
		whole, err := readIn(t, b, len(b))
		for _, piece := range []int{1, 3, 7} {
			if pieces, perr := readIn(t, b, piece); !slices.Equal(whole, pieces) || fmt.Sprint(err) != fmt.Sprint(perr) {
				t.Errorf("at once %q %v\nin pieces of %d %q %v", whole, err, piece, pieces, perr)
			}
		}
	})
}
