package quota_test

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hubbub/ivschat"
	"hubbub/quota"
)

var (
	scope = ivschat.Scope{Account: "123456789012", Region: "us-west-2"}
	now   = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
)

func TestLevels(t *testing.T) {
	for key, want := range map[quota.Key]int{
		"rooms": 50_000, "logging_configurations": 10, "connections": 50_000, "send_message_per_second": 1000,
		"requests_per_connection_per_second": 10, "event_attributes": 1024,
		"create_chat_token_per_second": 200, "send_event_per_second": 100, "delete_message_per_second": 100, "disconnect_user_per_second": 100,
		"create_room_per_second": 5, "get_room_per_second": 5, "list_rooms_per_second": 5, "update_room_per_second": 5, "delete_room_per_second": 5,
		"create_logging_configuration_per_second": 3, "list_logging_configurations_per_second": 3, "get_logging_configuration_per_second": 3,
		"update_logging_configuration_per_second": 3, "delete_logging_configuration_per_second": 3,
		"list_tags_for_resource_per_second": 10, "tag_resource_per_second": 10, "untag_resource_per_second": 10,
	} {
		if got := quota.Strict().Value(key); got != want {
			t.Errorf("strict: %s is %d, want %d", key, got, want)
		}
		if got := quota.Relaxed().Value(key); got != want {
			t.Errorf("relaxed: %s is %d, want %d", key, got, want)
		}
		if key == quota.EventAttributes {
			want = 1024 // a shape, which always holds
		} else {
			want = 0
		}
		if got := quota.None().Value(key); got != want {
			t.Errorf("none: %s is %d, want %d", key, got, want)
		}
	}
	if n := len(quota.Keys()); n != 23 {
		t.Errorf("%d keys", n)
	}
	if quota.None().RoomRates || !quota.Relaxed().RoomRates {
		t.Error("none, and none alone, takes even a room's own rate away")
	}
}

// take counts how many of n go through at one moment.
func take(n int, one func() bool) int {
	through := 0
	for range n {
		if one() {
			through++
		}
	}
	return through
}

func TestARateHoldsOneSecondsWorth(t *testing.T) {
	c := quota.New(quota.Strict())
	at := now
	get := func() bool { _, ok := c.TakeHTTP(scope, ivschat.OpGetRoom, at); return ok }
	if n := take(20, get); n != 5 {
		t.Errorf("%d at once, want 5", n)
	}
	at = at.Add(400 * time.Millisecond)
	if n := take(20, get); n != 2 {
		t.Errorf("%d after 0.4 s, want 2", n)
	}
	at = at.Add(time.Hour)
	if n := take(20, get); n != 5 {
		t.Errorf("%d after an hour, want 5", n)
	}
	other := scope
	other.Region = "eu-west-1"
	if _, ok := c.TakeHTTP(other, ivschat.OpGetRoom, at); !ok {
		t.Error("another region has its own counters")
	}
	if _, ok := c.TakeHTTP(scope, ivschat.OpListRooms, at); !ok {
		t.Error("another operation has its own counter")
	}
}

func TestHTTPAndWebSocketShareTheirCounter(t *testing.T) {
	for _, c := range []struct {
		name   string
		limits func() quota.Limits
		http   int // calls that go through once the WebSocket form has used 60
	}{
		{"strict", quota.Strict, 40},
		{"relaxed counts the WebSocket form alone", quota.Relaxed, 200},
		{"relaxed with a rate of its own", func() quota.Limits {
			l := quota.Relaxed()
			if err := l.Set("delete_message_per_second", "70"); err != nil {
				t.Fatal(err)
			}
			return l
		}, 10},
		{"none", quota.None, 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			counters := quota.New(c.limits())
			if n := take(60, func() bool { _, ok := counters.Take(scope, quota.DeleteMessage, now); return ok }); n != 60 {
				t.Fatalf("%d of 60", n)
			}
			if n := take(200, func() bool {
				_, ok := counters.TakeHTTP(scope, ivschat.OpDeleteMessage, now)
				return ok
			}); n != c.http {
				t.Errorf("%d calls, want %d", n, c.http)
			}
		})
	}
}

