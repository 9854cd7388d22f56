package ivschat_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"hubbub/ivschat"
)

// shape is a shape of the API model with its references resolved;
// testdata/model.json holds the inputs and outputs of all operations.
type shape struct {
	Type     string            `json:"type"`
	Min      *int              `json:"min"`
	Max      *int              `json:"max"`
	Pattern  string            `json:"pattern"`
	Enum     []string          `json:"enum"`
	Members  map[string]*shape `json:"members"`
	Required []string          `json:"required"`
	Member   *shape            `json:"member"`
	Key      *shape            `json:"key"`
	Value    *shape            `json:"value"`
	Union    bool              `json:"union"`
}

func model(t *testing.T) map[ivschat.Operation]struct{ Input, Output *shape } {
	t.Helper()
	b, err := os.ReadFile("testdata/model.json")
	if err != nil {
		t.Fatal(err)
	}
	var m map[ivschat.Operation]struct{ Input, Output *shape }
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

type checker interface{ Check() error }

func newRequest(o ivschat.Operation) checker {
	switch o {
	case ivschat.OpCreateChatToken:
		return &ivschat.CreateChatTokenRequest{}
	case ivschat.OpCreateLoggingConfiguration:
		return &ivschat.CreateLoggingConfigurationRequest{}
	case ivschat.OpCreateRoom:
		return &ivschat.CreateRoomRequest{}
	case ivschat.OpDeleteLoggingConfiguration:
		return &ivschat.DeleteLoggingConfigurationRequest{}
	case ivschat.OpDeleteMessage:
		return &ivschat.DeleteMessageRequest{}
	case ivschat.OpDeleteRoom:
		return &ivschat.DeleteRoomRequest{}
	case ivschat.OpDisconnectUser:
		return &ivschat.DisconnectUserRequest{}
	case ivschat.OpGetLoggingConfiguration:
		return &ivschat.GetLoggingConfigurationRequest{}
	case ivschat.OpGetRoom:
		return &ivschat.GetRoomRequest{}
	case ivschat.OpListLoggingConfigurations:
		return &ivschat.ListLoggingConfigurationsRequest{}
	case ivschat.OpListRooms:
		return &ivschat.ListRoomsRequest{}
	case ivschat.OpSendEvent:
		return &ivschat.SendEventRequest{}
	case ivschat.OpTagResource:
		return &ivschat.TagResourceRequest{ResourceARN: room}
	case ivschat.OpUpdateLoggingConfiguration:
		return &ivschat.UpdateLoggingConfigurationRequest{}
	case ivschat.OpUpdateRoom:
		return &ivschat.UpdateRoomRequest{}
	}
	return nil // ListTagsForResource and UntagResource have no body
}

const (
	room          = "arn:aws:ivschat:us-west-2:123456789012:room/AbCdEf123456"
	configuration = "arn:aws:ivschat:us-west-2:123456789012:logging-configuration/AbCdEf123456"
	function      = "arn:aws:lambda:us-west-2:123456789012:function:f"
)

// text makes a string of n characters that fits the pattern; ok is false if
// none of that length does.
func text(pattern string, n int) (s string, ok bool) {
	prefix, fill := "", "a"
	switch {
	case strings.Contains(pattern, "logging-configuration/"):
		prefix = configuration
	case strings.Contains(pattern, "room/"):
		prefix = room
	case strings.Contains(pattern, "lambda") && n > 0:
		prefix = function
	case pattern == "":
		fill = "é" // code points, not bytes
	}
	if n < len(prefix) {
		return "", false
	}
	return prefix + strings.Repeat(fill, n-len(prefix)), true
}

// valid makes a value that satisfies the shape.
func valid(s *shape) any {
	switch s.Type {
	case "string":
		if len(s.Enum) > 0 {
			return s.Enum[0]
		}
		for n := range 200 {
			if s.Min != nil && n < *s.Min {
				continue
			}
			if v, ok := text(s.Pattern, n); ok {
				return v
			}
		}
	case "integer":
		return *s.Min
	case "structure":
		m := map[string]any{}
		for _, name := range s.Required {
			m[name] = valid(s.Members[name])
		}
		if s.Union {
			name := slices.Sorted(maps.Keys(s.Members))[0]
			m[name] = valid(s.Members[name])
		}
		return m
	case "list":
		return []any{}
	case "map":
		return map[string]any{}
	}
	panic("no value for a shape of type " + s.Type)
}

// TestEveryConstraintOfTheModel puts every body member of every operation at its
// limits and one beyond, and wants exactly the members beyond named.
func TestEveryConstraintOfTheModel(t *testing.T) {
	cases := 0
	for op, shapes := range model(t) {
		if newRequest(op) == nil {
			continue
		}
		try := func(path string, body map[string]any, good bool) {
			cases++
			t.Helper()
			b, err := json.Marshal(body)
			if err != nil {
				t.Fatal(err)
			}
			r := newRequest(op)
			if err := ivschat.Decode(b, r); err != nil {
				t.Errorf("%s %s: %v", op, path, err)
				return
			}
			err = r.Check()
			if good {
				if err != nil {
					t.Errorf("%s %s: refused a legal value: %v", op, path, err)
				}
				return
			}
			var e *ivschat.Error
			if !errors.As(err, &e) || e.Kind != ivschat.Validation || len(e.Fields) == 0 || e.Fields[0].Name != path && !strings.HasPrefix(path, e.Fields[0].Name) {
				t.Errorf("%s %s: want this member named, got %v", op, path, err)
			}
		}
		base := func() map[string]any {
			m := valid(shapes.Input).(map[string]any)
			delete(m, "resourceArn")
			return m
		}
		var walk func(path []string, s *shape, required bool)
		walk = func(path []string, s *shape, required bool) {
			name := strings.Join(path, ".")
			set := func(v any, good bool) {
				body := base()
				at := body
				for _, p := range path[:len(path)-1] {
					if _, ok := at[p].(map[string]any); !ok || p == "destinationConfiguration" {
						at[p] = map[string]any{}
					}
					at = at[p].(map[string]any)
				}
				at[path[len(path)-1]] = v
				try(name, body, good)
			}
			if len(path) == 1 {
				body := base()
				delete(body, name)
				try(name, body, !required)
				body[name] = nil
				try(name, body, !required)
			}
			switch s.Type {
			case "string":
				for _, v := range s.Enum {
					set(v, true)
				}
				if len(s.Enum) > 0 {
					set("NONE_OF_THEM", false)
					return
				}
				least := 0
				if s.Min != nil {
					least = *s.Min
				}
				for _, n := range []int{least - 1, least, least + 1} {
					if v, ok := text(s.Pattern, n); ok && n >= 0 && (s.Max == nil || n <= *s.Max) {
						set(v, n >= least && !(name == "id" && n != 12))
					}
				}
				if s.Max != nil {
					for n := *s.Max - 1; n <= *s.Max+1; n++ {
						v, _ := text(s.Pattern, n)
						set(v, n <= *s.Max && n >= least)
					}
				}
				if s.Pattern != "" {
					set("~~~", false)
					set("\n", false)
				}
			case "integer":
				for _, n := range []int{*s.Min - 1, *s.Min, *s.Min + 1, *s.Max - 1, *s.Max, *s.Max + 1} {
					set(n, n >= *s.Min && n <= *s.Max)
				}
			case "list":
				if s.Max == nil {
					for _, v := range s.Member.Enum {
						set([]any{v, v}, true)
					}
					set([]any{"NONE_OF_THEM"}, false)
					return
				}
				for n := 0; n <= *s.Max+1; n++ {
					var l []any
					for i := range n {
						l = append(l, fmt.Sprintf("%s%d", configuration, i))
					}
					set(l, n <= *s.Max)
				}
				set([]any{"~~~"}, false)
				set([]any{""}, false)
			case "map":
				if s.Max != nil {
					for n := *s.Max - 1; n <= *s.Max+1; n++ {
						m := map[string]any{}
						for i := range n {
							m[fmt.Sprintf("k%d", i)] = "v"
						}
						set(m, n <= *s.Max)
					}
					for _, n := range []int{0, 1, 127, 128, 129} {
						set(map[string]any{strings.Repeat("é", n): ""}, n >= 1 && n <= 128)
					}
					for _, n := range []int{0, 255, 256, 257} {
						set(map[string]any{"k": strings.Repeat("é", n)}, n <= 256)
					}
					set(map[string]any{"AWS:k": "v"}, false)
					set(map[string]any{"k": "aws:v"}, false)
					set(map[string]any{"k": "v;"}, false)
					set(map[string]any{"sp ace/ü+=:@-_.": "日本 1"}, true)
					return
				}
				for n := 1022; n <= 1025; n++ { // of bytes, keys included
					set(map[string]any{"kk": strings.Repeat("a", n-2)}, n <= 1024)
					set(map[string]any{"é": strings.Repeat("a", n-2)}, n <= 1024)
				}
			case "structure":
				for m, inner := range s.Members {
					walk(append(slices.Clone(path), m), inner, slices.Contains(s.Required, m))
				}
			}
		}
		for m, s := range shapes.Input.Members {
			if m != "resourceArn" {
				walk([]string{m}, s, slices.Contains(shapes.Input.Required, m))
			}
		}
	}
	t.Logf("%d requests", cases)
	if cases < 400 {
		t.Errorf("only %d requests were tried: the model was not walked", cases)
	}
}

// TestResponsesHaveTheModelsMembers compares the JSON names of our responses
// with the outputs of the model.
func TestResponsesHaveTheModelsMembers(t *testing.T) {
	handler := &ivschat.ReviewHandler{}
	whole := &ivschat.Room{MessageReviewHandler: handler, LoggingConfigurationIdentifiers: ivschat.ARNs{"x"}}
	destination := ivschat.DestinationConfiguration{S3: &ivschat.S3Destination{}, CloudWatchLogs: &ivschat.CloudWatchLogsDestination{}, Firehose: &ivschat.FirehoseDestination{}}
	logging := ivschat.LoggingConfiguration{DestinationConfiguration: destination}
	responses := map[ivschat.Operation]any{
		ivschat.OpCreateRoom: whole, ivschat.OpGetRoom: whole, ivschat.OpUpdateRoom: whole,
		ivschat.OpListRooms:                  ivschat.ListRoomsResponse{Rooms: []ivschat.RoomSummary{whole.Summary()}, NextToken: "x"},
		ivschat.OpCreateLoggingConfiguration: logging, ivschat.OpGetLoggingConfiguration: logging, ivschat.OpUpdateLoggingConfiguration: logging,
		ivschat.OpListLoggingConfigurations: ivschat.ListLoggingConfigurationsResponse{LoggingConfigurations: []ivschat.LoggingConfiguration{logging}, NextToken: "x"},
		ivschat.OpCreateChatToken:           ivschat.CreateChatTokenResponse{},
		ivschat.OpSendEvent:                 ivschat.SendEventResponse{},
		ivschat.OpDeleteMessage:             ivschat.DeleteMessageResponse{},
		ivschat.OpListTagsForResource:       ivschat.ListTagsForResourceResponse{},
		ivschat.OpDisconnectUser:            ivschat.Empty{}, ivschat.OpTagResource: ivschat.Empty{}, ivschat.OpUntagResource: ivschat.Empty{},
	}
	for op, shapes := range model(t) {
		response, ok := responses[op]
		if ok != (shapes.Output != nil) {
			t.Errorf("%s: has a response: %v, in the model: %v", op, ok, shapes.Output != nil)
		}
		if !ok {
			continue
		}
		b, err := ivschat.Encode(response)
		if err != nil {
			t.Fatal(err)
		}
		var got any
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatal(err)
		}
		compareNames(t, string(op), got, shapes.Output)
	}
}

