package chatlog

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"hubbub/ivschat"
)

// Reader reads logs back: sorted by SendTime, each record once, whatever was
// written more than once or out of order.
//
// Objects of the S3 layout are read hour by hour, the rooms of an hour together,
// and an hour's records are handed out when the next one has been read. All other
// files are read first, whole. The records that wait for their turn take 64 MiB
// of memory, and what is more goes to a temporary file; the list of the files
// takes some 200 bytes for each of them.
type Reader struct {
	Room string             // of this room only: an id or an ARN; "" = all
	User string             // messages of this user, and the ends of their connections; "" = all
	Type ivschat.RecordType // "" = both
	From time.Time          // sent then or later; zero = from the first
	To   time.Time          // sent before; zero = to the last

	// WithoutDeleted leaves out messages that an aws:DELETE_MESSAGE event of their
	// room names; events are looked for beyond To as well, and for all users. Messages
	// of users who were disconnected stay. Nothing is handed out before all is read.
	WithoutDeleted bool

	// KeepDuplicates hands out records with the Id of one that came before. They
	// are told apart by room, too; a record whose room is not known is a copy of any
	// with its Id. The last 200,000 records at least are remembered: copies have the
	// same SendTime and follow one another.
	KeepDuplicates bool

	// Report is told, never twice at once, what could not be read. nil = nobody.
	Report func(Problem)

	memory int // for tests; 0 = sortMemory
}

// Problem is something in a source that could not be read.
type Problem struct {
	File string
	Line int // from 1; 0 if it is the file as such
	What string
}

func (p Problem) String() string {
	if p.Line == 0 {
		return Printable(p.File + ": " + p.What)
	}
	return fmt.Sprintf("%s:%d: %s", Printable(p.File), p.Line, Printable(p.What))
}

const (
	sortMemory = 64 << 20
	// drift is how far records may lie beyond the hour of their folder: it is not
	// documented where AWS puts a batch that began before the hour.
	drift      = 10 * time.Minute
	openFiles  = 8        // read at the same time
	maxWhole   = 16 << 20 // of gzip, in memory
	maxReports = 100      // of lines of one file, and of foreign files; the rest is counted
)

// Each hands out the records of the sources; the line is good until each returns.
// It returns how many problems were reported, and the error that ended it early:
// that of each, of the temporary file, of the context.
func (r *Reader) Each(ctx context.Context, sources []Source, each func(*Line) error) (problems int, err error) {
	want, err := r.choice()
	if err != nil {
		return 0, err
	}
	g := &reading{Reader: r, want: want, sorter: sorter{limit: sortMemory}, deleted: map[copyKey]bool{}}
	if r.memory > 0 {
		g.sorter.limit = r.memory
	}
	defer g.sorter.close()
	groups, err := g.find(ctx, sources)
	if err != nil {
		return g.problems, err
	}
	for i, group := range groups {
		if err := g.readAll(ctx, group); err != nil {
			return g.problems, err
		}
		if i+1 < len(groups) && !r.WithoutDeleted {
			// What is read next has nothing that is older than this.
			if err := g.sorter.drain(groups[i+1][0].hour.Add(-drift), g.handOut(each)); err != nil {
				return g.problems, err
			}
		}
	}
	return g.problems, g.sorter.drain(time.Time{}, g.handOut(each))
}

// choice is which files and records are wanted.
type choice struct {
	*Reader
	scope ivschat.Scope // of Room, zero if that is an id
	id    string
}

func (r *Reader) choice() (*choice, error) {
	c := &choice{Reader: r, id: r.Room}
	if name, ok := ivschat.ARN(r.Room).Parse(); ok && name.Type == ivschat.RoomType {
		c.scope, c.id = name.Scope, name.ID
	} else if strings.ContainsFunc(r.Room, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-'
	}) {
		return nil, fmt.Errorf("%q is no room; write its ARN, or the id behind the slash of that", r.Room)
	}
	return c, nil
}

// room says whether a room is wanted; a scope that is not known fits all.
func (c *choice) room(scope ivschat.Scope, id string) bool {
	return c.id == "" || id == c.id && (c.scope == (ivschat.Scope{}) || scope == (ivschat.Scope{}) || scope == c.scope)
}