func TestSet(t *testing.T) {
	l := quota.Relaxed()
	before := l
	for _, c := range []struct{ key, value, wrong string }{
		{"rooms", "100000", ""}, {"rooms", "0", ""}, {"event_attributes", "4KiB", ""}, {"event_attributes", "0", ""},
		{"create_room_per_second", "7", ""},
		{"rooms", "-1", "whole number"}, {"rooms", "x", "whole number"}, {"rooms", "1.5", "whole number"}, {"rooms", "1KiB", "whole number"},
		{"event_attributes", "4096", "unit"}, {"event_attributes", "KiB", "unit"}, {"event_attributes", "-4KiB", "unit"},
		{"room", "1", `"rooms"`}, {"conections", "1", `"connections"`}, {"", "1", "did you mean"},
	} {
		err := l.Set(c.key, c.value)
		if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%s=%s: %v, want %q", c.key, c.value, err, c.wrong)
		}
	}
	if before.Value(quota.Rooms) != 50_000 || before.EventAttributes() != 1024 {
		t.Error("a copy was changed")
	}
	if l.EventAttributes() != -1 || l.Value(quota.Rooms) != 0 {
		t.Error("0 is unlimited")
	}
	c := quota.New(l)
	if n := take(20, func() bool { _, ok := c.TakeHTTP(scope, ivschat.OpCreateRoom, now); return ok }); n != 7 {
		t.Errorf("a rate that is set is held in relaxed too: %d", n)
	}
}

func TestConnectionsAreExact(t *testing.T) {
	l := quota.Strict()
	if err := l.Set("connections", "100"); err != nil {
		t.Fatal(err)
	}
	c := quota.New(l)
	var through atomic.Int64
	var callers sync.WaitGroup
	for range 50 {
		callers.Go(func() {
			for range 10 {
				if c.Connect(scope) {
					through.Add(1)
				}
			}
		})
	}
	callers.Wait()
	if through.Load() != 100 {
		t.Errorf("%d connections", through.Load())
	}
	c.Disconnected(scope)
	if !c.Connect(scope) {
		t.Error("what was given back can be taken")
	}
	if c.Connect(scope) {
		t.Error("one more than the quota")
	}
}

func TestABucketFollowsItsRate(t *testing.T) {
	var b quota.Bucket
	if n := take(50, func() bool { return b.Take(10, now) }); n != 10 {
		t.Errorf("%d at once, want 10", n)
	}
	later := now.Add(500 * time.Millisecond)
	if n := take(50, func() bool { return b.Take(100, later) }); n != 50 {
		t.Errorf("%d after half a second at 100/s, want 50", n)
	}
	if n := take(50, func() bool { return b.Take(100, now) }); n != 0 {
		t.Errorf("%d when the clock went back", n)
	}
	if n := take(50, func() bool { return b.Take(2, later.Add(time.Hour)) }); n != 2 {
		t.Errorf("%d at a lower rate, want 2", n)
	}
	if n := take(50, func() bool { return b.Take(0, later) }); n != 50 {
		t.Errorf("%d, 0 is unlimited", n)
	}
}

func TestUsesThatOvertakeOneAnotherGainNothing(t *testing.T) {
	var b quota.Bucket
	now := time.Unix(1000, 0)
	taken := 0
	for i := range 10_000 { // two clocks, 5 ms apart, in turn; ten seconds in all
		at := now.Add(time.Duration(i) * time.Millisecond)
		if i%2 == 0 {
			at = at.Add(-5 * time.Millisecond)
		}
		if b.Take(10, at) {
			taken++
		}
	}
	if taken < 105 || taken > 111 {
		t.Errorf("%d uses in ten seconds at a rate of 10", taken)
	}
	limits := quota.Strict()
	if err := limits.Set("send_message_per_second", "10"); err != nil {
		t.Fatal(err)
	}
	c := quota.New(limits)
	had := taken
	taken = 0
	for i := range 10_000 {
		at := now.Add(time.Duration(i) * time.Millisecond)
		if i%2 == 0 {
			at = at.Add(-5 * time.Millisecond)
		}
		if _, ok := c.Take(ivschat.Scope{}, quota.SendMessage, at); ok {
			taken++
		}
	}
	if taken < 105 || taken > 111 {
		t.Errorf("%d uses of the account's rate of 10 in ten seconds", taken)
	}
	taken = had
	late := now.Add(-time.Hour) // the clock is set back
	for i := range 1000 {
		if b.Take(10, late.Add(time.Duration(i)*10*time.Millisecond)) {
			taken++
		}
	}
	if taken < 200 {
		t.Errorf("only %d uses in all: a clock that was set back stops the bucket", taken)
	}
}

func TestManyScopesDoNotGrowForEver(t *testing.T) {
	c := quota.New(quota.Strict())
	for i := range 5000 {
		s := ivschat.Scope{Account: "123456789012", Region: "r" + string(rune('a'+i%26)) + strings.Repeat("x", i%100) + strings.Repeat("y", i/100)}
		if _, ok := c.TakeHTTP(s, ivschat.OpGetRoom, now); !ok {
			t.Fatal("a new scope is refused")
		}
	}
}
