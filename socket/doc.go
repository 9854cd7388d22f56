// Package socket holds very many WebSocket connections cheaply. It knows bytes
// and connections and nothing of chat.
//
// What enters are listeners; what leaves are calls of a Handler: one for each
// upgrade request, which decides before anything is upgraded, and then, for each
// connection, its opening, its messages in order, and its end. Frames to send are
// encoded once and shared: NewFrame makes one, Conn.Send queues it for one
// connection and Group.Send for all of a group. Queueing never blocks. Everything
// that is pending for a connection goes out in one write.
//
// Under load: a connection has one goroutine, which reads, and no buffer while it
// is idle. A connection that does not read what it is sent is reset once its queue
// is over its bounds or nothing moved for Config.StallTimeout; it never delays
// another. What a stranger sends is bounded in time and size before and after the
// upgrade.
//
// This is the portable transport: it serves plain connections and TLS on every
// system. Source: RFC 6455; spec messaging 1, 2, 6; design hub.md.
package socket
