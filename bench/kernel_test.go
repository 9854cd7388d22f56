package main

import (
	"net"
	"testing"
)

// The kernel's answer has the server's side of each connection alone, with what
// waits there to be sent.
func TestTheKernelSaysWhatItHoldsForAServer(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	p := &process{Messaging: "ws://" + listener.Addr().String()}
	const conns, sent = 3, 1 << 20
	var server net.Conn
	for range conns {
		c, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.(*net.TCPConn).SetReadBuffer(8 << 10)
		if server, err = listener.Accept(); err != nil {
			t.Fatal(err)
		}
		defer server.Close()
	}
	before, err := p.connections()
	if err != nil {
		t.Skip("this kernel does not say: ", err)
	}
	if before.count != conns || before.memory > 100 {
		t.Errorf("%+v before anything was sent, want %d connections and some KiB", before, conns)
	}
	_ = server.(*net.TCPConn).SetWriteBuffer(2 * sent)
	if _, err := server.Write(make([]byte, sent/8)); err != nil { // which fits
		t.Fatal(err)
	}
	after, err := p.connections()
	if err != nil {
		t.Fatal(err)
	}
	if more := after.memory - before.memory; after.count != conns || more < 10 || more > 4*sent/8/1024 {
		t.Errorf("%d connections, %.0f KiB more with %d KiB that nobody reads", after.count, more, sent/8/1024)
	}
}
