package cloudwatch

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/smithy-go/encoding/cbor"
)

// The key that the tests sign with.
const (
	keyID  = "AKIDEXAMPLE"
	secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
	region = "us-west-2"
)

// endpoint is a strict CloudWatch of PutMetricData alone. It speaks the query
// protocol, for endpoints that are named, and the one that this version of the
// SDK chooses by itself, Smithy RPC v2 CBOR:
//
//	POST /
//	Content-Type: application/x-www-form-urlencoded
//	Content-Encoding: gzip        from 10 KiB on
//
//	POST /service/GraniteServiceVersion20100801/operation/PutMetricData
//	Content-Type: application/cbor
//	Smithy-Protocol: rpc-v2-cbor
//	Content-Encoding: gzip        from 10 KiB on
type endpoint struct {
	*httptest.Server
	mu       sync.Mutex
	requests []request
	wrong    []string
	answer   func(w http.ResponseWriter) bool // true = it has answered
}

type request struct {
	namespace string
	data      []sent
	bytes     int // of the body, unpacked
	packed    bool
	cbor      bool
}

// sent is a datum.
type sent struct {
	name, dimensions, unit string
	value                  float64 // or the sum
	min, max, samples      float64
	at                     time.Time
}

func newEndpoint(t *testing.T) *endpoint {
	e := &endpoint{}
	e.Server = httptest.NewServer(e)
	t.Cleanup(func() {
		e.Close()
		for _, w := range e.wrong {
			t.Errorf("the endpoint was asked wrongly: %s", w)
		}
	})
	return e
}

func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.answer != nil && e.answer(w) {
		return
	}
	got, err := decode(r)
	if err != nil {
		e.wrong = append(e.wrong, err.Error())
		refuse(w, http.StatusBadRequest, "InvalidParameterValue", err.Error())
		return
	}
	e.requests = append(e.requests, got)
	if !got.cbor {
		w.Header().Set("Content-Type", "text/xml")
		_, _ = io.WriteString(w, `<PutMetricDataResponse xmlns="http://monitoring.amazonaws.com/doc/2010-08-01/"><ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></PutMetricDataResponse>`)
		return
	}
	w.Header().Set("Smithy-Protocol", "rpc-v2-cbor")
	w.Header().Set("Content-Type", "application/cbor")
	_, _ = w.Write(cbor.Encode(cbor.Map{}))
}

// refuse answers a query with an error of the service.
func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `<ErrorResponse xmlns="http://monitoring.amazonaws.com/doc/2010-08-01/"><Error><Type>Sender</Type><Code>%s</Code><Message>%s</Message></Error><RequestId>1</RequestId></ErrorResponse>`, code, message)
}

// decode checks a request as the service would: signature, protocol and limits.
func decode(r *http.Request) (got request, err error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return got, err
	}
	if err := checkSignature(r, body); err != nil {
		return got, err
	}
	got.cbor = r.Header.Get("Smithy-Protocol") == "rpc-v2-cbor"
	path, form := "/", "application/x-www-form-urlencoded"
	if got.cbor {
		path, form = "/service/GraniteServiceVersion20100801/operation/PutMetricData", "application/cbor"
	}
	for _, h := range [][2]string{{r.Method, "POST"}, {r.URL.RequestURI(), path}, {r.Header.Get("Content-Type"), form}} {
		if h[0] != h[1] {
			return got, fmt.Errorf("got %q, want %q", h[0], h[1])
		}
	}
	if len(body) > 1<<20 {
		return got, fmt.Errorf("the body has %d bytes, more than 1 MB", len(body))
	}
	if r.Header.Get("Content-Encoding") == "gzip" {
		got.packed = true
		z, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			return got, err
		}
		if body, err = io.ReadAll(z); err != nil {
			return got, err
		}
	}
	got.bytes = len(body)
	if !got.cbor {
		return got, decodeQuery(&got, string(body))
	}
	decoded, err := cbor.Decode(body)
	if err != nil {
		return got, err
	}
	// A wrong type panics, and the panic is the error.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the body is not as it should be: %v", p)
		}
	}()
	all := members(decoded, "Namespace", "MetricData")
	got.namespace = string(all["Namespace"].(cbor.String))
	data := all["MetricData"].(cbor.List)
	if len(data) == 0 || len(data) > 1000 {
		return got, fmt.Errorf("%d data in a request", len(data))
	}
	for _, d := range data {
		s, err := decodeDatum(d)
		if err != nil {
			return got, err
		}
		got.data = append(got.data, s)
	}
	return got, nil
}

