// Package registry keeps the resources of the control plane: rooms, logging
// configurations and their tags.
//
// Requests that passed their Check enter; rooms and configurations, pages of
// them, and refusals (not found, in use, over the quota) leave. Each resource is
// one record, so that it is made or changed whole; a write is fsynced before its
// method returns, and then stands in the index in memory, from which every read
// is answered. What is handed out is shared and immutable: a change makes a new
// value. Methods may be called from many goroutines; no lock is held while the
// store writes.
// Source: spec control-plane 3.3, 4 to 8, 10.
package registry
