package review

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"hubbub/ivschat"
)

// devCredentials sign in these tests, wherever they run.
var devCredentials = provider(func() (aws.Credentials, error) {
	return aws.Credentials{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "wJalrXUtnFEMI"}, nil
})

// noChain keeps the credentials of whoever runs the test out of it.
func noChain(t *testing.T) {
	t.Helper()
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_LAMBDA",
		"AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_WEB_IDENTITY_TOKEN_FILE"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_CONFIG_FILE", "/nonexistent")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
}

// wantSigned signs the request again with AWS's own signer, and compares.
func wantSigned(t *testing.T, r *http.Request, body []byte, region string) {
	t.Helper()
	auth := r.Header.Get("Authorization")
	_, list, _ := strings.Cut(auth, "SignedHeaders=")
	list, signature, _ := strings.Cut(list, ", Signature=")
	signed := strings.Split(list, ";")
	for _, name := range []string{"host", "x-amz-date", "x-amz-source-arn", "x-amz-source-account", "x-amz-invocation-type"} {
		if !slices.Contains(signed, name) {
			t.Errorf("%s is not signed: %s", name, auth)
		}
	}
	again, err := http.NewRequest(r.Method, "http://"+r.Host+r.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range signed {
		if name != "host" && name != "content-length" {
			again.Header[http.CanonicalHeaderKey(name)] = r.Header[http.CanonicalHeaderKey(name)]
		}
	}
	date, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(body)
	credentials, _ := devCredentials()
	if err := v4.NewSigner().SignHTTP(context.Background(), credentials, again, hex.EncodeToString(sum[:]), "lambda", region, date); err != nil {
		t.Fatal(err)
	}
	if got := again.Header.Get("Authorization"); !strings.HasSuffix(got, "Signature="+signature) {
		t.Errorf("the signature is\n%s\nwant\n%s", auth, got)
	}
}

func TestALambdaHandlerIsInvoked(t *testing.T) {
	noChain(t)
	for _, c := range []struct {
		name, uri, region, signed string
	}{
		{"region of the function", moderate, "", "us-west-2"},
		{"region of the configuration", moderate, "eu-central-1", "eu-central-1"},
		{"an alias", moderate + ":prod", "", "us-west-2"},
		{"characters that a path escapes", moderate + "/ä b", "", "us-west-2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			url, connections := serve(t, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				if r.Method != http.MethodPost || r.URL.Path != "/2015-03-31/functions/"+c.uri+"/invocations" {
					t.Errorf("got %s %s", r.Method, r.URL.Path)
				}
				if !strings.HasPrefix(string(body), `{"Content":"Hello","MessageId":"M2YcHkgffEvU",`) {
					t.Errorf("got %s", body)
				}
				for name, want := range map[string]string{"X-Amz-Invocation-Type": "RequestResponse", "X-Amz-Source-Arn": string(room), "X-Amz-Source-Account": "123456789012"} {
					if got := r.Header.Values(name); !slices.Equal(got, []string{want}) {
						t.Errorf("%s is %q, want %q", name, got, want)
					}
				}
				wantSigned(t, r, body, c.signed)
				io.WriteString(w, allows)
			})
			r, _, log := reviewer(t, Handler{}, func(o *Options) {
				o.Handlers = map[string]Handler{c.uri: {Lambda: &Lambda{Endpoint: url, Region: c.region}}}
			})
			for range 3 {
				want(t, ask(r, c.uri, ivschat.FallbackDeny), allowed, "allowed")
			}
			if n := connections.Load(); n != 1 {
				t.Errorf("%d connections for three messages in turn, want one", n)
			}
			if log.String() != "" {
				t.Errorf("logged:\n%s", log)
			}
		})
	}
}

func TestLambdaHandlersThatGiveNoVerdict(t *testing.T) {
	noChain(t)
	wantFaults(t, func(url string) Handler { return Handler{Lambda: &Lambda{Endpoint: url}} })
}

func TestAFunctionErrorHasItsOwnCounter(t *testing.T) {
	noChain(t)
	for name, body := range map[string]string{
		"an exception": `{"errorMessage":"boom","errorType":"Error","trace":[]}`, "a verdict all the same": allows,
		"a long one": pad(allows, maxResponseBytes+1),
	} {
		t.Run(name, func(t *testing.T) {
			url, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("X-Amz-Function-Error", "Unhandled")
				io.WriteString(w, body)
			})
			r, metrics, log := reviewer(t, Handler{Lambda: &Lambda{Endpoint: url}})
			want(t, ask(r, moderate, ivschat.FallbackAllow), fell, "fallback ALLOW")
			want(t, ask(r, moderate, ivschat.FallbackDeny), refused, "fallback DENY")
			wantSample(t, metrics, functionErrors, moderate, 2)
			wantSample(t, metrics, invocationErrors, moderate, 0)
			wantSample(t, metrics, validationErrors, moderate, 0)
			if strings.Contains(log.String(), "boom") || !strings.Contains(log.String(), "reason=function_error") {
				t.Errorf("logged:\n%s", log)
			}
		})
	}
}

