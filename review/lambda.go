package review

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"hubbub/ivschat"
)

// lambdaIdle is how long a connection to a Lambda endpoint is kept.
const lambdaIdle = time.Minute

// lambdaCaller invokes functions of one endpoint. Source: spec review-handler 1, 4, 5.
type lambdaCaller struct {
	client *lambda.Client
	region string // "" = the function's
}

// call invokes the function and waits for its answer; only status 200 is one.
// For an endpoint that enforces resource policies, the signed headers say for
// which room and account it is asked.
func (l *lambdaCaller) call(ctx context.Context, uri string, room ivschat.ARN, request []byte) ([]byte, error) {
	region := l.region
	if region == "" {
		function, err := arn.Parse(uri)
		if err != nil || !regionPattern.MatchString(function.Region) {
			return nil, &failure{reason: network, err: errors.New("the ARN has no region")}
		}
		region = function.Region
	}
	name, _ := room.Parse()
	out, err := l.client.Invoke(ctx, &lambda.InvokeInput{
		FunctionName: &uri, InvocationType: types.InvocationTypeRequestResponse, Payload: request,
	}, func(o *lambda.Options) {
		o.Region = region
		// Added when the request is built, and so signed.
		o.APIOptions = append(o.APIOptions,
			smithyhttp.SetHeaderValue("X-Amz-Source-Arn", string(room)),
			smithyhttp.SetHeaderValue("X-Amz-Source-Account", name.Account))
	})
	switch {
	case err != nil:
		return nil, lambdaFailure(err)
	case out.StatusCode != http.StatusOK:
		return nil, &failure{reason: badStatus, err: fmt.Errorf("status %d", out.StatusCode)}
	case out.FunctionError != nil:
		return nil, &failure{reason: functionError}
	}
	return out.Payload, nil
}

// codePattern is what a code of Lambda looks like; anything else is not shown.
var codePattern = regexp.MustCompile(`^[A-Za-z0-9._]{1,64}$`)

// lambdaFailure classifies an error of the client. The message of an API error
// is left out: it may repeat what the endpoint could not read.
func lambdaFailure(err error) *failure {
	var credentials *credentialsError
	if errors.As(err, &credentials) {
		return &failure{reason: noCredentials, err: credentials.err}
	}
	var answer *smithyhttp.ResponseError
	if errors.As(err, &answer) && answer.HTTPStatusCode() != 0 && answer.HTTPStatusCode() != http.StatusOK {
		var api smithy.APIError
		if errors.As(err, &api) && codePattern.MatchString(api.ErrorCode()) {
			return &failure{reason: badStatus, err: fmt.Errorf("status %d: %s", answer.HTTPStatusCode(), api.ErrorCode())}
		}
		return &failure{reason: badStatus, err: fmt.Errorf("status %d", answer.HTTPStatusCode())}
	}
	return &failure{reason: network, err: unanswered(err)}
}

// builder makes targets of handlers for New.
type builder struct {
	ctx      context.Context
	options  Options
	reviewer *Reviewer

	usual, dev *aws.Config // loaded when first needed
}

func (b *builder) target(h Handler) (target, error) {
	if err := h.Check(); err != nil {
		return target{}, err
	}
	switch {
	case h.Rules != nil:
		rules, err := h.Rules.compile()
		return target{rules: rules}, err
	case h.HTTP != nil:
		client := b.reviewer.newClient(&http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true}, httpIdle)
		return target{caller: &httpCaller{client, h.HTTP.URL}}, nil
	}
	cfg, err := b.config(h.Lambda)
	if err != nil {
		return target{}, err
	}
	transport := awshttp.NewBuildableClient().GetTransport()
	if own, ok := cfg.HTTPClient.(*awshttp.BuildableClient); ok {
		transport = own.GetTransport() // with the certificates of AWS_CA_BUNDLE
	}
	client := b.reviewer.newClient(transport, lambdaIdle)
	return target{caller: &lambdaCaller{lambda.NewFromConfig(*cfg, func(o *lambda.Options) {
		o.HTTPClient = client
		o.Retryer = aws.NopRetryer{} // there is no time for it
		o.Logger = logging.Nop{}     // what matters comes back as an error
		if h.Lambda.Endpoint != "" {
			o.BaseEndpoint = &h.Lambda.Endpoint
		}
	}), h.Lambda.Region}}, nil
}

// config is the AWS configuration that a handler is called with.
func (b *builder) config(l *Lambda) (*aws.Config, error) {
	if l.Endpoint == "" || b.options.DevCredentials == nil {
		if b.usual == nil {
			cfg, err := config.LoadDefaultConfig(b.ctx)
			if err != nil {
				return nil, fmt.Errorf("AWS configuration: %w", err)
			}
			b.usual = b.keep(cfg, cfg.Credentials)
		}
		return b.usual, nil
	}
	if b.dev == nil {
		cfg, err := config.LoadDefaultConfig(b.ctx, config.WithEC2IMDSClientEnableState(imds.ClientDisabled))
		if err != nil {
			return nil, fmt.Errorf("AWS configuration: %w", err)
		}
		b.dev = b.keep(cfg, aws.NewCredentialsCache(firstOf{cfg.Credentials, b.options.DevCredentials}))
	}
	return b.dev, nil
}

// keep has the credentials fetched now and kept fresh until the reviewer is closed.
func (b *builder) keep(cfg aws.Config, source aws.CredentialsProvider) *aws.Config {
	fresh := &credentials{source: source, log: b.reviewer.log}
	cfg.Credentials = fresh
	b.reviewer.running.Go(func() { fresh.keep(b.reviewer.ctx) })
	return &cfg
}
