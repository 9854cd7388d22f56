package ivschat

import "slices"

// ListTagsForResourceRequest asks for the tags of the ARN in the path.
type ListTagsForResourceRequest struct {
	ResourceARN ARN `json:"-"`
}

// Check names every member that is not as the API model wants it.
func (r *ListTagsForResourceRequest) Check() error {
	var c checks
	c.resource("resourceArn", r.ResourceARN)
	return c.err()
}

// ListTagsForResourceResponse has all tags; an empty object if there are none.
type ListTagsForResourceResponse struct {
	Tags Strings `json:"tags"`
}

// TagResourceRequest adds or overwrites tags of the ARN in the path.
// Source: spec control-plane 10.
type TagResourceRequest struct {
	ResourceARN ARN     `json:"-"`
	Tags        Strings `json:"tags"`
}

// Check names every member that is not as the API model wants it.
func (r *TagResourceRequest) Check() error {
	var c checks
	c.resource("resourceArn", r.ResourceARN)
	if r.Tags == nil {
		c.fail("tags", "is required")
	}
	c.tags("tags", r.Tags)
	return c.err()
}

// UntagResourceRequest removes tags of the ARN in the path; the keys come as a
// repeated query parameter. Nil keys mean that the parameter was missing. Any
// key is accepted that is not too long: paws sends odd ones (spec clients-wire,
// trap 5).
type UntagResourceRequest struct {
	ResourceARN ARN      `json:"-"`
	TagKeys     []string `json:"-"`
}

// Check names every member that is not as the API model wants it.
func (r *UntagResourceRequest) Check() error {
	var c checks
	c.resource("resourceArn", r.ResourceARN)
	if r.TagKeys == nil {
		c.fail("tagKeys", "is required")
	}
	if n := len(r.TagKeys); n > MaxTags {
		c.fail("tagKeys", "must have at most %d items, but has %d", MaxTags, n)
		return c.err()
	}
	for _, k := range slices.Compact(slices.Sorted(slices.Values(r.TagKeys))) {
		if k == "" {
			c.fail("tagKeys", "a key must not be empty")
		} else {
			c.length("tagKeys", k, 1, MaxTagKeyLength)
		}
	}
	return c.err()
}
