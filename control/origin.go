package control

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// origin says which address a request comes from and whether it came encrypted,
// as a policy may ask. What a proxy adds is believed only if the connection is
// from a trusted one: then the client is the right-most address of
// X-Forwarded-For that is no trusted proxy, since whatever stands left of it was
// written by the client. An entry that is no address makes the client's unknown,
// the zero Addr, which no policy's network contains.
func (h *Handler) origin(r *http.Request) (client netip.Addr, secure bool) {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}, r.TLS != nil
	}
	client = peer.Addr().Unmap().WithZone("")
	if !h.trusted(client) {
		return client, r.TLS != nil
	}
	secure = r.TLS != nil || encrypted(header(r, "X-Forwarded-Proto"))
	list := header(r, "X-Forwarded-For")
	if list == "" { // the proxy speaks for itself
		return client, secure
	}
	hops := strings.Split(list, ",")
	for i := len(hops) - 1; i >= 0 && h.trusted(client); i-- {
		client = parseHop(strings.TrimSpace(hops[i]))
	}
	return client, secure
}

func (h *Handler) trusted(a netip.Addr) bool {
	return slices.ContainsFunc(h.proxies, func(p netip.Prefix) bool { return p.Contains(a) })
}

// parseHop reads an address with or without a port: "192.0.2.1", "192.0.2.1:80",
// "2001:db8::1", "[2001:db8::1]:80". The zero Addr is none of these.
func parseHop(hop string) netip.Addr {
	if a, err := netip.ParseAddr(hop); err == nil {
		return a.Unmap().WithZone("")
	}
	if a, err := netip.ParseAddrPort(hop); err == nil {
		return a.Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}

// encrypted says whether every hop that is listed was: a client that puts words
// in front of the proxy's gains nothing.
func encrypted(hops string) bool {
	for hop := range strings.SplitSeq(hops, ",") {
		if !strings.EqualFold(strings.TrimSpace(hop), "https") {
			return false
		}
	}
	return true
}
