package chatlog_test

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/firehose"
	firehosetypes "github.com/aws/aws-sdk-go-v2/service/firehose/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"

	"hubbub/chatlog"
	"hubbub/ivschat"
)

// requireMoto makes the test fail where moto is not installed; CI sets it.
const requireMoto = "TEST_REQUIRE_MOTO"

// startMoto runs the server of the Python package moto, somebody else's picture
// of the three services, and returns its URL.
func startMoto(t *testing.T) string {
	t.Helper()
	missing := t.Skipf
	if os.Getenv(requireMoto) != "" {
		missing = t.Fatalf
	}
	if out, err := exec.CommandContext(t.Context(), "python3", "-c", "import moto.server").CombinedOutput(); err != nil {
		missing("moto's server is not here (pip install 'moto[server]==5.2.1'): %v\n%s", err, out)
	}
	c := exec.CommandContext(t.Context(), "python3", "-m", "moto.server", "-H", "127.0.0.1", "-p", "0")
	said, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	var drain sync.WaitGroup
	t.Cleanup(func() {
		_ = c.Process.Kill()
		drain.Wait()
		_ = c.Wait()
	})
	running := regexp.MustCompile(`Running on (http://127\.0\.0\.1:\d+)`)
	var all strings.Builder
	for lines := bufio.NewScanner(said); lines.Scan(); {
		all.WriteString(lines.Text() + "\n")
		if m := running.FindStringSubmatch(lines.Text()); m != nil {
			drain.Go(func() { _, _ = io.Copy(io.Discard, said) }) // it logs each request
			return m[1]
		}
	}
	t.Fatalf("moto's server did not start:\n%s", &all)
	return ""
}

// TestMoto delivers to another project's stand-ins, and reads what they have.
func TestMoto(t *testing.T) {
	url := startMoto(t)
	config := aws.Config{Region: serviceRegion, Credentials: devCredentials, BaseEndpoint: &url}
	buckets := s3.NewFromConfig(config, func(o *s3.Options) { o.UsePathStyle = true })
	groups, streams := cloudwatchlogs.NewFromConfig(config), firehose.NewFromConfig(config)
	target := &chatlog.Target{Endpoint: url, PathStyle: true}
	d := openTargets(t, chatlog.Targets{S3: target, CloudWatchLogs: target, Firehose: target})
	room := logRoom("abc123DEF456")
	ctx := t.Context()

	bucket := func(t *testing.T, name string) {
		t.Helper()
		in := &s3.CreateBucketInput{Bucket: &name}
		in.CreateBucketConfiguration = &s3types.CreateBucketConfiguration{LocationConstraint: serviceRegion}
		if _, err := buckets.CreateBucket(ctx, in); err != nil {
			t.Fatal(err)
		}
	}
	contents := func(t *testing.T, name string) map[string][]byte {
		t.Helper()
		objects := map[string][]byte{}
		list := s3.NewListObjectsV2Paginator(buckets, &s3.ListObjectsV2Input{Bucket: &name})
		for list.HasMorePages() {
			page, err := list.NextPage(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range page.Contents {
				out, err := buckets.GetObject(ctx, &s3.GetObjectInput{Bucket: &name, Key: o.Key})
				if err != nil {
					t.Fatal(err)
				}
				if out.ContentEncoding != nil || aws.ToString(out.ContentType) != "application/octet-stream" && name == "chat-logs" {
					t.Errorf("%s: type %v, encoding %v", *o.Key, aws.ToString(out.ContentType), aws.ToString(out.ContentEncoding))
				}
				if objects[*o.Key], err = io.ReadAll(out.Body); err != nil {
					t.Fatal(err)
				}
				_ = out.Body.Close()
			}
		}
		return objects
	}
	for _, c := range []struct {
		name   string
		to     ivschat.DestinationConfiguration
		create func(t *testing.T)
		lines  func(t *testing.T) []string
	}{
		{"S3", toS3, func(t *testing.T) { bucket(t, "chat-logs") }, func(t *testing.T) []string { return unpack(t, contents(t, "chat-logs")) }},
		{"CloudWatch Logs", toLogs, func(t *testing.T) {
			in := &cloudwatchlogs.CreateLogGroupInput{LogGroupName: &toLogs.CloudWatchLogs.LogGroupName}
			if _, err := groups.CreateLogGroup(ctx, in); err != nil {
				t.Fatal(err)
			}
		}, func(t *testing.T) (lines []string) {
			in := &cloudwatchlogs.GetLogEventsInput{
				LogGroupName: &toLogs.CloudWatchLogs.LogGroupName, LogStreamName: aws.String(logsStream), StartFromHead: aws.Bool(true),
			}
			out, err := groups.GetLogEvents(ctx, in)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range out.Events {
				lines = append(lines, *e.Message)
			}
			return lines
		}},
		{"Firehose", toFirehose, func(t *testing.T) {
			bucket(t, "from-firehose")
			in := &firehose.CreateDeliveryStreamInput{DeliveryStreamName: &toFirehose.Firehose.DeliveryStreamName}
			in.ExtendedS3DestinationConfiguration = &firehosetypes.ExtendedS3DestinationConfiguration{
				BucketARN: aws.String("arn:aws:s3:::from-firehose"), RoleARN: aws.String("arn:aws:iam::123456789012:role/logs"),
			}
			if _, err := streams.CreateDeliveryStream(ctx, in); err != nil {
				t.Fatal(err)
			}
		}, func(t *testing.T) (lines []string) {
			for _, b := range contents(t, "from-firehose") {
				lines = append(lines, split(t, b)...)
			}
			slices.Sort(lines) // the objects of one second have no order
			return lines
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			destination, err := d.Open(configurationOf(c.to))
			if err != nil {
				t.Fatal(err)
			}
			if err := d.Check(ctx, logScope, c.to); !errors.Is(err, ivschat.NotFound) {
				t.Errorf("Check before it is made: %v, want NotFound", err)
			}
			// Of now: it wants no events older than 14 days.
			entries := entriesOf(room, 0, 1200)
			now := time.Now().UTC().Truncate(time.Hour)
			for i := range entries {
				entries[i].Received = now.Add(time.Duration(i) * time.Millisecond)
			}
			putFails(t, destination, entries[:400], chatlog.NotFound, chatlog.Final)
			c.create(t)
			if err := d.Check(ctx, logScope, c.to); err != nil {
				t.Errorf("Check: %v", err)
			}
			for batch := range slices.Chunk(entries, 400) {
				mustPut(t, destination, batch)
			}
			sameLines(t, c.lines(t), linesOf(entries))
		})
	}
}
