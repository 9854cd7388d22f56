package main

import (
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"

	"hubbub"
)

// unlisted are the sections whose flags the help does not list, since there are so
// many; settingsGroup says where they are.
var unlisted = []string{"cluster", "review", "logging", "metrics", "limits"}

var settingsGroup = kong.Group{
	Key:   "Settings",
	Title: "Settings",
	Description: "Message review, chat logs, pushed metrics and single quotas are settings too: --review-..., --logging-..., --metrics-... and " +
		"--limits-..., listed in docs/configuration.md.",
}

// newSettingFlags makes the flags of all settings: a pointer to a struct with one
// member a setting, nil unless its flag is given. The text is taken as it stands;
// hubbub.Load judges it together with the environment and the file, so that all
// three mean the same.
func newSettingFlags() any {
	var fields []reflect.StructField
	for i, s := range hubbub.Settings() {
		help := strings.TrimSuffix(s.Help, ".") + " ($" + s.Env()
		if s.Default != "" {
			help += "; default: " + s.Default
		}
		tag := "name:" + strconv.Quote(s.Flag()) + " placeholder:" + strconv.Quote(s.Form) + " help:" + strconv.Quote(help+")")
		if section, _, below := strings.Cut(s.Key, "."); below && slices.Contains(unlisted, section) {
			tag += ` hidden:""`
		}
		kind := reflect.TypeFor[*string]()
		if s.Switch {
			kind = reflect.TypeFor[*bool]()
		}
		fields = append(fields, reflect.StructField{Name: "Setting" + strconv.Itoa(i), Type: kind, Tag: reflect.StructTag(tag)})
	}
	return reflect.New(reflect.StructOf(fields)).Interface()
}

// settingFlags are the values of the flags that were given, by setting.
func settingFlags(flags any) map[string]string {
	given := map[string]string{}
	v := reflect.ValueOf(flags).Elem()
	for i, s := range hubbub.Settings() {
		switch f := v.Field(i).Interface().(type) {
		case *string:
			if f != nil {
				given[s.Key] = *f
			}
		case *bool:
			if f != nil {
				given[s.Key] = strconv.FormatBool(*f)
			}
		}
	}
	return given
}

// sources are where a command's settings come from. The file may be named by the
// environment too.
func sources(file string, flags any) hubbub.Sources {
	if file == "" {
		file = os.Getenv(hubbub.ConfigFile)
	}
	s := hubbub.Sources{File: file, Env: os.Environ()}
	if flags != nil {
		s.Flags = settingFlags(flags)
	}
	return s
}

// placeOf is where a command finds a server's data: in a folder, or that of the
// configuration.
func placeOf(file, data string) (hubbub.Place, error) {
	from := sources(file, nil)
	if data != "" {
		from.Flags = map[string]string{"data": data}
	}
	return hubbub.PlaceOf(from)
}
