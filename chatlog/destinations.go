package chatlog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/firehose"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"

	"hubbub/ivschat"
)

// Target says where the destinations of one kind live. The zero value is the AWS
// service in the region of the logging configuration.
type Target struct {
	Endpoint  string        // URL of a server that speaks like the service; "" = the service
	PathStyle bool          // S3: the bucket stands in the path, not in the host
	Region    string        // that requests are signed for; "" = that of the logging configuration
	Directory string        // a folder for files of the same layout; goes before the others
	Flush     time.Duration // how long a record waits for others at most; 0 = 5 min for S3, else 5 s
}

// Targets says what a server has destinations of. A kind that is nil is not
// configured on it.
type Targets struct {
	S3, CloudWatchLogs, Firehose *Target

	// DevCredentials sign requests to targets with an Endpoint if the SDK's chain
	// has no credentials; the machine's metadata service is not asked then, which
	// takes seconds where there is none. nil = the chain alone.
	DevCredentials aws.CredentialsProvider

	Log *slog.Logger // nil = nowhere
}

// Destinations makes destinations of logging configurations. They share
// credentials and connections. It is safe for use by many goroutines.
type Destinations struct {
	targets     Targets
	directories map[string]*directory // by the path as it was configured
	transports  []*http.Transport

	// nil if the kind is not configured, or is a directory.
	s3             *s3.Client
	cloudWatchLogs *cloudwatchlogs.Client
	firehose       *firehose.Client
}

// The kinds of destination, by their keys in the configuration.
const (
	kindS3             = "s3"
	kindCloudWatchLogs = "cloudwatch_logs"
	kindFirehose       = "firehose"
)

// checkTime is how long Check waits.
const checkTime = 5 * time.Second

// destination is one that can be asked whether it is there.
type destination interface {
	Destination
	exists(ctx context.Context) error // a *Failure if not
}

// OpenDestinations reads the SDK's configuration if a target needs it, and makes
// the folders of those that are directories. It calls no service, except that a
// configuration of the SDK may name one that gives credentials. ctx is only used
// until OpenDestinations returns.
func OpenDestinations(ctx context.Context, t Targets) (*Destinations, error) {
	if t.Log == nil {
		t.Log = slog.New(slog.DiscardHandler)
	}
	d := &Destinations{targets: t, directories: map[string]*directory{}}
	clients := map[string]func(aws.Config, *Target){
		kindS3:             d.openS3,
		kindCloudWatchLogs: d.openCloudWatchLogs,
		kindFirehose:       d.openFirehose,
	}
	configs := map[bool]aws.Config{} // by whether it is for servers of our own
	for kind, target := range map[string]*Target{kindS3: t.S3, kindCloudWatchLogs: t.CloudWatchLogs, kindFirehose: t.Firehose} {
		switch {
		case target == nil:
		case target.Directory != "":
			if d.directories[target.Directory] != nil {
				break // two kinds may share one, with what guards its names
			}
			at, err := openDirectory(target.Directory)
			if err != nil {
				return nil, fmt.Errorf("make the folder of logging.%s.directory: %w", kind, err)
			}
			d.directories[target.Directory] = at
		default:
			ours := target.Endpoint != "" && t.DevCredentials != nil
			c, loaded := configs[ours]
			if !loaded {
				var err error
				if c, err = d.load(ctx, ours, target.Region); err != nil {
					return nil, fmt.Errorf("read the AWS SDK's configuration for logging.%s: %w", kind, err)
				}
				configs[ours] = c
			}
			clients[kind](c, target)
		}
	}
	return d, nil
}

// load reads the environment and the shared files, as every tool of AWS does.
func (d *Destinations) load(ctx context.Context, ours bool, region string) (aws.Config, error) {
	options := []func(*config.LoadOptions) error{
		config.WithDefaultRegion(region),       // for the services that give credentials
		config.WithLogger(logging.Nop{}),       // the SDK would write to standard error
		config.WithHTTPClient(newHTTPClient()), // takes AWS_CA_BUNDLE
	}
	if ours {
		options = append(options, config.WithEC2IMDSClientEnableState(imds.ClientDisabled))
	}
	c, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return aws.Config{}, err
	}
	last := aws.IsCredentialsProvider(c.Credentials, (*ec2rolecreds.Provider)(nil))
	if ours && last {
		c.Credentials = aws.NewCredentialsCache(d.targets.DevCredentials)
		return c, nil
	}
	c.Credentials = chain{c.Credentials, last}
	return c, nil
}

