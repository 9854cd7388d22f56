package chatlog

import (
	"bytes"
	"testing"
	"time"
)

func TestABatchIsReadAsItWasWritten(t *testing.T) {
	want := []Entry{
		{"arn:aws:ivschat:us-west-2:123456789012:room/AbCdEf123456", time.UnixMilli(1755150520415).UTC(), []byte(`{"a":1}`)},
		{"arn:aws:ivschat:us-west-2:123456789012:room/AbCdEf123456", time.UnixMilli(1755150520416).UTC(), []byte(`{}`)},
		{"arn:aws:ivschat:eu-west-1:123456789012:room/000000000000", time.UnixMilli(0).UTC(), bytes.Repeat([]byte("x"), 20_000)},
	}
	var b []byte
	for _, e := range want {
		b = appendEntry(b, e.Room, e.Received, e.Line)
	}
	got, err := readBatch(b)
	if err != nil || len(got) != len(want) {
		t.Fatalf("%d entries, %v", len(got), err)
	}
	for i := range want {
		if got[i].Room != want[i].Room || !got[i].Received.Equal(want[i].Received) || !bytes.Equal(got[i].Line, want[i].Line) {
			t.Errorf("entry %d is %v, want %v", i, got[i], want[i])
		}
	}
}

func FuzzReadBatch(f *testing.F) {
	f.Add(appendEntry(appendEntry(nil, "room", time.UnixMilli(1), []byte("line")), "other", time.UnixMilli(2), nil))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, err := readBatch(b)
		if err != nil {
			return
		}
		var again []byte
		for _, e := range entries {
			again = appendEntry(again, e.Room, e.Received, e.Line)
		}
		reread, err := readBatch(again)
		if err != nil || len(reread) != len(entries) {
			t.Fatalf("%d entries read again are %d, %v", len(entries), len(reread), err)
		}
	})
}
