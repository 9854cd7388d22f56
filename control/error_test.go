package control

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"hubbub/ivschat"
	"hubbub/quota"
)

func TestUnsignedRequestsLearnNothing(t *testing.T) {
	f := open(t)
	room, configuration := f.room(), f.configuration()
	for _, caller := range []struct {
		aws.Credentials
		want ivschat.Kind
	}{
		{aws.Credentials{}, ivschat.MissingAuthenticationToken},
		{aws.Credentials{AccessKeyID: "AKIANOBODY0000000000", SecretAccessKey: "x"}, ivschat.UnrecognizedClient},
		{aws.Credentials{AccessKeyID: admin.AccessKeyID, SecretAccessKey: "wrong"}, ivschat.InvalidSignature},
	} {
		for i := range calls {
			f.caller = caller.Credentials
			here := f.send(f.requestOf(i, room, configuration))
			nowhere := f.send(f.requestOf(i, scope.ARN(ivschat.RoomType, unmade), scope.ARN(ivschat.LoggingConfigurationType, unmade)))
			if f.refused(here, caller.want); here.body != nowhere.body {
				t.Errorf("%s: %s for a resource, %s for none", calls[i].operation, here.body, nowhere.body)
			}
		}
	}
	f.caller = admin
	if _, err := f.registry.Room(room); err != nil {
		t.Error("an unsigned deletion had an effect:", err)
	}
}

// TestOrderOfChecks sends requests with two faults; the earlier check answers.
// Source: spec control-plane 3.4.
func TestOrderOfChecks(t *testing.T) {
	limits := quota.Strict()
	for key, value := range map[string]string{"get_room_per_second": "1", "rooms": "1", "create_room_per_second": "2"} {
		if err := limits.Set(key, value); err != nil {
			t.Fatal(err)
		}
	}
	f := open(t, withLimits(limits))
	room := f.room()
	get := func(arn ivschat.ARN) reply { return f.call(ivschat.OpGetRoom, fmt.Sprintf(`{"identifier":%q}`, arn)) }
	missing := scope.ARN(ivschat.RoomType, unmade)

	f.caller.SecretAccessKey = "wrong"
	f.refused(f.call("GetRooms", `{`), ivschat.Validation)              // route before signature
	f.refused(f.call(ivschat.OpGetRoom, `{`), ivschat.InvalidSignature) // signature before syntax
	f.caller = admin
	f.refused(get("x"), ivschat.Validation)
	f.refused(get(room), "")
	f.refused(get("x"), ivschat.Validation)     // syntax before rate
	f.refused(get(missing), ivschat.Throttling) // rate before existence
	f.refused(get(ivschat.Scope{Account: account, Region: "eu-west-1"}.ARN(ivschat.RoomType, unmade)), ivschat.Throttling)
	f.at = f.at.Add(time.Second)
	f.refused(get(missing), ivschat.NotFound)

	configuration := fmt.Sprintf(`{"loggingConfigurationIdentifiers":[%q]}`, scope.ARN(ivschat.LoggingConfigurationType, unmade))
	f.at = f.at.Add(time.Second)
	f.call(ivschat.OpCreateRoom, configuration) // either of 404 and 402
	got := f.call(ivschat.OpCreateRoom, `{}`)
	if f.refused(got, ivschat.QuotaExceeded); got.json["limit"] != 1.0 || got.json["resourceId"] != account {
		t.Error(got.body)
	}
	got = f.call(ivschat.OpCreateRoom, `{}`) // rate before count quotas
	if f.refused(got, ivschat.Throttling); got.json["limit"] != 2.0 || got.json["resourceId"] != account {
		t.Error(got.body)
	}
}

