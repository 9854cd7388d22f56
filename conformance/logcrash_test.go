package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// logWindow is how old what a viewer got may be when the server is killed, and
// still be missing in the log: 10 ms in which records wait for each other, and the
// writes that are under way, for which this leaves much. A disk that stalls, which
// is measured beside, makes it longer.
const logWindow = 250 * time.Millisecond

// stalls writes to a file of its own, as the store does, until it is stopped, and
// says what the longest write took.
func stalls(t testing.TB) (stop func() time.Duration) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "probe"))
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	longest := make(chan time.Duration, 1)
	go func() {
		defer f.Close()
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		most := time.Duration(0)
		for {
			began := time.Now()
			_, err := f.WriteAt(make([]byte, 4096), 0)
			if err = errors.Join(err, f.Sync()); err != nil {
				t.Error(err)
			}
			most = max(most, time.Since(began))
			select {
			case <-over:
				longest <- most
				return
			case <-tick.C:
			}
		}
	}()
	return func() time.Duration { close(over); return <-longest }
}

// heard is what the viewers of one server got.
type heard struct {
	mu    sync.Mutex
	first map[string]time.Time // when the first viewer had a record, by the record
	order map[string][]string  // of a room, as one of its viewers had it
}

// hear notes a frame. One viewer of a room tells the order.
func (h *heard) hear(room string, leads bool, raw []byte) {
	at := time.Now()
	line := lineOf(raw)
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, known := h.first[line]; !known {
		h.first[line] = at
	}
	if leads {
		h.order[room] = append(h.order[room], line)
	}
}

// TestKillNineLosesNoLog kills the server ten times while people chat in several
// rooms, and looks for every record in two destinations.
func TestKillNineLosesNoLog(t *testing.T) {
	k := openSinks(t)
	file := k.file("20ms", "  retry: {timeout: 500ms, max_pause: 50ms}")
	dir := t.TempDir()
	rounds := 10
	if testing.Short() {
		rounds = 2
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))

	var rooms []string
	var last *heard
	var killed time.Time
	var window, longest time.Duration // of the last round, of all
	var oldest time.Duration          // age of a record that was lost
	sent, young, lost := 0, 0, 0
	for round := range rounds + 1 {
		s, err := startServer("--data", dir, "--limits", "none", "--config", file)
		if err != nil {
			t.Fatal(err)
		}
		stopped := false
		defer func() {
			if !stopped {
				_ = s.cmd.Process.Kill()
				_ = s.cmd.Wait()
			}
			if t.Failed() {
				t.Logf("the log of round %d:\n%s", round, s.log)
			}
		}()
		c := s.client()
		if round == 0 {
			a, b := loggedTo(t, c, toBucket("logs")), loggedTo(t, c, toGroup("logs"))
			for range 3 {
				rooms = append(rooms, loggedRoom(t, c, a, b))
			}
		} else {
			s.delivered(t)
			for _, sink := range []*sink{k.s3.sink, k.logs.sink} {
				got := map[string]int{}
				for _, room := range rooms {
					lines := firsts(sink.have("logs", idOf(room)))
					for i, l := range lines {
						got[l] = i + 1
					}
					// What is there stands in the order of the room, or of time where the two
					// differ: a message may overtake one that was received before it.
					latest, place := "", 0
					for _, l := range last.order[room] {
						if p := got[l]; p > place {
							latest, place = l, p
						} else if p > 0 && !timeOf(l).Before(timeOf(latest)) {
							t.Fatalf("round %d, %s: out of order:\n%s stands before\n%s", round, sink.service, l, latest)
						}
					}
				}
				wrong := 0
				for line, at := range last.first {
					age := killed.Sub(at)
					if age <= window {
						young++
					}
					if got[line] > 0 {
						continue
					}
					lost++
					oldest = max(oldest, age)
					if age > window && wrong == 0 {
						t.Errorf("round %d, %s: a record that a viewer had %v before the kill is lost, the window was %v: %s", round, sink.service, age, window, line)
					}
					if age > window {
						wrong++
					}
				}
				if wrong > 1 {
					t.Errorf("round %d, %s: and %d others", round, sink.service, wrong-1)
				}
			}
			sent += len(last.first)
			if t.Failed() {
				break
			}
		}
		if round == rounds {
			s.stop(t)
			stopped = true
			break
		}
		// The sinks take what comes, take nothing, or lose their answers.
		k.set([]fault{works, hangs, cutOff}[round%3])
		last = &heard{first: map[string]time.Time{}, order: map[string][]string{}}
		stop := stalls(t)
		var people sync.WaitGroup
		for _, room := range rooms {
			for i := range 2 {
				conn := connect(t, s, c, room, fmt.Sprint("u", i), every)
				people.Go(func() { talk(conn, room, i == 0, last) })
			}
		}
		killing := time.NewTimer(time.Duration(50+random.IntN(300)) * time.Millisecond)
		<-killing.C
		killed = time.Now()
		_ = s.cmd.Process.Kill()
		stall := stop()
		window, longest = logWindow+4*stall, max(longest, stall)
		people.Wait()
		_ = s.cmd.Wait()
		stopped = true
		k.set(works)
	}
	t.Logf("%d kills, %d records to each of 2 destinations; of %d copies that a viewer had in the last %v or more before a kill %d are missing, the oldest %v old; a write to the disk took up to %v",
		rounds, sent, young, logWindow, lost, oldest.Round(100*time.Microsecond), longest.Round(100*time.Microsecond))
	if sent < 50*rounds {
		t.Errorf("only %d records: the test did not do its work", sent)
	}
}

