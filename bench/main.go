// Bench measures a running Hubbub: the control plane beside a floor, the fan-out
// beside floors and other servers, and what chat logs and message review add to a
// load by the clock, beside the same load without.
//
//	cd bench && go run .                      everything, which takes long
//	cd bench && go run . -quick               shorter and once, about seven minutes
//	cd bench && go run . -only room,open      parts: start, api, idle, room, open,
//	                                          crowd, scale, rooms, slow, storm, rush,
//	                                          mixed, tls, logging, review, nodes, bus,
//	                                          message, store
//	cd bench && go run . -peers hubbub,merged fewer servers
//	cd bench && go run . -runs 5 -save results
//
// The server runs as a process of its own on one processor, the load on the
// others; the servers take turns, and a ratio is that of neighbours. Printed are
// the machine, the command, and minimum, median and maximum of the runs.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

var (
	runs     = new(int) // of the part that is measured
	runsFlag = flag.Int("runs", 0, "counted runs of each figure; 0 is what each part usually has")
	only     = flag.String("only", "", "parts, by commas; empty for all")
	seconds  = flag.Float64("seconds", 0, "length of one timed run, the others in ratio; 0 is 2, and 10 of logging and review")
	viewers  = flag.Int("viewers", 1000, "viewers of the room of room and open")
	nodes    = flag.Int("nodes", 3, "nodes of the cluster of nodes, bus, message and store")
	peers    = flag.String("peers", "", "the servers to measure, by commas; empty for all")
	quick    = flag.Bool("quick", false, "once and shortly, in about seven minutes")
	save     = flag.String("save", "", "folder to write results.md, results.json and chart.svg to")
	beside   = flag.String("beside", "", "another hubbub, built before, measured in turn with this one")

	profiles = flag.String("profiles", "", "folder for CPU profiles of the servers of api, room, open, logging and review, which cost some of what is measured")
)

// runLength is the length of one timed run.
func runLength(usual float64) time.Duration {
	if *seconds > 0 {
		usual = *seconds
	}
	return time.Duration(usual * float64(time.Second))
}

func main() {
	if len(os.Args) == 3 {
		modes := map[string]func(string) error{"floor": floor, "peer": servePeer, "nats-node": natsNode, "load": helpLoad}
		if mode, ok := modes[os.Args[1]]; ok {
			if err := mode(os.Args[2]); err != nil {
				fmt.Fprintln(os.Stderr, strings.Join(os.Args[1:], " ")+":", err)
				os.Exit(1)
			}
			return
		}
	}
	flag.Parse()
	if err := bench(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func bench() error {
	parts := []struct {
		names []string
		usual int  // counted runs without -runs; scenarios have their own
		long  bool // -quick leaves it out, unless -only names it
		run   func(binary, dir string) error
	}{
		{[]string{"start"}, 5, false, benchStart},
		{[]string{"api"}, 3, true, benchAPI},
		{scenarioNames(scenarios), 0, false, benchFanOut},
		{[]string{"tls"}, 1, true, benchTLS},
		{[]string{"logging"}, 1, true, benchLogging},
		{[]string{"review"}, 1, true, benchReview},
		{scenarioNames(clusterScenarios), 0, true, benchCluster},
	}
	var names []string
	for _, part := range parts {
		names = append(names, part.names...)
	}
	if *only != "" {
		for _, name := range strings.Split(*only, ",") {
			if !slices.Contains(names, name) {
				return fmt.Errorf("there is no part %q: -only takes %s", name, strings.Join(names, ", "))
			}
		}
	}
	interrupted()
	begun := beginResults()
	fmt.Println("machine: ", measured.Machine)
	fmt.Println("command: ", measured.Command)
	fmt.Println("server on processor 0, load on the others")
	dir, err := os.MkdirTemp("", "hubbub-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "hubbub")
	build := exec.Command("go", "build", "-ldflags", "-s -w", "-o", binary, "./cmd/hubbub") // as make build does
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	build.Dir = ".."
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return err
	}
	for _, part := range parts {
		if !slices.ContainsFunc(part.names, chosen) || *quick && *only == "" && part.long {
			continue
		}
		*runs = part.usual
		if *runsFlag > 0 {
			*runs = *runsFlag
		} else if *quick {
			*runs = 1
		}
		if err := part.run(binary, dir); err != nil {
			return fmt.Errorf("%s: %w", strings.Join(part.names, ","), err)
		}
	}
	measured.Took = time.Since(begun).Round(time.Second).String()
	fmt.Println("\ntook", measured.Took)
	if *save == "" {
		return nil
	}
	return measured.save(*save)
}

// chosen says whether -only names a part.
func chosen(name string) bool {
	return *only == "" || slices.Contains(strings.Split(*only, ","), name)
}

// benchFanOut measures the scenarios of the fan-out.
func benchFanOut(binary, dir string) error {
	c, err := newContest(binary, dir, contestants)
	if err != nil {
		return err
	}
	c.all = slices.DeleteFunc(c.all, func(o contestant) bool {
		err := c.verify(o)
		if err != nil {
			fmt.Printf("%s is left out, for it does not deliver every message once and in order: %v\n", o.title, err)
		}
		return err != nil
	})
	return c.runAll(scenarios)
}

func (c *contest) runAll(scenarios []scenario) error {
	for _, s := range scenarios {
		if !chosen(s.name) || !slices.ContainsFunc(c.all, s.has) {
			continue
		}
		p, err := c.run(s)
		if err != nil {
			return err
		}
		measured.Parts = append(measured.Parts, p)
		if *save == "" {
			continue
		}
		if err := measured.save(*save); err != nil { // also if the next is interrupted
			return err
		}
	}
	return nil
}

func machine() string {
	cpu := "unknown processor"
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if _, rest, ok := bytes.Cut(b, []byte("model name\t: ")); ok {
			name, _, _ := bytes.Cut(rest, []byte("\n"))
			cpu = string(name)
		}
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return fmt.Sprintf("%s, %d processors, Linux %s, %s, %s", cpu, runtime.NumCPU(), bytes.TrimSpace(kernel), runtime.Version(), time.Now().UTC().Format(time.DateOnly))
}

// table collects figures by name, in the order in which they first came.
type table struct {
	names   []string
	figures map[string][]float64
}

func (t *table) add(name string, figure float64) {
	if t.figures == nil {
		t.figures = map[string][]float64{}
	}
	if _, ok := t.figures[name]; !ok {
		t.names = append(t.names, name)
	}
	t.figures[name] = append(t.figures[name], figure)
}

func (t *table) print(title string) {
	fmt.Printf("\n%s\n%-58s %5s %12s %12s %12s\n", title, "", "runs", "min", "median", "max")
	measured.Tables = append(measured.Tables, savedTable{title, t.names, t.figures})
	for _, name := range t.names {
		f := slices.Sorted(slices.Values(t.figures[name]))
		fmt.Printf("%-58s %5d %12s %12s %12s\n", name, len(f), short(f[0]), short(median(f)), short(f[len(f)-1]))
	}
}

func short(f float64) string {
	switch {
	case f >= 1000:
		return fmt.Sprintf("%.0f", f)
	case f >= 10:
		return fmt.Sprintf("%.1f", f)
	}
	return fmt.Sprintf("%.3f", f)
}

// percentile of durations in milliseconds; the slice is sorted in place.
func percentile(d []time.Duration, p float64) float64 {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return float64(d[min(len(d)-1, int(p*float64(len(d))))].Microseconds()) / 1000
}
