package chattoken_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"hubbub/chattoken"
	"hubbub/engine"
	"hubbub/ivschat"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func open(t testing.TB) (*chattoken.KeyRing, *engine.Bucket) {
	t.Helper()
	ctx := context.Background()
	e, err := engine.Open(ctx, engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	b, err := e.Bucket(ctx, engine.KeysBucket)
	if err != nil {
		t.Fatal(err)
	}
	k, err := chattoken.OpenKeyRing(ctx, b)
	if err != nil {
		t.Fatal(err)
	}
	return k, b
}

var now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func session() chattoken.Session {
	return chattoken.Session{
		Room: "arn:aws:ivschat:us-west-2:123456789012:room/AbCdEf123456", UserID: "alice",
		Attributes: map[string]string{"username": "Alice", "": "é"}, Capabilities: ivschat.CanSendMessage | ivschat.CanDisconnectUser,
		TokenExpires: now.Add(time.Hour), SessionExpires: now.Add(3 * time.Hour),
	}
}

func mint(t testing.TB, k *chattoken.KeyRing, s chattoken.Session) string {
	t.Helper()
	token, err := k.Mint(s)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestWhatIsMintedIsRedeemed(t *testing.T) {
	k, _ := open(t)
	rapid.Check(t, func(t *rapid.T) {
		s := chattoken.Session{
			Room: ivschat.ARN(rapid.String().Draw(t, "room")), UserID: rapid.String().Draw(t, "user"),
			Attributes:   rapid.MapOf(rapid.String(), rapid.String()).Draw(t, "attributes"),
			Capabilities: ivschat.Capability(rapid.Byte().Draw(t, "capabilities")),
			TokenExpires: now.Add(time.Minute), SessionExpires: now.Add(time.Hour),
		}
		token, err := k.Mint(s)
		if err != nil {
			t.Fatal(err)
		}
		if len(token) > 4096 {
			t.Skip("longer than any legal session")
		}
		got, err := k.Redeem(token, now)
		if err != nil {
			t.Fatal(err)
		}
		if len(got.ID) != 16 {
			t.Fatalf("id of %d bytes", len(got.ID))
		}
		got.ID = ""
		if len(s.Attributes) == 0 {
			s.Attributes = nil
		}
		if d := cmp.Diff(s, got); d != "" {
			t.Fatal(d)
		}
	})
}

func TestTheLargestSessionFitsAHeader(t *testing.T) {
	k, _ := open(t)
	s := session()
	s.UserID = strings.Repeat("𝄞", ivschat.MaxUserIDLength)
	s.Attributes = map[string]string{}
	for i := range 512 {
		s.Attributes[string([]byte{byte('0' + i/64), byte('0' + i%64)})] = ""
	}
	token := mint(t, k, s)
	if len(token) > 3600 {
		t.Errorf("%d characters", len(token))
	}
	if !regexp.MustCompile(`^[A-Za-z0-9_-]+$`).MatchString(token) {
		t.Error("a character that no sub-protocol may have")
	}
	if _, err := k.Redeem(token, now); err != nil {
		t.Error(err)
	}
}

func TestNoAlteredTokenIsRedeemed(t *testing.T) {
	k, _ := open(t)
	other, _ := open(t)
	token := mint(t, k, session())
	refused := func(what, token string) {
		t.Helper()
		_, err := k.Redeem(token, now)
		var reason chattoken.Refused
		if !errors.Is(err, ivschat.Unauthorized) || !errors.As(err, &reason) || reason != chattoken.Malformed {
			t.Errorf("%s: %v", what, err)
		}
	}
	for i := range token {
		for _, c := range []byte{'A', 'Q', '_', '=', '.', '\n', token[i] ^ 1} {
			if c != token[i] {
				refused(fmt.Sprintf("character %d as %q", i, c), token[:i]+string(c)+token[i+1:])
			}
		}
		refused(fmt.Sprintf("cut to %d", i), token[:i])
		refused(fmt.Sprintf("with a line break at %d", i), token[:i]+"\n"+token[i:])
	}
	refused("extended", token+"A")
	refused("twice", token+token)
	refused("of another ring", mint(t, other, session()))
	refused("endless", strings.Repeat("A", 1<<20))
	if _, err := k.Redeem(token, now); err != nil {
		t.Error("the token itself:", err)
	}
}

func TestATokenHasItsTime(t *testing.T) {
	k, _ := open(t)
	s := session()
	for _, c := range []struct {
		name           string
		token, session time.Duration
		at             time.Duration
		want           chattoken.Refused
	}{
		{"at once", time.Hour, 3 * time.Hour, 0, ""},
		{"in its last second", time.Hour, 3 * time.Hour, time.Hour - time.Nanosecond, ""},
		{"when it is over", time.Hour, 3 * time.Hour, time.Hour, chattoken.Expired},
		{"when the session is over too", time.Hour, time.Hour, time.Hour, chattoken.SessionOver},
	} {
		s.TokenExpires, s.SessionExpires = now.Add(c.token), now.Add(c.session)
		_, err := k.Redeem(mint(t, k, s), now.Add(c.at))
		var reason chattoken.Refused
		errors.As(err, &reason)
		if reason != c.want || (err != nil) != (c.want != "") {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestRotationFailsNobody(t *testing.T) {
	k, b := open(t)
	ctx, stop := context.WithCancel(t.Context())
	var users sync.WaitGroup
	for range 4 {
		users.Go(func() {
			for ctx.Err() == nil {
				token, err := k.Mint(session())
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := k.Redeem(token, now); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	first := mint(t, k, session())
	for i := range 5 {
		if err := k.Rotate(t.Context(), time.Now().Add(time.Duration(i)*time.Minute)); err != nil {
			t.Fatal(err)
		}
		if _, err := k.Redeem(first, now); err != nil {
			t.Errorf("after rotation %d: %v", i+1, err)
		}
	}
	stop()
	users.Wait()
	if k.Keys() != 6 {
		t.Errorf("%d keys", k.Keys())
	}
	again, err := chattoken.OpenKeyRing(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.Redeem(first, now); err != nil {
		t.Error("after a restart:", err)
	}
	// Four hours on, no token of the old keys can be valid.
	if err := k.Rotate(t.Context(), time.Now().Add(4*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if err := k.Rotate(t.Context(), time.Now().Add(8*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if k.Keys() != 2 {
		t.Errorf("%d keys, want the newest and the one before", k.Keys())
	}
	if _, err := k.Redeem(first, now); !errors.Is(err, ivschat.Unauthorized) {
		t.Error("a dropped key still opens:", err)
	}
	if _, err := again.Redeem(first, now); err != nil {
		t.Error("another node keeps the keys that it knows:", err)
	}
	if err := again.Reload(t.Context()); err != nil || again.Keys() != 2 {
		t.Error(err, again.Keys())
	}
}

func TestNothingPrintsTheSecrets(t *testing.T) {
	k, _ := open(t)
	s := session()
	for _, v := range []any{k, s, &s} {
		for _, f := range []string{"%v", "%+v", "%#v", "%s"} {
			if got := fmt.Sprintf(f, v); strings.Contains(got, "alice") || strings.Contains(got, "AESGCM") || !strings.Contains(got, "sealed") {
				t.Errorf("%s: %s", f, got)
			}
		}
		var b strings.Builder
		slog.New(slog.NewTextHandler(&b, nil)).Info("x", "v", v)
		if strings.Contains(b.String(), "alice") || !strings.Contains(b.String(), "sealed") {
			t.Error(b.String())
		}
	}
}

func FuzzRedeem(f *testing.F) {
	k, _ := open(f)
	f.Add(mint(f, k, session()))
	f.Add("")
	f.Add("AQICAHgm5DC1V25pBVEhXdu--")
	f.Fuzz(func(t *testing.T, token string) {
		s, err := k.Redeem(token, now)
		if (err == nil) == (s.UserID == "") {
			t.Fatalf("%v and a session, or neither", err)
		}
	})
}

func BenchmarkMint(b *testing.B) {
	k, _ := open(b)
	s := session()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.Mint(s); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRedeem(b *testing.B) {
	k, _ := open(b)
	token := mint(b, k, session())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.Redeem(token, now); err != nil {
			b.Fatal(err)
		}
	}
}
