package hubbub

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Sources is where settings are read from. Flags win over the environment, the
// environment over the file, the file over the defaults.
type Sources struct {
	File  string            // path of the configuration file; "" = none
	Env   []string          // as os.Environ returns it; what does not begin with HUBBUB_ is not looked at
	Flags map[string]string // value by Setting.Key, those that were given
}

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	Where string // "hubbub.yaml:3", "HUBBUB_DRAIN", "--drain"; "" if it is nowhere in particular
	What  string // what is wrong, and what to write instead
}

func (p Problem) String() string {
	if p.Where == "" {
		return p.What
	}
	return p.Where + ": " + p.What
}

// Problems is everything that is wrong with a configuration, one line each.
type Problems []Problem

func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, problem := range p {
		lines[i] = problem.String()
	}
	return strings.Join(lines, "\n")
}

// Loaded is a configuration and where it came from.
type Loaded struct {
	Config   Config
	Warnings []Problem         // it works, and is probably not what was meant
	where    map[string]string // of the source that decided, by Setting.Key
}

// Load reads the sources and checks each setting by itself and all together. It
// opens no port and no store, and reads no other file than the configuration's;
// see Check for those it names. The error is a Problems with all that is wrong.
func Load(m Mode, from Sources) (Loaded, error) {
	l := loading{Loaded: Loaded{Config: Defaults(m), where: map[string]string{}}}
	l.read(from)
	if len(l.problems) == 0 {
		l.problems = l.Config.problems(func(key string) string { return l.where[key] })
	}
	if len(l.problems) > 0 {
		return l.Loaded, l.problems
	}
	l.Warnings = append(l.Warnings, l.Config.warnings(func(key string) string { return l.where[key] })...)
	return l.Loaded, nil
}

// PlaceOf is where the sources say that a server's data are. Only what any of them
// says by itself is checked, so that it serves for dev's files and serve's.
func PlaceOf(from Sources) (Place, error) {
	l := loading{Loaded: Loaded{Config: Defaults(Dev), where: map[string]string{}}}
	l.read(from)
	if len(l.problems) > 0 {
		return Place{}, l.problems
	}
	return Place{l.Config.Data, l.Config.Cluster != nil}, nil
}

// ConfigFile is the file that the environment names, for when no flag does.
const ConfigFile = envPrefix + "CONFIG"

type loading struct {
	Loaded
	problems Problems
}

// read applies the sources, the weakest first.
func (l *loading) read(from Sources) {
	if from.File != "" {
		l.file(from.File)
	}
	l.environment(from.Env)
	for _, s := range settings {
		if v, given := from.Flags[s.Key]; given {
			l.given(s, "--"+s.Flag(), v)
		}
	}
}

func (l *loading) refuse(where, format string, args ...any) {
	l.problems = append(l.problems, Problem{where, fmt.Sprintf(format, args...)})
}

// given applies the text of a flag or variable.
func (l *loading) given(s Setting, name, text string) {
	if s.tree == nil {
		l.apply(s, name, split(s, text))
		return
	}
	put, problems := parseText(s, name, text)
	l.problems = append(l.problems, problems...)
	put(&l.Config)
	l.where[s.Key] = name
}

// apply sets one setting from one source.
func (l *loading) apply(s Setting, where string, values []string) {
	if err := s.set(&l.Config, values); err != nil {
		// A flag and a variable name themselves.
		if strings.HasPrefix(where, "-") || strings.HasPrefix(where, envPrefix) {
			l.refuse(where, "%v", err)
		} else {
			l.refuse(where, "%s: %v", s.Key, err)
		}
		return
	}
	l.where[s.Key] = where
}

// split takes apart the value of a flag or variable.
func split(s Setting, value string) []string {
	if !s.list {
		return []string{value}
	}
	values := strings.Split(value, ",")
	for i, v := range values {
		values[i] = strings.TrimSpace(v)
	}
	return values
}

// environment applies the HUBBUB_ variables; an empty one is not there. Unknown ones are warned about and
// not refused: other tools of an installation may use the prefix, and Kubernetes
// sets some for every service whose name begins with "hubbub".
func (l *loading) environment(env []string) {
	values := map[string]string{}
	for _, e := range env {
		if name, value, ok := strings.Cut(e, "="); ok && strings.HasPrefix(name, envPrefix) && value != "" {
			values[name] = value
		}
	}
	delete(values, ConfigFile)
	known := make([]string, len(settings))
	for i, s := range settings {
		known[i] = s.Env()
		if v, given := values[s.Env()]; given {
			l.given(s, s.Env(), v)
			delete(values, s.Env())
		}
	}
	for _, name := range slices.Sorted(keysOf(values)) {
		if fromKubernetes(name) {
			continue
		}
		l.Warnings = append(l.Warnings, Problem{name, "is no setting and was not looked at" + suggest("", name, known)})
	}
}

// fromKubernetes says whether a variable is one of those that Kubernetes sets
// in every container, for services of that name.
var fromKubernetes = regexp.MustCompile(`^HUBBUB_(.*_)?(SERVICE_(HOST|PORT(_.*)?)|PORT(_[0-9]+_(TCP|UDP)(_(PROTO|PORT|ADDR))?)?)$`).MatchString

func keysOf[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// suggest is the end of a sentence about an unknown name behind a prefix: what was meant.
func suggest(prefix, name string, known []string) string {
	best, least := "", max(len(name)/2, 2)+1
	for _, k := range known {
		d := distance(strings.ToLower(name), strings.ToLower(k))
		if strings.HasPrefix(k, name+"_") || strings.HasSuffix(k, "."+name) { // a part was left out
			d = 1
		}
		if d < least {
			best, least = k, d
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + prefix + best + "?"
}

// distance is the number of letters to insert, remove or replace.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// file applies the configuration file.
func (l *loading) file(path string) {
	data, err := os.ReadFile(path)
	if err != nil {
		l.refuse(path, "cannot be read: %v", unwrapPath(err))
		return
	}
	values, problems := parseFile(path, data)
	l.problems = append(l.problems, problems...)
	for _, v := range values {
		if v.put != nil {
			v.put(&l.Config)
			l.where[v.setting.Key] = v.where
			continue
		}
		if v.setting.path {
			for i := range v.values {
				v.values[i] = below(filepath.Dir(path), v.values[i])
			}
		}
		l.apply(v.setting, v.where, v.values)
	}
}
