package chatlog

import (
	"slices"
	"testing"
)

func TestAKeyIsTheReverseOfItsReaders(t *testing.T) {
	for _, key := range []string{"us-west-2.123456789012.AAAAAAAAAAAA", "us-west-2.123456789012.AAAAAAAAAAAA_BBBBBBBBBBBB_CCCCCCCCCCCC"} {
		readers := Readers(key)
		slices.Reverse(readers)
		if again, err := Key(readers); again != key || err != nil {
			t.Errorf("the key of %q is %q (%v), want %q", readers, again, err, key)
		}
	}
	for _, readers := range [][]string{nil, {""}, {"a.b"}, {"r.1.a", "r.2.a"}, {"r.1.a", "q.1.a"}, {"r.1.a", "a"}} {
		if key, err := Key(readers); err == nil {
			t.Errorf("the key of %q is %q, want none", readers, key)
		}
	}
}
