package conformance

import (
	"bufio"
	"cmp"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/firehose"
	firehosetypes "github.com/aws/aws-sdk-go-v2/service/firehose/types"
	"github.com/aws/aws-sdk-go-v2/service/ivschat"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
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

// TestLogsInMoto reads the logs back as people do: with the SDKs of the services.
func TestLogsInMoto(t *testing.T) {
	url := startMoto(t)
	config := aws.Config{Region: "us-west-2", BaseEndpoint: &url, Credentials: credentials.NewStaticCredentialsProvider(sinkKey, sinkSecret, "")}
	buckets := awss3.NewFromConfig(config, func(o *awss3.Options) { o.UsePathStyle = true })
	groups, streams := cloudwatchlogs.NewFromConfig(config), firehose.NewFromConfig(config)
	ctx := limited(t)
	for _, bucket := range []string{"logs", "from-firehose"} {
		if _, err := buckets.CreateBucket(ctx, &awss3.CreateBucketInput{Bucket: &bucket,
			CreateBucketConfiguration: &s3types.CreateBucketConfiguration{LocationConstraint: "us-west-2"}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := groups.CreateLogGroup(ctx, &cloudwatchlogs.CreateLogGroupInput{LogGroupName: aws.String("logs")}); err != nil {
		t.Fatal(err)
	}
	if _, err := streams.CreateDeliveryStream(ctx, &firehose.CreateDeliveryStreamInput{DeliveryStreamName: aws.String("logs"),
		ExtendedS3DestinationConfiguration: &firehosetypes.ExtendedS3DestinationConfiguration{
			BucketARN: aws.String("arn:aws:s3:::from-firehose"), RoleARN: aws.String("arn:aws:iam::123456789012:role/logs")}}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "hubbub.yaml")
	target := fmt.Sprintf(`{endpoint: %q, region: us-west-2, flush: 100ms`, url)
	text := "logging:\n  s3: " + target + ", path_style: true}\n  cloudwatch_logs: " + target + "}\n  firehose: " + target + "}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, "--limits", "none", "--config", file)
	c := s.client()
	_, err := c.CreateLoggingConfiguration(ctx, &ivschat.CreateLoggingConfigurationInput{DestinationConfiguration: toBucket("missing")})
	wantError(t, err, "ResourceNotFoundException", 404)
	room := loggedRoom(t, c, loggedTo(t, c, toBucket("logs")), loggedTo(t, c, toGroup("logs")), loggedTo(t, c, toStream("logs")))
	alice := watch(t, connect(t, s, c, room, "alice", every))
	for i := range 3 {
		alice.sayAll(fmt.Sprintf("<é𝄞> %d", i), 20)
		s.delivered(t)
	}
	want := alice.records()

	objects := func(bucket string) (texts []string) {
		t.Helper()
		var keys []string
		for p := awss3.NewListObjectsV2Paginator(buckets, &awss3.ListObjectsV2Input{Bucket: &bucket}); p.HasMorePages(); {
			page, err := p.NextPage(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range page.Contents {
				keys = append(keys, *o.Key)
			}
		}
		slices.Sort(keys)
		for _, key := range keys {
			out, err := buckets.GetObject(ctx, &awss3.GetObjectInput{Bucket: &bucket, Key: &key})
			if err != nil {
				t.Fatal(err)
			}
			var from io.Reader = out.Body
			if strings.HasSuffix(key, ".gz") {
				if from, err = gzip.NewReader(out.Body); err != nil {
					t.Fatal(err)
				}
			}
			text, err := io.ReadAll(from)
			if err != nil {
				t.Fatal(err)
			}
			texts = append(texts, string(text))
			_ = out.Body.Close()
		}
		return texts
	}
	// Objects that begin with the same millisecond, or that Firehose made in the same
	// second, have no order in their keys.
	lines := func(texts []string) []string {
		all := strings.Split(strings.TrimSuffix(strings.Join(texts, ""), "\n"), "\n")
		slices.SortStableFunc(all, func(a, b string) int { return cmp.Compare(sendTime(a), sendTime(b)) })
		return all
	}
	same(t, "S3", lines(objects("logs")), want)
	same(t, "Firehose", lines(objects("from-firehose")), want)
	events, err := groups.GetLogEvents(ctx, &cloudwatchlogs.GetLogEventsInput{LogGroupName: aws.String("logs"), LogStreamName: aws.String("aws/IVSChatLogs/1.0/room_" + idOf(room)), StartFromHead: aws.Bool(true)})
	if err != nil {
		t.Fatal(err)
	}
	var messages []string
	for _, e := range events.Events {
		messages = append(messages, *e.Message)
	}
	same(t, "CloudWatch Logs", messages, want)
}
