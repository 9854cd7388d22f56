// Package ivschat is the vocabulary of both wires of Amazon IVS Chat: the types
// of the control plane's requests and responses, the frames of the messaging
// plane, and the errors, ARNs, ids and limits that the two share.
//
// It does no I/O and starts no goroutine. Bytes from outside enter through the
// Decode functions, are checked once by a Check method, and are trusted from
// then on; what leaves is encoded once.
package ivschat
