package main

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// benchFanOut measures one room: deliveries a second with eight messages in
// flight, and the cost and delay of a delivery with messages spaced at 50 a
// second. The floor is a program that writes the same bytes to the same
// number of sockets, one system call each, and does nothing else.
func benchFanOut(binaryPath, dir string) error {
	var t table
	self, err := os.Executable()
	if err != nil {
		return err
	}
	servers := []struct {
		name  string
		start func() (*process, error)
	}{
		{"hubbub", func() (*process, error) { return hubbub(binaryPath, ":memory:") }},
		{"floor ", func() (*process, error) { return launch(self, "floor", "fanout") }},
		{"beside", func() (*process, error) { return hubbub(*beside, ":memory:") }},
	}
	if *beside == "" {
		servers = servers[:2]
	}
	for i := range *runs {
		all := map[string]figures{}
		for j := range servers {
			s := servers[(i+j)%len(servers)] // none is always the first
			p, err := s.start()
			if err != nil {
				return err
			}
			f, err := measureRoom(p)
			p.stop()
			if err != nil {
				return err
			}
			all[s.name] = f
		}
		for _, s := range servers {
			f := all[s.name]
			t.add(s.name+" RSS of an idle viewer, KiB", f.rss)
			t.add(s.name+" handshakes/s, one after another on 8 connections", f.handshakes)
			t.add(s.name+" saturated: deliveries/s", f.rate)
			t.add(s.name+" saturated: CPU s a million deliveries", f.cost)
			t.add(s.name+" saturated: p99 ms", f.p99)
			t.add(s.name+" 50/s: CPU s a million deliveries", f.spacedCost)
			t.add(s.name+" 50/s: p50 ms", f.spacedP50)
			t.add(s.name+" 50/s: p99 ms", f.spacedP99)
		}
		for _, other := range servers[1:] {
			t.add("hubbub ÷ "+other.name+", saturated deliveries/s", all["hubbub"].rate/all[other.name].rate)
			t.add("hubbub ÷ "+other.name+", saturated CPU a delivery", all["hubbub"].cost/all[other.name].cost)
			t.add("hubbub ÷ "+other.name+", 50/s CPU a delivery", all["hubbub"].spacedCost/all[other.name].spacedCost)
			t.add("hubbub ÷ "+other.name+", 50/s p99", all["hubbub"].spacedP99/all[other.name].spacedP99)
		}
	}
	t.print(fmt.Sprintf("fan-out: one room of %d viewers, plain TCP, messages of about 320 bytes", *viewers))
	return nil
}

type figures struct {
	rss, handshakes, rate, cost, p99, spacedCost, spacedP50, spacedP99 float64
}

// crowd is the viewers of a room. Every viewer counts what it gets; every tenth
// takes the time from the content as well.
type crowd struct {
	conns     []net.Conn
	delivered atomic.Int64
	perSeq    []atomic.Int32 // deliveries of each message, for the closed loop
	complete  chan struct{}  // one for each message that reached every viewer

	mu     sync.Mutex
	delays []time.Duration
	failed error
}

func measureRoom(p *process) (f figures, err error) {
	n := *viewers
	tokens, err := mintTokens(p, p.RoomARN, n)
	if err != nil {
		return f, err
	}
	c := &crowd{conns: make([]net.Conn, n), perSeq: make([]atomic.Int32, 1<<20), complete: make(chan struct{}, 64)}
	defer func() {
		for _, conn := range c.conns {
			if conn != nil {
				conn.Close()
			}
		}
	}()
	before := p.rss()
	begun := time.Now()
	var dialing sync.WaitGroup
	var next atomic.Int64
	errs := make(chan error, 8)
	for range 8 {
		dialing.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				conn, err := upgrade(p.Messaging, tokens[i])
				if err != nil {
					errs <- err
					return
				}
				c.conns[i] = conn
			}
		})
	}
	dialing.Wait()
	f.handshakes = float64(n) / time.Since(begun).Seconds()
	select {
	case err := <-errs:
		return f, err
	default:
	}
	var readers sync.WaitGroup
	for i, conn := range c.conns {
		readers.Go(func() { c.read(conn, i%10 == 0) })
	}
	time.Sleep(300 * time.Millisecond) // settle before the memory is read
	f.rss = (p.rss() - before) / float64(n)

	// Saturated: a message is sent when an earlier one has reached everybody.
	cpu, begun, start := p.cpu(), time.Now(), c.delivered.Load()
	seq := 0
	for range 8 {
		seq++
		if err := c.send(seq); err != nil {
			return f, err
		}
	}
	for time.Since(begun) < runLength(2) {
		select {
		case <-c.complete:
		case <-time.After(10 * time.Second):
			return f, errors.New("a message did not reach every viewer within 10 s")
		}
		seq++
		if err := c.send(seq); err != nil {
			return f, err
		}
	}
	for range 8 {
		<-c.complete
	}
	count := float64(c.delivered.Load() - start)
	f.rate = count / time.Since(begun).Seconds()
	f.cost = (p.cpu() - cpu).Seconds() / count * 1e6
	f.p99 = percentile(c.takeDelays(), 0.99)

	// Spaced: 50 a second, by the clock.
	cpu, start = p.cpu(), c.delivered.Load()
	messages := int(runLength(2).Seconds() * 50)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range messages {
		<-tick.C
		seq++
		if err := c.send(seq); err != nil {
			return f, err
		}
	}
	for range messages {
		select {
		case <-c.complete:
		case <-time.After(10 * time.Second):
			return f, errors.New("a message did not reach every viewer within 10 s")
		}
	}
	count = float64(c.delivered.Load() - start)
	f.spacedCost = (p.cpu() - cpu).Seconds() / count * 1e6
	delays := c.takeDelays()
	f.spacedP50, f.spacedP99 = percentile(delays, 0.5), percentile(delays, 0.99)
	for _, conn := range c.conns {
		conn.Close()
	}
	readers.Wait()
	return f, nil
}

