package engine

import "time"

// Everything that is stored, on one page. A bucket is a JetStream stream named
// KV_<bucket> with a subject $KV.<bucket>.<key> for each key and one message
// per subject; the used chat tokens and the outbox of chat logs are streams of
// batches.
const (
	// RoomsBucket has a record for each room, key <region>.<account>.<id>: the
	// room with its tags and logging configurations, so that it is made whole.
	RoomsBucket = "rooms"

	// LoggingConfigurationsBucket has a record for each logging configuration,
	// key <region>.<account>.<id>.
	LoggingConfigurationsBucket = "logging_configurations"

	// KeysBucket has the secrets of the service: the key ring of chat tokens, the
	// key of list cursors, and the room that `hubbub dev` shows.
	KeysBucket = "keys"

	usedTokensStream  = "USED_TOKENS"
	usedTokensSubject = "used.tokens"

	// outboxStream has the records of chat logs in batches, subject chatlog.<key>
	// with a key for each set of logging configurations that a room has:
	// <region>.<account>.<id>, with '_' between the ids if there are more.
	outboxStream = "CHATLOG"
	outboxPrefix = "chatlog."

	// outboxMarksStream has one message: what each configuration has acknowledged
	// of what the outbox has.
	outboxMarksStream  = "CHATLOG_MARKS"
	outboxMarksSubject = "marks.chatlog"
)

const (
	// A used token must be remembered as long as it could be redeemed: at most
	// a session, 180 minutes. The margin covers clocks that are set back.
	usedTokensAge = 4 * time.Hour

	// A deleted key leaves a marker, so that its deletion is ordered among the
	// key's writes; the marker goes after this time.
	markerAge = time.Hour

	// A write in a cluster may have to wait for an election of 4 to 9 seconds.
	writeTimeout = 10 * time.Second
)
