package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
)

// The review handlers that the rooms name.
const (
	rulesHandler = "arn:aws:lambda:us-west-2:000000000000:function:rules"
	httpHandler  = "arn:aws:lambda:us-west-2:000000000000:function:http"
)

// benchReview measures the steady load in rooms whose messages are reviewed by
// built-in rules and by an HTTP handler in this process that allows everything at
// once, beside the same load in rooms without a review handler.
func benchReview(binaryPath, dir string) error {
	handler, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: http.HandlerFunc(allow)}
	go func() { _ = server.Serve(handler) }() // until Close
	defer server.Close()
	words := make([]string, 100)
	for i := range words {
		words[i] = fmt.Sprintf("forbidden%c%c", 'a'+i/10, 'a'+i%10)
	}
	handlers := fmt.Sprintf(`{"%s": {rules: {deny_words: [%s], mask_words: [darn], deny_links: true, max_caps: 0.8, max_repeats: 20}}, "%s": {http: {url: "http://%s/"}}}`,
		rulesHandler, strings.Join(words, ", "), httpHandler, handler.Addr())
	variants := []struct{ name, handler string }{{"no handler", ""}, {"rules", rulesHandler}, {"HTTP", httpHandler}}
	for _, s := range shapes {
		var t table
		for i := range *runs {
			all := map[string]reviewFigures{}
			order := slices.Clone(variants)
			if i%2 == 1 {
				slices.Reverse(order)
			}
			for _, v := range order {
				data := filepath.Join(dir, fmt.Sprint("review", s.rooms, i, strings.ReplaceAll(v.name, " ", "-")))
				f, err := measureReview(binaryPath, data, s, v.name, handlers, v.handler)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", s.name, v.name, err)
				}
				all[v.name] = f
			}
			for _, v := range variants {
				f, plain := all[v.name], all["no handler"]
				t.addSteady(v.name, f.steadyFigures, f.cpu)
				if v.handler != "" {
					t.add(v.name+": messages without a verdict in time", f.fallbacks)
					t.add(v.name+" ÷ no handler, p99", f.p99/plain.p99)
					t.add(v.name+" ÷ no handler, CPU a message", f.cpu/plain.cpu)
				}
			}
		}
		t.print(fmt.Sprintf("review: %s, %d viewers a room", s.name, steadyViewers))
	}
	return nil
}

type reviewFigures struct {
	steadyFigures
	cpu       float64 // µs a message
	fallbacks float64 // messages that were allowed since there was no verdict
}

// measureReview runs the load on a server of its own; handler "" is none.
func measureReview(binaryPath, data string, s shape, name, handlers, handler string) (f reviewFigures, err error) {
	p, err := hubbub(binaryPath, data, "--review-handlers", handlers)
	if err != nil {
		return f, err
	}
	defer p.stop()
	members := ""
	if handler != "" {
		members = `"messageReviewHandler":{"uri":"` + handler + `","fallbackResult":"ALLOW"}`
	}
	rooms, err := createRooms(p, s.rooms, members)
	if err != nil {
		return f, err
	}
	if f.steadyFigures, err = runSteady(p, rooms, s.profile("review", name)); err != nil {
		return f, err
	}
	f.cpu = float64((p.cpu() - f.used).Microseconds()) / float64(f.messages)
	if handler == "" {
		return f, nil
	}
	all, err := p.metric("hubbub_review_seconds_count", "")
	if err == nil && all != float64(f.messages) {
		err = fmt.Errorf("%.0f verdicts on %d messages", all, f.messages)
	}
	if err != nil {
		return f, err
	}
	f.fallbacks, err = p.metric("hubbub_review_seconds_count", "fallback_allow")
	return f, err
}

// allow answers with the content that it was asked about.
func allow(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	_, content, _ := bytes.Cut(body, []byte(`{"Content":`))
	content, _, ok := bytes.Cut(content, []byte(`,"MessageId":`))
	if err != nil || !ok {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = fmt.Fprintf(w, `{"ReviewResult":"ALLOW","Content":%s}`, content)
}
