package archive_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hubbub/archive"
	"hubbub/engine"
)

// store is an open store in memory, and what was restored of batches.
type store struct {
	archive.Store
	t       *testing.T
	written int // calls of Written
}

func readers(key string) []string { return strings.Split(key, "_") }

func open(t *testing.T) *store {
	t.Helper()
	e, err := engine.Open(t.Context(), engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close(context.Background()) })
	outbox, err := e.Outbox(t.Context(), engine.OutboxOptions{Readers: readers})
	if err != nil {
		t.Fatal(err)
	}
	s := &store{t: t}
	s.Store = archive.Store{
		Engine: e, Readers: readers,
		Written: func(context.Context) error { s.written++; return nil },
		Restore: func(ctx context.Context, to []string, records int, batch []byte) error {
			return outbox.Append(ctx, strings.Join(to, "_"), records, batch)
		},
	}
	return s
}

func (s *store) put(bucket, key, value string) {
	s.t.Helper()
	b, err := s.Engine.Bucket(s.t.Context(), bucket)
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := b.Create(s.t.Context(), key, []byte(value)); err != nil {
		s.t.Fatal(err)
	}
}

// room puts a room that has a name.
func (s *store) room(id, name string) {
	s.t.Helper()
	arn := "arn:aws:ivschat:us-west-2:123456789012:room/" + id
	s.put(engine.ResourcesBucket, "us-west-2.123456789012.room."+id, fmt.Sprintf(`{"arn":%q,"name":%q}`, arn, name))
}

