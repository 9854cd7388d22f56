package archive

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Kind is what a line of an archive is about.
type Kind string

// The kinds of records. KindHeader, kindEnd and kindError are no records of a store.
const (
	KindUsedToken Kind = "used_token" // what engine.Once remembers
	KindKey       Kind = "key"        // of engine.KeysBucket: a secret
	KindResource  Kind = "resource"   // of engine.ResourcesBucket
	KindLogBatch  Kind = "log_batch"  // of the outbox, not delivered yet

	kindHeader Kind = "header"
	kindEnd    Kind = "end"
	kindError  Kind = "error" // in place of the end: the store could not be read
)

// order is that of the kinds in an archive.
var order = []Kind{kindHeader, KindUsedToken, KindKey, KindResource, KindLogBatch, kindEnd}

// Header is the first line.
type Header struct {
	Kind    Kind      `json:"kind"`
	Format  int       `json:"format"`
	Version string    `json:"version"` // of the program that wrote it
	Store   string    `json:"store"`   // what it was read from, for people
	Time    time.Time `json:"time"`
}

const format = 1

// Record is a line with something of the store; which members it has is a matter of
// its kind. It has secrets: print its Kind and Key alone.
type Record struct {
	Kind    Kind           `json:"kind"`
	Key     string         `json:"key,omitzero"`     // of a key or resource
	Value   jsontext.Value `json:"value,omitzero"`   // of a resource
	Secret  []byte         `json:"secret,omitzero"`  // value of a key
	ID      string         `json:"id,omitzero"`      // of a used token, in hex
	Until   time.Time      `json:"until,omitzero"`   // when it may be forgotten
	Readers []string       `json:"readers,omitzero"` // of a batch: whom it is to be delivered to
	Records int            `json:"records,omitzero"` // in it
	Data    []byte         `json:"data,omitzero"`
}

// Summary is how much of each kind there is, and the checksum of the resources.
type Summary struct {
	Keys       int    `json:"keys"`
	Resources  int    `json:"resources"`
	UsedTokens int    `json:"used_tokens"`
	LogBatches int    `json:"log_batches"`
	LogRecords int    `json:"log_records"`
	Checksum   string `json:"resources_sha256"`
}

func (s Summary) String() string {
	return fmt.Sprintf("resources: %d, sha256 %s\nkeys: %d\nused chat tokens: %d\nundelivered chat-log records: %d",
		s.Resources, s.Checksum, s.Keys, s.UsedTokens, s.LogRecords)
}

// end is the last line.
type end struct {
	Kind Kind `json:"kind"`
	Summary
	SHA256 string `json:"sha256"` // of all lines before
}

// failure is the last line of an archive that could not be finished.
type failure struct {
	Kind Kind   `json:"kind"`
	What string `json:"what"`
}

// tally counts lines and sums them up.
type tally struct {
	Summary
	all, resources hash.Hash
}

func newTally() *tally { return &tally{all: sha256.New(), resources: sha256.New()} }

// add takes a line in, with its line feed.
func (t *tally) add(k Kind, records int, line []byte) {
	t.all.Write(line)
	switch k {
	case KindKey:
		t.Keys++
	case KindResource:
		t.Resources++
		t.resources.Write(line)
	case KindUsedToken:
		t.UsedTokens++
	case KindLogBatch:
		t.LogBatches++
		t.LogRecords += records
	}
}

func (t *tally) end() end {
	t.Checksum = hex.EncodeToString(t.resources.Sum(nil))
	return end{kindEnd, t.Summary, hex.EncodeToString(t.all.Sum(nil))}
}

// lineOf is a line of an archive.
func lineOf(v any) ([]byte, error) {
	line, err := json.Marshal(v, jsontext.PreserveRawStrings(true))
	return append(line, '\n'), err
}

// writer writes an archive.
type writer struct {
	to    *bufio.Writer
	tally *tally
}

func newWriter(to io.Writer, h Header) (*writer, error) {
	w := &writer{bufio.NewWriterSize(to, 64<<10), newTally()}
	h.Kind, h.Format = kindHeader, format
	return w, w.line(h.Kind, 0, h)
}

