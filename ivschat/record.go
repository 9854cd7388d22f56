package ivschat

import "time"

// RecordType is what a chat-log record is about: the Type of its payload.
type RecordType string

// The two types; ERROR frames are not logged. Source: spec logging 2.
const (
	MessageRecord RecordType = "MESSAGE"
	EventRecord   RecordType = "EVENT"
)

// Record is one line of a chat log: a frame that the viewers of a room got.
// Source: spec logging 3.
type Record struct {
	Room           ARN
	Configurations ARNs // that the room named when the request was received; shared, not to be changed
	Type           RecordType
	Received       time.Time // the frame's SendTime
	Payload        []byte    // the frame; shared, not to be changed
}

// recordTime has exactly three decimals. A format cuts off, it does not round.
const recordTime = "2006-01-02T15:04:05.000Z"

// Encode makes the JSON object, without an end of line. The payload stands in it
// byte for byte.
func (r Record) Encode() []byte {
	b := make([]byte, 0, len(r.Payload)+96)
	b = append(b, `{"event_timestamp":"`...)
	b = r.Received.UTC().AppendFormat(b, recordTime)
	b = append(b, `","type":"`...)
	b = append(b, r.Type...)
	b = append(b, `","payload":`...)
	b = append(b, r.Payload...)
	return append(b, `,"version":"1.0"}`...)
}
