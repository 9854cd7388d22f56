package history

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Outages are the longest times, from the begin of a fault to its Until, that each
// writer went without an acknowledged write, and each viewer without a frame of
// some sender of its room.
func (h *History) Outages(f Fault) (writers, viewers []time.Duration) {
	acked := map[int][]Time{}
	for _, w := range h.Writes {
		if w.Outcome == Acked {
			acked[w.Writer] = append(acked[w.Writer], w.Ended)
		}
	}
	for _, at := range acked {
		writers = append(writers, longest(at, f))
	}
	sender := map[int]int{} // by stream
	for _, m := range h.Sent {
		sender[m.Stream] = m.Sender
	}
	came := map[int]map[int][]Time{} // by viewer and sender
	for _, c := range h.Connections {
		if c.Viewer < 0 {
			continue
		}
		if came[c.Viewer] == nil {
			came[c.Viewer] = map[int][]Time{}
		}
		for _, frame := range c.Frames {
			if s := sender[frame.Stream]; s != 0 {
				came[c.Viewer][s] = append(came[c.Viewer][s], frame.At)
			}
		}
	}
	for _, senders := range came {
		most := time.Duration(0)
		for _, at := range senders {
			most = max(most, longest(at, f))
		}
		viewers = append(viewers, most)
	}
	slices.Sort(writers)
	slices.Sort(viewers)
	return writers, viewers
}

// longest is the longest time from the begin to Until in which nothing happened.
func longest(at []Time, f Fault) time.Duration {
	slices.Sort(at)
	last, most := f.Began, time.Duration(0)
	for _, t := range at {
		if t >= f.Began && t <= f.Until {
			most, last = max(most, t-last), t
		}
	}
	return max(most, f.Until-last)
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
