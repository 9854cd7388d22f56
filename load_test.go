package hubbub

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var sameConfig = cmpopts.EquateComparable(netip.Prefix{})

func write(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFlagsWinOverEnvironmentOverFile(t *testing.T) {
	file := write(t, "hubbub.yaml", "drain: 1s\naccount: 111111111111\ntokens: {lifetime: 10m}\nlimits: {base: strict, rooms: 7, logging_configurations: 8}\n")
	l, err := Load(Dev, Sources{
		File:  file,
		Env:   []string{"HUBBUB_DRAIN=2s", "HUBBUB_ACCOUNT=222222222222", "HUBBUB_LIMITS_ROOMS=9", "PATH=/bin"},
		Flags: map[string]string{"drain": "3s", "region": "eu-west-1, us-east-1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := Defaults(Dev)
	want.Drain = 3 * time.Second                      // flag over both
	want.Account = "222222222222"                     // environment over file
	want.TokenLifetime = 10 * time.Minute             // file over default
	want.Regions = []string{"eu-west-1", "us-east-1"} // a list in a flag
	want.Limits = Limits{Base: "strict", Keys: map[string]string{"rooms": "9", "logging_configurations": "8"}}
	if d := cmp.Diff(want, l.Config, sameConfig); d != "" {
		t.Errorf("the configuration is not what the sources say (-want +got):\n%s", d)
	}
	if len(l.Warnings) > 0 {
		t.Errorf("warned about %v", l.Warnings)
	}
}

func TestZeroConfigIsTheDefault(t *testing.T) {
	want := Defaults(Dev)
	want.Drain = 0 // the one member whose zero means zero
	if d := cmp.Diff(want, Config{}.filled()); d != "" {
		t.Errorf("the zero value differs from Defaults (-want +got):\n%s", d)
	}
	if p := (Config{}).filled().problems(func(string) string { return "" }); p != nil {
		t.Errorf("the zero value is refused: %v", p)
	}
}

func TestEverySettingFromEverySource(t *testing.T) {
	// A value other than the default for each, as it is written.
	values := map[string]string{
		"api": "127.0.0.1:1", "messaging": "127.0.0.1:2", "admin": "127.0.0.1:3", "data": "/d", "account": "123456789012",
		"region": "us-east-1", "limits": "none", "tokens.lifetime": "2h", "iam": "/iam.yaml", "tls.cert": "/c.pem", "tls.key": "/k.pem",
		"trusted_proxies": "10.0.0.0/8", "signature_window": "1m", "clock_offset": "-10s", "log": "json", "log_level": "debug", "drain": "9s", "drain_delay": "8s",
		"slow_viewers.frames": "64", "slow_viewers.bytes": "2MiB", "slow_viewers.stall": "8s",
		"allow_remote": "true", "pprof": "true",
		"cluster.name": "chat", "cluster.node": "a", "cluster.listen": "127.0.0.1:1", "cluster.advertise": "127.0.0.1:2",
		"cluster.peers": "127.0.0.1:2", "cluster.secret_file": "/secret", "cluster.tls.cert": "/c.pem", "cluster.tls.key": "/k.pem", "cluster.tls.ca": "/ca.pem",
		"cluster.nats.url": "nats://127.0.0.1:4222", "cluster.nats.credentials": "/file.creds", "cluster.nats.monitor": "http://127.0.0.1:8222",
		"review.timeout": "1s", "review.concurrency": "7", "review.default": "{lambda: {}}",
		"review.handlers":     `{"arn:aws:lambda:us-west-2:123456789012:function:f": {rules: {deny_links: true}}}`,
		"logging.s3.endpoint": "http://127.0.0.1:9003", "logging.s3.path_style": "true", "logging.s3.region": "eu-west-1",
		"logging.s3.directory": "/logs", "logging.s3.flush": "1m",
		"logging.cloudwatch_logs.endpoint": "http://127.0.0.1:9004", "logging.cloudwatch_logs.region": "eu-west-1",
		"logging.cloudwatch_logs.directory": "/logs", "logging.cloudwatch_logs.flush": "1s",
		"logging.firehose.endpoint": "http://127.0.0.1:9004", "logging.firehose.region": "eu-west-1",
		"logging.firehose.directory": "/logs", "logging.firehose.flush": "1s",
		"logging.spool.max_bytes": "2GiB", "logging.spool.max_age": "1h",
		"logging.retry.timeout": "2s", "logging.retry.max_pause": "300ms",
		"metrics.cloudwatch.endpoint": "http://127.0.0.1:9005", "metrics.cloudwatch.region": "eu-west-1",
		"metrics.cloudwatch.interval": "10s", "metrics.cloudwatch.namespace": "Chat",
	}
	env, flags := map[string]bool{}, map[string]bool{}
	for _, s := range Settings() {
		if env[s.Env()] || flags[s.Flag()] {
			t.Errorf("%s shares a flag or a variable with another setting", s.Key)
		}
		env[s.Env()], flags[s.Flag()] = true, true
		v, ok := values[s.Key]
		if strings.HasPrefix(s.Key, "limits.") {
			v, ok = "3", true
			if s.Form == "SIZE" {
				v = "3KiB"
			}
		}
		if !ok {
			t.Errorf("the test has no value for %s", s.Key)
			continue
		}
		yaml := strings.ReplaceAll(s.Key, ".", ": {") + ": " + v + strings.Repeat("}", strings.Count(s.Key, "."))
		// The cross checks are those of another test: here, what each source sets.
		set := func(from Sources) Config {
			t.Helper()
			l := loading{Loaded: Loaded{Config: Defaults(Dev), where: map[string]string{}}}
			l.read(from)
			if len(l.problems) > 0 {
				t.Errorf("%s = %s is refused: %v", s.Key, v, l.problems)
			}
			return l.Config
		}
		byFile := set(Sources{File: write(t, "hubbub.yaml", yaml)})
		byEnv := set(Sources{Env: []string{s.Env() + "=" + v}})
		byFlag := set(Sources{Flags: map[string]string{s.Key: v}})
		if cmp.Equal(byFlag, Defaults(Dev), sameConfig) {
			t.Errorf("%s = %s changes nothing", s.Key, v)
		}
		if d := cmp.Diff(byFlag, byEnv, sameConfig) + cmp.Diff(byFlag, byFile, sameConfig); d != "" {
			t.Errorf("%s = %s means different things as flag, variable and key:\n%s", s.Key, v, d)
		}
	}
}

func TestProblemsNameLineAndRemedy(t *testing.T) {
	for _, c := range []struct{ sentence, file, want string }{
		{"an unknown key is refused with the nearest", "api: 127.0.0.1:0\nmesaging: 127.0.0.1:1\n", "FILE:2: mesaging is no setting; did you mean messaging?"},
		{"an unknown key of a section", "tls:\n  cert: a\n  kye: b\n", "FILE:3: tls.kye is no setting; did you mean tls.key?"},
		{"an unknown section", "tsl: {cert: a}\n", "FILE:1: tsl is no setting; did you mean tls?"},
		{"an unknown quota", "limits: {base: none, room: 1}\n", "FILE:1: limits.room is no setting; did you mean limits.rooms?"},
		{"the beginning of a quota's name", "limits: {send_event: 1}\n", "FILE:1: limits.send_event is no setting; did you mean limits.send_event_per_second?"},
		{"a key outside its section", "rooms: 1\nlifetime: 1h\n", "FILE:1: rooms is no setting; did you mean limits.rooms?\nFILE:2: lifetime is no setting; did you mean tokens.lifetime?"},
		{"a key in capital letters", "API: 127.0.0.1:0\n", "FILE:1: API is no setting; did you mean api?"},
		{"a file from an editor that writes a byte-order mark", "\ufeffdrain: 5\n", "FILE:1: drain: 5 has no unit; write 5s for seconds, or 5ms, 5m, 5h"},
		{"a size beyond the bounds", "limits: {event_attributes: 1GiB}\n", `FILE:1: limits.event_attributes: "1GiB" is not a size: write a whole number with its unit, B, KiB or MiB, like 4KiB`},
		{"a number beyond the bounds", "limits: {rooms: 99999999999999999999}\n", `FILE:1: limits.rooms: "99999999999999999999" is not a whole number from 0 (unlimited) to 1099511627776`},
		{"nothing like it", "qqqqqqqqqqqq: 1\n", "FILE:1: qqqqqqqqqqqq is no setting"},
		{"a bare number for a duration", "drain: 5\n", "FILE:1: drain: 5 has no unit; write 5s for seconds, or 5ms, 5m, 5h"},
		{"no duration at all", "drain: soon\n", `FILE:1: drain: "soon" is no duration; write for example 500ms, 5s, 10m or 1h`},
		{"a token that outlives every session", "tokens: {lifetime: 181m}\n", "FILE:1: tokens.lifetime: 181m is out of bounds; write something between 1s and 3h"},
		{"an address without a port", "\n\napi: 127.0.0.1\n", `FILE:3: api: "127.0.0.1" is no HOST:PORT; write for example 127.0.0.1:4880, or [::1]:4880 for IPv6`},
		{"a URL for an address", "api: http://127.0.0.1:4880\n", `FILE:1: api: "http://127.0.0.1:4880" is a URL; write HOST:PORT, for example 127.0.0.1:4880`},
		{"a port that cannot be", "api: 127.0.0.1:65536\n", `FILE:1: api: "127.0.0.1:65536" has no port between 0 and 65535; write for example 127.0.0.1:4880`},
		{"an account that is none", "account: \"1234\"\n", `FILE:1: account: "1234" is no account; write 12 digits, in the file in quotes`},
		{"a region that is none", "region: [us-west-2, US_EAST]\n", `FILE:1: region: "US_EAST" is no region; write for example us-west-2 (lower-case letters, digits and hyphens, up to 32)`},
		{"a proxy that is none", "trusted_proxies: [lb]\n", `FILE:1: trusted_proxies: "lb" is no network; write for example 10.0.0.0/8, or one address`},
		{"an unknown level of limits", "limits: lax\n", `FILE:1: limits: "lax" is not known; write strict, relaxed or none`},
		{"a key without a value", "drain:\napi: 127.0.0.1:0\n", "FILE:1: drain has no value; write DURATION, or remove the key"},
		{"a section without keys", "tls: x\n", "FILE:1: tls is a section; write keys below it, for example `tls: {cert: FILE}`"},
		{"a section where a value belongs", "drain: {a: 1}\n", "FILE:1: drain takes one plain value: DURATION"},
		{"a list where one value belongs", "data: [a, b]\n", "FILE:1: data takes one plain value: FOLDER"},
		{"an empty list", "region: []\n", "FILE:1: region is an empty list; name at least one, or remove the key"},
		{"no mapping", "- api\n", "FILE:1: the file must be keys with values, like `api: 127.0.0.1:4880`"},
		{"two documents", "drain: 1s\n---\ndrain: 2s\n", "FILE:3: a second document begins here; put everything into one"},
		{"an anchor", "data: &d x\n", "FILE:1: data takes one plain value: FOLDER"},
		{"two planes on one port", "api: 127.0.0.1:9\nmessaging: 127.0.0.1:9\n", "FILE:2: api and messaging are both 127.0.0.1:9; give each a port of its own"},
		{"a plane on the port that another has by default", "api: 127.0.0.1:4881\n", "FILE:1: api and messaging are both 127.0.0.1:4881; give each a port of its own"},
		{"a certificate without its key", "tls: {cert: a}\n", "FILE:1: tls.cert is given without tls.key; write `tls: {cert: server.crt, key: server.key}`"},
		{"dev beyond loopback", "api: 0.0.0.0:0\n", "FILE:1: dev listens on loopback only, because its credentials are published, and api 0.0.0.0:0 is not loopback; " +
			"write 127.0.0.1, use --allow-remote in a container, or run `hubbub serve`"},
		{"several problems are told together", "drain: 5\nmesaging: x\n", "FILE:1: drain: 5 has no unit; write 5s for seconds, or 5ms, 5m, 5h\nFILE:2: mesaging is no setting; did you mean messaging?"},
	} {
		t.Run(c.sentence, func(t *testing.T) {
			path := write(t, "hubbub.yaml", c.file)
			_, err := Load(Dev, Sources{File: path})
			lines := strings.Split(strings.ReplaceAll(errorText(err), path, "FILE"), "\n")
			if d := cmp.Diff(strings.Split(c.want, "\n"), lines, cmpopts.SortSlices(func(a, b string) bool { return a < b })); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestInvalidYAMLNamesTheLine(t *testing.T) {
	for _, content := range []string{"api: 127.0.0.1:0\ndrain: [1s\n", "api: a\n  drain: b\n", "drain: 1s\ndrain: 2s\n", "\tapi: x\n"} {
		path := write(t, "hubbub.yaml", content)
		_, err := Load(Dev, Sources{File: path})
		if text := errorText(err); !strings.HasPrefix(text, path+":") || !strings.Contains(text, "is no valid YAML: ") || strings.Contains(text, "\n") {
			t.Errorf("%q is refused with %q, want one line with file, line number and cause", content, text)
		}
	}
}

func TestServeRefuses(t *testing.T) {
	for _, c := range []struct{ sentence, file, want string }{
		{"without region", "iam: x\n", "serve needs to know its region; write `region: us-west-2`, or a list of them"},
		{"without iam", "region: us-west-2\n", "serve needs principals and their keys; write `iam: iam.yaml` (`hubbub key make` prints the first lines of such a file)"},
		{"plain text to the world", "region: us-west-2\niam: x\napi: 0.0.0.0:4880\n", "FILE:3: api 0.0.0.0:4880 would send tokens and messages over the network in the clear; " +
			"write `tls: {cert: server.crt, key: server.key}`, or `trusted_proxies: [10.0.0.0/8]` if a proxy in front ends TLS, or listen on 127.0.0.1"},
		{"allow_remote", "region: us-west-2\niam: x\nallow_remote: true\n", "FILE:3: allow_remote is for `hubbub dev`; remove it: serve listens where it is told to"},
	} {
		t.Run(c.sentence, func(t *testing.T) {
			path := write(t, "hubbub.yaml", c.file)
			_, err := Load(Serve, Sources{File: path})
			if got := strings.ReplaceAll(errorText(err), path, "FILE"); got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
	for _, more := range []string{"", "api: '[::1]:4880'\n", "api: localhost:4880\n", "api: 0.0.0.0:4880\ntls: {cert: c, key: k}\n", "api: 0.0.0.0:4880\nmessaging: :4881\ntrusted_proxies: 10.0.0.1\n"} {
		path := write(t, "hubbub.yaml", "region: [us-west-2, eu-west-1]\niam: x\n"+more)
		if _, err := Load(Serve, Sources{File: path}); err != nil {
			t.Errorf("%q is refused: %v", more, err)
		}
	}
}

func TestPathsInTheFileAreBesideIt(t *testing.T) {
	path := write(t, "hubbub.yaml", "data: store\niam: sub/iam.yaml\ntls: {cert: /abs/c.pem, key: k.pem}\nlogging: {s3: {directory: logs/s3}}\n")
	folder := filepath.Dir(path)
	l, err := Load(Dev, Sources{File: path})
	if err != nil {
		t.Fatal(err)
	}
	got := []string{l.Config.Data, l.Config.IAM, l.Config.TLS.Cert, l.Config.TLS.Key, l.Config.Logging.S3.Directory}
	if d := cmp.Diff([]string{folder + "/store", folder + "/sub/iam.yaml", "/abs/c.pem", folder + "/k.pem", folder + "/logs/s3"}, got); d != "" {
		t.Error(d)
	}
	l, err = Load(Dev, Sources{File: write(t, "hubbub.yaml", "data: ':memory:'\n"), Flags: map[string]string{"iam": "iam.yaml"}})
	if err != nil || l.Config.Data != Memory || l.Config.IAM != "iam.yaml" {
		t.Errorf("got %v, data %q, iam %q; want :memory: as it is, and a path of a flag beside the working directory", err, l.Config.Data, l.Config.IAM)
	}
}

func TestUnknownVariables(t *testing.T) {
	l, err := Load(Dev, Sources{Env: []string{"HUBBUB_DRIAN=1s", "HUBBUB_CONFIG=x", "HUBBUB_SERVICE_HOST=10.0.0.1", "HUBBUB_PORT=tcp://10.0.0.1:80",
		"HUBBUB_REVIEW_SERVICE_HOST=10.0.0.1", "HUBBUB_API_PORT_4880_TCP_ADDR=10.0.0.1", "HUBBUB_CLUSTER_SERVICE_PORT_HTTP=1", "OTHER=1"}})
	if err != nil {
		t.Fatal(err)
	}
	want := []Problem{{"HUBBUB_DRIAN", "is no setting and was not looked at; did you mean HUBBUB_DRAIN?"}}
	if d := cmp.Diff(want, l.Warnings); d != "" {
		t.Errorf("variables of Kubernetes are passed over, others are warned about (-want +got):\n%s", d)
	}
}

// FuzzParseFile holds the reader of configuration files to its word: whatever
// the bytes are, it ends, and each value it found belongs to a setting. The same
// bytes are read as the text of a setting that has a structure.
func FuzzParseFile(f *testing.F) {
	for _, seed := range []string{"", "api: 127.0.0.1:4880\n", "tls: {cert: a, key: b}\n", "limits:\n  base: strict\n  rooms: 5\n", "region: [a, b]\n",
		"a: &x [*x]\n", "<<: {api: x}\n", "? [a]\n: b\n", "---\n---\n", "api: !!int 3\n", "api: |\n  x\n", "\x00", "api: \"\\ud800\"\n", "#\n",
		"review: {default: {rules: {deny_words: [a], max_caps: 1}}}\n", "logging: {s3: {}}\n", `{"arn:aws:lambda:us-west-2:123456789012:function:f": {http: {url: "http://h"}}}`,
		"{lambda: }", "{rules: {deny_words: [~, {}]}}"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		values, problems := parseFile("f", data)
		for _, v := range values {
			ofSection := section(v.setting.Key) != nil && v.put != nil
			if !ofSection && (settingOf(v.setting.Key).Key != v.setting.Key || len(v.values) == 0 && v.put == nil) {
				t.Errorf("%q gives %v", data, v)
			}
		}
		for _, p := range problems {
			if p.What == "" || !strings.HasPrefix(p.Where, "f") {
				t.Errorf("%q has a problem that says nothing: %v", data, p)
			}
		}
		for _, key := range []string{"review.handlers", "review.default"} {
			put, problems := parseText(settingOf(key), "--f", string(data))
			if put(new(Config)); len(problems) > 0 && (problems[0].What == "" || !strings.HasPrefix(problems[0].Where, "--f")) {
				t.Errorf("%q has a problem that says nothing: %v", data, problems)
			}
		}
	})
}
