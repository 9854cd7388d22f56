package conformance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ivschat"
	"github.com/aws/aws-sdk-go-v2/service/ivschat/types"
	"github.com/aws/smithy-go"
)

// call is one operation through the SDK, on resources of the names given.
type call struct {
	name     string
	verified bool // PendingVerification is in its error list
	finds    bool // ResourceNotFoundException is, for the resource that it names
	rate     int  // calls a second at level strict
	do       func(ctx context.Context, c *ivschat.Client, room, configuration *string) error
}

var s3 = &types.DestinationConfigurationMemberS3{Value: types.S3DestinationConfiguration{BucketName: aws.String("abc")}}

var calls = []call{
	{"CreateChatToken", true, true, 200, func(ctx context.Context, c *ivschat.Client, room, _ *string) error {
		_, err := c.CreateChatToken(ctx, &ivschat.CreateChatTokenInput{RoomIdentifier: room, UserId: aws.String("u")})
		return err
	}},
	{"CreateLoggingConfiguration", true, false, 3, func(ctx context.Context, c *ivschat.Client, _, _ *string) error {
		_, err := c.CreateLoggingConfiguration(ctx, &ivschat.CreateLoggingConfigurationInput{DestinationConfiguration: s3})
		return err
	}},
	{"CreateRoom", true, false, 5, func(ctx context.Context, c *ivschat.Client, _, _ *string) error {
		_, err := c.CreateRoom(ctx, &ivschat.CreateRoomInput{})
		return err
	}},
	{"DeleteLoggingConfiguration", true, true, 3, func(ctx context.Context, c *ivschat.Client, _, configuration *string) error {
		_, err := c.DeleteLoggingConfiguration(ctx, &ivschat.DeleteLoggingConfigurationInput{Identifier: configuration})
		return err
	}},
	{"DeleteMessage", true, true, 100, func(ctx context.Context, c *ivschat.Client, room, _ *string) error {
		_, err := c.DeleteMessage(ctx, &ivschat.DeleteMessageInput{RoomIdentifier: room, Id: aws.String(missing)})
		return err
	}},
	{"DeleteRoom", true, true, 5, func(ctx context.Context, c *ivschat.Client, room, _ *string) error {
		_, err := c.DeleteRoom(ctx, &ivschat.DeleteRoomInput{Identifier: room})
		return err
	}},
	{"DisconnectUser", true, true, 100, func(ctx context.Context, c *ivschat.Client, room, _ *string) error {
		_, err := c.DisconnectUser(ctx, &ivschat.DisconnectUserInput{RoomIdentifier: room, UserId: aws.String("u")})
		return err
	}},
	{"GetLoggingConfiguration", false, true, 3, func(ctx context.Context, c *ivschat.Client, _, configuration *string) error {
		_, err := c.GetLoggingConfiguration(ctx, &ivschat.GetLoggingConfigurationInput{Identifier: configuration})
		return err
	}},
	{"GetRoom", false, true, 5, func(ctx context.Context, c *ivschat.Client, room, _ *string) error {
		_, err := c.GetRoom(ctx, &ivschat.GetRoomInput{Identifier: room})
		return err
	}},
	{"ListLoggingConfigurations", false, false, 3, func(ctx context.Context, c *ivschat.Client, _, _ *string) error {
		_, err := c.ListLoggingConfigurations(ctx, &ivschat.ListLoggingConfigurationsInput{})
		return err
	}},
	{"ListRooms", false, true, 5, func(ctx context.Context, c *ivschat.Client, _, configuration *string) error {
		_, err := c.ListRooms(ctx, &ivschat.ListRoomsInput{LoggingConfigurationIdentifier: configuration})
		return err
	}},
	{"ListTagsForResource", false, true, 10, func(ctx context.Context, c *ivschat.Client, room, _ *string) error {
		_, err := c.ListTagsForResource(ctx, &ivschat.ListTagsForResourceInput{ResourceArn: room})
		return err
	}},
	{"SendEvent", true, true, 100, func(ctx context.Context, c *ivschat.Client, room, _ *string) error {
		_, err := c.SendEvent(ctx, &ivschat.SendEventInput{RoomIdentifier: room, EventName: aws.String("e")})
		return err
	}},
	{"TagResource", false, true, 10, func(ctx context.Context, c *ivschat.Client, room, _ *string) error {
		_, err := c.TagResource(ctx, &ivschat.TagResourceInput{ResourceArn: room, Tags: map[string]string{"a": "b"}})
		return err
	}},
	{"UntagResource", false, true, 10, func(ctx context.Context, c *ivschat.Client, room, _ *string) error {
		_, err := c.UntagResource(ctx, &ivschat.UntagResourceInput{ResourceArn: room, TagKeys: []string{"a"}})
		return err
	}},
	{"UpdateLoggingConfiguration", true, true, 3, func(ctx context.Context, c *ivschat.Client, _, configuration *string) error {
		_, err := c.UpdateLoggingConfiguration(ctx, &ivschat.UpdateLoggingConfigurationInput{Identifier: configuration})
		return err
	}},
	{"UpdateRoom", true, true, 5, func(ctx context.Context, c *ivschat.Client, room, _ *string) error {
		_, err := c.UpdateRoom(ctx, &ivschat.UpdateRoomInput{Identifier: room})
		return err
	}},
}

