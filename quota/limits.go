package quota

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"hubbub/ivschat"
)

// Key names a quota in the configuration.
type Key string

// The quotas that are no rate of an operation. Those of the operations are made
// by OperationKey.
const (
	Rooms                 Key = "rooms"
	LoggingConfigurations Key = "logging_configurations"
	Connections           Key = "connections"
	SendMessage           Key = "send_message_per_second"
	ConnectionRequests    Key = "requests_per_connection_per_second"
	EventAttributes       Key = "event_attributes"
)

// The rates that the HTTP and the WebSocket form of an action share.
var (
	DeleteMessage  = OperationKey(ivschat.OpDeleteMessage)
	DisconnectUser = OperationKey(ivschat.OpDisconnectUser)
)

// OperationKey is the rate of an operation: "create_room_per_second".
func OperationKey(o ivschat.Operation) Key {
	var b strings.Builder
	for i, r := range string(o) {
		if unicode.IsUpper(r) && i > 0 {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return Key(b.String() + "_per_second")
}

// Limits are the quotas in force. The zero value limits nothing; make one with
// Strict, Relaxed or None.
type Limits struct {
	values map[Key]int // 0 = unlimited

	// RoomRates says whether a room's own maximumMessageRatePerSecond is held.
	RoomRates bool

	// http are the operations whose HTTP form is counted.
	http map[ivschat.Operation]bool
}

// published are the service's quotas. Source: spec quotas 1 and 2.
func published() map[Key]int {
	values := map[Key]int{
		Rooms: 50_000, LoggingConfigurations: 10, Connections: 50_000,
		SendMessage: 1_000, ConnectionRequests: 10, EventAttributes: ivschat.MaxAttributesBytes,
	}
	for _, o := range ivschat.Operations {
		n := 5 // rooms
		switch {
		case o == ivschat.OpDeleteMessage, o == ivschat.OpDisconnectUser, o == ivschat.OpSendEvent:
			n = 100
		case o == ivschat.OpCreateChatToken:
			n = 200
		case strings.Contains(string(o), "LoggingConfiguration"):
			n = 3
		case strings.Contains(strings.ToLower(string(o)), "tag"):
			n = 10
		}
		values[OperationKey(o)] = n
	}
	return values
}

// Strict is every quota as the service publishes it.
func Strict() Limits {
	l := Limits{values: published(), RoomRates: true, http: map[ivschat.Operation]bool{}}
	for _, o := range ivschat.Operations {
		l.http[o] = true
	}
	return l
}

// Relaxed is the same, but calls of the control plane are not throttled. The
// counters that DeleteMessage and DisconnectUser share then count the WebSocket
// form alone.
func Relaxed() Limits {
	l := Strict()
	clear(l.http)
	return l
}

// None has no rate and no count at all; only shapes hold.
func None() Limits {
	l := Limits{values: published(), http: map[ivschat.Operation]bool{}}
	for k := range l.values {
		if k != EventAttributes {
			l.values[k] = 0
		}
	}
	return l
}

// Level is the limits of that name: "strict", "relaxed" or "none".
func Level(name string) (Limits, error) {
	switch name {
	case "strict":
		return Strict(), nil
	case "relaxed":
		return Relaxed(), nil
	case "none":
		return None(), nil
	}
	return Limits{}, fmt.Errorf("no level %q: write strict, relaxed or none", name)
}

// Keys are the names of all quotas, in order.
func Keys() []Key {
	var keys []Key
	for k := range published() {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// Value is the quota of that name; 0 is unlimited.
func (l Limits) Value(k Key) int { return l.values[k] }

// EventAttributes is the most bytes of an event's attributes; less than 0 for no
// limit.
func (l Limits) EventAttributes() int {
	if n := l.values[EventAttributes]; n > 0 {
		return n
	}
	return -1
}

// Set changes one quota: a whole number, 0 for unlimited; event_attributes is a
// size with its unit ("4KiB"). The rate of an operation that is set is held
// whatever the level, for the HTTP form too. The error says what to write.
func (l *Limits) Set(name, value string) error {
	key := Key(name)
	if !slices.Contains(Keys(), key) {
		return fmt.Errorf("no limit %q: did you mean %q?", name, nearest(name))
	}
	n, err := strconv.Atoi(value)
	if key == EventAttributes {
		if n, err = size(value); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if err != nil || n < 0 || n > 1<<40 {
		return fmt.Errorf("%s: %q is not a whole number from 0 (unlimited) to %d", name, value, 1<<40)
	}
	values := map[Key]int{}
	for k, v := range l.values {
		values[k] = v
	}
	values[key] = n
	l.values = values
	for _, o := range ivschat.Operations {
		if OperationKey(o) == key {
			held := map[ivschat.Operation]bool{o: true}
			for k, v := range l.http {
				held[k] = held[k] || v
			}
			l.http = held
		}
	}
	return nil
}

func size(s string) (int, error) {
	if s == "0" {
		return 0, nil
	}
	for _, unit := range []struct {
		suffix string
		bytes  int
	}{{"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}} {
		if number, ok := strings.CutSuffix(s, unit.suffix); ok {
			n, err := strconv.Atoi(strings.TrimSpace(number))
			if err != nil || n < 0 || n > 1<<20 {
				break
			}
			return n * unit.bytes, nil
		}
	}
	return 0, fmt.Errorf("%q is not a size: write a whole number with its unit, B, KiB or MiB, like 4KiB", s)
}

// nearest is the key with the fewest changes from name.
func nearest(name string) Key {
	best, least := Key(""), 1<<30
	for _, k := range Keys() {
		if d := distance(name, string(k)); d < least {
			best, least = k, d
		}
	}
	return best
}

// distance counts insertions, deletions and replacements.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