// decodeQuery reads the form:
//
//	Action=PutMetricData&Version=2010-08-01&Namespace=N&MetricData.member.1.MetricName=M&…
func decodeQuery(got *request, body string) error {
	form, err := url.ParseQuery(body)
	if err != nil {
		return err
	}
	take := func(name string) string {
		v := form[name]
		delete(form, name)
		if len(v) > 1 {
			return fmt.Sprintf("%d times", len(v))
		}
		return strings.Join(v, "")
	}
	if action, version := take("Action"), take("Version"); action != "PutMetricData" || version != "2010-08-01" {
		return fmt.Errorf("asked for %s of %s", action, version)
	}
	got.namespace = take("Namespace")
	var wrong error
	number := func(name string) float64 {
		n, err := strconv.ParseFloat(take(name), 64)
		if err != nil {
			wrong = fmt.Errorf("%s: %w", name, err)
		}
		return n
	}
	for i := 1; form.Has(fmt.Sprintf("MetricData.member.%d.MetricName", i)); i++ {
		of := fmt.Sprintf("MetricData.member.%d.", i)
		s := sent{name: take(of + "MetricName"), unit: take(of + "Unit")}
		if s.at, err = time.Parse(time.RFC3339, take(of+"Timestamp")); err != nil {
			return err
		}
		var dimensions []string
		for d := 1; form.Has(fmt.Sprintf("%sDimensions.member.%d.Name", of, d)); d++ {
			one := fmt.Sprintf("%sDimensions.member.%d.", of, d)
			name, value := take(one+"Name"), take(one+"Value")
			if name == "" || value == "" || len(name) > 255 || len(value) > 1024 {
				return fmt.Errorf("dimension %q=%q", name, value)
			}
			dimensions = append(dimensions, name+"="+value)
		}
		s.dimensions = strings.Join(dimensions, " ")
		if set := of + "StatisticValues."; form.Has(set + "Sum") {
			s.value, s.min, s.max, s.samples = number(set+"Sum"), number(set+"Minimum"), number(set+"Maximum"), number(set+"SampleCount")
			if s.samples < 1 || s.min > s.max {
				return fmt.Errorf("statistics %+v", s)
			}
		} else {
			s.value = number(of + "Value")
		}
		got.data = append(got.data, s)
	}
	if n := len(got.data); n == 0 || n > 1000 {
		return fmt.Errorf("%d data in a request", n)
	}
	if len(form) > 0 {
		return fmt.Errorf("unknown members %v", slices.Sorted(maps.Keys(form)))
	}
	return wrong
}

// members are those of an object, which may have no others.
func members(v cbor.Value, known ...string) cbor.Map {
	m := v.(cbor.Map)
	for name := range m {
		if !slices.Contains(known, name) {
			panic("unknown member " + name)
		}
	}
	return m
}

func number(v cbor.Value) float64 {
	f, err := cbor.AsFloat64(v)
	if err != nil {
		panic(err)
	}
	return f
}

func decodeDatum(v cbor.Value) (s sent, err error) {
	d := members(v, "MetricName", "Dimensions", "Timestamp", "Unit", "Value", "StatisticValues")
	s.name, s.unit = string(d["MetricName"].(cbor.String)), string(d["Unit"].(cbor.String))
	at, ok := d["Timestamp"].(*cbor.Tag)
	if !ok || at.ID != 1 {
		return s, fmt.Errorf("the time is %v", d["Timestamp"])
	}
	if s.at, err = cbor.AsTime(at); err != nil {
		return s, err
	}
	if dimensions, there := d["Dimensions"]; there {
		for _, one := range dimensions.(cbor.List) {
			m := members(one, "Name", "Value")
			name, value := string(m["Name"].(cbor.String)), string(m["Value"].(cbor.String))
			if name == "" || value == "" || len(name) > 255 || len(value) > 1024 {
				return s, fmt.Errorf("dimension %q=%q", name, value)
			}
			s.dimensions += name + "=" + value + " "
		}
		s.dimensions = strings.TrimSuffix(s.dimensions, " ")
	}
	if set, there := d["StatisticValues"]; there {
		m := members(set, "SampleCount", "Sum", "Minimum", "Maximum")
		s.value, s.min, s.max, s.samples = number(m["Sum"]), number(m["Minimum"]), number(m["Maximum"]), number(m["SampleCount"])
		if s.samples < 1 || s.min > s.max || d["Value"] != nil {
			return s, fmt.Errorf("statistics %v", set)
		}
		return s, nil
	}
	s.value = number(d["Value"])
	return s, nil
}