// TestErrorsOfEveryOperation provokes the errors that every operation declares.
func TestErrorsOfEveryOperation(t *testing.T) {
	iam := filepath.Join(t.TempDir(), "iam.yaml")
	if err := os.WriteFile(iam, []byte(`accounts:
  "111111111111":
    pending_verification: true
    root: {access_keys: [{id: AKIAPENDING000000000, secret: pendingpendingpending}]}
  "222222222222":
    users:
      nobody: {access_keys: [{id: AKIANOBODY0000000000, secret: nobodynobodynobody}]}
      tagger:
        policies: [{Version: "2012-10-17", Statement: {Effect: Allow, Action: "ivschat:Create*", Resource: "*"}}]
        access_keys: [{id: AKIATAGGER0000000000, secret: taggertaggertagger}]
`), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, "--iam", iam)
	as := func(id, secret string) *ivschat.Client {
		return s.client(func(o *ivschat.Options) { o.Credentials = credentials.NewStaticCredentialsProvider(id, secret, "") })
	}
	own, ctx := s.client(), limited(t)
	arn := func(account, kind string) *string {
		return aws.String(fmt.Sprintf("arn:aws:ivschat:%s:%s:%s/%s", s.Region, account, kind, missing))
	}
	if len(calls) != 17 {
		t.Fatalf("%d operations", len(calls))
	}
	for _, op := range calls {
		t.Run(op.name, func(t *testing.T) {
			err := op.do(ctx, as("AKIANOBODY0000000000", "nobodynobodynobody"), arn("222222222222", "room"), arn("222222222222", "logging-configuration"))
			denied := wantError(t, err, "AccessDeniedException", 403)
			if want := "User: arn:aws:iam::222222222222:user/nobody is not authorized to perform: ivschat:" + op.name; !strings.HasPrefix(denied.ErrorMessage(), want) {
				t.Errorf("%q", denied.ErrorMessage())
			}
			// Another account's resource is denied, whether it exists or not.
			if op.finds {
				foreign := s.RoomARN
				wantError(t, op.do(ctx, as("AKIATAGGER0000000000", "taggertaggertagger"), &foreign, s.configurationARN(missing)), "AccessDeniedException", 403)
			}
			err = op.do(ctx, as("AKIAPENDING000000000", "pendingpendingpending"), arn("111111111111", "room"), arn("111111111111", "logging-configuration"))
			if op.verified {
				wantError(t, err, "PendingVerification", 403)
				var p *types.PendingVerification
				if !errors.As(err, &p) {
					t.Errorf("%T is not the SDK's type", err)
				}
			} else if err != nil {
				var api smithy.APIError
				if !errors.As(err, &api) || api.ErrorCode() != "ResourceNotFoundException" {
					t.Errorf("an operation without PendingVerification in its list: %v", err)
				}
			}
			if op.finds {
				err := op.do(ctx, own, s.roomARN(missing), s.configurationARN(missing))
				wantError(t, err, "ResourceNotFoundException", 404)
				var n *types.ResourceNotFoundException
				if !errors.As(err, &n) || *n.ResourceId != missing || n.ResourceType != types.ResourceTypeRoom {
					t.Errorf("%+v", n)
				}
				// A bare id is the most common mistake.
				err = op.do(ctx, own, aws.String(missing), aws.String(missing))
				wantError(t, err, "ValidationException", 400)
				var v *types.ValidationException
				if !errors.As(err, &v) || v.Reason != types.ValidationExceptionReasonFieldValidationFailed || len(v.FieldList) != 1 || !strings.Contains(*v.Message, "ARN") {
					t.Errorf("%+v", v)
				}
			}
		})
	}
	t.Run("creating with tags needs TagResource too", func(t *testing.T) {
		c := as("AKIATAGGER0000000000", "taggertaggertagger")
		if _, err := c.CreateRoom(ctx, &ivschat.CreateRoomInput{}); err != nil {
			t.Error(err)
		}
		_, err := c.CreateRoom(ctx, &ivschat.CreateRoomInput{Tags: map[string]string{"a": "b"}})
		if e := wantError(t, err, "AccessDeniedException", 403); !strings.Contains(e.ErrorMessage(), "ivschat:TagResource") {
			t.Error(e.ErrorMessage())
		}
	})
}

