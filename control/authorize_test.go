package control

import (
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"

	"hubbub/iam"
	"hubbub/ivschat"
)

// as lets the next calls come from a user with one policy, whose statements are
// given as JSON; settings are further lines of the account.
func (f *fixture) as(settings string, statements ...string) {
	f.tb.Helper()
	file := fmt.Sprintf(`accounts:
  %q:
%s
    policies:
      p: '{"Version":"2012-10-17","Statement":[%s]}'
    users:
      backend:
        policies: [p]
        access_keys: [{id: AKIABACKEND000000000, secret: "the secret of the backend, 40 characters"}]
    root:
      access_keys: [{id: %s, secret: %q}]
  "999999999999":
    root:
      access_keys: [{id: AKIASTRANGER00000000, secret: "the secret of the stranger"}]
`, account, settings, strings.Join(statements, ","), admin.AccessKeyID, admin.SecretAccessKey)
	snapshot, err := iam.Parse("iam.yaml", []byte(file))
	if err != nil {
		f.tb.Fatal(err)
	}
	f.policy, f.caller = snapshot, aws.Credentials{AccessKeyID: "AKIABACKEND000000000", SecretAccessKey: "the secret of the backend, 40 characters"}
}

const allowAll = `{"Effect":"Allow","Action":"ivschat:*","Resource":"*"}`

func TestDeniedRequestsLearnNothing(t *testing.T) {
	f := open(t)
	room, configuration := f.room(), f.configuration()
	f.as("", `{"Sid":"onlyOne","Effect":"Allow","Action":"ivschat:*","Resource":"arn:aws:ivschat:us-west-2:123456789012:room/another"}`)
	for i, c := range calls {
		here := f.send(f.requestOf(i, room, configuration))
		nowhere := f.send(f.requestOf(i, scope.ARN(ivschat.RoomType, unmade), scope.ARN(ivschat.LoggingConfigurationType, unmade)))
		f.refused(here, ivschat.AccessDenied)
		f.refused(nowhere, ivschat.AccessDenied)
		message := strings.NewReplacer(room.ID(), unmade, configuration.ID(), unmade).Replace(here.json["message"].(string))
		if message != nowhere.json["message"] || !strings.Contains(message, "is not authorized to perform: ivschat:"+string(c.operation)+" on resource: arn:aws:ivschat:us-west-2:123456789012:") ||
			!strings.Contains(message, "User: arn:aws:iam::123456789012:user/backend ") {
			t.Errorf("%s: %q for a resource, %q for none", c.operation, message, nowhere.json["message"])
		}
	}
	// Nor which review handlers there are.
	got := f.call(ivschat.OpCreateRoom, `{"name":"a b","messageReviewHandler":{"uri":"arn:aws:lambda:us-west-2:123456789012:function:other"}}`)
	if f.refused(got, ivschat.Validation); fmt.Sprint(fields(got)) != "[name]" {
		t.Errorf("a caller without permission is told %s", got.body)
	}
	if log := f.said.String(); !strings.Contains(log, `"why":"no statement of an identity-based policy allows ivschat:GetRoom"`) {
		t.Error("the log does not say why:", log)
	}
}

func TestOtherAccounts(t *testing.T) {
	f := open(t)
	room, configuration := f.room(), f.configuration()
	f.as("", allowAll)
	f.caller = aws.Credentials{AccessKeyID: "AKIASTRANGER00000000", SecretAccessKey: "the secret of the stranger"}
	for i, c := range calls {
		got := f.send(f.requestOf(i, room, configuration))
		if strings.Contains(c.path+c.body, "%[") {
			f.refused(got, ivschat.AccessDenied)
		} else if strings.Contains(got.body, room.ID()) {
			t.Errorf("%s shows another account's room: %s", c.operation, got.body)
		}
	}
}

