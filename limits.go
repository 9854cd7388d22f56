package hubbub

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	"hubbub/ivschat"
	"hubbub/quota"
)

// resolve makes the quotas: the level, and on top the single ones.
func (l Limits) resolve() (quota.Limits, error) {
	base := l.Base
	if base == "" {
		base = "relaxed"
	}
	limits, err := quota.Level(base)
	if err != nil {
		return quota.Limits{}, err
	}
	for _, key := range slices.Sorted(maps.Keys(l.Keys)) {
		if err := limits.Set(key, l.Keys[key]); err != nil {
			return quota.Limits{}, err
		}
	}
	return limits, nil
}

func setLimitsBase(c *Config, v []string) error {
	if err := oneOf(v[0], "strict", "relaxed", "none"); err != nil {
		return err
	}
	c.Limits.Base = v[0]
	return nil
}

// limitHelp says what each quota that is no rate of an operation counts.
var limitHelp = map[quota.Key]string{
	quota.Rooms:                 "Rooms of an account in a region.",
	quota.LoggingConfigurations: "Logging configurations of an account in a region.",
	quota.Connections:           "Open chat connections of an account in a region.",
	quota.SendMessage:           "Messages a second, all rooms of an account in a region together.",
	quota.ConnectionRequests:    "Requests a second that one connection may send.",
	quota.EventAttributes:       "Size of the attributes of SendEvent.",
}

// limitSettings are the quotas, each a setting of its own.
func limitSettings() []Setting {
	help := maps.Clone(limitHelp)
	for _, o := range ivschat.Operations {
		help[quota.OperationKey(o)] = "Calls of " + string(o) + " a second; at level relaxed only if it is set."
	}
	for _, shared := range []quota.Key{quota.DeleteMessage, quota.DisconnectUser} {
		help[shared] = strings.TrimSuffix(help[shared], "; at level relaxed only if it is set.") +
			", the WebSocket form counted too; at level relaxed that form alone unless it is set."
	}
	published := quota.Strict()
	var s []Setting
	for _, k := range quota.Keys() {
		key := string(k)
		form, figure := "NUMBER", strconv.Itoa(published.Value(k))
		if k == quota.EventAttributes {
			form, figure = "SIZE", strconv.Itoa(published.Value(k)>>10)+"KiB"
		}
		s = append(s, Setting{
			Key: "limits." + key, Form: form, Default: figure, Help: help[k],
			set: func(c *Config, v []string) error {
				if err := new(quota.Limits).Set(key, v[0]); err != nil {
					return errors.New(strings.TrimPrefix(err.Error(), key+": "))
				}
				keys := maps.Clone(c.Limits.Keys) // a Config is a value: do not write into another's
				if keys == nil {
					keys = map[string]string{}
				}
				keys[key] = v[0]
				c.Limits.Keys = keys
				return nil
			},
		})
	}
	return s
}
