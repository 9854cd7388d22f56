package main

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// Viewers and messages a second of benchTLS.
const (
	tlsViewers = 2000
	tlsRate    = 20
)

// benchTLS measures what a viewer costs over TLS in the server's process, beside
// plain TCP: memory, a handshake (TLS 1.3, ECDSA P-256, not resumed) and a
// delivery. The clients are a goroutine each, the same for both.
func benchTLS(binaryPath, dir string) error {
	certificate, key := filepath.Join(dir, "bench.crt"), filepath.Join(dir, "bench.key")
	if err := selfSigned(certificate, key); err != nil {
		return err
	}
	var t table
	for i := range *runs {
		cost := map[string]float64{}
		for _, v := range []struct {
			name  string
			flags []string
		}{{"plain", nil}, {"TLS", []string{"--tls-cert", certificate, "--tls-key", key}}} {
			f, err := measureTLS(binaryPath, filepath.Join(dir, fmt.Sprint("tls-", i, v.name)), v.flags)
			if err != nil {
				return fmt.Errorf("%s: %w", v.name, err)
			}
			for _, name := range f.names {
				t.add(v.name+": "+name, f.values[name])
			}
			cost[v.name] = f.values["CPU µs a delivery"]
		}
		t.add("TLS ÷ plain, CPU a delivery", cost["TLS"]/cost["plain"])
	}
	t.print(fmt.Sprintf("tls: %d viewers of one room, %d messages/s", tlsViewers, tlsRate))
	return nil
}

func measureTLS(binaryPath, data string, flags []string) (f figures, err error) {
	// The tokens are of a server without TLS before, whose store this one takes over.
	p, err := hubbub(binaryPath, data)
	if err != nil {
		return f, err
	}
	tokens, err := mintTokens(p, p.RoomARN, tlsViewers)
	p.stop()
	if err != nil {
		return f, err
	}
	if p, err = hubbub(binaryPath, data, flags...); err != nil {
		return f, err
	}
	defer p.stop()
	to, err := url.Parse(p.Messaging)
	if err != nil {
		return f, err
	}
	idle, cpu, begun := p.anonymous(), p.cpu(), time.Now()
	viewers := make([]net.Conn, tlsViewers)
	defer func() {
		for _, c := range viewers {
			if c != nil {
				_ = c.Close()
			}
		}
	}()
	var next atomic.Int64
	var joining sync.WaitGroup
	errs := make(chan error, 16)
	for range cap(errs) {
		joining.Go(func() {
			for i := int(next.Add(1)) - 1; i < tlsViewers; i = int(next.Add(1)) - 1 {
				c, err := dialViewer(to, tokens[i])
				if err != nil {
					errs <- err
					return
				}
				viewers[i] = c
			}
		})
	}
	joining.Wait()
	select {
	case err := <-errs:
		return f, err
	default:
	}
	f.set("handshakes/s", tlsViewers/time.Since(begun).Seconds())
	f.set("CPU µs a handshake", float64((p.cpu()-cpu).Microseconds())/tlsViewers)
	time.Sleep(time.Second)
	f.set("RSS KiB a viewer", (p.anonymous()-idle)/tlsViewers)

	var got atomic.Int64
	var reading sync.WaitGroup
	for _, c := range viewers {
		reading.Go(func() { countMessages(c, &got) })
	}
	defer reading.Wait()
	messages := int64(length(3).Seconds() * tlsRate)
	cpu = p.cpu()
	tick := time.NewTicker(time.Second / tlsRate)
	defer tick.Stop()
	w := wireOf(&loadSpec{Wire: "hubbub"})
	for n := range messages {
		<-tick.C
		if _, err := viewers[0].Write(w.message(nil, 0, uint32(n), 0)); err != nil {
			return f, err
		}
	}
	if err := await(10*time.Second, func() (bool, error) { return got.Load() >= messages*tlsViewers, nil }); err != nil {
		err = fmt.Errorf("%d of %d deliveries: %w", got.Load(), messages*tlsViewers, err)
		for _, c := range viewers { // reading ends with them
			_ = c.Close()
		}
		return f, err
	}
	f.set("CPU µs a delivery", float64((p.cpu()-cpu).Microseconds())/float64(messages*tlsViewers))
	for _, c := range viewers {
		_ = c.Close()
	}
	return f, nil
}

// dialViewer makes a connection of a viewer.
func dialViewer(to *url.URL, token string) (net.Conn, error) {
	c, err := net.DialTimeout("tcp", to.Host, 10*time.Second)
	if err != nil {
		return nil, err
	}
	if to.Scheme == "wss" {
		c = tls.Client(c, &tls.Config{InsecureSkipVerify: true}) // of a certificate that was made for this run
	}
	request := "GET / HTTP/1.1\r\nHost: " + to.Host + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: " + token + "\r\n\r\n"
	_, err = io.WriteString(c, request)
	var r *http.Response
	if err == nil {
		r, err = http.ReadResponse(bufio.NewReaderSize(c, 512), nil)
	}
	if err == nil && r.StatusCode != http.StatusSwitchingProtocols {
		err = errors.New(r.Status)
	}
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// countMessages reads until the connection ends.
func countMessages(c net.Conn, got *atomic.Int64) {
	buffer := make([]byte, 4<<10)
	for {
		n, err := c.Read(buffer)
		got.Add(int64(bytes.Count(buffer[:n], []byte{mark})))
		if err != nil {
			return
		}
	}
}

// selfSigned writes a certificate and its key.
func selfSigned(certificate, key string) error {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, private.Public(), private)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600))
}
