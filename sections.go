package hubbub

import (
	"fmt"
	"slices"
	"time"
)

// Some sections of the file count by being there, with or without keys below them:
// `logging: {s3: {}}` is the AWS service. What a flag or variable sets in one
// makes it too.

// section is what makes one, nil for other keys.
func section(key string) (put func(*Config)) {
	switch key {
	case "review":
		return func(c *Config) { c.review() }
	case "cluster":
		return func(c *Config) { c.cluster() }
	case "metrics.cloudwatch":
		return func(c *Config) { c.cloudWatch() }
	}
	if i := slices.IndexFunc(logKinds, func(k logKind) bool { return k.key == key }); i >= 0 {
		return func(c *Config) { logKinds[i].target(c) }
	}
	return nil
}

// review is the section, made with its defaults if it was not there.
func (c *Config) review() *ReviewConfig {
	if c.Review == nil {
		c.Review = &ReviewConfig{Timeout: defaultReviewTimeout, Concurrency: defaultConcurrency}
	}
	return c.Review
}

func (c *Config) cloudWatch() *CloudWatchConfig {
	if c.Metrics.CloudWatch == nil {
		c.Metrics.CloudWatch = &CloudWatchConfig{Interval: defaultInterval, Namespace: defaultNamespace}
	}
	return c.Metrics.CloudWatch
}

// logKind is one kind of destination.
type logKind struct {
	key     string                             // of its section
	what    string                             // takes the logs
	service string                             // at AWS
	flush   time.Duration                      // unless it is set
	in      func(l *LoggingConfig) **LogTarget // where its section is
}

var logKinds = []logKind{
	{"logging.s3", "bucket", "S3", defaultS3Flush, func(l *LoggingConfig) **LogTarget { return &l.S3 }},
	{"logging.cloudwatch_logs", "log group", "CloudWatch Logs", defaultFlush, func(l *LoggingConfig) **LogTarget { return &l.CloudWatchLogs }},
	{"logging.firehose", "delivery stream", "Firehose", defaultFlush, func(l *LoggingConfig) **LogTarget { return &l.Firehose }},
}

func (k logKind) target(c *Config) *LogTarget {
	at := k.in(&c.Logging)
	if *at == nil {
		*at = &LogTarget{Flush: k.flush}
	}
	return *at
}

func reviewSettings() []Setting {
	return []Setting{
		{Key: "review.timeout", Form: "DURATION", Default: plain(defaultReviewTimeout),
			Help: "Time for a review from the start of the invocation, up to 10s; then the room's fallbackResult decides.",
			set:  duration(func(c *Config) *time.Duration { return &c.review().Timeout }, time.Millisecond, maxReviewTimeout)},
		{Key: "review.concurrency", Form: "NUMBER", Default: fmt.Sprint(defaultConcurrency),
			Help: "Invocations of one handler at once, up to 10000; beyond them the room's fallbackResult decides.",
			set:  number(func(c *Config) *int { return &c.review().Concurrency }, 1, maxConcurrency)},
		{Key: "review.handlers", Form: "{ARN: HANDLER, ...}", tree: readHandlers,
			Help: "Where the review handler of each Lambda ARN lives: lambda, http or rules."},
		{Key: "review.default", Form: "HANDLER", Default: "none: refused", tree: readDefault,
			Help: "The review handler of every other Lambda ARN."},
	}
}

