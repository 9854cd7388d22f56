package conformance

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ivschat"
	"github.com/aws/aws-sdk-go-v2/service/ivschat/types"
)

// TestSinksThatFailGetEverythingInOrder lets all three kinds fail in every way,
// each through several attempts at the longest pause.
func TestSinksThatFailGetEverythingInOrder(t *testing.T) {
	k := openSinks(t)
	s := start(t, "--limits", "none", "--config", k.file("20ms", "  retry: {timeout: 200ms, max_pause: 50ms}"))
	c := s.client()
	configurations := []string{loggedTo(t, c, toBucket("logs")), loggedTo(t, c, toGroup("logs")), loggedTo(t, c, toStream("logs"))}
	var viewers []*witness
	var rooms []string
	for range 2 {
		room := loggedRoom(t, c, configurations...)
		rooms = append(rooms, room)
		viewers = append(viewers, watch(t, connect(t, s, c, room, "u", every)))
	}
	failures := func(configuration, kind string) float64 {
		return s.metric(t, "hubbub_log_destination_errors_total", `logging_configuration="`+configuration+`"`, `kind="`+kind+`"`)
	}
	const attempts = 5
	for _, phase := range []struct {
		name  string
		fault fault
		kind  string
	}{
		{"refused connections", works, "other"},
		{"no answer", hangs, "other"},
		{"errors of the service", broken, "other"},
		{"throttling", slow, "other"},
		{"refusals", denied, "access_denied"},
		{"answers that are cut off when the records are there", cutOff, "other"},
	} {
		for _, sink := range k.all() {
			if phase.fault == works {
				sink.down()
			}
			sink.set("", phase.fault)
		}
		var before []float64
		for _, configuration := range configurations {
			before = append(before, failures(configuration, phase.kind))
		}
		for _, w := range viewers {
			w.sayAll("confidential, during "+phase.name, 5)
		}
		for i, configuration := range configurations {
			eventually(t, phase.name+": the errors are counted", func() bool { return failures(configuration, phase.kind) >= before[i]+attempts })
		}
		for _, sink := range k.all() {
			if phase.fault == works {
				sink.up()
			} else {
				eventually(t, phase.name+": requests come again and again", func() bool { return sink.met(phase.fault) >= attempts })
			}
		}
	}
	k.set(works)
	for _, w := range viewers {
		w.sayAll("confidential, when all is well", 5)
	}
	s.delivered(t)
	var everything []string
	for i, w := range viewers {
		want := w.records()
		everything = append(everything, want...)
		same(t, "S3", firsts(k.s3.have("logs", idOf(rooms[i]))), want)
		same(t, "CloudWatch Logs", firsts(k.logs.have("logs", idOf(rooms[i]))), want)
	}
	got := firsts(k.firehose.have("logs", ""))
	slices.Sort(got)
	slices.Sort(everything)
	same(t, "Firehose", got, everything)

	// A failure is a request that failed; connections that were refused are more.
	for i, sink := range k.all() {
		refused, other := failures(configurations[i], "access_denied"), failures(configurations[i], "other")
		if want := float64(sink.met(denied)); refused != want {
			t.Errorf("%s: %v errors of the kind access_denied, but %v requests were refused", sink.service, refused, want)
		}
		if least := float64(sink.met(hangs) + sink.met(broken) + sink.met(slow) + sink.met(cutOff)); other < least+attempts {
			t.Errorf("%s: %v errors of the kind other, but %v requests failed, and %d connections before", sink.service, other, least, attempts)
		}
		if n := failures(configurations[i], "not_found"); n != 0 {
			t.Errorf("%s: %v errors of the kind not_found", sink.service, n)
		}
	}
	log := s.log.String()
	for _, configuration := range configurations {
		for _, want := range []string{
			`"msg":"chat logs are not taken by their destination; trying on","component":"chatlog","configuration":"` + configuration + `","kind":"other"`,
			`"msg":"chat logs are not taken by their destination; trying on","component":"chatlog","configuration":"` + configuration + `","kind":"access_denied","class":"final"`,
			`"msg":"chat logs are delivered again","component":"chatlog","configuration":"` + configuration + `"`,
		} {
			if !strings.Contains(log, want) {
				t.Errorf("the log does not say %s", want)
			}
		}
	}
	if n := strings.Count(log, "are not taken by their destination"); n > 6*len(configurations) {
		t.Errorf("the log speaks %d times of %d outages of seconds", n, len(configurations))
	}
	for _, secret := range []string{"confidential", sinkSecret} {
		if strings.Contains(log, secret) {
			t.Errorf("the log has %q", secret)
		}
	}
	t.Logf("%d records to each of 3 destinations through %v failed attempts", len(everything), s.metric(t, "hubbub_log_destination_errors_total"))
}

