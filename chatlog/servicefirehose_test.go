package chatlog_test

import (
	"fmt"
	"sync"
)

// firehoseService is Firehose as its API reference has it.
type firehoseService struct {
	*service

	mu      sync.Mutex
	streams map[string][]string // data of the records
	refuses func(i int) string  // the error code of a record; nil = none
	answers func(out map[string]any)
}

func newFirehoseService() *firehoseService {
	f := &firehoseService{streams: map[string][]string{}}
	f.service = jsonService("firehose", "Firehose_20150804", map[string]operation{
		"PutRecordBatch": f.putRecordBatch, "DescribeDeliveryStream": f.describe,
	})
	return f
}

func (f *firehoseService) putRecordBatch(body []byte) (any, *exception) {
	var in struct {
		DeliveryStreamName string
		Records            []struct{ Data []byte }
	}
	if refusal := decode(body, &in); refusal != nil {
		return nil, refusal
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.streams[in.DeliveryStreamName]; !ok {
		return nil, &exception{"ResourceNotFoundException", "Firehose " + in.DeliveryStreamName + " under account 123456789012 not found."}
	}
	bytes := 0
	for _, r := range in.Records {
		if bytes += len(r.Data); len(r.Data) > 1000<<10 {
			return nil, &exception{"ValidationException", "Member must have length less than or equal to 1024000"}
		}
	}
	switch n := len(in.Records); {
	case n == 0 || n > 500:
		return nil, &exception{"ValidationException", fmt.Sprintf("%d records; member must have length between 1 and 500", n)}
	case bytes > 4<<20:
		return nil, &exception{"InvalidArgumentException", fmt.Sprintf("%d bytes; records size exceeds 4 MB limit", bytes)}
	}
	responses, failed := []map[string]string{}, 0
	for i, r := range in.Records {
		if f.refuses != nil {
			if code := f.refuses(i); code != "" {
				failed++
				responses = append(responses, map[string]string{"ErrorCode": code, "ErrorMessage": "not taken: " + string(r.Data)})
				continue
			}
		}
		f.streams[in.DeliveryStreamName] = append(f.streams[in.DeliveryStreamName], string(r.Data))
		responses = append(responses, map[string]string{"RecordId": fmt.Sprint("id", i)})
	}
	out := map[string]any{"FailedPutCount": failed, "Encrypted": false, "RequestResponses": responses}
	if f.answers != nil {
		f.answers(out)
	}
	return out, nil
}

func (f *firehoseService) describe(body []byte) (any, *exception) {
	var in struct{ DeliveryStreamName string }
	if refusal := decode(body, &in); refusal != nil {
		return nil, refusal
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.streams[in.DeliveryStreamName]; !ok {
		return nil, &exception{"ResourceNotFoundException", "not found"}
	}
	return map[string]any{"DeliveryStreamDescription": map[string]any{"DeliveryStreamName": in.DeliveryStreamName, "DeliveryStreamStatus": "ACTIVE"}}, nil
}

func (f *firehoseService) create(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.streams[name] = []string{}
}

func (f *firehoseService) hide(name string, gone bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	from, to := name, "hidden "+name
	if !gone {
		from, to = to, from
	}
	f.streams[to] = f.streams[from]
	delete(f.streams, from)
}

func (f *firehoseService) data(name string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.streams[name]...)
}

// failing changes how records fail.
func (f *firehoseService) failing(by func(i int) string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refuses = by
}