// chain is the SDK's chain of credentials, whose failures can be told.
type chain struct {
	aws.CredentialsProvider
	last bool // only the machine's role is left
}

// Retrieve returns *noCredentials if there are none. No answer in time is an
// answer if only the metadata service is left: most machines have none.
func (c chain) Retrieve(ctx context.Context) (aws.Credentials, error) {
	found, err := c.CredentialsProvider.Retrieve(ctx)
	if err == nil || ctx.Err() != nil && !c.last {
		return found, err
	}
	return found, &noCredentials{says(err)}
}

// The bounds of a kind's connections. The deliveries decide how many calls
// there are at once; what is idle is kept for the next batch.
const (
	maxConnections     = 256
	maxIdleConnections = 64
	idleConnection     = 90 * time.Second
	connectTime        = 5 * time.Second // half of an attempt
)

func newHTTPClient() *awshttp.BuildableClient {
	return awshttp.NewBuildableClient().
		WithDialerOptions(func(d *net.Dialer) { d.Timeout = connectTime }).
		WithTransportOptions(func(t *http.Transport) {
			t.MaxConnsPerHost = maxConnections
			t.MaxIdleConns = maxIdleConnections
			t.MaxIdleConnsPerHost = maxIdleConnections
			t.IdleConnTimeout = idleConnection
			t.TLSHandshakeTimeout = connectTime
			// A dead connection of HTTP/2 would be used for attempt after attempt.
			t.ForceAttemptHTTP2 = false
			t.Protocols = new(http.Protocols)
			t.Protocols.SetHTTP1(true)
		})
}

