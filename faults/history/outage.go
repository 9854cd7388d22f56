package history

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Outages are the longest times that each writer went without an acknowledged
// write, and each viewer without a frame, from the begin of a fault to its Until.
func (h *History) Outages(f Fault) (writers, viewers []time.Duration) {
	acked, came := map[int][]Time{}, map[int][]Time{}
	for _, w := range h.Writes {
		if w.Outcome == Acked {
			acked[w.Writer] = append(acked[w.Writer], w.Ended)
		}
	}
	for _, c := range h.Connections {
		for _, frame := range c.Frames {
			came[c.Viewer] = append(came[c.Viewer], frame.At)
		}
	}
	return longest(acked, f), longest(came, f)
}

// longest is for each the longest time from the begin to Until in which nothing
// happened.
func longest(times map[int][]Time, f Fault) (all []time.Duration) {
	for _, at := range times {
		slices.Sort(at)
		last, most := f.Began, time.Duration(0)
		for _, t := range at {
			if t >= f.Began && t <= f.Until {
				most, last = max(most, t-last), t
			}
		}
		all = append(all, max(most, f.Until-last))
	}
	slices.Sort(all)
	return all
}

// Report is a table of the outages of all faults, those of one name together.
func (h *History) Report() string {
	var names []string
	writers, viewers := map[string][]time.Duration{}, map[string][]time.Duration{}
	lasted, times := map[string]time.Duration{}, map[string]int{}
	for _, f := range h.Faults {
		if times[f.Name] == 0 {
			names = append(names, f.Name)
		}
		w, v := h.Outages(f)
		writers[f.Name], viewers[f.Name] = append(writers[f.Name], w...), append(viewers[f.Name], v...)
		lasted[f.Name] = max(lasted[f.Name], f.Ended-f.Began)
		times[f.Name]++
	}
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "fault\ttimes\tlasted\twriters: median\tmax\tviewers: median\tmax")
	for _, name := range names {
		fmt.Fprintf(table, "%s\t%d\t%s", name, times[name], seconds(lasted[name]))
		for _, all := range [][]time.Duration{writers[name], viewers[name]} {
			if slices.Sort(all); len(all) == 0 {
				fmt.Fprint(table, "\t-\t-")
			} else {
				fmt.Fprintf(table, "\t%s\t%s", seconds(all[len(all)/2]), seconds(all[len(all)-1]))
			}
		}
		fmt.Fprintln(table)
	}
	_ = table.Flush()
	return text.String()
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }
