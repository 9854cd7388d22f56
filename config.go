package hubbub

import (
	"log/slog"
	"net/netip"
	"time"
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

	Log      string     // "text" or "json"; "" = text if standard error is a terminal, else json
	LogLevel slog.Level // zero = info
	// Logger takes the server's log in place of standard error; Log and LogLevel
	// are not looked at then. For embedding; not in the file.
	Logger *slog.Logger

	// Drain is the time over which viewers are dropped at the end. 0 drops them
	// all at once: unlike the other members, zero is not the default of 5 s.
	Drain       time.Duration
	AllowRemote bool // Dev: may listen elsewhere than on loopback
	PProf       bool // Go's profiles on the admin listener
}

// Limits chooses the quotas: a level, and single ones by key.
type Limits struct {
	Base string            // "strict", "relaxed" or "none"; "" = relaxed
	Keys map[string]string // value by key, as the file spells both: "rooms": "100000"
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
	defaultWindow        = 5 * time.Minute
	maxWindow            = 24 * time.Hour // a signature is bound to a day anyway
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
	}
	if m == Dev {
		c.Account = devAccount
	}
	return c
}

// filled replaces empty members by their defaults. Drain stays as it is.
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
	return c
}
