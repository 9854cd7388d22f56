package main

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
)

// floor is the least that a server can do: what is printed beside it is what
// the real one pays for being one.
func floor(kind string) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	_ = json.NewEncoder(os.Stdout).Encode(map[string]string{"messaging": "ws://" + listener.Addr().String(), "api": "http://" + listener.Addr().String()})
	switch kind {
	case "fanout":
		floorFanOut(listener)
	default:
		fmt.Fprintln(os.Stderr, "no such floor:", kind)
		os.Exit(1)
	}
}

// floorFanOut writes each message that comes in to every connection, one system
// call each, and checks nothing.
func floorFanOut(listener net.Listener) {
	var mu sync.Mutex
	var all []net.Conn
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			r := bufio.NewReader(conn)
			request, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			sum := sha1.Sum([]byte(request.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
			fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
				base64.StdEncoding.EncodeToString(sum[:]))
			mu.Lock()
			all = append(all, conn)
			mu.Unlock()
			for {
				var head [8]byte
				if _, err := io.ReadFull(r, head[:]); err != nil {
					return
				}
				in := make([]byte, binary.BigEndian.Uint16(head[2:]))
				if _, err := io.ReadFull(r, in); err != nil {
					return
				}
				_, content, _ := strings.Cut(string(in), `"Content":`)
				out := `{"Type":"MESSAGE","Id":"M2YcHkgffEvU","RequestId":"0c5b6b43-9c2e-4f5e-8a05-1f21d7d3f5ac","Attributes":null,"Content":` +
					strings.TrimSuffix(content, "}") + `,"SendTime":"2022-12-02T08:21:20.754555595Z","Sender":{"UserId":"user-0","Attributes":{"username":"viewer"}}}`
				frame := binary.BigEndian.AppendUint16([]byte{0x81, 126}, uint16(len(out)))
				frame = append(frame, out...)
				mu.Lock()
				for _, c := range all {
					_, _ = c.Write(frame)
				}
				mu.Unlock()
			}
		}()
	}
}
