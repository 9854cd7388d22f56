package main

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// answering takes one connection, reads its request and writes the answer. How the
// connection ends comes on the channel: io.EOF if the client closes it.
func answering(t *testing.T, answer string) (address string, ended <-chan error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	end := make(chan error, 1)
	go func() {
		c, err := listener.Accept()
		if err != nil {
			end <- err
			return
		}
		defer c.Close()
		r := bufio.NewReader(c)
		if _, err := http.ReadRequest(r); err != nil {
			end <- err
			return
		}
		_, _ = io.WriteString(c, answer)
		_, err = r.ReadByte()
		end <- err
	}()
	return "ws://" + listener.Addr().String(), end
}

// The first frame may come in one packet with the head of the answer.
func TestAFrameBehindTheHeadIsNotLost(t *testing.T) {
	message := appendEvent(nil, 7, time.Now().UnixNano())
	address, _ := answering(t, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"+string(unmasked(1, message)))
	c, err := upgrade(address, "token")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got, err := readText(bufio.NewReader(c), nil)
	if err != nil || string(got) != string(message) {
		t.Errorf("got %q, %v; want %q", got, err, message)
	}
}

func TestARefusedConnectionIsClosed(t *testing.T) {
	for _, answer := range []string{"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "nonsense\r\n\r\n"} {
		address, ended := answering(t, answer)
		if _, err := upgrade(address, "token"); err == nil {
			t.Errorf("%q opens a WebSocket", answer)
		}
		if err := <-ended; !errors.Is(err, io.EOF) {
			t.Errorf("%q: %v, want the connection closed", answer, err)
		}
	}
}