// checkSignature signs the request again, as the service does.
func checkSignature(r *http.Request, body []byte) error {
	given := r.Header.Get("Authorization")
	date := r.Header.Get("X-Amz-Date")
	at, err := time.Parse("20060102T150405Z", date)
	if err != nil || time.Since(at).Abs() > 5*time.Minute {
		return fmt.Errorf("the date is %q", date)
	}
	_, list, _ := strings.Cut(given, "SignedHeaders=")
	list, _, _ = strings.Cut(list, ",")
	signed := strings.Split(list, ";")
	if !slices.Contains(signed, "host") || !slices.Contains(signed, "x-amz-date") {
		return fmt.Errorf("signed are %q", signed)
	}
	again, err := http.NewRequestWithContext(r.Context(), r.Method, "http://"+r.Host+r.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	for _, name := range signed {
		if name != "host" && name != "content-length" {
			again.Header[http.CanonicalHeaderKey(name)] = r.Header.Values(name)
		}
	}
	if !slices.Contains(signed, "content-length") {
		again.ContentLength = -1
	}
	sum := sha256.Sum256(body)
	if err := v4.NewSigner().SignHTTP(r.Context(), aws.Credentials{AccessKeyID: keyID, SecretAccessKey: secret}, again,
		hex.EncodeToString(sum[:]), "monitoring", region, at); err != nil {
		return err
	}
	if want := again.Header.Get("Authorization"); given != want {
		return fmt.Errorf("the signature is %q, want %q", given, want)
	}
	return nil
}

// environment is one of the SDK with a key and nothing else.
func environment(t *testing.T) {
	t.Helper()
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": keyID, "AWS_SECRET_ACCESS_KEY": secret, "AWS_SESSION_TOKEN": "", "AWS_PROFILE": "", "AWS_REGION": "", "AWS_DEFAULT_REGION": "",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_EC2_METADATA_DISABLED": "true",
	} {
		t.Setenv(name, value)
	}
}

// pushOnce pushes by closing.
func pushOnce(t *testing.T, o Options) error {
	t.Helper()
	o.Interval = time.Hour
	p, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return p.Close(t.Context())
}

func TestAnEndpointTakesWhatIsPushed(t *testing.T) {
	for _, c := range []struct {
		name string
		cbor bool
	}{{"a named endpoint, by query", false}, {"AWS, as its SDK does", true}} {
		t.Run(c.name, func(t *testing.T) { takes(t, c.cbor) })
	}
}

// takes checks what comes out at the other end of either protocol.
func takes(t *testing.T, cbor bool) {
	environment(t)
	e, n := newEndpoint(t), newNode()
	named := e.URL
	if cbor { // the SDK believes that it is AWS
		t.Setenv("AWS_ENDPOINT_URL_CLOUDWATCH", e.URL)
		named = ""
	}
	n.connections.Set(3)
	n.requests.WithLabelValues("SendMessage").Add(2)
	n.destinations.WithLabelValues("arn:aws:ivschat:us-west-2:123456789012:logging-configuration/a", "access_denied").Inc()
	before := time.Now().Truncate(time.Hour)
	if err := pushOnce(t, Options{Endpoint: named, Region: region, Gather: n}); err != nil {
		t.Fatal(err)
	}
	if len(e.requests) != 2 || e.requests[0].cbor != cbor || e.requests[0].namespace != "AWS/IVSChat" || e.requests[1].namespace != "AWS/Usage" {
		t.Fatalf("got %+v", e.requests)
	}
	got := map[string]sent{}
	for _, r := range e.requests {
		for _, s := range r.data {
			got[s.name+" "+s.dimensions] = s
			if s.unit != "Count" || s.at.Before(before) || !s.at.Equal(s.at.Truncate(time.Hour)) {
				t.Errorf("%s: unit %q at %v, want Count at the begin of the interval", s.name, s.unit, s.at)
			}
		}
	}
	for name, want := range map[string]float64{
		"MessagingRequests ":          2,
		"Requests Action=SendMessage": 2,
		"LogDestinationAccessDeniedError LoggingConfiguration=arn:aws:ivschat:us-west-2:123456789012:logging-configuration/a": 1,
	} {
		if got[name].value != want || got[name].samples != 0 {
			t.Errorf("%s is %+v, want %g", name, got[name], want)
		}
	}
	for _, name := range []string{"ConcurrentChatConnections ", "ResourceCount Service=IVS Chat Class=None Type=Resource Resource=ConcurrentChatConnections"} {
		if s := got[name]; s.min != 3 || s.max != 3 || s.value != 3*s.samples || s.samples < 1 {
			t.Errorf("%s is %+v, want 3 in all samples", name, s)
		}
	}
}

