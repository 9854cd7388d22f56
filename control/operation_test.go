package control

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hubbub/ivschat"
	"hubbub/quota"
)

// calls has one call of every operation that succeeds on the room and the
// configuration, deletions last. Source: spec control-plane 1.
var calls = []struct {
	operation    ivschat.Operation
	method, path string // %[1]s is the room, %[2]s the configuration
	body         string
	status       int
	verified     bool // column P of spec control-plane 3.2
}{
	{ivschat.OpCreateChatToken, "POST", "/CreateChatToken", `{"roomIdentifier":%[1]q,"userId":"alice"}`, 200, true},
	{ivschat.OpCreateLoggingConfiguration, "POST", "/CreateLoggingConfiguration", `{"destinationConfiguration":{"firehose":{"deliveryStreamName":"d"}}}`, 200, true},
	{ivschat.OpCreateRoom, "POST", "/CreateRoom", `{}`, 200, true},
	{ivschat.OpDeleteMessage, "POST", "/DeleteMessage", `{"roomIdentifier":%[1]q,"id":"AbCdEf123456"}`, 200, true},
	{ivschat.OpDisconnectUser, "POST", "/DisconnectUser", `{"roomIdentifier":%[1]q,"userId":"alice"}`, 200, true},
	{ivschat.OpGetLoggingConfiguration, "POST", "/GetLoggingConfiguration", `{"identifier":%[2]q}`, 200, false},
	{ivschat.OpGetRoom, "POST", "/GetRoom", `{"identifier":%[1]q}`, 200, false},
	{ivschat.OpListLoggingConfigurations, "POST", "/ListLoggingConfigurations", `{}`, 200, false},
	{ivschat.OpListRooms, "POST", "/ListRooms", `{}`, 200, false},
	{ivschat.OpListTagsForResource, "GET", "/tags/%[1]s", ``, 200, false},
	{ivschat.OpSendEvent, "POST", "/SendEvent", `{"roomIdentifier":%[1]q,"eventName":"e"}`, 200, true},
	{ivschat.OpTagResource, "POST", "/tags/%[1]s", `{"tags":{"k":"v"}}`, 200, false},
	{ivschat.OpUntagResource, "DELETE", "/tags/%[1]s?tagKeys=k", ``, 200, false},
	{ivschat.OpUpdateLoggingConfiguration, "POST", "/UpdateLoggingConfiguration", `{"identifier":%[2]q,"name":"n"}`, 200, true},
	{ivschat.OpUpdateRoom, "POST", "/UpdateRoom", `{"identifier":%[1]q,"name":"n"}`, 200, true},
	{ivschat.OpDeleteLoggingConfiguration, "POST", "/DeleteLoggingConfiguration", `{"identifier":%[2]q}`, 204, true},
	{ivschat.OpDeleteRoom, "POST", "/DeleteRoom", `{"identifier":%[1]q}`, 204, true},
}

// filled is a path or body of calls with its resources.
func filled(format string, room, configuration ivschat.ARN) string {
	q := strings.NewReplacer("%[1]s", string(room), "%[1]q", strconv.Quote(string(room)), "%[2]q", strconv.Quote(string(configuration)))
	return q.Replace(format)
}

// requestOf is the i-th of the calls on two resources.
func (f *fixture) requestOf(i int, room, configuration ivschat.ARN) *http.Request {
	f.tb.Helper()
	return f.request(calls[i].method, filled(calls[i].path, room, configuration), filled(calls[i].body, room, configuration))
}

func TestTheTableHasAllOperations(t *testing.T) {
	have := map[ivschat.Operation]*operation{}
	for _, o := range operations {
		if have[o.name] != nil {
			t.Error("twice:", o.name)
		}
		have[o.name] = o
	}
	if len(operations) != len(ivschat.Operations) || len(calls) != len(ivschat.Operations) {
		t.Fatalf("%d rows, %d calls, %d operations", len(operations), len(calls), len(ivschat.Operations))
	}
	for _, c := range calls {
		o := have[c.operation]
		if o == nil {
			t.Errorf("no row for %s", c.operation)
		} else if o.method != c.method || o.status != c.status || o.verified != c.verified || o.tagging != strings.HasPrefix(c.path, "/tags/") {
			t.Errorf("%s: %+v, want %+v", o.name, o, c)
		}
	}
}

