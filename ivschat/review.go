package ivschat

import "net/netip"

// ReviewRequest is what a review handler gets of a message.
// Source: spec review-handler 2.
type ReviewRequest struct {
	Content    string
	MessageID  string
	Room       ARN
	Attributes map[string]string // nil is sent as {}, so that a handler may look into it unasked
	Sender     Sender
	IP         netip.Addr // of the sender; the zero value is sent as ""
}

// Encode makes the JSON that the handler gets.
func (r ReviewRequest) Encode() []byte {
	b := make([]byte, 0, 224+len(r.Content)+r.Sender.size()+AttributesBytes(r.Attributes)*5/4)
	b = append(b, `{"Content":`...)
	b = appendString(b, r.Content)
	b = append(b, `,"MessageId":`...)
	b = appendString(b, r.MessageID)
	b = append(b, `,"RoomArn":`...)
	b = appendString(b, string(r.Room))
	b = append(b, `,"Attributes":`...)
	if r.Attributes == nil {
		b = append(b, "{}"...)
	} else {
		b = appendStrings(b, r.Attributes)
	}
	b = append(b, `,"Sender":`...)
	b = r.Sender.append(b)
	b = append(b, `,"Ip":`...)
	ip := ""
	if r.IP.IsValid() {
		ip = r.IP.Unmap().WithZone("").String()
	}
	b = appendString(b, ip)
	return append(b, "}}"...)
}
