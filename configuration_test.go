package hubbub

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the tables of docs/configuration.md anew")

// TestConfigurationPage holds docs/configuration.md to the settings: its tables
// are made from them. Run with -update to write them.
func TestConfigurationPage(t *testing.T) {
	const path = "docs/configuration.md"
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := string(page)
	own := []string{"cluster", "review", "logging", "metrics", "limits"} // sections with a table each
	for _, table := range append([]string{"settings"}, own...) {
		begin, end := "<!-- "+table+": written by go test -run ConfigurationPage -update . -->\n", "<!-- end -->"
		before, rest, found := strings.Cut(want, begin)
		_, after, ended := strings.Cut(rest, end)
		if !found || !ended {
			t.Fatalf("%s has no place for the table of %s", path, table)
		}
		var b strings.Builder
		b.WriteString("| Key | Flag | Environment | Default | Meaning |\n| --- | --- | --- | --- | --- |\n")
		for _, s := range settings {
			section, _, below := strings.Cut(s.Key, ".")
			if !below || !slices.Contains(own, section) {
				section = "settings"
			}
			if section == table {
				fmt.Fprintf(&b, "| `%s` | `--%s %s` | `%s` | %s | %s |\n", s.Key, s.Flag(), s.Form, s.Env(), s.Default, s.Help)
			}
		}
		want = before + begin + b.String() + end + after
	}
	if want == string(page) {
		return
	}
	if !*update {
		t.Fatalf("%s differs from the settings; run go test -run ConfigurationPage -update . and look at the change", path)
	}
	if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}
