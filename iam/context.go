package iam

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Context is what conditions may ask about a request. Empty members are absent
// keys. Source: spec iam B.3.
type Context struct {
	ResourceTags map[string]string // of the stored resource; nil if there is none
	RequestTags  map[string]string // in the request; nil if it has none
	TagKeys      []string          // in the request; nil if it has none

	SourceIP        netip.Addr
	Secure          bool
	Time            time.Time
	Region          string // that the request is signed for
	ResourceAccount string
	UserAgent       string
	Referer         string
}

// foldKey makes a condition key comparable: letter case does not count. That of a
// tag's key behind the slash is kept, since a resource may have both spellings.
func foldKey(key string) string {
	name, tag, tagged := strings.Cut(key, "/")
	if !tagged {
		return strings.ToLower(key)
	}
	return strings.ToLower(name) + "/" + tag
}

// lookup is the values of a key that foldKey made; ok is false if it is absent.
func (c *Context) lookup(key string, p *Principal) ([]string, bool) {
	if name, found := strings.CutPrefix(key, "aws:resourcetag/"); found {
		return tag(c.ResourceTags, name)
	}
	if name, found := strings.CutPrefix(key, "aws:requesttag/"); found {
		return tag(c.RequestTags, name)
	}
	if name, found := strings.CutPrefix(key, "aws:principaltag/"); found {
		return tag(p.Tags, name)
	}
	switch key {
	case "aws:tagkeys":
		return c.TagKeys, c.TagKeys != nil
	case "aws:principalarn":
		return one(p.identityARN())
	case "aws:principalaccount":
		return one(p.Account)
	case "aws:principaltype":
		return one(string(p.Type))
	case "aws:userid":
		return one(p.UserID)
	case "aws:username":
		if p.Type != User {
			return nil, false
		}
		return one(p.Name)
	case "aws:sourceip":
		if !c.SourceIP.IsValid() {
			return nil, false
		}
		return one(c.SourceIP.String())
	case "aws:securetransport":
		return one(strconv.FormatBool(c.Secure))
	case "aws:currenttime":
		return one(c.Time.UTC().Format(time.RFC3339))
	case "aws:epochtime":
		return one(strconv.FormatInt(c.Time.Unix(), 10))
	case "aws:requestedregion":
		return one(c.Region)
	case "aws:resourceaccount":
		return one(c.ResourceAccount)
	case "aws:useragent":
		return one(c.UserAgent)
	case "aws:referer":
		return one(c.Referer)
	case "aws:viaawsservice":
		return one("false")
	case "aws:tokenissuetime":
		if p.Issued.IsZero() {
			return nil, false
		}
		return one(p.Issued.UTC().Format(time.RFC3339))
	case "aws:multifactorauthpresent":
		if !p.Temporary {
			return nil, false
		}
		return one(strconv.FormatBool(!p.MFA.IsZero()))
	case "aws:multifactorauthage":
		if p.MFA.IsZero() {
			return nil, false
		}
		return one(strconv.FormatInt(int64(c.Time.Sub(p.MFA).Seconds()), 10))
	}
	return nil, false
}

// knownKey says whether conditions may name the key. A global key that is never
// there would make a policy mean something else than it says; one of another
// service ("s3:prefix") is not in this service's requests at AWS either.
func knownKey(key string) bool {
	key = strings.ToLower(key)
	if service, name, ok := strings.Cut(key, ":"); ok && service != "" && name != "" && service != "aws" && service != "ivschat" {
		return true
	}
	for _, prefix := range []string{"aws:resourcetag/", "aws:requesttag/", "aws:principaltag/"} {
		if name, found := strings.CutPrefix(key, prefix); found {
			return name != ""
		}
	}
	switch key {
	case "aws:tagkeys", "aws:principalarn", "aws:principalaccount", "aws:principaltype", "aws:userid", "aws:username", "aws:sourceip",
		"aws:securetransport", "aws:currenttime", "aws:epochtime", "aws:requestedregion", "aws:resourceaccount", "aws:useragent",
		"aws:referer", "aws:viaawsservice", "aws:calledvia", "aws:tokenissuetime", "aws:multifactorauthpresent", "aws:multifactorauthage":
		return true
	}
	return false
}

func one(v string) ([]string, bool) {
	if v == "" {
		return nil, false
	}
	return []string{v}, true
}

// tag finds a tag whose key is equal but for letter case, as IAM does; an exact
// one first, then the first in order.
func tag(tags map[string]string, name string) ([]string, bool) {
	if v, ok := tags[name]; ok {
		return []string{v}, true
	}
	for _, k := range slices.Sorted(maps.Keys(tags)) {
		if strings.EqualFold(k, name) {
			return []string{tags[k]}, true
		}
	}
	return nil, false
}
