// Package engine is the store under Hubbub: an embedded NATS JetStream server,
// in process and without a port. It is the only package that knows NATS.
//
// What enters are small records by key; what leaves are the same records, and
// the promise that a write that succeeded was fsynced before it returned. Writes
// are compare-and-set: a lost race is ErrExists or ErrStale, never a silent
// overwrite. Reads on the request path come from an index that the caller loads
// once (Bucket.Load) and keeps by its own writes; Bucket.Get asks the store.
//
// The outbox (Engine.Outbox) keeps the batches of chat logs until their readers
// have delivered them, at least once and in order, within bounds that leave room
// for the rest: past them the oldest are dropped, and every dropped record is
// counted.
//
// Bucket.Snapshot, Once.All and Engine.EachUndelivered read everything, for a move
// to another store.
//
// A store that is locked by another process, that is damaged, or that belongs
// to another mode is refused by Open with an error that says what to do. See
// plan.go for everything that is stored, guard.go for how damage is noticed.
package engine
