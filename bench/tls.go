package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
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
	idle, cpu, begun := p.anonymous(), p.cpu(), time.Now()
	conns := make([]net.Conn, tlsViewers)
	var reading sync.WaitGroup
	defer func() {
		for _, c := range conns {
			if c != nil {
				_ = c.Close()
			}
		}
		reading.Wait() // which ends with them
	}()
	var next atomic.Int64
	var joining sync.WaitGroup
	errs := make(chan error, 16)
	for range cap(errs) {
		joining.Go(func() {
			for i := int(next.Add(1)) - 1; i < tlsViewers; i = int(next.Add(1)) - 1 {
				c, err := upgrade(p.Messaging, tokens[i])
				if err != nil {
					errs <- err
					return
				}
				conns[i] = c
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
	for _, c := range conns {
		reading.Go(func() { countMessages(c, &got) })
	}
	messages := int(length(3).Seconds() * tlsRate)
	cpu = p.cpu()
	tick := time.NewTicker(time.Second / tlsRate)
	defer tick.Stop()
	for n := range messages {
		if err := sendMessage(conns[0], n, <-tick.C); err != nil {
			return f, err
		}
	}
	want := int64(messages) * tlsViewers
	if err := await(10*time.Second, func() (bool, error) { return got.Load() >= want, nil }); err != nil {
		return f, fmt.Errorf("%d of %d deliveries: %w", got.Load(), want, err)
	}
	f.set("CPU µs a delivery", float64((p.cpu()-cpu).Microseconds())/float64(want))
	return f, nil
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