func TestTagsOfOtherAccountsDecideNothing(t *testing.T) {
	f := open(t)
	red := f.ok(ivschat.OpCreateRoom, `{"tags":{"team":"red"}}`).json["arn"].(string)
	policy, err := iam.Parse("iam.yaml", []byte(`accounts:
  "999999999999":
    users:
      curious:
        policies: [{Version: "2012-10-17", Statement: {Effect: Deny, Action: "*", Resource: "*", Condition: {StringEquals: {"aws:ResourceTag/team": red}}}}]
        access_keys: [{id: AKIASTRANGER00000000, secret: "the secret of the stranger"}]
`))
	if err != nil {
		t.Fatal(err)
	}
	f.policy, f.caller = policy, aws.Credentials{AccessKeyID: "AKIASTRANGER00000000", SecretAccessKey: "the secret of the stranger"}
	for _, arn := range []string{red, string(scope.ARN(ivschat.RoomType, unmade))} {
		got := f.call(ivschat.OpGetRoom, fmt.Sprintf(`{"identifier":%q}`, arn))
		if f.refused(got, ivschat.AccessDenied); strings.Contains(got.body, "explicit deny") {
			t.Errorf("a policy tells what tags another account's room has: %s", got.body)
		}
	}
}

func TestExplicitDenyIsLoggedWithItsStatement(t *testing.T) {
	f := open(t)
	room := f.room()
	f.as("", allowAll, `{"Sid":"NoEvents","Effect":"Deny","Action":"ivschat:SendEvent","Resource":"*"}`)
	f.said.b.Reset()
	got := f.call(ivschat.OpSendEvent, fmt.Sprintf(`{"roomIdentifier":%q,"eventName":"e"}`, room))
	f.refused(got, ivschat.AccessDenied)
	log := decode(t, f.said.String())
	if why, _ := log["why"].(string); !strings.Contains(why, "NoEvents") || strings.Contains(got.body, "NoEvents") ||
		log["principal"] != "arn:aws:iam::123456789012:user/backend" || log["error"] != "AccessDeniedException" || log["level"] != "INFO" {
		t.Errorf("the caller sees %s, the log %s", got.body, f.said)
	}
	if len(f.messenger.sent) != 0 {
		t.Error("a denied event was sent")
	}
}

func TestCreateWithTagsNeedsTagResource(t *testing.T) {
	f := open(t)
	const create = `{"Effect":"Allow","Action":["ivschat:Create*"],"Resource":"*"}`
	room, configuration := `{"name":"n"%s}`, `{"destinationConfiguration":{"s3":{"bucketName":"bucket"}}%s}`
	for _, c := range []struct {
		name, statement, tags string
		want                  ivschat.Kind
	}{
		{"no tags", "", ``, ""},
		{"empty tags", "", `,"tags":{}`, ""},
		{"tags without TagResource", "", `,"tags":{"team":"red"}`, ivschat.AccessDenied},
		{"tags with it", `,{"Effect":"Allow","Action":"ivschat:TagResource","Resource":["arn:aws:ivschat:us-west-2:123456789012:room/*","arn:aws:ivschat:us-west-2:123456789012:logging-configuration/*"]}`, `,"tags":{"team":"red"}`, ""},
		{"the tag of the condition", `,{"Effect":"Allow","Action":"ivschat:TagResource","Resource":"*","Condition":{"StringEquals":{"aws:RequestTag/team":"red"}}}`, `,"tags":{"team":"red"}`, ""},
		{"another tag than that", `,{"Effect":"Allow","Action":"ivschat:TagResource","Resource":"*","Condition":{"StringEquals":{"aws:RequestTag/team":"red"}}}`, `,"tags":{"team":"blue"}`, ivschat.AccessDenied},
		{"only keys of the condition", `,{"Effect":"Allow","Action":"ivschat:TagResource","Resource":"*","Condition":{"ForAllValues:StringEquals":{"aws:TagKeys":["team","env"]}}}`, `,"tags":{"team":"red","x":""}`, ivschat.AccessDenied},
	} {
		f.as("", create+c.statement)
		f.said.b.Reset()
		for o, body := range map[ivschat.Operation]string{ivschat.OpCreateRoom: room, ivschat.OpCreateLoggingConfiguration: configuration} {
			got := f.call(o, fmt.Sprintf(body, c.tags))
			if f.refused(got, c.want); c.want != "" && !strings.Contains(got.body, "ivschat:TagResource") {
				t.Errorf("%s: %s", c.name, got.body)
			}
			if log := f.said.String(); c.want != "" && !strings.Contains(log, `allows ivschat:TagResource"`) {
				t.Errorf("%s: the log does not say which of the two actions nothing allows: %s", c.name, log)
			}
		}
	}
}

