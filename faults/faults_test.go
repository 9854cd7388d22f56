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
	seed = flag.Uint64("seed", 0, "repeats a run: the seed that it printed; 0 takes a new one")
	long = flag.Bool("long", false, "faults last as long as they do in the worst of nights, and come in several orders")
	only = flag.String("only", "", "runs faults whose names match this regular expression, and no others")
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
	a := b.nodes[0]
	b.run(
		fault{name: "nothing", short: 3, long: 10, begin: nothing, end: nothing},
		fault{name: "kill -9", short: 1, long: 5, begin: b.kills(a), end: b.starts(a)},
		fault{name: "restart", short: 1, long: 5, begin: a.Stop, end: b.starts(a)},
		fault{name: "SIGSTOP", short: 3, long: 20, begin: a.Pause, end: a.Resume},
		fault{name: "disk full", short: 3, long: 30, begin: b.fills(a), end: b.frees(a)},
		fault{name: "200 ms, 2 % loss", short: 5, long: 30, begin: b.slow(lab.Clients, "a"), end: b.lab.Heal},
		fault{name: "clients cut off", long: 30, begin: b.cuts([]string{lab.Clients}, []string{"a"}), end: b.lab.Heal, cuts: true},
		fault{name: "clients unheard", long: 30, begin: b.cutsOneWay(lab.Clients, "a"), end: b.lab.Heal, cuts: true},
		fault{name: "server unheard", long: 30, begin: b.cutsOneWay("a", lab.Clients), end: b.lab.Heal, cuts: true},
		fault{name: "destination cut off", short: 3, long: 30, begin: b.cuts([]string{lab.Outside}, []string{"a"}), end: b.lab.Heal},
	)
}

func nothing() {}

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
	rounds := 1
	if *long {
		rounds = 3
	}
	for range rounds {
		for _, i := range random.Perm(len(all) - 1) {
			if f := all[i+1]; f.time() > 0 && pattern.MatchString(f.name) {
				some = append(some, f)
			}
		}
	}
	return some
}
