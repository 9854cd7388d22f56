package engine

import "time"

// Everything that is stored, on one page. A bucket is a JetStream stream named
// KV_<bucket> with a subject $KV.<bucket>.<key> for each key and one message
// per subject; the used chat tokens and the outbox of chat logs are streams of
// batches.
const (
	// ResourcesBucket has a record for each room and each logging configuration,
	// key <region>.<account>.<type>.<id>: whole, with its tags and, of a room, its
	// logging configurations. They are in one bucket so that a write can be made to
	// depend on all of them.
	ResourcesBucket = "resources"

	// KeysBucket has the secrets of the service: the key ring of chat tokens, the
	// key of list cursors, and the room that `hubbub dev` shows.
	KeysBucket = "keys"

	// In a cluster what is written to a bucket is published again, so that every
	// node can follow: idx.<bucket>.<key>.
	changesPrefix = "idx."

	// What nodes tell one another is stored nowhere: bus.tell.<subject>, questions to
	// all, bus.ask.all.<subject>, and to one run of a node, bus.ask.<run>.<subject>,
	// and what a run is answered, bus.answer.<run>.
	busPrefix      = "bus.tell."
	questionPrefix = "bus.ask."
	toAll          = "all"
	answerPrefix   = "bus.answer."

	usedTokensStream  = "USED_TOKENS"
	usedTokensSubject = "used.tokens"

	// usedTokensBucket is the same in a cluster: a key for each token, which goes
	// when its time is over.
	usedTokensBucket = "used_tokens"
)

// outboxNames are the streams of an outbox: of records in batches, subject
// chatlog.<key> with a key for each set of logging configurations that a room has,
// <region>.<account>.<id>, with '_' between the ids if there are more; and of one
// message that says what each configuration has acknowledged of them. In a cluster
// each node has its own: what it wrote, it delivers, or another while it is gone.
type outboxNames struct{ stream, prefix, marksStream, marksSubject string }

// marksOfNode does not begin like the other stream, whatever nodes are called.
const marksOfNode = "MARKS_CHATLOG_"

func outboxOf(node string) outboxNames {
	if node == "" {
		return outboxNames{"CHATLOG", "chatlog.", "CHATLOG_MARKS", "marks.chatlog"}
	}
	return outboxNames{"CHATLOG_" + node, "chatlog." + node + ".", marksOfNode + node, "marks.chatlog." + node}
}

const (
	// A used token must be remembered as long as it could be redeemed: at most
	// a session, 180 minutes. The margin covers clocks that are set back.
	usedTokensAge = 4 * time.Hour

	// A write in a cluster may have to wait for an election of 4 to 9 seconds.
	writeTimeout = 10 * time.Second

	// A leader that is there answers within milliseconds; one that hands over, or is
	// gone, not at all. A request has this time, then twice as much, up to the most.
	firstTry = 250 * time.Millisecond
	lastTry  = 2 * time.Second
	tryPause = 25 * time.Millisecond // if there is nobody to ask
)

// A deleted key leaves a marker, so that its deletion is ordered among the
// key's writes; the marker goes after this time. Tests shorten it.
var markerAge = time.Hour
