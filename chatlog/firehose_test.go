package chatlog_test

import (
	"slices"
	"strings"
	"testing"

	"hubbub/chatlog"
)

func firehosePlace(t *testing.T) (*firehoseService, chatlog.Destination) {
	t.Helper()
	f := newFirehoseService()
	startService(t, f.service)
	f.create("chat-logs")
	return f, openPlace(t, chatlog.Targets{Firehose: &chatlog.Target{Endpoint: f.URL}}, toFirehose)
}

func TestFirehoseBeyondTheBounds(t *testing.T) {
	f, d := firehosePlace(t)
	of, room := d.Layout(), logRoom("abc123DEF456")
	many := entriesOf(room, 0, of.MaxEntries+1)
	large := entriesOf(room, 0, 8)
	for i := range large {
		large[i].Line = lineOf(i, "hello", of.MaxBytes/8-of.Overhead)
	}
	large[7].Line = lineOf(7, "hello", of.MaxBytes/8-of.Overhead+1)
	for name, entries := range map[string][]chatlog.Entry{"entries": many, "bytes": large} {
		t.Run(name, func(t *testing.T) {
			putFails(t, d, entries, chatlog.Other, chatlog.Final)
			if got := f.data("chat-logs"); len(got) > 0 {
				t.Errorf("%d records of a batch that was refused", len(got))
			}
		})
	}
}

func TestFirehoseTakesSomeRecords(t *testing.T) {
	room := logRoom("abc123DEF456")
	for _, c := range []struct {
		name  string
		fails func(i int) string
		left  []int
		class chatlog.Class
	}{
		{"one", func(i int) string { return map[int]string{3: "InternalFailure"}[i] }, []int{3}, chatlog.Passing},
		{"the first and the last", func(i int) string {
			return map[int]string{0: "ServiceUnavailableException", 9: "ServiceUnavailableException"}[i]
		}, []int{0, 9}, chatlog.Throttled},
		{"one of many is throttled", func(i int) string {
			return map[int]string{1: "InternalFailure", 2: "ServiceUnavailableException", 4: "InternalFailure"}[i]
		}, []int{1, 2, 4}, chatlog.Throttled},
		{"none is taken", func(int) string { return "ServiceUnavailableException" }, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, chatlog.Throttled},
		{"a code that is none", func(i int) string { return map[int]string{5: "hello, MESSAGE"}[i] }, []int{5}, chatlog.Passing},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, d := firehosePlace(t)
			f.failing(c.fails)
			entries := entriesOf(room, 0, 10)
			left, lost, err := d.Put(attempt(t), entries)
			wantFailure(t, err, chatlog.Other, c.class)
			if !slices.Equal(left, c.left) || lost != 0 {
				t.Errorf("left %v, lost %d; want %v", left, lost, c.left)
			}
			f.failing(nil)
			var again []chatlog.Entry
			for _, i := range left {
				again = append(again, entries[i])
			}
			mustPut(t, d, again)
			got := split(t, []byte(strings.Join(f.data("chat-logs"), "")))
			slices.Sort(got)
			sameLines(t, got, linesOf(entries)) // each once
		})
	}
}

func TestAFirehoseThatContradictsItself(t *testing.T) {
	for name, answers := range map[string]func(out map[string]any){
		"failures without a record":      func(out map[string]any) { out["FailedPutCount"] = 1 },
		"too few answers":                func(out map[string]any) { out["RequestResponses"] = []any{} },
		"no answers and all have failed": func(out map[string]any) { out["RequestResponses"] = []any{}; out["FailedPutCount"] = 3 },
	} {
		t.Run(name, func(t *testing.T) {
			f, d := firehosePlace(t)
			f.answers = answers
			putFails(t, d, entriesOf(logRoom("abc123DEF456"), 0, 3), chatlog.Other, chatlog.Passing)
		})
	}
}
