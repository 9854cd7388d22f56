package control

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"hubbub/ivschat"
)

// What a caller sees of an error. The name is in the header x-amzn-ErrorType,
// where the SDKs look first, and in the body as __type; the body has a message
// always, and the other members as the API model requires them.
//
//	ValidationException              400  reason; fieldList, if members failed
//	AccessDeniedException            403
//	PendingVerification              403
//	ResourceNotFoundException        404  resourceId, resourceType
//	ConflictException                409  resourceId, resourceType
//	ServiceQuotaExceededException    402  resourceId, resourceType, limit
//	ThrottlingException              429  resourceId, resourceType, limit
//	InternalServerException          500
//	ServiceUnavailableException      503
//	RequestEntityTooLargeException   413
//	MissingAuthenticationTokenException, IncompleteSignatureException,
//	UnrecognizedClientException, ExpiredTokenException,
//	InvalidSignatureException        403
//
// resourceId is the relative id of what the request is about, or the account id
// if there is no resource; resourceType is ROOM, the model's only value.
//
// An *ivschat.Error of these kinds is shown as it is. A deadline that ran out in
// the server, and a request that its caller gave up, are ServiceUnavailable:
// the SDKs try again after both that and InternalServer. Everything else,
// refusals of the messaging plane included, is InternalServer with no word about
// its cause, which goes to the log.
// Source: API model; spec control-plane 3, iam A.5, quotas 4.

// errPanic stands for a panic, which was logged where it was caught.
var errPanic = errors.New("panic")

const (
	internalMessage    = "The request could not be processed because of an internal error. Try again."
	unavailableMessage = "The service is temporarily unavailable. Try again."
)

// errorBody is the JSON of every error.
type errorBody struct {
	Type         ivschat.Kind    `json:"__type"`
	Message      string          `json:"message"`
	Reason       ivschat.Reason  `json:"reason,omitempty"`
	FieldList    []ivschat.Field `json:"fieldList,omitempty"`
	ResourceID   string          `json:"resourceId,omitempty"`
	ResourceType string          `json:"resourceType,omitempty"`
	Limit        *int            `json:"limit,omitzero"`
}

// render makes the answer for an error.
func render(c *call, err error) answer {
	e, cause := refusal(err)
	b := errorBody{Type: e.Kind, Message: strings.ToValidUTF8(e.Message, "\uFFFD")}
	switch e.Kind {
	case ivschat.Validation:
		b.Reason, b.FieldList = e.Reason, e.Fields
		if b.Reason == "" {
			b.Reason = ivschat.OtherReason
			if len(e.Fields) > 0 {
				b.Reason = ivschat.FieldValidationFailed
			}
		}
	case ivschat.QuotaExceeded, ivschat.Throttling:
		b.Limit = &e.Limit
		fallthrough
	case ivschat.NotFound, ivschat.Conflict:
		b.ResourceID, b.ResourceType = relativeID(e.Resource, c), ivschat.ResourceRoom
	}
	body, encodeErr := ivschat.Encode(b)
	if encodeErr != nil {
		return answer{status: http.StatusInternalServerError, kind: ivschat.Internal, cause: errors.Join(cause, encodeErr),
			body: fmt.Appendf(nil, `{"__type":%q,"message":%q}`, ivschat.Internal, internalMessage)}
	}
	return answer{status: e.Kind.Status(), kind: e.Kind, body: body, cause: cause}
}

// refusal is the error as the caller may know it, and its cause if it may not.
func refusal(err error) (e *ivschat.Error, cause error) {
	if errors.As(err, &e) {
		switch e.Kind {
		case ivschat.Internal, ivschat.Unavailable:
			return e, err
		case ivschat.Validation, ivschat.AccessDenied, ivschat.PendingVerification, ivschat.NotFound, ivschat.Conflict,
			ivschat.QuotaExceeded, ivschat.Throttling, ivschat.BodyTooLarge,
			ivschat.MissingAuthenticationToken, ivschat.IncompleteSignature, ivschat.UnrecognizedClient,
			ivschat.ExpiredToken, ivschat.InvalidSignature:
			return e, nil
		}
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return ivschat.Refuse(ivschat.Unavailable, unavailableMessage), err
	}
	return ivschat.Refuse(ivschat.Internal, internalMessage), err
}

// relativeID brings an id to the form that the model has for it, [a-zA-Z0-9]+:
// an ARN may name an id with hyphens, which no resource has.
func relativeID(id string, c *call) string {
	if id == "" {
		id = c.resourceID()
	}
	id = strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' {
			return r
		}
		return -1
	}, id)
	if id == "" {
		return c.scope.Account
	}
	return id
}
