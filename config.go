package hubbub

import (
	"cmp"
	"log/slog"
	"net/netip"
	"time"

	"hubbub/review"
)

// Mode is what a server is for, and with it how strict it is.
type Mode int

const (
	// Dev is a laptop's or CI's server: published credentials that may do
	// everything, a room made on start, loopback only.
	Dev Mode = iota
	// Serve is production: principals from the iam file, named regions, TLS or
	// a declared proxy. It refuses whatever Dev accepts for convenience.
	Serve
)

// String is the name of the command that runs the mode.
func (m Mode) String() string {
	if m == Serve {
		return "serve"
	}
	return "dev"
}

// Memory is the value of Config.Data that keeps nothing.
const Memory = ":memory:"

// Config is everything that can be set. The zero value is a working single node
// in Dev mode: loopback, the usual ports, data under ./hubbub-data. An empty
// member means its default, except for those whose comment says otherwise.
// Source: design interface.md.
type Config struct {
	Mode Mode // by command, not in the file

	// Addresses as HOST:PORT; port 0 takes a free one.
	API       string // control plane; "" = 127.0.0.1:4880
	Messaging string // WebSocket, any path; "" = 127.0.0.1:4881
	Admin     string // health, metrics, version; never TLS; "" = 127.0.0.1:4882

	Data    string   // folder of the store, made with mode 0700; ":memory:" keeps nothing; "" = ./hubbub-data
	Account string   // 12 digits. Dev: whose the published key is; "" = 000000000000. Serve: must be one of the iam file's if given
	Regions []string // that requests may be signed for. Dev: nil = any, and the room is in us-west-2. Serve: at least one

	Limits         Limits        // zero = relaxed
	TokenLifetime  time.Duration // validity of a chat token, 1 s to 180 min; 0 = 1 h
	IAM            string        // path of the iam file. Dev: "" = none, else in addition to the published key. Serve: required
	TLS            TLS           // both listeners; zero = none
	TrustedProxies []netip.Prefix
	Window         time.Duration // of a signature's date around our clock; 0 = 5 min
	ClockOffset    time.Duration // added to the system's clock, up to 1 h either way, for tests of clusters; 0 = none

	// Review says where message review handlers live. nil is no such section: Dev
	// then takes every Lambda ARN and invokes nothing, Serve takes none.
	Review  *ReviewConfig
	Logging LoggingConfig  // where chat logs go; zero = nowhere that was configured
	Cluster *ClusterConfig // nil = a server that stands alone
	Metrics MetricsConfig  // where metrics are pushed to, besides the admin listener; zero = nowhere

	Log      string     // "text" or "json"; "" = text if standard error is a terminal, else json
	LogLevel slog.Level // zero = info
	// Logger takes the server's log in place of standard error; Log and LogLevel
	// are not looked at then. For embedding; not in the file.
	Logger *slog.Logger

	// Drain is the time over which viewers are dropped at the end. 0 drops them
	// all at once: unlike the other members, zero is not the default of 5 s.
	Drain time.Duration

	// DrainDelay is how long the server goes on at the end while it says that it is
	// not ready, for load balancers to notice; 0 = not at all.
	DrainDelay  time.Duration
	SlowViewers SlowViewers // what is kept for viewers that do not read
	AllowRemote bool        // Dev: may listen elsewhere than on loopback
	PProf       bool        // Go's profiles on the admin listener
}

// Limits chooses the quotas: a level, and single ones by key.
type Limits struct {
	Base string            // "strict", "relaxed" or "none"; "" = relaxed
	Keys map[string]string // value by key, as the file spells both: "rooms": "100000"
}

// ReviewConfig resolves the Lambda ARN that a room names to something that can be
// asked. The zero value resolves none: such rooms are refused, in Dev too.
// Source: design interface.md; spec review-handler 4.
type ReviewConfig struct {
	Timeout     time.Duration             // from the start of an invocation, 1 ms to 10 s; 0 = 200 ms, as the service has it
	Concurrency int                       // invocations of one handler at once, 1 to 10,000; 0 = 256
	Handlers    map[string]review.Handler // by the ARN as a room names it, with version or alias if it has one
	Default     *review.Handler           // of every other ARN; nil = others are refused
}

// LoggingConfig says where the destinations of logging configurations are. A kind
// that is nil has no section: Serve refuses such destinations, Dev keeps them as
// files below its data. Source: design interface.md; spec logging 4 to 7.
type LoggingConfig struct {
	S3             *LogTarget
	CloudWatchLogs *LogTarget
	Firehose       *LogTarget
	Spool          Spool
	Retry          Retry
}

