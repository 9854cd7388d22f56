package main

import (
	"fmt"
	"time"
)

// scales are the viewers of one room in measureScale.
var scales = []int{100, 1000, 5000, 10_000, 19_000}

// measureScale has 50,000 deliveries a second whatever the number of viewers, so
// that what a delivery costs says whether the cost grows with them faster than
// they do. The kernel's share grows by itself, as its records of the sockets do
// not stay in the caches: the floor shows it.
func measureScale(c *contest, o contestant, p *process, f *figures) error {
	var first, last phase
	for i, n := range scales {
		n = atMost(n)
		if i > 0 {
			var err error
			if p, err = c.again(o, p); err != nil {
				return err
			}
		}
		idle := p.anonymous()
		l, _, err := join(o, p, loadSpec{Viewers: n, Sample: max(1, n/200)}, 60*time.Second)
		if err != nil {
			return err
		}
		s, err := l.open(p, 50_000, length(3), 10*time.Second)
		if err == nil {
			err = l.check()
		}
		if err == nil && s.Missing > 0 {
			err = fmt.Errorf("%d deliveries to %d viewers are missing", s.Missing, n)
		}
		l.close()
		if err != nil {
			return err
		}
		name := fmt.Sprint(n)
		f.set(name+": CPU s a million", s.Cost)
		f.set(name+": p99 ms", s.P99)
		f.set(name+": RSS MiB", p.rss()/1024)
		if n >= 5000 { // below, the process itself is most of it
			f.set(name+": RSS KiB a viewer, tokens minted too", (p.anonymous()-idle)/float64(n))
		}
		if n == 1000 {
			first = s
		}
		last = s
	}
	f.set("most viewers ÷ 1,000, CPU a delivery", last.Cost/first.Cost)
	return nil
}
