// Package control is the control plane: the 17 operations of the service over
// HTTP, behind one pipeline and one error renderer.
//
//	request                          refused with
//	route (method, escaped path)     ValidationException, UNKNOWN_OPERATION
//	body, at most 64 KiB             RequestEntityTooLargeException
//	signature (sigv4)                the names of spec iam A.5
//	decode and check (ivschat)       ValidationException
//	permission (iam)                 AccessDeniedException
//	account verified?                PendingVerification, where the model has it
//	rate (quota)                     ThrottlingException
//	region of the ARN                ResourceNotFoundException
//	registry, Messenger, chattoken   whatever they refuse with
//	encode
//
// Who is not authenticated learns nothing about resources, and who is not
// allowed does not learn whether one exists. What differs between operations
// is a row of the table in operation.go; what callers see of an error is decided
// in error.go alone.
//
// Every request leaves one log record, without content, tokens or user ids. What
// strangers can cause at will is rate-limited there and counted by the metrics.
//
// Reads and CreateChatToken are served from memory; a write is durable before
// its answer. The package starts no goroutine.
// Source: spec control-plane; spec iam B.
package control