// LogTarget is where one kind of destination is: the AWS service, an endpoint
// compatible with it, or a local folder. The zero value is the AWS service.
type LogTarget struct {
	Endpoint  string        // URL; "" = the AWS service, or Directory
	PathStyle bool          // S3: the bucket stands in the path of the URL and not in its host; with Endpoint only
	Region    string        // that requests are signed for; "" = that of the logging configuration
	Directory string        // folder of local files of the same layout; not with Endpoint; "" = none
	Flush     time.Duration // how long a record waits for others, 10 ms to 1 h; 0 = 5 min for S3, else 5 s
}

// Spool bounds what waits on disk for destinations that do not take it. Past
// either bound the oldest records are dropped. Source: spec logging 7.
type Spool struct {
	MaxBytes int64         // 256 KiB to 1 TiB; 0 = 1 GiB
	MaxAge   time.Duration // 1 s to 8760 h; 0 = 24 h
}

// Retry bounds the attempts at a destination that does not take its records; they
// go on until it does. Source: spec logging 7.
type Retry struct {
	Timeout  time.Duration // of one attempt, 100 ms to 1 min; 0 = 10 s
	MaxPause time.Duration // the longest between two attempts, 10 ms to 10 s; 0 = 10 s
}

// SlowViewers bounds what waits for a viewer that does not read; past any of it
// its connection is reset, and an SDK comes back. Frames are shared by all viewers
// of a room: of its own each has 8 to 10 bytes a frame, and what the kernel holds.
type SlowViewers struct {
	Frames int           // that wait, 64 to 65,536; 0 = 2,048
	Bytes  int64         // of them, 256 KiB to 64 MiB; 0 = 1 MiB
	Stall  time.Duration // without the kernel taking a byte, 1 s to 5 min; 0 = 5 s
}

// MetricsConfig says where metrics are pushed to.
type MetricsConfig struct {
	CloudWatch *CloudWatchConfig // nil = not pushed
}

// CloudWatchConfig is a service that takes the ten metrics under their own names
// and dimensions. The zero value is the AWS service, once a minute.
// Source: spec events-and-metrics 2 and 4.
type CloudWatchConfig struct {
	Endpoint  string        // URL; "" = the AWS service
	Region    string        // that requests are signed for; "" = that of the rooms
	Interval  time.Duration // 1 s to 1 h; 0 = 1 min
	Namespace string        // up to 255 characters; "" = AWS/IVSChat, which AWS itself keeps for its own service
}

// TLS names the certificate of both listeners, in PEM.
type TLS struct {
	Cert, Key string // paths; both or neither
}

// The published credentials of Dev; Serve refuses them wherever they stand.
// Source: design interface.md.
const (
	DevAccessKeyID = "AKIAHUBBUBDEV0000000"
	DevSecretKey   = "hubbub-dev-secret-key-not-for-production"
	devAccount     = "000000000000"
	devRegion      = "us-west-2"
)

// The bounds and defaults of durations.
const (
	defaultTokenLifetime = time.Hour
	maxTokenLifetime     = 180 * time.Minute // the longest session; spec quotas 3
	defaultDrain         = 5 * time.Second
	maxDrain             = time.Hour // longer is a typing error, and systemd kills first
	defaultStall         = 5 * time.Second
	minStall             = time.Second // a phone that changes its network stalls as long
	maxStall             = 5 * time.Minute
	defaultWindow        = 5 * time.Minute
	maxWindow            = 24 * time.Hour // a signature is bound to a day anyway
	maxClockOffset       = time.Hour

	defaultReviewTimeout = 200 * time.Millisecond // the service's; spec review-handler 4
	maxReviewTimeout     = 10 * time.Second       // the sender waits that long for the answer
	defaultS3Flush       = 5 * time.Minute        // spec logging 4
	defaultFlush         = 5 * time.Second        // spec logging 5 and 6
	minFlush             = 10 * time.Millisecond  // below it batches are single records
	maxFlush             = time.Hour              // an S3 object holds one hour at most
	defaultSpoolAge      = 24 * time.Hour
	maxSpoolAge          = 365 * 24 * time.Hour
	defaultAttempt       = 10 * time.Second // spec logging 7
	minAttempt           = 100 * time.Millisecond
	maxAttempt           = time.Minute
	defaultPause         = 10 * time.Second // spec logging 7
	minPause             = 10 * time.Millisecond
	maxPause             = 10 * time.Second
	defaultInterval      = time.Minute // the service's data is by the minute
	maxInterval          = time.Hour
)

