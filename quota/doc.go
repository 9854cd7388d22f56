// Package quota has the limits of an account in a region and the counters that
// hold them: rates for the control plane and the messaging plane, which share
// some, and the number of open connections. Counts of resources are checked by
// the registry, where they are made, with the figures from here.
//
// A rate is a token bucket that holds one second's worth; what exceeds it is
// refused and not queued. Everything is per account and region.
// Source: spec quotas.md, messaging 5; levels: design interface.md.
package quota
