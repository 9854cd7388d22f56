package control

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"hubbub/ivschat"
)

// tagPath is what the ARN of a tag operation follows, after any base path.
const tagPath = "/tags/"

// route finds the operation by method and escaped path. The last segment names
// the operation, or the ARN follows "/tags/": as one percent-encoded segment, as
// the SDKs send it, or as it is. Whatever stands before is the base path of the
// endpoint that the client was given. Nothing is cleaned or redirected, since
// the signature is over the path as it came.
// Source: spec control-plane 1, 2.2; clients-wire, trap 3.
func (c *call) route(r *http.Request) error {
	path := r.URL.EscapedPath()
	name := path[strings.LastIndexByte(path, '/')+1:]
	c.query = r.URL.RawQuery

	if at := strings.LastIndex(path, tagPath); at >= 0 {
		arn, err := url.PathUnescape(path[at+len(tagPath):])
		// An operation may follow a base path that ends in "/tags".
		if _, named := byName[name]; err == nil && (!named || strings.HasPrefix(arn, "arn:")) {
			if c.operation = byMethod[r.Method]; c.operation == nil {
				return unknown(r, "The tags of a resource are read with GET, added with POST and removed with DELETE.")
			}
			c.path = ivschat.ARN(arn)
			return nil
		}
	}
	o, ok := byName[name]
	switch {
	case ok && r.Method == o.method:
		c.operation = o
		return nil
	case ok:
		return unknown(r, string(o.name)+" is called with "+o.method+".")
	case strings.EqualFold(r.Header.Get("Upgrade"), "websocket"):
		return unknown(r, "This is the control plane; chat clients connect to the messaging port.")
	case path == "/" || path == "":
		return unknown(r, "This port is the control plane of a Hubbub server, an API that is compatible with Amazon IVS Chat: "+
			"give its URL to an AWS SDK or the AWS CLI as the endpoint of ivschat. Chat clients connect to the messaging port.")
	}
	return unknown(r, "An operation is called as POST /CreateRoom, or GET, POST or DELETE /tags/{resourceArn}.")
}

// unknown is the refusal of what is no operation; it names what was asked.
func unknown(r *http.Request, hint string) error {
	const most = 200
	path := r.URL.EscapedPath()
	if len(path) > most {
		path = path[:most] + "..."
	}
	method := r.Method
	if len(method) > most {
		method = method[:most] + "..."
	}
	return &ivschat.Error{Kind: ivschat.Validation, Reason: ivschat.UnknownOperation,
		Message: fmt.Sprintf("There is no operation %s %s. %s", method, path, hint)}
}

// byName has the operations that a path names, byMethod those of "/tags/{arn}".
var byName, byMethod = func() (names, methods map[string]*operation) {
	names, methods = map[string]*operation{}, map[string]*operation{}
	for _, o := range operations {
		if o.tagging {
			methods[o.method] = o
		} else {
			names[string(o.name)] = o
		}
	}
	return names, methods
}()

// tagKeys are the values of the repeated query parameter of UntagResource, in
// the caller's order: nil if there is none, so that a missing parameter differs
// from an empty key. Other parameters are ignored.
// Source: spec control-plane 2.2; clients-wire, trap 5.
func tagKeys(query string) (keys []string, err error) {
	for pair := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		if n, err := url.QueryUnescape(name); err != nil || n != "tagKeys" {
			continue
		}
		key, err := url.QueryUnescape(value)
		if err != nil {
			return nil, ivschat.InvalidFields(ivschat.Invalid("tagKeys", "must be percent-encoded, but a value is not"))
		}
		keys = append(keys, key)
	}
	return keys, nil
}