// caller is the client of one kind, with connections of its own. It follows no
// redirect: the records are for the server that the operator named.
func (d *Destinations) caller(c aws.Config) *http.Client {
	t := newHTTPClient().GetTransport()
	if b, ok := c.HTTPClient.(*awshttp.BuildableClient); ok {
		t = b.GetTransport()
	}
	d.transports = append(d.transports, t)
	return &http.Client{
		Transport:     t,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func endpoint(t *Target) *string {
	if t.Endpoint == "" {
		return nil
	}
	return &t.Endpoint
}

// The SDK does not retry: deliveries do, with the pauses of all of them in view.

func (d *Destinations) openS3(c aws.Config, t *Target) {
	d.s3 = s3.NewFromConfig(c, func(o *s3.Options) {
		o.BaseEndpoint, o.UsePathStyle = endpoint(t), t.PathStyle
		o.HTTPClient, o.Retryer = d.caller(c), aws.NopRetryer{}
		// Checksums in trailers are more than many S3-compatible servers know.
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
	})
}

func (d *Destinations) openCloudWatchLogs(c aws.Config, t *Target) {
	d.cloudWatchLogs = cloudwatchlogs.NewFromConfig(c, func(o *cloudwatchlogs.Options) {
		o.BaseEndpoint, o.HTTPClient, o.Retryer = endpoint(t), d.caller(c), aws.NopRetryer{}
	})
}

func (d *Destinations) openFirehose(c aws.Config, t *Target) {
	d.firehose = firehose.NewFromConfig(c, func(o *firehose.Options) {
		o.BaseEndpoint, o.HTTPClient, o.Retryer = endpoint(t), d.caller(c), aws.NopRetryer{}
	})
}

// Open makes the destination of a logging configuration, without a call to it.
// Its error is a *Failure, NotFound and Final, if this server has none of that kind.
func (d *Destinations) Open(c *ivschat.LoggingConfiguration) (Destination, error) {
	name, _ := c.ARN.Parse()
	opened, kind := d.open(name.Region, c.DestinationConfiguration)
	if opened == nil {
		return nil, &Failure{Kind: NotFound, Class: Final, Err: errors.New(unconfigured(kind))}
	}
	return opened, nil
}

// open is nil if the kind is not configured.
func (d *Destinations) open(region string, to ivschat.DestinationConfiguration) (opened destination, kind string) {
	switch {
	case to.S3 != nil:
		t := d.targets.S3
		if t == nil {
			return nil, kindS3
		}
		flush := cmp.Or(t.Flush, objectFlush)
		if t.Directory != "" {
			return &objects{&folder{d.directories[t.Directory], to.S3.BucketName}, flush}, kindS3
		}
		return &objects{&bucket{client: d.s3, name: to.S3.BucketName, region: cmp.Or(t.Region, region)}, flush}, kindS3
	case to.CloudWatchLogs != nil:
		t := d.targets.CloudWatchLogs
		if t == nil {
			return nil, kindCloudWatchLogs
		}
		group, flush := to.CloudWatchLogs.LogGroupName, cmp.Or(t.Flush, lineFlush)
		if t.Directory != "" {
			// The name of the stream is ours, and its slashes make folders.
			file := func(room ivschat.ARN) string {
				return filepath.Join(fileName(group), filepath.FromSlash(logStream(room))+".log")
			}
			return &lineFiles{d.directories[t.Directory], "log group " + group, file, logEvents(flush)}, kindCloudWatchLogs
		}
		return &logGroup{d.cloudWatchLogs, group, cmp.Or(t.Region, region), flush}, kindCloudWatchLogs
	case to.Firehose != nil:
		t := d.targets.Firehose
		if t == nil {
			return nil, kindFirehose
		}
		stream, flush := to.Firehose.DeliveryStreamName, cmp.Or(t.Flush, lineFlush)
		if t.Directory != "" {
			file := func(ivschat.ARN) string { return fileName(stream) + ".log" }
			return &lineFiles{d.directories[t.Directory], "delivery stream " + stream, file, firehoseRecords(flush)}, kindFirehose
		}
		return &deliveryStream{d.firehose, stream, cmp.Or(t.Region, region), flush}, kindFirehose
	default:
		return nil, "s3, cloudwatch_logs or firehose" // the API lets no such configuration in
	}
}

func unconfigured(kind string) string {
	return fmt.Sprintf("this server has no destinations of the kind %[1]s: write `logging: {%[1]s: {endpoint: URL}}`, or `{directory: PATH}` in its place, into its configuration", kind)
}

// Check asks what can be asked cheaply before a configuration is created or
// changed: an *ivschat.Error NotFound if the destination is not there, or its
// kind not configured on this server, AccessDenied if it refuses. nil is also
// that it could not be told, which the log has: deliveries will find out.
// Source: spec control-plane 8.2.
func (d *Destinations) Check(ctx context.Context, s ivschat.Scope, to ivschat.DestinationConfiguration) error {
	opened, kind := d.open(s.Region, to)
	if opened == nil {
		return &ivschat.Error{Kind: ivschat.NotFound, Message: "Resource: " + named(to) + " not found: " + unconfigured(kind), Resource: s.Account}
	}
	defer opened.Close()
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	err := opened.exists(ctx)
	if err == nil {
		return nil
	}
	var f *Failure
	switch {
	case errors.As(err, &f) && f.Kind == NotFound:
		return &ivschat.Error{Kind: ivschat.NotFound, Message: "Resource: " + named(to) + " not found", Resource: s.Account}
	case errors.As(err, &f) && f.Kind == AccessDenied:
		d.targets.Log.WarnContext(ctx, "log destination refuses", "kind", kind, "destination", named(to), "err", err)
		return &ivschat.Error{Kind: ivschat.AccessDenied, Message: "This server may not write to " + named(to), Resource: s.Account}
	}
	d.targets.Log.WarnContext(ctx, "log destination could not be checked", "kind", kind, "destination", named(to), "err", err)
	return nil
}

// named is a destination in a caller's words.
func named(to ivschat.DestinationConfiguration) string {
	switch {
	case to.S3 != nil:
		return "bucket " + to.S3.BucketName
	case to.CloudWatchLogs != nil:
		return "log group " + to.CloudWatchLogs.LogGroupName
	case to.Firehose != nil:
		return "delivery stream " + to.Firehose.DeliveryStreamName
	default:
		return "destination"
	}
}

// Close drops idle connections. The destinations that were opened must not be
// used any more.
func (d *Destinations) Close() {
	for _, t := range d.transports {
		t.CloseIdleConnections()
	}
}