// TestThrottlingOfEveryOperation goes past the rate of each.
func TestThrottlingOfEveryOperation(t *testing.T) {
	s := start(t, "--limits", "strict")
	ctx := limited(t)
	for _, op := range calls {
		t.Run(op.name, func(t *testing.T) {
			c := s.client()
			var err error
			for range op.rate * 20 { // the bucket refills while we ask
				err = op.do(ctx, c, &s.RoomARN, s.configurationARN(missing))
				var api smithy.APIError
				if errors.As(err, &api) && api.ErrorCode() == "ThrottlingException" {
					break
				}
			}
			wantError(t, err, "ThrottlingException", 429)
			var th *types.ThrottlingException
			if errors.As(err, &th) && (int(th.Limit) != op.rate || *th.ResourceId == "" || th.ResourceType != types.ResourceTypeRoom) {
				t.Errorf("%+v, want a limit of %d", th, op.rate)
			}
			if op.name == "DeleteRoom" { // it went through the first time
				s.RoomARN = *s.roomARN(missing)
			}
		})
	}
}

// TestLimits puts every limit of the API one below, at, and one beyond it,
// through the SDK, which checks none of them.
func TestLimits(t *testing.T) {
	s := start(t, "--limits", "none")
	c, ctx := s.client(), limited(t)
	room := &s.RoomARN
	configuration := newConfiguration(t, c, "x").Arn
	n := func(k int) *string { return aws.String(strings.Repeat("a", k)) }
	wide := func(k int) *string { return aws.String(strings.Repeat("é", k)) }
	tags := func(k int) map[string]string {
		m := map[string]string{}
		for i := range k {
			m[fmt.Sprint("k", i)] = "v"
		}
		return m
	}
	bytes := func(k int) map[string]string { return map[string]string{"k": strings.Repeat("a", k-1)} }
	lambda := func(k int) *string {
		const prefix = "arn:aws:lambda:us-west-2:123456789012:function:"
		return aws.String(prefix + strings.Repeat("f", k-len(prefix)))
	}
	update := func(in ivschat.UpdateRoomInput) error {
		in.Identifier = room
		_, err := c.UpdateRoom(ctx, &in)
		return err
	}
	token := func(in ivschat.CreateChatTokenInput) error {
		in.RoomIdentifier = room
		if in.UserId == nil {
			in.UserId = aws.String("u")
		}
		_, err := c.CreateChatToken(ctx, &in)
		return err
	}
	create := func(in ivschat.CreateRoomInput) error { _, err := c.CreateRoom(ctx, &in); return err }
	destination := func(d types.DestinationConfiguration) error {
		_, err := c.UpdateLoggingConfiguration(ctx, &ivschat.UpdateLoggingConfigurationInput{Identifier: configuration, DestinationConfiguration: d})
		return err
	}
	for _, l := range []struct {
		name        string
		least, most int // -1: no lower limit
		field       string
		do          func(k int) error
	}{
		{"CreateRoom name", -1, 128, "name", func(k int) error { return create(ivschat.CreateRoomInput{Name: n(k)}) }},
		{"UpdateRoom name", -1, 128, "name", func(k int) error { return update(ivschat.UpdateRoomInput{Name: n(k)}) }},
		{"CreateRoom rate", 1, 100, "maximumMessageRatePerSecond", func(k int) error {
			return create(ivschat.CreateRoomInput{MaximumMessageRatePerSecond: aws.Int32(int32(k))})
		}},
		{"UpdateRoom rate", 1, 100, "maximumMessageRatePerSecond", func(k int) error {
			return update(ivschat.UpdateRoomInput{MaximumMessageRatePerSecond: aws.Int32(int32(k))})
		}},
		{"CreateRoom length", 1, 500, "maximumMessageLength", func(k int) error { return create(ivschat.CreateRoomInput{MaximumMessageLength: aws.Int32(int32(k))}) }},
		{"UpdateRoom length", 1, 500, "maximumMessageLength", func(k int) error { return update(ivschat.UpdateRoomInput{MaximumMessageLength: aws.Int32(int32(k))}) }},
		{"handler uri", -1, 170, "messageReviewHandler.uri", func(k int) error {
			return create(ivschat.CreateRoomInput{MessageReviewHandler: &types.MessageReviewHandler{Uri: lambda(k)}})
		}},
		{"CreateRoom tags", -1, 50, "tags", func(k int) error { return create(ivschat.CreateRoomInput{Tags: tags(k)}) }},
		{"tag key", 1, 128, "tags", func(k int) error { return create(ivschat.CreateRoomInput{Tags: map[string]string{*wide(k): "v"}}) }},
		{"tag value", -1, 256, "tags", func(k int) error { return create(ivschat.CreateRoomInput{Tags: map[string]string{"k": *wide(k)}}) }},
		{"logging configurations", -1, 3, "loggingConfigurationIdentifiers", func(k int) error {
			var list []string
			for range k {
				list = append(list, *newConfiguration(t, c, "x").Arn)
			}
			return create(ivschat.CreateRoomInput{LoggingConfigurationIdentifiers: list})
		}},
		{"ListRooms maxResults", 1, 50, "maxResults", func(k int) error {
			_, err := c.ListRooms(ctx, &ivschat.ListRoomsInput{MaxResults: aws.Int32(int32(k))})
			return err
		}},
		{"ListRooms name", -1, 128, "name", func(k int) error { _, err := c.ListRooms(ctx, &ivschat.ListRoomsInput{Name: n(k)}); return err }},
		{"ListLoggingConfigurations maxResults", 1, 50, "maxResults", func(k int) error {
			_, err := c.ListLoggingConfigurations(ctx, &ivschat.ListLoggingConfigurationsInput{MaxResults: aws.Int32(int32(k))})
			return err
		}},
		{"configuration name", -1, 128, "name", func(k int) error {
			_, err := c.UpdateLoggingConfiguration(ctx, &ivschat.UpdateLoggingConfigurationInput{Identifier: configuration, Name: n(k)})
			return err
		}},
		{"bucket", 3, 63, "destinationConfiguration.s3.bucketName", func(k int) error {
			return destination(&types.DestinationConfigurationMemberS3{Value: types.S3DestinationConfiguration{BucketName: n(k)}})
		}},
		{"log group", 1, 512, "destinationConfiguration.cloudWatchLogs.logGroupName", func(k int) error {
			return destination(&types.DestinationConfigurationMemberCloudWatchLogs{Value: types.CloudWatchLogsDestinationConfiguration{LogGroupName: n(k)}})
		}},
		{"delivery stream", 1, 64, "destinationConfiguration.firehose.deliveryStreamName", func(k int) error {
			return destination(&types.DestinationConfigurationMemberFirehose{Value: types.FirehoseDestinationConfiguration{DeliveryStreamName: n(k)}})
		}},
		{"user id", 1, 128, "userId", func(k int) error { return token(ivschat.CreateChatTokenInput{UserId: wide(k)}) }},
		{"session", 1, 180, "sessionDurationInMinutes", func(k int) error {
			return token(ivschat.CreateChatTokenInput{SessionDurationInMinutes: aws.Int32(int32(k))})
		}},
		{"token attributes", -1, 1024, "attributes", func(k int) error { return token(ivschat.CreateChatTokenInput{Attributes: bytes(k)}) }},
		{"event name", 1, 100, "eventName", func(k int) error {
			_, err := c.SendEvent(ctx, &ivschat.SendEventInput{RoomIdentifier: room, EventName: wide(k)})
			return err
		}},
		{"event attributes", -1, 1024, "attributes", func(k int) error {
			_, err := c.SendEvent(ctx, &ivschat.SendEventInput{RoomIdentifier: room, EventName: aws.String("e"), Attributes: bytes(k)})
			return err
		}},
		{"message id", 12, 12, "id", func(k int) error {
			_, err := c.DeleteMessage(ctx, &ivschat.DeleteMessageInput{RoomIdentifier: room, Id: n(k)})
			return err
		}},
		{"delete reason", 1, 256, "reason", func(k int) error {
			_, err := c.DeleteMessage(ctx, &ivschat.DeleteMessageInput{RoomIdentifier: room, Id: aws.String(missing), Reason: wide(k)})
			return err
		}},
		{"disconnect reason", 1, 256, "reason", func(k int) error {
			_, err := c.DisconnectUser(ctx, &ivschat.DisconnectUserInput{RoomIdentifier: room, UserId: aws.String("u"), Reason: wide(k)})
			return err
		}},
		{"disconnected user", 1, 128, "userId", func(k int) error {
			_, err := c.DisconnectUser(ctx, &ivschat.DisconnectUserInput{RoomIdentifier: room, UserId: wide(k)})
			return err
		}},
		{"tag keys", 1, 50, "tagKeys", func(k int) error {
			keys := make([]string, k)
			for i := range keys {
				keys[i] = fmt.Sprint(i)
			}
			_, err := c.UntagResource(ctx, &ivschat.UntagResourceInput{ResourceArn: room, TagKeys: keys})
			return err
		}},
	} {
		t.Run(l.name, func(t *testing.T) {
			try := func(k int, good bool) {
				t.Helper()
				err := l.do(k)
				if good {
					if err != nil {
						t.Errorf("%d: %v", k, err)
					}
					return
				}
				wantError(t, err, "ValidationException", 400)
				var v *types.ValidationException
				if !errors.As(err, &v) || v.Reason != types.ValidationExceptionReasonFieldValidationFailed || len(v.FieldList) != 1 || *v.FieldList[0].Name != l.field || *v.FieldList[0].Message == "" {
					t.Errorf("%d: %+v", k, v)
				}
			}
			if l.least >= 0 {
				try(l.least-1, false)
				try(l.least, true)
				if l.least < l.most {
					try(l.least+1, true)
					try(l.most-1, true)
				}
			}
			try(l.most, true)
			try(l.most+1, false)
		})
	}
	for _, v := range types.ChatTokenCapability("").Values() {
		if err := token(ivschat.CreateChatTokenInput{Capabilities: []types.ChatTokenCapability{v}}); err != nil {
			t.Error(v, err)
		}
	}
	wantError(t, token(ivschat.CreateChatTokenInput{Capabilities: []types.ChatTokenCapability{"SEND"}}), "ValidationException", 400)
	for _, v := range types.FallbackResult("").Values() {
		if err := update(ivschat.UpdateRoomInput{MessageReviewHandler: &types.MessageReviewHandler{FallbackResult: v}}); err != nil {
			t.Error(v, err)
		}
	}
	wantError(t, update(ivschat.UpdateRoomInput{MessageReviewHandler: &types.MessageReviewHandler{FallbackResult: "MAYBE"}}), "ValidationException", 400)
}

func TestTheQuotaOfRooms(t *testing.T) {
	s := start(t, "--limits-rooms", "2") // one of them is dev's
	c, ctx := s.client(), limited(t)
	room := newRoom(t, c, nil)
	_, err := c.CreateRoom(ctx, &ivschat.CreateRoomInput{})
	wantError(t, err, "ServiceQuotaExceededException", 402)
	var q *types.ServiceQuotaExceededException
	if !errors.As(err, &q) || q.Limit != 2 || *q.ResourceId != s.Account || q.ResourceType != types.ResourceTypeRoom {
		t.Errorf("%+v", q)
	}
	if _, err := c.DeleteRoom(ctx, &ivschat.DeleteRoomInput{Identifier: room.Arn}); err != nil {
		t.Fatal(err)
	}
	newRoom(t, c, nil)
}