func (w *writer) line(k Kind, records int, v any) error {
	line, err := lineOf(v)
	if err != nil {
		return err
	}
	w.tally.add(k, records, line)
	_, err = w.to.Write(line)
	return err
}

func (w *writer) record(r Record) error {
	if err := w.line(r.Kind, r.Records, r); err != nil {
		return fmt.Errorf("export the %s %s: %w", r.Kind, r.Key, err)
	}
	return nil
}

func (w *writer) close() (Summary, error) {
	e := w.tally.end()
	line, err := lineOf(e)
	if err != nil {
		return Summary{}, err
	}
	if _, err := w.to.Write(line); err != nil {
		return Summary{}, err
	}
	return e.Summary, w.to.Flush()
}

// fail ends the archive with why it could not be finished, which Read returns.
func (w *writer) fail(why error) error {
	line, err := lineOf(failure{kindError, why.Error()})
	if err == nil {
		if _, err = w.to.Write(line); err == nil {
			err = w.to.Flush()
		}
	}
	return errors.Join(why, err)
}

// maxLine is more than the longest line: a batch of 1 MiB in base64.
const maxLine = 2 << 20

// Read hands every record of an archive to each, which may be nil, in order. The
// archive is whole and as it was written if, and not before, Read returns nil.
func Read(from io.Reader, each func(Record) error) (Header, Summary, error) {
	lines := bufio.NewScanner(from)
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	t, n, at := newTally(), 0, 0
	var h Header
	var last end
	for lines.Scan() {
		n++
		if last.Kind != "" {
			return h, Summary{}, fmt.Errorf("line %d: there is more behind the last line of the export: it was altered", n)
		}
		line := append(lines.Bytes(), '\n') // over the one that was there
		var r struct {
			Kind Kind `json:"kind"`
		}
		if err := json.Unmarshal(line, &r); err != nil {
			if n == 1 {
				return h, Summary{}, errNoExport
			}
			return h, Summary{}, fmt.Errorf("line %d cannot be read: %w", n, errDamaged)
		}
		if n == 1 {
			if err := json.Unmarshal(line, &h); err != nil || h.Kind != kindHeader {
				return h, Summary{}, errNoExport
			}
			if h.Format != format {
				return h, Summary{}, fmt.Errorf("it has format %d, and this program reads format %d: import it with a version like the one that wrote it, %s", h.Format, format, h.Version)
			}
			t.add(kindHeader, 0, line)
			continue
		}
		switch r.Kind {
		case kindError:
			var f failure
			if err := json.Unmarshal(line, &f); err != nil {
				return h, Summary{}, fmt.Errorf("line %d cannot be read: %w", n, errDamaged)
			}
			return h, Summary{}, errors.New(f.What)
		case kindEnd:
			if err := json.Unmarshal(line, &last); err != nil {
				return h, Summary{}, fmt.Errorf("line %d cannot be read: %w", n, errDamaged)
			}
			continue
		}
		rank := slices.Index(order, r.Kind)
		var record Record
		if err := json.Unmarshal(line, &record, json.RejectUnknownMembers(true)); err != nil || rank < max(at, 1) {
			return h, Summary{}, fmt.Errorf("line %d is no record of an export: %w", n, errDamaged)
		}
		at = rank
		t.add(record.Kind, record.Records, line)
		if each != nil {
			record.Value = record.Value.Clone() // the line is overwritten
			if err := each(record); err != nil {
				return h, Summary{}, err
			}
		}
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return h, Summary{}, fmt.Errorf("line %d has more than %d bytes: %w", n+1, maxLine, errDamaged)
	case err != nil:
		return h, Summary{}, err
	case n == 0:
		return h, Summary{}, errNoExport
	case last.Kind == "":
		return h, Summary{}, fmt.Errorf("it ends after line %d without the line that has the checksum: %w", n, errDamaged)
	}
	if is := t.end(); is != last {
		return h, Summary{}, fmt.Errorf("its checksum is %s, and its last line says %s: %w", is.SHA256, last.SHA256, errDamaged)
	}
	return h, last.Summary, nil
}

var (
	errDamaged  = errors.New("the export was cut off, altered or damaged; export again, or take another copy")
	errNoExport = errors.New("it is no export of Hubbub: `hubbub export FILE` makes one")
)
