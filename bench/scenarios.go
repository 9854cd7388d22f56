package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// scenario is one kind of load, on a fresh server each time.
type scenario struct {
	name, title string
	usual       int      // counted runs without -runs
	compared    []string // the figures that ratios are taken of
	peers       []string // nil: all
	quick       []string // those of -quick, unless -peers names others; nil: all
	measure     func(c *contest, o contestant, p *process, f *figures) error
}

// has says whether a contestant is measured in it.
func (s scenario) has(o contestant) bool { return s.peers == nil || slices.Contains(s.peers, o.name) }

// figures of one run by name, in the order of the table.
type figures struct {
	names  []string
	values map[string]float64
}

func (f *figures) set(name string, value float64) {
	if f.values == nil {
		f.values = map[string]float64{}
	}
	if _, ok := f.values[name]; !ok {
		f.names = append(f.names, name)
	}
	f.values[name] = value
}

func (f *figures) phase(name string, p phase) {
	f.set(name+": CPU s a million", p.Cost)
	f.set(name+": p50 ms", p.P50)
	f.set(name+": p99 ms", p.P99)
	f.set(name+": max ms", p.Max)
	f.set(name+": load late, p99 ms", p.Late)
}

// few are the servers that -quick measures in the scenarios that take long.
var few = []string{"hubbub", "beside", "floor", "merged", "centrifuge", "gorilla"}

// withRooms are those in which a connection can be in one of many rooms at a
// cost that says something.
var withRooms = []string{"hubbub", "beside", "floor", "merged", "centrifuge", "nats"}

var scenarios = []scenario{
	{
		name: "idle", title: "idle memory: 10,000 viewers in one room", usual: 2, measure: measureIdle,
		compared: []string{"RSS KiB a viewer", "handshakes/s"},
	},
	{
		name: "room", title: "one room of 1,000 (or -viewers): eight messages in flight, then 50 messages/s", usual: 3, measure: measureRoom,
		compared: []string{"deliveries/s", "CPU s a million", "p99 ms", "50/s: CPU s a million", "50/s: p99 ms"},
	},
	{
		name: "open", title: "one room of 1,000 (or -viewers) by the clock: the highest rate held, then half and 80 % of it", usual: 1, measure: measureOpen,
		compared: []string{"deliveries/s held", "50 %: CPU s a million", "50 %: p99 ms", "80 %: p99 ms"},
	},
	{
		name: "crowd", title: "one room of 10,000, 10 messages/s", usual: 2, measure: measureCrowd, quick: few,
		compared: []string{"CPU s a million", "p99 ms"},
	},
	{
		name: "scale", title: "100 to 19,000 viewers of one room, 50,000 deliveries/s", usual: 1, measure: measureScale, peers: []string{"hubbub", "beside", "floor"},
		compared: []string{"100: CPU s a million", "1000: CPU s a million", "5000: CPU s a million", "10000: CPU s a million", "19000: CPU s a million", "19000: p99 ms"},
	},
	{
		name: "rooms", title: "950 rooms of 20, 1 and 3 messages/s each", usual: 2, measure: measureRooms, peers: withRooms,
		compared: []string{"1/s: CPU s a million", "1/s: p99 ms", "3/s: CPU s a million", "3/s: p99 ms"},
	},
	{
		name: "slow", title: "slow readers: 200 viewers, 500 messages/s, of them none, 1 % and 5 % that stop to read; then 100 and 500 that stop, of a room with 20 more", usual: 1, measure: measureSlow, peers: []string{"hubbub", "beside", "floor", "centrifuge", "gorilla"},
		compared: []string{"5 %: CPU s a million", "5 %: p99 ms", "5 % ÷ none, p99", "RSS KiB a slow reader's own", "kernel KiB a slow reader"},
	},
	{
		name: "storm", title: "connect storm: 19,000 viewers at once", usual: 2, measure: measureStorm, quick: few,
		compared: []string{"handshakes/s", "CPU µs a handshake", "p99 ms"},
	},
	{
		name: "rush", title: "a chat beside a connect storm: 200 viewers, 20 messages/s, and 19,000 others at once", usual: 2, measure: measureRush, peers: []string{"hubbub", "beside"},
		compared: []string{"in the storm: p99 ms", "in the storm: max ms", "s until the last"},
	},
	{
		name: "mixed", title: "messages, deletes and kicks: 20 rooms of 50, 20 actions/s each", usual: 2, measure: measureMixed, peers: []string{"hubbub", "beside"},
		compared: []string{"CPU s a million", "p99 ms", "kick until closed, p99 ms"},
	},
}

func scenarioNames(all []scenario) (names []string) {
	for _, s := range all {
		names = append(names, s.name)
	}
	return names
}

