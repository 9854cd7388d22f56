package hubbub

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"hubbub/review"
)

const (
	moderate = "arn:aws:lambda:us-west-2:123456789012:function:moderate"
	words    = "arn:aws:lambda:us-west-2:123456789012:function:words:live"
)

// isRefused loads a file for dev, and wants what is wrong with it.
func isRefused(t *testing.T, file, want string) {
	t.Helper()
	path := write(t, "hubbub.yaml", file)
	_, err := Load(Dev, Sources{File: path})
	if d := cmp.Diff(strings.Split(want, "\n"), strings.Split(strings.ReplaceAll(errorText(err), path, "FILE"), "\n")); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestHandlersFromEverySource(t *testing.T) {
	want := map[string]review.Handler{
		moderate: {Lambda: &review.Lambda{Endpoint: "http://127.0.0.1:9001", Region: "us-west-2"}},
		words:    {Rules: &review.Rules{DenyWords: []string{"spam", "007", "no"}, MaskWords: []string{"darn"}, DenyLinks: true, MaxCaps: 0.8, MaxRepeats: 10}},
	}
	http := review.Handler{HTTP: &review.HTTP{URL: "http://me:secret@127.0.0.1:9002/review?key=1"}}
	flow := `{"` + moderate + `": {lambda: {endpoint: "http://127.0.0.1:9001", region: us-west-2}}, "` + words +
		`": {rules: {deny_words: [spam, 007, no], mask_words: [" darn "], deny_links: true, max_caps: 0.8, max_repeats: 10}}}`
	block := `
review:
  handlers: # by ARN
    ` + moderate + `:
      lambda:
        endpoint: http://127.0.0.1:9001
        region: us-west-2
    "` + words + `":
      rules:
        deny_words:
          - spam
          - 007
          - no
        mask_words: [darn]
        deny_links: true
        max_caps: .8
        max_repeats: 10
  default:
    http: {url: "http://me:secret@127.0.0.1:9002/review?key=1"}
`
	const asFlag = `{http: {url: http://me:secret@127.0.0.1:9002/review?key=1}}`
	for _, c := range []struct {
		sentence string
		from     Sources
	}{
		{"blocks in the file", Sources{File: write(t, "hubbub.yaml", block)}},
		{"variables", Sources{Env: []string{"HUBBUB_REVIEW_HANDLERS=" + flow, "HUBBUB_REVIEW_DEFAULT=" + asFlag}}},
		{"flags", Sources{Flags: map[string]string{"review.handlers": flow, "review.default": asFlag}}},
		{"flags in place of the file's", Sources{File: write(t, "hubbub.yaml", "review: {default: {lambda: {}}, handlers: {\""+moderate+"x\": {lambda: {}}}}\n"),
			Flags: map[string]string{"review.handlers": flow, "review.default": asFlag}}},
	} {
		l, err := Load(Dev, c.from)
		if err != nil {
			t.Errorf("%s: %v", c.sentence, err)
			continue
		}
		if d := cmp.Diff(want, l.Config.Review.Handlers) + cmp.Diff(&http, l.Config.Review.Default); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.sentence, d)
		}
	}
	l, err := Load(Dev, Sources{Flags: map[string]string{"review.handlers": "{}", "review.default": "{lambda: {}}"}})
	if d := cmp.Diff(&ReviewConfig{Default: &review.Handler{Lambda: &review.Lambda{}}}, l.Config.Review,
		cmpopts.IgnoreFields(ReviewConfig{}, "Timeout", "Concurrency"), cmpopts.EquateEmpty()); err != nil || d != "" {
		t.Errorf("a Lambda of the AWS service, and no handler by itself: %v (-want +got):\n%s", err, d)
	}
}

