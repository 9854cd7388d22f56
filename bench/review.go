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
			all := map[string]steadyFigures{}
			cpu := map[string]float64{}
			order := slices.Clone(variants)
			if i%2 == 1 {
				slices.Reverse(order)
			}
			for _, v := range order {
				data := filepath.Join(dir, fmt.Sprint("review", s.rooms, i, strings.ReplaceAll(v.name, " ", "-")))
				f, used, err := measureReview(binaryPath, data, s, v.name, handlers, v.handler)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", s.name, v.name, err)
				}
				all[v.name], cpu[v.name] = f, used
			}
			for _, v := range variants {
				t.addSteady(v.name, all[v.name], cpu[v.name])
				if v.handler != "" {
					t.add(v.name+" ÷ no handler, p99", all[v.name].p99/all["no handler"].p99)
					t.add(v.name+" ÷ no handler, CPU a message", cpu[v.name]/cpu["no handler"])
				}
			}
		}
		t.print(fmt.Sprintf("review: %s, %d viewers a room", s.name, steadyViewers))
	}
	return nil
}

// measureReview runs the load on a server of its own and returns its processor
// time in µs a message, too. Every message must have had its verdict.
func measureReview(binaryPath, data string, s shape, name, handlers, handler string) (f steadyFigures, cpu float64, err error) {
	p, err := hubbub(binaryPath, data, "--review-handlers", handlers)
	if err != nil {
		return f, 0, err
	}
	defer p.stop()
	members := ""
	if handler != "" {
		members = `"messageReviewHandler":{"uri":"` + handler + `","fallbackResult":"DENY"}`
	}
	rooms, err := createRooms(p, s.rooms, members)
	if err != nil {
		return f, 0, err
	}
	if f, err = runSteady(p, rooms, profileOf("review", s, name)); err != nil {
		return f, 0, err
	}
	return f, float64((p.cpu() - f.used).Microseconds()) / float64(f.messages), nil
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
