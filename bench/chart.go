package main

import (
	"fmt"
	"html"
	"slices"
	"strings"
)

// panels are the figures that the chart shows.
var panels = []struct{ part, figure, title string }{
	{"room", "deliveries/s", "Room of 1,000, eight messages in flight: deliveries/s"},
	{"open", "deliveries/s held", "Room of 1,000 by the clock: highest deliveries/s held"},
	{"room", "50/s: CPU s a million", "1,000 viewers, 50/s: CPU s a million deliveries (less is better)"},
	{"crowd", "p99 ms", "Room of 10,000, 10 messages/s: p99 ms (less is better)"},
	{"idle", "RSS KiB a viewer", "10,000 idle viewers: RSS KiB each (less is better)"},
	{"storm", "handshakes/s", "19,000 viewers at once: handshakes/s"},
}

// chart is bars of medians with a line from minimum to maximum, as SVG: Hubbub in
// colour, floors pale. It is "" if nothing was measured that it shows.
func chart(parts []*part, caption string) string {
	const (
		columns, width, left, right = 2, 480, 150, 80
		head, bar, gap              = 26, 15, 5
	)
	var shown []string
	tallest := 0
	for _, p := range panels {
		i := slices.IndexFunc(parts, func(o *part) bool { return o.Name == p.part })
		if i < 0 {
			continue
		}
		var b strings.Builder
		most := 0.0
		for _, s := range parts[i].Servers {
			for _, f := range s.Runs[p.figure] {
				most = max(most, f)
			}
		}
		if most == 0 {
			continue
		}
		scale := (width - left - right) / most
		fmt.Fprintf(&b, `<text x="8" y="16" class="t">%s</text>`, html.EscapeString(p.title))
		y := head
		for _, s := range parts[i].Servers {
			f := slices.Sorted(slices.Values(s.Runs[p.figure]))
			fmt.Fprintf(&b, `<text x="%d" y="%d" class="n">%s</text>`, left-6, y+12, html.EscapeString(s.Title))
			if len(f) == 0 {
				fmt.Fprintf(&b, `<text x="%d" y="%d" class="v">not held</text>`, left+4, y+12)
			} else {
				class := "peer"
				switch s.Name {
				case "hubbub", "beside":
					class = "hubbub"
				case "floor", "merged":
					class = "floor"
				}
				middle := median(f)
				fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%.1f" height="%d" class="%s"/>`, left, y, max(1, middle*scale), bar, class)
				if f[0] < f[len(f)-1] {
					fmt.Fprintf(&b, `<path d="M%.1f %dH%.1f" class="s"/>`, left+f[0]*scale, y+bar/2, left+f[len(f)-1]*scale)
				}
				fmt.Fprintf(&b, `<text x="%.1f" y="%d" class="v">%s</text>`, left+max(middle, f[len(f)-1])*scale+5, y+12, thousands(middle))
			}
			y += bar + gap
		}
		tallest = max(tallest, y+14)
		shown = append(shown, b.String())
	}
	if len(shown) == 0 {
		return ""
	}
	rows := (len(shown) + columns - 1) / columns
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="system-ui, sans-serif" font-size="12">`, columns*width, rows*tallest+24)
	b.WriteString(`<style>.t{font-weight:600}.n{text-anchor:end}.v{fill:#555}.hubbub{fill:#0b7285}.peer{fill:#adb5bd}.floor{fill:#dee2e6}.s{stroke:#212529}</style>`)
	b.WriteString(`<rect width="100%" height="100%" fill="#fff"/>`)
	for i, s := range shown {
		fmt.Fprintf(&b, "\n"+`<g transform="translate(%d %d)">%s</g>`, i%columns*width, i/columns*tallest, s)
	}
	fmt.Fprintf(&b, "\n"+`<text x="8" y="%d" class="v">%s</text></svg>`+"\n", rows*tallest+14, html.EscapeString(caption))
	return b.String()
}

func thousands(f float64) string {
	if f < 10_000 {
		return short(f)
	}
	s := fmt.Sprintf("%.0f", f)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
