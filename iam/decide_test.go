package iam_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"hubbub/iam"
	"hubbub/ivschat"

	"pgregory.net/rapid"
)

const (
	room  = "arn:aws:ivschat:us-west-2:123456789012:room/AbCdEf123456"
	other = "arn:aws:ivschat:us-west-2:123456789012:room/XbCdEf123456"
)

// principal is a user with the policies given as JSON, and tags.
func principal(t testing.TB, member string, policies ...string) *iam.Principal {
	t.Helper()
	file := "accounts:\n  \"123456789012\":\n    policies:\n"
	names := make([]string, len(policies))
	for i, p := range policies {
		names[i] = fmt.Sprint("p", i)
		file += fmt.Sprintf("      p%d: '%s'\n", i, strings.ReplaceAll(p, "'", "''"))
	}
	if len(policies) == 0 {
		file += "      none: {Version: \"2012-10-17\", Statement: {Effect: Deny, Action: \"none:None\", Resource: \"*\"}}\n"
	}
	file += "    users:\n      alice:\n        tags: {team: chat, Env: prod}\n        access_keys: [{id: AKIAIOSFODNN7EXAMPLE, secret: 0123456789abcdef}]\n"
	if member != "" {
		file += "        " + member + "\n"
	} else if len(names) > 0 {
		file += "        policies: [" + strings.Join(names, ", ") + "]\n"
	}
	s, err := iam.Parse("iam.yaml", []byte(file))
	if err != nil {
		t.Fatalf("%v\n%s", err, file)
	}
	k, ok := s.AccessKey("AKIAIOSFODNN7EXAMPLE")
	if !ok {
		t.Fatal("no key")
	}
	return k.Principal
}

func policy(statements ...string) string {
	return `{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`
}

func allow(rest string) string {
	return policy(`{"Effect":"Allow","Action":"*","Resource":"*"` + rest + `}`)
}

var request = iam.Context{
	ResourceTags: map[string]string{"team": "chat", "Stage": "1", "Owner": "a", "owner": "b"}, RequestTags: map[string]string{"team": "chat", "env": "x"}, TagKeys: []string{"team", "env"},
	SourceIP: netip.MustParseAddr("203.0.113.7"), Time: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC), Region: "us-west-2", UserAgent: "aws-cli/2", Secure: true,
}