// join brings viewers to a server: rooms and tokens first, where there are any.
// It returns how long the handshakes took.
func join(o contestant, p *process, spec loadSpec, most time.Duration) (*load, time.Duration, error) {
	spec.Wire = o.wire
	spec.Rooms = max(1, spec.Rooms)
	if p.RoomARN != "" {
		rooms := []string{p.RoomARN}
		var err error
		if spec.Rooms > 1 {
			if rooms, err = createRooms(p, spec.Rooms, `"maximumMessageRatePerSecond":100`); err != nil {
				return nil, 0, err
			}
		}
		if spec.Tokens, err = mintEach(p, rooms, spec.Viewers); err != nil {
			return nil, 0, err
		}
	}
	if spec.Window == 0 {
		spec.Window = 64
	}
	l, err := startLoad(p, spec)
	if err != nil {
		return nil, 0, err
	}
	took, err := l.join(most)
	if err == nil && p.RoomARN == "" && len(p.others) > 0 {
		time.Sleep(500 * time.Millisecond) // until all servers of NATS know who wants what
	}
	if err != nil {
		l.close()
	}
	return l, took, err
}

// verify sees that every viewer gets every message once and in order, all frames
// parsed, before anything is timed.
func (c *contest) verify(o contestant) error {
	p, err := o.start(c)
	if err != nil {
		return err
	}
	defer p.stop()
	spec := loadSpec{Viewers: 200, Sample: 1}
	if slices.Contains(withRooms, o.name) {
		spec.Rooms = 10
	}
	l, _, err := join(o, p, spec, 20*time.Second)
	if err != nil {
		return err
	}
	defer l.close()
	f, err := l.open(p, 200*100, time.Second, 5*time.Second) // 20 viewers of 10 rooms, or 200 of one
	if err == nil && f.Missing != 0 {
		err = fmt.Errorf("%d deliveries are missing", f.Missing)
	}
	if err == nil && spec.Rooms == 0 {
		_, err = l.closed(p, 8, 300*time.Millisecond)
	}
	return errors.Join(err, l.check())
}

func measureIdle(c *contest, o contestant, p *process, f *figures) error {
	n := atMost(10_000)
	spec := loadSpec{Viewers: n, Sample: n, Window: 64, Wire: o.wire}
	if p.RoomARN != "" { // before the memory is read: minting grows the heap, too
		var err error
		if spec.Tokens, err = mintTokens(p, p.RoomARN, n); err != nil {
			return err
		}
	}
	// Pages of the program's file that the first viewer needs are no viewer's.
	idle, cpu := p.anonymous(), p.cpu()
	l, err := startLoad(p, spec)
	if err != nil {
		return err
	}
	took, err := l.join(60 * time.Second)
	if err != nil {
		l.close()
		return err
	}
	f.set("CPU µs a handshake", float64((p.cpu()-cpu).Microseconds())/float64(n))
	time.Sleep(500 * time.Millisecond)
	f.set("RSS KiB a viewer", (p.anonymous()-idle)/float64(n))
	f.set("RSS MiB", p.rss()/1024)
	f.set("handshakes/s", float64(n)/took.Seconds())
	l.close()
	if p.RoomARN == "" || *quick {
		return nil
	}
	for _, a := range []struct {
		name       string
		attributes func(i int) string
	}{
		{"settled", usualAttributes},
		{"settled, 1 KB of attributes", func(i int) string { return fmt.Sprintf(`{"about":"%01019d"}`, i) }},
		{"settled, 1 KB of the shortest attributes", shortestAttributes},
	} {
		if p, err = c.again(o, p); err != nil {
			return err
		}
		if err := measureSettled(p, n, a.name, a.attributes, f); err != nil {
			return err
		}
	}
	return nil
}

// shortestAttributes are as many as 1 KB can be: with keys of one and of two bytes,
// and no values.
func shortestAttributes(int) string {
	all := make(map[string]string, 128+448)
	for i := range 128 + 448 {
		all[string(rune(i))] = ""
	}
	text, err := json.Marshal(all)
	if err != nil {
		panic(err) // a map of strings
	}
	return string(text)
}

// settling is how long a server may take to give back what a storm leaves.
const settling = 10 * time.Second

// measureSettled has n viewers come to some who are there, each time with a pause
// in which the server gives back what the storm has left: so what minting and the
// first viewers need is no viewer's. Then all go.
func measureSettled(p *process, n int, name string, attributes func(i int) string, f *figures) error {
	before := n / 5
	tokens, err := mintWith(p, []string{p.RoomARN}, before+n, attributes)
	if err != nil {
		return err
	}
	var at []float64
	var loads []*load
	defer func() {
		for _, l := range loads {
			l.close()
		}
	}()
	for _, tokens := range [][]string{tokens[:before], tokens[before:]} {
		l, err := startLoad(p, loadSpec{Viewers: len(tokens), Sample: n, Window: 64, Wire: "hubbub", Tokens: tokens})
		if err != nil {
			return err
		}
		loads = append(loads, l)
		if _, err := l.join(60 * time.Second); err != nil {
			return err
		}
		time.Sleep(settling)
		at = append(at, p.anonymous())
	}
	f.set(name+": RSS bytes a viewer", (at[1]-at[0])*1024/float64(n))
	f.set(name+": RSS MiB", p.rss()/1024)
	for _, l := range loads {
		l.close()
	}
	loads = nil
	time.Sleep(settling)
	f.set(name+": RSS MiB when all have gone", p.rss()/1024)
	return nil
}

