package registry

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"

	"hubbub/engine"
	"hubbub/ivschat"
)

// cursors make and open nextTokens: the place behind the last resource of a page
// with a MAC over it and the list that it belongs to. They need no state, do not
// expire, and hold on every node and after every restart, since their key is in
// the store. Source: spec control-plane 7.
type cursors struct{ key []byte }

// cursorKey is the key's place in engine.KeysBucket.
const cursorKey = "list_cursors"

func openCursors(ctx context.Context, keys *engine.Bucket) (*cursors, error) {
	e, err := keys.Get(ctx, cursorKey)
	if errors.Is(err, engine.ErrNotFound) {
		key := make([]byte, sha256.Size)
		rand.Read(key) // never fails: the program ends instead
		if _, err := keys.Create(ctx, cursorKey, key); err != nil && !errors.Is(err, engine.ErrExists) {
			return nil, fmt.Errorf("store the key of list cursors: %w", err)
		}
		e, err = keys.Get(ctx, cursorKey)
	}
	if err != nil {
		return nil, fmt.Errorf("read the key of list cursors: %w", err)
	}
	if len(e.Value) < sha256.Size {
		return nil, errors.New("the key of list cursors is too short; restore the data folder from a backup")
	}
	return &cursors{e.Value}, nil
}

// listOf names a list: the operation, the account and region, and its filters.
func listOf(o ivschat.Operation, s ivschat.Scope, filters ...string) []byte {
	name, err := json.Marshal(append([]string{string(o), s.Account, s.Region}, filters...))
	if err != nil { // what Decode has read is valid UTF-8
		panic(err)
	}
	return name
}

func (c *cursors) mac(place, list []byte) []byte {
	h := hmac.New(sha256.New, c.key)
	fmt.Fprintf(h, "%d:", len(place))
	h.Write(place)
	h.Write(list)
	return h.Sum(nil)
}

func (c *cursors) seal(p position, list []byte) string {
	place, err := json.Marshal(p)
	if err != nil { // an ARN and a time are JSON
		panic(err)
	}
	return base64.RawURLEncoding.EncodeToString(append(c.mac(place, list), place...))
}

// open returns the place, nil for the first page ("").
func (c *cursors) open(token string, list []byte) (*position, error) {
	if token == "" {
		return nil, nil
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(b) < sha256.Size || !hmac.Equal(b[:sha256.Size], c.mac(b[sha256.Size:], list)) {
		return nil, ivschat.InvalidFields(ivschat.Invalid("nextToken", "must be a token of the same list with the same filters, or empty for the first page"))
	}
	var p position
	if err := json.Unmarshal(b[sha256.Size:], &p); err != nil {
		return nil, fmt.Errorf("read a list cursor of our own: %w", err)
	}
	return &p, nil
}