// TestADestinationThatWasDeletedAndMadeAgain goes on by itself.
func TestADestinationThatWasDeletedAndMadeAgain(t *testing.T) {
	k := openSinks(t)
	s := start(t, "--limits", "none", "--config", k.file("20ms", "  retry: {max_pause: 50ms}"))
	c := s.client()
	configurations := []string{loggedTo(t, c, toBucket("logs")), loggedTo(t, c, toGroup("logs")), loggedTo(t, c, toStream("logs"))}
	room := loggedRoom(t, c, configurations...)
	alice := watch(t, connect(t, s, c, room, "alice", every))
	alice.sayAll("before", 5)
	s.delivered(t)
	if err := k.s3.backend.ForceDeleteBucket("logs"); err != nil {
		t.Fatal(err)
	}
	k.logs.remove("logs")
	k.firehose.remove("logs")
	alice.sayAll("meanwhile", 5)
	for _, configuration := range configurations {
		eventually(t, "that it is gone is counted", func() bool {
			return s.metric(t, "hubbub_log_destination_errors_total", configuration, `kind="not_found"`) >= 5
		})
		if got, err := c.GetLoggingConfiguration(limited(t), &ivschat.GetLoggingConfigurationInput{Identifier: &configuration}); err != nil || got.State != types.LoggingConfigurationStateActive {
			t.Errorf("the state is %v, %v; a failure leaves it ACTIVE", got, err)
		}
	}
	k.s3.create("logs")
	k.logs.create("logs")
	k.firehose.create("logs")
	alice.sayAll("after", 5)
	s.delivered(t)
	want := alice.records()[5:]
	same(t, "S3", k.s3.have("logs", idOf(room)), want)
	same(t, "CloudWatch Logs", k.logs.have("logs", idOf(room)), want)
	same(t, "Firehose", k.firehose.have("logs", ""), want)
}

// TestDetachedDeletedAndChangedConfigurations follows what the control plane does.
// Nothing would be due for an hour.
func TestDetachedDeletedAndChangedConfigurations(t *testing.T) {
	k := openSinks(t)
	for _, bucket := range []string{"gone", "other"} {
		k.s3.create(bucket)
	}
	s := start(t, "--limits", "none", "--config", k.file("1h", "  retry: {max_pause: 50ms}"))
	c, ctx := s.client(), limited(t)

	t.Run("what was logged before a configuration is deleted arrives, nothing after", func(t *testing.T) {
		configuration := loggedTo(t, c, toBucket("logs"))
		room := loggedRoom(t, c, configuration)
		alice := watch(t, connect(t, s, c, room, "alice", every))
		alice.sayAll("attached", 20)
		if _, err := c.UpdateRoom(ctx, &ivschat.UpdateRoomInput{Identifier: &room, LoggingConfigurationIdentifiers: []string{}}); err != nil {
			t.Fatal(err)
		}
		alice.sayAll("detached", 5)
		if _, err := c.DeleteLoggingConfiguration(ctx, &ivschat.DeleteLoggingConfigurationInput{Identifier: &configuration}); err != nil {
			t.Fatal(err)
		}
		alice.sayAll("deleted", 5)
		eventually(t, "the log says that it is gone", func() bool {
			return strings.Contains(s.log.String(), `"msg":"logging configuration is gone","component":"chatlog","configuration":"`+configuration+`","undelivered":0`)
		})
		same(t, "S3", k.s3.have("logs", idOf(room)), alice.records()[:20])
	})

	t.Run("pending records go to the bucket that the configuration names now", func(t *testing.T) {
		configuration := loggedTo(t, c, toBucket("gone"))
		room := loggedRoom(t, c, configuration)
		alice := watch(t, connect(t, s, c, room, "alice", every))
		if err := k.s3.backend.ForceDeleteBucket("gone"); err != nil {
			t.Fatal(err)
		}
		alice.sayAll("for the first", 5)
		change := func(d types.DestinationConfiguration) {
			t.Helper()
			if _, err := c.UpdateLoggingConfiguration(ctx, &ivschat.UpdateLoggingConfigurationInput{Identifier: &configuration, DestinationConfiguration: d}); err != nil {
				t.Fatal(err)
			}
		}
		change(toGroup("logs"))
		alice.sayAll("for the second", 5)
		change(toBucket("other"))
		alice.sayAll("for the third", 5)
		s.stop(t) // which makes everything due
		same(t, "S3", k.s3.have("other", idOf(room)), alice.records())
		if n := len(k.logs.have("logs", idOf(room))); n != 0 {
			t.Errorf("%d records went to the group, which nothing was due for", n)
		}
	})
}

