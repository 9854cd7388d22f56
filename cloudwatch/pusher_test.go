package cloudwatch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// node has the metrics of a server.
type node struct {
	*prometheus.Registry
	connections                        prometheus.Gauge
	requests, deliveries, invocations  *prometheus.CounterVec
	validations, destinations, unasked *prometheus.CounterVec
}

func newNode() *node {
	n := &node{Registry: prometheus.NewRegistry()}
	n.connections = prometheus.NewGauge(prometheus.GaugeOpts{Name: "hubbub_concurrent_chat_connections"})
	n.MustRegister(n.connections)
	counter := func(name string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name}, labels)
		n.MustRegister(c)
		return c
	}
	n.requests = counter("hubbub_messaging_requests_total", "action")
	n.deliveries = counter("hubbub_messaging_deliveries_total", "action")
	n.invocations = counter("hubbub_review_invocation_errors_total", "uri")
	n.validations = counter("hubbub_review_response_validation_errors_total", "uri")
	n.destinations = counter("hubbub_log_destination_errors_total", "logging_configuration", "kind")
	n.unasked = counter("hubbub_hub_errors_total", "code")
	n.unasked.WithLabelValues("400").Inc()
	return n
}

// taker takes pushes as an endpoint would, or does not.
type taker struct {
	mu     sync.Mutex
	pushes []string // "namespace metric{Dimension=value} what at"
	fail   error
	hang   bool
}

