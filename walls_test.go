package hubbub

import (
	"go/parser"
	"go/token"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// floors are the stages of the house from the top. A package may import those
// of lower floors, and none of its own.
var floors = [][]string{
	{"hubbub/cmd/hubbub"},
	{"hubbub"},
	{"hubbub/control", "hubbub/hub", "hubbub/chatlog", "hubbub/archive"},
	{"hubbub/registry", "hubbub/review", "hubbub/cloudwatch", "hubbub/chattoken", "hubbub/iam", "hubbub/socket"},
	{"hubbub/engine", "hubbub/engine/natstest", "hubbub/sigv4", "hubbub/quota"},
	{"hubbub/ivschat"},
}

// importers are the only packages that may import a package, whatever the floors say.
var importers = map[string][]string{
	"hubbub/control":    {"hubbub"},
	"hubbub/hub":        {"hubbub"},
	"hubbub/chatlog":    {"hubbub", "hubbub/cmd/hubbub"}, // the command reads logs back
	"hubbub/cloudwatch": {"hubbub"},
	"hubbub/archive":    {"hubbub"},
	"hubbub":            {"hubbub/cmd/hubbub"},

	"hubbub/engine/natstest": {}, // it is for tests
}

// nats is the module path that only the engine may import, and what runs one that is
// not ours for tests.
const nats = "github.com/nats-io/"

// only are packages that may import nothing but the standard library and these.
var only = map[string][]string{
	"hubbub/ivschat": {"github.com/go-json-experiment/json", "github.com/aws/aws-sdk-go-v2/aws/arn"},
}

func TestWalls(t *testing.T) {
	floor := map[string]int{}
	for i, packages := range floors {
		for _, p := range packages {
			floor[p] = i
		}
	}
	seen := map[string]bool{}
	for _, f := range goFiles(t) {
		pkg, test := path.Join("hubbub", filepath.ToSlash(filepath.Dir(f))), strings.HasSuffix(f, "_test.go")
		level, placed := floor[pkg]
		if !placed {
			t.Errorf("%s: package %s has no place among the floors of this test", f, pkg)
			continue
		}
		seen[pkg] = true
		for _, imported := range importsOf(t, f) {
			if strings.HasPrefix(imported, nats) && pkg != "hubbub/engine" && pkg != "hubbub/engine/natstest" {
				t.Errorf("%s imports %s; only the engine may", f, imported)
			}
			if test { // a test may look around its room, but not at NATS
				continue
			}
			ours := imported == "hubbub" || strings.HasPrefix(imported, "hubbub/")
			if below, known := floor[imported]; ours && (!known || below <= level) {
				t.Errorf("%s imports %s, which is not below %s", f, imported, pkg)
			}
			if who, limited := importers[imported]; limited && !slices.Contains(who, pkg) {
				t.Errorf("%s imports %s; only %s may", f, imported, strings.Join(who, ", "))
			}
			if pkg == "hubbub/socket" && ours {
				t.Errorf("%s imports %s; socket knows bytes and connections and nothing of ours", f, imported)
			}
			if allowed, limited := only[pkg]; limited && !standard(imported) && !slices.ContainsFunc(allowed, func(a string) bool {
				return imported == a || strings.HasPrefix(imported, a+"/")
			}) {
				t.Errorf("%s imports %s; %s may not", f, imported, pkg)
			}
		}
	}
	for p := range floor {
		if !seen[p] {
			t.Errorf("no file of %s was found: the test looks at the wrong place", p)
		}
	}
}

// standard says whether an import is of the standard library: its first element has no dot.
func standard(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	return !strings.Contains(first, ".") && first != "hubbub"
}

// goFiles are the files of this module, those for other systems too.
func goFiles(t *testing.T) (files []string) {
	t.Helper()
	const form = `{{$dir := .Dir}}{{range .GoFiles}}{{$dir}}/{{.}}{{"\n"}}{{end}}{{range .IgnoredGoFiles}}{{$dir}}/{{.}}{{"\n"}}{{end}}` +
		`{{range .TestGoFiles}}{{$dir}}/{{.}}{{"\n"}}{{end}}{{range .XTestGoFiles}}{{$dir}}/{{.}}{{"\n"}}{{end}}`
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", form, "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.FieldsSeq(string(out)) {
		file, err := filepath.Rel(here, line)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	return files
}

func importsOf(t *testing.T, file string) (imports []string) {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range parsed.Imports {
		p, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		imports = append(imports, p)
	}
	return imports
}
