package review

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"hubbub/ivschat"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	moderate = "arn:aws:lambda:us-west-2:123456789012:function:moderate"
	room     = ivschat.ARN("arn:aws:ivschat:us-west-2:123456789012:room/AbCdEf123456")
)

// original is a message whose every part shows where it comes from.
var original = Message{ID: "M2YcHkgffEvU", Room: room, Content: "Hello", Attributes: map[string]string{"own": "1"},
	Sender: ivschat.NewSender("alice", map[string]string{"username": "Alice"}), IP: netip.MustParseAddr("192.0.2.7")}

// fell and refused are what becomes of original by the fallback.
var (
	fell    = Verdict{Allowed: true, Content: "Hello", Attributes: map[string]string{"own": "1"}}
	refused = Verdict{Reason: ivschat.TextRejected}
)

// fake is a caller made of a function.
type fake func(ctx context.Context) (string, error)

func (f fake) call(ctx context.Context, _ string, _ ivschat.ARN, _ []byte) ([]byte, error) {
	body, err := f(ctx)
	return []byte(body), err
}

const allows = `{"ReviewResult":"ALLOW","Content":"Hi"}`

var allowed = Verdict{Allowed: true, Content: "Hi", Attributes: map[string]string{"own": "1"}}

func newFake(o Options, f fake) (*Reviewer, *recorder) {
	log := &recorder{}
	o.Log = slog.New(slog.NewTextHandler(log, nil))
	r := newReviewer(o)
	r.add(&handler{uri: moderate, configured: true, target: target{caller: f}})
	return r, log
}

// recorder keeps a log.
type recorder struct {
	mu sync.Mutex
	b  strings.Builder
}

func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.b.Write(p)
}

func (r *recorder) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.b.String()
}

// answers collects verdicts and panics at a second one.
type answer struct {
	verdict chan Verdict
	once    atomic.Bool
}

func newAnswer() *answer { return &answer{verdict: make(chan Verdict, 1)} }

func (a *answer) done(v Verdict) {
	if !a.once.CompareAndSwap(false, true) {
		panic("done was called twice")
	}
	a.verdict <- v
}

// now is the verdict if it is there.
func (a *answer) now() (Verdict, bool) {
	select {
	case v := <-a.verdict:
		return v, true
	default:
		return Verdict{}, false
	}
}

func ask(r *Reviewer, uri string, fallback ivschat.FallbackResult) Verdict {
	a := newAnswer()
	r.Review(uri, fallback, ivschat.MaxMessageLength, original, a.done)
	return <-a.verdict
}

func want(t *testing.T, got, want Verdict, why string) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s: (-want +got)\n%s", why, d)
	}
}

// sample is the value of a metric with one label, or NaN if there is none.
func sample(t *testing.T, g prometheus.Gatherer, name, label string) float64 {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if m.GetLabel()[0].GetValue() != label {
				continue
			}
			switch {
			case m.Counter != nil:
				return m.Counter.GetValue()
			case m.Gauge != nil:
				return m.Gauge.GetValue()
			}
			return float64(m.Histogram.GetSampleCount())
		}
	}
	return math.NaN()
}

func wantSample(t *testing.T, g prometheus.Gatherer, name, label string, want float64) {
	t.Helper()
	if got := sample(t, g, name, label); got != want {
		t.Errorf("%s{%q} is %v, want %v", name, label, got, want)
	}
}

func TestAVerdictComesWhenTheTimeIsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		metrics := prometheus.NewRegistry()
		r, log := newFake(Options{Metrics: metrics}, func(ctx context.Context) (string, error) {
			<-ctx.Done() // a well-behaved client gives up when it is told to
			return allows, nil
		})
		defer r.Close()
		for _, c := range []struct {
			fallback ivschat.FallbackResult
			want     Verdict
		}{{ivschat.FallbackAllow, fell}, {ivschat.FallbackDeny, refused}, {"", fell}} {
			began := time.Now()
			want(t, ask(r, moderate, c.fallback), c.want, "fallback "+string(c.fallback))
			if took := time.Since(began); took != 200*time.Millisecond {
				t.Errorf("it took %v, want 200 ms", took)
			}
		}
		synctest.Wait()
		wantSample(t, metrics, "hubbub_review_invocation_errors_total", moderate, 3)
		wantSample(t, metrics, "hubbub_review_seconds", "fallback_allow", 2)
		wantSample(t, metrics, "hubbub_review_seconds", "fallback_deny", 1)
		wantSample(t, metrics, "hubbub_review_seconds", "allow", 0)
		if n := strings.Count(log.String(), "gave no verdict"); n != 1 || !strings.Contains(log.String(), "reason=timeout") {
			t.Errorf("%d records of three failures in a minute, want 1:\n%s", n, log)
		}
		time.Sleep(time.Minute)
		ask(r, moderate, ivschat.FallbackDeny)
		if !strings.Contains(log.String(), "failures=3") { // two that were not told, and this one
			t.Errorf("the next record does not count what was left out:\n%s", log)
		}
	})
}

// A call that does not end when it is told to holds its place, and nobody else.
func TestALateAnswerIsNotHeardAndItsPlaceIsTakenUntilItCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		metrics := prometheus.NewRegistry()
		release := make(chan struct{})
		r, _ := newFake(Options{Metrics: metrics, Concurrency: 2, Timeout: time.Second}, func(context.Context) (string, error) {
			<-release
			return allows, nil
		})
		defer r.Close()
		var first [2]*answer
		for i := range first {
			first[i] = newAnswer()
			r.Review(moderate, ivschat.FallbackAllow, 500, original, first[i].done)
		}
		full := newAnswer()
		r.Review(moderate, ivschat.FallbackDeny, 500, original, full.done)
		v, ok := full.now()
		if !ok {
			t.Fatal("a handler that is full does not answer at once")
		}
		want(t, v, refused, "full")
		time.Sleep(time.Second)
		synctest.Wait()
		for _, a := range first {
			v, ok := a.now()
			if !ok {
				t.Fatal("no verdict after the time")
			}
			want(t, v, fell, "time-out")
		}
		if v := ask(r, moderate, ivschat.FallbackDeny); v.Allowed {
			t.Error("the place of a call that has not returned was given away")
		}
		wantSample(t, metrics, "hubbub_review_invocation_errors_total", moderate, 4)
		close(release)
		synctest.Wait() // done would panic at a second verdict
		want(t, ask(r, moderate, ivschat.FallbackDeny), allowed, "after the calls returned")
	})
}

func TestAHandlerThatOnlyFailsIsNotCalledForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		metrics := prometheus.NewRegistry()
		calls, fails := 0, true
		r, log := newFake(Options{Metrics: metrics}, func(context.Context) (string, error) {
			if calls++; fails {
				return "", &failure{reason: network, err: errors.New("connection refused")}
			}
			return allows, nil
		})
		defer r.Close()
		open := func() float64 { return sample(t, metrics, "hubbub_review_circuit_open", moderate) }
		wantCalls := func(n int, why string) {
			t.Helper()
			if calls != n {
				t.Fatalf("%d calls, want %d: %s", calls, n, why)
			}
		}
		if open() != 0 {
			t.Error("the gauge does not show a closed breaker")
		}
		for range 20 {
			ask(r, moderate, ivschat.FallbackAllow)
		}
		wantCalls(20, "20 failures in a row")
		if open() != 1 {
			t.Error("the gauge does not show that it is open")
		}
		for range 100 {
			a := newAnswer()
			r.Review(moderate, ivschat.FallbackDeny, 500, original, a.done)
			if v, ok := a.now(); !ok || v.Allowed {
				t.Fatal("no fallback at once")
			}
		}
		time.Sleep(5*time.Second - 1)
		ask(r, moderate, ivschat.FallbackAllow)
		wantCalls(20, "within 5 seconds")
		time.Sleep(1 * time.Nanosecond)
		ask(r, moderate, ivschat.FallbackAllow)
		wantCalls(21, "one tries it again")
		ask(r, moderate, ivschat.FallbackAllow)
		wantCalls(21, "and failed")
		wantSample(t, metrics, "hubbub_review_skipped_total", moderate, 102)
		wantSample(t, metrics, "hubbub_review_invocation_errors_total", moderate, 21)

		time.Sleep(5 * time.Second)
		fails = false
		want(t, ask(r, moderate, ivschat.FallbackDeny), allowed, "it answers again")
		if open() != 0 {
			t.Error("the gauge does not show that it closed")
		}
		want(t, ask(r, moderate, ivschat.FallbackDeny), allowed, "and is called by all")
		wantCalls(23, "closed")
		for _, record := range []string{"review handler only fails", "review handler answers again"} {
			if n := strings.Count(log.String(), record); n != 1 {
				t.Errorf("%q is logged %d times, want once:\n%s", record, n, log)
			}
		}
	})
}

func TestOneMessageTriesAHandlerThatFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		hangs := false
		r, _ := newFake(Options{}, func(ctx context.Context) (string, error) {
			if calls++; hangs {
				<-ctx.Done()
			}
			return "", &failure{reason: network}
		})
		defer r.Close()
		for range 20 {
			ask(r, moderate, ivschat.FallbackAllow)
		}
		time.Sleep(5 * time.Second)
		hangs = true
		trial := newAnswer()
		r.Review(moderate, ivschat.FallbackAllow, 500, original, trial.done)
		for range 5 {
			ask(r, moderate, ivschat.FallbackAllow)
		}
		synctest.Wait()
		if calls != 21 {
			t.Errorf("%d calls, want 21: others must not try while one does", calls)
		}
		<-trial.verdict
	})
}

func TestAnyAnswerStartsTheCountAnew(t *testing.T) {
	for name, answer := range map[string]fake{
		"a verdict":        func(context.Context) (string, error) { return allows, nil },
		"a function error": func(context.Context) (string, error) { return "", &failure{reason: functionError} },
		"an invalid one":   func(context.Context) (string, error) { return "?", nil },
	} {
		t.Run(name, func(t *testing.T) {
			calls := 0
			r, _ := newFake(Options{}, func(ctx context.Context) (string, error) {
				if calls++; calls%20 == 0 {
					return answer(ctx)
				}
				return "", &failure{reason: network}
			})
			defer r.Close()
			for range 100 {
				ask(r, moderate, ivschat.FallbackAllow)
			}
			if calls != 100 {
				t.Errorf("%d calls of 100: never 20 failures in a row", calls)
			}
		})
	}
}

// Calls that began before the breaker opened say nothing about what came after.
func TestTheBreakerHearsOfItsOwnTimeOnly(t *testing.T) {
	var b breaker
	now := time.Unix(0, 0)
	early := b.begin()
	for range breakerFailures {
		b.failed(b.begin(), now)
	}
	if !b.skips(now) || b.answered(early) || !b.skips(now) {
		t.Error("an early call closed it")
	}
	late := now.Add(breakerPause)
	if b.skips(late) {
		t.Error("nobody may try")
	}
	trial := b.begin()
	if b.failed(early, late); !b.skips(late) {
		t.Error("an early failure ended the trial")
	}
	if !b.answered(trial) || b.skips(late) {
		t.Error("the trial did not close it")
	}
	if b.failed(trial, late); b.failures != 0 {
		t.Error("a call counts twice")
	}
}

func TestCloseEndsWhatIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		metrics := prometheus.NewRegistry()
		ended := 0
		r, log := newFake(Options{Metrics: metrics}, func(ctx context.Context) (string, error) {
			<-ctx.Done()
			time.Sleep(50 * time.Millisecond) // it takes a while to come back
			ended++
			return "", ctx.Err()
		})
		a := newAnswer()
		r.Review(moderate, ivschat.FallbackDeny, 500, original, a.done)
		began := time.Now()
		r.Close()
		if took := time.Since(began); took != 50*time.Millisecond || ended != 1 {
			t.Errorf("Close took %v with %d calls ended, want to wait for the one, 50 ms, and for no time-out", took, ended)
		}
		v, ok := a.now()
		if !ok {
			t.Fatal("no verdict")
		}
		want(t, v, refused, "the message under way")
		want(t, ask(r, moderate, ivschat.FallbackAllow), fell, "a later one")
		r.Close()
		wantSample(t, metrics, "hubbub_review_invocation_errors_total", moderate, 0)
		if log.String() != "" {
			t.Errorf("logged:\n%s", log)
		}
	})
}

func TestAPanicIsAFailure(t *testing.T) {
	r, log := newFake(Options{}, func(context.Context) (string, error) { panic("oh") })
	defer r.Close()
	want(t, ask(r, moderate, ivschat.FallbackDeny), refused, "panic")
	if !strings.Contains(log.String(), "stack=") {
		t.Errorf("no stack is logged:\n%s", log)
	}
}

