package control

import (
	"net/http"
	"time"

	"hubbub/iam"
	"hubbub/ivschat"
)

// authorize asks the principal's policies. The tags of the resource are looked
// up before, for conditions on them, but whether it exists is not told: a
// request that is denied is answered the same way in both cases. Making
// something with tags needs permission to tag as well.
// Source: spec iam B.1, B.3, B.5.
func (h *Handler) authorize(r *http.Request, c *call, now time.Time) error {
	q := iam.Request{Action: c.operation.action, Resource: c.access.resource, Context: h.context(r, c, now)}
	if err := c.decide(q); err != nil {
		return err
	}
	if len(c.access.tags) == 0 || c.operation.name == ivschat.OpTagResource {
		return nil
	}
	q.Action = ivschat.OpTagResource.Action()
	return c.decide(q)
}

func (c *call) decide(q iam.Request) error {
	d := c.principal.Decide(q)
	if d.Allowed {
		return nil
	}
	c.why = d.Why
	return ivschat.Refuse(ivschat.AccessDenied, d.Message)
}

// context is what conditions may ask about a request.
func (h *Handler) context(r *http.Request, c *call, now time.Time) iam.Context {
	client, secure := h.origin(r)
	x := iam.Context{
		Time: now, Region: c.scope.Region, SourceIP: client, Secure: secure,
		UserAgent: header(r, "User-Agent"), Referer: header(r, "Referer"),
		RequestTags: c.access.tags, TagKeys: c.access.keys,
	}
	if len(c.access.tags) > 0 {
		x.TagKeys = c.access.tags.Keys()
	}
	// A denial is worded after the statement that made it, so that a policy on
	// another account's tags would tell what they are.
	if n, ok := c.access.resource.Parse(); ok && n.Account == c.scope.Account {
		if tags, err := h.registry.Tags(c.access.resource); err == nil {
			x.ResourceTags = tags
		}
	}
	return x
}
