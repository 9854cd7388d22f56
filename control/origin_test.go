package control

import (
	"crypto/tls"
	"net/http/httptest"
	"net/netip"
	"testing"
)

func TestOrigin(t *testing.T) {
	h := &Handler{proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")}}
	for _, c := range []struct {
		name, peer string
		forwarded  []string
		proto      string
		tls        bool
		want       string
		secure     bool
	}{
		{"a client without a proxy", "198.51.100.7:1", nil, "", false, "198.51.100.7", false},
		{"a client with TLS", "198.51.100.7:1", nil, "", true, "198.51.100.7", true},
		{"what a client says of itself is not believed", "198.51.100.7:1", []string{"10.0.0.1"}, "https", false, "198.51.100.7", false},
		{"a proxy alone", "10.0.0.1:1", nil, "", false, "10.0.0.1", false},
		{"a proxy's client", "10.0.0.1:1", []string{"203.0.113.9"}, "https", false, "203.0.113.9", true},
		{"a proxy's client without TLS", "10.0.0.1:1", []string{"203.0.113.9"}, "http", false, "203.0.113.9", false},
		{"two proxies", "10.0.0.1:1", []string{"203.0.113.9, 10.0.0.2"}, "", false, "203.0.113.9", false},
		{"two proxies in two headers", "10.0.0.1:1", []string{"203.0.113.9", "10.0.0.2"}, "", false, "203.0.113.9", false},
		{"the client forged what stands left of it", "10.0.0.1:1", []string{"192.0.2.1, 10.9.9.9, 203.0.113.9"}, "https, http", false, "203.0.113.9", false},
		{"proxies all the way", "10.0.0.1:1", []string{"10.0.0.3,10.0.0.2"}, "", false, "10.0.0.3", false},
		{"no address", "10.0.0.1:1", []string{"203.0.113.9, unknown"}, "", false, "invalid IP", false},
		{"no address left of a proxy", "10.0.0.1:1", []string{"evil, 10.0.0.2"}, "", false, "invalid IP", false},
		{"IPv6 and ports", "[2001:db8::1]:1", []string{"[2a00::9]:443"}, "HTTPS", false, "2a00::9", true},
		{"IPv4 in IPv6", "[::ffff:10.0.0.1]:1", []string{"::ffff:203.0.113.9"}, "", false, "203.0.113.9", false},
		{"no peer", "@", []string{"203.0.113.9"}, "https", false, "invalid IP", false},
	} {
		r := httptest.NewRequest("POST", "/", nil)
		r.RemoteAddr = c.peer
		for _, v := range c.forwarded {
			r.Header.Add("X-Forwarded-For", v)
		}
		if c.proto != "" {
			r.Header.Set("X-Forwarded-Proto", c.proto)
		}
		if c.tls {
			r.TLS = &tls.ConnectionState{}
		}
		if client, secure := h.origin(r); client.String() != c.want || secure != c.secure {
			t.Errorf("%s: %v, secure %v; want %s, %v", c.name, client, secure, c.want, c.secure)
		}
	}
}