func TestAnUnknownHandlerIsAnInvocationError(t *testing.T) {
	metrics := prometheus.NewRegistry()
	r, err := New(t.Context(), Options{Metrics: metrics, Log: slog.New(slog.DiscardHandler), Handlers: map[string]Handler{moderate: {Rules: &Rules{}}}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	const other = moderate + ":prod"
	if !r.Accepts(moderate) || r.Accepts(other) {
		t.Error("only what is configured is accepted")
	}
	for range breakerFailures + 5 {
		a := newAnswer()
		r.Review(other, ivschat.FallbackDeny, 500, original, a.done)
		if v, ok := a.now(); !ok || v.Allowed {
			t.Fatal("no fallback at once")
		}
	}
	if r.Accepts(other) {
		t.Error("an unknown handler is accepted once it was asked")
	}
	wantSample(t, metrics, "hubbub_review_invocation_errors_total", other, breakerFailures+5) // and none skipped
}

func TestRulesDecideBeforeReviewReturns(t *testing.T) {
	metrics := prometheus.NewRegistry()
	r, err := New(t.Context(), Options{Metrics: metrics, Default: &Handler{Rules: &Rules{DenyWords: []string{"spam"}, MaskWords: []string{"hello"}}}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for content, verdict := range map[string]Verdict{
		"Hello, Bob": {Allowed: true, Content: "*****, Bob", Attributes: original.Attributes},
		"Hi, Bob":    {Allowed: true, Content: "Hi, Bob", Attributes: original.Attributes},
		"spam":       {Reason: reasonWord},
	} {
		m := original
		m.Content = content
		a := newAnswer()
		r.Review(moderate, ivschat.FallbackAllow, 500, m, a.done)
		v, ok := a.now()
		if !ok {
			t.Fatal("no verdict at once")
		}
		want(t, v, verdict, content)
	}
	wantSample(t, metrics, "hubbub_review_seconds", "allow", 2)
	wantSample(t, metrics, "hubbub_review_seconds", "deny", 1)
}

// With a default, rooms may name any number of ARNs.
func TestWhatIsKnownOfHandlersIsBounded(t *testing.T) {
	metrics := prometheus.NewRegistry()
	r, _ := newFake(Options{Metrics: metrics}, func(context.Context) (string, error) { return allows, nil })
	defer r.Close()
	hold, held := make(chan struct{}), make(chan struct{})
	r.byDefault = &target{caller: fake(func(context.Context) (string, error) {
		close(held)
		<-hold
		return allows, nil
	})}
	busy := newAnswer()
	r.Review(moderate+"-busy", ivschat.FallbackAllow, 500, original, busy.done)
	<-held
	r.byDefault.caller = fake(func(context.Context) (string, error) { return allows, nil })
	for i := range 3 * maxHandlers {
		ask(r, fmt.Sprintf("%s-%d", moderate, i), ivschat.FallbackAllow)
	}
	if n := len(r.handlers); n > maxHandlers+1 || n != r.others+1 {
		t.Errorf("%d handlers are known, %d of them counted; the bound is %d", n, r.others, maxHandlers)
	}
	for _, uri := range []string{moderate, moderate + "-busy", fmt.Sprintf("%s-%d", moderate, 3*maxHandlers-1)} {
		if r.handlers[uri] == nil {
			t.Errorf("%s was forgotten", uri)
		}
	}
	families, err := metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if n := len(f.GetMetric()); n > maxHandlers+1 {
			t.Errorf("%s has %d series", f.GetName(), n)
		}
	}
	close(hold)
	<-busy.verdict
}

func TestHandlersThatCannotBeAreRefused(t *testing.T) {
	for name, h := range map[string]Handler{
		"nothing": {}, "two": {HTTP: &HTTP{URL: "http://a"}, Rules: &Rules{}},
		"no URL": {HTTP: &HTTP{}}, "another scheme": {HTTP: &HTTP{URL: "file:///etc/passwd"}}, "no host": {HTTP: &HTTP{URL: "http:///x"}},
		"no scheme": {Lambda: &Lambda{Endpoint: "127.0.0.1:9001"}}, "a region with a dot": {Lambda: &Lambda{Region: "example.com/"}},
		"bad rules": {Rules: &Rules{DenyWords: []string{""}}}, "a secret": {HTTP: &HTTP{URL: "htp://user:hunter2@a"}},
	} {
		for _, o := range []Options{{Handlers: map[string]Handler{moderate: h}}, {Default: &h}} {
			r, err := New(t.Context(), o)
			if err == nil {
				r.Close()
				t.Errorf("%s is accepted", name)
			} else if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error shows a password: %v", err)
			}
		}
	}
}

func TestCredentialsAreThereBeforeTheyAreNeededAndStayFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		source := provider(func() (aws.Credentials, error) {
			n := asked.Add(1)
			if n == 1 {
				return aws.Credentials{}, errors.New("not yet")
			}
			return aws.Credentials{AccessKeyID: fmt.Sprint(n), SecretAccessKey: "x", CanExpire: true, Expires: time.Now().Add(time.Hour)}, nil
		})
		log := &recorder{}
		c := &credentials{source: aws.NewCredentialsCache(source), log: slog.New(slog.NewTextHandler(log, nil))}
		ctx, cancel := context.WithCancel(t.Context())
		var loop sync.WaitGroup
		loop.Go(func() { c.keep(ctx) })
		defer loop.Wait()
		defer cancel()
		for _, step := range []struct {
			wait time.Duration
			want int32
		}{{0, 1}, {credentialsRetry, 2}, {54 * time.Minute, 2}, {2 * time.Minute, 3}, {55 * time.Minute, 4}} {
			time.Sleep(step.wait)
			synctest.Wait()
			if n := asked.Load(); n != step.want {
				t.Fatalf("after %v more the source was asked %d times, want %d", step.wait, n, step.want)
			}
			if step.want == 1 {
				continue
			}
			got, err := c.Retrieve(ctx)
			if err != nil || got.AccessKeyID != fmt.Sprint(step.want) {
				t.Fatalf("got %s, %v, want %d", got.AccessKeyID, err, step.want)
			}
		}
		if n := strings.Count(log.String(), "no credentials"); n != 1 {
			t.Errorf("logged %d times:\n%s", n, log)
		}
	})
}

type provider func() (aws.Credentials, error)

func (p provider) Retrieve(context.Context) (aws.Credentials, error) { return p() }
