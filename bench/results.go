package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
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
	if p, err := unix.Getpriority(unix.PRIO_PROCESS, 0); err == nil && p != 20 { // the system call says 20 less it
		measured.Load += fmt.Sprintf(", niceness %d", 20-p)
	}
	if b, err := exec.Command("git", "describe", "--always", "--dirty").Output(); err == nil {
		measured.Commit = strings.TrimSpace(string(b))
	}
	return now
}

// save writes results.json, results.md and, if there is something to show, chart.svg.
func (r *results) save(folder string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	caption := r.Machine + ", " + r.Commit + "; medians of the runs, lines from minimum to maximum"
	shown := chart(r.Parts, caption)
	err = errors.Join(
		os.WriteFile(filepath.Join(folder, "results.json"), append(b, '\n'), 0o644),
		os.WriteFile(filepath.Join(folder, "results.md"), []byte(r.markdown(shown != "")), 0o644))
	if shown != "" {
		err = errors.Join(err, os.WriteFile(filepath.Join(folder, "chart.svg"), []byte(shown), 0o644))
	}
	return err
}

func (r *results) markdown(charted bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# What was measured\n\n- machine: %s\n- load average when it began: %s\n- command: `%s`, at %s\n- %s, took %s\n", r.Machine, r.Load, r.Command, r.Commit, r.Date, r.Took)
	b.WriteString("\nMinimum / median / maximum of the runs; one figure where there was one run. The server had processor 0, the load the others. " +
		"Ratios are of neighbours in one run.\n\n")
	if charted {
		b.WriteString("![chart](chart.svg)\n\n")
	}
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
	Took     string          `json:"took"`
	Others   float64         `json:"others"` // share of the processors that other programs used meanwhile
	Figures  []string        `json:"figures"`
	Compared []string        `json:"compared"` // the figures that the ratios are of
	Servers  []serverResults `json:"servers"`
}

type serverResults struct {
	Name   string               `json:"name"`
	Title  string               `json:"title"`
	Ours   bool                 `json:"ours,omitempty"`
	Runs   map[string][]float64 `json:"runs"`             // by figure, in the order of the runs
	Ratios map[string][]float64 `json:"ratios,omitempty"` // that of ours by this one's in the same run
	Failed []string             `json:"failed,omitempty"` // why runs have no figures
}

// run measures a scenario with all contestants, which take turns; none is always
// the first.
func (c *contest) run(s scenario) (*part, error) {
	out := &part{Name: s.name, Title: s.title, Compared: s.compared}
	var who []contestant
	for _, o := range c.all {
		in := s.has(o)
		if *quick && *peers == "" && s.quick != nil {
			in = slices.Contains(s.quick, o.name)
		}
		if in {
			who = append(who, o)
			out.Servers = append(out.Servers, serverResults{Name: o.name, Title: o.title, Ours: o.ours, Runs: map[string][]float64{}, Ratios: map[string][]float64{}})
		}
	}
	runs := s.usual
	if *runsFlag > 0 {
		runs = *runsFlag
	} else if *quick {
		runs = 1
	}
	begun, busy := time.Now(), othersTime()
	for i := range runs {
		all := make([]figures, len(who))
		for j := range who {
			k := (i + j) % len(who)
			o, r := who[k], &out.Servers[k]
			var f figures
			p, err := o.start(c)
			if err == nil {
				err = s.measure(c, o, p, &f)
				p.stop()
			}
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
			all[k] = f
		}
		for k := 1; k < len(who) && who[0].ours; k++ {
			for _, name := range s.compared {
				ours, its := all[0].values[name], all[k].values[name]
				if ours > 0 && its > 0 {
					out.Servers[k].Ratios[name] = append(out.Servers[k].Ratios[name], ours/its)
				}
			}
		}
	}
	out.Took = time.Since(begun).Round(time.Second).String()
	out.Others = max(0, (othersTime()-busy).Seconds()/time.Since(begun).Seconds()/float64(runtime.NumCPU()))
	fmt.Print("\n", out.markdown())
	return out, nil
}

// othersTime is the processor time of all programs but this one and its servers
// that have ended.
func othersTime() time.Duration {
	b, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(b), "\n")
	var busy time.Duration
	for i, field := range strings.Fields(line) {
		if ticks, err := strconv.Atoi(field); err == nil && i != 4 && i != 5 && i <= 7 { // not idle, iowait, steal
			busy += time.Duration(ticks) * time.Second / 100
		}
	}
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if err := unix.Getrusage(who, &u); err == nil {
			busy -= time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
	}
	return busy
}

// markdown is a table of the figures, minimum, median and maximum of the runs, and
// one of the ratios.
func (p *part) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "### %s: %s\n\nTook %s; other programs used %.0f %% of the processors meanwhile.\n\n", p.Name, p.Title, p.Took, p.Others*100)
	runs := 0
	for _, s := range p.Servers {
		for _, f := range s.Runs {
			runs = max(runs, len(f))
		}
	}
	tabulate(&b, fmt.Sprintf("runs: %d", runs), p.Figures, p.Servers, func(s serverResults) map[string][]float64 { return s.Runs })
	if len(p.Servers) > 1 && p.Servers[0].Ours {
		b.WriteString("\n")
		tabulate(&b, p.Servers[0].Title+" ÷", p.Compared, p.Servers[1:], func(s serverResults) map[string][]float64 { return s.Ratios })
	}
	for _, s := range p.Servers {
		for _, why := range s.Failed {
			fmt.Fprintf(&b, "\n%s, a run without figures: %s\n", s.Title, strings.Join(strings.Fields(why), " "))
		}
	}
	return b.String() + "\n"
}

func tabulate(b *strings.Builder, corner string, columns []string, rows []serverResults, of func(serverResults) map[string][]float64) {
	fmt.Fprintf(b, "| %s | %s |\n| --- |%s\n", corner, strings.Join(columns, " | "), strings.Repeat(" ---: |", len(columns)))
	for _, s := range rows {
		fmt.Fprintf(b, "| %s |", s.Title)
		for _, name := range columns {
			fmt.Fprintf(b, " %s |", spread(of(s)[name]))
		}
		b.WriteString("\n")
	}
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
	return short(f[0]) + " / " + short(median(f)) + " / " + short(f[len(f)-1])
}

// median of sorted figures.
func median(f []float64) float64 {
	return (f[len(f)/2] + f[(len(f)-1)/2]) / 2
}
