package ivschat

import (
	"regexp"

	"github.com/aws/aws-sdk-go-v2/aws/arn"
)

// ARN names a room or a logging configuration, or, in a policy decision, a
// pattern of them. The zero value names nothing.
type ARN string

// Scope is what quotas, lists and names belong to: one account in one region.
// It is comparable and may be used as a key.
type Scope struct {
	Account string // 12 digits
	Region  string // "us-west-2"
}

// ResourceType is the part of an ARN before its slash.
type ResourceType string

// The two kinds of resource. Source: spec iam B.2.
const (
	RoomType                 ResourceType = "room"
	LoggingConfigurationType ResourceType = "logging-configuration"
)

// ARN of the resource with that id in the scope.
func (s Scope) ARN(t ResourceType, id string) ARN {
	return ARN("arn:aws:ivschat:" + s.Region + ":" + s.Account + ":" + string(t) + "/" + id)
}

// Name is an ARN taken apart. The zero value is no name.
type Name struct {
	Scope
	Type ResourceType
	ID   string // relative id, "AbCdEf123456"
}

// ARN puts the name together again.
func (n Name) ARN() ARN { return n.Scope.ARN(n.Type, n.ID) }

// Parse takes an ARN of this service apart; ok is false for anything that is
// not the well-formed ARN of a room or a logging configuration.
func (a ARN) Parse() (n Name, ok bool) {
	if !roomARN.MatchString(string(a)) && !loggingConfigurationARN.MatchString(string(a)) {
		return Name{}, false
	}
	p, err := arn.Parse(string(a))
	if err != nil {
		return Name{}, false
	}
	for _, t := range []ResourceType{RoomType, LoggingConfigurationType} {
		if rest, found := cutPrefix(p.Resource, string(t)+"/"); found {
			return Name{Scope: Scope{Account: p.AccountID, Region: p.Region}, Type: t, ID: rest}, true
		}
	}
	return Name{}, false
}

// ID is the part behind the last slash, for errors that carry a resourceId;
// the ARN itself if it has none.
func (a ARN) ID() string {
	for i := len(a) - 1; i >= 0; i-- {
		if a[i] == '/' {
			return string(a[i+1:])
		}
	}
	return string(a)
}

func cutPrefix(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || s[:len(prefix)] != prefix {
		return s, false
	}
	return s[len(prefix):], true
}

// The patterns of the API model, anchored (spec control-plane 4). That of
// resourceArn is broken in the model and mended here, as the service must have.
var (
	roomARN                 = regexp.MustCompile(`^arn:aws:ivschat:[a-z0-9-]+:[0-9]+:room/[a-zA-Z0-9-]+$`)
	loggingConfigurationARN = regexp.MustCompile(`^arn:aws:ivschat:[a-z0-9-]+:[0-9]+:logging-configuration/[a-zA-Z0-9-]+$`)
)
