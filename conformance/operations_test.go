package conformance

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ivschat"
	"github.com/aws/aws-sdk-go-v2/service/ivschat/types"
	diff "github.com/google/go-cmp/cmp"
)

var id12 = regexp.MustCompile(`^[a-zA-Z0-9]{12}$`)

const missing = "AbCdEf123456"

func (s *server) roomARN(id string) *string {
	return aws.String(fmt.Sprintf("arn:aws:ivschat:%s:%s:room/%s", s.Region, s.Account, id))
}

func (s *server) configurationARN(id string) *string {
	return aws.String(fmt.Sprintf("arn:aws:ivschat:%s:%s:logging-configuration/%s", s.Region, s.Account, id))
}

func newRoom(t testing.TB, c *ivschat.Client, in *ivschat.CreateRoomInput) *ivschat.CreateRoomOutput {
	t.Helper()
	if in == nil {
		in = &ivschat.CreateRoomInput{}
	}
	room, err := c.CreateRoom(limited(t), in)
	if err != nil {
		t.Fatal(err)
	}
	return room
}

func newConfiguration(t testing.TB, c *ivschat.Client, name string) *ivschat.CreateLoggingConfigurationOutput {
	t.Helper()
	out, err := c.CreateLoggingConfiguration(limited(t), &ivschat.CreateLoggingConfigurationInput{Name: &name,
		DestinationConfiguration: &types.DestinationConfigurationMemberS3{Value: types.S3DestinationConfiguration{BucketName: aws.String("bucket")}}})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestRooms(t *testing.T) {
	s := start(t)
	c, ctx := s.client(), limited(t)

	t.Run("defaults are filled in and returned", func(t *testing.T) {
		r := newRoom(t, c, nil)
		if !id12.MatchString(*r.Id) || *r.Arn != *s.roomARN(*r.Id) {
			t.Errorf("id %s, arn %s", *r.Id, *r.Arn)
		}
		if r.Name == nil || *r.Name != "" || *r.MaximumMessageLength != 500 || *r.MaximumMessageRatePerSecond != 10 || r.Tags == nil || len(r.Tags) != 0 {
			t.Errorf("%+v", r)
		}
		if r.MessageReviewHandler != nil || r.LoggingConfigurationIdentifiers != nil {
			t.Error("what was never set must be absent")
		}
		if !r.CreateTime.Equal(*r.UpdateTime) || time.Since(*r.CreateTime).Abs() > time.Minute {
			t.Errorf("created %v, updated %v", r.CreateTime, r.UpdateTime)
		}
	})

	t.Run("all members, and the handler's removal", func(t *testing.T) {
		a, b := newConfiguration(t, c, "a"), newConfiguration(t, c, "b")
		uri := "arn:aws:lambda:us-west-2:123456789012:function:f"
		r := newRoom(t, c, &ivschat.CreateRoomInput{Name: aws.String("n-_1"), MaximumMessageLength: aws.Int32(7), MaximumMessageRatePerSecond: aws.Int32(3),
			MessageReviewHandler: &types.MessageReviewHandler{Uri: &uri, FallbackResult: types.FallbackResultDeny},
			Tags:                 map[string]string{"sp ace/ü+=:@-_.": "v", "日本": ""}, LoggingConfigurationIdentifiers: []string{*b.Arn, *a.Arn}})
		got, err := c.GetRoom(ctx, &ivschat.GetRoomInput{Identifier: r.Arn})
		if err != nil {
			t.Fatal(err)
		}
		if *got.Name != "n-_1" || *got.MaximumMessageLength != 7 || *got.MaximumMessageRatePerSecond != 3 ||
			*got.MessageReviewHandler.Uri != uri || got.MessageReviewHandler.FallbackResult != types.FallbackResultDeny {
			t.Errorf("%+v", got)
		}
		if d := diff.Diff([]string{*b.Arn, *a.Arn}, got.LoggingConfigurationIdentifiers); d != "" {
			t.Error("the order must be kept:", d)
		}
		if d := diff.Diff(map[string]string{"sp ace/ü+=:@-_.": "v", "日本": ""}, got.Tags); d != "" {
			t.Error(d)
		}
		up, err := c.UpdateRoom(ctx, &ivschat.UpdateRoomInput{Identifier: r.Arn, MessageReviewHandler: &types.MessageReviewHandler{Uri: aws.String("")}})
		if err != nil {
			t.Fatal(err)
		}
		if h := up.MessageReviewHandler; h == nil || h.Uri == nil || *h.Uri != "" || h.FallbackResult != types.FallbackResultDeny {
			t.Errorf("a removed handler is an object with an empty uri and its last fallback: %+v", h)
		}
		if !up.UpdateTime.After(*r.UpdateTime) || len(up.Tags) != 2 || *up.Name != "n-_1" {
			t.Errorf("%+v", up)
		}
		up2, err := c.UpdateRoom(ctx, &ivschat.UpdateRoomInput{Identifier: r.Arn, LoggingConfigurationIdentifiers: []string{}, Name: aws.String("")})
		if err != nil {
			t.Fatal(err)
		}
		if up2.LoggingConfigurationIdentifiers != nil || *up2.Name != "" || *up2.MaximumMessageLength != 7 {
			t.Errorf("%+v", up2)
		}
		same, err := c.UpdateRoom(ctx, &ivschat.UpdateRoomInput{Identifier: r.Arn})
		if err != nil || !same.UpdateTime.Equal(*up2.UpdateTime) {
			t.Errorf("nothing changed, but updateTime did: %v, %v", same, err)
		}
	})

	t.Run("a bare id is refused and explained", func(t *testing.T) {
		r := newRoom(t, c, nil)
		_, err := c.GetRoom(ctx, &ivschat.GetRoomInput{Identifier: r.Id})
		wantError(t, err, "ValidationException", 400)
		var v *types.ValidationException
		if !errors.As(err, &v) || v.Reason != types.ValidationExceptionReasonFieldValidationFailed || len(v.FieldList) != 1 || *v.FieldList[0].Name != "identifier" {
			t.Fatalf("%+v", v)
		}
		if !strings.Contains(*v.Message, "ARN") || !strings.Contains(*v.Message, *r.Id) {
			t.Error(*v.Message)
		}
	})

	t.Run("deleting twice", func(t *testing.T) {
		r := newRoom(t, c, nil)
		if _, err := c.DeleteRoom(ctx, &ivschat.DeleteRoomInput{Identifier: r.Arn}); err != nil {
			t.Fatal(err)
		}
		_, err := c.DeleteRoom(ctx, &ivschat.DeleteRoomInput{Identifier: r.Arn})
		wantError(t, err, "ResourceNotFoundException", 404)
		var n *types.ResourceNotFoundException
		if !errors.As(err, &n) || *n.ResourceId != *r.Id || n.ResourceType != types.ResourceTypeRoom {
			t.Errorf("%+v", n)
		}
	})

	t.Run("an unknown logging configuration", func(t *testing.T) {
		for _, err := range []error{
			func() error {
				_, err := c.CreateRoom(ctx, &ivschat.CreateRoomInput{LoggingConfigurationIdentifiers: []string{*s.configurationARN(missing)}})
				return err
			}(),
			func() error {
				_, err := c.UpdateRoom(ctx, &ivschat.UpdateRoomInput{Identifier: newRoom(t, c, nil).Arn, LoggingConfigurationIdentifiers: []string{*s.configurationARN(missing)}})
				return err
			}(),
			func() error {
				_, err := c.ListRooms(ctx, &ivschat.ListRoomsInput{LoggingConfigurationIdentifier: s.configurationARN(missing)})
				return err
			}(),
		} {
			wantError(t, err, "ResourceNotFoundException", 404)
		}
	})
}

func TestListRooms(t *testing.T) {
	s := start(t)
	c, ctx := s.client(), limited(t)
	configuration := newConfiguration(t, c, "x")
	uri := "arn:aws:lambda:us-west-2:123456789012:function:f"
	var made []*ivschat.CreateRoomOutput
	for i := range 120 {
		in := &ivschat.CreateRoomInput{Name: aws.String(fmt.Sprintf("n%d", i%3))}
		if i%2 == 0 {
			in.MessageReviewHandler = &types.MessageReviewHandler{Uri: &uri}
		}
		if i%5 == 0 {
			in.LoggingConfigurationIdentifiers = []string{*configuration.Arn}
		}
		made = append(made, newRoom(t, c, in))
	}
	// The room made first is changed last.
	changed, err := c.UpdateRoom(ctx, &ivschat.UpdateRoomInput{Identifier: made[0].Arn, MaximumMessageLength: aws.Int32(9)})
	if err != nil {
		t.Fatal(err)
	}
	made[0].UpdateTime = changed.UpdateTime
	// The last changed first; what shares a millisecond stands in the order of ids.
	slices.SortFunc(made, func(a, b *ivschat.CreateRoomOutput) int {
		return cmp.Or(b.UpdateTime.Compare(*a.UpdateTime), strings.Compare(*a.Arn, *b.Arn))
	})
	if *made[0].Arn != *changed.Arn {
		t.Error("a change must bring a room to the front")
	}
	var want []string
	for _, r := range made {
		want = append(want, *r.Arn)
	}
	want = append(want, s.RoomARN) // that of dev is the oldest

	list := func(in *ivschat.ListRoomsInput) []string {
		t.Helper()
		var got []string
		for p := ivschat.NewListRoomsPaginator(c, in); p.HasMorePages(); {
			page, err := p.NextPage(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range page.Rooms {
				got = append(got, *r.Arn)
			}
		}
		return got
	}
	for _, size := range []*int32{nil, aws.Int32(1), aws.Int32(7), aws.Int32(50)} {
		if d := diff.Diff(want, list(&ivschat.ListRoomsInput{MaxResults: size})); d != "" {
			t.Errorf("pages of %v: %s", size, d)
		}
	}
	first, err := c.ListRooms(ctx, &ivschat.ListRoomsInput{NextToken: aws.String("")})
	if err != nil || len(first.Rooms) != 50 || first.NextToken == nil {
		t.Fatalf("an empty token is the first page of 50: %v, %v", first, err)
	}
	if n := len(list(&ivschat.ListRoomsInput{Name: aws.String("n1"), MessageReviewHandlerUri: &uri, LoggingConfigurationIdentifier: configuration.Arn})); n != 4 {
		t.Errorf("filters combine: got %d rooms, want 4", n)
	}
	if n := len(list(&ivschat.ListRoomsInput{Name: aws.String(""), MessageReviewHandlerUri: aws.String("")})); n != 121 {
		t.Errorf("an empty filter is none: got %d rooms", n)
	}
	if got := list(&ivschat.ListRoomsInput{Name: aws.String("no-such-name")}); len(got) != 0 {
		t.Error(got)
	}
	for name, in := range map[string]*ivschat.ListRoomsInput{
		"garbage":       {NextToken: aws.String("garbage")},
		"altered":       {NextToken: aws.String("A" + *first.NextToken)},
		"other filters": {NextToken: first.NextToken, Name: aws.String("n1")},
		"too long":      {NextToken: aws.String(strings.Repeat("a", 1025))},
	} {
		_, err := c.ListRooms(ctx, in)
		wantError(t, err, "ValidationException", 400)
		var v *types.ValidationException
		if !errors.As(err, &v) || len(v.FieldList) != 1 || *v.FieldList[0].Name != "nextToken" {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

func TestLoggingConfigurations(t *testing.T) {
	s := start(t)
	c, ctx := s.client(), limited(t)
	for name, d := range map[string]types.DestinationConfiguration{
		"s3":       &types.DestinationConfigurationMemberS3{Value: types.S3DestinationConfiguration{BucketName: aws.String("my.bucket-1")}},
		"logs":     &types.DestinationConfigurationMemberCloudWatchLogs{Value: types.CloudWatchLogsDestinationConfiguration{LogGroupName: aws.String("/a/b#c.d_e-f")}},
		"firehose": &types.DestinationConfigurationMemberFirehose{Value: types.FirehoseDestinationConfiguration{DeliveryStreamName: aws.String("a_b.c-d")}},
	} {
		made, err := c.CreateLoggingConfiguration(ctx, &ivschat.CreateLoggingConfigurationInput{DestinationConfiguration: d, Name: &name, Tags: map[string]string{"k": "v"}})
		if err != nil {
			t.Fatal(err)
		}
		if made.State != types.CreateLoggingConfigurationStateActive || *made.Arn != *s.configurationARN(*made.Id) || !id12.MatchString(*made.Id) {
			t.Errorf("%+v", made)
		}
		got, err := c.GetLoggingConfiguration(ctx, &ivschat.GetLoggingConfigurationInput{Identifier: made.Arn})
		if err != nil {
			t.Fatal(err)
		}
		if got.State != types.LoggingConfigurationStateActive || *got.Name != name || got.Tags["k"] != "v" || got.CreateTime == nil || got.UpdateTime == nil {
			t.Errorf("%+v", got)
		}
		if d := diff.Diff(d, got.DestinationConfiguration, diff.Exporter(func(reflect.Type) bool { return true })); d != "" {
			t.Error(d)
		}
		up, err := c.UpdateLoggingConfiguration(ctx, &ivschat.UpdateLoggingConfigurationInput{Identifier: made.Arn, Name: aws.String(""),
			DestinationConfiguration: &types.DestinationConfigurationMemberS3{Value: types.S3DestinationConfiguration{BucketName: aws.String("other")}}})
		if err != nil {
			t.Fatal(err)
		}
		if b, ok := up.DestinationConfiguration.(*types.DestinationConfigurationMemberS3); !ok || *b.Value.BucketName != "other" || *up.Name != "" || up.Tags["k"] != "v" || up.State != types.UpdateLoggingConfigurationStateActive {
			t.Errorf("%+v", up)
		}
	}
	list, err := c.ListLoggingConfigurations(ctx, &ivschat.ListLoggingConfigurationsInput{MaxResults: aws.Int32(2)})
	if err != nil || len(list.LoggingConfigurations) != 2 || list.NextToken == nil {
		t.Fatalf("%+v %v", list, err)
	}
	rest, err := c.ListLoggingConfigurations(ctx, &ivschat.ListLoggingConfigurationsInput{NextToken: list.NextToken})
	if err != nil || len(rest.LoggingConfigurations) != 1 || rest.NextToken != nil {
		t.Fatalf("%+v %v", rest, err)
	}

	t.Run("one that a room uses cannot be deleted", func(t *testing.T) {
		used := rest.LoggingConfigurations[0].Arn
		room := newRoom(t, c, &ivschat.CreateRoomInput{LoggingConfigurationIdentifiers: []string{*used}})
		_, err := c.DeleteLoggingConfiguration(ctx, &ivschat.DeleteLoggingConfigurationInput{Identifier: used})
		wantError(t, err, "ConflictException", 409)
		var conflict *types.ConflictException
		if !errors.As(err, &conflict) || conflict.ResourceId == nil || conflict.ResourceType != types.ResourceTypeRoom {
			t.Errorf("%+v", conflict)
		}
		if _, err := c.UpdateRoom(ctx, &ivschat.UpdateRoomInput{Identifier: room.Arn, LoggingConfigurationIdentifiers: []string{}}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.DeleteLoggingConfiguration(ctx, &ivschat.DeleteLoggingConfigurationInput{Identifier: used}); err != nil {
			t.Fatal(err)
		}
		_, err = c.GetLoggingConfiguration(ctx, &ivschat.GetLoggingConfigurationInput{Identifier: used})
		wantError(t, err, "ResourceNotFoundException", 404)
		_, err = c.DeleteLoggingConfiguration(ctx, &ivschat.DeleteLoggingConfigurationInput{Identifier: used})
		wantError(t, err, "ResourceNotFoundException", 404)
		_, err = c.UpdateLoggingConfiguration(ctx, &ivschat.UpdateLoggingConfigurationInput{Identifier: used})
		wantError(t, err, "ResourceNotFoundException", 404)
	})

	t.Run("the eleventh is over the quota", func(t *testing.T) {
		var err error
		for range 11 {
			if _, err = c.CreateLoggingConfiguration(ctx, &ivschat.CreateLoggingConfigurationInput{
				DestinationConfiguration: &types.DestinationConfigurationMemberS3{Value: types.S3DestinationConfiguration{BucketName: aws.String("abc")}}}); err != nil {
				break
			}
		}
		wantError(t, err, "ServiceQuotaExceededException", 402)
		var q *types.ServiceQuotaExceededException
		if !errors.As(err, &q) || q.Limit != 10 || *q.ResourceId != s.Account || q.ResourceType != types.ResourceTypeRoom {
			t.Errorf("%+v", q)
		}
	})
}

func TestTags(t *testing.T) {
	s := start(t)
	c, ctx := s.client(), limited(t)
	for _, arn := range []*string{newRoom(t, c, nil).Arn, newConfiguration(t, c, "x").Arn} {
		tags := func() map[string]string {
			t.Helper()
			out, err := c.ListTagsForResource(ctx, &ivschat.ListTagsForResourceInput{ResourceArn: arn})
			if err != nil {
				t.Fatal(err)
			}
			return out.Tags
		}
		if got := tags(); got == nil || len(got) != 0 {
			t.Errorf("no tags are an empty object, not %v", got)
		}
		add := func(m map[string]string) error {
			_, err := c.TagResource(ctx, &ivschat.TagResourceInput{ResourceArn: arn, Tags: m})
			return err
		}
		if err := add(map[string]string{"b-1": "1", "b/2": "2", "日本": "3", "sp ace+ü": "4", "b": "5"}); err != nil {
			t.Fatal(err)
		}
		if err := add(map[string]string{"b": "6"}); err != nil {
			t.Fatal(err)
		}
		if err := add(map[string]string{}); err != nil {
			t.Fatal(err)
		}
		// The Go SDK signs these keys in another order than every other client.
		if _, err := c.UntagResource(ctx, &ivschat.UntagResourceInput{ResourceArn: arn, TagKeys: []string{"b/2", "b-1", "日本", "sp ace+ü", "unknown"}}); err != nil {
			t.Fatal(err)
		}
		if d := diff.Diff(map[string]string{"b": "6"}, tags()); d != "" {
			t.Error(d)
		}
		fifty := map[string]string{}
		for i := range 50 {
			fifty[fmt.Sprint("k", i)] = "v"
		}
		wantError(t, add(fifty), "ValidationException", 400) // 51 together
		if d := diff.Diff(map[string]string{"b": "6"}, tags()); d != "" {
			t.Error("a refused call changed something:", d)
		}
		delete(fifty, "k0")
		if err := add(fifty); err != nil {
			t.Fatal(err)
		}
		wantError(t, add(map[string]string{"AWS:x": "v"}), "ValidationException", 400)
		_, err := c.UntagResource(ctx, &ivschat.UntagResourceInput{ResourceArn: arn, TagKeys: []string{}})
		wantError(t, err, "ValidationException", 400)
	}
	for _, arn := range []*string{s.roomARN(missing), s.configurationARN(missing)} {
		_, err := c.ListTagsForResource(ctx, &ivschat.ListTagsForResourceInput{ResourceArn: arn})
		wantError(t, err, "ResourceNotFoundException", 404)
		_, err = c.TagResource(ctx, &ivschat.TagResourceInput{ResourceArn: arn, Tags: map[string]string{"a": "b"}})
		wantError(t, err, "ResourceNotFoundException", 404)
		_, err = c.UntagResource(ctx, &ivschat.UntagResourceInput{ResourceArn: arn, TagKeys: []string{"a"}})
		wantError(t, err, "ResourceNotFoundException", 404)
	}
	_, err := c.ListTagsForResource(ctx, &ivschat.ListTagsForResourceInput{ResourceArn: aws.String(missing)})
	wantError(t, err, "ValidationException", 400)
}

func TestChatTokens(t *testing.T) {
	s := start(t)
	c, ctx := s.client(), limited(t)
	room := newRoom(t, c, nil)
	tchar := regexp.MustCompile("^[a-zA-Z0-9!#$%&'*+.^_`|~-]+$")
	for _, in := range []*ivschat.CreateChatTokenInput{
		{UserId: aws.String("u")},
		{UserId: aws.String(strings.Repeat("𝄞", 128)), Attributes: map[string]string{"k": strings.Repeat("a", 1023)}, SessionDurationInMinutes: aws.Int32(180),
			Capabilities: []types.ChatTokenCapability{"SEND_MESSAGE", "SEND_MESSAGE", "DELETE_MESSAGE", "DISCONNECT_USER"}},
		{UserId: aws.String("u"), Capabilities: []types.ChatTokenCapability{}, Attributes: map[string]string{}, SessionDurationInMinutes: aws.Int32(1)},
	} {
		in.RoomIdentifier = room.Arn
		before := time.Now().Truncate(time.Second)
		out, err := c.CreateChatToken(ctx, in)
		if err != nil {
			t.Fatal(err)
		}
		minutes := time.Duration(60)
		if in.SessionDurationInMinutes != nil {
			minutes = time.Duration(*in.SessionDurationInMinutes)
		}
		if d := out.SessionExpirationTime.Sub(before) - minutes*time.Minute; d < 0 || d > 10*time.Second {
			t.Errorf("session ends %v after the expected time", d)
		}
		if d := out.TokenExpirationTime.Sub(before) - min(minutes, 60)*time.Minute; d < 0 || d > 10*time.Second {
			t.Errorf("token ends %v after the expected time", d)
		}
		if out.SessionExpirationTime.Nanosecond() != 0 || out.TokenExpirationTime.Nanosecond() != 0 {
			t.Error("token times are whole seconds")
		}
		if !tchar.MatchString(*out.Token) || len(*out.Token) > 2600 {
			t.Errorf("a token of %d characters cannot be a sub-protocol", len(*out.Token))
		}
		if strings.Contains(s.log.String(), *out.Token) {
			t.Error("the token is in the log")
		}
	}
	_, err := c.CreateChatToken(ctx, &ivschat.CreateChatTokenInput{RoomIdentifier: s.roomARN(missing), UserId: aws.String("u")})
	wantError(t, err, "ResourceNotFoundException", 404)
}

func TestMessagingOperations(t *testing.T) {
	s := start(t)
	c, ctx := s.client(), limited(t)
	room := newRoom(t, c, nil)
	event, err := c.SendEvent(ctx, &ivschat.SendEventInput{RoomIdentifier: room.Arn, EventName: aws.String("app:x"), Attributes: map[string]string{"a": "b"}})
	if err != nil || !id12.MatchString(*event.Id) {
		t.Fatal(event, err)
	}
	deleted, err := c.DeleteMessage(ctx, &ivschat.DeleteMessageInput{RoomIdentifier: room.Arn, Id: event.Id})
	if err != nil || !id12.MatchString(*deleted.Id) || *deleted.Id == *event.Id {
		t.Fatal(deleted, err)
	}
	if _, err := c.DisconnectUser(ctx, &ivschat.DisconnectUserInput{RoomIdentifier: room.Arn, UserId: aws.String("nobody"), Reason: aws.String("r")}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"aws:DELETE_MESSAGE", "AWS:x"} {
		_, err := c.SendEvent(ctx, &ivschat.SendEventInput{RoomIdentifier: room.Arn, EventName: &name})
		wantError(t, err, "ValidationException", 400)
	}
	_, err = c.SendEvent(ctx, &ivschat.SendEventInput{RoomIdentifier: s.roomARN(missing), EventName: aws.String("x")})
	wantError(t, err, "ResourceNotFoundException", 404)
	_, err = c.DeleteMessage(ctx, &ivschat.DeleteMessageInput{RoomIdentifier: s.roomARN(missing), Id: aws.String(missing)})
	wantError(t, err, "ResourceNotFoundException", 404)
	_, err = c.DisconnectUser(ctx, &ivschat.DisconnectUserInput{RoomIdentifier: s.roomARN(missing), UserId: aws.String("x")})
	wantError(t, err, "ResourceNotFoundException", 404)
}

func TestThrottling(t *testing.T) {
	s := start(t, "--limits", "strict")
	c, ctx := s.client(), limited(t)
	var err error
	for range 60 {
		if _, err = c.GetRoom(ctx, &ivschat.GetRoomInput{Identifier: &s.RoomARN}); err != nil {
			break
		}
	}
	wantError(t, err, "ThrottlingException", 429)
	for range 600 {
		if _, err = c.SendEvent(ctx, &ivschat.SendEventInput{RoomIdentifier: &s.RoomARN, EventName: aws.String("x")}); err != nil {
			break
		}
	}
	wantError(t, err, "ThrottlingException", 429)
	var th *types.ThrottlingException
	if !errors.As(err, &th) || th.Limit != 100 || *th.ResourceId == "" || th.ResourceType != types.ResourceTypeRoom {
		t.Errorf("%+v", th)
	}
}

func TestSignatures(t *testing.T) {
	s := start(t)
	ctx := limited(t)
	for name, c := range map[string]struct {
		change func(*ivschat.Options)
		want   string
	}{
		"unknown key": {func(o *ivschat.Options) {
			o.Credentials = credentials.NewStaticCredentialsProvider("AKIAUNKNOWN000000000", s.SecretKey, "")
		}, "UnrecognizedClientException"},
		"wrong secret": {func(o *ivschat.Options) {
			o.Credentials = credentials.NewStaticCredentialsProvider(s.AccessKeyID, "wrong", "")
		}, "InvalidSignatureException"},
		"a session token with a long-term key": {func(o *ivschat.Options) {
			o.Credentials = credentials.NewStaticCredentialsProvider(s.AccessKeyID, s.SecretKey, "token")
		}, "UnrecognizedClientException"},
		"no credentials": {func(o *ivschat.Options) { o.Credentials = aws.AnonymousCredentials{} }, "MissingAuthenticationTokenException"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.client(c.change).ListRooms(ctx, &ivschat.ListRoomsInput{})
			wantError(t, err, c.want, 403)
		})
	}
	if log := s.log.String(); strings.Contains(log, s.SecretKey) {
		t.Error("the secret is in the log")
	}
	t.Run("another region is another world", func(t *testing.T) {
		east := s.client(func(o *ivschat.Options) { o.Region = "eu-central-1" })
		room := newRoom(t, east, nil)
		if !strings.HasPrefix(*room.Arn, "arn:aws:ivschat:eu-central-1:") {
			t.Error(*room.Arn)
		}
		if _, err := east.GetRoom(ctx, &ivschat.GetRoomInput{Identifier: room.Arn}); err != nil {
			t.Error(err)
		}
		_, err := s.client().GetRoom(ctx, &ivschat.GetRoomInput{Identifier: room.Arn})
		wantError(t, err, "ResourceNotFoundException", 404)
		list, err := east.ListRooms(ctx, &ivschat.ListRoomsInput{})
		if err != nil || len(list.Rooms) != 1 {
			t.Errorf("%+v %v", list, err)
		}
	})
}