func TestConditions(t *testing.T) {
	for _, c := range []struct {
		name, condition string
		want            bool
	}{
		{"equal", `"StringEquals":{"aws:ResourceTag/team":"chat"}`, true},
		{"letter case of a value counts", `"StringEquals":{"aws:ResourceTag/team":"Chat"}`, false},
		{"letter case of a key does not", `"StringEquals":{"AWS:resourcetag/TEAM":"chat"}`, true},
		{"letter case of a key tells two tags apart", `"StringEquals":{"aws:ResourceTag/Owner":"a","aws:resourcetag/owner":"b"}`, true},
		{"letter case of a key in a variable does so too", `"StringEquals":{"aws:ResourceTag/Owner":"${AWS:ResourceTag/Owner}","aws:ResourceTag/owner":"${aws:resourcetag/owner}"}`, true},
		{"one of several values", `"StringEquals":{"aws:ResourceTag/team":["x","chat"]}`, true},
		{"keys are ANDed", `"StringEquals":{"aws:ResourceTag/team":"chat","aws:ResourceTag/Stage":"2"}`, false},
		{"operators are ANDed", `"StringEquals":{"aws:ResourceTag/team":"chat"},"StringLike":{"aws:UserAgent":"boto*"}`, false},
		{"a missing key fails", `"StringEquals":{"aws:ResourceTag/none":"chat"}`, false},
		{"a missing key with IfExists", `"StringEqualsIfExists":{"aws:ResourceTag/none":"chat"}`, true},
		{"a present key with IfExists", `"StringEqualsIfExists":{"aws:ResourceTag/team":"x"}`, false},
		{"not equal", `"StringNotEquals":{"aws:ResourceTag/team":"chat"}`, false},
		{"not equal to none of several", `"StringNotEquals":{"aws:ResourceTag/team":["x","chat"]}`, false},
		{"not equal to others", `"StringNotEquals":{"aws:ResourceTag/team":["x","y"]}`, true},
		{"not equal and missing", `"StringNotEquals":{"aws:ResourceTag/none":"chat"}`, true},
		{"ignoring case", `"StringEqualsIgnoreCase":{"aws:ResourceTag/team":"CHAT"}`, true},
		{"not ignoring case", `"StringNotEqualsIgnoreCase":{"aws:ResourceTag/team":"CHAT"}`, false},
		{"like", `"StringLike":{"aws:UserAgent":"aws-*/?"}`, true},
		{"like is anchored", `"StringLike":{"aws:UserAgent":"cli"}`, false},
		{"not like", `"StringNotLike":{"aws:UserAgent":"aws-*"}`, false},
		{"a number", `"NumericEquals":{"aws:ResourceTag/Stage":"1.0"}`, true},
		{"not a number", `"NumericNotEquals":{"aws:ResourceTag/Stage":"2"}`, true},
		{"less", `"NumericLessThan":{"aws:ResourceTag/Stage":"2"}`, true},
		{"less or equal", `"NumericLessThanEquals":{"aws:ResourceTag/Stage":1}`, true},
		{"greater", `"NumericGreaterThan":{"aws:ResourceTag/Stage":"1"}`, false},
		{"greater or equal", `"NumericGreaterThanEquals":{"aws:ResourceTag/Stage":"1"}`, true},
		{"text is no number", `"NumericLessThan":{"aws:ResourceTag/team":"5"}`, false},
		{"before", `"DateLessThan":{"aws:CurrentTime":"2026-11-24T12:00:01Z"}`, true},
		{"after, in seconds", `"DateGreaterThan":{"aws:EpochTime":"1700000000"}`, true},
		{"date equal", `"DateEquals":{"aws:CurrentTime":"2026-11-24T12:00:00Z"}`, true},
		{"date not equal", `"DateNotEquals":{"aws:CurrentTime":"2026-11-24T12:00:00Z"}`, false},
		{"date no later", `"DateLessThanEquals":{"aws:CurrentTime":"2026-11-24"}`, false},
		{"before the end of all time", `"DateLessThan":{"aws:CurrentTime":"9999-12-31T23:59:59Z"}`, true},
		{"after the begin of all time", `"DateGreaterThan":{"aws:CurrentTime":"0001-01-01T00:00:00Z"}`, true},
		{"bool", `"Bool":{"aws:SecureTransport":true}`, true},
		{"bool as text", `"Bool":{"aws:SecureTransport":"FALSE"}`, false},
		{"address in a network", `"IpAddress":{"aws:SourceIp":["10.0.0.0/8","203.0.113.0/24"]}`, true},
		{"address itself", `"IpAddress":{"aws:SourceIp":"203.0.113.7"}`, true},
		{"address of another family", `"IpAddress":{"aws:SourceIp":"2001:db8::/32"}`, false},
		{"not address", `"NotIpAddress":{"aws:SourceIp":"203.0.113.0/24"}`, false},
		{"arn like", `"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::*:user/al*"}`, true},
		{"a star does not reach over a colon", `"ArnLike":{"aws:PrincipalArn":"arn:*:user/alice"}`, false},
		{"arn not like", `"ArnNotLike":{"aws:PrincipalArn":"arn:aws:iam::*:user/al*"}`, false},
		{"arn equals takes wildcards", `"ArnEquals":{"aws:PrincipalArn":"arn:aws:iam::123456789012:*"}`, true},
		{"binary", `"BinaryEquals":{"aws:ResourceTag/team":"Y2hhdA=="}`, false},
		{"null of a missing key", `"Null":{"aws:ResourceTag/none":"true"}`, true},
		{"null of a present key", `"Null":{"aws:ResourceTag/team":true}`, false},
		{"not null", `"Null":{"aws:ResourceTag/team":"false"}`, true},
		{"for all", `"ForAllValues:StringEquals":{"aws:TagKeys":["team","env","more"]}`, true},
		{"for all, one not in the set", `"ForAllValues:StringEquals":{"aws:TagKeys":["team"]}`, false},
		{"for all of a missing key", `"ForAllValues:StringEquals":{"aws:ResourceTag/none":"x"}`, true},
		{"for any", `"ForAnyValue:StringEquals":{"aws:TagKeys":["x","env"]}`, true},
		{"for any, none", `"ForAnyValue:StringEquals":{"aws:TagKeys":["x"]}`, false},
		{"for any of a missing key", `"ForAnyValue:StringEquals":{"aws:ResourceTag/none":"x"}`, false},
		{"for any like", `"ForAnyValue:StringLike":{"aws:TagKeys":"te*"}`, true},
		{"for all not equal", `"ForAllValues:StringNotEquals":{"aws:TagKeys":["secret"]}`, true},
		{"a variable", `"StringEquals":{"aws:ResourceTag/team":"${aws:PrincipalTag/team}"}`, true},
		{"a variable within text", `"StringLike":{"aws:PrincipalArn":"*/${aws:username}"}`, true},
		{"a variable without a value keeps the statement from matching", `"StringNotEquals":{"aws:ResourceTag/team":"${aws:PrincipalTag/none}"}`, false},
		{"a variable with a default", `"StringEquals":{"aws:ResourceTag/team":"${aws:PrincipalTag/none, 'chat'}"}`, true},
		{"an escaped star is a star", `"StringLike":{"aws:ResourceTag/team":"${*}"}`, false},
		{"region", `"StringEquals":{"aws:RequestedRegion":"us-west-2"}`, true},
		{"account", `"StringEquals":{"aws:PrincipalAccount":"123456789012","aws:ResourceAccount":"123456789012"}`, true},
		{"type", `"StringEquals":{"aws:PrincipalType":"User"}`, true},
		{"mfa is absent for long-term keys", `"Null":{"aws:MultiFactorAuthPresent":"true"}`, true},
		{"via a service", `"Bool":{"aws:ViaAWSService":"false"}`, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := principal(t, "", allow(`,"Condition":{`+c.condition+`}`))
			if d := p.Decide(iam.Request{Action: "ivschat:GetRoom", Resource: room, Context: request}); d.Allowed != c.want {
				t.Errorf("allowed is %v: %+v", d.Allowed, d)
			}
		})
	}
}

