package conformance

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ivschat"
	"github.com/aws/aws-sdk-go-v2/service/ivschat/types"
	"github.com/coder/websocket"
)

func asClose(err error, target *websocket.CloseError) bool { return errors.As(err, target) }

// known is what one writer knows of a room of its own: what was acknowledged,
// and what was asked for when the server died, which may or may not be there.
type known struct {
	arn     string
	length  int32
	tags    map[string]string
	deleted bool

	pending func(*known) // the change that got no answer; nil if there is none
}

func (k *known) clone() *known {
	c := *k
	c.tags = maps.Clone(k.tags)
	return &c
}

// TestKillNine kills the server in the middle of parallel creates, updates, tags
// and deletes, ten times over one data folder, and looks for every acknowledged
// write after each restart. Nothing half-made may be there.
func TestKillNine(t *testing.T) {
	dir := t.TempDir()
	rounds := 10
	if testing.Short() {
		rounds = 2
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))

	var rooms []*known
	var unused, used []string
	var room string
	writes := 0
	for round := range rounds {
		s, err := startServer("--data", dir)
		if err != nil {
			t.Fatal(err)
		}
		c := s.client()
		if room != "" && room != s.RoomARN {
			t.Errorf("round %d: dev shows another room than before", round)
		}
		room = s.RoomARN
		verify(t, round, c, rooms)
		for _, token := range used {
			if conn, status, err := dial(limited(t), s, token); err == nil {
				conn.CloseNow()
				t.Errorf("round %d: a used token works again", round)
			} else if status != 401 {
				t.Errorf("round %d: a used token is answered with %d", round, status)
			}
		}
		for _, token := range unused {
			conn, status, err := dial(limited(t), s, token)
			if err != nil {
				t.Errorf("round %d: an unused token does not work any more: %d %v", round, status, err)
				continue
			}
			conn.CloseNow()
		}
		used, unused = unused, nil
		for i := range 4 {
			unused = append(unused, newToken(t, c, room, fmt.Sprint("u", i)))
		}

		ctx, cancel := context.WithCancel(context.Background())
		var writers sync.WaitGroup
		var mu sync.Mutex
		for w := range 8 {
			mine := rand.New(rand.NewPCG(seed, uint64(round*100+w)))
			writers.Go(func() {
				done, n := write(ctx, s.client(once), mine)
				mu.Lock()
				defer mu.Unlock()
				rooms = append(rooms, done...)
				writes += n
			})
		}
		time.AfterFunc(time.Duration(50+random.IntN(250))*time.Millisecond, func() { _ = s.cmd.Process.Kill() })
		writers.Wait() // each ends at its first failure
		cancel()
		_ = s.cmd.Wait()
	}
	s := start(t, "--data", dir)
	verify(t, rounds, s.client(), rooms)
	t.Logf("%d rooms, %d acknowledged writes, %d kills", len(rooms), writes, rounds)
	if writes < 10*rounds {
		t.Errorf("only %d writes were acknowledged: the test did not do its work", writes)
	}
}

// write makes and changes rooms until the server does not answer any more.
func write(ctx context.Context, c *ivschat.Client, random *rand.Rand) (rooms []*known, acknowledged int) {
	for {
		k := &known{length: int32(1 + random.IntN(500)), tags: map[string]string{"a": "1"}}
		made, err := c.CreateRoom(ctx, &ivschat.CreateRoomInput{MaximumMessageLength: &k.length, Tags: k.tags, Name: aws.String("killed")})
		if err != nil {
			return rooms, acknowledged
		}
		acknowledged++
		k.arn = *made.Arn
		rooms = append(rooms, k)
		for range random.IntN(4) {
			var err error
			var change func(*known)
			switch random.IntN(4) {
			case 0:
				n := int32(1 + random.IntN(500))
				change = func(k *known) { k.length = n }
				_, err = c.UpdateRoom(ctx, &ivschat.UpdateRoomInput{Identifier: &k.arn, MaximumMessageLength: &n})
			case 1:
				v := fmt.Sprint(random.IntN(1000))
				change = func(k *known) { k.tags["b"] = v }
				_, err = c.TagResource(ctx, &ivschat.TagResourceInput{ResourceArn: &k.arn, Tags: map[string]string{"b": v}})
			case 2:
				change = func(k *known) { delete(k.tags, "a") }
				_, err = c.UntagResource(ctx, &ivschat.UntagResourceInput{ResourceArn: &k.arn, TagKeys: []string{"a"}})
			case 3:
				change = func(k *known) { k.deleted = true }
				_, err = c.DeleteRoom(ctx, &ivschat.DeleteRoomInput{Identifier: &k.arn})
			}
			if err != nil {
				k.pending = change
				return rooms, acknowledged
			}
			acknowledged++
			change(k)
			if k.deleted {
				break
			}
		}
	}
}

// verify compares every room with what is known of it, and settles what was
// pending.
func verify(t *testing.T, round int, c *ivschat.Client, rooms []*known) {
	t.Helper()
	ctx := limited(t)
	for _, k := range rooms {
		got, err := c.GetRoom(ctx, &ivschat.GetRoomInput{Identifier: &k.arn})
		var notFound *types.ResourceNotFoundException
		if err != nil && !errors.As(err, &notFound) {
			t.Fatal(err)
		}
		matches := func(k *known) bool {
			if k.deleted || err != nil {
				return k.deleted == (err != nil)
			}
			return *got.MaximumMessageLength == k.length && maps.Equal(got.Tags, k.tags) && *got.Name == "killed"
		}
		after := k.clone()
		if k.pending != nil {
			k.pending(after)
		}
		switch {
		case matches(k):
		case matches(after):
			k.length, k.tags, k.deleted = after.length, after.tags, after.deleted
		default:
			t.Errorf("round %d: room %s is %+v (%v), acknowledged was %+v", round, k.arn, got, err, k)
		}
		k.pending = nil
	}
	// What lists show is what Get shows: nothing is half-made.
	for p := ivschat.NewListRoomsPaginator(c, &ivschat.ListRoomsInput{Name: aws.String("killed")}); p.HasMorePages(); {
		page, err := p.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page.Rooms {
			whole, err := c.GetRoom(ctx, &ivschat.GetRoomInput{Identifier: r.Arn})
			if err != nil || whole.CreateTime == nil || *whole.MaximumMessageLength < 1 || !maps.Equal(whole.Tags, r.Tags) {
				t.Errorf("round %d: listed room %s is %+v, %v", round, *r.Arn, whole, err)
			}
		}
	}
}
