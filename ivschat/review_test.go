package ivschat_test

import (
	"encoding/json"
	"net/netip"
	"testing"

	"hubbub/ivschat"
)

func TestReviewRequestsAreTheServices(t *testing.T) {
	const room ivschat.ARN = "arn:aws:ivschat:us-west-2:123456789012:room/AbCdEf123456"
	for _, c := range []struct {
		name string
		r    ivschat.ReviewRequest
		want string
	}{
		{"everything", ivschat.ReviewRequest{Content: "Hi \"all\"\n", MessageID: "M2YcHkgffEvU", Room: room, Attributes: map[string]string{"b": "2", "a": "1"},
			Sender: ivschat.NewSender("alice", map[string]string{"username": "Alice"}), IP: netip.MustParseAddr("192.0.2.7")},
			`{"Content":"Hi \"all\"\n","MessageId":"M2YcHkgffEvU","RoomArn":"arn:aws:ivschat:us-west-2:123456789012:room/AbCdEf123456","Attributes":{"a":"1","b":"2"},"Sender":{"UserId":"alice","Attributes":{"username":"Alice"},"Ip":"192.0.2.7"}}`},
		{"no attributes are an empty object, twice", ivschat.ReviewRequest{Content: "x", MessageID: "M2YcHkgffEvU", Room: room,
			Sender: ivschat.NewSender("u", nil), IP: netip.MustParseAddr("2001:db8::1")},
			`{"Content":"x","MessageId":"M2YcHkgffEvU","RoomArn":"arn:aws:ivschat:us-west-2:123456789012:room/AbCdEf123456","Attributes":{},"Sender":{"UserId":"u","Attributes":{},"Ip":"2001:db8::1"}}`},
		{"an IPv4 address in IPv6 clothes is shown as IPv4", ivschat.ReviewRequest{Content: "x", MessageID: "i", Room: "r", Attributes: map[string]string{},
			Sender: ivschat.NewSender("u", nil), IP: netip.MustParseAddr("::ffff:192.0.2.7")},
			`{"Content":"x","MessageId":"i","RoomArn":"r","Attributes":{},"Sender":{"UserId":"u","Attributes":{},"Ip":"192.0.2.7"}}`},
		{"an address that nobody knows", ivschat.ReviewRequest{Content: "x", MessageID: "i", Room: "r", Sender: ivschat.NewSender("u", nil)},
			`{"Content":"x","MessageId":"i","RoomArn":"r","Attributes":{},"Sender":{"UserId":"u","Attributes":{},"Ip":""}}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := c.r.Encode()
			if string(got) != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if !json.Valid(got) {
				t.Error("not JSON")
			}
		})
	}
}
