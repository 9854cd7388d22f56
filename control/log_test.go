package control

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/google/go-cmp/cmp"

	"hubbub/ivschat"
)

func TestOneRecordARequest(t *testing.T) {
	f := open(t)
	room := f.room()
	f.said.b.Reset()
	got := f.ok(ivschat.OpGetRoom, `{"identifier":%q}`, room)
	want := map[string]any{"level": "INFO", "msg": "request", "component": "control", "request_id": got.header.Get("x-amzn-RequestId"), "operation": "GetRoom",
		"status": 200.0, "principal": "arn:aws:iam::123456789012:root", "region": region, "took": 0.0, "bytes": float64(len(got.body))}
	log := decode(t, f.said.String())
	delete(log, "time")
	if d := cmp.Diff(want, log); d != "" {
		t.Error(d)
	}
}

func TestStrangersDoNotFloodTheLog(t *testing.T) {
	f := open(t)
	stranger := func(target, body string) {
		f.caller = aws.Credentials{AccessKeyID: "AKIASTRANGER00000000", SecretAccessKey: "x"}
		f.send(f.request("POST", target, body))
	}
	for range 300 {
		stranger("/CreateRoom", `{}`)
		stranger("/wp-login.php", ``)
		stranger("/CreateRoom", strings.Repeat("x", 65<<10))
	}
	if n := strings.Count(f.said.String(), "\n"); n != 50 {
		t.Errorf("%d records of 900 requests by strangers at once, want the burst of 50", n)
	}
	f.at = f.at.Add(time.Second)
	f.said.b.Reset()
	for range 100 {
		stranger("/CreateRoom", `{}`)
	}
	f.caller = admin
	f.room()
	log := f.said.String()
	if n := strings.Count(log, "\n"); n != 11 || !strings.Contains(log, `"operation":"CreateRoom","status":200`) {
		t.Errorf("%d records a second later, want 10 and the one of somebody known: %s", n, log)
	}
}

func TestNothingSensitiveIsLogged(t *testing.T) {
	f := open(t)
	room := f.room()
	secrets := []string{"mallory", "s3cr3t", "whispers", "w0rds", admin.SecretAccessKey}
	for _, members := range []string{`"userId":"mallory","attributes":{"s3cr3t":"w0rds"}`, `"userId":"mallory","userId":"whispers"`,
		`"userId":5,"mallory":1`, `"userId":"` + strings.Repeat("mallory", 100) + `","attributes":{"s3cr3t":"` + strings.Repeat("w0rds", 1000) + `"}`,
		`"userId":"mallory","eventName":"whispers","attributes":{"s3cr3t":["w0rds"]},"id":"AbCdEf123456","reason":"whispers"`} {
		for _, o := range []ivschat.Operation{ivschat.OpCreateChatToken, ivschat.OpSendEvent, ivschat.OpDeleteMessage, ivschat.OpDisconnectUser} {
			got := f.call(o, fmt.Sprintf(`{"roomIdentifier":%q,%s}`, room, members))
			if token, ok := got.json["token"].(string); ok {
				secrets = append(secrets, token)
			}
		}
	}
	f.caller.SecretAccessKey = "whispers"
	signed := f.request("POST", "/CreateRoom", `{}`)
	secrets = append(secrets, strings.Split(signed.Header.Get("Authorization"), "Signature=")[1])
	f.send(signed)
	for _, secret := range secrets {
		if strings.Contains(f.said.String(), secret) {
			t.Errorf("the log has %q", secret)
		}
	}
}

func TestMetrics(t *testing.T) {
	f := open(t)
	f.room()
	f.call(ivschat.OpGetRoom, `{}`)
	f.send(f.request("GET", "/", ""))
	f.send(f.request("GET", "/any/thing", ""))
	f.caller.AccessKeyID = ""
	f.call(ivschat.OpGetRoom, `{}`)
	families, err := f.gathered.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counted, observed := map[string]float64{}, uint64(0)
	for _, family := range families {
		for _, m := range family.Metric {
			labels := map[string]string{}
			for _, l := range m.Label {
				labels[l.GetName()] = l.GetValue()
			}
			switch family.GetName() {
			case "hubbub_control_requests_total":
				counted[labels["operation"]+" "+labels["error"]] = m.Counter.GetValue()
			case "hubbub_control_request_seconds":
				observed += m.Histogram.GetSampleCount()
			default:
				t.Errorf("an unknown metric %s", family.GetName())
			}
		}
	}
	want := map[string]float64{"other ValidationException": 2, "GetRoom ValidationException": 1, "GetRoom MissingAuthenticationTokenException": 1}
	for _, o := range ivschat.Operations {
		want[string(o)+" none"] = 0
	}
	want["CreateRoom none"] = 1
	if d := cmp.Diff(want, counted); d != "" || observed != 5 {
		t.Errorf("%d observed; %s", observed, d)
	}
}
