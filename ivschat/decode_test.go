package ivschat_test

import (
	"errors"
	"strings"
	"testing"

	"hubbub/ivschat"
)

func TestDecodeIsStrict(t *testing.T) {
	for _, c := range []struct {
		name, body string
		want       string // part of the message; "" if it is accepted
	}{
		{"an empty body is an empty object", "", ""},
		{"white space too", " \n", ""},
		{"unknown members are ignored", `{"x":{"y":[1]}}`, ""},
		{"null is absent", `{"name":null,"tags":null,"loggingConfigurationIdentifiers":null,"messageReviewHandler":{"uri":null}}`, ""},
		{"escapes and spaces as botocore sends them", `{"name": "a", "tags": {"a b/+\u00e9": "v"}}`, ""},
		{"not JSON", `{`, "not valid JSON"},
		{"not an object", `[]`, "must be a JSON object"},
		{"null", `null`, "must be a JSON object"},
		{"something behind it", `{} {}`, "not valid JSON"},
		{"a member twice", `{"name":"a","name":"b"}`, "twice"},
		{"bad UTF-8", "{\"name\":\"\xff\"}", "not valid JSON"},
		{"a number for a string", `{"name":5}`, "name has the wrong type: a string is expected, but a JSON number was given"},
		{"a string for a number", `{"maximumMessageLength":"5"}`, "a whole number is expected, but a JSON string"},
		{"a fraction", `{"maximumMessageLength":5.0}`, "a whole number is expected"},
		{"an exponent", `{"maximumMessageLength":5e1}`, "a whole number is expected"},
		{"a null tag", `{"tags":{"a":null}}`, "tags"},
		{"a number as tag", `{"tags":{"a":1}}`, "an object with string values is expected"},
		{"tags as a list", `{"tags":[]}`, "an object with string values is expected"},
		{"a null in a list", `{"loggingConfigurationIdentifiers":[null]}`, "a list of strings is expected"},
		{"a string for an object", `{"messageReviewHandler":"x"}`, "an object is expected"},
		{"a wrong type below", `{"messageReviewHandler":{"uri":1}}`, "messageReviewHandler.uri has the wrong type"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var r ivschat.CreateRoomRequest
			err := ivschat.Decode([]byte(c.body), &r)
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			var e *ivschat.Error
			if !errors.As(err, &e) || e.Kind != ivschat.Validation || e.Reason != ivschat.OtherReason {
				t.Fatalf("got %v, want a Validation with reason OTHER", err)
			}
			if !strings.Contains(e.Message, c.want) {
				t.Errorf("message %q does not say %q", e.Message, c.want)
			}
		})
	}
}

func TestAnIntegerOutOfRangeIsAFieldNotAType(t *testing.T) {
	for _, n := range []string{"0", "501", "-1", "99999999999999999999", "-99999999999999999999"} {
		var r ivschat.CreateRoomRequest
		if err := ivschat.Decode([]byte(`{"maximumMessageLength":`+n+`}`), &r); err != nil {
			t.Fatal(err)
		}
		var e *ivschat.Error
		if err := r.Check(); !errors.As(err, &e) || len(e.Fields) != 1 || e.Fields[0].Name != "maximumMessageLength" {
			t.Errorf("%s: %v", n, err)
		}
	}
}

func TestAbsentEmptyAndNullDiffer(t *testing.T) {
	var r ivschat.UpdateRoomRequest
	if err := ivschat.Decode([]byte(`{"loggingConfigurationIdentifiers":[],"name":""}`), &r); err != nil {
		t.Fatal(err)
	}
	if r.LoggingConfigurationIdentifiers == nil || r.Name == nil || r.MaximumMessageLength != nil {
		t.Errorf("an empty list or name was taken for an absent one: %+v", r)
	}
	r = ivschat.UpdateRoomRequest{}
	if err := ivschat.Decode([]byte(`{"loggingConfigurationIdentifiers":null,"name":null}`), &r); err != nil {
		t.Fatal(err)
	}
	if r.LoggingConfigurationIdentifiers != nil || r.Name != nil {
		t.Errorf("null was taken for a value: %+v", r)
	}
}

func TestEveryFailingMemberIsNamed(t *testing.T) {
	r := ivschat.CreateRoomRequest{
		Name:                            new(strings.Repeat("x", 129)),
		MaximumMessageRatePerSecond:     new(ivschat.Integer(101)),
		MaximumMessageLength:            new(ivschat.Integer(0)),
		MessageReviewHandler:            &ivschat.ReviewHandlerInput{URI: new("x"), FallbackResult: new(ivschat.FallbackResult("MAYBE"))},
		Tags:                            ivschat.Strings{"aws:x": "y"},
		LoggingConfigurationIdentifiers: ivschat.ARNs{"AbCdEf123456"},
	}
	var e *ivschat.Error
	if err := r.Check(); !errors.As(err, &e) {
		t.Fatal(err)
	}
	want := []string{"name", "maximumMessageRatePerSecond", "maximumMessageLength", "messageReviewHandler.uri",
		"messageReviewHandler.fallbackResult", "tags", "loggingConfigurationIdentifiers"}
	if len(e.Fields) != len(want) {
		t.Fatalf("%d fields: %+v", len(e.Fields), e.Fields)
	}
	for i, f := range e.Fields {
		if f.Name != want[i] || !strings.HasPrefix(f.Message, "Request member: ") {
			t.Errorf("field %d is %+v, want %s", i, f, want[i])
		}
	}
	if !strings.Contains(e.Message, "bare id") {
		t.Errorf("a bare id is the most common mistake and must be named: %s", e.Message)
	}
}