// TestAChangeWhileTheDestinationIsGone has attempts fail before the change.
func TestAChangeWhileTheDestinationIsGone(t *testing.T) {
	k := openSinks(t)
	k.s3.create("gone")
	s := start(t, "--limits", "none", "--config", k.file("20ms", "  retry: {max_pause: 10s}"))
	c := s.client()
	configuration := loggedTo(t, c, toBucket("gone"))
	room := loggedRoom(t, c, configuration)
	if err := k.s3.backend.ForceDeleteBucket("gone"); err != nil {
		t.Fatal(err)
	}
	alice := watch(t, connect(t, s, c, room, "alice", every))
	alice.sayAll("message", 10)
	eventually(t, "that it is gone is counted", func() bool {
		return s.metric(t, "hubbub_log_destination_errors_total", configuration, `kind="not_found"`) >= 2
	})
	if _, err := c.UpdateLoggingConfiguration(limited(t), &ivschat.UpdateLoggingConfigurationInput{Identifier: &configuration, DestinationConfiguration: toBucket("logs")}); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	s.delivered(t)
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("the new bucket had to wait %v for the pauses of the old one", took)
	}
	alice.sayAll("message", 10)
	s.delivered(t)
	same(t, "S3", k.s3.have("logs", idOf(room)), alice.records())
}

// sayBig sends messages that have 8 KB in the log, no more at once than may wait
// for a viewer.
func (w *witness) sayBig(n int) {
	w.t.Helper()
	content, attribute := strings.Repeat(`\u0001`, 500), strings.Repeat(`\u0001`, 800)
	for i := range n {
		send(w.t, w.Conn, fmt.Sprintf(`{"Action":"SEND_MESSAGE","RequestId":"%06d","Content":"%s","Attributes":{"k":"%s"}}`, i, content, attribute))
		if i%50 == 49 {
			w.wait(i + 1)
		}
	}
	w.wait(n)
}

// TestTheSpoolIsBounded has the sink away, then an end, then the sink back.
func TestTheSpoolIsBounded(t *testing.T) {
	k := openSinks(t)
	file, dir := k.file("20ms", "  retry: {timeout: 300ms}", "  spool: {max_bytes: 256KiB}"), t.TempDir()
	s := start(t, "--limits", "none", "--config", file, "--data", dir)
	c := s.client()
	configuration := loggedTo(t, c, toBucket("logs"))
	room := loggedRoom(t, c, configuration)
	k.s3.set("", hangs)
	alice := watch(t, connect(t, s, c, room, "alice", every))
	const messages = 100 // 800 KB
	alice.sayBig(messages)
	s.stop(t)
	said := regexp.MustCompile(`"msg":"records of chat logs were dropped[^"]*","component":"chatlog","records":(\d+)`).FindStringSubmatch(s.log.String())
	if said == nil {
		t.Fatal("the log does not say that records were dropped")
	}
	dropped, _ := strconv.Atoi(said[1])
	k.s3.set("", works)
	s = start(t, "--limits", "none", "--config", file, "--data", dir)
	s.delivered(t)
	got := k.s3.have("logs", idOf(room))
	t.Logf("%d sent, %d dropped, %d delivered", messages, dropped, len(got))
	if dropped+len(got) != messages || len(got) < 256/8/2 {
		t.Errorf("%d dropped and %d delivered of %d", dropped, len(got), messages)
	}
	same(t, "the youngest", got, alice.records()[min(dropped, messages):])
}

