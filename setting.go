package hubbub

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Setting is one thing that an operator can set: by a flag, by an environment
// variable, and by a key of the file. All three spellings follow from Key. One
// that has a structure is YAML everywhere: in a flag or variable the same as in
// the file, as text.
type Setting struct {
	Key     string // path in the file: "tls.cert"
	Form    string // what a value looks like: "HOST:PORT"
	Default string // as an operator reads it; "" = none
	Help    string // what it does, in one sentence
	Switch  bool   // true or false; its flag needs no value

	list bool // several values: a list in the file, separated by commas elsewhere
	path bool // names a file: relative to the folder of the configuration file, if it stands there
	set  func(c *Config, values []string) error

	// tree reads a setting that has a structure, in place of set: it tells b what
	// is wrong, and returns what sets the rest.
	tree func(b branch) (put func(*Config))
}

// Flag is the setting's flag, without the dashes: "tls-cert".
func (s Setting) Flag() string { return strings.NewReplacer(".", "-", "_", "-").Replace(s.Key) }

// Env is the setting's environment variable: "HUBBUB_TLS_CERT".
func (s Setting) Env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(s.Key, ".", "_"))
}

const envPrefix = "HUBBUB_"

// Settings are all settings, in the order of the documentation.
func Settings() []Setting { return slices.Clone(settings) }

var settings = append([]Setting{
	{Key: "api", Form: "HOST:PORT", Default: "127.0.0.1:4880",
		Help: "Address of the control plane. Port 0 takes a free one.",
		set:  address(func(c *Config) *string { return &c.API })},
	{Key: "messaging", Form: "HOST:PORT", Default: "127.0.0.1:4881",
		Help: "Address of the messaging plane: WebSocket, any path.",
		set:  address(func(c *Config) *string { return &c.Messaging })},
	{Key: "admin", Form: "HOST:PORT", Default: "127.0.0.1:4882",
		Help: "Address of /healthz, /readyz, /metrics and /version; always plain HTTP.",
		set:  address(func(c *Config) *string { return &c.Admin })},
	{Key: "data", Form: "FOLDER", Default: "./hubbub-data", path: true,
		Help: "Folder of the store; :memory: keeps nothing.",
		set:  text(func(c *Config) *string { return &c.Data })},
	{Key: "account", Form: "DIGITS", Default: "000000000000 (dev)",
		Help: "The account, 12 digits: dev gives it to its published key; serve refuses to start if the iam file does not have it.",
		set:  setAccount},
	{Key: "region", Form: "REGION,...", Default: "any (dev); required (serve)", list: true,
		Help: "Region or regions that requests may be signed for; dev makes its room in the first, or in us-west-2.",
		set:  setRegions},
	{Key: "limits", Form: "LEVEL", Default: "relaxed",
		Help: "Quotas: strict as published, relaxed without throttled control-plane calls, or none. Single ones are settings too: limits.KEY, --limits-KEY.",
		set:  setLimitsBase},
	{Key: "tokens.lifetime", Form: "DURATION", Default: "1h",
		Help: "Validity of a chat token, up to 180m and never beyond the session.",
		set:  duration(func(c *Config) *time.Duration { return &c.TokenLifetime }, time.Second, maxTokenLifetime)},
	{Key: "iam", Form: "FILE", Default: "none (dev); required (serve)", path: true,
		Help: "Principals, access keys and policies; read again on SIGHUP and when it changes.",
		set:  text(func(c *Config) *string { return &c.IAM })},
	{Key: "tls.cert", Form: "FILE", path: true,
		Help: "Certificate chain in PEM for control and messaging plane; read again on SIGHUP and when it changes.",
		set:  text(func(c *Config) *string { return &c.TLS.Cert })},
	{Key: "tls.key", Form: "FILE", path: true,
		Help: "Private key in PEM of the certificate.",
		set:  text(func(c *Config) *string { return &c.TLS.Key })},
	{Key: "trusted_proxies", Form: "CIDR,...", list: true,
		Help: "Proxies whose X-Forwarded-For and X-Forwarded-Proto are believed.",
		set:  setTrustedProxies},
	{Key: "signature_window", Form: "DURATION", Default: "5m",
		Help: "How far the date of a signed request may be from the server's clock.",
		set:  duration(func(c *Config) *time.Duration { return &c.Window }, time.Second, maxWindow)},
	{Key: "clock_offset", Form: "DURATION", Default: "0s",
		Help: "Added to the system's clock, or taken from it if negative, up to 1h: to test what a cluster does with a clock that is off.",
		set:  duration(func(c *Config) *time.Duration { return &c.ClockOffset }, -maxClockOffset, maxClockOffset)},
	{Key: "log", Form: "FORMAT", Default: "text on a terminal, else json",
		Help: "Form of the log on standard error, text or json; dev says what it made as one JSON object on standard output if this is json.",
		set:  setLog},
	{Key: "log_level", Form: "LEVEL", Default: "info",
		Help: "Least level that is logged: debug, info, warn or error.",
		set:  setLogLevel},
	{Key: "drain", Form: "DURATION", Default: "5s",
		Help: "Time over which viewers are dropped at the end, in small random batches.",
		set:  duration(func(c *Config) *time.Duration { return &c.Drain }, 0, maxDrain)},
	{Key: "drain_delay", Form: "DURATION", Default: "0s",
		Help: "Time before that in which /readyz says 503 and everything else goes on, until load balancers have noticed.",
		set:  duration(func(c *Config) *time.Duration { return &c.DrainDelay }, 0, maxDrain)},
	{Key: "slow_viewers.frames", Form: "NUMBER", Default: fmt.Sprint(defaultSlowFrames),
		Help: "Frames that wait for a viewer that does not read, 64 to 65536; past them its connection is reset.",
		set:  number(func(c *Config) *int { return &c.SlowViewers.Frames }, minSlowFrames, maxSlowFrames)},
	{Key: "slow_viewers.bytes", Form: "SIZE", Default: plainSize(defaultSlowBytes),
		Help: "Bytes of the frames that wait for it, 256KiB to 64MiB; past them its connection is reset.",
		set:  size(func(c *Config) *int64 { return &c.SlowViewers.Bytes }, minSlowBytes, maxSlowBytes)},
	{Key: "slow_viewers.stall", Form: "DURATION", Default: plain(defaultStall),
		Help: "How long a viewer may take nothing of what waits for it, 1s to 5m; then its connection is reset.",
		set:  duration(func(c *Config) *time.Duration { return &c.SlowViewers.Stall }, minStall, maxStall)},
	{Key: "allow_remote", Form: "BOOL", Default: "false", Switch: true,
		Help: "Lets dev listen elsewhere than on loopback, for containers: whoever reaches it may do everything.",
		set:  boolean(func(c *Config) *bool { return &c.AllowRemote })},
	{Key: "pprof", Form: "BOOL", Default: "false", Switch: true,
		Help: "Go's profiles under /debug/pprof/ of the admin address.",
		set:  boolean(func(c *Config) *bool { return &c.PProf })},
}, slices.Concat(clusterSettings(), reviewSettings(), loggingSettings(), metricsSettings(), limitSettings())...)

