package main

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// padding brings a MESSAGE of the server to about 320 bytes.
const padding = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz"

// sendMessage sends a message whose content has its number and a time.
func sendMessage(conn net.Conn, seq int, stamp time.Time) error {
	_, err := conn.Write(ivsWire{}.message(nil, 0, uint32(seq), stamp.UnixNano()))
	return err
}

// stamped takes number and time from the frame of a message.
func stamped(frame []byte) (seq int, stamp time.Time, ok bool) {
	_, rest, ok := bytes.Cut(frame, []byte(`"@`))
	if !ok {
		return 0, time.Time{}, false
	}
	number, rest, _ := bytes.Cut(rest, []byte("@"))
	seq, _ = strconv.Atoi(string(number))
	at, _, _ := bytes.Cut(rest, []byte("@"))
	nanos, _ := strconv.ParseInt(string(at), 10, 64)
	return seq, time.Unix(0, nanos), true
}

// readText reads the next text frame into payload, or a larger slice.
func readText(r *bufio.Reader, payload []byte) ([]byte, error) {
	for {
		var head [4]byte
		if _, err := io.ReadFull(r, head[:2]); err != nil {
			return payload, err
		}
		length := int(head[1] & 127)
		if length == 126 {
			if _, err := io.ReadFull(r, head[2:4]); err != nil {
				return payload, err
			}
			length = int(binary.BigEndian.Uint16(head[2:4]))
		}
		if cap(payload) < length {
			payload = make([]byte, length)
		}
		payload = payload[:length]
		if _, err := io.ReadFull(r, payload); err != nil {
			return payload, err
		}
		if head[0] == 0x81 { // else a ping: a load is over before an answer is due
			return payload, nil
		}
	}
}

// upgrade opens a WebSocket with the token as sub-protocol. Of wss any
// certificate will do.
func upgrade(address, token string) (net.Conn, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		return nil, err
	}
	if u.Scheme == "wss" {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	}
	c := &upgraded{conn, bufio.NewReaderSize(conn, 512)}
	if err := c.shakeHands(u.Host, token); err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

// upgraded is a connection whose frames may have come in one read with the head.
type upgraded struct {
	net.Conn
	r *bufio.Reader
}

func (c *upgraded) Read(b []byte) (int, error) { return c.r.Read(b) }

func (c *upgraded) shakeHands(host, token string) error {
	var key [16]byte
	_, _ = rand.Read(key[:])
	if _, err := fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\nSec-WebSocket-Protocol: %s\r\n\r\n",
		host, base64.StdEncoding.EncodeToString(key[:]), token); err != nil {
		return err
	}
	response, err := http.ReadResponse(c.r, nil) // takes the head and nothing behind it
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("refused: %s", response.Status)
	}
	return nil
}

// mintTokens gets n tokens for a room.
func mintTokens(p *process, room string, n int) ([]string, error) {
	return mintEach(p, []string{room}, n)
}

// mintEach gets n tokens, for the rooms in turn.
func mintEach(p *process, rooms []string, n int) ([]string, error) {
	return mintWith(p, rooms, n, usualAttributes)
}

// usualAttributes are those of a viewer as JSON, whoever it is.
func usualAttributes(int) string { return `{"username":"viewer"}` }

// mintWith gets n tokens, for the rooms in turn, each with attributes of its own.
func mintWith(p *process, rooms []string, n int, attributes func(i int) string) ([]string, error) {
	tokens := make([]string, n)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}}
	defer client.CloseIdleConnections()
	errs := make(chan error, 8)
	var next atomic.Int64
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				body := fmt.Sprintf(`{"roomIdentifier":%q,"userId":"user-%d","capabilities":["SEND_MESSAGE","DELETE_MESSAGE","DISCONNECT_USER"],"attributes":%s}`, rooms[i%len(rooms)], i, attributes(i))
				r, err := signed(p, "/CreateChatToken", body)
				if err != nil {
					errs <- err
					return
				}
				response, err := client.Do(r)
				if err != nil {
					errs <- err
					return
				}
				var out struct{ Token, Message string }
				err = json.NewDecoder(response.Body).Decode(&out)
				response.Body.Close()
				if err != nil || out.Token == "" {
					errs <- fmt.Errorf("no token: %d %s %v", response.StatusCode, out.Message, err)
					return
				}
				tokens[i] = out.Token
			}
		})
	}
	workers.Wait()
	select {
	case err := <-errs:
		return nil, err
	default:
		return tokens, nil
	}
}