func measureRoom(_ *contest, o contestant, p *process, f *figures) error {
	l, _, err := join(o, p, loadSpec{Viewers: *viewers, Sample: 10}, 30*time.Second)
	if err != nil {
		return err
	}
	defer l.close()
	if _, err := l.closed(p, 8, length(0.3)); err != nil { // warm
		return err
	}
	ended := profiled(p, o.profile("room"), length(2))
	s, err := l.closed(p, 8, length(2))
	if err = errors.Join(err, <-ended); err != nil {
		return err
	}
	f.set("deliveries/s", s.Rate)
	f.set("CPU s a million", s.Cost)
	f.set("p50 ms", s.P50)
	f.set("p99 ms", s.P99)
	s, err = l.open(p, 50*float64(*viewers), length(3), 5*time.Second)
	if err != nil {
		return err
	}
	f.phase("50/s", s)
	return l.check()
}

// held is what a rate must fulfil: nothing missing half a second after the last
// message, and p99 within 100 ms.
func held(s phase, err error) bool { return err == nil && s.Missing == 0 && s.P99 <= 100 }

func measureOpen(c *contest, o contestant, p *process, f *figures) error {
	l, _, err := join(o, p, loadSpec{Viewers: *viewers, Sample: 10}, 30*time.Second)
	if err != nil {
		return err
	}
	saturated, err := l.closed(p, 8, length(0.5))
	if err != nil {
		l.close()
		return err
	}
	growth, finer := 1.3, 1.07
	if *quick {
		growth, finer = 1.6, 0
	}
	most, rate := 0.0, saturated.Rate/2
	var at phase
	for tries := 0; tries < 2 && rate < 30e6; {
		s, err := l.open(p, rate, length(1), 500*time.Millisecond)
		if held(s, err) && l.check() == nil {
			most, at, tries = rate, s, 0
			rate *= growth
			continue
		}
		if most == 0 && rate > saturated.Rate/10 { // not even what the closed loop had at half
			tries, rate = 0, rate/2
		}
		if tries++; tries == 2 && finer > 0 && most > 0 { // what lies between
			growth, finer = finer, 0
			tries, rate = 0, most*growth
		}
		if tries < 2 { // once more, on a fresh load: the first may have met a busy machine
			l.close()
			if p, err = c.again(o, p); err != nil {
				return err
			}
			if l, _, err = join(o, p, loadSpec{Viewers: *viewers, Sample: 10}, 30*time.Second); err != nil {
				return err
			}
		}
	}
	l.close()
	if most == 0 {
		return fmt.Errorf("no rate was held: %.0f deliveries/s were not", rate)
	}
	f.set("deliveries/s held", most)
	f.set("there: p99 ms", at.P99)
	if p, err = c.again(o, p); err != nil {
		return err
	}
	if l, _, err = join(o, p, loadSpec{Viewers: *viewers, Sample: 10}, 30*time.Second); err != nil {
		return err
	}
	defer l.close()
	for _, part := range []float64{0.5, 0.8} {
		name := fmt.Sprintf("%.0f %%", part*100)
		ended := profiled(p, o.profile(fmt.Sprintf("open-%.0f", part*100)), length(2))
		s, err := l.open(p, part*most, length(2), 3*time.Second)
		if err = errors.Join(err, <-ended); err != nil {
			return err
		}
		f.set(name+": CPU s a million", s.Cost)
		f.set(name+": p50 ms", s.P50)
		f.set(name+": p99 ms", s.P99)
	}
	return l.check()
}

// again ends a server and starts another in its place.
func (c *contest) again(o contestant, p *process) (*process, error) {
	p.stop()
	q, err := o.start(c)
	if err != nil {
		return nil, err
	}
	*p = *q
	return p, nil
}

func measureCrowd(_ *contest, o contestant, p *process, f *figures) error {
	n := atMost(10_000)
	l, _, err := join(o, p, loadSpec{Viewers: n, Sample: 50}, 60*time.Second)
	if err != nil {
		return err
	}
	defer l.close()
	s, err := l.open(p, float64(n)*10, length(5), 10*time.Second)
	if err != nil {
		return err
	}
	holds := 0.0
	if s.Missing == 0 && s.P99 < 250 {
		holds = 1
	}
	f.set("CPU s a million", s.Cost)
	f.set("core used, %", s.Cost*s.Rate/1e4)
	f.set("p50 ms", s.P50)
	f.set("p99 ms", s.P99)
	f.set("max ms", s.Max)
	f.set("held with p99 < 250 ms", holds)
	return l.check()
}

