package control

import (
	"bufio"
	"bytes"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"hubbub/iam"
	"hubbub/ivschat"
)

// TestRecordedRequests sends what the official clients put on the wire through
// the whole handler, each at its date. The resources that they name do not
// exist, so that a 404 is as good as a 200; but every request is routed, its
// signature holds, and its body is understood.
func TestRecordedRequests(t *testing.T) {
	data, err := os.ReadFile("../sigv4/testdata/recorded-requests.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	f := open(t, func(f *fixture, _ *Options) { f.accept = func(string) bool { return true } })
	f.policy = iam.Dev(account, "AKIDEXAMPLE", "SECRETEXAMPLE")
	rows := 0
	// The recorder also sent what the model refuses, and cursors of its own.
	invalid := map[string]bool{"nextToken": true, "maxResults": true, "tags": true, "roomIdentifier": true, "destinationConfiguration": true, "sessionDurationInMinutes": true}
	reached := map[string]map[ivschat.Operation]bool{}
	for line := range bytes.Lines(data) {
		var row struct {
			Client  string      `json:"client"`
			Method  string      `json:"method"`
			URL     string      `json:"url"`
			Headers [][2]string `json:"headers"`
			Body    string      `json:"body"`
		}
		if err := json.Unmarshal(line, &row); err != nil {
			t.Fatal(err)
		}
		var wire bytes.Buffer
		wire.WriteString(row.Method + " " + row.URL + " HTTP/1.1\r\n")
		for _, h := range row.Headers {
			wire.WriteString(h[0] + ": " + h[1] + "\r\n")
		}
		wire.WriteString("\r\n" + row.Body)
		r, err := http.ReadRequest(bufio.NewReader(&wire))
		if err != nil {
			t.Fatal(err)
		}
		if f.at, err = time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date")); err != nil {
			t.Fatal(err)
		}
		got := f.send(r)
		rows++
		name := got.header.Get("x-amzn-ErrorType")
		switch {
		case got.status < 300 || name == string(ivschat.NotFound):
		case len(fields(got)) == 1 && invalid[fields(got)[0]]:
		case row.URL == "/NoSuchOperation" && got.json["reason"] == "UNKNOWN_OPERATION":
		default:
			t.Errorf("%s %s %s %s: %d %s", row.Client, row.Method, row.URL, row.Body, got.status, got.body)
		}
		c := &call{}
		if err := c.route(r); err != nil {
			continue
		}
		if reached[row.Client] == nil {
			reached[row.Client] = map[ivschat.Operation]bool{}
		}
		reached[row.Client][c.operation.name] = true
	}
	if rows < 200 {
		t.Errorf("%d rows, the file has over 200", rows)
	}
	for client, operations := range reached {
		if len(operations) != len(ivschat.Operations) {
			t.Errorf("%s reached %d operations", client, len(operations))
		}
	}
}
