package conformance

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ivschat"
	"github.com/aws/aws-sdk-go-v2/service/ivschat/types"
	"github.com/coder/websocket"
)

// witness keeps what a viewer gets, byte for byte, until its connection ends.
type witness struct {
	*websocket.Conn
	t testing.TB

	mu      sync.Mutex
	changed *sync.Cond
	logged  []string // the records that must be of each MESSAGE and EVENT
	errors  []int    // codes of the others
	ended   bool
	late    bool // patience is over
}

func watch(t testing.TB, c *websocket.Conn) *witness {
	w := &witness{Conn: c, t: t}
	w.changed = sync.NewCond(&w.mu)
	ctx := limited(t)
	go func() {
		for {
			_, b, err := c.Read(ctx)
			var f frame
			_ = json.Unmarshal(b, &f)
			w.mu.Lock()
			switch {
			case err != nil:
				w.ended = true
			case f.Type == "ERROR":
				w.errors = append(w.errors, f.ErrorCode)
			default:
				w.logged = append(w.logged, lineOf(b))
			}
			w.changed.Broadcast()
			w.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return w
}

// until waits for what the viewer gets; holds is asked with the mutex held.
func (w *witness) until(what string, holds func() bool) {
	w.t.Helper()
	late := time.AfterFunc(patience, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.late = true
		w.changed.Broadcast()
	})
	defer late.Stop()
	w.mu.Lock()
	defer w.mu.Unlock()
	for !holds() {
		if w.late || w.ended {
			w.t.Fatalf("not within %v, or before the end: %s", patience, what)
		}
		w.changed.Wait()
	}
}

// records are those that must be of what the viewer got so far.
func (w *witness) records() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.logged)
}

// wait waits until the viewer got n frames that are logged.
func (w *witness) wait(n int) []string {
	w.t.Helper()
	w.until(fmt.Sprintf("the viewer gets %d frames", n), func() bool { return len(w.logged) >= n })
	return w.records()
}

// refused waits for n ERRORs and returns their codes.
func (w *witness) refused(n int) (codes []int) {
	w.t.Helper()
	w.until(fmt.Sprintf("the viewer gets %d errors", n), func() bool { return len(w.errors) >= n })
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.errors)
}

// closed waits for the end of the connection.
func (w *witness) closed() {
	w.t.Helper()
	w.until("the connection ends", func() bool { return w.ended })
}

// say sends a message.
func (w *witness) say(content string) {
	w.t.Helper()
	send(w.t, w.Conn, fmt.Sprintf(`{"Action":"SEND_MESSAGE","RequestId":"r","Content":%q}`, content))
}

// sayAll sends messages and waits until they have come.
func (w *witness) sayAll(prefix string, n int) {
	w.t.Helper()
	w.mu.Lock()
	before := len(w.logged)
	w.mu.Unlock()
	for i := range n {
		w.say(fmt.Sprintf("%s %04d", prefix, i))
	}
	w.wait(before + n)
}

// reviewed has a review handler made of rules.
const reviewed = `review:
  handlers:
    "arn:aws:lambda:us-west-2:000000000000:function:words": {rules: {deny_words: [forbidden], mask_words: [darn]}}
`

