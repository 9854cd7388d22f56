package main

import (
	"errors"
	"fmt"
	"time"
)

// measureSlow says what those who do not read do to the others, and then what
// they cost the server.
func measureSlow(c *contest, o contestant, p *process, f *figures) error {
	if err := measureOthers(c, o, p, f); err != nil {
		return err
	}
	return measureStalled(c, o, p, f)
}

// measureOthers compares the delays of those who read.
func measureOthers(c *contest, o contestant, p *process, f *figures) error {
	var none float64
	percents := []int{0, 1, 5}
	if *quick {
		percents = []int{0, 5}
	}
	for _, percent := range percents {
		const viewers = 200
		l, _, err := join(o, p, loadSpec{Viewers: viewers, Sample: 3, Slow: viewers * percent / 100}, 30*time.Second)
		if err != nil {
			return err
		}
		l.slowDown()
		s, err := l.open(p, viewers*500, length(7), 5*time.Second)
		if err != nil {
			l.close()
			return err
		}
		name := fmt.Sprintf("%d %%", percent)
		f.set(name+": p99 ms", s.P99)
		f.set(name+": CPU s a million", s.Cost)
		if percent == 0 {
			none = s.P99
		} else {
			f.set(name+" ÷ none, p99", s.P99/none)
			f.set(name+": slow readers cut, %", l.cut())
		}
		err = l.check()
		l.close()
		if err != nil {
			return err
		}
		if p, err = c.again(o, p); err != nil {
			return err
		}
	}
	return nil
}

const (
	// readers are the viewers who read beside those who do not.
	readers = 20

	// fewSlow and manySlow are how many do not read. What one more of them costs, all else
	// being equal, is its own; what remains of the few is what they share.
	fewSlow, manySlow = 100, 500

	// stalled is how many messages are sent to them: some 350 of them are in the
	// kernel's buffers then, and Hubbub has almost the 2,048 that it holds for one.
	stalled = 2300

	// tooMany are sent then: with them it has more than it holds.
	tooMany = 300
)

// measureStalled stops many viewers of one room at once.
func measureStalled(c *contest, o contestant, p *process, f *figures) error {
	var grown [2]float64
	for i, slow := range []int{fewSlow, manySlow} {
		if i > 0 {
			var err error
			if p, err = c.again(o, p); err != nil {
				return err
			}
		}
		l, _, err := join(o, p, loadSpec{Viewers: readers + slow, Sample: readers + slow, Slow: slow}, 30*time.Second)
		if err != nil {
			return err
		}
		var kernel float64
		grown[i], kernel, err = l.stall(p)
		cut := l.cut()
		if err == nil && slow == manySlow {
			f.set("kernel KiB a slow reader", kernel/manySlow)
			f.set("cut before the end, %", cut)
			err = l.cutOff(p, f)
		}
		if err = errors.Join(err, l.check()); err != nil {
			l.close()
			return err
		}
		l.close()
	}
	own := (grown[1] - grown[0]) / (manySlow - fewSlow)
	f.set("RSS KiB a slow reader's own", own)
	f.set("RSS MiB more, however many they are", (grown[0]-fewSlow*own)/1024)
	return nil
}

// stall has the slow viewers stop, sends, and returns by how much the resident
// memory of the server grew and what the kernel held for it, both in KiB and at
// the worst moment: a server that cuts its slow readers early gives it back.
func (l *load) stall(p *process) (grown, kernel float64, err error) {
	time.Sleep(500 * time.Millisecond) // what joining cost is collected or not, but not in the middle
	before := p.anonymous()
	l.slowDown()
	sent := make(chan error, 1)
	go func() {
		_, err := l.open(p, float64(l.spec.Viewers)*500, stalled*time.Second/500, 5*time.Second)
		sent <- err
	}()
	for every := time.Tick(50 * time.Millisecond); ; <-every {
		s, err := p.connections()
		if err != nil {
			<-sent
			return 0, 0, err
		}
		grown, kernel = max(grown, p.anonymous()-before), max(kernel, s.memory)
		select {
		case err := <-sent:
			return grown, kernel, err
		default:
		}
	}
}

// cutOff sends more than Hubbub keeps for anybody.
func (l *load) cutOff(p *process, f *figures) error {
	if _, err := l.open(p, float64(l.spec.Viewers)*500, tooMany*time.Second/500, 5*time.Second); err != nil {
		return err
	}
	_ = await(time.Second, func() (bool, error) { return l.cut() == 100, nil })
	s, err := p.connections()
	if err != nil {
		return err
	}
	f.set("cut at 2,600 messages, %", l.cut())
	f.set("kernel KiB for all of them then", s.memory)
	return nil
}

// cut is how many of a hundred slow readers the server has cut.
func (l *load) cut() float64 { return float64(l.shared.cut.Load()) / float64(max(1, l.slow)) * 100 }
