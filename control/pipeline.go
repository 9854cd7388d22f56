package control

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"hubbub/iam"
	"hubbub/ivschat"
	"hubbub/sigv4"
)

// maxBody is the most bytes of a request body. Only 50 tags of the longest keys
// and values, in characters that take four bytes or are written as escapes, do
// not fit. Source: spec control-plane 2.1.
const maxBody = 64 << 10

// call is one request on its way through the pipeline. Each stage fills in what
// the next ones and the log need.
type call struct {
	requestID string
	began     time.Time
	read      bool // the whole body

	// By route.
	operation *operation  // nil for an unknown one
	path      ivschat.ARN // of /tags/{arn}; as given, not checked
	query     string      // raw

	// By authenticate.
	snapshot  *iam.Snapshot
	principal *iam.Principal // nil before
	scope     ivschat.Scope  // the principal's account, the region signed for

	// By the operation's read.
	request any // checked
	access  access

	// By authorize.
	why string // of a denial, for the log alone
}

// access is what an operation asks permission for.
type access struct {
	resource ivschat.ARN     // or the pattern "…:room/*" of what a create or list is about
	tags     ivschat.Strings // in the request; not empty needs TagResource too
	keys     []string        // of tags, where a request has keys alone
}

// serve is the pipeline. Source: spec control-plane 3.4, order of checks.
func (h *Handler) serve(w http.ResponseWriter, r *http.Request, c *call, buffer *bytes.Buffer) (any, error) {
	if err := c.route(r); err != nil {
		return nil, err
	}
	if err := h.readBody(w, r, buffer); err != nil {
		return nil, err
	}
	c.read = true
	now := h.now() // after the body, which may take its time
	if err := h.authenticate(r, c, buffer.Bytes(), now); err != nil {
		return nil, err
	}
	// What any node has acknowledged is to be seen by this one.
	if err := h.registry.Sync(r.Context()); err != nil {
		return nil, err
	}
	if err := c.operation.read(h, c, buffer.Bytes()); err != nil {
		// All that fails is named at once, but not to a stranger: which review
		// handlers there are is for those who may use them.
		if c.operation.also != nil && c.request != nil {
			if h.authorize(r, c, now) == nil {
				err = ivschat.JoinInvalid(err, c.operation.also(h, c))
			}
			c.why = "" // nothing was denied
		}
		return nil, err
	}
	if err := h.authorize(r, c, now); err != nil {
		return nil, err
	}
	if c.operation.verified && c.snapshot.Blocked(c.scope.Account) {
		return nil, ivschat.Refuse(ivschat.PendingVerification, "The account "+c.scope.Account+" is pending verification and cannot use this operation until that is over.")
	}
	if limit, ok := h.quota.TakeHTTP(c.scope, c.operation.name, now); !ok {
		return nil, &ivschat.Error{Kind: ivschat.Throttling, Resource: c.resourceID(), Limit: limit,
			Message: fmt.Sprintf("Rate exceeded: the account %s may call %s %d times a second in %s.", c.scope.Account, c.operation.name, limit, c.scope.Region)}
	}
	if n, ok := c.access.resource.Parse(); ok && n.Region != c.scope.Region {
		return nil, notFound(c.access.resource)
	}
	return c.operation.run(r.Context(), h, c)
}

// notFound says it as the registry does.
func notFound(arn ivschat.ARN) error {
	return &ivschat.Error{Kind: ivschat.NotFound, Message: "Resource: " + string(arn) + " not found", Resource: arn.ID()}
}

// resourceID is the id of the resource that the call is about, or the account's
// if there is none. Source: spec quotas 4.
func (c *call) resourceID() string {
	if id := c.access.resource.ID(); id != "" && id != "*" {
		return id
	}
	return c.scope.Account
}

// readBody reads the whole body, for h.bodyLimit at most however soon its header
// block was there. What is too large is not read.
func (h *Handler) readBody(w http.ResponseWriter, r *http.Request, buffer *bytes.Buffer) error {
	if r.ContentLength == 0 {
		return nil
	}
	tooLarge := ivschat.Refuse(ivschat.BodyTooLarge, fmt.Sprintf("The request body has more than %d bytes.", maxBody))
	if r.ContentLength > maxBody {
		return tooLarge
	}
	connection := http.NewResponseController(w)
	_ = connection.SetReadDeadline(time.Now().Add(h.bodyLimit)) // not supported: the server's own limit holds
	_, err := buffer.ReadFrom(http.MaxBytesReader(w, r.Body, maxBody))
	if err == nil {
		// A deadline that stays would cancel the request's context while it is answered.
		_ = connection.SetReadDeadline(time.Time{})
	}
	var large *http.MaxBytesError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &large):
		return tooLarge
	case errors.Is(err, os.ErrDeadlineExceeded):
		return ivschat.Refuse(ivschat.Validation, "The request body did not arrive in time.")
	}
	return ivschat.Refuse(ivschat.Validation, "The request body could not be read to its end.")
}

// authenticate finds out who signed the request.
func (h *Handler) authenticate(r *http.Request, c *call, body []byte, now time.Time) error {
	c.snapshot = h.iam()
	var key iam.AccessKey
	identity, err := h.verifier.Verify(r, body, now, func(id string) (sigv4.Key, bool) {
		var known bool
		key, known = c.snapshot.AccessKey(id)
		return key.Key, known
	})
	if err != nil {
		return err
	}
	c.principal = key.Principal
	c.scope = ivschat.Scope{Account: key.Principal.Account, Region: identity.Region}
	return nil
}

// header is a header's value without the cost of its spelling being looked at;
// name must be in canonical form.
func header(r *http.Request, name string) string { return strings.Join(r.Header[name], ",") }
