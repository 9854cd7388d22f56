package hubbub

import (
	"fmt"
	"strconv"
	"strings"

	"hubbub/ivschat"
	"hubbub/review"
)

// Where a review handler lives, as YAML: exactly one of
//
//	lambda: {endpoint: URL, region: REGION}   both may be left out
//	http: {url: URL}
//	rules: {deny_words: [WORD, ...], mask_words: [WORD, ...], deny_links: BOOL, max_caps: SHARE, max_repeats: NUMBER}
//
// review.default is one, review.handlers has one for each ARN.
// Source: design interface.md.

const (
	exampleHandler   = "{lambda: {}}, {http: {url: URL}} or {rules: {deny_words: [WORD]}}"
	exampleLambdaARN = "arn:aws:lambda:us-west-2:123456789012:function:moderate"
)

func readHandlers(b branch) func(*Config) {
	handlers := map[string]review.Handler{}
	for _, e := range b.entries(`{"` + exampleLambdaARN + `": {lambda: {}}}`) {
		if !ivschat.IsLambdaARN(e.name) {
			e.refuse("%s: %q is no ARN of a Lambda function; write it as the rooms name it, for example %s", b.path, e.name, exampleLambdaARN)
			continue
		}
		handlers[e.name] = readHandler(e.branch)
	}
	return func(c *Config) { c.review().Handlers = handlers }
}

func readDefault(b branch) func(*Config) {
	h := readHandler(b)
	return func(c *Config) { c.review().Default = &h }
}

func readHandler(b branch) (h review.Handler) {
	before := b.problems()
	given := b.members(exampleHandler,
		member{"lambda", func(b branch) {
			h.Lambda = &review.Lambda{}
			b.members("{} for the AWS service, or {endpoint: URL, region: REGION}",
				member{"endpoint", func(b branch) { b.scalar("URL", into(&h.Lambda.Endpoint, checkEndpoint)) }},
				member{"region", func(b branch) { b.scalar("REGION", into(&h.Lambda.Region, checkRegion)) }})
		}},
		member{"http", func(b branch) {
			h.HTTP = &review.HTTP{}
			before := b.problems()
			given := b.members("{url: URL}",
				member{"url", func(b branch) { b.scalar("URL", into(&h.HTTP.URL, checkURL)) }})
			if given == 0 && b.problems() == before {
				b.refuse("%s has no url; write {url: URL}", b.path)
			}
		}},
		member{"rules", func(b branch) { h.Rules = readRules(b) }})
	switch {
	case given > 1:
		b.refuse("%s has more than one of lambda, http and rules; keep the one that decides", b.path)
	case given == 0 && b.problems() == before:
		b.refuse("%s is empty; write %s", b.path, exampleHandler)
	}
	return h
}

func readRules(b branch) *review.Rules {
	var r review.Rules
	before := b.problems()
	b.members("{deny_words: [WORD]}",
		member{"deny_words", func(b branch) { r.DenyWords = b.words() }},
		member{"mask_words", func(b branch) { r.MaskWords = b.words() }},
		member{"deny_links", func(b branch) {
			b.scalar("true", func(v string) error { return boolean(func(*Config) *bool { return &r.DenyLinks })(nil, []string{v}) })
		}},
		member{"max_caps", func(b branch) {
			b.scalar("a share of letters like 0.8", func(v string) (err error) {
				r.MaxCaps, err = strconv.ParseFloat(v, 64)
				if err != nil || !(r.MaxCaps > 0 && r.MaxCaps <= 1) {
					return fmt.Errorf("%q is no share of letters; write a number above 0, up to 1, for example 0.8", v)
				}
				return nil
			})
		}},
		member{"max_repeats", func(b branch) {
			b.scalar("a number like 10", func(v string) (err error) {
				r.MaxRepeats, err = whole(v, 1, maxRepeats)
				return err
			})
		}})
	off := len(r.DenyWords) == 0 && len(r.MaskWords) == 0 && !r.DenyLinks && r.MaxCaps == 0 && r.MaxRepeats == 0
	if off && b.problems() == before {
		b.refuse("%s has no rule that is on, and would allow everything; write deny_words, mask_words, deny_links, max_caps or max_repeats below it", b.path)
	}
	return &r
}

// words are a list, even of one: "spam, scam" would be a word that nobody writes.
func (b branch) words() (words []string) {
	items, ok := b.list()
	if !ok {
		b.refuse("%s takes a list of words: [WORD, ...]", b.path)
		return nil
	}
	if len(items) == 0 {
		b.refuse("%s is an empty list; name at least one word, or remove the key", b.path)
	}
	for _, i := range items {
		word, plain := scalar(i.value)
		if !plain || strings.TrimSpace(word) == "" {
			i.refuse("%s has a word that is empty or no plain text; correct or remove it", b.path)
			continue
		}
		words = append(words, strings.TrimSpace(word))
	}
	return words
}

// into puts a value that passes its check.
func into(to *string, check func(string) error) func(string) error {
	return func(v string) error {
		if err := check(v); err != nil {
			return err
		}
		*to = v
		return nil
	}
}