func TestEveryOperationIsThrottled(t *testing.T) {
	f := open(t, withLimits(quota.Strict()))
	room, configuration := f.room(), f.configuration()
	for i, c := range calls {
		want := account
		switch {
		case strings.Contains(c.path+c.body, "%[1]"):
			want = room.ID()
		case strings.Contains(c.path+c.body, "%[2]"):
			want = configuration.ID()
		}
		limit := quota.Strict().Value(quota.OperationKey(c.operation))
		f.at = f.at.Add(time.Minute)
		request, content := f.requestOf(i, room, configuration), filled(c.body, room, configuration)
		for n := range limit {
			request.Body = body(content)
			if got := f.send(request); got.status == http.StatusTooManyRequests || got.status == http.StatusForbidden {
				t.Fatalf("%s: call %d of %d: %s", c.operation, n+1, limit, got.body)
			}
		}
		request.Body = body(content)
		got := f.send(request)
		if f.refused(got, ivschat.Throttling); got.json["limit"] != float64(limit) || got.json["resourceId"] != want {
			t.Errorf("%s: %s, want limit %d and resourceId %s", c.operation, got.body, limit, want)
		}
	}
	f = open(t, withLimits(quota.Relaxed()))
	for range 50 { // ten times what is published
		f.room()
	}
}

func TestWebSocketFormsShareTheCounter(t *testing.T) {
	limits := quota.Strict()
	for _, o := range []ivschat.Operation{ivschat.OpDeleteMessage, ivschat.OpDisconnectUser} {
		if err := limits.Set(string(quota.OperationKey(o)), "2"); err != nil {
			t.Fatal(err)
		}
	}
	f := open(t, withLimits(limits))
	room := f.room()
	for o, body := range map[ivschat.Operation]string{
		ivschat.OpDeleteMessage:  fmt.Sprintf(`{"roomIdentifier":%q,"id":"AbCdEf123456"}`, room),
		ivschat.OpDisconnectUser: fmt.Sprintf(`{"roomIdentifier":%q,"userId":"u"}`, room),
	} {
		if _, ok := f.quota.Take(scope, quota.OperationKey(o), f.at); !ok { // as the hub does
			t.Fatal(o)
		}
		f.refused(f.call(o, body), "")
		f.refused(f.call(o, body), ivschat.Throttling)
	}
}

func TestUnknownAndForeignResources(t *testing.T) {
	f := open(t)
	here, there := scope, ivschat.Scope{Account: account, Region: "eu-west-1"}
	for _, s := range []ivschat.Scope{here, there} {
		for _, id := range []string{unmade, "with-hyphen"} {
			room, configuration := s.ARN(ivschat.RoomType, id), s.ARN(ivschat.LoggingConfigurationType, id)
			for i, c := range calls {
				got := f.send(f.requestOf(i, room, configuration))
				if !strings.Contains(c.path+c.body, "%[") {
					f.refused(got, "")
					continue
				}
				if f.refused(got, ivschat.NotFound); got.json["resourceId"] != strings.ReplaceAll(id, "-", "") || !strings.Contains(got.body, s.Region) {
					t.Errorf("%s: %s", c.operation, got.body)
				}
			}
		}
	}
	// A resource of another region than the one that was signed for is not there,
	// although this server has it.
	room, configuration := f.room(), f.configuration()
	f.region = "eu-west-1"
	for i, c := range calls {
		if strings.Contains(c.path+c.body, "%[") {
			f.refused(f.send(f.requestOf(i, room, configuration)), ivschat.NotFound)
		}
	}
	if got := f.ok(ivschat.OpListRooms, `{}`).body; strings.Contains(got, room.ID()) {
		t.Error("a list shows another region's room:", got)
	}
	// So are the configurations that a request names.
	f.refused(f.call(ivschat.OpCreateRoom, fmt.Sprintf(`{"loggingConfigurationIdentifiers":[%q]}`, configuration)), ivschat.NotFound)
}

func TestConflict(t *testing.T) {
	f := open(t)
	configuration := f.configuration()
	f.ok(ivschat.OpCreateRoom, `{"loggingConfigurationIdentifiers":[%q]}`, configuration)
	got := f.call(ivschat.OpDeleteLoggingConfiguration, fmt.Sprintf(`{"identifier":%q}`, configuration))
	if f.refused(got, ivschat.Conflict); got.json["resourceId"] != configuration.ID() {
		t.Error(got.body)
	}
}

