package cloudwatch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/schemas"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
	"github.com/aws/smithy-go/transport/http/protocol/awsquery"
	"github.com/prometheus/client_golang/prometheus"
)

// Options are where metrics go and where they come from.
type Options struct {
	Endpoint string // URL of a server that speaks CloudWatch's query protocol; "" = the AWS service
	Region   string // "" = as the AWS SDK's environment says

	// Namespace of the metrics; "" = AWS/IVSChat, and then the connections are a
	// ResourceCount of AWS/Usage as well. AWS itself takes no namespace that begins
	// with AWS/ from its customers.
	Namespace string

	Interval time.Duration // of pushes, and what their times are aligned to; 0 = a minute

	Gather prometheus.Gatherer // of the server's metrics

	// DevCredentials sign requests to an Endpoint if the SDK's chain has nothing
	// but the machine's role to offer. nil = the chain alone.
	DevCredentials aws.CredentialsProvider

	Log *slog.Logger // nil = none
}

const (
	defaultInterval = time.Minute
	samples         = 12 // of the connections in an interval
	pushLimit       = 10 * time.Second
	complaintPause  = time.Minute // between two records of the log about pushes that fail

	// Of one PutMetricData. Source: CloudWatch API reference.
	maxData  = 1000
	maxBytes = 1_000_000
)

// Pusher pushes until it is closed. Make one with New.
type Pusher struct {
	// Read-only.
	put        func(context.Context, *cloudwatch.PutMetricDataInput) error
	interval   time.Duration
	gather     prometheus.Gatherer
	log        *slog.Logger
	stop, kill context.CancelFunc // no further push; none that is under way either
	loops      sync.WaitGroup
	due        chan struct{} // holds one: something is pending

	// Owned by the loop that reads, and by Close after it.
	meter  meter
	minute points
	begin  time.Time // of the minute

	// Owned by the loop that pushes, and by Close after it.
	failing   bool
	complaint time.Time // when the log was last told

	mu      sync.Mutex // guards the following
	pending points
	latest  time.Time // begin of the last minute in pending
}

// New begins to push. It fails if there is nowhere to push to, and does not try
// whether anybody answers there: an endpoint may come later.
func New(ctx context.Context, o Options) (*Pusher, error) {
	client, err := newClient(ctx, o)
	if err != nil {
		return nil, err
	}
	return start(o, func(ctx context.Context, in *cloudwatch.PutMetricDataInput) error {
		_, err := client.PutMetricData(ctx, in)
		return err
	}), nil
}

func newClient(ctx context.Context, o Options) (*cloudwatch.Client, error) {
	ours := o.Endpoint != "" && o.DevCredentials != nil
	options := []func(*config.LoadOptions) error{
		config.WithRegion(o.Region),
		config.WithLogger(logging.Nop{}), // the SDK would write to standard error
	}
	if ours {
		options = append(options, config.WithEC2IMDSClientEnableState(imds.ClientDisabled))
	}
	c, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("read the AWS SDK's configuration for metrics: %w", err)
	}
	if ours && aws.IsCredentialsProvider(c.Credentials, (*ec2rolecreds.Provider)(nil)) {
		c.Credentials = aws.NewCredentialsCache(o.DevCredentials)
	}
	if c.Region == "" {
		return nil, errors.New("metrics cannot be pushed: no region is set, and the AWS SDK's environment has none")
	}
	return cloudwatch.NewFromConfig(c, func(options *cloudwatch.Options) {
		if o.Endpoint != "" {
			options.BaseEndpoint = &o.Endpoint
			// The SDK's first choice is RPC v2 CBOR, which servers of one's own hardly
			// know (moto 5.2.1 does not). All of them, and AWS, speak the older form.
			options.Protocol = awsquery.New(schemas.GraniteServiceVersion20100801)
		}
	}), nil
}

// start begins to push with put.
func start(o Options, put func(context.Context, *cloudwatch.PutMetricDataInput) error) *Pusher {
	p := &Pusher{
		put: put, interval: cmp.Or(o.Interval, defaultInterval), gather: o.Gather, log: o.Log,
		due:   make(chan struct{}, 1),
		meter: meter{namespace: cmp.Or(o.Namespace, serviceNamespace)}, minute: points{}, pending: points{},
	}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	p.begin = time.Now().Truncate(p.interval)
	stopped, stop := context.WithCancel(context.Background())
	killed, kill := context.WithCancel(context.Background())
	p.stop, p.kill = stop, kill
	p.loops.Go(func() { p.readLoop(stopped) })
	p.loops.Go(func() { p.pushLoop(stopped, killed) })
	return p
}

// Close pushes what is left, for as long as ctx allows and 10 s at most, and
// stops. Its error is that of the last push; it is in the log, too, since what
// that one could not bring is lost.
func (p *Pusher) Close(ctx context.Context) error {
	p.stop()
	defer context.AfterFunc(ctx, p.kill)()
	p.loops.Wait() // at most for a push that is under way
	defer p.kill()
	p.read()
	p.endMinute(p.begin)
	_, failed := p.push(ctx)
	if failed != nil {
		p.log.Warn("the last metrics were not pushed and are lost", "err", failed)
	}
	return failed
}

