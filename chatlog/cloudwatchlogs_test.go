package chatlog_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"hubbub/chatlog"
)

func logsPlace(t *testing.T, now time.Time) (*logsService, chatlog.Destination) {
	t.Helper()
	l := newLogsService(now)
	startService(t, l.service)
	l.createLogGroup("/chat/logs")
	return l, openPlace(t, chatlog.Targets{CloudWatchLogs: &chatlog.Target{Endpoint: l.URL}}, toLogs)
}

const logsStream = "aws/IVSChatLogs/1.0/room_abc123DEF456"

// The layout is as wide as the service is: one more is refused by it.
func TestLogEventsBeyondTheBounds(t *testing.T) {
	room := logRoom("abc123DEF456")
	for _, c := range []struct {
		name    string
		entries func(of chatlog.Layout) []chatlog.Entry
	}{
		{"entries", func(of chatlog.Layout) []chatlog.Entry {
			entries := entriesOf(room, 0, of.MaxEntries+1)
			for i := range entries {
				entries[i].Line = []byte(`{}`)
			}
			return entries
		}},
		{"bytes", func(of chatlog.Layout) []chatlog.Entry {
			entries := entriesOf(room, 0, 2)
			entries[0].Line = lineOf(0, "hello", of.MaxBytes/2-of.Overhead)
			entries[1].Line = lineOf(0, "hello", of.MaxBytes/2-of.Overhead+1)
			return entries
		}},
		{"span", func(of chatlog.Layout) []chatlog.Entry {
			entries := entriesOf(room, 0, 2)
			entries[1].Received = entries[0].Received.Add(-of.MaxSpan - time.Millisecond)
			return entries
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, d := logsPlace(t, received)
			putFails(t, d, c.entries(d.Layout()), chatlog.Other, chatlog.Final)
			if got := l.messages("/chat/logs", logsStream); len(got) > 0 {
				t.Errorf("%d messages of a batch that was refused", len(got))
			}
		})
	}
}

func TestTheWidestSpanIsTaken(t *testing.T) {
	l, d := logsPlace(t, received)
	entries := entriesOf(logRoom("abc123DEF456"), 0, 2)
	entries[0].Received = entries[1].Received.Add(-d.Layout().MaxSpan)
	mustPut(t, d, entries)
	sameLines(t, l.messages("/chat/logs", logsStream), linesOf(entries))
}

func TestEventsAreSortedByTimeAndElseStay(t *testing.T) {
	l, d := logsPlace(t, received)
	entries := entriesOf(logRoom("abc123DEF456"), 0, 6)
	for i, ms := range []int{5, 3, 5, 3, 4, 5} {
		entries[i].Received = received.Add(time.Duration(ms) * time.Millisecond)
	}
	mustPut(t, d, entries)
	var want []chatlog.Entry
	for _, i := range []int{1, 3, 4, 0, 2, 5} {
		want = append(want, entries[i])
	}
	sameLines(t, l.messages("/chat/logs", logsStream), linesOf(want))
}

// What is rejected for its time is lost, and the rest is taken.
func TestRejectedEventsAreCounted(t *testing.T) {
	for _, c := range []struct {
		name string
		now  time.Duration // of the service, after the first entry
		ages []time.Duration
		lost int
	}{
		{"none", 0, []time.Duration{0, time.Minute}, 0},
		{"too old", 14*24*time.Hour + time.Hour, []time.Duration{0, time.Minute, 2 * time.Hour, 3 * time.Hour}, 2},
		{"at the edge", 14 * 24 * time.Hour, []time.Duration{0, time.Minute}, 0},
		{"too new", 0, []time.Duration{0, 2 * time.Hour, 2*time.Hour + 1e6, 3 * time.Hour}, 2},
		{"all too old", 16 * 24 * time.Hour, []time.Duration{0, time.Minute}, 2},
		{"all too new", -3 * time.Hour, []time.Duration{0, time.Minute}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, d := logsPlace(t, received.Add(c.now))
			entries := entriesOf(logRoom("abc123DEF456"), 0, len(c.ages))
			for i, age := range c.ages {
				entries[i].Received = received.Add(age)
			}
			left, lost, err := d.Put(attempt(t), entries)
			if left != nil || lost != c.lost || err != nil {
				t.Errorf("left %v, lost %d, %v; want %d lost", left, lost, err, c.lost)
			}
			if got := len(l.messages("/chat/logs", logsStream)); got != len(entries)-c.lost {
				t.Errorf("%d messages, want %d", got, len(entries)-c.lost)
			}
		})
	}
}

func TestAStreamIsMadeOnce(t *testing.T) {
	l, d := logsPlace(t, received)
	mustPut(t, d, entriesOf(logRoom("abc123DEF456"), 0, 2))
	mustPut(t, d, entriesOf(logRoom("abc123DEF456"), 2, 2))
	if l.creates != 1 || l.called() != 4 {
		t.Errorf("%d creations in %d calls, want 1 in 4", l.creates, l.called())
	}
}

func TestAStreamThatSomebodyElseMakes(t *testing.T) {
	l, d := logsPlace(t, received)
	var puts sync.WaitGroup
	for i := range 8 {
		puts.Go(func() {
			if _, _, err := d.Put(t.Context(), entriesOf(logRoom("abc123DEF456"), i, 1)); err != nil {
				t.Error(err)
			}
		})
	}
	puts.Wait()
	if got := l.messages("/chat/logs", logsStream); len(got) != 8 {
		t.Errorf("%d messages, want 8", len(got))
	}
}

func TestAStreamIsMadeAgain(t *testing.T) {
	l, d := logsPlace(t, received)
	mustPut(t, d, entriesOf(logRoom("abc123DEF456"), 0, 2))
	l.createLogGroup("/chat/logs") // deleted and made again: it has no streams
	mustPut(t, d, entriesOf(logRoom("abc123DEF456"), 2, 2))
	if got := l.messages("/chat/logs", logsStream); len(got) != 2 {
		t.Errorf("%d messages in the new group, want 2", len(got))
	}
}

func TestAStreamThatDoesNotComeIsMissing(t *testing.T) {
	l, d := logsPlace(t, received)
	l.forgets = true
	putFails(t, d, entriesOf(logRoom("abc123DEF456"), 0, 2), chatlog.NotFound, chatlog.Final)
	if n := l.called(); n != 3 {
		t.Errorf("%d calls, want 3: an attempt does not go in circles", n)
	}
}

func TestAMissingGroupIsNamed(t *testing.T) {
	l, d := logsPlace(t, received)
	l.hide("/chat/logs", true)
	f := putFails(t, d, entriesOf(logRoom("abc123DEF456"), 0, 2), chatlog.NotFound, chatlog.Final)
	if !strings.Contains(f.Error(), "log group /chat/logs: ResourceNotFoundException (HTTP 400)") {
		t.Errorf("%v", f)
	}
}
