package sigv4

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// BenchmarkVerify is one verification on one core: what every control-plane call
// pays, and what a stranger can make the server do.
func BenchmarkVerify(b *testing.B) {
	const tags = "/tags/arn%3Aaws%3Aivschat%3Aus-west-2%3A123456789012%3Aroom%2FAbCdEf123456"
	names := []string{"CreateChatToken", "GetTags", "UntagInSpecOrder", "UnknownKey", "Body64KiB", "EscapedPath16KiB", "SignedHeaders1000"}
	js := func(r *http.Request) {
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Amz-Sdk-Invocation-Id", "97270daa-67e2-4dcd-a4c9-7a9ebcb44a1c")
		r.Header.Set("Amz-Sdk-Request", "attempt=1; max=3")
	}
	rows := []signing{
		{method: "POST", target: "/CreateChatToken", body: `{"roomIdentifier":"arn:aws:ivschat:us-west-2:123456789012:room/AbCdEf123456","userId":"u1","capabilities":["SEND_MESSAGE"]}`, change: js},
		{method: "GET", target: tags, change: js},
		{method: "DELETE", target: tags + "?tagKeys=b-1&tagKeys=b%2F2&tagKeys=%E6%97%A5", change: js},
		{method: "POST", target: "/CreateRoom", body: "{}", change: js, key: aws.Credentials{AccessKeyID: "AKIAUNKNOWN", SecretAccessKey: "x"}},
		{method: "POST", target: "/CreateRoom", body: strings.Repeat("x", 64<<10), change: js},
		{method: "GET", target: "/" + strings.Repeat("%3A", 16<<10/3), change: js},
		{method: "POST", target: "/CreateRoom", body: "{}", change: func(r *http.Request) {
			for i := range 1000 {
				r.Header.Set(fmt.Sprintf("X-Note-%d", i), "a")
			}
		}},
	}
	var v Verifier
	for i, s := range rows {
		b.Run(names[i], func(b *testing.B) {
			r, body := s.request(b)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(r, body, noon, keys); (err == nil) == (names[i] == "UnknownKey") {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkSigningKey is the part of a verification that a cache of derived keys would save.
func BenchmarkSigningKey(b *testing.B) {
	c := claim{authorization: authorization{day: "20261123", region: "us-west-2"}}
	b.ReportAllocs()
	for b.Loop() {
		c.signingKey(secret)
	}
}