// talk sends a message, waits until it comes, and so on until the server dies.
func talk(c *websocket.Conn, room string, leads bool, to *heard) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for n := 0; ; n++ {
		id := fmt.Sprint(n)
		text := fmt.Sprintf(`{"Action":"SEND_MESSAGE","RequestId":"%s","Content":"%p"}`, id, c)
		if c.Write(ctx, websocket.MessageText, []byte(text)) != nil {
			return
		}
		for {
			_, raw, err := c.Read(ctx)
			if err != nil {
				return
			}
			to.hear(room, leads, raw)
			var f frame
			_ = json.Unmarshal(raw, &f)
			if f.RequestID == id && f.Content == fmt.Sprintf("%p", c) {
				break
			}
		}
	}
}

// TestSIGTERMFlushesLogs has records that would wait for an hour.
func TestSIGTERMFlushesLogs(t *testing.T) {
	k := openSinks(t)
	s := start(t, "--limits", "none", "--config", k.file("1h"))
	c := s.client()
	room := loggedRoom(t, c, loggedTo(t, c, toBucket("logs")), loggedTo(t, c, toGroup("logs")), loggedTo(t, c, toStream("logs")))
	alice := watch(t, connect(t, s, c, room, "alice", every))
	alice.sayAll("message", 200)
	began := time.Now()
	s.stop(t)
	t.Logf("ended after %v", time.Since(began))
	want := alice.records()
	same(t, "S3", k.s3.have("logs", idOf(room)), want)
	same(t, "CloudWatch Logs", k.logs.have("logs", idOf(room)), want)
	same(t, "Firehose", k.firehose.have("logs", ""), want)
}

// TestSIGTERMWithADeadSink ends in time, and loses nothing for the next start.
func TestSIGTERMWithADeadSink(t *testing.T) {
	for _, f := range []fault{hangs, denied} {
		t.Run(string(f), func(t *testing.T) {
			k := openSinks(t)
			file, dir := k.file("1h", "  retry: {timeout: 1s, max_pause: 100ms}"), t.TempDir()
			s := start(t, "--limits", "none", "--config", file, "--data", dir)
			c := s.client()
			room := loggedRoom(t, c, loggedTo(t, c, toBucket("logs")), loggedTo(t, c, toGroup("logs")), loggedTo(t, c, toStream("logs")))
			k.set(f)
			alice := watch(t, connect(t, s, c, room, "alice", every))
			alice.sayAll("message", 100)
			began := time.Now()
			s.stop(t)
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("the end took %v", took)
			} else {
				t.Logf("ended after %v", took)
			}
			k.set(works)
			s = start(t, "--limits", "none", "--config", file, "--data", dir)
			s.stop(t) // which flushes
			want := alice.records()
			same(t, "S3", k.s3.have("logs", idOf(room)), want)
			same(t, "CloudWatch Logs", k.logs.have("logs", idOf(room)), want)
			same(t, "Firehose", k.firehose.have("logs", ""), want)
		})
	}
}