// readLoop reads the registry some times a minute, and at its end.
func (p *Pusher) readLoop(ctx context.Context) {
	for {
		p.read()
		now := time.Now()
		if now.Before(p.begin) || !now.Before(p.begin.Add(p.interval)) { // over, or the clock was set back
			p.endMinute(now.Truncate(p.interval))
			select {
			case p.due <- struct{}{}:
			default: // it is known already
			}
		}
		wait := time.NewTimer(min(p.interval/samples, p.begin.Add(p.interval).Sub(now)))
		select {
		case <-ctx.Done():
			wait.Stop()
			return
		case <-wait.C:
		}
	}
}

func (p *Pusher) read() {
	families, err := p.gather.Gather() // what could be read comes with the error
	if err != nil {
		p.log.Debug("some metrics could not be read", "err", err)
	}
	p.meter.read(families, err == nil, p.minute)
}

// endMinute makes the minute's points wait for the next push, with those that wait
// already, and begins another.
func (p *Pusher) endMinute(next time.Time) {
	p.meter.zeros(p.minute)
	p.mu.Lock()
	lost := p.pending.add(p.minute)
	p.latest = p.begin
	p.mu.Unlock()
	if lost > 0 {
		p.log.Warn("metrics were dropped, since too many wait for a push", "series", lost)
	}
	p.minute, p.begin = points{}, next
}

func (p *Pusher) pushLoop(stopped, killed context.Context) {
	for {
		select {
		case <-stopped.Done():
			return
		case <-p.due:
			p.say(p.push(killed))
		}
	}
}

// push sends what is pending; what is not taken is pending again, but for the
// series that found no room, which are lost.
func (p *Pusher) push(ctx context.Context) (lost int, failed error) {
	ctx, cancel := context.WithTimeout(ctx, pushLimit)
	defer cancel()
	p.mu.Lock()
	taken, at := p.pending, p.latest
	p.pending = points{}
	p.mu.Unlock()

	left := points{}
	for _, batch := range batches(taken) {
		in := &cloudwatch.PutMetricDataInput{Namespace: aws.String(batch[0].namespace)}
		for _, s := range batch {
			in.MetricData = append(in.MetricData, datum(s, taken[s], at))
		}
		if err := p.put(ctx, in); err != nil {
			failed = cmp.Or(failed, fmt.Errorf("push metrics of %s: %w", batch[0].namespace, plain(err)))
			for _, s := range batch {
				left[s] = taken[s]
			}
		}
	}
	p.mu.Lock()
	lost = p.pending.add(left)
	p.mu.Unlock()
	return lost, failed
}

// say tells the log about failures, once and then once a minute, and when they
// are over.
func (p *Pusher) say(lost int, failed error) {
	switch now := time.Now(); {
	case failed == nil:
		if p.failing {
			p.log.Info("metrics are pushed again")
		}
		p.failing = false
	case !p.failing || now.Sub(p.complaint) >= complaintPause:
		p.log.Warn("metrics could not be pushed; they are added to the next push", "err", failed, "lost_series", lost)
		p.failing, p.complaint = true, now
	}
}

// batches cuts points into what one request may hold.
func batches(of points) (all [][]series) {
	sorted := slices.SortedFunc(maps.Keys(of), func(a, b series) int {
		return cmp.Or(cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.metric, b.metric), cmp.Compare(a.of, b.of))
	})
	size := 0
	for i, s := range sorted {
		n := len(all) - 1
		more := datumOverhead + len(s.metric) + len(s.dimension) + len(url.QueryEscape(s.of))
		if i == 0 || s.namespace != sorted[i-1].namespace || len(all[n]) == maxData || size+more > maxBytes {
			all, size = append(all, nil), 0
			n++
		}
		all[n] = append(all[n], s)
		size += more
	}
	return all
}

// datumOverhead is more than what the names of members, the time and the numbers
// of a datum take in the longer one of the encodings.
const datumOverhead = 700

// datum is a point as CloudWatch wants it.
func datum(s series, p point, at time.Time) types.MetricDatum {
	d := types.MetricDatum{MetricName: &s.metric, Timestamp: &at, Unit: types.StandardUnitCount}
	if p.samples == 0 {
		d.Value = &p.sum
	} else {
		d.StatisticValues = &types.StatisticSet{Minimum: &p.min, Maximum: &p.max, Sum: &p.sum, SampleCount: &p.samples}
	}
	if s.dimension != "" {
		d.Dimensions = []types.Dimension{{Name: &s.dimension, Value: &s.of}}
	}
	if s.namespace == usageNamespace {
		d.Dimensions = usageDimensions
	}
	return d
}

// Source: spec events-and-metrics 3.
var usageDimensions = []types.Dimension{
	{Name: aws.String("Service"), Value: aws.String("IVS Chat")},
	{Name: aws.String("Class"), Value: aws.String("None")},
	{Name: aws.String("Type"), Value: aws.String("Resource")},
	{Name: aws.String("Resource"), Value: aws.String("ConcurrentChatConnections")},
}

// plain is an answer of the service without the SDK's words around it.
func plain(err error) error {
	var said smithy.APIError
	if errors.As(err, &said) {
		return said
	}
	return err
}
