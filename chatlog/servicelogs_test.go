package chatlog_test

import (
	"fmt"
	"sync"
	"time"
	"unicode/utf8"
)

// logsService is CloudWatch Logs as its API reference has it.
type logsService struct {
	*service

	mu      sync.Mutex
	now     time.Time
	groups  map[string]map[string][]string // messages by stream by group
	creates int
	forgets bool // streams are made and are not there
}

type logEvent struct {
	Timestamp int64  `json:"timestamp"`
	Message   string `json:"message"`
}

func newLogsService(now time.Time) *logsService {
	l := &logsService{now: now, groups: map[string]map[string][]string{}}
	l.service = jsonService("logs", "Logs_20140328", map[string]operation{
		"PutLogEvents": l.putLogEvents, "CreateLogStream": l.createLogStream, "DescribeLogStreams": l.describeLogStreams,
	})
	return l
}

func (l *logsService) putLogEvents(body []byte) (any, *exception) {
	var in struct {
		LogGroupName, LogStreamName string
		LogEvents                   []logEvent
	}
	if refusal := decode(body, &in); refusal != nil {
		return nil, refusal
	}
	if refusal := checkLogEvents(in.LogEvents); refusal != nil {
		return nil, refusal
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	streams, ok := l.groups[in.LogGroupName]
	if !ok {
		return nil, &exception{"ResourceNotFoundException", "The specified log group does not exist."}
	}
	if _, ok := streams[in.LogStreamName]; !ok {
		return nil, &exception{"ResourceNotFoundException", "The specified log stream does not exist."}
	}
	// Too old to 14 days, too new from 2 hours.
	begin, end := 0, len(in.LogEvents)
	for i, e := range in.LogEvents {
		at := time.UnixMilli(e.Timestamp)
		if l.now.Sub(at) > 14*24*time.Hour {
			begin = i + 1
		}
		if at.Sub(l.now) > 2*time.Hour && end == len(in.LogEvents) {
			end = i
		}
	}
	info := map[string]int{}
	if begin > 0 {
		info["tooOldLogEventEndIndex"] = begin
	}
	if end < len(in.LogEvents) {
		info["tooNewLogEventStartIndex"] = end
	}
	for _, e := range in.LogEvents[begin:max(begin, end)] {
		streams[in.LogStreamName] = append(streams[in.LogStreamName], e.Message)
	}
	out := map[string]any{"nextSequenceToken": "49590302"}
	if len(info) > 0 {
		out["rejectedLogEventsInfo"] = info
	}
	return out, nil
}

// checkLogEvents has the constraints of a batch.
func checkLogEvents(events []logEvent) *exception {
	bytes := 0
	for i, e := range events {
		bytes += len(e.Message) + 26
		switch {
		case e.Message == "" || !utf8.ValidString(e.Message):
			return &exception{"InvalidParameterException", "Log event message must be text."}
		case i > 0 && e.Timestamp < events[i-1].Timestamp:
			return &exception{"InvalidParameterException", "Log events in a single PutLogEvents request must be in chronological order."}
		}
	}
	switch n := len(events); {
	case n == 0 || n > 10_000:
		return &exception{"InvalidParameterException", fmt.Sprintf("%d log events; must have length between 1 and 10000", n)}
	case bytes > 1_048_576:
		return &exception{"InvalidParameterException", fmt.Sprintf("Upload too large: %d bytes exceeds limit of 1048576", bytes)}
	case events[n-1].Timestamp-events[0].Timestamp > 24*time.Hour.Milliseconds():
		return &exception{"InvalidParameterException", "The batch of log events in a single PutLogEvents request cannot span more than 24 hours."}
	}
	return nil
}

func (l *logsService) createLogStream(body []byte) (any, *exception) {
	var in struct{ LogGroupName, LogStreamName string }
	if refusal := decode(body, &in); refusal != nil {
		return nil, refusal
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.creates++
	streams, ok := l.groups[in.LogGroupName]
	if !ok {
		return nil, &exception{"ResourceNotFoundException", "The specified log group does not exist."}
	}
	if l.forgets {
		return map[string]any{}, nil
	}
	if _, ok := streams[in.LogStreamName]; ok {
		return nil, &exception{"ResourceAlreadyExistsException", "The specified log stream already exists"}
	}
	streams[in.LogStreamName] = []string{}
	return map[string]any{}, nil
}

func (l *logsService) describeLogStreams(body []byte) (any, *exception) {
	var in struct {
		LogGroupName string
		Limit        int
	}
	if refusal := decode(body, &in); refusal != nil {
		return nil, refusal
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.groups[in.LogGroupName]; !ok {
		return nil, &exception{"ResourceNotFoundException", "The specified log group does not exist."}
	}
	return map[string]any{"logStreams": []any{}}, nil
}

func (l *logsService) createLogGroup(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.groups[name] = map[string][]string{}
}

// hide takes a group away and gives it back with what it holds.
func (l *logsService) hide(name string, gone bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	from, to := name, "hidden "+name
	if !gone {
		from, to = to, from
	}
	l.groups[to] = l.groups[from]
	delete(l.groups, from)
}

func (l *logsService) messages(group, stream string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.groups[group][stream]...)
}
