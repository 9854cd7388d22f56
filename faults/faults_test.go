package faults

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"hubbub/faults/lab"
)

var (
	seed   = flag.Uint64("seed", 0, "repeats a run: the seed that it printed; 0 takes a new one")
	long   = flag.Bool("long", false, "faults last as long as they do in the worst of nights, and come in several orders")
	rounds = flag.Int("rounds", 3, "how often a long run has each fault")
	only   = flag.String("only", "", "runs faults whose names match this regular expression, and no others")
)

// binary is the server under test: HUBBUB_BIN, or ../cmd/hubbub.
var binary string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(func() int {
		if lab.Inside() {
			binary = os.Getenv("HUBBUB_BIN")
			return m.Run()
		}
		if os.Getenv("HUBBUB_BIN") == "" {
			dir, err := os.MkdirTemp("", "hubbub-faults-")
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
			defer os.RemoveAll(dir)
			binary := filepath.Join(dir, "hubbub")
			build := exec.Command("go", "build", "-o", binary, "./cmd/hubbub")
			build.Dir = ".."
			build.Stderr = os.Stderr
			if err := build.Run(); err != nil {
				fmt.Fprintln(os.Stderr, "the server could not be built:", err)
				return 1
			}
			os.Setenv("HUBBUB_BIN", binary)
		}
		// The servers sign with these in place of whatever the machine has.
		for _, k := range []string{"AWS_SESSION_TOKEN", "AWS_PROFILE"} {
			os.Unsetenv(k)
		}
		for k, v := range map[string]string{"AWS_ACCESS_KEY_ID": "AKIDCHATLOGS00000000", "AWS_SECRET_ACCESS_KEY": "chat-logs-secret-that-no-text-may-show", "AWS_EC2_METADATA_DISABLED": "true"} {
			os.Setenv(k, v)
		}
		if os.Getenv("GORACE") == "" { // servers do not wait for a second at their end
			os.Setenv("GORACE", "atexit_sleep_ms=50")
		}
		exit, err := lab.Enter()
		if err != nil {
			fmt.Fprintln(os.Stderr, "no lab here:", err)
			return m.Run() // which says so
		}
		return exit
	}())
}

// theSeed is that of this run.
func theSeed(t *testing.T) uint64 {
	t.Helper()
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano())
	}
	t.Logf("to repeat this: go test . -run '^%s$' -seed %d", t.Name(), *seed)
	return *seed
}

// TestOneNode has everything go wrong that can with a single server.
func TestOneNode(t *testing.T) {
	b := newBed(t, theSeed(t), 4*time.Second, "a")
	b.run(
		fault{name: "nothing", short: 3, long: 10},
		fault{name: "kill -9", short: 1, long: 5, begin: b.kill, end: b.start},
		fault{name: "restart", short: 1, long: 5, begin: b.stop, end: b.start},
		fault{name: "SIGSTOP", short: 3, long: 20, begin: b.pause, end: b.resume},
		fault{name: "disk full", short: 3, long: 30, begin: b.fill, end: b.free},
		fault{name: "200 ms, 2 % loss", short: 5, long: 30, begin: b.slow, end: b.heal},
		fault{name: "clients cut off", long: 30, begin: b.side(lab.Clients, true, true), end: b.heal, cuts: true},
		fault{name: "clients unheard", long: 30, begin: b.side(lab.Clients, false, true), end: b.heal, cuts: true},
		fault{name: "server unheard", long: 30, begin: b.side(lab.Clients, true, false), end: b.heal, cuts: true},
		fault{name: "destination cut off", short: 3, long: 30, begin: b.side(lab.Outside, true, true), end: b.heal},
	)
}

// TestThreeNodes has everything go wrong that can with a cluster. In a short run the
// machine may be busy with other tests and the servers look for races, so that what
// must happen within a time has more of it.
func TestThreeNodes(t *testing.T) {
	b := newBed(t, theSeed(t), 4*time.Second, "a", "b", "c")
	b.rules.Lag, b.rules.Resume, b.rules.Pause = 0, 12*time.Second, time.Second/2
	if !*long {
		b.rules.Resume, b.rules.Pause = 16*time.Second, 3*time.Second
	}
	all := []fault{
		{name: "nothing", short: 3, long: 10},
		{name: "kill -9 of all", short: 1, long: 5, begin: b.kill, end: b.start},
		{name: "restart one by one", long: 1, begin: b.skew(0)},
		{name: "200 ms, 2 % loss", long: 30, begin: b.slow, end: b.heal},
		{name: "kill -9 of the leader, another cut off", long: 10, at: b.leader, cuts: true, begin: func(leader []*lab.Node) {
			b.cut(b.follower())
			b.kill(leader)
		}, end: func(leader []*lab.Node) {
			b.lab.Heal()
			b.start(leader)
		}},
	}
	for _, of := range []struct {
		name  string
		at    func() []*lab.Node
		short bool
	}{{"the leader", b.leader, true}, {"a follower", b.follower, false}} {
		short := func(seconds int) int {
			if of.short {
				return seconds
			}
			return 0
		}
		all = append(all,
			fault{name: "kill -9 of " + of.name, short: short(1), long: 10, at: of.at, begin: b.kill, end: b.start, away: true},
			fault{name: of.name + " cut off", short: 7 - short(7), long: 30, at: of.at, begin: b.cut, end: b.heal, away: true, cuts: true},
			fault{name: of.name + " unheard", long: 30, at: of.at, begin: b.unheard, end: b.heal, away: true, cuts: true},
			fault{name: of.name + " deaf", long: 30, at: of.at, begin: b.deaf, end: b.heal, away: true, cuts: true},
			fault{name: of.name + " cut off, from clients too", long: 30, at: of.at, begin: b.cutOff, end: b.heal, away: true, cuts: true},
			fault{name: "SIGSTOP of " + of.name, long: 20, at: of.at, begin: b.pause, end: b.resume, away: true},
			fault{name: "clock of " + of.name + " 10 s ahead", long: 20, at: of.at, begin: b.skew(10 * time.Second), end: b.skew(0)},
			fault{name: "clock of " + of.name + " 10 s behind", long: 20, at: of.at, begin: b.skew(-10 * time.Second), end: b.skew(0)},
			fault{name: "disk of " + of.name + " full", long: 30, at: of.at, begin: b.fill, end: b.free},
		)
	}
	b.run(all...)
}

// chosen are the faults that this run is to have, in an order of its seed, in a long
// run again and again. The first, which is nothing, stays there.
func chosen(t *testing.T, seed uint64, all []fault) []fault {
	t.Helper()
	pattern, err := regexp.Compile(*only)
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(seed, 'o'))
	some := all[:1:1]
	times := 1
	if *long {
		times = *rounds
	}
	for range times {
		for _, i := range random.Perm(len(all) - 1) {
			if f := all[i+1]; f.time() > 0 && pattern.MatchString(f.name) {
				some = append(some, f)
			}
		}
	}
	return some
}
