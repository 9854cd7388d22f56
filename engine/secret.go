package engine

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"math/big"
	"time"
)

// Certificates from a secret are good for all time: the secret is what is changed.
var (
	notBefore = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	notAfter  = time.Date(2199, 1, 1, 0, 0, 0, 0, time.UTC)
)

// fromSecret makes of a cluster's secret the authority that all its nodes make, a
// certificate of it for this process alone, and a password.
func fromSecret(cluster string, secret []byte) (authority *x509.Certificate, own tls.Certificate, password string, err error) {
	seed, err := hkdf.Key(sha256.New, secret, nil, "hubbub cluster authority 1 "+cluster, ed25519.SeedSize)
	if err != nil {
		return nil, own, "", err
	}
	word, err := hkdf.Key(sha256.New, secret, nil, "hubbub cluster route 1 "+cluster, 32)
	if err != nil {
		return nil, own, "", err
	}
	key := ed25519.NewKeyFromSeed(seed)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "hubbub cluster"},
		NotBefore: notBefore, NotAfter: notAfter, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, MaxPathLenZero: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, own, "", err
	}
	if authority, err = x509.ParseCertificate(der); err != nil {
		return nil, own, "", err
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, own, "", err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, own, "", err
	}
	leaf := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "hubbub node"}, NotBefore: notBefore, NotAfter: notAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if der, err = x509.CreateCertificate(rand.Reader, leaf, authority, public, key); err != nil {
		return nil, own, "", err
	}
	return authority, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}, hex.EncodeToString(word), nil
}
