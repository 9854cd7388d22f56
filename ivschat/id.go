package ivschat

import (
	"crypto/rand"
)

// idLength is the length of every id of the service: rooms, logging
// configurations, messages, events and operations. Source: spec control-plane 4.
const idLength = 12

const idAlphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

// NewID makes an id of 12 characters [a-zA-Z0-9] from the system's
// cryptographic source, about 71 bits, each character equally likely.
func NewID() string {
	var id [idLength]byte
	var random [2 * idLength]byte
	for n := 0; n < idLength; {
		rand.Read(random[:]) // never fails: the program ends instead
		for _, b := range random {
			// Six bits give 64 values; the two without a character are thrown again.
			if c := int(b & 63); c < len(idAlphabet) && n < idLength {
				id[n] = idAlphabet[c]
				n++
			}
		}
	}
	return string(id[:])
}

// IsID says whether s has the shape of an id.
func IsID(s string) bool {
	if len(s) != idLength {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}