func TestConditionsSeeTheRequest(t *testing.T) {
	f := open(t)
	red := f.ok(ivschat.OpCreateRoom, `{"tags":{"team":"red"}}`).json["arn"].(string)
	blue := f.ok(ivschat.OpCreateRoom, `{"tags":{"team":"blue"}}`).json["arn"].(string)
	get := func(arn string) reply { return f.call(ivschat.OpGetRoom, fmt.Sprintf(`{"identifier":%q}`, arn)) }
	only := func(condition string) {
		f.as("", `{"Effect":"Allow","Action":"*","Resource":"*","Condition":`+condition+`}`)
	}
	only(`{"StringEquals":{"aws:ResourceTag/team":"red"}}`)
	f.refused(get(red), "")
	f.refused(get(blue), ivschat.AccessDenied)
	f.refused(get(string(scope.ARN(ivschat.RoomType, unmade))), ivschat.AccessDenied)
	f.refused(f.send(f.request("GET", "/tags/"+red, "")), "")
	f.refused(f.send(f.request("GET", "/tags/"+blue, "")), ivschat.AccessDenied)

	only(`{"ForAllValues:StringEquals":{"aws:TagKeys":["env"]}}`)
	f.refused(f.send(f.request("DELETE", "/tags/"+red+"?tagKeys=env", "")), "")
	f.refused(f.send(f.request("DELETE", "/tags/"+red+"?tagKeys=env&tagKeys=team", "")), ivschat.AccessDenied)
	f.refused(f.send(f.request("POST", "/tags/"+red, `{"tags":{"env":"x"}}`)), "")
	f.refused(f.send(f.request("POST", "/tags/"+red, `{"tags":{"team":"x"}}`)), ivschat.AccessDenied)

	only(`{"StringEquals":{"aws:RequestTag/env":"x"}}`)
	f.refused(f.send(f.request("POST", "/tags/"+red, `{"tags":{"env":"x"}}`)), "")
	f.refused(f.send(f.request("POST", "/tags/"+red, `{"tags":{"env":"y"}}`)), ivschat.AccessDenied)

	only(`{"IpAddress":{"aws:SourceIp":"203.0.113.0/24"}}`)
	f.refused(get(red), ivschat.AccessDenied)
	f.headers = map[string]string{"X-Forwarded-For": "203.0.113.9"}
	f.refused(get(red), ivschat.AccessDenied) // said by the client itself
	f.peer = "10.1.2.3:4"
	f.refused(get(red), "")

	only(`{"Bool":{"aws:SecureTransport":"true"}}`)
	f.refused(get(red), ivschat.AccessDenied)
	f.headers["X-Forwarded-Proto"] = "https"
	f.refused(get(red), "")

	for key, value := range map[string]string{"aws:RequestedRegion": region, "aws:PrincipalArn": "arn:aws:iam::123456789012:user/backend",
		"aws:ResourceAccount": account, "aws:UserAgent": "test", "aws:Referer": "here", "aws:CurrentTime": "2026-11-24T12:00:00Z"} {
		only(fmt.Sprintf(`{"StringEquals":{%q:%q}}`, key, value))
		f.headers = map[string]string{"User-Agent": "test", "Referer": "here"}
		if got := get(red); got.status != 200 {
			t.Errorf("%s: %s", key, got.body)
		}
	}
}

func TestPendingVerification(t *testing.T) {
	f := open(t)
	room, configuration := f.room(), f.configuration()
	f.as("    pending_verification: true", allowAll)
	for i, c := range calls {
		got := f.send(f.requestOf(i, room, configuration))
		if !c.verified {
			f.refused(got, "")
			continue
		}
		f.refused(got, ivschat.PendingVerification)
	}
	// Permission comes first, existence afterwards.
	missing := fmt.Sprintf(`{"identifier":%q}`, scope.ARN(ivschat.RoomType, unmade))
	f.refused(f.call(ivschat.OpDeleteRoom, missing), ivschat.PendingVerification)
	f.as("    pending_verification: true", `{"Effect":"Deny","Action":"*","Resource":"*"}`)
	f.refused(f.call(ivschat.OpDeleteRoom, missing), ivschat.AccessDenied)
}