func compareNames(t *testing.T, path string, got any, want *shape) {
	t.Helper()
	switch want.Type {
	case "structure":
		m, ok := got.(map[string]any)
		if !ok {
			t.Errorf("%s is %T, not an object", path, got)
			return
		}
		if g, w := slices.Sorted(maps.Keys(m)), slices.Sorted(maps.Keys(want.Members)); !slices.Equal(g, w) {
			t.Errorf("%s has %v, the model has %v", path, g, w)
		}
		for name, s := range want.Members {
			compareNames(t, path+"."+name, m[name], s)
		}
	case "list":
		l, ok := got.([]any)
		if !ok || len(l) == 0 {
			t.Errorf("%s is %T, not a filled list", path, got)
			return
		}
		compareNames(t, path+"[0]", l[0], want.Member)
	case "map":
		if _, ok := got.(map[string]any); !ok {
			t.Errorf("%s is %T, not an object", path, got)
		}
	case "integer":
		if _, ok := got.(float64); !ok {
			t.Errorf("%s is %T, not a number", path, got)
		}
	default: // strings, and timestamps, which are ISO 8601 strings here
		if _, ok := got.(string); !ok {
			t.Errorf("%s is %T, not a string", path, got)
		}
	}
}

func TestLambdaARNs(t *testing.T) {
	for _, c := range []struct {
		sentence, s string
		want        bool
	}{
		{"a function", function, true},
		{"a version or alias", function + ":live", true},
		{"none: a room may be without, and no function is", "", false},
		{"a room", "arn:aws:ivschat:us-west-2:123456789012:room/a", false},
		{"a function without a name", strings.TrimSuffix(function, "f"), false},
		{"an account of too few digits", "arn:aws:lambda:us-west-2:1234:function:f", false},
		{"as long as a room may name", function + strings.Repeat("f", ivschat.MaxLambdaARNLength-len(function)), true},
		{"one longer", function + strings.Repeat("f", ivschat.MaxLambdaARNLength-len(function)+1), false},
	} {
		if got := ivschat.IsLambdaARN(c.s); got != c.want {
			t.Errorf("%s: IsLambdaARN(%q) = %t, want %t", c.sentence, c.s, got, c.want)
		}
	}
}
