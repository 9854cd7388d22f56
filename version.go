package hubbub

import (
	"runtime"
	"runtime/debug"
	"strings"
)

// Version is what this program was built from.
type Version struct {
	Version  string `json:"version"`           // "v1.2.3"; "devel" if built from a checkout
	Revision string `json:"revision,omitzero"` // commit; "" if not known
	Time     string `json:"time,omitzero"`     // of the commit, RFC 3339
	Modified bool   `json:"modified,omitzero"` // the checkout had changes
	Go       string `json:"go"`                // "go1.26.8"
	Platform string `json:"platform"`          // "linux/amd64"
}

// BuildVersion reads what the linker noted.
func BuildVersion() Version {
	v := Version{Version: "devel", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	b, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if m := b.Main.Version; b.Main.Path == "hubbub" && m != "" && m != "(devel)" {
		v.Version = m
	}
	for _, s := range b.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value
		case "vcs.time":
			v.Time = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}

// String is one line for people: "hubbub v1.2.3 (commit 0123456789ab) go1.26.8 linux/amd64".
func (v Version) String() string {
	var b strings.Builder
	b.WriteString("hubbub " + v.Version)
	if v.Revision != "" {
		b.WriteString(" (commit " + v.Revision[:min(12, len(v.Revision))])
		if v.Modified {
			b.WriteString(", modified")
		}
		b.WriteString(")")
	}
	b.WriteString(" " + v.Go + " " + v.Platform)
	return b.String()
}
