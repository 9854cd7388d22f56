package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	steadyRate    = 1000 // messages a second, in all rooms together
	steadyViewers = 10   // of each room; the first sends
	steadyWarmUp  = time.Second
)

// shape is how the steady load is spread: 20 rooms are each at five times the
// rate that the service lets a room have by default, and what a server of many
// rooms sees; one room is the most that a room's lock, and the lane of its logs,
// can be asked for.
type shape struct {
	name  string
	rooms int
}

var shapes = []shape{{"20 rooms, 50 messages/s each", 20}, {"one room, 1,000 messages/s", 1}}

// steady is a load of 1,000 messages a second by the clock, whatever the server
// does: a message that should have been sent while the sender or the server was
// busy counts from when it was due.
type steady struct {
	rooms     [][]net.Conn
	delivered atomic.Int64
	readers   sync.WaitGroup

	mu     sync.Mutex
	delays []time.Duration // of all deliveries, after the warm-up
	failed error
}

type steadyFigures struct {
	messages      int // the warm-up included
	p50, p99, max float64
	late, latest  float64       // how late the load itself sent: p99 and the most
	rss           float64       // MiB at the end of the load
	used          time.Duration // processor time of the server before the load
}

// runSteady brings viewers into the rooms and sends. It returns when everything
// has been delivered to every viewer, and fails if something was not. The profile
// is named as in profiled.
func runSteady(p *process, rooms []string, profile string) (f steadyFigures, err error) {
	l := &steady{}
	defer l.close()
	for _, room := range rooms {
		tokens, err := mintTokens(p, room, steadyViewers)
		if err != nil {
			return f, err
		}
		var conns []net.Conn
		for _, t := range tokens {
			c, err := upgrade(p.Messaging, t)
			if err != nil {
				return f, err
			}
			conns = append(conns, c)
		}
		l.rooms = append(l.rooms, conns)
	}
	time.Sleep(300 * time.Millisecond)
	length := runLength(10)
	f.used = p.cpu()
	f.messages = int((steadyWarmUp + length).Seconds() * steadyRate)
	begun := time.Now()
	for _, conns := range l.rooms {
		for _, c := range conns {
			l.readers.Go(func() { l.read(c, begun.Add(steadyWarmUp), f.messages) })
		}
	}
	ended := profiled(p, profile, length)
	defer func() { err = errors.Join(err, <-ended) }()
	late := make([]time.Duration, 0, f.messages)
	for i := range f.messages {
		due := begun.Add(time.Duration(i) * time.Second / steadyRate)
		time.Sleep(time.Until(due))
		late = append(late, time.Since(due))
		if err := sendMessage(l.rooms[i%len(rooms)][0], i, due); err != nil {
			return f, err
		}
	}
	f.rss = p.rss() / 1024
	want := int64(f.messages * steadyViewers)
	if err := await(10*time.Second, func() (bool, error) { return l.delivered.Load() >= want, l.error() }); err != nil {
		return f, fmt.Errorf("%d of %d deliveries: %w", l.delivered.Load(), want, err)
	}
	l.close()
	f.p50, f.p99, f.max = percentile(l.delays, 0.5), percentile(l.delays, 0.99), percentile(l.delays, 1)
	f.late, f.latest = percentile(late, 0.99), percentile(late, 1)
	return f, l.error()
}

// close ends the connections and waits for what was read.
func (l *steady) close() {
	for _, conns := range l.rooms {
		for _, c := range conns {
			c.Close()
		}
	}
	l.readers.Wait()
}

// read takes the delay of every delivery that was due after the warm-up.
func (l *steady) read(c net.Conn, from time.Time, messages int) {
	r := bufio.NewReaderSize(c, 16<<10)
	delays := make([]time.Duration, 0, messages)
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.delays = append(l.delays, delays...)
	}()
	var frame []byte
	var err error
	for last := -1; ; {
		if frame, err = readText(r, frame); err != nil {
			return
		}
		seq, due, ok := stamped(frame)
		if !ok || seq <= last {
			l.fail(fmt.Errorf("not the next message: %.200s", frame))
			return
		}
		if last = seq; !due.Before(from) {
			delays = append(delays, time.Since(due))
		}
		l.delivered.Add(1)
	}
}

func (l *steady) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failed = errors.Join(l.failed, err)
}

func (l *steady) error() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed
}

// await asks every 10 ms.
func await(most time.Duration, is func() (bool, error)) error {
	for end := time.Now().Add(most); ; time.Sleep(10 * time.Millisecond) {
		done, err := is()
		switch {
		case done || err != nil:
			return err
		case time.Now().After(end):
			return fmt.Errorf("not within %v", most)
		}
	}
}

// call does an operation of the control plane.
func call(p *process, operation, body string, out any) error {
	r, err := signed(p, "/"+operation, body)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s %s", operation, response.Status, b)
	}
	return json.Unmarshal(b, out)
}

// createRooms makes rooms that all have the same members; "" is none.
func createRooms(p *process, n int, members string) (arns []string, err error) {
	for range n {
		var out struct{ ARN string }
		if err := call(p, "CreateRoom", "{"+members+"}", &out); err != nil {
			return nil, err
		}
		arns = append(arns, out.ARN)
	}
	return arns, nil
}

// metric is the sum of a metric of the server over all series that have the label.
func (p *process) metric(name, label string) (sum float64, err error) {
	response, err := http.Get(p.Admin + "/metrics")
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err
	}
	found := false
	for line := range bytes.Lines(b) {
		series, value, _ := strings.Cut(strings.TrimSpace(string(line)), " ")
		if of, labels, _ := strings.Cut(series, "{"); of == name && strings.Contains(labels, label) {
			v, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return 0, err
			}
			sum, found = sum+v, true
		}
	}
	if !found {
		return 0, errors.New("the server has no metric " + name)
	}
	return sum, nil
}