func TestRequestsStayWithinTheLimitsOfTheService(t *testing.T) {
	environment(t)
	e, n := newEndpoint(t), newNode()
	for i := range 1500 {
		n.invocations.WithLabelValues(fmt.Sprintf("%04d%s", i, strings.Repeat("x", 1020))).Inc()
	}
	if err := pushOnce(t, Options{Endpoint: e.URL, Region: region, Gather: n, Namespace: "N"}); err != nil {
		t.Fatal(err)
	}
	errors := 0
	for _, r := range e.requests {
		if r.bytes > 1_000_000 || !r.packed {
			t.Errorf("a request has %d bytes before it is packed (%t), more than 1 MB", r.bytes, r.packed)
		}
		for _, s := range r.data {
			if s.name == "InvocationErrors" { // each of 1 KB
				errors++
			}
		}
	}
	if errors != 1500 || len(e.requests) < 3 {
		t.Errorf("%d series came in %d requests, want 1500", errors, len(e.requests))
	}
}

func TestARequestThatIsRefusedIsRepeatedAndTheOthersAreNot(t *testing.T) {
	environment(t)
	e, n := newEndpoint(t), newNode()
	n.connections.Set(1)
	asked := 0
	e.answer = func(w http.ResponseWriter) bool {
		if asked++; asked == 2 { // AWS/Usage
			refuse(w, http.StatusForbidden, "AccessDenied", "not allowed to cloudwatch:PutMetricData")
			return true
		}
		return false
	}
	p, err := New(t.Context(), Options{Endpoint: e.URL, Region: region, Gather: n, Interval: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	err = p.Close(t.Context())
	if err == nil || err.Error() != "push metrics of AWS/Usage: api error AccessDenied: not allowed to cloudwatch:PutMetricData" {
		t.Errorf("got %v", err)
	}
	if got := len(p.pending); got != 1 {
		t.Errorf("%d series are pending, want the one that was refused", got)
	}
}

func TestNewSaysWhatIsMissing(t *testing.T) {
	environment(t)
	if _, err := New(t.Context(), Options{Endpoint: "http://127.0.0.1:1", Gather: newNode()}); err == nil || !strings.Contains(err.Error(), "no region") {
		t.Errorf("got %v, want that there is no region", err)
	}
	t.Setenv("AWS_REGION", region)
	e := newEndpoint(t)
	if err := pushOnce(t, Options{Endpoint: e.URL, Gather: newNode()}); err != nil || len(e.requests) == 0 {
		t.Errorf("with the region of the environment: %v", err)
	}
}

func TestDevelopersNeedNoCredentials(t *testing.T) {
	environment(t)
	e := newEndpoint(t)
	published := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: keyID, SecretAccessKey: secret}, nil
	})
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	if err := pushOnce(t, Options{Endpoint: e.URL, Region: region, Gather: newNode(), DevCredentials: published}); err != nil {
		t.Errorf("the published key was not used: %v", err)
	}
	if err := pushOnce(t, Options{Endpoint: e.URL, Region: region, Gather: newNode()}); err == nil {
		t.Error("pushed without any credentials")
	}
}

