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
// Under load: a connection that does not read what it is sent is reset once its
// queue is over its bounds or nothing moved for Config.StallTimeout; it never
// delays another. What a stranger sends is bounded in time and size before and
// after the upgrade. Upgrade requests that come together wait in line for the
// Handler, first come first served, and an event loop begins with so many of them
// in a turn, so that a storm does not stop who is open.
//
// There are two transports. Plain TCP on Linux has event loops, one for each
// processor: a connection belongs to one of them for life and is a record of 192
// bytes, without goroutine, timer or buffer while it is idle. TLS, and everything
// on other systems or with Config.Portable, has a goroutine for each connection,
// which reads. One suite of tests runs over both.
//
//	loop_linux.go       the loop: its turn, what is posted to it, the life of a connection
//	accept_linux.go     connections come to a loop
//	guest_linux.go      their handshakes
//	receive_linux.go    what they send
//	deliver_linux.go    what they are sent
//	poller_linux.go     epoll; wheel_linux.go: when something is due
//
// Source: RFC 6455; spec messaging 1, 2, 6; design hub.md.
package socket