func (c *crowd) takeDelays() []time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.delays
	c.delays = nil
	return d
}

// padding brings a MESSAGE of the server to about 320 bytes.
const padding = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz"

// send writes one masked text frame on the first connection.
func (c *crowd) send(seq int) error {
	if seq >= len(c.perSeq) {
		return errors.New("too many messages for one run")
	}
	return sendMessage(c.conns[0], seq, time.Now())
}

// sendMessage sends a message whose content has its number and a time.
func sendMessage(conn net.Conn, seq int, stamp time.Time) error {
	body := fmt.Sprintf(`{"Action":"SEND_MESSAGE","RequestId":"0c5b6b43-9c2e-4f5e-8a05-1f21d7d3f5ac","Content":"@%d@%d@%s"}`, seq, stamp.UnixNano(), padding)
	frame := []byte{0x81, 0x80 | 126, 0, 0, 0, 0, 0, 0} // a mask of zeros changes nothing
	binary.BigEndian.PutUint16(frame[2:], uint16(len(body)))
	_, err := conn.Write(append(frame, body...))
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

// read counts frames until the connection ends.
func (c *crowd) read(conn net.Conn, timed bool) {
	r := bufio.NewReaderSize(conn, 16<<10)
	var delays []time.Duration
	var payload []byte
	for {
		var err error
		if payload, err = readText(r, payload); err != nil {
			return
		}
		seq, stamp, ok := stamped(payload)
		if !ok {
			c.mu.Lock()
			c.failed = fmt.Errorf("unexpected frame: %.200s", payload)
			c.mu.Unlock()
			continue
		}
		if timed {
			delays = append(delays, time.Since(stamp))
			if len(delays) >= 16 {
				c.mu.Lock()
				c.delays = append(c.delays, delays...)
				c.mu.Unlock()
				delays = delays[:0]
			}
		}
		c.delivered.Add(1)
		if int(c.perSeq[seq].Add(1)) == len(c.conns) {
			c.complete <- struct{}{}
		}
	}
}

// upgrade opens a WebSocket with the token as sub-protocol.
func upgrade(address, token string) (net.Conn, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		return nil, err
	}
	var key [16]byte
	_, _ = rand.Read(key[:])
	if _, err := fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\nSec-WebSocket-Protocol: %s\r\n\r\n",
		u.Host, base64.StdEncoding.EncodeToString(key[:]), token); err != nil {
		return nil, err
	}
	// Byte by byte, so that nothing behind the head is lost; it is short.
	var head []byte
	var b [1]byte
	for !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
		if _, err := conn.Read(b[:]); err != nil {
			return nil, err
		}
		head = append(head, b[0])
	}
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 101")) {
		conn.Close()
		return nil, fmt.Errorf("refused: %s", bytes.SplitN(head, []byte("\r\n"), 2)[0])
	}
	return conn, nil
}

// mintTokens gets n tokens for a room.
func mintTokens(p *process, room string, n int) ([]string, error) {
	if room == "" { // the floor asks for none
		return make([]string, n), nil
	}
	tokens := make([]string, n)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}}
	defer client.CloseIdleConnections()
	errs := make(chan error, 8)
	var next atomic.Int64
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				body := fmt.Sprintf(`{"roomIdentifier":%q,"userId":"user-%d","capabilities":["SEND_MESSAGE"],"attributes":{"username":"viewer"}}`, room, i)
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
