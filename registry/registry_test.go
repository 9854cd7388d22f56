package registry_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hubbub/engine"
	"hubbub/ivschat"
	"hubbub/quota"
	"hubbub/registry"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var scope = ivschat.Scope{Account: "123456789012", Region: "us-west-2"}

type fixture struct {
	*registry.Registry
	engine *engine.Engine
	at     time.Time
}

func open(t testing.TB, dir string, limits quota.Limits) *fixture {
	t.Helper()
	e, err := engine.Open(context.Background(), engine.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close(context.Background()) })
	f := &fixture{engine: e, at: time.Date(2026, 11, 24, 12, 0, 0, 123456789, time.UTC)}
	f.Registry, err = registry.Open(context.Background(), registry.Options{
		Engine: e, Limits: limits,
		AcceptHandler: func(uri string) bool { return strings.HasSuffix(uri, ":function:f") },
		Now:           func() time.Time { return f.at },
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fixture) room(t testing.TB, r ivschat.CreateRoomRequest) *ivschat.Room {
	t.Helper()
	made, err := f.CreateRoom(context.Background(), scope, &r)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func (f *fixture) configuration(t testing.TB) ivschat.ARN {
	t.Helper()
	made, err := f.CreateLoggingConfiguration(context.Background(), scope, &ivschat.CreateLoggingConfigurationRequest{
		DestinationConfiguration: &ivschat.DestinationConfiguration{S3: &ivschat.S3Destination{BucketName: "abc"}}})
	if err != nil {
		t.Fatal(err)
	}
	return made.ARN
}

func refused(t testing.TB, err error, k ivschat.Kind) *ivschat.Error {
	t.Helper()
	var e *ivschat.Error
	if !errors.As(err, &e) || e.Kind != k {
		t.Fatalf("got %v, want %s", err, k)
	}
	return e
}

const function = "arn:aws:lambda:us-west-2:123456789012:function:f"

func TestUpdateRoomPatches(t *testing.T) {
	f := open(t, "", quota.Limits{})
	ctx := t.Context()
	a, b := f.configuration(t), f.configuration(t)
	full := func() *ivschat.Room {
		return f.room(t, ivschat.CreateRoomRequest{Name: new("n"), MessageReviewHandler: &ivschat.ReviewHandlerInput{URI: new(function), FallbackResult: new(ivschat.FallbackDeny)},
			Tags: ivschat.Strings{"k": "v"}, LoggingConfigurationIdentifiers: ivschat.ARNs{b, a}})
	}
	for _, c := range []struct {
		name   string
		update ivschat.UpdateRoomRequest
		want   func(*ivschat.Room) // what becomes of the room; nil if nothing changes
	}{
		{"nothing given", ivschat.UpdateRoomRequest{}, nil},
		{"the same values", ivschat.UpdateRoomRequest{Name: new("n"), MaximumMessageLength: new(ivschat.Integer(500)), LoggingConfigurationIdentifiers: ivschat.ARNs{b, a}}, nil},
		{"an empty handler object", ivschat.UpdateRoomRequest{MessageReviewHandler: &ivschat.ReviewHandlerInput{}}, nil},
		{"an empty name clears it", ivschat.UpdateRoomRequest{Name: new("")}, func(r *ivschat.Room) { r.Name = "" }},
		{"numbers", ivschat.UpdateRoomRequest{MaximumMessageLength: new(ivschat.Integer(1)), MaximumMessageRatePerSecond: new(ivschat.Integer(100))},
			func(r *ivschat.Room) { r.MaximumMessageLength, r.MaximumMessageRatePerSecond = 1, 100 }},
		{"a list replaces the whole", ivschat.UpdateRoomRequest{LoggingConfigurationIdentifiers: ivschat.ARNs{a}}, func(r *ivschat.Room) { r.LoggingConfigurationIdentifiers = ivschat.ARNs{a} }},
		{"the order is a change", ivschat.UpdateRoomRequest{LoggingConfigurationIdentifiers: ivschat.ARNs{a, b}}, func(r *ivschat.Room) { r.LoggingConfigurationIdentifiers = ivschat.ARNs{a, b} }},
		{"an empty list detaches all", ivschat.UpdateRoomRequest{LoggingConfigurationIdentifiers: ivschat.ARNs{}}, func(r *ivschat.Room) { r.LoggingConfigurationIdentifiers = ivschat.ARNs{} }},
		{"an empty uri removes the handler, not the object", ivschat.UpdateRoomRequest{MessageReviewHandler: &ivschat.ReviewHandlerInput{URI: new("")}},
			func(r *ivschat.Room) {
				r.MessageReviewHandler = &ivschat.ReviewHandler{FallbackResult: ivschat.FallbackDeny}
			}},
		{"a uri keeps the fallback", ivschat.UpdateRoomRequest{MessageReviewHandler: &ivschat.ReviewHandlerInput{URI: new("arn:x:function:f")}},
			func(r *ivschat.Room) {
				r.MessageReviewHandler = &ivschat.ReviewHandler{URI: "arn:x:function:f", FallbackResult: ivschat.FallbackDeny}
			}},
		{"a fallback keeps the uri", ivschat.UpdateRoomRequest{MessageReviewHandler: &ivschat.ReviewHandlerInput{FallbackResult: new(ivschat.FallbackAllow)}},
			func(r *ivschat.Room) {
				r.MessageReviewHandler = &ivschat.ReviewHandler{URI: function, FallbackResult: ivschat.FallbackAllow}
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := full()
			want := *before
			c.update.Identifier = before.ARN
			got, err := f.UpdateRoom(ctx, &c.update) // within the same millisecond
			if err != nil {
				t.Fatal(err)
			}
			if c.want != nil {
				c.want(&want)
				want.UpdateTime = ivschat.Time{Time: before.UpdateTime.Add(time.Millisecond)}
			}
			if d := cmp.Diff(&want, got); d != "" {
				t.Error(d)
			}
			if now, _ := f.Room(before.ARN); now != got {
				t.Error("a read after the write gives another room")
			}
		})
	}
}

func TestAHandlerThatNothingCanInvokeIsRefused(t *testing.T) {
	f := open(t, "", quota.Limits{})
	_, err := f.CreateRoom(t.Context(), scope, &ivschat.CreateRoomRequest{MessageReviewHandler: &ivschat.ReviewHandlerInput{URI: new(function + "2")}})
	e := refused(t, err, ivschat.Validation)
	if len(e.Fields) != 1 || e.Fields[0].Message != "Request member: uri failed to satisfy the constraints: invalid lambda permission" {
		t.Errorf("%+v", e)
	}
	r := f.room(t, ivschat.CreateRoomRequest{MessageReviewHandler: &ivschat.ReviewHandlerInput{}})
	if d := cmp.Diff(&ivschat.ReviewHandler{FallbackResult: ivschat.FallbackAllow}, r.MessageReviewHandler); d != "" {
		t.Error(d)
	}
}

// "Never set" and "removed" differ, and an empty object is neither.
func TestAnEmptyHandlerObjectLeavesARoomWithoutOneAlone(t *testing.T) {
	f := open(t, "", quota.Limits{})
	before := f.room(t, ivschat.CreateRoomRequest{})
	got, err := f.UpdateRoom(t.Context(), &ivschat.UpdateRoomRequest{Identifier: before.ARN, MessageReviewHandler: &ivschat.ReviewHandlerInput{}})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(before, got); d != "" {
		t.Error(d)
	}
}

func TestEverythingIsThereAfterARestart(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir, quota.Limits{})
	a := f.configuration(t)
	var arns []ivschat.ARN
	want := map[ivschat.ARN]*ivschat.Room{}
	for i := range 60 {
		f.at = f.at.Add(time.Duration(i%3) * time.Millisecond)
		r := f.room(t, ivschat.CreateRoomRequest{Name: new(fmt.Sprint("n", i)), Tags: ivschat.Strings{"k": fmt.Sprint(i)}, LoggingConfigurationIdentifiers: ivschat.ARNs{a}})
		arns, want[r.ARN] = append(arns, r.ARN), r
	}
	if err := f.DeleteRoom(t.Context(), arns[0]); err != nil {
		t.Fatal(err)
	}
	if err := f.Tag(t.Context(), arns[1], map[string]string{"more": "x"}); err != nil {
		t.Fatal(err)
	}
	want[arns[1]], _ = f.Room(arns[1])
	delete(want, arns[0])
	page, err := f.ListRooms(scope, &ivschat.ListRoomsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.engine.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	f = open(t, dir, quota.Limits{})
	for arn, w := range want {
		got, err := f.Room(arn)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(w, got); d != "" {
			t.Error(d)
		}
	}
	if _, err := f.Room(arns[0]); !errors.Is(err, ivschat.NotFound) {
		t.Error("a deleted room is back:", err)
	}
	again, err := f.ListRooms(scope, &ivschat.ListRoomsRequest{NextToken: &page.NextToken})
	if err != nil || len(again.Rooms) != 9 {
		t.Errorf("a token of before: %d rooms, %v", len(again.Rooms), err)
	}
	refused(t, f.DeleteLoggingConfiguration(t.Context(), a), ivschat.Conflict)
}

func TestPagesHaveEveryRoomOnce(t *testing.T) {
	f := open(t, "", quota.Limits{})
	rapid.Check(t, func(r *rapid.T) {
		s := ivschat.Scope{Account: "123456789012", Region: "r" + strings.ToLower(ivschat.NewID())}
		var want []*ivschat.Room
		for range rapid.IntRange(0, 30).Draw(r, "rooms") {
			f.at = f.at.Add(time.Duration(rapid.IntRange(0, 1).Draw(r, "step")) * time.Millisecond) // many share a time
			name := rapid.SampledFrom([]string{"a", "b"}).Draw(r, "name")
			made, err := f.CreateRoom(t.Context(), s, &ivschat.CreateRoomRequest{Name: &name})
			if err != nil {
				r.Fatal(err)
			}
			want = append(want, made)
		}
		filter := rapid.SampledFrom([]string{"", "a", "c"}).Draw(r, "filter")
		want = slices.DeleteFunc(want, func(v *ivschat.Room) bool { return filter != "" && v.Name != filter })
		slices.SortFunc(want, func(a, b *ivschat.Room) int {
			if c := b.UpdateTime.Compare(a.UpdateTime.Time); c != 0 {
				return c
			}
			return strings.Compare(string(a.ARN), string(b.ARN))
		})
		size := ivschat.Integer(rapid.IntRange(1, 50).Draw(r, "size"))
		var got []ivschat.ARN
		in := ivschat.ListRoomsRequest{MaxResults: &size, Name: &filter}
		for {
			page, err := f.ListRooms(s, &in)
			if err != nil {
				r.Fatal(err)
			}
			for _, v := range page.Rooms {
				got = append(got, v.ARN)
			}
			if page.NextToken == "" {
				break
			}
			if len(page.Rooms) != int(size) || len(page.NextToken) > ivschat.MaxNextTokenLength {
				r.Fatalf("a page of %d with more to come, a token of %d", len(page.Rooms), len(page.NextToken))
			}
			in.NextToken = &page.NextToken
		}
		if len(got) != len(want) {
			r.Fatalf("%d rooms, want %d", len(got), len(want))
		}
		for i := range want {
			if got[i] != want[i].ARN {
				r.Fatalf("room %d is %s, want %s", i, got[i], want[i].ARN)
			}
		}
	})
}

func TestAFilterTellsNothingOfOtherAccountsAndRegions(t *testing.T) {
	f := open(t, "", quota.None())
	c := f.configuration(t)
	for _, s := range []ivschat.Scope{{Account: "999999999999", Region: scope.Region}, {Account: scope.Account, Region: "eu-west-1"}} {
		_, err := f.ListRooms(s, &ivschat.ListRoomsRequest{LoggingConfigurationIdentifier: &c})
		refused(t, err, ivschat.NotFound) // as for one that is not there
	}
}

func TestCountQuotasAreExact(t *testing.T) {
	l := quota.Strict()
	if err := errors.Join(l.Set("rooms", "20"), l.Set("logging_configurations", "3")); err != nil {
		t.Fatal(err)
	}
	f := open(t, "", l)
	var made, over atomic.Int64
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for range 5 {
				_, err := f.CreateRoom(context.Background(), scope, &ivschat.CreateRoomRequest{})
				switch {
				case err == nil:
					made.Add(1)
				case errors.Is(err, ivschat.QuotaExceeded):
					over.Add(1)
				default:
					t.Error(err)
				}
			}
		})
	}
	callers.Wait()
	if made.Load() != 20 || over.Load() != 20 || f.Rooms() != 20 {
		t.Errorf("%d made, %d refused, %d there", made.Load(), over.Load(), f.Rooms())
	}
	_, err := f.CreateRoom(t.Context(), scope, &ivschat.CreateRoomRequest{})
	if e := refused(t, err, ivschat.QuotaExceeded); e.Limit != 20 || e.Resource != scope.Account {
		t.Errorf("%+v", e)
	}
	if _, err := f.CreateRoom(t.Context(), ivschat.Scope{Account: scope.Account, Region: "eu-west-1"}, &ivschat.CreateRoomRequest{}); err != nil {
		t.Error("another region has its own quota:", err)
	}
	page, err := f.ListRooms(scope, &ivschat.ListRoomsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.DeleteRoom(t.Context(), page.Rooms[0].ARN); err != nil {
		t.Fatal(err)
	}
	f.room(t, ivschat.CreateRoomRequest{})
	for range 3 {
		f.configuration(t)
	}
	_, err = f.CreateLoggingConfiguration(t.Context(), scope, &ivschat.CreateLoggingConfigurationRequest{DestinationConfiguration: &ivschat.DestinationConfiguration{}})
	refused(t, err, ivschat.QuotaExceeded)
}

