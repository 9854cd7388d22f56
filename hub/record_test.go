package hub

import (
	"strings"
	"sync"
	"testing"

	"hubbub/ivschat"
)

// recorder is a log that keeps what it is given.
type recorder struct {
	mu      sync.Mutex
	records []ivschat.Record
}

func (r *recorder) record(record ivschat.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records = append(r.records, record)
}

func (r *recorder) take() (payloads []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, record := range r.records {
		payloads = append(payloads, string(record.Payload))
	}
	r.records = nil
	return payloads
}

// loggingConfiguration makes one.
func (n *node) loggingConfiguration() ivschat.ARN {
	n.t.Helper()
	c, err := n.registry.CreateLoggingConfiguration(n.t.Context(), here, &ivschat.CreateLoggingConfigurationRequest{
		DestinationConfiguration: &ivschat.DestinationConfiguration{S3: &ivschat.S3Destination{BucketName: "logs"}}})
	ok(n.t, err)
	return c.ARN
}

func TestWhatViewersGetIsRecordedByteForByteInTheirOrder(t *testing.T) {
	var log recorder
	n := start(t, func(s *setup) { s.Record = log.record })
	configurations := ivschat.ARNs{n.loggingConfiguration(), n.loggingConfiguration()}
	room := n.room(func(r *ivschat.CreateRoomRequest) { r.LoggingConfigurationIdentifiers = configurations })
	alice, bob := n.join(room, "alice"), n.join(room, "bob")
	alice.send(`{"Action":"SEND_MESSAGE","RequestId":"1","Content":"<é𝄞>","Attributes":{"b":"2","a":"1"}}`)
	alice.send(`{"Action":"SEND_MESSAGE","RequestId":"2"}`) // refused: an ERROR is not recorded
	alice.send(`{"Action":"DELETE_MESSAGE","RequestId":"3","Id":"AbCdEf123456"}`)
	alice.send(`{"Action":"DISCONNECT_USER","RequestId":"4","UserId":"nobody"}`)
	var got []string
	for range 3 {
		text, err := bob.read()
		ok(t, err)
		got = append(got, text)
	}
	_, err := n.SendEvent(t.Context(), room, "custom", nil)
	ok(t, err)
	_, err = n.Hub.DeleteMessage(t.Context(), room, "AbCdEf123456", "r")
	ok(t, err)
	ok(t, n.Hub.DisconnectUser(t.Context(), room, "nobody", ""))
	for range 3 {
		text, err := bob.read()
		ok(t, err)
		got = append(got, text)
	}
	log.mu.Lock()
	for _, r := range log.records {
		if r.Room != room || len(r.Configurations) != 2 || r.Configurations[0] != configurations[0] {
			t.Errorf("a record of %s for %v", r.Room, r.Configurations)
		}
		if want := `{"Type":"` + string(r.Type) + `",`; !strings.HasPrefix(string(r.Payload), want) {
			t.Errorf("a record of type %s has %s", r.Type, r.Payload)
		}
		if !strings.Contains(string(r.Payload), r.Received.UTC().Format(`"SendTime":"2006-01-02T15:04:05.`)) {
			t.Errorf("a record received at %v has %s", r.Received, r.Payload)
		}
	}
	log.mu.Unlock()
	recorded := log.take()
	if len(recorded) != len(got) {
		t.Fatalf("%d records of %d frames: %s", len(recorded), len(got), recorded)
	}
	for i := range got {
		if recorded[i] != got[i] {
			t.Errorf("viewers got %s, the record has %s", got[i], recorded[i])
		}
	}
}

func TestEventsOfARoomWithoutViewersAreRecorded(t *testing.T) {
	var log recorder
	n := start(t, func(s *setup) { s.Record = log.record })
	configuration := n.loggingConfiguration()
	room := n.room(func(r *ivschat.CreateRoomRequest) { r.LoggingConfigurationIdentifiers = ivschat.ARNs{configuration} })
	_, err := n.SendEvent(t.Context(), room, "custom", map[string]string{"k": "v"})
	ok(t, err)
	_, err = n.Hub.DeleteMessage(t.Context(), room, "AbCdEf123456", "")
	ok(t, err)
	ok(t, n.Hub.DisconnectUser(t.Context(), room, "nobody", ""))
	if got := log.take(); len(got) != 3 || !strings.Contains(got[0], `"custom"`) || !strings.Contains(got[1], "aws:DELETE_MESSAGE") || !strings.Contains(got[2], "aws:DISCONNECT_USER") {
		t.Errorf("recorded %s", got)
	}
}

func TestAttachingAndDetachingActOnWhatComesAfter(t *testing.T) {
	var log recorder
	n := start(t, func(s *setup) { s.Record = log.record })
	room := n.room()
	alice := n.join(room, "alice")
	say := func(text string) {
		t.Helper()
		alice.send(`{"Action":"SEND_MESSAGE","Content":"%s"}`, text)
		alice.want("MESSAGE  " + text)
	}
	attach := func(list ivschat.ARNs) {
		t.Helper()
		_, err := n.registry.UpdateRoom(t.Context(), &ivschat.UpdateRoomRequest{Identifier: room, LoggingConfigurationIdentifiers: list})
		ok(t, err)
	}
	configuration := n.loggingConfiguration()
	say("before")
	attach(ivschat.ARNs{configuration})
	say("attached")
	attach(ivschat.ARNs{})
	say("detached")
	if got := log.take(); len(got) != 1 || !strings.Contains(got[0], `"attached"`) {
		t.Errorf("recorded %s", got)
	}
}