// TestLogsHaveWhatViewersGot holds all three kinds to the record of each frame
// that an independent viewer got, and to no other.
func TestLogsHaveWhatViewersGot(t *testing.T) {
	k := openSinks(t)
	s := start(t, "--config", k.file("50ms", reviewed))
	c, ctx := s.client(), limited(t)
	configurations := []string{loggedTo(t, c, toBucket("logs")), loggedTo(t, c, toGroup("logs")), loggedTo(t, c, toStream("logs"))}
	handler := &types.MessageReviewHandler{Uri: aws.String("arn:aws:lambda:us-west-2:000000000000:function:words"), FallbackResult: types.FallbackResultAllow}
	room := *newRoom(t, c, &ivschat.CreateRoomInput{LoggingConfigurationIdentifiers: configurations, MessageReviewHandler: handler, MaximumMessageRatePerSecond: aws.Int32(100)}).Arn
	alice := watch(t, connect(t, s, c, room, "alice", types.ChatTokenCapabilitySendMessage, types.ChatTokenCapabilityDeleteMessage, types.ChatTokenCapabilityDisconnectUser))
	bob := watch(t, connect(t, s, c, room, "bob"))
	carol := watch(t, connect(t, s, c, room, "carol"))
	dave := watch(t, connect(t, s, c, room, "dave", every))

	// What nobody gets is not logged.
	bob.say("denied to who may not send")
	alice.say("forbidden by the review")
	alice.say(strings.Repeat("x", 501))
	alice.say("")
	send(t, alice.Conn, `not JSON`)
	if codes := append(bob.refused(1), alice.refused(4)...); !slices.Contains(codes, 403) || !slices.Contains(codes, 406) || !slices.Contains(codes, 400) {
		t.Errorf("refused with %v", codes)
	}
	for range 30 {
		dave.say("too fast")
	}
	dave.until("all are answered", func() bool { return len(dave.errors)+len(dave.logged) == 30 })
	if codes := dave.refused(1); slices.ContainsFunc(codes, func(code int) bool { return code != 429 }) {
		t.Errorf("refused with %v, want 429", codes)
	}

	// From both planes, with the letters that encoders stumble over.
	before := len(bob.records())
	requests := []string{
		`{"Action":"SEND_MESSAGE","RequestId":"1","Content":"<é𝄞\u2028\u0007\\\"> & darn","Attributes":{"b":"2","a":"<>&\u2029"}}`,
		`{"Action":"SEND_MESSAGE","Content":"  no request id  "}`,
		`{"Action":"DELETE_MESSAGE","RequestId":"3","Id":"AbCdEf123456","Reason":"<b>"}`,
		`{"Action":"DISCONNECT_USER","RequestId":"4","UserId":"nobody"}`,
		`{"Action":"DISCONNECT_USER","RequestId":"5","UserId":"carol","Reason":"out"}`,
	}
	for _, r := range requests {
		send(t, alice.Conn, r)
	}
	bob.wait(before + len(requests))
	event, err := c.SendEvent(ctx, &ivschat.SendEventInput{RoomIdentifier: &room, EventName: aws.String("app:<e>"), Attributes: map[string]string{"k": "é\u2028"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.DeleteMessage(ctx, &ivschat.DeleteMessageInput{RoomIdentifier: &room, Id: event.Id, Reason: aws.String("r")}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.DisconnectUser(ctx, &ivschat.DisconnectUserInput{RoomIdentifier: &room, UserId: aws.String("alice")}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.SendEvent(ctx, &ivschat.SendEventInput{RoomIdentifier: &room, EventName: aws.String("last")}); err != nil {
		t.Fatal(err)
	}
	bob.until("the last event comes", func() bool {
		return strings.Contains(bob.logged[len(bob.logged)-1], `"EventName":"last"`)
	})
	want := bob.records()
	for what, n := range map[string]int{`"type":"MESSAGE"`: 3, `"EventName":"aws:DELETE_MESSAGE"`: 2, `"EventName":"aws:DISCONNECT_USER"`: 3, `"EventName":"app:<e>"`: 1, "& ****": 1} {
		if got := strings.Count(strings.Join(want, "\n"), what); got < n {
			t.Errorf("the viewer got %d of %s: the test did not do its work", got, what)
		}
	}
	carol.closed()
	if seen := carol.records(); !strings.Contains(seen[len(seen)-1], `"UserId":"carol"`) {
		t.Errorf("carol was not disconnected after %v", seen)
	}
	same(t, "S3", k.s3.wait("logs", idOf(room), len(want)), want)
	same(t, "CloudWatch Logs", k.logs.wait("logs", idOf(room), len(want)), want)
	same(t, "Firehose", k.firehose.wait("logs", "", len(want)), want)

	t.Run("a room without viewers", func(t *testing.T) {
		empty := *newRoom(t, c, &ivschat.CreateRoomInput{LoggingConfigurationIdentifiers: configurations[:2]}).Arn
		event, err := c.SendEvent(ctx, &ivschat.SendEventInput{RoomIdentifier: &empty, EventName: aws.String("alone")})
		if err != nil {
			t.Fatal(err)
		}
		deleted, err := c.DeleteMessage(ctx, &ivschat.DeleteMessageInput{RoomIdentifier: &empty, Id: event.Id})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.DisconnectUser(ctx, &ivschat.DisconnectUserInput{RoomIdentifier: &empty, UserId: aws.String("nobody")}); err != nil {
			t.Fatal(err)
		}
		for _, sink := range []*sink{k.s3.sink, k.logs.sink} {
			got := sink.wait("logs", idOf(empty), 3)
			for i, want := range []string{
				`"payload":{"Type":"EVENT","Id":"` + *event.Id + `","RequestId":"","EventName":"alone","Attributes":null,`,
				`"payload":{"Type":"EVENT","Id":"` + *deleted.Id + `","RequestId":"","EventName":"aws:DELETE_MESSAGE","Attributes":{"MessageID":"` + *event.Id + `"`,
				`"EventName":"aws:DISCONNECT_USER"`,
			} {
				if len(got) != 3 || !strings.Contains(got[i], want) {
					t.Errorf("%s: record %d of %d is %s, want %s", sink.service, i, len(got), got[i], want)
				}
			}
		}
	})
	s.delivered(t)
	for _, f := range []fault{broken, slow, denied, hangs, cutOff} {
		if n := k.s3.met(f) + k.logs.met(f) + k.firehose.met(f); n != 0 {
			t.Errorf("%d requests met %s", n, f)
		}
	}
	if n := s.metric(t, "hubbub_log_destination_errors_total"); n != 0 {
		t.Errorf("%v errors were counted", n)
	}
	if n := s.metric(t, "hubbub_chatlog_delivered_records_total"); n != float64(3*len(want)+2*3) {
		t.Errorf("%v records delivered, want %d", n, 3*len(want)+2*3)
	}
}

// TestOneDestinationHangsAndTheOtherIsOnTime has two configurations of one room.
func TestOneDestinationHangsAndTheOtherIsOnTime(t *testing.T) {
	k := openSinks(t)
	k.s3.create("hanging")
	s := start(t, "--limits", "none", "--config", k.file("50ms", "  retry: {timeout: 30s}"))
	c := s.client()
	room := loggedRoom(t, c, loggedTo(t, c, toBucket("hanging")), loggedTo(t, c, toBucket("logs")))
	alice := watch(t, connect(t, s, c, room, "alice", every))
	k.s3.set("hanging", hangs)
	alice.sayAll("first", 1)
	eventually(t, "a request hangs", func() bool { return k.s3.hanging("hanging") == 1 })
	var longest time.Duration
	for i := range 10 {
		began := time.Now()
		alice.sayAll(fmt.Sprint("round ", i), 20)
		k.s3.wait("logs", idOf(room), 1+20*(i+1))
		longest = max(longest, time.Since(began))
	}
	t.Logf("the other destination had 20 messages at most %v after they were sent, with a flush of 50ms", longest)
	if longest > 5*time.Second {
		t.Errorf("the other destination had to wait %v", longest)
	}
	if n := k.s3.hanging("hanging"); n != 1 {
		t.Errorf("%d requests hang, want the one", n)
	}
	same(t, "the other", k.s3.have("logs", idOf(room)), alice.records())
	k.s3.set("hanging", works)
	k.s3.down() // ends the request
	k.s3.up()
	same(t, "the one that hung", k.s3.wait("hanging", idOf(room), 201), alice.records())
}

// TestThreeConfigurationsUnderLoad wants every record thrice.
func TestThreeConfigurationsUnderLoad(t *testing.T) {
	k := openSinks(t)
	s := start(t, "--limits", "none", "--config", k.file("100ms"))
	c := s.client()
	all := []string{loggedTo(t, c, toBucket("logs")), loggedTo(t, c, toGroup("logs")), loggedTo(t, c, toStream("logs"))}
	const messages = 600
	var senders sync.WaitGroup
	var rooms []string
	var viewers []*witness
	began := time.Now()
	for i := range 5 {
		room := loggedRoom(t, c, all...)
		w := watch(t, connect(t, s, c, room, "u", every))
		rooms, viewers = append(rooms, room), append(viewers, w)
		senders.Go(func() {
			for j := range messages {
				w.say(fmt.Sprintf("room %d message %04d", i, j))
			}
		})
	}
	senders.Wait()
	var everything []string
	for i, w := range viewers {
		want := w.wait(messages)
		everything = append(everything, want...)
		same(t, "S3", k.s3.wait("logs", idOf(rooms[i]), messages), want)
		same(t, "CloudWatch Logs", k.logs.wait("logs", idOf(rooms[i]), messages), want)
	}
	got := k.firehose.wait("logs", "", len(everything))
	slices.Sort(got)
	slices.Sort(everything)
	same(t, "Firehose", got, everything)
	s.delivered(t)
	if n := s.metric(t, "hubbub_chatlog_delivered_records_total"); n != 3*5*messages {
		t.Errorf("%v records delivered, want %d", n, 3*5*messages)
	}
	if n := s.metric(t, "hubbub_chatlog_dropped_records_total"); n != 0 {
		t.Errorf("%v records dropped", n)
	}
	t.Logf("%d records in %v", 3*len(everything), time.Since(began))
}
