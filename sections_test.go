package hubbub

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestSectionsCountByBeingThere holds the difference between a section that is
// empty and none: `review: {}` makes dev strict, `s3: {}` is the AWS service.
func TestSectionsCountByBeingThere(t *testing.T) {
	review := &ReviewConfig{Timeout: 200 * time.Millisecond, Concurrency: 256}
	s3, lines := &LogTarget{Flush: 5 * time.Minute}, &LogTarget{Flush: 5 * time.Second}
	cloudWatch := &CloudWatchConfig{Interval: time.Minute, Namespace: "AWS/IVSChat"}
	for _, c := range []struct {
		sentence, file string
		env            []string
		flags          map[string]string
		want           func(*Config)
	}{
		{"nothing", "drain: 5s\n", nil, nil, func(*Config) {}},
		{"sections of sections that count", "logging: {}\nmetrics: {}\n", nil, nil, func(*Config) {}},
		{"a spool alone is no destination", "logging: {spool: {}}\n", nil, nil, func(*Config) {}},
		{"review", "review: {}\n", nil, nil, func(c *Config) { c.Review = review }},
		{"the destinations", "logging:\n  s3: {}\n  cloudwatch_logs: {}\n  firehose: {}\n", nil, nil, func(c *Config) {
			c.Logging.S3, c.Logging.CloudWatchLogs, c.Logging.Firehose = s3, lines, lines
		}},
		{"metrics", "metrics: {cloudwatch: {}}\n", nil, nil, func(c *Config) { c.Metrics.CloudWatch = cloudWatch }},
		{"a variable makes a section", "", []string{"HUBBUB_REVIEW_CONCURRENCY=256", "HUBBUB_LOGGING_FIREHOSE_FLUSH=5s"}, nil, func(c *Config) {
			c.Review, c.Logging.Firehose = review, lines
		}},
		{"so does a flag", "", nil, map[string]string{"review.timeout": "200ms", "logging.s3.path_style": "false", "metrics.cloudwatch.interval": "1m"}, func(c *Config) {
			c.Review, c.Logging.S3, c.Metrics.CloudWatch = review, s3, cloudWatch
		}},
		{"a flag wins over one key and leaves the others", "logging: {s3: {region: eu-west-1, flush: 1m}}\n", nil, map[string]string{"logging.s3.flush": "2m"}, func(c *Config) {
			c.Logging.S3 = &LogTarget{Region: "eu-west-1", Flush: 2 * time.Minute}
		}},
	} {
		t.Run(c.sentence, func(t *testing.T) {
			l, err := Load(Dev, Sources{File: write(t, "hubbub.yaml", c.file), Env: c.env, Flags: c.flags})
			if err != nil {
				t.Fatal(err)
			}
			want := Defaults(Dev)
			c.want(&want)
			if d := cmp.Diff(want, l.Config, sameConfig); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// TestFilledLeavesTheCallersSections fills sections that were made without a file,
// and leaves the caller's as they are.
func TestFilledLeavesTheCallersSections(t *testing.T) {
	c := Config{Review: &ReviewConfig{}, Logging: LoggingConfig{S3: &LogTarget{}, Firehose: &LogTarget{Flush: time.Second}},
		Metrics: MetricsConfig{CloudWatch: &CloudWatchConfig{}}}
	want := Defaults(Dev)
	want.Drain = 0
	want.Review = &ReviewConfig{Timeout: 200 * time.Millisecond, Concurrency: 256}
	want.Logging.S3, want.Logging.Firehose = &LogTarget{Flush: 5 * time.Minute}, &LogTarget{Flush: time.Second}
	want.Metrics.CloudWatch = &CloudWatchConfig{Interval: time.Minute, Namespace: "AWS/IVSChat"}
	if d := cmp.Diff(want, c.filled()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if c.Review.Timeout != 0 || c.Logging.S3.Flush != 0 || c.Metrics.CloudWatch.Interval != 0 {
		t.Error("the caller's sections were written to")
	}
}

func TestSectionProblems(t *testing.T) {
	for _, c := range []struct{ sentence, file, want string }{
		{"a section without keys that counts", "review:\n", "FILE:1: review is a section; write keys below it, for example `review: {timeout: DURATION}`, or `review: {}` for its defaults"},
		{"the same a floor down", "logging:\n  s3:\n", "FILE:2: logging.s3 is a section; write keys below it, for example `s3: {endpoint: URL}`, or `s3: {}` for its defaults"},
		{"one that does not count", "logging: yes\n", "FILE:1: logging is a section; write keys below it, for example `logging: {s3: {endpoint: URL}}`"},
		{"an unknown section", "loging: {s3: {}}\n", "FILE:1: loging is no setting; did you mean logging?"},
		{"an unknown destination", "logging: {s4: {}}\n", "FILE:1: logging.s4 is no setting; did you mean logging.s3?"},
		{"an unknown key of a destination", "logging:\n  cloudwatch_logs:\n    end_point: http://h\n", "FILE:3: logging.cloudwatch_logs.end_point is no setting; did you mean logging.cloudwatch_logs.endpoint?"},
		{"a key of another destination", "logging: {firehose: {path_style: true}}\n", "FILE:1: logging.firehose.path_style is no setting"},
		{"a key far from all", "metrics: {cloudwatch: {x: 1}}\n", "FILE:1: metrics.cloudwatch.x is no setting"},
		{"an unknown key of review", "review: {handler: {}}\n", "FILE:1: review.handler is no setting; did you mean review.handlers?"},
		{"a timeout too short", "review: {timeout: 100us}\n", "FILE:1: review.timeout: 100us is out of bounds; write something between 1ms and 10s"},
		{"a timeout too long", "review: {timeout: 11s}\n", "FILE:1: review.timeout: 11s is out of bounds; write something between 1ms and 10s"},
		{"a concurrency of none", "review: {concurrency: 0}\n", "FILE:1: review.concurrency: 0 is out of bounds; write something between 1 and 10000"},
		{"a concurrency beyond numbers", "review: {concurrency: 99999999999999999999}\n", "FILE:1: review.concurrency: 99999999999999999999 is out of bounds; write something between 1 and 10000"},
		{"a concurrency that is none", "review: {concurrency: many}\n", `FILE:1: review.concurrency: "many" is no whole number; write one between 1 and 10000`},
		{"a flush too short", "logging: {s3: {flush: 5ms}}\n", "FILE:1: logging.s3.flush: 5ms is out of bounds; write something between 10ms and 1h"},
		{"a spool without unit", "logging: {spool: {max_bytes: 1024}}\n", "FILE:1: logging.spool.max_bytes: 1024 has no unit; write 1024MiB or 1024GiB"},
		{"a spool with a unit of another kind", "logging: {spool: {max_bytes: 1GB}}\n", `FILE:1: logging.spool.max_bytes: "1GB" is no size; write a whole number with its unit, for example 512MiB or 1GiB`},
		{"a spool too small", "logging: {spool: {max_bytes: 255KiB}}\n", "FILE:1: logging.spool.max_bytes: 255KiB is out of bounds; write something between 256KiB and 1TiB"},
		{"a spool too large for numbers", "logging: {spool: {max_bytes: 9223372036854775807TiB}}\n", "FILE:1: logging.spool.max_bytes: 9223372036854775807TiB is out of bounds; write something between 256KiB and 1TiB"},
		{"a spool less than nothing", "logging: {spool: {max_bytes: -1GiB}}\n", "FILE:1: logging.spool.max_bytes: -1GiB is out of bounds; write something between 256KiB and 1TiB"},
		{"an age without unit", "logging: {spool: {max_age: 24}}\n", "FILE:1: logging.spool.max_age: 24 has no unit; write 24s for seconds, or 24ms, 24m, 24h"},
		{"a region that is none", "logging: {s3: {region: EU}}\n", `FILE:1: logging.s3.region: "EU" is no region; write for example us-west-2 (lower-case letters, digits and hyphens, up to 32)`},
		{"an endpoint without scheme", "logging: {s3: {endpoint: localhost:9003}}\n", `FILE:1: logging.s3.endpoint: "localhost:9003" is no URL of http or https with a host; write for example http://127.0.0.1:9001`},
		{"an endpoint of another scheme", "logging: {s3: {endpoint: s3://bucket}}\n", `FILE:1: logging.s3.endpoint: "s3://bucket" is no URL of http or https with a host; write for example http://127.0.0.1:9001`},
		{"an endpoint without host", "logging: {s3: {endpoint: 'http://:9003'}}\n", `FILE:1: logging.s3.endpoint: "http://:9003" is no URL of http or https with a host; write for example http://127.0.0.1:9001`},
		{"an endpoint with a port that cannot be", "logging: {s3: {endpoint: 'http://h:99999'}}\n", `FILE:1: logging.s3.endpoint: "http://h:99999" is no URL of http or https with a host; write for example http://127.0.0.1:9001`},
		{"an empty endpoint", "logging: {s3: {endpoint: ''}}\n", "FILE:1: logging.s3.endpoint: is empty; write a URL, or leave it out"},
		{"an endpoint with credentials, which are not shown", "metrics: {cloudwatch: {endpoint: 'http://me:secret@h'}}\n", "FILE:1: metrics.cloudwatch.endpoint: has a user, query or fragment, " +
			"which signed requests cannot use; write scheme, host and path alone, and give the credentials to the AWS SDK's usual chain (environment, shared files, roles)"},
		{"nor are they if it is no URL", "metrics: {cloudwatch: {endpoint: 'ftp://me:secret@h'}}\n", "FILE:1: metrics.cloudwatch.endpoint: what is written (not shown, since it may hold a secret) " +
			"is no URL of http or https with a host; write for example http://127.0.0.1:9001"},
		{"an endpoint and a directory", "logging:\n  s3:\n    endpoint: http://h\n    directory: logs\n", "FILE:4: logging.s3.endpoint and logging.s3.directory are both given; " +
			"keep the endpoint for a service, or the directory for local files"},
		{"path_style without endpoint", "logging: {s3: {path_style: true}}\n", "FILE:1: logging.s3.path_style says how an endpoint is addressed, and there is none; remove it, or write `endpoint: http://127.0.0.1:9003`"},
		{"path_style with a directory", "logging: {s3: {path_style: true, directory: d}}\n", "FILE:1: logging.s3.path_style says how an endpoint is addressed, and there is none; remove it, or write `endpoint: http://127.0.0.1:9003`"},
		{"a directory without a name", "logging: {s3: {directory: ''}}\n", "FILE:1: logging.s3.directory: is empty; write a path, or leave it out"},
		{"a namespace that CloudWatch does not have", "metrics: {cloudwatch: {namespace: ':chat'}}\n", `FILE:1: metrics.cloudwatch.namespace: ":chat" is no namespace; ` +
			"write 1 to 255 ASCII characters that do not begin with a colon, for example IVSChat"},
		{"an interval that is none", "metrics: {cloudwatch: {interval: 0s}}\n", "FILE:1: metrics.cloudwatch.interval: 0s is out of bounds; write something between 1s and 1h"},
	} {
		t.Run(c.sentence, func(t *testing.T) { isRefused(t, c.file, c.want) })
	}
}

// TestAFlagAgainstTheFile names the source of each of two settings that exclude
// each other by the one that has to go.
func TestAFlagAgainstTheFile(t *testing.T) {
	file := write(t, "hubbub.yaml", "logging: {s3: {endpoint: http://h}}\n")
	_, err := Load(Dev, Sources{File: file, Flags: map[string]string{"logging.s3.directory": "logs"}})
	want := "--logging-s3-directory: logging.s3.endpoint and logging.s3.directory are both given; keep the endpoint for a service, or the directory for local files"
	if got := errorText(err); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestANamespaceOfAWSIsWarnedAbout(t *testing.T) {
	for _, c := range []struct {
		file   string
		warned bool
	}{
		{"metrics: {cloudwatch: {}}\n", true},
		{"metrics: {cloudwatch: {namespace: AWS/Other}}\n", true},
		{"metrics: {cloudwatch: {namespace: IVSChat}}\n", false},
		{"metrics: {cloudwatch: {endpoint: http://127.0.0.1:9005}}\n", false},
		{"review: {}\n", false},
	} {
		path := write(t, "hubbub.yaml", c.file)
		l, err := Load(Dev, Sources{File: path})
		if err != nil {
			t.Fatal(err)
		}
		if warned := len(l.Warnings) == 1 && l.Warnings[0].Where == path+":1"; warned != c.warned || !c.warned && len(l.Warnings) > 0 {
			t.Errorf("%q gives the warnings %v, want one with its line: %t", c.file, l.Warnings, c.warned)
		}
	}
}