func TestActionsAndResources(t *testing.T) {
	for _, c := range []struct {
		name, statement, action string
		resource                ivschat.ARN
		want                    bool
	}{
		{"everything", `{"Effect":"Allow","Action":"*","Resource":"*"}`, "ivschat:GetRoom", room, true},
		{"letter case of actions", `{"Effect":"Allow","Action":"IVSChat:getroom","Resource":"*"}`, "ivschat:GetRoom", room, true},
		{"a wildcard in an action", `{"Effect":"Allow","Action":["s3:*","ivschat:Get*"],"Resource":"*"}`, "ivschat:GetRoom", room, true},
		{"another action", `{"Effect":"Allow","Action":"ivschat:Get?","Resource":"*"}`, "ivschat:GetRoom", room, false},
		{"not action", `{"Effect":"Allow","NotAction":"ivschat:Delete*","Resource":"*"}`, "ivschat:GetRoom", room, true},
		{"not that action", `{"Effect":"Allow","NotAction":"ivschat:Get*","Resource":"*"}`, "ivschat:GetRoom", room, false},
		{"one room", `{"Effect":"Allow","Action":"*","Resource":"` + room + `"}`, "ivschat:GetRoom", room, true},
		{"another room", `{"Effect":"Allow","Action":"*","Resource":"` + room + `"}`, "ivschat:GetRoom", other, false},
		{"all rooms", `{"Effect":"Allow","Action":"*","Resource":"arn:aws:ivschat:*:123456789012:room/*"}`, "ivschat:GetRoom", room, true},
		{"a wildcard does not reach over the first parts", `{"Effect":"Allow","Action":"*","Resource":"arn:aws:ivschat:*:room/*:x:y"}`, "ivschat:GetRoom", room, false},
		{"a policy for one room does not let create", `{"Effect":"Allow","Action":"*","Resource":"` + room + `"}`, "ivschat:CreateRoom", "arn:aws:ivschat:us-west-2:123456789012:room/*", false},
		{"all rooms let create", `{"Effect":"Allow","Action":"*","Resource":"arn:aws:ivschat:us-west-2:123456789012:room/*"}`, "ivschat:CreateRoom", "arn:aws:ivschat:us-west-2:123456789012:room/*", true},
		{"not resource", `{"Effect":"Allow","Action":"*","NotResource":"` + other + `"}`, "ivschat:GetRoom", room, true},
		{"not that resource", `{"Effect":"Allow","Action":"*","NotResource":"` + room + `"}`, "ivschat:GetRoom", room, false},
		{"another account", `{"Effect":"Allow","Action":"*","Resource":"*"}`, "ivschat:GetRoom", "arn:aws:ivschat:us-west-2:999999999999:room/AbCdEf123456", false},
		{"a variable in a resource", `{"Effect":"Allow","Action":"*","Resource":"arn:aws:ivschat:us-west-2:${aws:PrincipalAccount}:room/*"}`, "ivschat:GetRoom", room, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := principal(t, "", policy(c.statement)).Decide(iam.Request{Action: c.action, Resource: c.resource, Context: request})
			if d.Allowed != c.want {
				t.Errorf("%+v", d)
			}
		})
	}
}

