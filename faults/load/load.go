// Package load is people and programs that use servers, however the servers do, and
// note what they see: writers of rooms, senders, viewers, users of one-time tokens,
// and a service outside that keeps chat logs.
//
// Everybody behaves like a client of the service would. Writers use the AWS SDK and
// try again, elsewhere if they can. Viewers and senders come back with new tokens as
// the official SDKs do. Nobody knows of faults.
package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ivschat"
	"github.com/aws/aws-sdk-go-v2/service/ivschat/types"
	"github.com/coder/websocket"

	"hubbub/faults/history"
)

// How long clients wait.
const (
	writeTime     = 12 * time.Second // for an answer to a write: a server may need 10 s
	tokenTime     = 5 * time.Second  // for a token
	handshakeTime = 5 * time.Second  // for a 101
	silence       = 10 * time.Second // a sender, for its own message
	lookTime      = 3 * time.Second  // for what was just written
	probeTime     = time.Second      // from one attempt of a prober to the next
	aliveAfter    = 5 * time.Second  // of silence the kernel asks whether the other side lives
)

// Server is a node as clients know it.
type Server struct {
	Name      string
	API       string // URL of the control plane
	Messaging string // URL of the messaging plane
}

// Options say how much is going on. No field may be zero.
type Options struct {
	Seed                           uint64
	Servers                        []Server
	Region, AccessKeyID, SecretKey string

	Rooms   int // with viewers; every other one is logged
	Viewers int // of a room
	Senders int // of a room
	Writers int
	Talk    time.Duration // from one message of a sender to the next
	Write   time.Duration // from one write of a writer to the next
	Bucket  string        // for chat logs
}

// Load is a load that runs.
type Load struct {
	Options
	t      testing.TB
	start  time.Time
	apis   []*ivschat.Client // by place in Servers
	dialer *http.Client      // of handshakes
	rooms  []room            // with viewers

	working    context.Context // until nothing new begins
	rest       context.CancelFunc
	work       sync.WaitGroup
	connected  context.Context // until everybody leaves
	leave      context.CancelFunc
	people     sync.WaitGroup
	streams    atomic.Int64
	tokens     *redeemer
	everything *rooms

	mu   sync.Mutex
	seen history.History             // what was collected
	odd  map[string]int              // what is no violation, and worth a line, by what it is
	away map[*person]*websocket.Conn // who is connected elsewhere than at home
}

// room is one with viewers.
type room struct {
	number int // from 1
	arn    string
	logged bool
}

// Start makes the rooms and lets everybody in. The servers must be ready.
func Start(t testing.TB, o Options) *Load {
	t.Helper()
	l := &Load{Options: o, t: t, start: time.Now(), odd: map[string]int{}, away: map[*person]*websocket.Conn{}, everything: &rooms{}}
	l.working, l.rest = context.WithCancel(context.Background())
	l.connected, l.leave = context.WithCancel(context.Background())
	t.Cleanup(l.stop)
	for _, s := range o.Servers {
		l.seen.Nodes = append(l.seen.Nodes, s.Name)
		l.apis = append(l.apis, ivschat.New(ivschat.Options{
			Region: o.Region, BaseEndpoint: aws.String(s.API), Retryer: aws.NopRetryer{},
			Credentials: credentials.NewStaticCredentialsProvider(o.AccessKeyID, o.SecretKey, ""),
			HTTPClient:  &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, DialContext: dialer.DialContext}},
		}))
	}
	l.dialer = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: -1, DialContext: dialer.DialContext}}
	l.open()
	for i := range o.Writers {
		w := &writer{Load: l, number: i + 1, random: l.random(1, i)}
		l.work.Go(w.run)
	}
	if len(o.Servers) > 1 {
		for place := range o.Servers {
			p := &prober{Load: l, place: place}
			l.work.Go(p.run)
		}
	}
	for _, room := range l.rooms {
		for i := range o.Senders {
			number := (room.number-1)*o.Senders + i + 1
			p := &person{Load: l, number: -number, room: room, home: number % len(o.Servers), random: l.random(2, number), speaks: true}
			l.people.Go(p.run)
		}
		for i := range o.Viewers {
			number := (room.number-1)*o.Viewers + i + 1
			p := &person{Load: l, number: number, room: room, home: number % len(o.Servers), random: l.random(3, number)}
			l.people.Go(p.run)
		}
	}
	l.work.Go(l.events)
	l.tokens = &redeemer{Load: l, random: l.random(4, 0)}
	l.work.Go(l.tokens.run)
	return l
}

// dialer notices soon that the other side is gone, browsers within a minute or two.
var dialer = &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: aliveAfter, Interval: 2 * time.Second, Count: 5}}

// open makes the rooms that people meet in.
func (l *Load) open() {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.working, time.Minute)
	defer cancel()
	logs, err := l.apis[0].CreateLoggingConfiguration(ctx, &ivschat.CreateLoggingConfigurationInput{
		DestinationConfiguration: &types.DestinationConfigurationMemberS3{Value: types.S3DestinationConfiguration{BucketName: &l.Bucket}}})
	if err != nil {
		l.t.Fatal(err)
	}
	l.seen.Kept = map[int]bool{}
	for i := range l.Rooms {
		r := room{number: i + 1, logged: i%2 == 0}
		in := &ivschat.CreateRoomInput{Name: aws.String(fmt.Sprint("people-", r.number)), MaximumMessageRatePerSecond: aws.Int32(100)}
		if r.logged {
			in.LoggingConfigurationIdentifiers = []string{*logs.Arn}
			l.seen.Kept[r.number] = true
		}
		out, err := l.apis[0].CreateRoom(ctx, in)
		if err != nil {
			l.t.Fatal(err)
		}
		r.arn = *out.Arn
		l.rooms = append(l.rooms, r)
	}
}

// random is a source of its own for somebody of a kind.
func (l *Load) random(kind, number int) *rand.Rand {
	return rand.New(rand.NewPCG(l.Seed, uint64(kind)<<32|uint64(uint32(number))))
}

// Now is the time of the history.
func (l *Load) Now() history.Time { return time.Since(l.start) }

// note counts something odd.
func (l *Load) note(what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.odd[what]++
}

// Odd is what was counted so far that breaks no promise.
func (l *Load) Odd() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	odd := map[string]int{}
	for what, n := range l.odd {
		odd[what] = n
	}
	return odd
}

// add puts what somebody saw into the history.
func (l *Load) add(change func(*history.History)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(&l.seen)
}

// Rest ends all work: what was begun is finished, and nothing is begun. Everybody
// stays connected.
func (l *Load) Rest() {
	l.rest()
	l.work.Wait()
}

// Leave ends all connections, and returns what was seen.
func (l *Load) Leave() *history.History {
	l.stop()
	return &l.seen
}

func (l *Load) stop() {
	l.Rest()
	l.leave()
	l.people.Wait()
}

// pause waits, and says whether to go on.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
