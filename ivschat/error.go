package ivschat

import (
	"errors"
	"net/http"
	"slices"
	"strings"
)

// Kind is the class of a refusal. It alone decides what the caller sees: the
// exception name and HTTP status on the API, the ErrorCode on the socket.
type Kind string

// The kinds, named by the exception that the API shows. Those of the
// messaging plane alone (Unauthorized, Rejected, TooLarge) have no exception of
// the service; their names never reach an API client.
// Source: API reference, error lists; spec control-plane 3.1, iam A.5, messaging 4.3.
const (
	Validation          Kind = "ValidationException"
	AccessDenied        Kind = "AccessDeniedException"
	PendingVerification Kind = "PendingVerification" // no suffix, as the service spells it
	NotFound            Kind = "ResourceNotFoundException"
	Conflict            Kind = "ConflictException"
	QuotaExceeded       Kind = "ServiceQuotaExceededException"
	Throttling          Kind = "ThrottlingException"
	Internal            Kind = "InternalServerException"
	Unavailable         Kind = "ServiceUnavailableException"

	MissingAuthenticationToken Kind = "MissingAuthenticationTokenException"
	IncompleteSignature        Kind = "IncompleteSignatureException"
	UnrecognizedClient         Kind = "UnrecognizedClientException"
	ExpiredToken               Kind = "ExpiredTokenException"
	InvalidSignature           Kind = "InvalidSignatureException"
	BodyTooLarge               Kind = "RequestEntityTooLargeException"

	Unauthorized Kind = "Unauthorized" // token or session not valid (any more)
	Rejected     Kind = "Rejected"     // denied in message review
	TooLarge     Kind = "TooLarge"     // a member or the frame is over its size
)

// kinds is the whole mapping from a kind to what its receiver sees: the HTTP
// status of the API and of a refused handshake, and the ErrorCode on the
// socket, which must be one of the eight that the iOS SDK can decode.
var kinds = map[Kind]struct{ status, code int }{
	Validation:          {http.StatusBadRequest, 400},
	AccessDenied:        {http.StatusForbidden, 403},
	PendingVerification: {http.StatusForbidden, 403},
	NotFound:            {http.StatusNotFound, 404},
	Conflict:            {http.StatusConflict, 400},
	QuotaExceeded:       {http.StatusPaymentRequired, 429},
	Throttling:          {http.StatusTooManyRequests, 429},
	Internal:            {http.StatusInternalServerError, 500},
	Unavailable:         {http.StatusServiceUnavailable, 500},

	MissingAuthenticationToken: {http.StatusForbidden, 401},
	IncompleteSignature:        {http.StatusForbidden, 401},
	UnrecognizedClient:         {http.StatusForbidden, 401},
	ExpiredToken:               {http.StatusForbidden, 401},
	InvalidSignature:           {http.StatusForbidden, 401},
	BodyTooLarge:               {http.StatusRequestEntityTooLarge, 413},

	Unauthorized: {http.StatusUnauthorized, 401},
	Rejected:     {http.StatusNotAcceptable, 406},
	TooLarge:     {http.StatusRequestEntityTooLarge, 413},
}

// Status is the HTTP status of the kind; 500 for an unknown one.
func (k Kind) Status() int {
	if s, ok := kinds[k]; ok {
		return s.status
	}
	return http.StatusInternalServerError
}

// Code is the ErrorCode of the kind on the socket; 500 for an unknown one.
// Source: spec messaging 4.3.
func (k Kind) Code() int {
	if s, ok := kinds[k]; ok {
		return s.code
	}
	return 500
}

// Error makes a Kind usable as the target of errors.Is.
func (k Kind) Error() string { return string(k) }

// Reason is why a request failed validation.
// Source: API reference, ValidationException.
type Reason string

// The reasons that the API model knows.
const (
	UnknownOperation      Reason = "UNKNOWN_OPERATION"
	FieldValidationFailed Reason = "FIELD_VALIDATION_FAILED"
	OtherReason           Reason = "OTHER"
)

// Field is one member that failed validation.
type Field struct {
	Name    string `json:"name"`    // JSON name, with its parent: "messageReviewHandler.uri"
	Message string `json:"message"` // what it failed to satisfy, in the template of Invalid
}

// ResourceRoom is the only resourceType that the API model publishes; it stands
// in every error that requires one, for logging configurations and accounts too.
// Source: spec control-plane 3.1.
const ResourceRoom = "ROOM"

// Error is a refusal that the caller is told about. Every other error is
// internal: logged with its cause, shown as a plain 500.
type Error struct {
	Kind     Kind
	Message  string  // for the caller's eyes: no secrets, no internal names
	Reason   Reason  // of a Validation; "" means FieldValidationFailed if Fields is set, else OtherReason
	Resource string  // relative id (or account id) of what it concerns; "" if nothing
	Limit    int     // the quota that was hit, in the quota's unit; 0 if none
	Fields   []Field // every member that failed validation, in the model's order
}

// Error has the kind and the message; both are for the caller's eyes.
func (e *Error) Error() string { return string(e.Kind) + ": " + e.Message }

// Unwrap makes errors.Is(err, ivschat.NotFound) work.
func (e *Error) Unwrap() error { return e.Kind }

// Refuse makes an Error of a kind with nothing but a message.
func Refuse(k Kind, message string) *Error { return &Error{Kind: k, Message: message} }

// Invalid makes the Field for a member that failed a constraint, worded as the
// service words it. Source: spec control-plane 3.4.
func Invalid(name, what string) Field {
	short := name[strings.LastIndexByte(name, '.')+1:]
	return Field{Name: name, Message: "Request member: " + short + " failed to satisfy the constraints: " + what}
}

// InvalidFields makes the Validation error for all members that failed, or nil
// if none did: one Field for each member, with all that it failed in. Its message
// names every one of them. Source: spec control-plane 3.4.
func InvalidFields(fields ...Field) error {
	if len(fields) == 0 {
		return nil
	}
	var members []Field
	for _, f := range fields {
		i := slices.IndexFunc(members, func(m Field) bool { return m.Name == f.Name })
		if i < 0 {
			members = append(members, f)
			continue
		}
		members[i].Message += "; " + strings.TrimPrefix(f.Message, Invalid(f.Name, "").Message)
	}
	messages := make([]string, len(members))
	for i, f := range members {
		messages[i] = f.Message
	}
	return &Error{Kind: Validation, Reason: FieldValidationFailed, Message: strings.Join(messages, "; "), Fields: members}
}

// JoinInvalid makes one error of those of InvalidFields; the first that is
// another goes before. nil if all are.
func JoinInvalid(errs ...error) error {
	var fields []Field
	for _, err := range errs {
		var e *Error
		switch {
		case err == nil:
		case errors.As(err, &e) && e.Reason == FieldValidationFailed:
			fields = append(fields, e.Fields...)
		default:
			return err
		}
	}
	return InvalidFields(fields...)
}