func loggingSettings() (s []Setting) {
	for _, k := range logKinds {
		s = append(s, Setting{Key: k.key + ".endpoint", Form: "URL", Default: "the AWS service",
			Help: "Where " + k.service + " is; signed with the credentials of the AWS SDK's usual chain.",
			set:  endpoint(func(c *Config) *string { return &k.target(c).Endpoint })})
		if k.service == "S3" {
			s = append(s, Setting{Key: k.key + ".path_style", Form: "BOOL", Default: "false", Switch: true,
				Help: "The bucket stands in the path of the endpoint's URLs and not in their host.",
				set:  boolean(func(c *Config) *bool { return &k.target(c).PathStyle })})
		}
		s = append(s,
			Setting{Key: k.key + ".region", Form: "REGION", Default: "the logging configuration's",
				Help: "Region that requests to " + k.service + " are signed for.",
				set:  checked(func(c *Config) *string { return &k.target(c).Region }, checkRegion)},
			Setting{Key: k.key + ".directory", Form: "FOLDER", Default: "none", path: true,
				Help: "Folder of local files of the same layout in place of " + k.service + ", for every " + k.what + ".",
				set:  text(func(c *Config) *string { return &k.target(c).Directory })},
			Setting{Key: k.key + ".flush", Form: "DURATION", Default: plain(k.flush),
				Help: "How long a record waits for others, up to 1h.",
				set:  duration(func(c *Config) *time.Duration { return &k.target(c).Flush }, minFlush, maxFlush)})
	}
	return append(s,
		Setting{Key: "logging.spool.max_bytes", Form: "SIZE", Default: plainSize(defaultSpoolBytes),
			Help: "Records that wait on disk for their destinations; beyond it the oldest are dropped.",
			set:  size(func(c *Config) *int64 { return &c.Logging.Spool.MaxBytes }, minSpoolBytes, maxSpoolBytes)},
		Setting{Key: "logging.spool.max_age", Form: "DURATION", Default: plain(defaultSpoolAge),
			Help: "How long a record waits for its destination; then it is dropped.",
			set:  duration(func(c *Config) *time.Duration { return &c.Logging.Spool.MaxAge }, time.Second, maxSpoolAge)},
		Setting{Key: "logging.retry.timeout", Form: "DURATION", Default: plain(defaultAttempt),
			Help: "How long one attempt at a destination may take, up to 1m.",
			set:  duration(func(c *Config) *time.Duration { return &c.Logging.Retry.Timeout }, minAttempt, maxAttempt)},
		Setting{Key: "logging.retry.max_pause", Form: "DURATION", Default: plain(defaultPause),
			Help: "The longest pause between two attempts at a destination that fails, up to 10s.",
			set:  duration(func(c *Config) *time.Duration { return &c.Logging.Retry.MaxPause }, minPause, maxPause)})
}

func metricsSettings() []Setting {
	return []Setting{
		{Key: "metrics.cloudwatch.endpoint", Form: "URL", Default: "the AWS service",
			Help: "Where CloudWatch is; signed with the credentials of the AWS SDK's usual chain.",
			set:  endpoint(func(c *Config) *string { return &c.cloudWatch().Endpoint })},
		{Key: "metrics.cloudwatch.region", Form: "REGION", Default: "the rooms'",
			Help: "Region that requests to CloudWatch are signed for.",
			set:  checked(func(c *Config) *string { return &c.cloudWatch().Region }, checkRegion)},
		{Key: "metrics.cloudwatch.interval", Form: "DURATION", Default: plain(defaultInterval),
			Help: "Time between two pushes, up to 1h.",
			set:  duration(func(c *Config) *time.Duration { return &c.cloudWatch().Interval }, time.Second, maxInterval)},
		{Key: "metrics.cloudwatch.namespace", Form: "NAME", Default: defaultNamespace,
			Help: "Namespace of the metrics; AWS itself keeps those that begin with AWS/ for its own services.",
			set:  checked(func(c *Config) *string { return &c.cloudWatch().Namespace }, checkNamespace)},
	}
}

// checkNamespace holds to CloudWatch's rule. Source: CloudWatch API reference,
// PutMetricData, Namespace.
func checkNamespace(s string) error {
	printable := s != "" && len(s) <= 255 && s[0] != ':'
	for _, r := range s {
		printable = printable && r >= ' ' && r <= '~'
	}
	if !printable {
		return fmt.Errorf("%q is no namespace; write 1 to 255 ASCII characters that do not begin with a colon, for example IVSChat", s)
	}
	return nil
}