func (s *store) use(id string, until time.Time) error {
	s.t.Helper()
	once, err := s.Engine.Once(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return once.Use(s.t.Context(), id, until)
}

func (s *store) export(keys bool) (string, archive.Summary) {
	s.t.Helper()
	var b bytes.Buffer
	sum, err := s.Export(s.t.Context(), &b, archive.Header{Version: "v1", Store: "a test"}, keys)
	if err != nil {
		s.t.Fatal(err)
	}
	return b.String(), sum
}

func (s *store) bucket(name string) map[string]string {
	s.t.Helper()
	b, err := s.Engine.Bucket(s.t.Context(), name)
	if err != nil {
		s.t.Fatal(err)
	}
	all := map[string]string{}
	if err := b.Load(s.t.Context(), func(e engine.Entry) error { all[e.Key] = string(e.Value); return nil }); err != nil {
		s.t.Fatal(err)
	}
	return all
}

var soon = time.Now().Add(time.Hour).Truncate(time.Second)

// sample has something of each kind.
func sample(t *testing.T) *store {
	s := open(t)
	s.room("BBBBBBBBBBBB", "b")
	s.room("AAAAAAAAAAAA", "ä <&>  ")
	s.put(engine.KeysBucket, "chat_tokens", `{"keyset":1}`)
	s.put(engine.KeysBucket, "list_cursors", "\x00\xff\n")
	if err := errors.Join(s.use("\x01\xfe", soon), s.use("over", time.Now().Add(-time.Hour)),
		s.Restore(t.Context(), []string{"x", "y"}, 2, []byte("two\n")), s.Restore(t.Context(), []string{"y"}, 1, []byte("one"))); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestWhatWasExportedIsImported(t *testing.T) {
	from, to := sample(t), open(t)
	text, sum := from.export(true)
	if want := (archive.Summary{Keys: 2, Resources: 2, UsedTokens: 1, LogBatches: 2, LogRecords: 3, Checksum: sum.Checksum}); sum != want {
		t.Errorf("exported %+v, want %+v", sum, want)
	}
	for range 2 { // again
		result, err := to.Import(t.Context(), strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if result.Summary != sum {
			t.Errorf("imported %+v, want %+v", result.Summary, sum)
		}
		for _, bucket := range []string{engine.KeysBucket, engine.ResourcesBucket} {
			if diff := cmp.Diff(from.bucket(bucket), to.bucket(bucket)); diff != "" {
				t.Errorf("%s (-from +to):\n%s", bucket, diff)
			}
		}
		if err := to.use("\x01\xfe", soon); !errors.Is(err, engine.ErrUsed) {
			t.Errorf("a used token can be used: %v", err)
		}
		again, sumAgain := to.export(true)
		_, body, _ := strings.Cut(text, "\n")
		_, bodyAgain, _ := strings.Cut(again, "\n")
		if lines := strings.SplitAfter(body, "\n"); !strings.HasPrefix(bodyAgain, strings.Join(lines[:len(lines)-2], "")) || sumAgain != sum {
			t.Errorf("exported again it is another:\n%s\nwas\n%s", bodyAgain, body)
		}
	}
	if to.written != 4 {
		t.Errorf("Written was called %d times, want 2 for each import", to.written)
	}
	result, err := to.Import(t.Context(), strings.NewReader(text))
	if all := sum.Keys + sum.Resources + sum.UsedTokens + sum.LogBatches; err != nil || result.There != all {
		t.Errorf("of the third import %d were there before, want %d: %v", result.There, all, err)
	}
}

// The checksum of the resources depends on them alone.
func TestTheChecksumIsOfTheResources(t *testing.T) {
	a, b := sample(t), open(t)
	b.room("CCCCCCCCCCCC", "c")
	b.room("AAAAAAAAAAAA", "ä <&>  ")
	b.room("BBBBBBBBBBBB", "b")
	_, one := a.export(true)
	if _, other := b.export(true); other.Checksum == one.Checksum {
		t.Error("other resources have the same checksum")
	}
	resources, err := b.Engine.Bucket(t.Context(), engine.ResourcesBucket)
	if err != nil {
		t.Fatal(err)
	}
	c, err := resources.Get(t.Context(), "us-west-2.123456789012.room.CCCCCCCCCCCC")
	if err == nil {
		err = resources.Delete(t.Context(), c.Key, c.Revision)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, other := b.export(false); other.Checksum != one.Checksum || other.Resources != 2 {
		t.Errorf("the same resources have another checksum: %v, %v", other, one)
	}
}

// Whatever is done to an export, it is refused and nothing of it is imported.
func TestADamagedExportIsRefused(t *testing.T) {
	text, _ := sample(t).export(true)
	lines := strings.SplitAfter(strings.TrimSuffix(text, "\n"), "\n")
	with := func(i int, change func(string) string) string {
		l := slices.Clone(lines)
		l[i] = change(l[i])
		return strings.Join(l, "")
	}
	damaged := map[string]string{
		"nothing":           "",
		"something else":    "hello\n",
		"JSON":              "{}\n",
		"a later format":    strings.Replace(text, `"format":1`, `"format":2`, 1),
		"more behind":       text + lines[1],
		"two of them":       text + text,
		"the end twice":     text + lines[len(lines)-1],
		"another order":     strings.Join(slices.Concat(lines[:1], lines[3:5], lines[1:3], lines[5:]), ""),
		"an unknown kind":   with(2, func(s string) string { return strings.Replace(s, `"key"`, `"kay"`, 1) }),
		"an unknown member": with(2, func(s string) string { return strings.Replace(s, `"secret"`, `"sacred"`, 1) }),
		"a line too long":   with(2, func(s string) string { return `{"kind":"` + strings.Repeat("x", 3<<20) + `"}` + "\n" }),
	}
	for i := range lines {
		damaged[fmt.Sprint("cut off after line ", i)] = strings.Join(lines[:i], "")
		damaged[fmt.Sprint("without line ", i)] = with(i, func(string) string { return "" })
		if i > 0 {
			damaged[fmt.Sprint("line twice ", i)] = with(i, func(s string) string { return strings.TrimSuffix(s, "\n") + "\n" + s })
		}
		for at := range len(lines[i]) - 1 {
			damaged[fmt.Sprint("another byte in line ", i, " at ", at)] = with(i, func(s string) string { return s[:at] + string(s[at]^1) + s[at+1:] })
		}
	}
	for n := range len(text) - 2 { // the last line feed does not matter
		damaged[fmt.Sprint("cut off after byte ", n)] = text[:n]
	}
	for what, text := range damaged {
		if _, _, err := archive.Read(strings.NewReader(text), nil); err == nil {
			t.Errorf("%s: it is taken for whole", what)
		}
	}
	if _, _, err := archive.Read(strings.NewReader(strings.TrimSuffix(text, "\n")), nil); err != nil {
		t.Errorf("without the last line feed: %v", err)
	}
}

// Only what is empty gets an import, but for what a server makes by itself.
func TestOnlyAnEmptyServiceIsImportedInto(t *testing.T) {
	text, sum := sample(t).export(true)
	without, _ := sample(t).export(false)
	const key = "us-west-2.123456789012.room."
	for _, c := range []struct {
		name string
		text string
		has  func(*store)
		want string // of the error; "" if it is imported
	}{
		{"a room of its own", text, func(s *store) { s.room("CCCCCCCCCCCC", "c") }, "the service has the resource " + key + "CCCCCCCCCCCC, which is not in the export"},
		{"a room with another value", text, func(s *store) { s.room("AAAAAAAAAAAA", "other") }, "the service has the resource " + key + "AAAAAAAAAAAA with another value"},
		{"a room of the export, and other keys", text, func(s *store) { s.room("BBBBBBBBBBBB", "b"); s.put(engine.KeysBucket, "chat_tokens", "other") }, "the service has the key chat_tokens with another value"},
		{"a room of the export", text, func(s *store) { s.room("BBBBBBBBBBBB", "b") }, ""},
		{"keys of its own", text, func(s *store) { s.put(engine.KeysBucket, "chat_tokens", "other") }, ""},
		{"a room that it made by itself", text, func(s *store) { s.room("CCCCCCCCCCCC", "dev"); s.Own = map[string]bool{key + "CCCCCCCCCCCC": true} }, ""},
		{"a room that it made by itself, and another", text, func(s *store) {
			s.room("CCCCCCCCCCCC", "dev")
			s.room("DDDDDDDDDDDD", "d")
			s.Own = map[string]bool{key + "CCCCCCCCCCCC": true}
		}, "the service has the resource " + key + "DDDDDDDDDDDD, which is not in the export"},
		{"keys of its own, and none come", without, func(s *store) { s.put(engine.KeysBucket, "chat_tokens", "other") }, ""},
	} {
		s := open(t)
		c.has(s)
		before := s.bucket(engine.ResourcesBucket)
		keys := s.bucket(engine.KeysBucket)
		result, err := s.Import(t.Context(), strings.NewReader(c.text))
		if c.want == "" {
			if err != nil || result.Checksum != sum.Checksum {
				t.Errorf("%s: %v, %v", c.name, result, err)
			}
			if c.text == without {
				if diff := cmp.Diff(keys, s.bucket(engine.KeysBucket)); diff != "" {
					t.Errorf("%s: keys are changed:\n%s", c.name, diff)
				}
			}
			continue
		}
		if !errors.Is(err, archive.ErrNotEmpty) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
		if !maps.Equal(before, s.bucket(engine.ResourcesBucket)) || !maps.Equal(keys, s.bucket(engine.KeysBucket)) || s.use("\x01\xfe", soon) != nil {
			t.Errorf("%s: something was written", c.name)
		}
	}
}

// A record that no server could read is not written.
func TestAResourceThatCannotBeReadIsRefused(t *testing.T) {
	from, to := open(t), open(t)
	from.put(engine.ResourcesBucket, "us-west-2.123456789012.room.AAAAAAAAAAAA", `{"arn":"another"}`)
	text, _ := from.export(true)
	if _, err := to.Import(t.Context(), strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), "AAAAAAAAAAAA") {
		t.Errorf("got %v", err)
	}
	if n := len(to.bucket(engine.ResourcesBucket)); n != 0 {
		t.Errorf("%d resources were written", n)
	}
}

// An import that ends in the middle is repeated.
func TestAnInterruptedImportIsRepeated(t *testing.T) {
	from := sample(t)
	for n := range 300 {
		from.room(fmt.Sprintf("%012d", n), "r")
	}
	text, sum := from.export(true)
	to := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	written := to.Written
	to.Written = func(context.Context) error { // keys are written
		resources, err := to.Engine.Bucket(ctx, engine.ResourcesBucket)
		if err != nil {
			return err
		}
		_, err = resources.Follow(ctx, func(engine.Change) error { return nil })
		cancel()
		return err
	}
	if _, err := to.Import(ctx, strings.NewReader(text)); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "import the same again") {
		t.Fatalf("got %v, want the end of the context and what to do", err)
	}
	to.Written = written
	to.room(fmt.Sprintf("%012d", 7), "r") // was written before it ended
	result, err := to.Import(t.Context(), strings.NewReader(text))
	if err != nil || result.Summary != sum || result.There < 4 {
		t.Errorf("repeated: %+v, %v; want %+v", result, err, sum)
	}
}

// What goes wrong in the middle of an export is told by its last line.
func TestAnExportThatFailsSaysWhy(t *testing.T) {
	s := sample(t)
	s.put(engine.ResourcesBucket, "us-west-2.123456789012.room.ZZZZZZZZZZZZ", "no JSON")
	var b bytes.Buffer
	_, err := s.Export(t.Context(), &b, archive.Header{}, true)
	if err == nil {
		t.Fatal("it did not fail")
	}
	if _, _, read := archive.Read(&b, nil); read == nil || read.Error() != err.Error() {
		t.Errorf("it reads %v, want %v", read, err)
	}
	if strings.Contains(err.Error(), "no JSON") {
		t.Errorf("the error has content: %v", err)
	}
}

func TestTokensThatAreUsedAreInHex(t *testing.T) {
	text, _ := sample(t).export(false)
	if want := `"id":"` + hex.EncodeToString([]byte("\x01\xfe")) + `"`; !strings.Contains(text, want) || strings.Contains(text, hex.EncodeToString([]byte("over"))) {
		t.Errorf("the export does not have %s alone:\n%s", want, text)
	}
}
