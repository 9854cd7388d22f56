package chatlog

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"

	"hubbub/ivschat"
)

// The bounds of PutLogEvents. Source: API reference, PutLogEvents.
const (
	maxLogEvents     = 10_000
	maxLogEventBytes = 1_048_576
	logEventOverhead = 26
	maxLogEventSpan  = 24 * time.Hour
	lineFlush        = 5 * time.Second // of Firehose, too; spec logging 5, 6
)

// logEvents is the layout of CloudWatch Logs: a stream for each room.
func logEvents(flush time.Duration) Layout {
	return Layout{
		Lane:       func(e Entry) string { return string(e.Room) },
		MaxEntries: maxLogEvents,
		MaxBytes:   maxLogEventBytes,
		Overhead:   logEventOverhead,
		MaxSpan:    maxLogEventSpan,
		Flush:      flush,
	}
}

// logStream names the stream of a room. Source: spec logging 5.
func logStream(room ivschat.ARN) string {
	return "aws/IVSChatLogs/" + logVersion + "/room_" + room.ID()
}

// logGroup is a group of CloudWatch Logs.
type logGroup struct {
	client *cloudwatchlogs.Client
	name   string
	region string
	flush  time.Duration
}

func (g *logGroup) regional(o *cloudwatchlogs.Options) { o.Region = g.region }

func (g *logGroup) Layout() Layout { return logEvents(g.flush) }

func (g *logGroup) Put(ctx context.Context, entries []Entry) ([]int, int, error) {
	if len(entries) == 0 {
		return nil, 0, nil
	}
	stream := logStream(entries[0].Room)
	in := &cloudwatchlogs.PutLogEventsInput{LogGroupName: &g.name, LogStreamName: &stream, LogEvents: inOrderOfTime(entries)}
	out, err := g.client.PutLogEvents(ctx, in, g.regional)
	if isMissing(err) {
		// The stream or its group; the group is what a stream cannot be made in.
		if err := g.create(ctx, stream); err != nil {
			return every(len(entries)), 0, failed("CreateLogStream in log group "+g.name, err)
		}
		out, err = g.client.PutLogEvents(ctx, in, g.regional)
	}
	if err != nil {
		return every(len(entries)), 0, failed("PutLogEvents to log group "+g.name, err)
	}
	return nil, rejected(out.RejectedLogEventsInfo, len(entries)), nil
}

// create makes a stream. That somebody was faster is as good.
func (g *logGroup) create(ctx context.Context, stream string) error {
	_, err := g.client.CreateLogStream(ctx, &cloudwatchlogs.CreateLogStreamInput{LogGroupName: &g.name, LogStreamName: &stream}, g.regional)
	var exists *types.ResourceAlreadyExistsException
	if errors.As(err, &exists) {
		return nil
	}
	return err
}

func isMissing(err error) bool {
	var missing *types.ResourceNotFoundException
	return errors.As(err, &missing)
}

// inOrderOfTime makes events that are sorted as PutLogEvents wants them; those
// of one millisecond keep the room's order.
func inOrderOfTime(entries []Entry) []types.InputLogEvent {
	events := make([]types.InputLogEvent, len(entries))
	for i, e := range entries {
		events[i] = types.InputLogEvent{Timestamp: aws.Int64(e.Received.UnixMilli()), Message: aws.String(string(e.Line))}
	}
	slices.SortStableFunc(events, func(a, b types.InputLogEvent) int { return int(*a.Timestamp - *b.Timestamp) })
	return events
}

// rejected counts the events of a batch that the service did not take and never
// will: those before an end that is too old or expired, and those from a start
// that is too new. Source: API reference, RejectedLogEventsInfo.
func rejected(r *types.RejectedLogEventsInfo, events int) int {
	if r == nil {
		return 0
	}
	within := func(i *int32, absent int) int {
		if i == nil {
			return absent
		}
		return min(max(int(*i), 0), events)
	}
	begin := max(within(r.TooOldLogEventEndIndex, 0), within(r.ExpiredLogEventEndIndex, 0))
	end := within(r.TooNewLogEventStartIndex, events)
	return events - max(end-begin, 0)
}

// exists asks for streams and not for groups: that needs no right to see others.
func (g *logGroup) exists(ctx context.Context) error {
	in := &cloudwatchlogs.DescribeLogStreamsInput{LogGroupName: &g.name, Limit: aws.Int32(1)}
	if _, err := g.client.DescribeLogStreams(ctx, in, g.regional); err != nil {
		return failed("DescribeLogStreams of log group "+g.name, err)
	}
	return nil
}

func (g *logGroup) Close() {}