func TestEveryOperationSucceeds(t *testing.T) {
	f := open(t)
	room, configuration := f.room(), f.configuration()
	for i, c := range calls {
		if got := f.send(f.requestOf(i, room, configuration)); got.status != c.status {
			t.Errorf("%s: %d %s", c.operation, got.status, got.body)
		}
	}
}

func TestRoomThroughJSON(t *testing.T) {
	f := open(t)
	a, b := f.configuration(), f.configuration()

	plain := f.ok(ivschat.OpCreateRoom, ``).json // paws sends no body
	arn := plain["arn"].(string)
	want := map[string]any{"arn": arn, "id": ivschat.ARN(arn).ID(), "name": "", "createTime": "2026-11-24T12:00:00.123Z", "updateTime": "2026-11-24T12:00:00.123Z",
		"maximumMessageRatePerSecond": 10.0, "maximumMessageLength": 500.0, "tags": map[string]any{}}
	if d := cmp.Diff(want, plain); d != "" {
		t.Error("defaults filled in, what was never set absent:", d)
	}
	want["maximumMessageLength"] = 7.0 // and so on, below
	f.at = f.at.Add(time.Second)
	for _, c := range []struct{ name, members, want string }{
		{"nothing given", ``, `{}`},
		{"null is absent", `,"name":null,"maximumMessageLength":null,"messageReviewHandler":null,"loggingConfigurationIdentifiers":null`, `{}`},
		{"unknown members are ignored", `,"tomorrow":{"x":[1]},"tags":{"k":"v"}`, `{}`},
		{"an integer", `,"maximumMessageLength":7`, `{"maximumMessageLength":7}`},
		{"a name", `,"name":"n"`, `{"name":"n"}`},
		{"an empty name clears it", `,"name":""`, `{"name":""}`},
		{"a handler without its fallback", fmt.Sprintf(`,"messageReviewHandler":{"uri":%q}`, lambda), fmt.Sprintf(`{"messageReviewHandler":{"uri":%q,"fallbackResult":"ALLOW"}}`, lambda)},
		{"a fallback alone", `,"messageReviewHandler":{"fallbackResult":"DENY"}`, fmt.Sprintf(`{"messageReviewHandler":{"uri":%q,"fallbackResult":"DENY"}}`, lambda)},
		{"an empty handler changes nothing", `,"messageReviewHandler":{}`, `{}`},
		{"an empty uri removes it, and the object stays", `,"messageReviewHandler":{"uri":""}`, `{"messageReviewHandler":{"uri":"","fallbackResult":"DENY"}}`},
		{"a list", fmt.Sprintf(`,"loggingConfigurationIdentifiers":[%q,%q]`, b, a), fmt.Sprintf(`{"loggingConfigurationIdentifiers":[%q,%q]}`, b, a)},
		{"another list replaces it", fmt.Sprintf(`,"loggingConfigurationIdentifiers":[%q]`, a), fmt.Sprintf(`{"loggingConfigurationIdentifiers":[%q]}`, a)},
		{"an empty list detaches all", `,"loggingConfigurationIdentifiers":[]`, `{"loggingConfigurationIdentifiers":null}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := f.ok(ivschat.OpGetRoom, `{"identifier":%q}`, arn).json
			got := f.ok(ivschat.OpUpdateRoom, `{"identifier":%q%s}`, arn, c.members).json
			after := f.ok(ivschat.OpGetRoom, `{"identifier":%q}`, arn)
			if d := cmp.Diff(got, after.json); d != "" {
				t.Error("the response is not what is read afterwards:", d)
			}
			changed := decode(t, c.want)
			if (got["updateTime"] == before["updateTime"]) != (len(changed) == 0) {
				t.Errorf("updateTime was %v, is %v", before["updateTime"], got["updateTime"])
			}
			for k, v := range changed {
				before[k] = v
				if v == nil {
					delete(before, k)
				}
			}
			before["updateTime"] = got["updateTime"]
			if d := cmp.Diff(before, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestListsThroughJSON(t *testing.T) {
	f := open(t)
	if got := f.ok(ivschat.OpListRooms, `{}`).body; got != `{"rooms":[]}` {
		t.Error(got)
	}
	if got := f.ok(ivschat.OpListLoggingConfigurations, `{}`).body; got != `{"loggingConfigurations":[]}` {
		t.Error(got)
	}
	f.room()
	f.room()
	one := f.ok(ivschat.OpListRooms, `{"maxResults":1,"nextToken":"","name":"","messageReviewHandlerUri":""}`)
	token, _ := one.json["nextToken"].(string)
	if rooms := one.json["rooms"].([]any); len(rooms) != 1 || token == "" || rooms[0].(map[string]any)["maximumMessageLength"] != nil {
		t.Error(one.body)
	}
	two := f.ok(ivschat.OpListRooms, `{"maxResults":1,"nextToken":%q}`, token)
	if _, more := two.json["nextToken"]; more || len(two.json["rooms"].([]any)) != 1 {
		t.Error("the last page has no nextToken:", two.body)
	}
	both := f.call(ivschat.OpListRooms, `{"maxResults":0,"nextToken":"x","loggingConfigurationIdentifier":"arn:aws:ivschat:us-west-2:123456789012:logging-configuration/AbCdEf123456"}`)
	if both.status != 400 || fmt.Sprint(fields(both)) != "[nextToken maxResults]" && fmt.Sprint(fields(both)) != "[maxResults nextToken]" {
		t.Error("a bad token counts before the lookup, beside all else that fails:", both.status, fields(both))
	}
	for _, body := range []string{`{"nextToken":"x"}`, fmt.Sprintf(`{"nextToken":%q,"name":"other"}`, token)} {
		if got := f.call(ivschat.OpListRooms, body); got.status != 400 || fmt.Sprint(fields(got)) != "[nextToken]" {
			t.Error(got.body)
		}
	}
	got := f.call(ivschat.OpListRooms, fmt.Sprintf(`{"loggingConfigurationIdentifier":%q}`, scope.ARN(ivschat.LoggingConfigurationType, unmade)))
	f.refused(got, ivschat.NotFound)
}

func TestCreateChatToken(t *testing.T) {
	minute := func(t *fixture, o *Options) { o.TokenLifetime = time.Minute }
	for _, c := range []struct {
		name, members  string
		setting        setting
		token, session string
		want           ivschat.Capability
		attributes     map[string]string
	}{
		{"defaults", ``, nil, "2026-11-24T13:00:00Z", "2026-11-24T13:00:00Z", 0, nil},
		{"a longer session, nothing as empty members", `,"sessionDurationInMinutes":180,"attributes":{},"capabilities":[]`, nil, "2026-11-24T13:00:00Z", "2026-11-24T15:00:00Z", 0, nil},
		{"never beyond the session", `,"sessionDurationInMinutes":1`, nil, "2026-11-24T12:01:00Z", "2026-11-24T12:01:00Z", 0, nil},
		{"a lifetime of its own, capabilities given twice", `,"capabilities":["SEND_MESSAGE","DELETE_MESSAGE","SEND_MESSAGE"],"attributes":{"k":"é","":""}`, minute,
			"2026-11-24T12:01:00Z", "2026-11-24T13:00:00Z", ivschat.CanSendMessage | ivschat.CanDeleteMessage, map[string]string{"k": "é", "": ""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := open(t, func(f *fixture, o *Options) {
				if c.setting != nil {
					c.setting(f, o)
				}
			})
			room := f.room()
			before := f.ok(ivschat.OpGetRoom, `{"identifier":%q}`, room).body
			f.at = noon.Add(700 * time.Millisecond)
			got := f.ok(ivschat.OpCreateChatToken, `{"roomIdentifier":%q,"userId":"älice"%s}`, room, c.members)
			if got.json["tokenExpirationTime"] != c.token || got.json["sessionExpirationTime"] != c.session || len(got.json) != 3 {
				t.Errorf("got %s, want token until %s, session until %s", got.body, c.token, c.session)
			}
			token := got.json["token"].(string)
			s, err := f.tokens.Redeem(token, noon)
			if err != nil {
				t.Fatal(err)
			}
			if s.Room != room || s.UserID != "älice" || s.Capabilities != c.want || cmp.Diff(c.attributes, s.Attributes) != "" ||
				s.TokenExpires.Format(time.RFC3339) != c.token || s.SessionExpires.Format(time.RFC3339) != c.session {
				t.Errorf("sealed: %v %v %v %v %v %v", s.Room, s.UserID, s.Capabilities, s.Attributes, s.TokenExpires, s.SessionExpires)
			}
			if after := f.ok(ivschat.OpGetRoom, `{"identifier":%q}`, room).body; after != before {
				t.Error("the call changed the room:", after)
			}
			for _, secret := range []string{token, "älice", `\u00e4lice`} {
				if strings.Contains(f.said.String(), secret) {
					t.Errorf("the log has %q", secret)
				}
			}
		})
	}
}

func TestMessenger(t *testing.T) {
	f := open(t)
	room := f.room()
	for _, c := range []struct {
		operation     ivschat.Operation
		members, want string
		sent          sent
	}{
		{ivschat.OpSendEvent, `,"eventName":"goal","attributes":{"k":"v"}`, `{"id":"eventEVENT01"}`, sent{what: "goal", attributes: map[string]string{"k": "v"}}},
		{ivschat.OpSendEvent, `,"eventName":"goal","attributes":{}`, `{"id":"eventEVENT01"}`, sent{what: "goal"}},
		{ivschat.OpDeleteMessage, `,"id":"AbCdEf123456"`, `{"id":"operationID1"}`, sent{what: "AbCdEf123456"}},
		{ivschat.OpDeleteMessage, `,"id":"AbCdEf123456","reason":"spam"`, `{"id":"operationID1"}`, sent{what: "AbCdEf123456", reason: "spam"}},
		{ivschat.OpDisconnectUser, `,"userId":"bob"`, `{}`, sent{what: "bob"}},
		{ivschat.OpDisconnectUser, `,"userId":"bob","reason":"rude"`, `{}`, sent{what: "bob", reason: "rude"}},
	} {
		f.messenger.sent = nil
		got := f.ok(c.operation, `{"roomIdentifier":%q%s}`, room, c.members)
		c.sent.operation, c.sent.room = c.operation, room
		if got.body != c.want || cmp.Diff([]sent{c.sent}, f.messenger.sent, cmp.AllowUnexported(sent{})) != "" {
			t.Errorf("%s%s: %s, %+v", c.operation, c.members, got.body, f.messenger.sent)
		}
	}
	if log := f.said.String(); strings.Contains(log, "bob") || strings.Contains(log, "goal") || strings.Contains(log, "rude") {
		t.Error("the log has content:", log)
	}
}

func TestEventAttributesAreASetting(t *testing.T) {
	limits := quota.None()
	if err := limits.Set("event_attributes", "2KiB"); err != nil {
		t.Fatal(err)
	}
	f := open(t, withLimits(limits))
	room := f.room()
	event := func(n int) reply {
		return f.call(ivschat.OpSendEvent, fmt.Sprintf(`{"roomIdentifier":%q,"eventName":"e","attributes":{"k":%q}}`, room, strings.Repeat("a", n-1)))
	}
	if got := event(2048); got.status != 200 {
		t.Error(got.body)
	}
	if got := event(2049); got.status != 400 || fmt.Sprint(fields(got)) != "[attributes]" {
		t.Error(got.body)
	}
}

func TestTags(t *testing.T) {
	f := open(t)
	for _, arn := range []ivschat.ARN{f.room(), f.configuration()} {
		escaped := strings.NewReplacer(":", "%3A", "/", "%2F").Replace(string(arn))
		lower := strings.NewReplacer(":", "%3a", "/", "%2f").Replace(string(arn))
		for _, path := range []string{"/tags/" + escaped, "/tags/" + lower, "/tags/" + string(arn), "/base/path/tags/" + escaped, "/base/tags/" + string(arn), "/tags/tags/" + escaped, "//tags/" + escaped} {
			send := func(method, query, body, want string) {
				t.Helper()
				if got := f.send(f.request(method, path+query, body)); got.status != 200 || got.body != want {
					t.Errorf("%s %s%s: %d %s, want %s", method, path, query, got.status, got.body, want)
				}
			}
			send("GET", "", "", `{"tags":{}}`)
			send("POST", "", `{"tags":{"a b":"1","c/d":"2","日本":"3","+":""}}`, `{}`)
			send("POST", "", `{"tags":{"a b":"4"}}`, `{}`)
			send("POST", "", `{"tags":{}}`, `{}`)
			send("GET", "", "", `{"tags":{"+":"","a b":"4","c/d":"2","日本":"3"}}`)
			send("DELETE", "?tagKeys=a%20b&tagKeys=c%2Fd&tagKeys=a%20b&tagKeys=unknown&other=x", "", `{}`)
			send("DELETE", "?tagKeys=%2B", "", `{}`)
			send("DELETE", "?tagKeys=list%28%22other%22%29", "", `{}`) // as paws does
			send("GET", "?", "no body is asked for", `{"tags":{"日本":"3"}}`)
			send("DELETE", "?tagKeys=%E6%97%A5%E6%9C%AC", "", `{}`)
		}
	}
}

func TestBadTagRequests(t *testing.T) {
	f := open(t)
	room := f.room()
	many := ""
	for i := range 51 {
		many += fmt.Sprintf("tagKeys=k%d&", i)
	}
	for _, c := range []struct{ name, method, target, body, want string }{
		{"no ARN", "GET", "/tags/", "", "[resourceArn]"},
		{"a bare id", "GET", "/tags/" + room.ID(), "", "[resourceArn]"},
		{"another service", "GET", "/tags/arn%3Aaws%3Aivs%3Aus-west-2%3A123456789012%3Achannel%2Fx", "", "[resourceArn]"},
		{"no tags", "POST", "/tags/" + string(room), "{}", "[tags]"},
		{"no body", "POST", "/tags/" + string(room), "", "[tags]"},
		{"everything wrong", "POST", "/tags/x", `{"tags":{"aws:k":"v"}}`, "[resourceArn tags]"},
		{"no keys", "DELETE", "/tags/" + string(room), "", "[tagKeys]"},
		{"a bare question mark", "DELETE", "/tags/" + string(room) + "?", "", "[tagKeys]"},
		{"an empty key", "DELETE", "/tags/" + string(room) + "?tagKeys=", "", "[tagKeys]"},
		{"a key without =", "DELETE", "/tags/" + string(room) + "?tagKeys", "", "[tagKeys]"},
		{"51 keys", "DELETE", "/tags/" + string(room) + "?" + many, "", "[tagKeys]"},
		{"a long key", "DELETE", "/tags/" + string(room) + "?tagKeys=" + strings.Repeat("k", 129), "", "[tagKeys]"},
	} {
		got := f.send(f.request(c.method, c.target, c.body))
		if f.refused(got, ivschat.Validation); fmt.Sprint(fields(got)) != c.want {
			t.Errorf("%s: %v, want %s", c.name, got.body, c.want)
		}
	}
	if _, err := tagKeys("tagKeys=a&tagKeys=%zz"); err == nil {
		t.Error("a bad escape in a key is taken")
	}
}