func address(member func(*Config) *string) func(*Config, []string) error {
	return func(c *Config, v []string) error {
		host, port, err := net.SplitHostPort(v[0])
		if err != nil {
			if strings.Contains(v[0], "://") {
				return fmt.Errorf("%q is a URL; write HOST:PORT, for example 127.0.0.1:4880", v[0])
			}
			return fmt.Errorf("%q is no HOST:PORT; write for example 127.0.0.1:4880, or [::1]:4880 for IPv6", v[0])
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil {
			return fmt.Errorf("%q has no port between 0 and 65535; write for example %s", v[0], net.JoinHostPort(host, "4880"))
		} else {
			port = strconv.FormatUint(n, 10)
		}
		*member(c) = net.JoinHostPort(host, port)
		return nil
	}
}

func text(member func(*Config) *string) func(*Config, []string) error {
	return func(c *Config, v []string) error {
		if v[0] == "" {
			return errors.New("is empty; write a path, or leave it out")
		}
		*member(c) = v[0]
		return nil
	}
}

// duration insists on a unit: whether 5 are seconds or minutes is a guess.
func duration(member func(*Config) *time.Duration, least, most time.Duration) func(*Config, []string) error {
	return func(c *Config, v []string) error {
		d, err := time.ParseDuration(v[0])
		_, number := strconv.ParseFloat(v[0], 64)
		switch {
		case number == nil:
			return fmt.Errorf("%s has no unit; write %ss for seconds, or %sms, %sm, %sh", v[0], v[0], v[0], v[0], v[0])
		case err != nil:
			return fmt.Errorf("%q is no duration; write for example 500ms, 5s, 10m or 1h", v[0])
		case d < least || d > most:
			return fmt.Errorf("%s is out of bounds; write something between %s and %s", v[0], plain(least), plain(most))
		}
		*member(c) = d
		return nil
	}
}

// plain is a duration as one would write it: 3h, not 3h0m0s.
func plain(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// number takes a whole number.
func number(member func(*Config) *int, least, most int) func(*Config, []string) error {
	return func(c *Config, v []string) error {
		n, err := whole(v[0], least, most)
		if err != nil {
			return err
		}
		*member(c) = n
		return nil
	}
}

func whole(v string, least, most int) (int, error) {
	n, err := strconv.Atoi(v)
	switch {
	case errors.Is(err, strconv.ErrSyntax):
		return 0, fmt.Errorf("%q is no whole number; write one between %d and %d", v, least, most)
	case err != nil || n < least || n > most:
		return 0, fmt.Errorf("%s is out of bounds; write something between %d and %d", v, least, most)
	}
	return n, nil
}

type unit struct {
	name  string
	bytes int64
}

// units are those of sizes, the largest first.
var units = []unit{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// size insists on a unit too.
func size(member func(*Config) *int64, least, most int64) func(*Config, []string) error {
	return func(c *Config, v []string) error {
		if _, err := strconv.ParseFloat(v[0], 64); err == nil {
			return fmt.Errorf("%s has no unit; write %sMiB or %sGiB", v[0], v[0], v[0])
		}
		for _, unit := range units {
			figure, found := strings.CutSuffix(v[0], unit.name)
			if !found {
				continue
			}
			n, err := strconv.ParseInt(strings.TrimSpace(figure), 10, 64)
			if err != nil && !errors.Is(err, strconv.ErrRange) {
				break
			}
			// Divided and not multiplied: the product may not fit.
			if err != nil || n > most/unit.bytes || n*unit.bytes < least {
				return fmt.Errorf("%s is out of bounds; write something between %s and %s", v[0], plainSize(least), plainSize(most))
			}
			*member(c) = n * unit.bytes
			return nil
		}
		return fmt.Errorf("%q is no size; write a whole number with its unit, for example 512MiB or 1GiB", v[0])
	}
}

// plainSize is a size as one would write it.
func plainSize(n int64) string {
	i := slices.IndexFunc(units, func(u unit) bool { return n%u.bytes == 0 })
	return strconv.FormatInt(n/units[i].bytes, 10) + units[i].name
}

func endpoint(member func(*Config) *string) func(*Config, []string) error {
	return checked(member, checkEndpoint)
}

func checked(member func(*Config) *string, check func(string) error) func(*Config, []string) error {
	return func(c *Config, v []string) error {
		if err := check(v[0]); err != nil {
			return err
		}
		*member(c) = v[0]
		return nil
	}
}

// checkURL says what is wrong with the URL of a service. One in which a password
// or key may stand is not shown.
func checkURL(s string) error {
	if s == "" {
		return errors.New("is empty; write a URL, or leave it out")
	}
	u, err := url.Parse(s)
	if err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" && portOrNone(u.Port()) {
		return nil
	}
	shown := strconv.Quote(s)
	if strings.ContainsAny(s, "@?") {
		shown = "what is written (not shown, since it may hold a secret)"
	}
	return fmt.Errorf("%s is no URL of http or https with a host; write for example http://127.0.0.1:9001", shown)
}

func portOrNone(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return port == "" || err == nil && n > 0
}

// checkEndpoint is checkURL for a service that takes signed requests.
func checkEndpoint(s string) error {
	if err := checkURL(s); err != nil {
		return err
	}
	u, err := url.Parse(s)
	if err != nil || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("has a user, query or fragment, which signed requests cannot use; write scheme, host and path alone, " +
			"and give the credentials to the AWS SDK's usual chain (environment, shared files, roles)")
	}
	return nil
}

func boolean(member func(*Config) *bool) func(*Config, []string) error {
	return func(c *Config, v []string) error {
		switch v[0] {
		case "true", "false":
			*member(c) = v[0] == "true"
			return nil
		}
		return fmt.Errorf("%q is neither true nor false", v[0])
	}
}

func oneOf(v string, known ...string) error {
	if slices.Contains(known, v) {
		return nil
	}
	return fmt.Errorf("%q is not known; write %s or %s", v, strings.Join(known[:len(known)-1], ", "), known[len(known)-1])
}

func setAccount(c *Config, v []string) error {
	if !isAccount(v[0]) {
		return fmt.Errorf("%q is no account; write 12 digits, in the file in quotes", v[0])
	}
	c.Account = v[0]
	return nil
}

var (
	isAccount = regexp.MustCompile(`^[0-9]{12}$`).MatchString
	isRegion  = regexp.MustCompile(`^[a-z0-9-]{1,32}$`).MatchString
)

func setRegions(c *Config, v []string) error {
	for _, r := range v {
		if err := checkRegion(r); err != nil {
			return err
		}
	}
	c.Regions = v
	return nil
}

func checkRegion(r string) error {
	if isRegion(r) {
		return nil
	}
	return fmt.Errorf("%q is no region; write for example us-west-2 (lower-case letters, digits and hyphens, up to 32)", r)
}

func setTrustedProxies(c *Config, v []string) error {
	var proxies []netip.Prefix
	for _, s := range v {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			a, err := netip.ParseAddr(s)
			if err != nil {
				return fmt.Errorf("%q is no network; write for example 10.0.0.0/8, or one address", s)
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		proxies = append(proxies, p.Masked())
	}
	c.TrustedProxies = proxies
	return nil
}

func setLog(c *Config, v []string) error {
	if err := oneOf(v[0], "text", "json"); err != nil {
		return err
	}
	c.Log = v[0]
	return nil
}

func setLogLevel(c *Config, v []string) error {
	if err := oneOf(v[0], "debug", "info", "warn", "error"); err != nil {
		return err
	}
	return c.LogLevel.UnmarshalText([]byte(v[0]))
}

// below makes a path that stands in the file relative to the file's folder.
func below(folder, path string) string {
	if path == "" || path == Memory || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(folder, path)
}
