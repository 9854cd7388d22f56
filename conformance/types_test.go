package conformance

import (
	"reflect"
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/ivschat"
	"github.com/aws/aws-sdk-go-v2/service/ivschat/types"

	"hubbub/ivschat"
)

// TestTypesAreTheSDKs walks the SDK's input and output types beside ours: the
// same members, of the same JSON kind.
func TestTypesAreTheSDKs(t *testing.T) {
	for _, pair := range []struct{ ours, theirs any }{
		{ivschat.CreateRoomRequest{}, sdk.CreateRoomInput{}}, {ivschat.Room{}, sdk.CreateRoomOutput{}},
		{ivschat.GetRoomRequest{}, sdk.GetRoomInput{}}, {ivschat.Room{}, sdk.GetRoomOutput{}},
		{ivschat.UpdateRoomRequest{}, sdk.UpdateRoomInput{}}, {ivschat.Room{}, sdk.UpdateRoomOutput{}},
		{ivschat.DeleteRoomRequest{}, sdk.DeleteRoomInput{}},
		{ivschat.ListRoomsRequest{}, sdk.ListRoomsInput{}}, {ivschat.ListRoomsResponse{}, sdk.ListRoomsOutput{}},
		{ivschat.CreateLoggingConfigurationRequest{}, sdk.CreateLoggingConfigurationInput{}},
		{ivschat.LoggingConfiguration{}, sdk.CreateLoggingConfigurationOutput{}},
		{ivschat.GetLoggingConfigurationRequest{}, sdk.GetLoggingConfigurationInput{}},
		{ivschat.LoggingConfiguration{}, sdk.GetLoggingConfigurationOutput{}},
		{ivschat.UpdateLoggingConfigurationRequest{}, sdk.UpdateLoggingConfigurationInput{}},
		{ivschat.LoggingConfiguration{}, sdk.UpdateLoggingConfigurationOutput{}},
		{ivschat.DeleteLoggingConfigurationRequest{}, sdk.DeleteLoggingConfigurationInput{}},
		{ivschat.ListLoggingConfigurationsRequest{}, sdk.ListLoggingConfigurationsInput{}},
		{ivschat.ListLoggingConfigurationsResponse{}, sdk.ListLoggingConfigurationsOutput{}},
		{ivschat.CreateChatTokenRequest{}, sdk.CreateChatTokenInput{}}, {ivschat.CreateChatTokenResponse{}, sdk.CreateChatTokenOutput{}},
		{ivschat.SendEventRequest{}, sdk.SendEventInput{}}, {ivschat.SendEventResponse{}, sdk.SendEventOutput{}},
		{ivschat.DeleteMessageRequest{}, sdk.DeleteMessageInput{}}, {ivschat.DeleteMessageResponse{}, sdk.DeleteMessageOutput{}},
		{ivschat.DisconnectUserRequest{}, sdk.DisconnectUserInput{}},
		{ivschat.ListTagsForResourceResponse{}, sdk.ListTagsForResourceOutput{}},
	} {
		compareTypes(t, reflect.TypeOf(pair.theirs).Name(), reflect.TypeOf(pair.ours), reflect.TypeOf(pair.theirs))
	}
}

func compareTypes(t *testing.T, path string, ours, theirs reflect.Type) {
	t.Helper()
	for ours.Kind() == reflect.Pointer {
		ours = ours.Elem()
	}
	for theirs.Kind() == reflect.Pointer {
		theirs = theirs.Elem()
	}
	if theirs == reflect.TypeFor[time.Time]() {
		if ours != reflect.TypeFor[ivschat.Time]() && ours != reflect.TypeFor[ivschat.TokenTime]() {
			t.Errorf("%s: ours is %v, theirs a time", path, ours)
		}
		return
	}
	if theirs == reflect.TypeFor[types.DestinationConfiguration]() {
		if ours != reflect.TypeFor[ivschat.DestinationConfiguration]() {
			t.Errorf("%s: ours is %v", path, ours)
		}
		return
	}
	switch theirs.Kind() {
	case reflect.Struct:
		if ours.Kind() != reflect.Struct {
			t.Errorf("%s: ours is %v, theirs a structure", path, ours)
			return
		}
		fields := map[string]reflect.Type{}
		for f := range fieldsOf(ours) {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name != "-" {
				fields[strings.ToLower(name)] = f.Type
			}
		}
		for f := range fieldsOf(theirs) {
			if f.Name == "ResultMetadata" {
				continue
			}
			our, ok := fields[strings.ToLower(f.Name)]
			if !ok {
				t.Errorf("%s: we have no %s", path, f.Name)
				continue
			}
			delete(fields, strings.ToLower(f.Name))
			compareTypes(t, path+"."+f.Name, our, f.Type)
		}
		for name := range fields {
			t.Errorf("%s: theirs has no %s", path, name)
		}
	case reflect.Map:
		if ours.Kind() != reflect.Map {
			t.Errorf("%s: ours is %v, theirs a map", path, ours)
		}
	case reflect.Slice:
		if ours.Kind() != reflect.Slice {
			t.Errorf("%s: ours is %v, theirs a list", path, ours)
			return
		}
		compareTypes(t, path+"[]", ours.Elem(), theirs.Elem())
	case reflect.String:
		if ours.Kind() != reflect.String {
			t.Errorf("%s: ours is %v, theirs a string", path, ours)
		}
	case reflect.Int32:
		if ours.Kind() != reflect.Int {
			t.Errorf("%s: ours is %v, theirs an integer", path, ours)
		}
	default:
		t.Errorf("%s: the SDK has a %v, which this test does not know", path, theirs)
	}
}

func fieldsOf(s reflect.Type) func(func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		for i := range s.NumField() {
			if f := s.Field(i); f.IsExported() && !yield(f) {
				return
			}
		}
	}
}

// TestEnumsAreTheSDKs compares our constants with the SDK's values.
func TestEnumsAreTheSDKs(t *testing.T) {
	for _, v := range types.ChatTokenCapability("").Values() {
		if (ivschat.CapabilityNames{ivschat.CapabilityName(v)}).Set() == 0 {
			t.Errorf("capability %s is unknown to us", v)
		}
	}
	fallback := map[types.FallbackResult]bool{types.FallbackResult(ivschat.FallbackAllow): true, types.FallbackResult(ivschat.FallbackDeny): true}
	for _, v := range types.FallbackResult("").Values() {
		if !fallback[v] {
			t.Errorf("fallback result %s is unknown to us", v)
		}
	}
	states := map[string]bool{}
	for _, s := range []ivschat.LoggingState{ivschat.StateCreating, ivschat.StateCreateFailed, ivschat.StateDeleting, ivschat.StateDeleteFailed,
		ivschat.StateUpdating, ivschat.StateUpdateFailed, ivschat.StateActive} {
		states[string(s)] = true
	}
	for _, v := range types.LoggingConfigurationState("").Values() {
		if !states[string(v)] {
			t.Errorf("state %s is unknown to us", v)
		}
	}
	reasons := map[types.ValidationExceptionReason]bool{"UNKNOWN_OPERATION": true, "FIELD_VALIDATION_FAILED": true, "OTHER": true}
	for _, v := range types.ValidationExceptionReason("").Values() {
		if !reasons[v] {
			t.Errorf("reason %s is unknown to us", v)
		}
	}
}
