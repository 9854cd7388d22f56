package hub

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/go-json-experiment/json"

	"hubbub/ivschat"
	"hubbub/review"
)

const moderate = "arn:aws:lambda:us-west-2:123456789012:function:moderate"

// judge is a review handler whose doings a test decides by content: "hold" waits
// until the test lets it go, "deny" is denied with a reason, anything else is
// allowed in capital letters.
type judge struct {
	held chan struct{} // closed to let go what is held

	mu      sync.Mutex
	asked   []map[string]any
	holding chan struct{} // one for each that is held
}

// judged makes the rooms' handler one of the test's, over HTTP.
func judged(t *testing.T, timeout time.Duration) (*judge, func(*setup)) {
	j := &judge{held: make(chan struct{}), holding: make(chan struct{}, 100)}
	server := httptest.NewServer(j)
	t.Cleanup(server.Close)
	r, err := review.New(t.Context(), review.Options{Timeout: timeout, Handlers: map[string]review.Handler{moderate: {HTTP: &review.HTTP{URL: server.URL}}}})
	ok(t, err)
	t.Cleanup(r.Close)
	return j, func(s *setup) { s.Review = r }
}

func (j *judge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var request map[string]any
	if err := json.Unmarshal(body, &request); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	j.mu.Lock()
	j.asked = append(j.asked, request)
	j.mu.Unlock()
	content, _ := request["Content"].(string)
	if strings.HasPrefix(content, "hold") {
		j.holding <- struct{}{}
		select {
		case <-j.held:
		case <-r.Context().Done():
			return
		}
	}
	if strings.HasPrefix(content, "deny") {
		fmt.Fprint(w, `{"ReviewResult":"DENY","Content":"","Attributes":{"Reason":"not here"}}`)
		return
	}
	answer, _ := json.Marshal(map[string]any{"ReviewResult": "ALLOW", "Content": strings.ToUpper(content), "Attributes": map[string]string{"reviewed": "yes"}})
	_, _ = w.Write(answer)
}

func reviewed(f ivschat.FallbackResult) func(*ivschat.CreateRoomRequest) {
	return func(r *ivschat.CreateRoomRequest) {
		uri := moderate
		r.MessageReviewHandler = &ivschat.ReviewHandlerInput{URI: &uri, FallbackResult: &f}
	}
}

func TestTheHandlersVerdictDecides(t *testing.T) {
	j, with := judged(t, patience)
	var log recorder
	n := start(t, with, func(s *setup) { s.Record = log.record })
	configuration := n.loggingConfiguration()
	room := n.room(reviewed(ivschat.FallbackDeny), func(r *ivschat.CreateRoomRequest) {
		r.LoggingConfigurationIdentifiers = ivschat.ARNs{configuration}
	})
	alice, bob := n.join(room, "alice"), n.join(room, "bob")
	alice.send(`{"Action":"SEND_MESSAGE","RequestId":"1","Content":"hi"}`)
	allowed := alice.want("MESSAGE 1 HI")
	if allowed.Attributes["reviewed"] != "yes" {
		t.Errorf("attributes %v, want the handler's", allowed.Attributes)
	}
	bob.want("MESSAGE 1 HI")
	alice.send(`{"Action":"SEND_MESSAGE","RequestId":"2","Content":"deny it"}`)
	denied := alice.want("ERROR 2 406 not here")
	n.fence(room, alice, bob)

	j.mu.Lock()
	asked := j.asked
	j.mu.Unlock()
	if len(asked) != 2 || asked[0]["MessageId"] != allowed.Id || asked[1]["MessageId"] != denied.Id {
		t.Errorf("asked %v; the MessageIds are those of the MESSAGE %s and the ERROR %s", asked, allowed.Id, denied.Id)
	}
	if ip := asked[0]["Sender"].(map[string]any)["Ip"]; ip != "127.0.0.1" {
		t.Errorf("the sender's address is %v", ip)
	}
	for _, payload := range log.take() {
		if strings.Contains(payload, "deny it") || strings.Contains(payload, `"hi"`) {
			t.Errorf("recorded %s, which nobody was sent", payload)
		}
	}
}

