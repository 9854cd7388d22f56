package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"

	"hubbub/chatlog"
	"hubbub/ivschat"
)

type logsCmd struct {
	Cat catCmd `cmd:"" help:"Read chat logs back: sorted by time, each record once."`
}

type catCmd struct {
	Sources []string `arg:"" name:"source" help:"A folder, a .log or .log.gz file, s3://BUCKET/PREFIX, or - for standard input."`

	Room           string `help:"Records of this room only; other rooms' objects are not even read." placeholder:"ID|ARN"`
	User           string `help:"Messages of this user only, and the events that disconnected them." placeholder:"ID"`
	From           string `help:"Records sent then or later; RFC 3339, or a duration back from now, as 2h." placeholder:"TIME"`
	To             string `help:"Records sent before then." placeholder:"TIME"`
	Type           string `help:"Records of this type only: message or event." placeholder:"TYPE"`
	WithoutDeleted bool   `help:"Leave out messages that an aws:DELETE_MESSAGE event of the room names, also a later one than --to. Messages of users who were disconnected stay."`
	KeepDuplicates bool   `help:"Print every copy of a record: logs are delivered at least once."`
	Format         string `help:"json, the records as they were logged, or text, for people." placeholder:"FORMAT" default:"json"`

	Endpoint  string `help:"S3-compatible server, for s3://; default: AWS, or what the AWS SDK's environment names." placeholder:"URL"`
	PathStyle bool   `help:"Put the bucket into the path of S3 requests, not into the host name."`
	Region    string `help:"Region of the bucket; default: that of the AWS SDK's environment." placeholder:"REGION"`
}

// Help says what does not fit into a line.
func (catCmd) Help() string {
	return `A folder may have any of the layouts that the logging destinations write: objects in the key layout of S3 (as "aws s3 sync" copies them), CloudWatch Logs streams and Firehose files, mixed as well.

Records are sorted by SendTime. Objects of the S3 layout are read hour by hour; every other file is read whole before anything is printed, and so is everything with --without-deleted. What does not fit into 64 MiB of memory is sorted in a temporary file in $TMPDIR.

What cannot be read, as damaged lines, gzip that is cut off, or files that are no chat logs, is named on standard error; the rest is printed, and the exit status is 1. Firehose files and single files do not say which room they are of, so --room reports them and leaves them out.`
}

func (c *catCmd) Run(ctx context.Context) error {
	reader, err := c.reader(time.Now())
	if err != nil {
		return err
	}
	sources, err := c.open(ctx)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(os.Stdout, 64<<10)
	problems, err := reader.Each(ctx, sources, func(l *chatlog.Line) error {
		if c.Format == "text" {
			_, err := out.Write(l.AppendText(out.AvailableBuffer()))
			return err
		}
		_, _ = out.Write(l.Text) // an error stays: the next write has it
		return out.WriteByte('\n')
	})
	if err == nil {
		err = out.Flush()
	}
	switch {
	case errors.Is(err, syscall.EPIPE): // nobody reads on, as before `| head`
		return nil
	case err != nil:
		return err
	case problems > 0:
		return errors.New("not everything could be read; the rest was printed")
	}
	return nil
}

// reader understands the flags that choose.
func (c *catCmd) reader(now time.Time) (*chatlog.Reader, error) {
	r := &chatlog.Reader{
		Room: c.Room, User: c.User, WithoutDeleted: c.WithoutDeleted, KeepDuplicates: c.KeepDuplicates,
		Report: func(p chatlog.Problem) { fmt.Fprintf(os.Stderr, "hubbub: %s\n", p) },
	}
	switch c.Type {
	case "":
	case "message":
		r.Type = ivschat.MessageRecord
	case "event":
		r.Type = ivschat.EventRecord
	default:
		return nil, fmt.Errorf("--type: %q is no type; write message or event", c.Type)
	}
	if c.Format != "json" && c.Format != "text" {
		return nil, fmt.Errorf("--format: %q is no format; write json or text", c.Format)
	}
	var err error
	if r.From, err = point("--from", c.From, now); err != nil {
		return nil, err
	}
	if r.To, err = point("--to", c.To, now); err != nil {
		return nil, err
	}
	if !r.From.IsZero() && !r.To.IsZero() && !r.From.Before(r.To) {
		return nil, fmt.Errorf("--from %s is not before --to %s: nothing lies between", c.From, c.To)
	}
	return r, nil
}

// point is a time that was given, or zero.
func point(flag, given string, now time.Time) (time.Time, error) {
	if given == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, given); err == nil {
		return t, nil
	}
	if back, err := time.ParseDuration(given); err == nil && back >= 0 {
		return now.Add(-back), nil
	}
	return time.Time{}, fmt.Errorf("%s: %q is no time; write for example 2025-08-14T05:00:00Z, or 2h for two hours ago", flag, given)
}

// open makes the sources of the arguments.
func (c *catCmd) open(ctx context.Context) (sources []chatlog.Source, err error) {
	var client *s3.Client
	input := false
	for _, s := range c.Sources {
		rest, inBucket := strings.CutPrefix(s, "s3://")
		bucket, prefix, _ := strings.Cut(rest, "/")
		switch {
		case s == "-" && input:
			return nil, errors.New("standard input (-) can be read once only")
		case s == "-":
			input = true
			sources = append(sources, chatlog.FromReader("standard input", os.Stdin))
		case inBucket && bucket == "":
			return nil, fmt.Errorf("%q names no bucket; write s3://BUCKET or s3://BUCKET/PREFIX", s)
		case inBucket:
			if client == nil {
				if client, err = c.client(ctx); err != nil {
					return nil, err
				}
			}
			sources = append(sources, chatlog.FromBucket(client, bucket, prefix))
		default:
			sources = append(sources, chatlog.FromPath(s))
		}
	}
	if client == nil && (c.Endpoint != "" || c.PathStyle || c.Region != "") {
		return nil, errors.New("--endpoint, --path-style and --region are for s3://BUCKET, and no such source was named")
	}
	return sources, nil
}

// client is one with the credentials that every tool of AWS finds.
func (c *catCmd) client(ctx context.Context) (*s3.Client, error) {
	loaded, err := config.LoadDefaultConfig(ctx, config.WithRegion(c.Region), config.WithLogger(logging.Nop{}))
	if err != nil {
		return nil, fmt.Errorf("read the AWS SDK's configuration: %w", err)
	}
	if loaded.Region == "" {
		if c.Endpoint == "" && loaded.BaseEndpoint == nil {
			return nil, errors.New("the region of the bucket is not known; write --region, or set AWS_REGION")
		}
		loaded.Region = "us-east-1" // servers of one's own take any
	}
	return s3.NewFromConfig(loaded, func(o *s3.Options) {
		if c.Endpoint != "" {
			o.BaseEndpoint = aws.String(c.Endpoint)
		}
		o.UsePathStyle = o.UsePathStyle || c.PathStyle
	}), nil
}