func (k *taker) put(ctx context.Context, in *cloudwatch.PutMetricDataInput) error {
	k.mu.Lock()
	hang, fail := k.hang, k.fail
	k.mu.Unlock()
	if hang {
		<-ctx.Done()
		return ctx.Err()
	}
	if fail != nil {
		return fail
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, d := range in.MetricData {
		text := aws.ToString(in.Namespace) + " " + aws.ToString(d.MetricName)
		for _, dim := range d.Dimensions {
			text += "{" + aws.ToString(dim.Name) + "=" + aws.ToString(dim.Value) + "}"
		}
		if d.Value != nil {
			text += fmt.Sprintf(" %g", *d.Value)
		}
		if s := d.StatisticValues; s != nil {
			text += fmt.Sprintf(" min %g max %g sum %g of %g", *s.Minimum, *s.Maximum, *s.Sum, *s.SampleCount)
		}
		k.pushes = append(k.pushes, text+" "+d.Timestamp.UTC().Format("15:04:05"))
	}
	return nil
}

// answers says how pushes end from now on.
func (k *taker) answers(hang bool, fail error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.hang, k.fail = hang, fail
}

// record is a log that may be read while it is written.
type record struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (r *record) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(b)
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

// got is what was pushed since the last call; with only, of what begins so.
func (k *taker) got(only ...string) (some []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, p := range k.pushes {
		if len(only) == 0 || slices.ContainsFunc(only, func(o string) bool { return strings.HasPrefix(p, o) }) {
			some = append(some, p)
		}
	}
	k.pushes = nil
	return some
}

// idle is a minute without anything but connections.
func idle(minute, connections string) []string {
	return []string{
		"AWS/IVSChat ConcurrentChatConnections " + connections + " " + minute,
		"AWS/IVSChat Deliveries{Action=DeleteMessage} 0 " + minute,
		"AWS/IVSChat Deliveries{Action=DisconnectUser} 0 " + minute,
		"AWS/IVSChat Deliveries{Action=SendEvent} 0 " + minute,
		"AWS/IVSChat Deliveries{Action=SendMessage} 0 " + minute,
		"AWS/IVSChat MessagingDeliveries 0 " + minute,
		"AWS/IVSChat MessagingRequests 0 " + minute,
		"AWS/IVSChat Requests{Action=DeleteMessage} 0 " + minute,
		"AWS/IVSChat Requests{Action=DisconnectUser} 0 " + minute,
		"AWS/IVSChat Requests{Action=SendEvent} 0 " + minute,
		"AWS/IVSChat Requests{Action=SendMessage} 0 " + minute,
		"AWS/Usage ResourceCount{Service=IVS Chat}{Class=None}{Type=Resource}{Resource=ConcurrentChatConnections} " + connections + " " + minute,
	}
}

func same(t *testing.T, what string, want, got []string) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

// pushing runs a test with a pusher in a bubble, whose clock begins at midnight.
func pushing(t *testing.T, o Options, test func(t *testing.T, n *node, k *taker, p *Pusher, log *record)) {
	synctest.Test(t, func(t *testing.T) {
		n, k, log := newNode(), &taker{}, &record{}
		if o.Gather == nil {
			o.Gather = n
		}
		o.Log = slog.New(slog.NewTextHandler(log, nil))
		p := start(o, k.put)
		synctest.Wait()
		test(t, n, k, p, log)
		k.answers(false, nil)
		if err := p.Close(t.Context()); err != nil {
			t.Errorf("close: %v", err)
		}
	})
}

func TestEachMinuteIsPushedUnderTheServicesNames(t *testing.T) {
	pushing(t, Options{}, func(t *testing.T, n *node, k *taker, _ *Pusher, log *record) {
		time.Sleep(2 * time.Second)
		n.connections.Set(7)
		n.requests.WithLabelValues("SendMessage").Add(3)
		n.requests.WithLabelValues("SendEvent").Add(2)
		n.deliveries.WithLabelValues("SendMessage").Add(21)
		n.invocations.WithLabelValues("arn:aws:lambda:us-west-2:123456789012:function:f").Add(4)
		n.validations.WithLabelValues("arn:aws:lambda:us-west-2:123456789012:function:f").Add(5)
		n.invocations.WithLabelValues("arn:aws:lambda:us-west-2:123456789012:function:never") // is there, and never counted
		n.destinations.WithLabelValues("arn:lc/1", "access_denied").Add(1)
		n.destinations.WithLabelValues("arn:lc/1", "not_found").Add(2)
		n.destinations.WithLabelValues("arn:lc/1", "other").Add(4)
		n.destinations.WithLabelValues("arn:lc/2", "other").Add(8)
		n.destinations.WithLabelValues("", "other").Add(8) // no dimension may be empty
		time.Sleep(time.Minute - 3*time.Second)
		synctest.Wait()
		same(t, "pushed before the minute was over", nil, k.got())
		time.Sleep(time.Second)
		synctest.Wait()
		// 13 samples: at 0 s it was 0, then 7, and once more at the end.
		same(t, "the first minute", []string{
			"AWS/IVSChat ConcurrentChatConnections min 0 max 7 sum 84 of 13 00:00:00",
			"AWS/IVSChat Deliveries{Action=DeleteMessage} 0 00:00:00",
			"AWS/IVSChat Deliveries{Action=DisconnectUser} 0 00:00:00",
			"AWS/IVSChat Deliveries{Action=SendEvent} 0 00:00:00",
			"AWS/IVSChat Deliveries{Action=SendMessage} 21 00:00:00",
			"AWS/IVSChat InvocationErrors{Uri=arn:aws:lambda:us-west-2:123456789012:function:f} 4 00:00:00",
			"AWS/IVSChat LogDestinationAccessDeniedError{LoggingConfiguration=arn:lc/1} 1 00:00:00",
			"AWS/IVSChat LogDestinationErrors{LoggingConfiguration=arn:lc/1} 7 00:00:00",
			"AWS/IVSChat LogDestinationErrors{LoggingConfiguration=arn:lc/2} 8 00:00:00",
			"AWS/IVSChat LogDestinationResourceNotFoundErrors{LoggingConfiguration=arn:lc/1} 2 00:00:00",
			"AWS/IVSChat MessagingDeliveries 21 00:00:00",
			"AWS/IVSChat MessagingRequests 5 00:00:00",
			"AWS/IVSChat Requests{Action=DeleteMessage} 0 00:00:00",
			"AWS/IVSChat Requests{Action=DisconnectUser} 0 00:00:00",
			"AWS/IVSChat Requests{Action=SendEvent} 2 00:00:00",
			"AWS/IVSChat Requests{Action=SendMessage} 3 00:00:00",
			"AWS/IVSChat ResponseValidationErrors{Uri=arn:aws:lambda:us-west-2:123456789012:function:f} 5 00:00:00",
			"AWS/Usage ResourceCount{Service=IVS Chat}{Class=None}{Type=Resource}{Resource=ConcurrentChatConnections} min 0 max 7 sum 84 of 13 00:00:00",
		}, k.got())
		time.Sleep(time.Minute)
		synctest.Wait()
		same(t, "a minute without anything", idle("00:01:00", "min 7 max 7 sum 84 of 12"), k.got())
		if log.String() != "" {
			t.Errorf("the log says %s", log)
		}
	})
}

func TestAnotherNamespaceHasNoUsage(t *testing.T) {
	pushing(t, Options{Namespace: "Chat"}, func(t *testing.T, _ *node, k *taker, _ *Pusher, _ *record) {
		time.Sleep(time.Minute)
		synctest.Wait()
		for _, p := range k.got() {
			if !strings.HasPrefix(p, "Chat ") {
				t.Errorf("pushed %s", p)
			}
		}
	})
}

func TestWhatCouldNotBePushedIsAddedToTheNext(t *testing.T) {
	pushing(t, Options{}, func(t *testing.T, n *node, k *taker, p *Pusher, log *record) {
		some := []string{"AWS/IVSChat ConcurrentChatConnections", "AWS/IVSChat MessagingRequests", "AWS/IVSChat Requests{Action=SendMessage}"}
		n.connections.Set(1)
		k.answers(false, errors.New("no route"))
		for range 3 {
			n.requests.WithLabelValues("SendMessage").Add(10)
			time.Sleep(time.Minute)
			synctest.Wait()
		}
		if n := strings.Count(log.String(), "metrics could not be pushed"); n != 3 {
			t.Errorf("the log has %d records about failures, want one a minute:\n%s", n, log)
		}
		k.answers(false, nil)
		n.connections.Set(5)
		time.Sleep(time.Minute)
		synctest.Wait()
		same(t, "after three failures", []string{
			"AWS/IVSChat ConcurrentChatConnections min 0 max 5 sum 96 of 49 00:03:00",
			"AWS/IVSChat MessagingRequests 30 00:03:00",
			"AWS/IVSChat Requests{Action=SendMessage} 30 00:03:00",
		}, k.got(some...))
		if n := strings.Count(log.String(), "metrics are pushed again"); n != 1 {
			t.Errorf("the log does not say once that it is over:\n%s", log)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := k.got("AWS/IVSChat MessagingRequests"); !slices.Equal(got, []string{"AWS/IVSChat MessagingRequests 0 00:04:00"}) {
			t.Errorf("pushed twice: %q", got)
		}
	})
}

func TestAnEndpointThatHangsHoldsAPushForTenSeconds(t *testing.T) {
	pushing(t, Options{Interval: 30 * time.Second}, func(t *testing.T, n *node, k *taker, p *Pusher, log *record) {
		k.answers(true, nil)
		time.Sleep(30*time.Second + pushLimit - time.Nanosecond)
		synctest.Wait()
		if log.String() != "" {
			t.Errorf("ended early: %s", log)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if !strings.Contains(log.String(), "deadline exceeded") {
			t.Errorf("it hangs still; the log: %s", log)
		}
		// More than one a minute is not said.
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if n := strings.Count(log.String(), "metrics could not be pushed"); n != 3 {
			t.Errorf("the log has %d records in 2:40, want 3:\n%s", n, log)
		}
		// Close waits for its context, not for the endpoint.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		if err := p.Close(ctx); err == nil || time.Since(begin) != time.Second {
			t.Errorf("closed after %v with %v, want a failure after a second", time.Since(begin), err)
		}
	})
}

func TestCloseHoldsAnEndpointThatHangsToItsContext(t *testing.T) {
	pushing(t, Options{}, func(t *testing.T, _ *node, k *taker, p *Pusher, _ *record) {
		k.answers(true, nil)
		time.Sleep(time.Minute + time.Second) // a push is under way
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		begin := time.Now()
		if err := p.Close(ctx); err == nil || time.Since(begin) != 3*time.Second {
			t.Errorf("closed after %v with %v, want a failure after three seconds", time.Since(begin), err)
		}
		begin = time.Now()
		if err := p.Close(context.Background()); err == nil || time.Since(begin) != pushLimit {
			t.Errorf("closed after %v with %v, want a failure after 10 s", time.Since(begin), err)
		}
	})
}

func TestClosePushesWhatIsLeft(t *testing.T) {
	pushing(t, Options{}, func(t *testing.T, n *node, k *taker, p *Pusher, _ *record) {
		time.Sleep(time.Minute + 20*time.Second)
		k.got()
		n.requests.WithLabelValues("DeleteMessage").Add(2)
		if err := p.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		same(t, "the last push", []string{"AWS/IVSChat MessagingRequests 2 00:01:00", "AWS/IVSChat Requests{Action=DeleteMessage} 2 00:01:00"},
			k.got("AWS/IVSChat MessagingRequests", "AWS/IVSChat Requests{Action=DeleteMessage}"))
	})
}

// gathered is a registry that says what a test wants.
type gathered struct {
	mu     sync.Mutex
	counts map[string]float64 // by action
	err    error
}

func (g *gathered) Gather() ([]*dto.MetricFamily, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f := &dto.MetricFamily{Name: aws.String("hubbub_messaging_requests_total")}
	for action, n := range g.counts {
		f.Metric = append(f.Metric, &dto.Metric{
			Label: []*dto.LabelPair{{Name: aws.String("action"), Value: &action}}, Counter: &dto.Counter{Value: &n},
		})
	}
	return []*dto.MetricFamily{f}, g.err
}

func TestCountersMayBeginAgainAndVanish(t *testing.T) {
	g := &gathered{counts: map[string]float64{"SendMessage": 5, "Whisper": 1}}
	pushing(t, Options{Namespace: "N", Gather: g}, func(t *testing.T, _ *node, k *taker, _ *Pusher, _ *record) {
		for _, c := range []struct {
			what   string
			counts map[string]float64
			err    error
			want   []string
		}{
			{"the first reading counts from 0, an unknown action too", g.counts, nil, []string{"SendMessage} 5", "Whisper} 1"}},
			{"on it goes", map[string]float64{"SendMessage": 7, "Whisper": 1}, nil, []string{"SendMessage} 2"}},
			{"a restart", map[string]float64{"SendMessage": 3, "Whisper": 1}, nil, []string{"SendMessage} 3", "Whisper} 0"}},
			{"a reading that failed in parts", nil, errors.New("a collector"), []string{"SendMessage} 0"}},
			{"and whole again", map[string]float64{"SendMessage": 4, "Whisper": 1}, nil, []string{"SendMessage} 1"}},
			{"gone", map[string]float64{}, nil, []string{"SendMessage} 0"}},
			{"and there again", map[string]float64{"SendMessage": 6}, nil, []string{"SendMessage} 6"}},
		} {
			g.mu.Lock()
			g.counts, g.err = c.counts, c.err
			g.mu.Unlock()
			time.Sleep(time.Minute)
			synctest.Wait()
			var want []string
			for _, w := range c.want {
				if !strings.HasSuffix(w, "Whisper} 0") {
					want = append(want, "N Requests{Action="+w)
				}
			}
			got := k.got("N Requests{Action=SendMessage}", "N Requests{Action=Whisper}")
			for i := range got {
				got[i] = got[i][:strings.LastIndexByte(got[i], ' ')]
			}
			same(t, c.what, want, got)
		}
	})
}

func TestManySeriesAreCutIntoRequests(t *testing.T) {
	many := points{}
	for i := range 2500 {
		many[series{"N", "InvocationErrors", "Uri", fmt.Sprintf("arn:%04d", i)}] = point{sum: 1}
	}
	many[series{usageNamespace, "ResourceCount", "", ""}] = point{1, 1, 1, 1}
	var sizes []int
	for _, b := range batches(many) {
		sizes = append(sizes, len(b))
	}
	if !slices.Equal(sizes, []int{1, 1000, 1000, 500}) {
		t.Errorf("got requests of %v", sizes)
	}
	lost := 0
	for i := range maxSeries {
		lost += many.add(points{series{"N", "InvocationErrors", "Uri", fmt.Sprintf("arn:%d:", i)}: {sum: 1}})
	}
	if len(many) != maxSeries || lost != 2501 {
		t.Errorf("%d series wait and %d were lost, want %d and 2501", len(many), lost, maxSeries)
	}
}