// TestNoRoomNamesAMissingConfiguration races the attachment of a configuration
// with its deletion.
func TestNoRoomNamesAMissingConfiguration(t *testing.T) {
	f := open(t, "", quota.Limits{})
	r := f.room(t, ivschat.CreateRoomRequest{})
	deleted := 0
	for range 200 {
		a := f.configuration(t)
		var race sync.WaitGroup
		race.Go(func() {
			_, err := f.UpdateRoom(context.Background(), &ivschat.UpdateRoomRequest{Identifier: r.ARN, LoggingConfigurationIdentifiers: ivschat.ARNs{a}})
			if err != nil && !errors.Is(err, ivschat.NotFound) {
				t.Error(err)
			}
		})
		race.Go(func() {
			err := f.DeleteLoggingConfiguration(context.Background(), a)
			if err == nil {
				deleted++
			} else if !errors.Is(err, ivschat.Conflict) {
				t.Error(err)
			}
		})
		race.Wait()
		now, err := f.Room(r.ARN)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.LoggingConfiguration(a)
		if now.Attached(a) != (err == nil) {
			t.Fatalf("attached: %v, there: %v", now.Attached(a), err)
		}
	}
	t.Logf("the deletion won %d of 200", deleted)
}

func TestLastWriterWins(t *testing.T) {
	f := open(t, "", quota.Limits{})
	r := f.room(t, ivschat.CreateRoomRequest{})
	var writers sync.WaitGroup
	for w := range 8 {
		writers.Go(func() {
			for i := range 20 {
				if err := f.Tag(context.Background(), r.ARN, map[string]string{fmt.Sprint("w", w): fmt.Sprint(i)}); err != nil {
					t.Error(err)
				}
				if _, err := f.UpdateRoom(context.Background(), &ivschat.UpdateRoomRequest{Identifier: r.ARN, Name: new(fmt.Sprint("n", w, "-", i))}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	tags, err := f.Tags(r.ARN)
	if err != nil || len(tags) != 8 {
		t.Fatal(tags, err)
	}
	for k, v := range tags {
		if v != "19" {
			t.Errorf("the last write of %s is lost: %s", k, v)
		}
	}
}

func TestTags(t *testing.T) {
	f := open(t, "", quota.Limits{})
	ctx := t.Context()
	for _, arn := range []ivschat.ARN{f.room(t, ivschat.CreateRoomRequest{}).ARN, f.configuration(t)} {
		fifty := map[string]string{}
		for i := range 50 {
			fifty[fmt.Sprint(i)] = "v"
		}
		if err := f.Tag(ctx, arn, fifty); err != nil {
			t.Fatal(err)
		}
		if e := refused(t, f.Tag(ctx, arn, map[string]string{"one": "more"}), ivschat.Validation); e.Fields[0].Name != "tags" {
			t.Error(e)
		}
		if err := f.Tag(ctx, arn, map[string]string{"0": "other"}); err != nil {
			t.Error("overwriting is not one more:", err)
		}
		if err := f.Untag(ctx, arn, []string{"1", "unknown"}); err != nil {
			t.Fatal(err)
		}
		tags, err := f.Tags(arn)
		if err != nil || len(tags) != 49 || tags["0"] != "other" {
			t.Error(tags, err)
		}
	}
	refused(t, f.Tag(ctx, scope.ARN(ivschat.RoomType, "AbCdEf123456"), nil), ivschat.NotFound)
}

func TestAStoreThatIsClosedChangesNothing(t *testing.T) {
	f := open(t, "", quota.Limits{})
	r := f.room(t, ivschat.CreateRoomRequest{})
	if err := f.engine.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	for name, err := range map[string]error{
		"create": func() error { _, err := f.CreateRoom(ctx, scope, &ivschat.CreateRoomRequest{}); return err }(),
		"update": func() error {
			_, err := f.UpdateRoom(ctx, &ivschat.UpdateRoomRequest{Identifier: r.ARN, Name: new("x")})
			return err
		}(),
		"tag":    f.Tag(ctx, r.ARN, map[string]string{"a": "b"}),
		"delete": f.DeleteRoom(ctx, r.ARN),
	} {
		var known *ivschat.Error
		if err == nil || errors.As(err, &known) {
			t.Errorf("%s: %v, want trouble of our own", name, err)
		}
	}
	if now, err := f.Room(r.ARN); err != nil || now != r || f.Rooms() != 1 {
		t.Error("something changed in memory", now, err)
	}
}

func FuzzNextToken(f *testing.F) {
	x := open(f, "", quota.Limits{})
	for range 3 {
		x.room(f, ivschat.CreateRoomRequest{})
	}
	one := ivschat.Integer(1)
	page, err := x.ListRooms(scope, &ivschat.ListRoomsRequest{MaxResults: &one})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(page.NextToken)
	f.Add("AAAA")
	f.Fuzz(func(t *testing.T, token string) {
		out, err := x.ListRooms(scope, &ivschat.ListRoomsRequest{NextToken: &token})
		if token != "" && token != page.NextToken && !errors.Is(err, ivschat.Validation) {
			t.Fatalf("%d rooms, %v", len(out.Rooms), err)
		}
	})
}

func BenchmarkOpen50000(b *testing.B) {
	dir := b.TempDir()
	f := open(b, dir, quota.Limits{})
	var makers sync.WaitGroup
	for range 16 {
		makers.Go(func() {
			for range 50_000 / 16 {
				if _, err := f.CreateRoom(context.Background(), scope, &ivschat.CreateRoomRequest{Name: new("bench"), Tags: ivschat.Strings{"k": "v"}}); err != nil {
					b.Error(err)
				}
			}
		})
	}
	makers.Wait()
	if err := f.engine.Close(b.Context()); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		f := open(b, dir, quota.Limits{})
		if f.Rooms() != 50_000 {
			b.Fatal(f.Rooms())
		}
		if err := f.engine.Close(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

func TestADeletedResourceStaysGoneWhateverOvertakesIt(t *testing.T) {
	f := open(t, "", quota.None())
	ctx := context.Background()
	// overtaken deletes while others change the tags, in more than enough rounds to meet in all places.
	overtaken := func(arn ivschat.ARN, remove func(context.Context, ivschat.ARN) error) {
		t.Helper()
		var writers sync.WaitGroup
		for i := range 4 {
			writers.Go(func() {
				for n := range 20 {
					if err := f.Tag(ctx, arn, map[string]string{"k": fmt.Sprint(i, n)}); err != nil {
						if !errors.Is(err, ivschat.NotFound) {
							t.Error(err)
						}
						return
					}
				}
			})
		}
		if err := remove(ctx, arn); err != nil {
			t.Error(err)
		}
		writers.Wait()
		if _, err := f.Tags(arn); !errors.Is(err, ivschat.NotFound) {
			t.Fatalf("%s was deleted, and is there again: %v", arn, err)
		}
	}
	for range 300 {
		c := f.configuration(t)
		room := f.room(t, ivschat.CreateRoomRequest{LoggingConfigurationIdentifiers: ivschat.ARNs{c}})
		overtaken(room.ARN, f.DeleteRoom)
		overtaken(c, f.DeleteLoggingConfiguration) // nothing counts as using it any more
	}
}
