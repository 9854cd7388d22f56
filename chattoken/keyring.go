package chattoken

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"hubbub/engine"
	"hubbub/ivschat"
)

// KeyRing seals and opens tokens. Its methods may be called from many
// goroutines. It prints as [sealed].
type KeyRing struct {
	bucket   *engine.Bucket
	announce func(context.Context) error // nil alone

	mu      sync.Mutex // one rotation at a time
	current atomic.Pointer[ring]
}

// ring is one state of the key ring.
type ring struct {
	cipher   tink.AEAD
	handle   *keyset.Handle
	made     map[uint32]time.Time // when each key became the newest
	revision uint64
}

// record is the ring in the store, whose folder only its owner may read.
type record struct {
	Keyset json.RawMessage      `json:"keyset"`
	Made   map[uint32]time.Time `json:"made"`
}

// recordKey is the ring's place in engine.KeysBucket.
const recordKey = "chat_tokens"

// purpose is authenticated with every token, so that nothing that the keys ever
// sealed for another purpose passes as one.
var purpose = []byte("hubbub chat token 1")

// longest is how long a token can be valid: never beyond the longest session.
const longest = ivschat.MaxSessionMinutes * time.Minute

// maxToken is the most characters of a token that are looked at. The largest
// legal session takes about 2,400.
const maxToken = 4096

// OpenKeyRing reads the ring from the bucket, and makes one with a first key if
// there is none.
func OpenKeyRing(ctx context.Context, b *engine.Bucket) (*KeyRing, error) {
	k := &KeyRing{bucket: b}
	err := k.Reload(ctx)
	if errors.Is(err, engine.ErrNotFound) {
		handle, herr := keyset.NewHandle(aead.AES256GCMKeyTemplate())
		if herr != nil {
			return nil, fmt.Errorf("make a token key: %w", herr)
		}
		value, verr := encodeRing(handle, map[uint32]time.Time{handle.KeysetInfo().GetPrimaryKeyId(): time.Now().UTC()})
		if verr != nil {
			return nil, verr
		}
		if _, err := b.Create(ctx, recordKey, value); err != nil && !errors.Is(err, engine.ErrExists) {
			return nil, fmt.Errorf("store the first token key: %w", err)
		}
		err = k.Reload(ctx)
	}
	if err != nil {
		return nil, err
	}
	return k, nil
}

// Reload takes over what another process or node has rotated.
func (k *KeyRing) Reload(ctx context.Context) error {
	entry, err := k.bucket.Get(ctx, recordKey)
	if err != nil {
		return fmt.Errorf("read the token keys: %w", err)
	}
	r, err := decodeRing(entry.Value)
	if err != nil {
		return fmt.Errorf("read the token keys: %w", err)
	}
	r.revision = entry.Revision
	k.current.Store(r)
	return nil
}

func encodeRing(handle *keyset.Handle, made map[uint32]time.Time) ([]byte, error) {
	var b bytes.Buffer
	if err := insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(&b)); err != nil {
		return nil, fmt.Errorf("write the token keys: %w", err)
	}
	return json.Marshal(record{Keyset: b.Bytes(), Made: made})
}

func decodeRing(value []byte) (*ring, error) {
	var r record
	if err := json.Unmarshal(value, &r); err != nil {
		return nil, errors.New("the record is not readable")
	}
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(r.Keyset)))
	if err != nil {
		return nil, errors.New("the record has no readable keyset")
	}
	cipher, err := aead.New(handle)
	if err != nil {
		return nil, errors.New("the record's keyset cannot seal")
	}
	return &ring{cipher: cipher, handle: handle, made: r.Made}, nil
}