func TestWhileAMessageIsReviewedItsSendersOrderIsKeptAndNobodyElseWaits(t *testing.T) {
	j, with := judged(t, patience)
	n := start(t, with)
	room := n.room(reviewed(ivschat.FallbackAllow))
	alice, bob := n.join(room, "alice"), n.join(room, "bob")
	alice.send(`{"Action":"SEND_MESSAGE","RequestId":"1","Content":"hold"}`)
	<-j.holding
	alice.send(`{"Action":"SEND_MESSAGE","RequestId":"2","Content":"quick"}`)
	alice.send(`{"Action":"DELETE_MESSAGE","RequestId":"3","Id":"AbCdEf123456"}`)
	alice.send(`{"Action":"SEND_MESSAGE","RequestId":"4","Content":""}`) // concerns nobody else: answered at once
	alice.want("ERROR 4 400 Invalid request: Content is required and must not be empty")
	bob.send(`{"Action":"SEND_MESSAGE","RequestId":"5","Content":"from bob"}`)
	alice.want("MESSAGE 5 FROM BOB")
	bob.want("MESSAGE 5 FROM BOB")
	n.fence(room, alice, bob) // nothing of alice's has overtaken
	close(j.held)
	for _, c := range []*client{alice, bob} {
		c.want("MESSAGE 1 HOLD")
		c.want("MESSAGE 2 QUICK")
		c.want("EVENT 3 aws:DELETE_MESSAGE")
	}
	// And when everything is over the next one is as any other.
	alice.send(`{"Action":"SEND_MESSAGE","RequestId":"6","Content":"again"}`)
	alice.want("MESSAGE 6 AGAIN")
}

func TestAMessageOutlivesItsSendersConnection(t *testing.T) {
	j, with := judged(t, patience)
	n := start(t, with)
	room := n.room(reviewed(ivschat.FallbackAllow))
	alice, bob := n.join(room, "alice"), n.join(room, "bob")
	alice.send(`{"Action":"SEND_MESSAGE","RequestId":"1","Content":"hold"}`)
	<-j.holding
	ok(t, alice.Close(websocket.StatusNormalClosure, ""))
	eventually(t, "alice is gone", func() bool { return n.Viewers() == 1 })
	close(j.held)
	bob.want("MESSAGE 1 HOLD")
	eventually(t, "one holds the room", func() bool { return n.quotaHeld() == 1 })
}

func TestNothingComesOfAUserWhoWasDisconnectedDuringTheReview(t *testing.T) {
	for _, gone := range []bool{false, true} { // the connection ended by itself before
		j, with := judged(t, patience)
		n := start(t, with)
		room := n.room(reviewed(ivschat.FallbackAllow))
		alice, bob := n.join(room, "alice"), n.join(room, "bob")
		alice.send(`{"Action":"SEND_MESSAGE","RequestId":"1","Content":"hold"}`)
		<-j.holding
		if gone {
			ok(t, alice.Close(websocket.StatusNormalClosure, ""))
			eventually(t, "alice is gone", func() bool { return n.Viewers() == 1 })
		}
		ok(t, n.Hub.DisconnectUser(t.Context(), room, "alice", ""))
		bob.want("EVENT  aws:DISCONNECT_USER")
		close(j.held)
		eventually(t, "the review is over", func() bool { return n.quotaHeld() == 1 })
		n.fence(room, bob)
	}
}

func TestAMessageOfASessionThatEndsDuringTheReviewIsDelivered(t *testing.T) {
	j, with := judged(t, patience)
	n := start(t, with)
	room := n.room(reviewed(ivschat.FallbackAllow))
	alice, bob := n.join(room, "alice"), n.join(room, "bob")
	alice.send(`{"Action":"SEND_MESSAGE","RequestId":"1","Content":"hold"}`)
	<-j.holding
	n.expire(n.viewerOf(room, "alice"), n.clock.now())
	alice.want("ERROR  401 Session expired")
	close(j.held)
	bob.want("MESSAGE 1 HOLD")
}

func TestAHandlerThatHangsIsNotWaitedFor(t *testing.T) {
	for _, c := range []struct {
		fallback ivschat.FallbackResult
		want     string
	}{
		{ivschat.FallbackAllow, "MESSAGE 1 hold"},
		{ivschat.FallbackDeny, "ERROR 1 406 Message rejected by review handler"},
	} {
		_, with := judged(t, 50*time.Millisecond)
		n := start(t, with)
		room := n.room(reviewed(c.fallback))
		alice := n.join(room, "alice")
		alice.send(`{"Action":"SEND_MESSAGE","RequestId":"1","Content":"hold"}`)
		alice.want(c.want)
	}
}

func TestARoomWhoseHandlerWasRemovedOrIsNotConfigured(t *testing.T) {
	j, with := judged(t, patience)
	n := start(t, with)
	for _, c := range []struct{ uri, want string }{
		{"", "MESSAGE 1 x"},
		{"arn:aws:lambda:us-west-2:123456789012:function:unknown", "ERROR 1 406 Message rejected by review handler"},
	} {
		room := n.room(reviewed(ivschat.FallbackDeny), func(r *ivschat.CreateRoomRequest) { r.MessageReviewHandler.URI = &c.uri })
		alice := n.join(room, "alice")
		alice.send(`{"Action":"SEND_MESSAGE","RequestId":"1","Content":"x"}`)
		alice.want(c.want)
	}
	if len(j.asked) != 0 {
		t.Errorf("asked %v", j.asked)
	}
}
