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
		if w.Outcome == Acked && w.Writer >= 0 {
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

// Living is, for a fault that some nodes went on through: how long it took from its
// begin until all of them took writes again, and the longest that a message was on
// its way among them. The second is false if there were none.
func (h *History) Living(f Fault) (resumed, latest time.Duration, are bool) {
	c := &check{History: h}
	nodes := h.living(f)
	for _, n := range nodes {
		resumed = max(resumed, c.resumed(f, n)-f.Began)
	}
	for _, l := range h.between(f, nodes) {
		latest = max(latest, l.took)
	}
	return resumed, latest, len(nodes) > 0
}

// Report is a table of the outages of all faults, those of one name together.
func (h *History) Report() string {
	type row struct {
		name    string
		times   int
		lasted  time.Duration
		columns [4][]time.Duration // writers, viewers, and of living nodes resumed and latest
	}
	var rows []*row
	for _, f := range h.Faults {
		i := slices.IndexFunc(rows, func(r *row) bool { return r.name == f.Name })
		if i < 0 {
			i, rows = len(rows), append(rows, &row{name: f.Name})
		}
		r := rows[i]
		r.times++
		r.lasted = max(r.lasted, f.Ended-f.Began)
		writers, viewers := h.Outages(f)
		r.columns[0], r.columns[1] = append(r.columns[0], writers...), append(r.columns[1], viewers...)
		if resumed, latest, are := h.Living(f); are {
			r.columns[2], r.columns[3] = append(r.columns[2], resumed), append(r.columns[3], latest)
		}
	}
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "fault\ttimes\tlasted\twriters: median\tmax\tviewers: median\tmax\tliving nodes write: median\tmax\ttheir latest frame: median\tmax")
	for _, r := range rows {
		fmt.Fprintf(table, "%s\t%d\t%s", r.name, r.times, seconds(r.lasted))
		for _, all := range r.columns {
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
