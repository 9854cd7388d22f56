// Package hub is the messaging plane of one node: it turns connections into
// viewers of rooms, and their frames into messages and events that every viewer
// of the room receives.
//
//	client                            hub
//	GET, sub-protocol: a chat token   valid? account? room? quota? marked as used
//	                                  101 and the same sub-protocol, or a status
//	{"Action":"SEND_MESSAGE",…}       rate, form, session, capability, room, members, rates, review
//	                                  MESSAGE to everybody in the room, or ERROR to the sender
//	{"Action":"DISCONNECT_USER",…}    EVENT to everybody, then close 1000 to that user
//	                                  session over: ERROR 401, five seconds later close 1000
//
// What it promises: every viewer gets every frame of its room, all in the same
// order, or its connection ends; nothing twice, nothing of another room. Nothing
// on the way of a message waits for storage or for a viewer: a frame is encoded
// once and queued for all by package socket, which drops who is too slow. A
// viewer costs one small record and no goroutine.
//
// A room exists here while it has viewers. Its settings are read from the
// registry at every message, so that changes act at once.
//
// Source: spec messaging 1 to 7.
package hub