// The bounds and defaults of numbers and sizes.
const (
	defaultConcurrency = 256 // spec review-handler 4
	maxConcurrency     = 10_000
	maxRepeats         = 500       // the longest message
	defaultSpoolBytes  = 1 << 30   // design interface.md
	minSpoolBytes      = 256 << 10 // some batches must fit
	maxSpoolBytes      = 1 << 40   // more is a typing error
	defaultNamespace   = "AWS/IVSChat"

	defaultSlowFrames = 2048
	minSlowFrames     = 64 // a moment of a busy room
	maxSlowFrames     = 1 << 16
	defaultSlowBytes  = 1 << 20
	minSlowBytes      = 256 << 10 // more than any one frame
	maxSlowBytes      = 64 << 20
)

// Defaults is a Config with every default filled in, of the mode.
func Defaults(m Mode) Config {
	c := Config{
		Mode:          m,
		API:           "127.0.0.1:4880",
		Messaging:     "127.0.0.1:4881",
		Admin:         "127.0.0.1:4882",
		Data:          "./hubbub-data",
		Limits:        Limits{Base: "relaxed"},
		TokenLifetime: defaultTokenLifetime,
		Window:        defaultWindow,
		Drain:         defaultDrain,
		SlowViewers:   SlowViewers{Frames: defaultSlowFrames, Bytes: defaultSlowBytes, Stall: defaultStall},
		Logging:       LoggingConfig{Spool: Spool{MaxBytes: defaultSpoolBytes, MaxAge: defaultSpoolAge}, Retry: Retry{Timeout: defaultAttempt, MaxPause: defaultPause}},
	}
	if m == Dev {
		c.Account = devAccount
	}
	return c
}

// filled replaces empty members by their defaults. Drain stays as it is, and so
// does what the receiver points to: it is the caller's.
func (c Config) filled() Config {
	d := Defaults(c.Mode)
	for _, m := range []struct{ to, from *string }{
		{&c.API, &d.API}, {&c.Messaging, &d.Messaging}, {&c.Admin, &d.Admin},
		{&c.Data, &d.Data}, {&c.Account, &d.Account}, {&c.Limits.Base, &d.Limits.Base},
	} {
		if *m.to == "" {
			*m.to = *m.from
		}
	}
	if c.TokenLifetime == 0 {
		c.TokenLifetime = d.TokenLifetime
	}
	if c.Window == 0 {
		c.Window = d.Window
	}
	c.SlowViewers.Frames = cmp.Or(c.SlowViewers.Frames, d.SlowViewers.Frames)
	c.SlowViewers.Bytes = cmp.Or(c.SlowViewers.Bytes, d.SlowViewers.Bytes)
	c.SlowViewers.Stall = cmp.Or(c.SlowViewers.Stall, d.SlowViewers.Stall)
	if c.Cluster != nil {
		k := *c.Cluster
		k.Name, k.Listen = cmp.Or(k.Name, defaultCluster), cmp.Or(k.Listen, defaultRoutes)
		c.Cluster = &k
	}
	if c.Review != nil {
		r := *c.Review
		r.Timeout = cmp.Or(r.Timeout, defaultReviewTimeout)
		r.Concurrency = cmp.Or(r.Concurrency, defaultConcurrency)
		c.Review = &r
	}
	for _, kind := range logKinds {
		if at := kind.in(&c.Logging); *at != nil {
			target := **at
			target.Flush = cmp.Or(target.Flush, kind.flush)
			*at = &target
		}
	}
	c.Logging.Spool.MaxBytes = cmp.Or(c.Logging.Spool.MaxBytes, d.Logging.Spool.MaxBytes)
	c.Logging.Spool.MaxAge = cmp.Or(c.Logging.Spool.MaxAge, d.Logging.Spool.MaxAge)
	c.Logging.Retry.Timeout = cmp.Or(c.Logging.Retry.Timeout, d.Logging.Retry.Timeout)
	c.Logging.Retry.MaxPause = cmp.Or(c.Logging.Retry.MaxPause, d.Logging.Retry.MaxPause)
	if c.Metrics.CloudWatch != nil {
		m := *c.Metrics.CloudWatch
		m.Interval = cmp.Or(m.Interval, defaultInterval)
		m.Namespace = cmp.Or(m.Namespace, defaultNamespace)
		c.Metrics.CloudWatch = &m
	}
	return c
}