func TestOrderOfEvaluation(t *testing.T) {
	yes, no := policy(`{"Sid":"Yes","Effect":"Allow","Action":"*","Resource":"*"}`), policy(`{"Sid":"No","Effect":"Deny","Action":"*","Resource":"*"}`)
	nothing := policy(`{"Effect":"Allow","Action":"s3:*","Resource":"*"}`)
	file := func(identity, boundary, session, control string) string {
		f := "accounts:\n  \"123456789012\":\n    policies: {yes: '" + yes + "', no: '" + no + "', nothing: '" + nothing + "'}\n"
		if control != "" {
			f += "    service_control_policies: [" + control + "]\n"
		}
		f += "    roles:\n      r:\n        policies: [" + identity + "]\n"
		if boundary != "" {
			f += "        permissions_boundary: " + boundary + "\n"
		}
		f += "        sessions:\n          s:\n"
		if session != "" {
			f += "            session_policy: " + session + "\n"
		}
		return f + "            access_keys: [{id: ASIAIOSFODNN7EXAMPLE, secret: 0123456789abcdef, session_token: t, expires: 2027-01-01T00:00:00Z}]\n"
	}
	const who = "User: arn:aws:sts::123456789012:assumed-role/r/s is not authorized to perform: ivschat:GetRoom on resource: " + room
	for _, c := range []struct {
		name, identity, boundary, session, control string
		message                                    string // "" if allowed
		why                                        string
	}{
		{"an allow", "yes", "", "", "", "", `policy "yes", statement Yes`},
		{"nothing", "", "", "", "", " because no identity-based policy allows the ivschat:GetRoom action", "no statement of an identity-based policy"},
		{"something else", "nothing", "", "", "", " because no identity-based policy allows the ivschat:GetRoom action", ""},
		{"a deny wins", "yes, no", "", "", "", " with an explicit deny in an identity-based policy", `statement No`},
		{"a boundary that allows", "yes", "yes", "", "", "", ""},
		{"a boundary that does not", "yes", "nothing", "", "", " because no permissions boundary allows the ivschat:GetRoom action", ""},
		{"a boundary that denies", "yes", "no", "", "", " with an explicit deny in a permissions boundary", ""},
		{"a boundary alone allows nothing", "", "yes", "", "", " because no identity-based policy allows the ivschat:GetRoom action", ""},
		{"a session policy that allows", "yes", "", "yes", "", "", ""},
		{"a session policy that does not", "yes", "", "nothing", "", " because no session policy allows the ivschat:GetRoom action", ""},
		{"control policies that all allow", "yes", "", "", "yes, yes", "", ""},
		{"one control policy that does not", "yes", "", "", "yes, nothing", " because no service control policy allows the ivschat:GetRoom action", "nothing"},
		{"a control policy that denies", "yes", "", "", "no", " with an explicit deny in a service control policy", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := iam.Parse("iam.yaml", []byte(file(c.identity, c.boundary, c.session, c.control)))
			if err != nil {
				t.Fatal(err)
			}
			k, _ := s.AccessKey("ASIAIOSFODNN7EXAMPLE")
			d := k.Principal.Decide(iam.Request{Action: "ivschat:GetRoom", Resource: room, Context: request})
			want := ""
			if c.message != "" {
				want = who + c.message
			}
			if d.Message != want || d.Allowed != (c.message == "") || !strings.Contains(d.Why, c.why) {
				t.Errorf("%+v, want %q", d, want)
			}
		})
	}
}

func TestRootNeedsNoPolicy(t *testing.T) {
	k, _ := iam.Dev("123456789012", "AKIAHUBBUBDEV0000000", "secret").AccessKey("AKIAHUBBUBDEV0000000")
	if d := k.Principal.Decide(iam.Request{Action: "ivschat:CreateRoom", Resource: "arn:aws:ivschat:x:123456789012:room/*", Context: request}); !d.Allowed {
		t.Error(d)
	}
	if d := k.Principal.Decide(iam.Request{Action: "ivschat:GetRoom", Resource: "arn:aws:ivschat:x:999999999999:room/a", Context: request}); d.Allowed {
		t.Error("another account's room")
	}
}