// file says whether a file may have wanted records. One that does not tell its
// room may, so that somebody says so.
func (c *choice) file(f *logFile) bool {
	if f.room != "" && !c.room(f.scope, f.room) {
		return false
	}
	if f.hour.IsZero() {
		return true
	}
	early := !c.From.IsZero() && !f.hour.Add(time.Hour+drift).After(c.From)
	return !early && !c.past(f)
}

// past says whether a file, and all of its room that come after, are too late.
func (c *choice) past(f *logFile) bool {
	return !f.hour.IsZero() && !c.To.IsZero() && !c.WithoutDeleted && !f.hour.Add(-drift).Before(c.To)
}

// firstHour is the first that may have wanted records, or zero.
func (c *choice) firstHour() time.Time {
	if c.From.IsZero() {
		return time.Time{}
	}
	return c.From.UTC().Add(-drift).Truncate(time.Hour)
}

func (c *choice) line(l *Line) bool {
	return (c.From.IsZero() || !l.SendTime.Before(c.From)) && (c.To.IsZero() || l.SendTime.Before(c.To)) &&
		(c.Type == "" || l.Type == c.Type) && (c.User == "" || l.concerns(c.User))
}

// reading is one call of Each.
type reading struct {
	*Reader
	want *choice

	mu       sync.Mutex // guards the rest while files are read
	sorter   sorter
	deleted  map[copyKey]bool
	problems int
	files    int // that were read

	seen [2]map[copyKey]bool // records handed out; the second are older
}

// find lists the sources: first the files of unknown hours, then those of each hour.
func (g *reading) find(ctx context.Context, sources []Source) (groups [][]logFile, err error) {
	var files []logFile
	strangers := 0
	var last Problem
	for _, s := range sources {
		err := s.find(ctx, g.want, func(f logFile) { files = append(files, f) }, func(name, why string) {
			if strangers++; strangers <= maxReports {
				g.report(Problem{File: name, What: why})
				return
			}
			last = Problem{File: name, What: why}
		})
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			g.report(Problem{File: s.String(), What: "cannot be read: " + reason(err)})
		}
	}
	if more := strangers - maxReports; more > 0 {
		g.report(Problem{File: last.File, What: fmt.Sprintf("and %d files before it that are not named here: %s", more-1, last.What)})
	}
	slices.SortStableFunc(files, func(a, b logFile) int { return a.hour.Compare(b.hour) })
	for len(files) > 0 {
		n := slices.IndexFunc(files, func(f logFile) bool { return !f.hour.Equal(files[0].hour) })
		if n < 0 {
			n = len(files)
		}
		groups, files = append(groups, files[:n]), files[n:]
	}
	return groups, nil
}

func (g *reading) report(p Problem) {
	g.problems++
	if g.Report != nil {
		g.Report(p)
	}
}

// readAll reads files, some at a time, and reports what was wrong with them in
// their order.
func (g *reading) readAll(ctx context.Context, files []logFile) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	problems, errs := make([][]Problem, len(files)), make([]error, len(files))
	next := make(chan int)
	var readers sync.WaitGroup
	for range min(openFiles, len(files)) {
		readers.Go(func() {
			for i := range next {
				if problems[i], errs[i] = g.read(ctx, g.files+i, &files[i]); errs[i] != nil {
					cancel()
				}
			}
		})
	}
	for i := range files {
		next <- i
	}
	close(next)
	readers.Wait()
	g.files += len(files)
	for _, of := range problems {
		for _, p := range of {
			g.report(p)
		}
	}
	// The first that is not just the echo of another's.
	for _, err := range errs {
		if err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
	}
	return errors.Join(errs...)
}