// TestASmallerSpoolDropsTheOldestAtTheStart has more wait than may after a change
// of the file.
func TestASmallerSpoolDropsTheOldestAtTheStart(t *testing.T) {
	k := openSinks(t)
	dir := t.TempDir()
	retry := "  retry: {timeout: 300ms, max_pause: 50ms}"
	s := start(t, "--limits", "none", "--config", k.file("20ms", retry), "--data", dir)
	c := s.client()
	room := loggedRoom(t, c, loggedTo(t, c, toBucket("logs")), loggedTo(t, c, toGroup("logs")))
	k.set(broken)
	alice := watch(t, connect(t, s, c, room, "alice", every))
	const messages = 60 // 480 KB to each of two
	alice.sayBig(messages)
	s.stop(t)
	if strings.Contains(s.log.String(), "were dropped") {
		t.Error("something was dropped within the bound")
	}
	s = start(t, "--limits", "none", "--config", k.file("20ms", retry, "  spool: {max_bytes: 256KiB}"), "--data", dir)
	dropped := int(s.metric(t, "hubbub_chatlog_dropped_records_total", `reason="spool_full"`))
	k.set(works)
	s.delivered(t)
	bucket, group := k.s3.have("logs", idOf(room)), k.logs.have("logs", idOf(room))
	t.Logf("%d sent to each of 2 destinations, %d dropped, %d and %d delivered", messages, dropped, len(bucket), len(group))
	if dropped+len(bucket)+len(group) != 2*messages || dropped == 0 || dropped != int(s.metric(t, "hubbub_chatlog_dropped_records_total")) {
		t.Errorf("%d dropped and %d delivered of %d", dropped, len(bucket)+len(group), 2*messages)
	}
	if n := int(s.metric(t, "hubbub_chatlog_delivered_records_total")); n != len(bucket)+len(group) {
		t.Errorf("%d records counted as delivered, want %d", n, len(bucket)+len(group))
	}
	want := alice.records()
	same(t, "the youngest in S3", bucket, want[messages-len(bucket):])
	same(t, "the youngest in CloudWatch Logs", group, want[messages-len(group):])
	s.stop(t)
	if want := fmt.Sprintf(`"records":%d`, dropped); !strings.Contains(s.log.String(), want) {
		t.Errorf("the log does not say %s", want)
	}
}

// TestWhatIsTooOldIsDroppedAtTheStart starts again and again until it is.
func TestWhatIsTooOldIsDroppedAtTheStart(t *testing.T) {
	k := openSinks(t)
	file, dir := k.file("20ms", "  spool: {max_age: 1s}"), t.TempDir()
	args := []string{"--limits", "none", "--config", file, "--data", dir}
	s := start(t, args...)
	c := s.client()
	room := loggedRoom(t, c, loggedTo(t, c, toBucket("logs")))
	k.s3.set("", hangs)
	alice := watch(t, connect(t, s, c, room, "alice", every))
	alice.sayAll("message", 10)
	eventually(t, "everything is in the store", func() bool { return s.metric(t, "hubbub_chatlog_records_total") == 10 })
	dropped := 0.0
	eventually(t, "the records are too old", func() bool {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		s = start(t, args...)
		dropped += s.metric(t, "hubbub_chatlog_dropped_records_total", `reason="too_old"`)
		return s.metric(t, "hubbub_chatlog_spool_bytes") == 0
	})
	if dropped != 10 {
		t.Errorf("%v records were counted as too old, want 10", dropped)
	}
	k.s3.set("", works)
	s.stop(t)
	if !strings.Contains(s.log.String(), "records of chat logs were dropped") {
		t.Error("the log does not say that records were dropped")
	}
	if n := len(k.s3.have("logs", idOf(room))); n != 0 {
		t.Errorf("%d records came nevertheless", n)
	}
}