// The code of a refusal helps an operator; its text may repeat what was sent.
func TestTheLogNamesALambdaErrorAndKeepsItsTextOut(t *testing.T) {
	noChain(t)
	url, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Amzn-ErrorType", "AccessDeniedException")
		w.WriteHeader(http.StatusForbidden)
		io.WriteString(w, `{"message":"cannot read {\"Content\":\"Hello\"}"}`)
	})
	r, _, log := reviewer(t, Handler{Lambda: &Lambda{Endpoint: url}})
	ask(r, moderate, ivschat.FallbackAllow)
	if !strings.Contains(log.String(), "AccessDeniedException") || !strings.Contains(log.String(), "403") || strings.Contains(log.String(), "Hello") {
		t.Errorf("logged:\n%s", log)
	}
}

// What stands where a code should be is anything.
func TestACodeThatIsNoneIsKeptOutOfTheLog(t *testing.T) {
	noChain(t)
	url, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		io.WriteString(w, `{"__type":"cannot read {Hello}"}`)
	})
	r, _, log := reviewer(t, Handler{Lambda: &Lambda{Endpoint: url}})
	ask(r, moderate, ivschat.FallbackAllow)
	if !strings.Contains(log.String(), "status 400") || strings.Contains(log.String(), "Hello") {
		t.Errorf("logged:\n%s", log)
	}
}

func TestAnyOtherARNGoesToTheDefault(t *testing.T) {
	noChain(t)
	var got string
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = r.URL.Path
		wantSigned(t, r, body, "eu-west-1")
		io.WriteString(w, allows)
	})
	r, metrics, _ := reviewer(t, Handler{Rules: &Rules{}}, func(o *Options) { o.Default = &Handler{Lambda: &Lambda{Endpoint: url}} })
	const other = "arn:aws:lambda:eu-west-1:123456789012:function:other"
	if !r.Accepts(other) {
		t.Error("not accepted")
	}
	want(t, ask(r, other, ivschat.FallbackDeny), allowed, "default")
	if got != "/2015-03-31/functions/"+other+"/invocations" {
		t.Errorf("invoked %s", got)
	}
	want(t, ask(r, "arn:aws:lambda:evil.example/:1:function:x", ivschat.FallbackDeny), refused, "an ARN whose region is none")
	wantSample(t, metrics, invocationErrors, "arn:aws:lambda:evil.example/:1:function:x", 1)
}

func TestTheChainComesBeforeTheCredentialsOfDev(t *testing.T) {
	noChain(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDCHAIN")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if a := r.Header.Get("Authorization"); !strings.Contains(a, "Credential=AKIDCHAIN/") {
			t.Errorf("signed by %s", a)
		}
		io.WriteString(w, allows)
	})
	r, _, _ := reviewer(t, Handler{Lambda: &Lambda{Endpoint: url}})
	want(t, ask(r, moderate, ivschat.FallbackDeny), allowed, "allowed")
}

func TestNoCredentialsIsAnInvocationError(t *testing.T) {
	noChain(t)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	url, _ := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("asked without a signature") })
	r, metrics, log := reviewer(t, Handler{Lambda: &Lambda{Endpoint: url}}, func(o *Options) { o.DevCredentials = nil })
	want(t, ask(r, moderate, ivschat.FallbackAllow), fell, "no credentials")
	wantSample(t, metrics, invocationErrors, moderate, 1)
	if !strings.Contains(log.String(), "reason=no_credentials") {
		t.Errorf("logged:\n%s", log)
	}
}

// Many messages share a connection of HTTP/2. When the network has dropped it
// without a word, it is found out.
func TestADeadConnectionIsNotAskedForLong(t *testing.T) {
	noChain(t)
	backend := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			t.Errorf("asked over %s", r.Proto)
		}
		io.WriteString(w, allows)
	}))
	backend.EnableHTTP2 = true
	backend.StartTLS()
	t.Cleanup(backend.Close)
	bundle := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: backend.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_CA_BUNDLE", bundle)
	way := newWay(t, backend.Listener.Addr().String())
	r, _, _ := reviewer(t, Handler{Lambda: &Lambda{Endpoint: "https://" + way.Addr().String()}}, func(o *Options) { o.Timeout = 200 * time.Millisecond })
	for began := time.Now(); ask(r, moderate, ivschat.FallbackDeny).Content != allowed.Content; {
		if time.Since(began) > 20*time.Second {
			t.Fatal("it is not asked at all")
		}
	}
	way.silent.Add(1)
	want(t, ask(r, moderate, ivschat.FallbackDeny), refused, "over a dead connection")
	for began := time.Now(); ask(r, moderate, ivschat.FallbackDeny).Content != allowed.Content; {
		if time.Since(began) > 20*time.Second {
			t.Fatal("the dead connection is asked again and again")
		}
	}
}

// way leads to a server, until it swallows what it carries.
type way struct {
	net.Listener
	silent atomic.Int32 // connections from before it grew carry nothing any more
}

func newWay(t *testing.T, to string) *way {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &way{Listener: l}
	var all sync.WaitGroup
	t.Cleanup(func() { l.Close(); all.Wait() })
	carry := func(to, from net.Conn, began int32) {
		defer to.Close()
		defer from.Close()
		b := make([]byte, 32<<10)
		for {
			n, err := from.Read(b)
			if err != nil {
				return
			}
			if w.silent.Load() != began {
				continue
			}
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
	}
	all.Go(func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", to)
			if err != nil {
				from.Close()
				continue
			}
			began := w.silent.Load()
			all.Go(func() { carry(server, from, began) })
			all.Go(func() { carry(from, server, began) })
		}
	})
	return w
}