// Mint seals the session under an id of its own and returns the token:
// base64url without padding, at most about 2,400 characters.
func (k *KeyRing) Mint(s Session) (string, error) {
	var id [idBytes]byte
	rand.Read(id[:]) // never fails: the program ends instead
	s.ID = string(id[:])
	sealed, err := k.current.Load().cipher.Encrypt(s.append(make([]byte, 0, 256)), purpose)
	if err != nil {
		return "", fmt.Errorf("seal a token: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(sealed), nil
}

// Refused is why a token was not redeemed, for log and metric alone.
type Refused string

// The reasons.
const (
	Malformed   Refused = "malformed"    // not the spelling of a token, altered, or sealed with an unknown key
	Expired     Refused = "expired"      // the token's time is over
	SessionOver Refused = "session_over" // the session's time is over
)

// Error is the reason.
func (r Refused) Error() string { return "token " + string(r) }

func refuse(reason Refused) error {
	return errors.Join(ivschat.Refuse(ivschat.Unauthorized, "The chat token is not valid. A token opens one connection, once: ask for a new one."), reason)
}

// Redeem opens a sealed token and returns the session that it grants. It is
// refused with Unauthorized if it is malformed, sealed with an unknown key, or
// past its time; errors.As with a Refused gives the reason, which is never for
// the client. Redeem does no I/O. Source: spec messaging 1.2, 1.3.
func (k *KeyRing) Redeem(token string, now time.Time) (Session, error) {
	if len(token) > maxToken || strings.ContainsAny(token, "\r\n") { // which the decoder would pass over
		return Session{}, refuse(Malformed)
	}
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil {
		return Session{}, refuse(Malformed)
	}
	plain, err := k.current.Load().cipher.Decrypt(sealed, purpose)
	if err != nil {
		return Session{}, refuse(Malformed)
	}
	s, err := readSession(plain)
	switch {
	case err != nil:
		return Session{}, refuse(Malformed)
	case !now.Before(s.SessionExpires):
		return Session{}, refuse(SessionOver)
	case !now.Before(s.TokenExpires):
		return Session{}, refuse(Expired)
	}
	return s, nil
}

// Rotate makes a new key, with which tokens are sealed from now on. Keys that
// no valid token can be sealed with any more are dropped. It fails without a
// change if the store cannot be written or another rotation came first.
func (k *KeyRing) Rotate(ctx context.Context, now time.Time) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.Reload(ctx); err != nil {
		return err
	}
	r := k.current.Load()
	manager := keyset.NewManagerFromHandle(r.handle)
	id, err := manager.Add(aead.AES256GCMKeyTemplate())
	if err != nil {
		return fmt.Errorf("make a token key: %w", err)
	}
	if err := manager.SetPrimary(id); err != nil {
		return fmt.Errorf("make a token key: %w", err)
	}
	made := map[uint32]time.Time{id: now.UTC()}
	for old, at := range r.made {
		if superseded(r.made, at, now).Add(longest).After(now) {
			made[old] = at
		} else if err := manager.Delete(old); err != nil {
			return fmt.Errorf("drop a token key: %w", err)
		}
	}
	handle, err := manager.Handle()
	if err != nil {
		return fmt.Errorf("make a token key: %w", err)
	}
	value, err := encodeRing(handle, made)
	if err != nil {
		return err
	}
	if _, err := k.bucket.Update(ctx, recordKey, value, r.revision); err != nil {
		return fmt.Errorf("store the token keys: %w", err)
	}
	var told error
	if k.announce != nil {
		if told = k.announce(ctx); told != nil {
			told = fmt.Errorf("the keys are rotated, but not every node knows of it: %w", told)
		}
	}
	return errors.Join(told, k.Reload(ctx))
}

// Announce has tell called in every rotation, before the first token is sealed with
// the new key, so that the other nodes reload and take it. Call it before any.
func (k *KeyRing) Announce(tell func(context.Context) error) { k.announce = tell }

// superseded is when the key made at the time given stopped being the newest;
// now if it is the newest still.
func superseded(made map[uint32]time.Time, at, now time.Time) time.Time {
	next := now
	for _, m := range made {
		if m.After(at) && m.Before(next) {
			next = m
		}
	}
	return next
}

// Keys is the number of keys in the ring.
func (k *KeyRing) Keys() int { return len(k.current.Load().made) }

// String hides the keys.
func (*KeyRing) String() string { return "[sealed]" }

// GoString hides the keys from %#v.
func (*KeyRing) GoString() string { return "[sealed]" }

// LogValue hides the keys from logs.
func (*KeyRing) LogValue() slog.Value { return slog.StringValue("[sealed]") }
