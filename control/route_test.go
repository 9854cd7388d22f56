package control

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"hubbub/ivschat"
)

func TestBasePaths(t *testing.T) {
	f := open(t)
	for _, path := range []string{"/CreateRoom", "/chat/CreateRoom", "/a/b/c/CreateRoom", "//CreateRoom", "/tags/CreateRoom", "/%2F/CreateRoom", "/CreateRoom?x=y", "/GetRoom/CreateRoom"} {
		if got := f.send(f.request("POST", path, `{}`)); got.status != 200 || got.json["arn"] == nil {
			t.Errorf("%s: %s", path, got.body)
		}
	}
}

func TestUnknownOperations(t *testing.T) {
	f := open(t)
	for _, c := range []struct{ method, target, says string }{
		{"GET", "/", "control plane"},
		{"GET", "/", "GET /. "},
		{"POST", "/", "endpoint"},
		{"GET", "/CreateRoom", "POST"},
		{"PUT", "/CreateRoom", "PUT /CreateRoom"},
		{"POST", "/createroom", "POST /createroom"},
		{"POST", "/CreateRoom/", "POST /CreateRoom/"},
		{"POST", "/CreateChannel", "POST /CreateRoom"},
		{"GET", "/favicon.ico", "/favicon.ico"},
		{"PUT", "/tags/arn%3Aaws%3Aivschat%3Aus-west-2%3A123456789012%3Aroom%2FAbCdEf123456", "DELETE"},
		{"HEAD", "/tags/x", "GET"},
		{"GET", "/tags", "/tags"},
		{"GET", "/tags%2Fx", "/tags%2Fx"},
		{"POST", "/TagResource", "/TagResource"},
		{"OPTIONS", "/CreateRoom", "POST"},
		{"GET", "/" + strings.Repeat("long", 1000), "..."},
	} {
		for _, signed := range []bool{true, false} {
			f.caller = admin
			if !signed {
				f.caller.AccessKeyID = ""
			}
			got := f.send(f.request(c.method, c.target, ""))
			message, _ := got.json["message"].(string)
			if got.json["reason"] != "UNKNOWN_OPERATION" || !strings.Contains(message, c.says) || len(message) > 600 {
				t.Errorf("%s %s, signed %v: %s, want it to say %q", c.method, c.target, signed, got.body, c.says)
			}
		}
	}
	f.headers = map[string]string{"Connection": "Upgrade", "Upgrade": "websocket"}
	if got := f.send(f.request("GET", "/", "")); !strings.Contains(got.body, "messaging port") {
		t.Error("a chat client at the wrong port is not told so:", got.body)
	}
}

// FuzzRoute routes, decodes and checks whatever is sent, and renders what comes
// of it, behind a signature that is taken for good.
func FuzzRoute(f *testing.F) {
	for _, s := range []struct{ method, target, body string }{
		{"POST", "/CreateRoom", `{"name":"n","tags":{"k":"v"}}`},
		{"POST", "/base/CreateChatToken", `{"roomIdentifier":"arn:aws:ivschat:us-west-2:123456789012:room/AbCdEf123456","userId":"u","capabilities":["SEND_MESSAGE"]}`},
		{"GET", "/tags/arn%3Aaws%3Aivschat%3Aus-west-2%3A123456789012%3Aroom%2FAbCdEf123456", ""},
		{"POST", "/tags/arn:aws:ivschat:us-west-2:123456789012:room/AbCdEf123456", `{"tags":{"a":"b"}}`},
		{"DELETE", "/tags/arn%3Aaws%3Aivschat%3Aus-west-2%3A123456789012%3Aroom%2F%ff-%00?tagKeys=a%20b&tagKeys=%zz&tagKeys", ""},
		{"GET", "/", ""}, {"POST", "*", "{"}, {"PUT", "//tags//tags/", "\xff"}, {"POST", "/UpdateRoom", `{"identifier":1,"identifier":2}`},
	} {
		f.Add(s.method, s.target, []byte(s.body))
	}
	h := &Handler{eventBytes: 1024}
	f.Fuzz(func(t *testing.T, method, target string, body []byte) {
		r, err := http.NewRequest(method, "http://host/", nil)
		if err != nil {
			return // net/http refuses it
		}
		if r.URL, err = r.URL.Parse(target); err != nil {
			return
		}
		c := &call{scope: scope}
		err = c.route(r)
		if err == nil {
			err = c.operation.read(h, c, body)
		}
		if err == nil {
			if c.request == nil || c.access.resource == "" {
				t.Fatalf("%s %s: passed without a request or a resource: %+v", method, target, c)
			}
			return
		}
		a := render(c, err)
		if a.status != 400 || a.kind != ivschat.Validation || a.cause != nil {
			t.Fatalf("%s %s %q: %v", method, target, body, err)
		}
		if message := decode(t, string(a.body))["message"]; message == "" || message == nil {
			t.Fatalf("no message: %s", a.body)
		}
	})
}

// FuzzTagRoute checks that an ARN in a path, escaped or not, is found as it is.
func FuzzTagRoute(f *testing.F) {
	f.Add("arn:aws:ivschat:us-west-2:123456789012:room/AbCdEf123456", "", "a b", true)
	f.Add("arn:aws:ivschat:us-west-2:123456789012:room/CreateRoom", "/base", "+&=", false)
	f.Add("x%2Fy", "/tags", "\xff日", true)
	f.Add("", "", "", true)
	f.Fuzz(func(t *testing.T, arn, base, key string, escape bool) {
		if strings.Contains(arn, tagPath) || byName[arn[strings.LastIndexByte(arn, '/')+1:]] != nil && !strings.HasPrefix(arn, "arn:") {
			return // could be meant otherwise
		}
		const hex = "0123456789ABCDEF"
		all := func(s string) string {
			var b strings.Builder
			for i := range len(s) {
				b.WriteString(string([]byte{'%', hex[s[i]>>4], hex[s[i]&15]}))
			}
			return b.String()
		}
		path := all(arn)
		if !escape {
			for i := range len(arn) {
				if c := arn[i]; !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == ':' || c == '/' || c == '-') {
					return
				}
			}
			path = arn
		}
		r := httptest.NewRequest("DELETE", "/", nil)
		var err error
		if r.URL, err = r.URL.Parse("http://host/" + strings.Trim(all(base), "/") + "/tags/" + path + "?tagKeys=" + all(key)); err != nil {
			t.Fatal(err)
		}
		c := &call{}
		if err := c.route(r); err != nil {
			t.Fatalf("%s: %v", r.URL, err)
		}
		if keys, err := tagKeys(c.query); err != nil || len(keys) != 1 || keys[0] != key {
			t.Fatalf("%s: keys %q, %v", r.URL, keys, err)
		}
		if c.operation.name != ivschat.OpUntagResource || c.path != ivschat.ARN(arn) {
			t.Fatalf("%s: %s %q, want %q", r.URL, c.operation.name, c.path, arn)
		}
	})
}
