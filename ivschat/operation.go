package ivschat

// Operation is one of the 17 operations of the control plane, spelled as in
// the URI ("/CreateRoom") and in the IAM action ("ivschat:CreateRoom").
type Operation string

// The operations. Source: API reference; spec control-plane 1.
const (
	OpCreateChatToken            Operation = "CreateChatToken"
	OpCreateLoggingConfiguration Operation = "CreateLoggingConfiguration"
	OpCreateRoom                 Operation = "CreateRoom"
	OpDeleteLoggingConfiguration Operation = "DeleteLoggingConfiguration"
	OpDeleteMessage              Operation = "DeleteMessage"
	OpDeleteRoom                 Operation = "DeleteRoom"
	OpDisconnectUser             Operation = "DisconnectUser"
	OpGetLoggingConfiguration    Operation = "GetLoggingConfiguration"
	OpGetRoom                    Operation = "GetRoom"
	OpListLoggingConfigurations  Operation = "ListLoggingConfigurations"
	OpListRooms                  Operation = "ListRooms"
	OpListTagsForResource        Operation = "ListTagsForResource"
	OpSendEvent                  Operation = "SendEvent"
	OpTagResource                Operation = "TagResource"
	OpUntagResource              Operation = "UntagResource"
	OpUpdateLoggingConfiguration Operation = "UpdateLoggingConfiguration"
	OpUpdateRoom                 Operation = "UpdateRoom"
)

// Operations are all of them, in alphabetical order.
var Operations = []Operation{
	OpCreateChatToken, OpCreateLoggingConfiguration, OpCreateRoom,
	OpDeleteLoggingConfiguration, OpDeleteMessage, OpDeleteRoom, OpDisconnectUser,
	OpGetLoggingConfiguration, OpGetRoom, OpListLoggingConfigurations, OpListRooms,
	OpListTagsForResource, OpSendEvent, OpTagResource, OpUntagResource,
	OpUpdateLoggingConfiguration, OpUpdateRoom,
}

// Action is the IAM action that allows the operation. Source: spec iam B.1.
func (o Operation) Action() string { return "ivschat:" + string(o) }