// read takes the lines of a file to the sorter. Its error ends everything; what
// is wrong with the file is a problem.
func (g *reading) read(ctx context.Context, index int, f *logFile) (problems []Problem, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	say := func(line int, what string) { problems = append(problems, Problem{f.name, line, what}) }
	if g.Room != "" && f.room == "" {
		say(0, "does not say which room its records are of; it was left out, since a room was asked for")
		return problems, nil
	}
	in, err := f.open(ctx)
	if err != nil {
		say(0, "cannot be read: "+reason(err))
		return problems, ctx.Err()
	}
	defer in.Close()

	number, bad, late := 0, 0, 0
	damaged := func(what string) {
		if bad++; bad <= maxReports {
			say(number, what)
		}
	}
	err = lines(in, func(text []byte, wrong error) error {
		if number++; wrong != nil {
			damaged(wrong.Error())
			return nil
		}
		if len(bytes.TrimSpace(text)) == 0 {
			return nil
		}
		line, err := ParseLine(bytes.Clone(text))
		if err != nil {
			damaged(err.Error())
			return nil
		}
		line.Room, line.file, line.number = f.room, index, number
		out, err := g.add(line)
		if out {
			if late++; late == 1 {
				say(number, "was sent long before the hour of its folder and comes out of order, as may others of this file")
			}
		}
		return err
	}, func(what string) {
		number++ // the line that did not come
		damaged(what)
	})
	if more := bad - maxReports; more > 0 {
		say(0, fmt.Sprintf("has %d more such lines", more))
	}
	return problems, errors.Join(err, ctx.Err())
}

// add takes a line to the sorter if it is wanted, and remembers what it deletes.
func (g *reading) add(l Line) (late bool, err error) {
	deletes := ""
	if g.WithoutDeleted {
		deletes = l.deletes()
	}
	wanted := g.want.line(&l)
	if deletes == "" && !wanted {
		return false, nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if deletes != "" {
		g.deleted[copyKeyOf(l.Room, deletes)] = true
		g.deleted[copyKeyOf(anyRoom, deletes)] = true
	}
	if !wanted {
		return false, nil
	}
	return g.sorter.add(l)
}

// copyKey stands for an id in a room, in less memory. Two are the same by chance
// once in 2^64 pairs of records and more.
type copyKey [16]byte

// anyRoom is a room that has the ids of all rooms; no id of a room has a slash.
const anyRoom = "/"

func copyKeyOf(room, id string) copyKey {
	sum := sha256.Sum256([]byte(room + "\x00" + id))
	return copyKey(sum[:])
}

// in says whether an id of a room is in a set; what has no room is in every room.
func in(set map[copyKey]bool, room, id string) bool {
	if room == "" {
		return set[copyKeyOf(anyRoom, id)]
	}
	return set[copyKeyOf(room, id)] || set[copyKeyOf("", id)]
}

// maxSeen is when the older half of the remembered records is forgotten; each
// takes two keys.
const maxSeen = 400_000

// handOut leaves out what was deleted or has been there before.
func (g *reading) handOut(each func(*Line) error) func(*Line) error {
	return func(l *Line) error {
		if g.WithoutDeleted && l.Type == ivschat.MessageRecord && in(g.deleted, l.Room, l.ID) {
			return nil
		}
		if g.KeepDuplicates {
			return each(l)
		}
		if in(g.seen[0], l.Room, l.ID) || in(g.seen[1], l.Room, l.ID) {
			return nil
		}
		if g.seen[0] == nil || len(g.seen[0]) >= maxSeen {
			g.seen[1], g.seen[0] = g.seen[0], make(map[copyKey]bool)
		}
		g.seen[0][copyKeyOf(l.Room, l.ID)], g.seen[0][copyKeyOf(anyRoom, l.ID)] = true, true
		return each(l)
	}
}

// gzipMagic begins every member; 8 is the only method there is.
var gzipMagic = []byte{0x1f, 0x8b, 8}

// lines hands out the lines of a file, gzip or not, whatever its name says: those
// that are too long as an error. wrong is told why the file ends before its end;
// only an error of each is returned.
func lines(in io.Reader, each func(text []byte, wrong error) error, wrong func(what string)) error {
	buffered := bufio.NewReaderSize(in, 64<<10)
	if magic, _ := buffered.Peek(len(gzipMagic)); !bytes.Equal(magic, gzipMagic) {
		s := scanner{each: each}
		return s.all(buffered, func(err error) { wrong("cannot be read to its end: " + reason(err)) })
	}
	start, err := io.ReadAll(io.LimitReader(buffered, maxWhole))
	if err != nil {
		wrong("cannot be read to its end: " + reason(err))
	}
	if len(start) < maxWhole {
		return members(start, each, wrong)
	}
	// Too big to come back to: a damaged member ends it.
	s := scanner{each: each}
	z, err := gzip.NewReader(io.MultiReader(bytes.NewReader(start), buffered))
	if err != nil {
		wrong(gzipReason(err))
		return nil
	}
	return s.all(z, func(err error) { wrong(gzipReason(err) + "; what follows is lost") })
}

// members reads concatenated gzip members. One that is damaged is read as far as
// possible, and the next one is looked for.
func members(b []byte, each func(text []byte, wrong error) error, wrong func(what string)) error {
	s := scanner{each: each}
	z := new(gzip.Reader)
	for at := 0; at < len(b); {
		rest := bytes.NewReader(b[at:])
		broken := error(gzip.ErrHeader)
		if at == 0 || bytes.HasPrefix(b[at:], gzipMagic) {
			broken = z.Reset(rest)
		}
		if broken == nil {
			z.Multistream(false)
			if err := s.feed(z, func(err error) { broken = err }); err != nil {
				return err
			}
		}
		if broken == nil {
			at = len(b) - rest.Len()
			continue
		}
		if err := s.end(true); err != nil { // what is whole of the last line
			return err
		}
		next := nextMember(b[at+1:])
		if next < 0 {
			wrong(gzipReason(broken))
			return nil
		}
		wrong(gzipReason(broken) + "; another member follows")
		at += 1 + next
	}
	return s.end(false)
}

// nextMember is where a member with records begins, or -1. The magic bytes may
// stand in compressed text too: a record begins with a brace.
func nextMember(b []byte) int {
	for at := 0; ; at++ {
		i := bytes.Index(b[at:], gzipMagic)
		if i < 0 {
			return -1
		}
		at += i
		if z, err := gzip.NewReader(bytes.NewReader(b[at:])); err == nil {
			var first [1]byte
			if _, err := io.ReadFull(z, first[:]); err == nil && first[0] == '{' {
				return at
			}
		}
	}
}

func gzipReason(err error) string {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "the gzip stream is cut off here"
	case errors.Is(err, gzip.ErrHeader):
		return "something that is not gzip follows here"
	case errors.Is(err, gzip.ErrChecksum):
		return "the gzip checksum is wrong: lines above may be damaged"
	}
	return "the gzip stream is damaged here: " + err.Error()
}

