package ivschat

import (
	"testing"
	"time"
)

func TestARecordHasThePayloadByteForByte(t *testing.T) {
	at := time.Date(2025, 8, 14, 5, 48, 40, 415514370, time.UTC)
	payload := `{"Type":"MESSAGE","Id":"9ojK4zRlO8QQ","RequestId":"","Attributes":null,"Content":"h\"i","SendTime":"2025-08-14T05:48:40.41551437Z","Sender":{"UserId":"u","Attributes":{}}}`
	for _, c := range []struct {
		name string
		at   time.Time
		want string
	}{
		{"decimals are cut off, not rounded", at, "2025-08-14T05:48:40.415Z"},
		{"trailing zeros stay", at.Truncate(time.Second), "2025-08-14T05:48:40.000Z"},
		{"close to the next millisecond", at.Truncate(time.Second).Add(330_999_999), "2025-08-14T05:48:40.330Z"},
		{"another zone is shown as UTC", at.In(time.FixedZone("", 3600)), "2025-08-14T05:48:40.415Z"},
	} {
		got := string(Record{Type: MessageRecord, Received: c.at, Payload: []byte(payload)}.Encode())
		want := `{"event_timestamp":"` + c.want + `","type":"MESSAGE","payload":` + payload + `,"version":"1.0"}`
		if got != want {
			t.Errorf("%s: got %s, want %s", c.name, got, want)
		}
	}
}
