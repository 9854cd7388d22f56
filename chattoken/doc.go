// Package chattoken makes and opens chat tokens: sealed strings that admit one
// user to one room, once.
//
// A session enters Mint and leaves Redeem unchanged; in between it is opaque,
// authenticated, and spelled in characters that a WebSocket sub-protocol may
// have. Sealing is Tink's AEAD, so that a key can be rotated without failing a
// token: tokens are sealed with the newest key and opened with any that a valid
// token may have been sealed with. Neither Mint nor Redeem does I/O; that a
// token opens one connection only is for engine.Once to say.
package chattoken