// TestDestinationsAreChecked asks through the SDK.
func TestDestinationsAreChecked(t *testing.T) {
	k := openSinks(t)
	s := start(t, "--limits", "none", "--config", k.file("20ms"))
	c, ctx := s.client(), limited(t)
	existing := loggedTo(t, c, toBucket("logs"))
	warnings := 0
	const warning = `"level":"WARN","msg":"log destination could not be checked","component":"chatlog","kind":`
	create := func(d types.DestinationConfiguration) error {
		_, err := c.CreateLoggingConfiguration(ctx, &ivschat.CreateLoggingConfigurationInput{DestinationConfiguration: d})
		return err
	}
	update := func(d types.DestinationConfiguration) error {
		_, err := c.UpdateLoggingConfiguration(ctx, &ivschat.UpdateLoggingConfigurationInput{Identifier: &existing, DestinationConfiguration: d})
		return err
	}
	for _, kind := range []struct {
		name  string
		sink  *sink
		there types.DestinationConfiguration
		not   types.DestinationConfiguration
	}{
		{"bucket", k.s3.sink, toBucket("logs"), toBucket("missing")},
		{"log group", k.logs.sink, toGroup("logs"), toGroup("missing")},
		{"delivery stream", k.firehose.sink, toStream("logs"), toStream("missing")},
	} {
		t.Run(kind.name, func(t *testing.T) {
			for what, do := range map[string]func(types.DestinationConfiguration) error{"create": create, "update": update} {
				api := wantError(t, do(kind.not), "ResourceNotFoundException", 404)
				if want := kind.name + " missing"; !strings.Contains(api.ErrorMessage(), want) {
					t.Errorf("%s: %q does not name the %s", what, api.ErrorMessage(), want)
				}
				kind.sink.set("", denied)
				api = wantError(t, do(kind.there), "AccessDeniedException", 403)
				if want := kind.name + " logs"; !strings.Contains(api.ErrorMessage(), want) {
					t.Errorf("%s: %q does not name the %s", what, api.ErrorMessage(), want)
				}
				for _, f := range []fault{broken, cutOff, works} {
					if kind.sink.set("", f); f == works {
						kind.sink.down()
					}
					if err := do(kind.there); err != nil {
						t.Errorf("%s of one that cannot be asked: %v", what, err)
					}
					warnings++
					eventually(t, "the log warns", func() bool { return strings.Count(s.log.String(), warning) == warnings })
				}
				kind.sink.up()
				if err := do(kind.there); err != nil {
					t.Errorf("%s of one that is there: %v", what, err)
				}
			}
		})
	}
	got, err := c.GetLoggingConfiguration(ctx, &ivschat.GetLoggingConfigurationInput{Identifier: &existing})
	if err != nil {
		t.Fatal(err)
	}
	if d, ok := got.DestinationConfiguration.(*types.DestinationConfigurationMemberFirehose); !ok || *d.Value.DeliveryStreamName != "logs" || got.State != types.LoggingConfigurationStateActive {
		t.Errorf("after the last change it is %+v", got)
	}
}

// TestServeWithoutDestinations has a file without a `logging` section.
func TestServeWithoutDestinations(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("iam.yaml", `accounts: {"123456789012": {root: {access_keys: [{id: AKIACONFORMANCE00000, secret: a-secret-of-forty-characters-for-this-test}]}}}`)
	s, err := startServe(write("hubbub.yaml", "region: us-west-2\niam: iam.yaml\ndata: data\ndrain: 0s\napi: 127.0.0.1:0\nmessaging: 127.0.0.1:0\nadmin: 127.0.0.1:0\n"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.stop(t) })
	s.AccessKeyID, s.SecretKey, s.Account, s.Region = "AKIACONFORMANCE00000", "a-secret-of-forty-characters-for-this-test", "123456789012", "us-west-2"
	c := s.client()
	for key, d := range map[string]types.DestinationConfiguration{"s3": toBucket("logs"), "cloudwatch_logs": toGroup("logs"), "firehose": toStream("logs")} {
		_, err := c.CreateLoggingConfiguration(limited(t), &ivschat.CreateLoggingConfigurationInput{DestinationConfiguration: d})
		api := wantError(t, err, "ResourceNotFoundException", 404)
		if want := "`logging: {" + key + ": {endpoint: URL}}`"; !strings.Contains(api.ErrorMessage(), want) {
			t.Errorf("%q does not say to write %s", api.ErrorMessage(), want)
		}
		var missing *types.ResourceNotFoundException
		if !errors.As(err, &missing) || missing.ResourceId == nil || *missing.ResourceId != s.Account {
			t.Errorf("%+v", missing)
		}
	}
	room := newRoom(t, c, nil)
	if _, err := c.SendEvent(limited(t), &ivschat.SendEventInput{RoomIdentifier: room.Arn, EventName: aws.String("e")}); err != nil {
		t.Error(err)
	}
}
