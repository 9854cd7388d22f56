package chatlog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/firehose"
	"github.com/aws/aws-sdk-go-v2/service/firehose/types"
)

// The bounds of PutRecordBatch. Source: API reference, PutRecordBatch.
const (
	maxFirehoseRecords = 500
	maxFirehoseBytes   = 4 << 20
)

// firehoseRecords is the layout of Firehose: all rooms together, since a
// delivery stream keeps no order.
func firehoseRecords(flush time.Duration) Layout {
	return Layout{
		Lane:       func(Entry) string { return "" },
		MaxEntries: maxFirehoseRecords,
		MaxBytes:   maxFirehoseBytes,
		Overhead:   1, // the end of line
		Flush:      flush,
	}
}

// deliveryStream is one of Firehose.
type deliveryStream struct {
	client *firehose.Client
	name   string
	region string
	flush  time.Duration
}

func (s *deliveryStream) regional(o *firehose.Options) { o.Region = s.region }

func (s *deliveryStream) Layout() Layout { return firehoseRecords(s.flush) }

func (s *deliveryStream) Put(ctx context.Context, entries []Entry) ([]int, int, error) {
	if len(entries) == 0 {
		return nil, 0, nil
	}
	records := make([]types.Record, len(entries))
	for i, e := range entries {
		line := make([]byte, 0, len(e.Line)+1)
		records[i] = types.Record{Data: append(append(line, e.Line...), '\n')}
	}
	doing := "PutRecordBatch to delivery stream " + s.name
	out, err := s.client.PutRecordBatch(ctx, &firehose.PutRecordBatchInput{DeliveryStreamName: &s.name, Records: records}, s.regional)
	if err != nil {
		return every(len(entries)), 0, failed(doing, err)
	}
	left, f := refused(doing, out, len(entries))
	if f != nil {
		return left, 0, f
	}
	return nil, 0, nil
}

// refused finds the records that a batch was taken without. An answer that
// contradicts itself is as good as none: everything is sent again.
func refused(doing string, out *firehose.PutRecordBatchOutput, records int) ([]int, *Failure) {
	count := int(aws.ToInt32(out.FailedPutCount))
	var left []int
	var worst *Failure
	for i, r := range out.RequestResponses {
		if r.ErrorCode == nil {
			continue
		}
		left = append(left, i)
		code := *r.ErrorCode
		if !plain(code) {
			code = "no reason that can be shown"
		}
		f := &Failure{Err: fmt.Errorf("%s: records were not taken: %s", doing, code)}
		f.Kind, f.Class = classify(*r.ErrorCode, 0)
		// One throttled record means that there are too many.
		if worst == nil || f.Class == Throttled && worst.Class != Throttled {
			worst = f
		}
	}
	if len(out.RequestResponses) != records || len(left) != count {
		return every(records), &Failure{Kind: Other, Class: Passing, Err: errors.New(doing + ": an answer that cannot be understood")}
	}
	return left, worst
}

func (s *deliveryStream) exists(ctx context.Context) error {
	in := &firehose.DescribeDeliveryStreamInput{DeliveryStreamName: &s.name}
	if _, err := s.client.DescribeDeliveryStream(ctx, in, s.regional); err != nil {
		return failed("DescribeDeliveryStream of "+s.name, err)
	}
	return nil
}

func (s *deliveryStream) Close() {}