func measureRooms(_ *contest, o contestant, p *process, f *figures) error {
	rooms := atMost(19_000) / 20
	l, _, err := join(o, p, loadSpec{Viewers: rooms * 20, Rooms: rooms, Sample: 20}, 60*time.Second)
	if err != nil {
		return err
	}
	defer l.close()
	rates := []int{1, 3}
	if *quick {
		rates = rates[1:]
	}
	for _, rate := range rates {
		s, err := l.open(p, float64(rooms*20*rate), length(4), 5*time.Second)
		if err != nil {
			return err
		}
		f.phase(strconv.Itoa(rate)+"/s", s)
	}
	return l.check()
}

func measureStorm(_ *contest, o contestant, p *process, f *figures) error {
	n := atMost(19_000)
	spec := loadSpec{Viewers: n, Sample: n, Window: n, Wire: o.wire}
	if o.wire == "hubbub" {
		var err error
		begun := time.Now()
		if spec.Tokens, err = mintTokens(p, p.RoomARN, n); err != nil {
			return err
		}
		f.set("tokens minted/s before", float64(n)/time.Since(begun).Seconds())
	}
	cpu := p.cpu()
	l, err := startLoad(p, spec)
	if err != nil {
		return err
	}
	defer l.close()
	took, err := l.join(60 * time.Second)
	joined := float64(l.shared.joined.Load())
	h := l.shared.handshakes.now()
	f.set("handshakes/s", joined/took.Seconds())
	f.set("served, %", joined/float64(n)*100)
	f.set("s until the last", took.Seconds())
	f.set("refused or reset, then tried again", float64(l.shared.refused.Load()))
	f.set("CPU µs a handshake", float64((p.cpu()-cpu).Microseconds())/joined)
	f.set("p50 ms", h.ms(0.5))
	f.set("p99 ms", h.ms(0.99))
	if err != nil && joined < float64(n)/2 {
		return err
	}
	return nil
}

// measureRush has a room in which all is well, and then a storm on another room.
func measureRush(_ *contest, o contestant, p *process, f *figures) error {
	const rate, viewers = 20, 200
	chat, _, err := join(o, p, loadSpec{Viewers: viewers}, 20*time.Second)
	if err != nil {
		return err
	}
	defer chat.close()
	calm, err := chat.open(p, rate*viewers, length(2), 5*time.Second)
	if err != nil {
		return err
	}
	rooms, err := createRooms(p, 1, "")
	if err != nil {
		return err
	}
	n := atMost(19_000)
	spec := loadSpec{Viewers: n, Sample: n, Window: n, Wire: o.wire}
	if spec.Tokens, err = mintEach(p, rooms, n); err != nil {
		return err
	}
	storm, err := startLoad(p, spec)
	if err != nil {
		return err
	}
	defer storm.close()
	type outcome struct {
		phase
		err error
	}
	meanwhile := make(chan outcome, 1)
	go func() {
		s, err := chat.open(p, rate*viewers, 2*time.Second, 10*time.Second) // so long a storm is for certain
		meanwhile <- outcome{s, err}
	}()
	took, stormErr := storm.join(60 * time.Second)
	during := <-meanwhile
	if during.err != nil {
		return during.err
	}
	f.set("before: p99 ms", calm.P99)
	f.set("in the storm: p50 ms", during.P50)
	f.set("in the storm: p99 ms", during.P99)
	f.set("in the storm: max ms", during.Max)
	f.set("in the storm: load late, p99 ms", during.Late)
	f.set("in the storm: missing", float64(during.Missing))
	f.set("served, %", float64(storm.shared.joined.Load())/float64(n)*100)
	f.set("s until the last", took.Seconds())
	f.set("refused or reset, then tried again", float64(storm.shared.refused.Load()))
	if stormErr != nil && storm.shared.joined.Load() < int64(n)/2 {
		return stormErr
	}
	return chat.check()
}

// atMost is n, or what the limit on open files lets a server of this machine
// hold.
func atMost(n int) int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return n
	}
	return min(n, int(min(limit.Max, 1<<30)-500)/1000*1000)
}

// length is that of a timed part; -quick halves it, -seconds sets it in ratio
// to the usual 2.
func length(usual float64) time.Duration {
	switch {
	case *seconds > 0:
		usual *= *seconds / 2
	case *quick:
		usual /= 2
	}
	return time.Duration(usual * float64(time.Second))
}
