// Command moderate is a review handler as a Lambda function in Go, with every way
// to answer and to fail that a test asks for.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"regexp"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
)

// The request and the response, as the documentation of the service has them.
type (
	request struct {
		Content    string
		MessageId  string
		RoomArn    string
		Attributes map[string]string
		Sender     sender
	}
	sender struct {
		Attributes map[string]string
		UserId     string
		Ip         string
	}
	response struct {
		ReviewResult string
		Content      string
		Attributes   map[string]string
	}
)

var (
	spam = regexp.MustCompile(`(?i)\bspam\b`)
	darn = regexp.MustCompile(`(?i)darn`)
)

func handle(_ context.Context, r request) (response, error) {
	switch {
	case r.Content == "boom":
		return response{}, errors.New("boom")
	case r.Content == "crash":
		os.Exit(1)
	case r.Content == "slow":
		time.Sleep(2 * time.Second)
	case r.Content == "nonsense":
		return response{ReviewResult: "PERHAPS", Content: r.Content}, nil
	case r.Content == "who":
		r.Content = ""
		b, err := json.Marshal(r)
		return response{ReviewResult: "ALLOW", Content: string(b)}, err
	case r.Content == "bare":
		return response{ReviewResult: "ALLOW", Content: r.Content, Attributes: map[string]string{}}, nil
	case spam.MatchString(r.Content):
		return response{ReviewResult: "DENY", Attributes: map[string]string{"Reason": "no spam, " + r.Sender.UserId}}, nil
	case darn.MatchString(r.Content):
		attributes := map[string]string{"masked": "true"}
		for k, v := range r.Attributes {
			attributes[k] = v
		}
		return response{ReviewResult: "ALLOW", Content: darn.ReplaceAllString(r.Content, "****"), Attributes: attributes}, nil
	}
	return response{ReviewResult: "ALLOW", Content: r.Content}, nil
}

func main() { lambda.Start(handle) }
