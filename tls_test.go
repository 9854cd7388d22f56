package hubbub

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// pair writes a certificate for 127.0.0.1 with that serial number, and returns a
// pool that trusts it.
func pair(t testing.TB, files TLS, serial int64) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{files.Cert: {Type: "CERTIFICATE", Bytes: der}, files.Key: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return pool
}

func TestBothPlanesSpeakTLSAndFollowTheCertificate(t *testing.T) {
	folder := t.TempDir()
	files := TLS{Cert: filepath.Join(folder, "server.crt"), Key: filepath.Join(folder, "server.key")}
	pool := pair(t, files, 1)
	s, log := node(t, Config{TLS: files})
	if !strings.HasPrefix(s.APIURL(), "https://127.0.0.1:") || !strings.HasPrefix(s.MessagingURL(), "wss://127.0.0.1:") {
		t.Errorf("the URLs are %s and %s", s.APIURL(), s.MessagingURL())
	}

	api := devCaller(t, s)
	api.client.Transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: pool}
	token := api.token(t, s.Room(), "alice")
	secure := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	viewer, _, err := websocket.Dial(t.Context(), s.MessagingURL(), &websocket.DialOptions{Subprotocols: []string{token}, HTTPClient: secure})
	if err != nil {
		t.Fatal(err)
	}
	defer viewer.CloseNow()
	send(t, viewer, map[string]any{"Action": "SEND_MESSAGE", "Content": "sealed"})
	if m := receive(t, viewer); m["Content"] != "sealed" {
		t.Errorf("got %v", m)
	}

	serials := func() (s1, s2 int64) {
		return serial(t, s.api.Addr().String()), serial(t, s.messaging.Addr().String())
	}
	both := func(want int64) func() bool {
		return func() bool {
			a, b := serials()
			return a == want && b == want
		}
	}
	if !both(1)() {
		t.Error("the listeners have another certificate than the file")
	}
	pair(t, files, 2)
	s.Reload()
	eventually(t, "the certificate is followed when asked to", both(2))
	pair(t, files, 3)
	eventually(t, "the certificate is followed when its files change", both(3))
	if err := os.WriteFile(files.Cert, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Reload()
	eventually(t, "a broken certificate is told", func() bool { return strings.Contains(log.String(), "certificate not reloaded") })
	if !both(3)() {
		t.Error("a broken file took the certificate away")
	}
	// The viewer of the first certificate is still there.
	send(t, viewer, map[string]any{"Action": "SEND_MESSAGE", "Content": "still sealed"})
	if m := receive(t, viewer); m["Content"] != "still sealed" {
		t.Errorf("got %v", m)
	}
}

// serial is the number of the certificate that a listener shows.
func serial(t testing.TB, address string) int64 {
	t.Helper()
	conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}