func TestValidation(t *testing.T) {
	f := open(t)
	room := f.room()
	for _, c := range []struct {
		name      string
		operation ivschat.Operation
		body      string
		reason    string
		fields    string // in the model's order
		says      string
	}{
		{"no JSON", ivschat.OpCreateRoom, `{`, "OTHER", "[]", "JSON"},
		{"no object", ivschat.OpCreateRoom, `[]`, "OTHER", "[]", "object"},
		{"a wrong type", ivschat.OpCreateRoom, `{"maximumMessageLength":"5"}`, "OTHER", "[]", "maximumMessageLength"},
		{"a fraction", ivschat.OpCreateRoom, `{"maximumMessageLength":5.0}`, "OTHER", "[]", "whole number"},
		{"a member twice", ivschat.OpCreateRoom, `{"name":"a","name":"b"}`, "OTHER", "[]", "twice"},
		{"all that is wrong, at once", ivschat.OpCreateRoom,
			`{"name":"a b","maximumMessageRatePerSecond":0,"maximumMessageLength":501,"messageReviewHandler":{"uri":"x","fallbackResult":"MAYBE"},"tags":{"aws:x":""},"loggingConfigurationIdentifiers":["x"]}`,
			"FIELD_VALIDATION_FAILED", "[name maximumMessageRatePerSecond maximumMessageLength messageReviewHandler.uri messageReviewHandler.fallbackResult tags loggingConfigurationIdentifiers]", ""},
		{"a handler that nothing invokes", ivschat.OpCreateRoom, `{"messageReviewHandler":{"uri":"arn:aws:lambda:us-west-2:123456789012:function:other"}}`,
			"FIELD_VALIDATION_FAILED", "[messageReviewHandler.uri]", "Request member: uri failed to satisfy the constraints: invalid lambda permission"},
		{"that, and more that is wrong", ivschat.OpUpdateRoom, fmt.Sprintf(`{"identifier":%q,"name":"a b","messageReviewHandler":{"uri":"arn:aws:lambda:us-west-2:123456789012:function:other"}}`, room),
			"FIELD_VALIDATION_FAILED", "[name messageReviewHandler.uri]", "invalid lambda permission"},
		{"a required member is absent", ivschat.OpGetRoom, `{}`, "FIELD_VALIDATION_FAILED", "[identifier]", "required"},
		{"a bare id", ivschat.OpGetRoom, `{"identifier":"` + room.ID() + `"}`, "FIELD_VALIDATION_FAILED", "[identifier]", "bare id"},
		{"no destination", ivschat.OpCreateLoggingConfiguration, `{"destinationConfiguration":{"s3":null}}`, "FIELD_VALIDATION_FAILED", "[destinationConfiguration]", ""},
		{"a reserved event", ivschat.OpSendEvent, fmt.Sprintf(`{"roomIdentifier":%q,"eventName":"AWS:DELETE_MESSAGE"}`, room), "FIELD_VALIDATION_FAILED", "[eventName]", ""},
		{"invalid UTF-8", ivschat.OpCreateRoom, "{\"tags\":{\"\xff\":\"\"}}", "OTHER", "[]", ""},
	} {
		got := f.call(c.operation, c.body)
		message, _ := got.json["message"].(string)
		if f.refused(got, ivschat.Validation); got.json["reason"] != c.reason || fmt.Sprint(fields(got)) != c.fields || !strings.Contains(message, c.says) {
			t.Errorf("%s: %s", c.name, got.body)
		}
	}
	// 50 tags are there; one more is one too many.
	var tags []string
	for i := range 50 {
		tags = append(tags, fmt.Sprintf(`"k%d":"v"`, i))
	}
	full := f.ok(ivschat.OpCreateRoom, `{"tags":{%s}}`, strings.Join(tags, ",")).json["arn"].(string)
	got := f.send(f.request("POST", "/tags/"+full, `{"tags":{"one":"more"}}`))
	if f.refused(got, ivschat.Validation); fmt.Sprint(fields(got)) != "[tags]" {
		t.Error(got.body)
	}
}

