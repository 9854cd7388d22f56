package hubbub

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"hubbub/engine"
)

// problems is what is wrong with the settings taken together. where says from
// which source a setting came, "" for its default.
func (c Config) problems(where func(key string) string) Problems {
	var p Problems
	refuse := func(key, format string, args ...any) {
		p = append(p, Problem{where(key), fmt.Sprintf(format, args...)})
	}
	addresses := []struct{ key, value string }{{"api", c.API}, {"messaging", c.Messaging}, {"admin", c.Admin}}
	for i, a := range addresses {
		_, port, _ := net.SplitHostPort(a.value)
		for _, b := range addresses[:i] {
			if a.value == b.value && port != "0" {
				key := a.key
				if where(key) == "" { // its default: the other one was set
					key = b.key
				}
				refuse(key, "%s and %s are both %s; give each a port of its own", b.key, a.key, a.value)
			}
		}
	}
	if (c.TLS.Cert == "") != (c.TLS.Key == "") {
		given, missing := "tls.cert", "tls.key"
		if c.TLS.Cert == "" {
			given, missing = missing, given
		}
		refuse(given, "%s is given without %s; write `tls: {cert: server.crt, key: server.key}`", given, missing)
	}
	if _, err := c.Limits.resolve(); err != nil {
		refuse("limits", "%v", err)
	}
	for _, kind := range logKinds {
		target := *kind.in(&c.Logging)
		switch {
		case target == nil:
		case target.Endpoint != "" && target.Directory != "":
			refuse(kind.key+".directory", "%s.endpoint and %s.directory are both given; keep the endpoint for a service, or the directory for local files", kind.key, kind.key)
		case target.PathStyle && target.Endpoint == "":
			refuse(kind.key+".path_style", "%s.path_style says how an endpoint is addressed, and there is none; remove it, or write `endpoint: http://127.0.0.1:9003`", kind.key)
		}
	}
	if c.Cluster != nil {
		c.Cluster.problems(c.Data, refuse)
	}
	if c.Mode == Serve {
		c.serveProblems(refuse)
		return p
	}
	for _, a := range addresses {
		if !loopback(a.value) && !c.AllowRemote {
			refuse(a.key, "dev listens on loopback only, because its credentials are published, and %s %s is not loopback; "+
				"write 127.0.0.1, use --allow-remote in a container, or run `hubbub serve`", a.key, a.value)
		}
	}
	return p
}

// warnings is what works and is probably not what was meant. Source of the name:
// CloudWatch API reference, PutMetricData, Namespace.
func (c Config) warnings(where func(key string) string) (list []Problem) {
	if c.ClockOffset != 0 {
		list = append(list, Problem{where("clock_offset"), fmt.Sprintf("clock_offset: the server's clock is %v off, which is for tests alone; remove it", c.ClockOffset)})
	}
	m := c.Metrics.CloudWatch
	if m == nil || m.Endpoint != "" || !strings.HasPrefix(m.Namespace, "AWS/") {
		return list
	}
	at := cmp.Or(where("metrics.cloudwatch.namespace"), where("metrics.cloudwatch"))
	return append(list, Problem{at, "metrics.cloudwatch: AWS keeps namespaces that begin with AWS/ for its own services and may refuse " + m.Namespace +
		"; write for example `namespace: IVSChat`, or the `endpoint` of another service"})
}

func (c Config) serveProblems(refuse func(key, format string, args ...any)) {
	if len(c.Regions) == 0 {
		refuse("region", "serve needs to know its region; write `region: us-west-2`, or a list of them")
	}
	if c.IAM == "" {
		refuse("iam", "serve needs principals and their keys; write `iam: iam.yaml` (`hubbub key make` prints the first lines of such a file)")
	}
	if c.AllowRemote {
		refuse("allow_remote", "allow_remote is for `hubbub dev`; remove it: serve listens where it is told to")
	}
	if c.TLS.Cert != "" || c.TLS.Key != "" || len(c.TrustedProxies) > 0 {
		return
	}
	for _, a := range []struct{ key, value string }{{"api", c.API}, {"messaging", c.Messaging}} {
		if !loopback(a.value) {
			refuse(a.key, "%s %s would send tokens and messages over the network in the clear; "+
				"write `tls: {cert: server.crt, key: server.key}`, or `trusted_proxies: [10.0.0.0/8]` if a proxy in front ends TLS, or listen on 127.0.0.1", a.key, a.value)
		}
	}
}

// loopback says whether an address can be reached from this machine alone.
func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.Unmap().IsLoopback()
}

// Check reads the sources and every file that they name, and says all that is
// wrong, as Load does. It opens no port and no store.
func Check(m Mode, from Sources, now time.Time) (Loaded, error) {
	l, err := Load(m, from)
	problems, _ := err.(Problems)
	if err != nil && problems == nil {
		return l, err
	}
	// Files that are named are looked at even if something else is wrong.
	c := l.Config
	if c.IAM != "" {
		problems = append(problems, iamProblems(c, func(key string) string { return l.where[key] })...)
	}
	if c.TLS.Cert != "" && c.TLS.Key != "" {
		if pair, err := loadCertificate(c.TLS); err != nil {
			problems = append(problems, Problem{What: err.Error()})
		} else if leaf := pair.Leaf; now.After(leaf.NotAfter) {
			problems = append(problems, Problem{c.TLS.Cert, "the certificate expired on " + leaf.NotAfter.Format(time.DateOnly) + "; renew it"})
		}
	}
	if k := c.Cluster; k != nil {
		if k.SecretFile != "" {
			if _, err := k.secret(); err != nil {
				problems = append(problems, Problem{l.where["cluster.secret_file"], err.Error()})
			}
		}
		if (k.TLS.Cert == "") == (k.TLS.Key == "") {
			if _, err := k.certificates(now); err != nil {
				problems = append(problems, Problem{l.where["cluster.tls"], err.Error()})
			}
		}
		if k.NATS.URL != "" && k.NATS.Credentials != "" {
			x := engine.External{URL: "nats://address:4222", Credentials: k.NATS.Credentials} // of which something is said above
			if err := x.Check(); err != nil {
				problems = append(problems, Problem{l.where["cluster.nats.credentials"], err.Error()})
			}
		}
	}
	if len(problems) > 0 {
		return l, problems
	}
	return l, nil
}
