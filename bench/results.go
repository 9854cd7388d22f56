package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// results is what a call of the benchmark measured.
type results struct {
	Date    string       `json:"date"`
	Machine string       `json:"machine"`
	Load    string       `json:"load"` // of the machine when it began
	Commit  string       `json:"commit"`
	Command string       `json:"command"`
	Took    string       `json:"took"`
	Parts   []*part      `json:"parts"`
	Tables  []savedTable `json:"tables,omitempty"`
}

type savedTable struct {
	Title   string               `json:"title"`
	Figures []string             `json:"figures"`
	Runs    map[string][]float64 `json:"runs"`
}

// measured is filled in as the parts end.
var measured results

func beginResults() time.Time {
	now := time.Now()
	measured = results{Date: now.UTC().Format(time.DateTime) + " UTC", Machine: machine(), Command: strings.Join(append([]string{"go run ."}, os.Args[1:]...), " ")}
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		measured.Load = strings.Join(strings.Fields(string(b))[:3], " ")
	}
	if b, err := exec.Command("git", "describe", "--always", "--dirty").Output(); err == nil {
		measured.Commit = strings.TrimSpace(string(b))
	}
	return now
}

// save writes results.json, results.md and chart.svg.
func (r *results) save(folder string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	caption := r.Machine + ", " + r.Commit + "; medians of the runs, lines from minimum to maximum"
	return errors.Join(
		os.WriteFile(filepath.Join(folder, "results.json"), append(b, '\n'), 0o644),
		os.WriteFile(filepath.Join(folder, "results.md"), []byte(r.markdown()), 0o644),
		os.WriteFile(filepath.Join(folder, "chart.svg"), []byte(chart(r.Parts, caption)), 0o644))
}

func (r *results) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# What was measured\n\n- machine: %s\n- load average when it began: %s\n- command: `%s`, at %s\n- %s, took %s\n", r.Machine, r.Load, r.Command, r.Commit, r.Date, r.Took)
	b.WriteString("\nMinimum / median / maximum of the runs; one figure where there was one run. The server had processor 0, the load the others. The last column is the " +
		"median of the ratios of neighbours.\n\n![chart](chart.svg)\n\n")
	for _, p := range r.Parts {
		b.WriteString(p.markdown())
	}
	for _, t := range r.Tables {
		fmt.Fprintf(&b, "### %s\n\n| | runs | min / median / max |\n| --- | ---: | ---: |\n", t.Title)
		for _, name := range t.Figures {
			fmt.Fprintf(&b, "| %s | %d | %s |\n", name, len(t.Runs[name]), spread(t.Runs[name]))
		}
		b.WriteString("\n")
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// part is the results of a scenario.
type part struct {
	Name     string          `json:"name"`
	Title    string          `json:"title"`
	Headline string          `json:"headline"`
	Figures  []string        `json:"figures"`
	Servers  []serverResults `json:"servers"`
}

type serverResults struct {
	Name   string               `json:"name"`
	Title  string               `json:"title"`
	Runs   map[string][]float64 `json:"runs"` // by figure, in the order of the runs
	Ratios []float64            `json:"ratios,omitempty"`
	Failed []string             `json:"failed,omitempty"` // why runs have no figures
}

// run measures a scenario with all contestants, which take turns; none is always
// the first.
func (c *contest) run(s scenario) (*part, error) {
	out := &part{Name: s.name, Title: s.title, Headline: s.headline}
	var who []contestant
	for _, o := range c.all {
		in := s.peers == nil || slices.Contains(s.peers, o.name)
		if *quick && *peers == "" && s.quick != nil {
			in = slices.Contains(s.quick, o.name)
		}
		if in {
			who = append(who, o)
			out.Servers = append(out.Servers, serverResults{Name: o.name, Title: o.title, Runs: map[string][]float64{}})
		}
	}
	runs := s.usual
	if *runsFlag > 0 {
		runs = *runsFlag
	} else if *quick {
		runs = 1
	}
	for i := range runs {
		headlines := make([]float64, len(who))
		for j := range who {
			k := (i + j) % len(who)
			o, r := who[k], &out.Servers[k]
			p, err := o.start(c)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", o.name, err)
			}
			var f figures
			err = s.measure(c, o, p, &f)
			p.stop()
			if err != nil {
				r.Failed = append(r.Failed, err.Error())
				fmt.Printf("%s, %s, run %d: %v\n", s.name, o.name, i+1, err)
				continue
			}
			for _, name := range f.names {
				if !slices.Contains(out.Figures, name) {
					out.Figures = append(out.Figures, name)
				}
				r.Runs[name] = append(r.Runs[name], f.values[name])
			}
			headlines[k] = f.values[s.headline]
		}
		for k := range who {
			if who[0].name == "hubbub" && headlines[0] > 0 && headlines[k] > 0 {
				out.Servers[k].Ratios = append(out.Servers[k].Ratios, headlines[0]/headlines[k])
			}
		}
	}
	fmt.Print("\n", out.markdown())
	return out, nil
}

// markdown is a table: minimum, median and maximum of the runs.
func (p *part) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "### %s: %s\n\n| | runs |", p.Name, p.Title)
	for _, name := range p.Figures {
		fmt.Fprintf(&b, " %s |", name)
	}
	fmt.Fprintf(&b, " Hubbub ÷ it, %s |\n| --- | ---: |%s ---: |\n", p.Headline, strings.Repeat(" ---: |", len(p.Figures)))
	for _, s := range p.Servers {
		fmt.Fprintf(&b, "| %s | %d |", s.Title, len(s.Runs[p.Headline]))
		for _, name := range p.Figures {
			fmt.Fprintf(&b, " %s |", spread(s.Runs[name]))
		}
		fmt.Fprintf(&b, " %s |\n", spread(s.Ratios))
	}
	for _, s := range p.Servers {
		for _, why := range s.Failed {
			fmt.Fprintf(&b, "\n%s, a run without figures: %s\n", s.Title, strings.Join(strings.Fields(why), " "))
		}
	}
	return b.String() + "\n"
}

// spread is minimum, median and maximum.
func spread(f []float64) string {
	f = slices.Sorted(slices.Values(f))
	switch {
	case len(f) == 0:
		return "–"
	case len(f) == 1 || f[0] == f[len(f)-1]:
		return short(f[0])
	}
	return short(f[0]) + " / " + short(f[len(f)/2]) + " / " + short(f[len(f)-1])
}