func TestErrorsOfOurs(t *testing.T) {
	f := open(t)
	room := f.room()
	event := fmt.Sprintf(`{"roomIdentifier":%q,"eventName":"e"}`, room)
	for _, c := range []struct {
		name   string
		err    error
		want   ivschat.Kind
		logged string
	}{
		{"any error", errStore, ivschat.Internal, "disk on fire"},
		{"a deadline", fmt.Errorf("write x: %w", context.DeadlineExceeded), ivschat.Unavailable, "write x"},
		{"a refusal of the messaging plane", ivschat.Refuse(ivschat.Unauthorized, "secret"), ivschat.Internal, "Unauthorized"},
		{"a refusal for the caller, with its context", fmt.Errorf("send: %w", ivschat.Refuse(ivschat.Conflict, "busy")), ivschat.Conflict, ""},
		{"an invalid member, no reason given", &ivschat.Error{Kind: ivschat.Validation, Message: "m", Fields: []ivschat.Field{{Name: "n", Message: "m"}}}, ivschat.Validation, ""},
		{"an invalid request, no reason given", ivschat.Refuse(ivschat.Validation, "m"), ivschat.Validation, ""},
		{"an unavailable store", ivschat.Refuse(ivschat.Unavailable, "The store has no leader."), ivschat.Unavailable, "no leader"},
	} {
		f.messenger.fail = c.err
		f.said.b.Reset()
		got := f.call(ivschat.OpSendEvent, event)
		f.refused(got, c.want)
		if reason := got.json["reason"]; c.want == ivschat.Validation && (reason == "OTHER") != (len(fields(got)) == 0) {
			t.Errorf("%s: reason %v", c.name, reason)
		}
		if strings.Contains(got.body, "secret") || strings.Contains(got.body, "disk") || strings.Contains(got.body, "write x") {
			t.Errorf("%s: the caller sees its cause: %s", c.name, got.body)
		}
		log := decode(t, f.said.String())
		if level := log["level"]; (level == "ERROR") != (c.logged != "") || !strings.Contains(f.said.String(), c.logged) {
			t.Errorf("%s: the log says %s", c.name, f.said)
		}
	}
}

func TestACallerWhoIsGoneIsNoErrorOfOurs(t *testing.T) {
	f := open(t)
	room := f.room()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f.messenger.fail = fmt.Errorf("wait: %w", ctx.Err())
	f.said.b.Reset()
	r := f.request("POST", "/SendEvent", fmt.Sprintf(`{"roomIdentifier":%q,"eventName":"e"}`, room)).WithContext(ctx)
	f.refused(f.send(r), ivschat.Unavailable)
	if log := decode(t, f.said.String()); log["level"] != "INFO" || log["gone"] != true {
		t.Error(f.said)
	}
}

type panicking struct{ Messenger }

func TestAPanicEndsTheRequestAlone(t *testing.T) {
	f := open(t)
	room := f.room()
	event := fmt.Sprintf(`{"roomIdentifier":%q,"eventName":"e"}`, room)
	f.Handler.messenger = panicking{} // a nil dereference
	f.said.b.Reset()
	got := f.call(ivschat.OpSendEvent, event)
	f.refused(got, ivschat.Internal)
	if log := f.said.String(); strings.Count(log, got.header.Get("x-amzn-RequestId")) != 2 || !strings.Contains(log, "SendEvent(") && !strings.Contains(log, "operation.go") {
		t.Error("request id or stack is missing:", log)
	}
	f.Handler.messenger = f.messenger
	f.ok(ivschat.OpSendEvent, "%s", event)
}

func TestBodiesThatEndEarly(t *testing.T) {
	f := open(t)
	for _, err := range []error{errors.New("connection reset"), os.ErrDeadlineExceeded} {
		r := f.request("POST", "/CreateRoom", `{}`)
		r.Body = failing{err}
		got := f.send(r)
		if f.refused(got, ivschat.Validation); strings.Contains(f.said.String(), "ERROR") {
			t.Error(f.said)
		}
	}
}