func TestHandlerProblemsNameLineAndRemedy(t *testing.T) {
	const kinds = "{lambda: {}}, {http: {url: URL}} or {rules: {deny_words: [WORD]}}"
	for _, c := range []struct{ sentence, review, want string }{ // the file's second line is the first of review
		{"an unknown kind", "default: {lamda: {}}", "FILE:2: review.default.lamda is no setting; did you mean review.default.lambda?"},
		{"a kind far from all", "default: {function: x}", "FILE:2: review.default.function is no setting"},
		{"an unknown key of lambda", "default:\n    lambda:\n      endpont: http://h", "FILE:4: review.default.lambda.endpont is no setting; did you mean review.default.lambda.endpoint?"},
		{"an unknown key of http", "default: {http: {uri: http://h}}", "FILE:2: review.default.http.uri is no setting; did you mean review.default.http.url?"},
		{"an unknown rule", "default: {rules: {deny_word: [a]}}", "FILE:2: review.default.rules.deny_word is no setting; did you mean review.default.rules.deny_words?"},
		{"an unknown key below an ARN", "handlers:\n    " + moderate + ":\n      lambda: {}\n      lamdba: {}", `FILE:5: review.handlers."` + moderate + `".lamdba is no setting; did you mean review.handlers."` + moderate + `".lambda?`},
		{"nothing that decides", "default: {}", "FILE:2: review.default is empty; write " + kinds},
		{"no value", "default:", "FILE:2: review.default has no value; write " + kinds},
		{"a name in place of a mapping", "default: lambda", "FILE:2: review.default takes keys with values: " + kinds},
		{"two that decide", "default: {lambda: {}, rules: {deny_links: true}}", "FILE:2: review.default has more than one of lambda, http and rules; keep the one that decides"},
		{"lambda without a mapping", "default: {lambda: }", "FILE:2: review.default.lambda has no value; write {} for the AWS service, or {endpoint: URL, region: REGION}"},
		{"a URL in place of a mapping", "default: {http: 'http://me:secret@h'}", "FILE:2: review.default.http takes keys with values: {url: URL}"},
		{"no URL", "default: {http: {}}", "FILE:2: review.default.http has no url; write {url: URL}"},
		{"an empty URL", "default: {http: {url: ''}}", "FILE:2: review.default.http.url: is empty; write a URL, or leave it out"},
		{"a URL without value", "default: {http: {url: }}", "FILE:2: review.default.http.url has no value; write URL, or remove the key"},
		{"a list of URLs", "default: {http: {url: [http://h]}}", "FILE:2: review.default.http.url takes one plain value: URL"},
		{"a URL of another scheme, its credentials not shown", "default: {http: {url: 'ws://me:secret@h'}}", "FILE:2: review.default.http.url: what is written (not shown, since it may hold a secret) " +
			"is no URL of http or https with a host; write for example http://127.0.0.1:9001"},
		{"a key of its own is not shown either", "default: {http: {url: 'h/?key=secret'}}", "FILE:2: review.default.http.url: what is written (not shown, since it may hold a secret) " +
			"is no URL of http or https with a host; write for example http://127.0.0.1:9001"},
		{"a region that is none", "default: {lambda: {region: Oregon}}", `FILE:2: review.default.lambda.region: "Oregon" is no region; write for example us-west-2 (lower-case letters, digits and hyphens, up to 32)`},
		{"an endpoint with a user", "default: {lambda: {endpoint: http://me@h}}", "FILE:2: review.default.lambda.endpoint: has a user, query or fragment, which signed requests cannot use; " +
			"write scheme, host and path alone, and give the credentials to the AWS SDK's usual chain (environment, shared files, roles)"},
		{"no rules", "default: {rules: {}}", "FILE:2: review.default.rules has no rule that is on, and would allow everything; write deny_words, mask_words, deny_links, max_caps or max_repeats below it"},
		{"no rule that is on", "default: {rules: {deny_links: false}}", "FILE:2: review.default.rules has no rule that is on, and would allow everything; write deny_words, mask_words, deny_links, max_caps or max_repeats below it"},
		{"words without a list", "default: {rules: {deny_words: spam}}", "FILE:2: review.default.rules.deny_words takes a list of words: [WORD, ...]"},
		{"an empty list of words", "default: {rules: {mask_words: []}}", "FILE:2: review.default.rules.mask_words is an empty list; name at least one word, or remove the key"},
		{"words that are none", "default:\n    rules:\n      deny_words:\n        - spam\n        - ' '\n        - [a]\n        -", "FILE:6: review.default.rules.deny_words has a word that is empty or no plain text; correct or remove it\n" +
			"FILE:7: review.default.rules.deny_words has a word that is empty or no plain text; correct or remove it\n" +
			"FILE:8: review.default.rules.deny_words has a word that is empty or no plain text; correct or remove it"},
		{"links that are neither", "default: {rules: {deny_links: yes}}", `FILE:2: review.default.rules.deny_links: "yes" is neither true nor false`},
		{"a share of nothing", "default: {rules: {max_caps: 0}}", `FILE:2: review.default.rules.max_caps: "0" is no share of letters; write a number above 0, up to 1, for example 0.8`},
		{"a share in percent", "default: {rules: {max_caps: 80}}", `FILE:2: review.default.rules.max_caps: "80" is no share of letters; write a number above 0, up to 1, for example 0.8`},
		{"a share that is no number", "default: {rules: {max_caps: .nan}}", `FILE:2: review.default.rules.max_caps: ".nan" is no share of letters; write a number above 0, up to 1, for example 0.8`},
		{"no repeats at all", "default: {rules: {max_repeats: 0}}", "FILE:2: review.default.rules.max_repeats: 0 is out of bounds; write something between 1 and 500"},
		{"more repeats than a message has", "default: {rules: {max_repeats: 501}}", "FILE:2: review.default.rules.max_repeats: 501 is out of bounds; write something between 1 and 500"},
		{"a name in place of an ARN", "handlers:\n    moderate: {lambda: {}}", `FILE:3: review.handlers: "moderate" is no ARN of a Lambda function; write it as the rooms name it, for example ` + moderate},
		{"the ARN of a room", "handlers: {\"arn:aws:ivschat:us-west-2:123456789012:room/a\": {lambda: {}}}", `FILE:2: review.handlers: "arn:aws:ivschat:us-west-2:123456789012:room/a" is no ARN of a Lambda function; ` +
			"write it as the rooms name it, for example " + moderate},
		{"handlers without ARN", "handlers: [lambda]", `FILE:2: review.handlers takes keys with values: {"` + moderate + `": {lambda: {}}}`},
		{"an ARN twice", "handlers:\n    " + moderate + ": {lambda: {}}\n    \"" + moderate + "\": {lambda: {}}", `FILE:4: is no valid YAML: mapping key "` + moderate + `" already defined at [3:5]`},
		{"an anchor", "default: &a {lambda: {}}", "FILE:2: review.default takes keys with values: " + kinds},
		{"a merge key", "default:\n    <<: {lambda: {}}\n    lambda: {}", "FILE:3: << is no plain key; merge keys, anchors and tags are not supported here"},
	} {
		t.Run(c.sentence, func(t *testing.T) { isRefused(t, "review:\n  "+c.review+"\n", c.want) })
	}
}