func TestMotoTakesWhatIsPushed(t *testing.T) {
	environment(t)
	url := moto(t)
	n := newNode()
	n.connections.Set(3)
	n.requests.WithLabelValues("SendMessage").Add(2)
	n.deliveries.WithLabelValues("SendMessage").Add(6)
	for i := range 200 { // more than 10 KiB: packed
		n.invocations.WithLabelValues(fmt.Sprintf("arn:aws:lambda:us-west-2:123456789012:function:f%03d", i)).Add(float64(i))
	}
	for range 2 { // two servers, or one twice
		if err := pushOnce(t, Options{Endpoint: url, Region: region, Gather: n}); err != nil {
			t.Fatal(err)
		}
	}
	client, err := newClient(t.Context(), Options{Endpoint: url, Region: region})
	if err != nil {
		t.Fatal(err)
	}
	read := func(namespace, metric string, dimensions ...types.Dimension) types.Datapoint {
		t.Helper()
		out, err := client.GetMetricStatistics(t.Context(), &cloudwatch.GetMetricStatisticsInput{
			Namespace: &namespace, MetricName: &metric, Dimensions: dimensions, Period: aws.Int32(3600),
			StartTime: aws.Time(time.Now().Add(-3 * time.Hour)), EndTime: aws.Time(time.Now().Add(time.Hour)),
			Statistics: []types.Statistic{types.StatisticSum, types.StatisticMaximum, types.StatisticMinimum, types.StatisticSampleCount},
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(out.Datapoints) != 1 {
			t.Fatalf("%s has %d data, want one", metric, len(out.Datapoints))
		}
		return out.Datapoints[0]
	}
	action := types.Dimension{Name: aws.String("Action"), Value: aws.String("SendMessage")}
	uri := types.Dimension{Name: aws.String("Uri"), Value: aws.String("arn:aws:lambda:us-west-2:123456789012:function:f007")}
	for _, c := range []struct {
		name string
		got  types.Datapoint
		want float64
	}{
		{"MessagingRequests", read("AWS/IVSChat", "MessagingRequests"), 4},
		{"Requests", read("AWS/IVSChat", "Requests", action), 4},
		{"Deliveries", read("AWS/IVSChat", "Deliveries", action), 12},
		{"InvocationErrors", read("AWS/IVSChat", "InvocationErrors", uri), 14},
	} {
		if aws.ToFloat64(c.got.Sum) != c.want || c.got.Unit != types.StandardUnitCount {
			t.Errorf("%s: the sum is %g %s, want %g", c.name, aws.ToFloat64(c.got.Sum), c.got.Unit, c.want)
		}
	}
	for _, got := range []types.Datapoint{read("AWS/IVSChat", "ConcurrentChatConnections"), read("AWS/Usage", "ResourceCount", usageDimensions...)} {
		if aws.ToFloat64(got.Maximum) != 3 || aws.ToFloat64(got.Minimum) != 3 || aws.ToFloat64(got.Sum) != 3*aws.ToFloat64(got.SampleCount) {
			t.Errorf("the connections are %+v, want 3", got)
		}
	}
	listed, err := client.ListMetrics(t.Context(), &cloudwatch.ListMetricsInput{Namespace: aws.String("AWS/IVSChat"), MetricName: aws.String("Requests")})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range listed.Metrics {
		names = append(names, aws.ToString(m.Dimensions[0].Value))
	}
	if slices.Sort(names); !slices.Equal(slices.Compact(names), []string{"DeleteMessage", "DisconnectUser", "SendEvent", "SendMessage"}) {
		t.Errorf("the actions are %q", names)
	}
}

// moto runs moto's server until the test ends; without it the test is skipped,
// unless TEST_REQUIRE_MOTO=1.
func moto(t *testing.T) (url string) {
	t.Helper()
	skip := t.Skipf
	if os.Getenv("TEST_REQUIRE_MOTO") == "1" {
		skip = t.Fatalf
	}
	if out, err := exec.CommandContext(t.Context(), "python3", "-c", "import moto.server").CombinedOutput(); err != nil {
		skip("moto's server is not on this machine (pip install 'moto[server]==5.2.1'): %v: %s", err, bytes.TrimSpace(out))
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	var log bytes.Buffer
	ctx, cancel := context.WithCancel(context.Background())
	server := exec.CommandContext(ctx, "python3", "-m", "moto.server", "-p", strconv.Itoa(port))
	server.Stdout, server.Stderr = &log, &log
	// Python's SDK does not take an empty AWS_PROFILE, as environment sets it.
	server.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "AWS_") })
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = server.Wait(); close(ended) }()
	t.Cleanup(func() {
		cancel()
		<-ended
		if t.Failed() {
			t.Logf("moto said:\n%s", &log)
		}
	})
	url = fmt.Sprintf("http://127.0.0.1:%d", port)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(time.Minute); ; {
		if r, err := http.Get(url + "/moto-api/"); err == nil {
			r.Body.Close()
			return url
		}
		select {
		case <-ended:
			t.Fatalf("moto ended: %s", &log)
		case <-limit:
			t.Fatal("moto does not answer")
		case <-tick.C:
		}
	}
}
