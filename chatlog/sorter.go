package chatlog

import (
	"bufio"
	"cmp"
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"
)

// sorter brings lines into the order of their times in a bounded memory: what
// is more than limit goes, sorted, to a temporary file as a run, and the runs are
// merged on the way out. The file has no name as soon as it is open, where the
// system allows that, so that nothing of a chat is left behind.
type sorter struct {
	limit int // bytes of memory

	lines   []Line
	held    int // bytes of lines, roughly
	drained time.Time

	temporary *os.File // nil until it is needed
	end       int64
	runs      runs
}

// lineOverhead is what a Line costs besides its text and the strings parsed from it.
const lineOverhead = 320

// before is the order of lines: by time; at one time those whose room is known
// first, so that of two copies the better one is kept; then as they stood.
func before(a, b *Line) int {
	unknown := func(l *Line) int {
		if l.Room == "" {
			return 1
		}
		return 0
	}
	return cmp.Or(a.SendTime.Compare(b.SendTime), unknown(a)-unknown(b), a.file-b.file, a.number-b.number)
}

// add takes a line. late says that its turn has passed: it comes with the next
// drain, behind later ones.
func (s *sorter) add(l Line) (late bool, err error) {
	s.lines = append(s.lines, l)
	s.held += 2*len(l.Text) + lineOverhead
	if s.held >= s.limit {
		err = s.spill()
	}
	return l.SendTime.Before(s.drained), err
}

func (s *sorter) sort() {
	slices.SortFunc(s.lines, func(a, b Line) int { return before(&a, &b) })
}

// spill writes the lines in memory as a run.
func (s *sorter) spill() error {
	s.sort()
	if s.temporary == nil {
		f, err := os.CreateTemp("", "hubbub-logs-*")
		if err != nil {
			return fmt.Errorf("make a temporary file for sorting: %w", err)
		}
		s.temporary = f
		_ = os.Remove(f.Name()) // not on every system; close does it there
	}
	w := bufio.NewWriterSize(io.NewOffsetWriter(s.temporary, s.end), 256<<10)
	var size int64
	var head []byte
	for i := range s.lines {
		l := &s.lines[i]
		head = binary.AppendUvarint(head[:0], uint64(l.file))
		head = binary.AppendUvarint(head, uint64(l.number))
		head = binary.AppendUvarint(head, uint64(len(l.Room)))
		head = append(head, l.Room...)
		head = binary.AppendUvarint(head, uint64(len(l.Text)))
		_, _ = w.Write(head) // Flush has the error
		_, _ = w.Write(l.Text)
		size += int64(len(head) + len(l.Text))
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write a temporary file for sorting (its folder is $TMPDIR): %w", err)
	}
	r := &run{in: bufio.NewReaderSize(io.NewSectionReader(s.temporary, s.end, size), 16<<10)}
	if err := r.next(); err != nil {
		return err
	}
	s.end += size
	heap.Push(&s.runs, r)
	clear(s.lines)
	s.lines, s.held = s.lines[:0], 0
	return nil
}

// drain hands out, in order, what is before a time, or everything for the zero time.
func (s *sorter) drain(until time.Time, yield func(*Line) error) error {
	s.sort()
	done := func(l *Line) bool { return !until.IsZero() && !l.SendTime.Before(until) }
	i := 0
	for {
		var from *run
		var next *Line
		if i < len(s.lines) {
			next = &s.lines[i]
		}
		if len(s.runs) > 0 && (next == nil || before(&s.runs[0].head, next) < 0) {
			from = s.runs[0]
			next = &from.head
		}
		if next == nil || done(next) {
			break
		}
		if err := yield(next); err != nil {
			return err
		}
		if from == nil {
			s.held -= 2*len(next.Text) + lineOverhead
			i++
			continue
		}
		switch err := from.next(); {
		case errors.Is(err, io.EOF):
			heap.Pop(&s.runs)
		case err != nil:
			return err
		default:
			heap.Fix(&s.runs, 0)
		}
	}
	s.lines = slices.Delete(s.lines, 0, i)
	if len(s.runs) == 0 {
		s.end = 0 // the file is written from its begin again
	}
	s.drained = until
	return nil
}

func (s *sorter) close() {
	if s.temporary != nil {
		_ = s.temporary.Close()
		_ = os.Remove(s.temporary.Name())
	}
}

// run is a sorted part of the temporary file.
type run struct {
	in   *bufio.Reader
	head Line
}

// next reads the next line to head; io.EOF is the end of the run.
func (r *run) next() error {
	file, err := binary.ReadUvarint(r.in)
	if errors.Is(err, io.EOF) {
		return io.EOF
	}
	number, err1 := binary.ReadUvarint(r.in)
	room, err2 := r.bytes()
	text, err3 := r.bytes()
	if err := errors.Join(err, err1, err2, err3); err != nil {
		return fmt.Errorf("read a temporary file of sorting: %w", err)
	}
	if r.head, err = ParseLine(text); err != nil {
		return fmt.Errorf("read a temporary file of sorting: %w", err)
	}
	r.head.file, r.head.number, r.head.Room = int(file), int(number), string(room)
	return nil
}

func (r *run) bytes() ([]byte, error) {
	n, err := binary.ReadUvarint(r.in)
	if err != nil {
		return nil, err
	}
	if n > maxLine {
		return nil, errTooLong
	}
	b := make([]byte, n)
	_, err = io.ReadFull(r.in, b)
	return b, err
}

// runs is a heap by the heads.
type runs []*run

func (r runs) Len() int           { return len(r) }
func (r runs) Less(i, j int) bool { return before(&r[i].head, &r[j].head) < 0 }
func (r runs) Swap(i, j int)      { r[i], r[j] = r[j], r[i] }
func (r *runs) Push(x any)        { *r = append(*r, x.(*run)) }
func (r *runs) Pop() any {
	last := (*r)[len(*r)-1]
	*r = (*r)[:len(*r)-1]
	return last
}
