// Package conformance judges Hubbub by somebody else's clients: the official AWS
// SDK for Go here, and the official SDKs for JavaScript in js/, drive a running
// server over its real ports. It holds tests only.
package conformance