func TestHandlerProblemsOfFlagsAndVariables(t *testing.T) {
	for _, c := range []struct{ sentence, flag, want string }{
		{"the setting is not said twice", "{lamda: {}}", "--review-default: lamda is no setting; did you mean lambda?"},
		{"a value", "{http: {url: h}}", `--review-default: http.url: "h" is no URL of http or https with a host; write for example http://127.0.0.1:9001`},
		{"no mapping", "lambda", "--review-default: takes keys with values: {lambda: {}}, {http: {url: URL}} or {rules: {deny_words: [WORD]}}"},
		{"null", "~", "--review-default: has no value; write {lambda: {}}, {http: {url: URL}} or {rules: {deny_words: [WORD]}}"},
		{"an empty mapping", "{}", "--review-default: is empty; write {lambda: {}}, {http: {url: URL}} or {rules: {deny_words: [WORD]}}"},
		{"nothing", "", "--review-default: has no value; write HANDLER, or leave it out"},
		{"a comment", "# x", "--review-default: has no value; write HANDLER, or leave it out"},
		{"no YAML", "{lambda: {}", "--review-default: is no valid YAML: could not find flow mapping end token '}'"},
		{"two documents", "{lambda: {}}\n---\n{lambda: {}}", "--review-default:3: a second document begins here; put everything into one"},
		{"lines are told if there are more than one", "rules:\n  deny_word: [a]\n", "--review-default:2: rules.deny_word is no setting; did you mean rules.deny_words?"},
	} {
		t.Run(c.sentence, func(t *testing.T) {
			_, err := Load(Dev, Sources{Flags: map[string]string{"review.default": c.flag}})
			if got := errorText(err); got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
	_, err := Load(Dev, Sources{Env: []string{`HUBBUB_REVIEW_HANDLERS={"moderate": {lambda: {}}}`}})
	if got, want := errorText(err), `HUBBUB_REVIEW_HANDLERS: "moderate" is no ARN of a Lambda function; write it as the rooms name it, for example `+moderate; got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