func TestAMemberIsNamedOnceWithAllThatItFailedIn(t *testing.T) {
	r := ivschat.CreateRoomRequest{
		Tags:                            ivschat.Strings{"aws:x": "y", "": "z", "k": "\n"},
		LoggingConfigurationIdentifiers: ivschat.ARNs{"AbCdEf123456", "x"},
	}
	var e *ivschat.Error
	if err := r.Check(); !errors.As(err, &e) || len(e.Fields) != 2 || e.Fields[0].Name != "tags" || e.Fields[1].Name != "loggingConfigurationIdentifiers" {
		t.Fatal(err)
	}
	if strings.Count(e.Message, "Request member:") != 2 {
		t.Error(e.Message)
	}
	for _, want := range []string{"a key must not be empty", "aws:", "a value may have", "bare id", `is "x"`} {
		if !strings.Contains(e.Message, want) {
			t.Errorf("%q is not in: %s", want, e.Message)
		}
	}
}

func TestTextsSayWhatWasGiven(t *testing.T) {
	for _, c := range []struct {
		request interface{ Check() error }
		body    string
		want    string
		not     string
	}{
		{&ivschat.DeleteMessageRequest{}, `{"roomIdentifier":"arn:aws:ivschat:us-west-2:123456789012:room/AbCdEf123456","id":"AbCdEf123456","reason":""}`, "must not be empty", "required"},
		{&ivschat.ListRoomsRequest{}, `{"loggingConfigurationIdentifier":""}`, "left out", "required"},
		{&ivschat.CreateRoomRequest{}, `{"maximumMessageLength":99999999999}`, "far beyond", "2147483647"},
		{&ivschat.GetRoomRequest{}, `{}`, "is required", "empty"},
	} {
		if err := ivschat.Decode([]byte(c.body), c.request); err != nil {
			t.Fatal(err)
		}
		err := c.request.Check()
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), c.not) {
			t.Errorf("%s: %v, want %q and not %q", c.body, err, c.want, c.not)
		}
	}
}

func TestARNs(t *testing.T) {
	n, ok := ivschat.ARN("arn:aws:ivschat:us-west-2:123456789012:room/AbCdEf123456").Parse()
	if !ok || n.Type != ivschat.RoomType || n.ID != "AbCdEf123456" || n.Account != "123456789012" || n.Region != "us-west-2" {
		t.Errorf("%+v %v", n, ok)
	}
	if n.ARN() != "arn:aws:ivschat:us-west-2:123456789012:room/AbCdEf123456" {
		t.Error(n.ARN())
	}
	for _, bad := range []ivschat.ARN{"", "AbCdEf123456", "arn:aws:ivschat:us-west-2:123456789012:rooms/x",
		"arn:aws:ivschat:us-west-2:123456789012:room/", "arn:aws:ivschat:US:1:room/x", "arn:aws-cn:ivschat:us-west-2:1:room/x",
		"arn:aws:ivschat:us-west-2:123456789012:room/x\n", "xarn:aws:ivschat:us-west-2:1:room/x", "arn:aws:ivschat:us-west-2:1:room/x/y"} {
		if n, ok := bad.Parse(); ok {
			t.Errorf("%q parsed as %+v", bad, n)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"name":"a","tags":{"k":"v"},"messageReviewHandler":{"uri":"","fallbackResult":"DENY"},"loggingConfigurationIdentifiers":[]}`))
	f.Add([]byte(`{"roomIdentifier":"x","userId":"é","capabilities":["SEND_MESSAGE"],"sessionDurationInMinutes":180,"attributes":{"a":"b"}}`))
	f.Add([]byte(`{"destinationConfiguration":{"s3":null,"firehose":{"deliveryStreamName":"x"}}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, r := range []interface{ Check() error }{
			&ivschat.CreateRoomRequest{}, &ivschat.UpdateRoomRequest{}, &ivschat.ListRoomsRequest{}, &ivschat.CreateChatTokenRequest{},
			&ivschat.SendEventRequest{}, &ivschat.DeleteMessageRequest{}, &ivschat.DisconnectUserRequest{},
			&ivschat.CreateLoggingConfigurationRequest{}, &ivschat.UpdateLoggingConfigurationRequest{}, &ivschat.TagResourceRequest{},
		} {
			for _, err := range []error{ivschat.Decode(body, r), r.Check()} {
				var e *ivschat.Error
				if err != nil && (!errors.As(err, &e) || e.Kind != ivschat.Validation || e.Message == "") {
					t.Fatalf("%T: %v is not a clear refusal", r, err)
				}
			}
		}
	})
}