// The example policies of the specification.
func TestExamplePolicies(t *testing.T) {
	team := `{"Version":"2012-10-17","Statement":[
	  {"Effect":"Allow","Action":["ivschat:CreateRoom","ivschat:TagResource"],"Resource":"arn:aws:ivschat:*:123456789012:room/*",
	   "Condition":{"StringEquals":{"aws:RequestTag/team":"${aws:PrincipalTag/team}"},"ForAllValues:StringEquals":{"aws:TagKeys":["team","env"]}}},
	  {"Effect":"Allow","Action":["ivschat:GetRoom","ivschat:UpdateRoom"],"Resource":"*",
	   "Condition":{"StringEquals":{"aws:ResourceTag/team":"${aws:PrincipalTag/team}"}}}]}`
	p := principal(t, "", strings.ReplaceAll(strings.ReplaceAll(team, "\n", " "), "\t", " "))
	foreign := request
	foreign.ResourceTags, foreign.RequestTags = map[string]string{"team": "video"}, map[string]string{"team": "video"}
	more := request
	more.TagKeys = []string{"team", "owner"}
	for _, c := range []struct {
		action  string
		context iam.Context
		want    bool
	}{
		{"CreateRoom", request, true}, {"TagResource", request, true}, {"CreateRoom", foreign, false}, {"CreateRoom", more, false},
		{"GetRoom", request, true}, {"GetRoom", foreign, false}, {"DeleteRoom", request, false},
	} {
		if d := p.Decide(iam.Request{Action: "ivschat:" + c.action, Resource: room, Context: c.context}); d.Allowed != c.want {
			t.Errorf("%s: %+v", c.action, d)
		}
	}
	reader := principal(t, `policies: ["arn:aws:iam::aws:policy/IVSReadOnlyAccess"]`)
	for action, want := range map[string]bool{"GetRoom": true, "ListRooms": true, "ListTagsForResource": true, "CreateChatToken": false, "DeleteRoom": false} {
		if d := reader.Decide(iam.Request{Action: "ivschat:" + action, Resource: room, Context: request}); d.Allowed != want {
			t.Errorf("%s: %+v", action, d)
		}
	}
}

func TestADenyNeverAllows(t *testing.T) {
	statements := []string{
		`{"Effect":"EFFECT","Action":"ivschat:Get*","Resource":"*"}`,
		`{"Effect":"EFFECT","NotAction":"ivschat:Get*","Resource":"*"}`,
		`{"Effect":"EFFECT","Action":"*","Resource":"` + room + `"}`,
		`{"Effect":"EFFECT","Action":"*","Resource":"*","Condition":{"StringNotEquals":{"aws:ResourceTag/team":"chat"}}}`,
		`{"Effect":"EFFECT","Action":"*","Resource":"*","Condition":{"ForAllValues:StringLike":{"aws:TagKeys":"t*"}}}`,
	}
	rapid.Check(t, func(r *rapid.T) {
		draw := func(effect, label string) []string {
			var out []string
			for _, s := range statements {
				if rapid.Bool().Draw(r, label) {
					out = append(out, strings.ReplaceAll(s, "EFFECT", effect))
				}
			}
			return out
		}
		allows, denies := draw("Allow", "allow"), draw("Deny", "deny")
		none := `{"Effect":"Deny","Action":"none:None","Resource":"*"}`
		q := iam.Request{Action: "ivschat:" + rapid.SampledFrom([]string{"GetRoom", "CreateRoom"}).Draw(r, "action"), Resource: room, Context: request}
		without := principal(t, "", policy(append(allows, none)...)).Decide(q)
		with := principal(t, "", policy(append(append(allows, denies...), none)...)).Decide(q)
		if with.Allowed && !without.Allowed {
			r.Fatalf("more denies allow more: %v %v", allows, denies)
		}
		fewer := principal(t, "", policy(append(denies, none)...)).Decide(q)
		if fewer.Allowed {
			r.Fatal("denies alone allow")
		}
	})
}

func BenchmarkDecide(b *testing.B) {
	p := principal(b, "", allow(`,"Condition":{"StringEquals":{"aws:ResourceTag/team":"${aws:PrincipalTag/team}"}}`),
		policy(`{"Effect":"Allow","Action":"ivschat:CreateChatToken","Resource":"`+room+`"}`))
	q := iam.Request{Action: "ivschat:CreateChatToken", Resource: room, Context: request}
	b.ReportAllocs()
	for b.Loop() {
		if !p.Decide(q).Allowed {
			b.Fatal("denied")
		}
	}
}