// scanner cuts text into lines. A line may go on from one feed to the next.
type scanner struct {
	each func(text []byte, wrong error) error
	part []byte // of a line that has not ended
	skip bool   // the line was too long, its rest is passed over
}

// all reads to the end.
func (s *scanner) all(in io.Reader, broken func(error)) error {
	cut := false
	err := s.feed(in, func(err error) { cut = true; broken(err) })
	if err != nil {
		return err
	}
	return s.end(cut)
}

// feed reads in to its end, or to an error, which goes to broken.
func (s *scanner) feed(in io.Reader, broken func(error)) error {
	buffer := make([]byte, 64<<10)
	for {
		n, err := in.Read(buffer)
		for text := buffer[:n]; len(text) > 0; {
			piece, rest, ended := bytes.Cut(text, []byte{'\n'})
			text = rest
			if err := s.take(piece, ended); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			broken(err)
			return nil
		}
	}
}

func (s *scanner) take(piece []byte, ended bool) error {
	if !s.skip {
		s.part = append(s.part, piece...)
		if len(s.part) > maxLine {
			s.skip, s.part = true, nil
			if err := s.each(nil, errTooLong); err != nil {
				return err
			}
		}
	}
	if !ended {
		return nil
	}
	text, skipped := s.part, s.skip
	s.part, s.skip = s.part[:0], false
	if skipped {
		return nil
	}
	return s.each(bytes.TrimSuffix(text, []byte{'\r'}), nil)
}

// end hands out what is behind the last end of line. If the stream was cut off,
// that is nothing unless it is a whole record: the cut is reported anyway.
func (s *scanner) end(cut bool) error {
	text := s.part
	s.part, s.skip = nil, false
	if len(text) == 0 {
		return nil
	}
	if cut {
		if _, err := ParseLine(text); err != nil {
			return nil
		}
	}
	return s.each(text, nil)
}
