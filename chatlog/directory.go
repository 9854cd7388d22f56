package chatlog

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"hubbub/ivschat"
)

// Directories have chat logs in files of the layout that the services have:
//
//	PATH/<bucket>/<key>                       S3: an object a file
//	PATH/<log group>/<log stream>.log         CloudWatch Logs: a record a line
//	PATH/<delivery stream>.log                Firehose: a record a line
//	PATH/.incoming/                           objects that are being written
//
// PATH is made at the start. It is not made again when it goes: it may be the
// place of a disk that is not there. Source: design interface.md.

// directory is one PATH, with what its destinations share. Its locks are held
// while the disk works: they are there so that two do not write to one name.
type directory struct {
	path string // clean

	placing sync.Mutex // of names
	folders durable    // guarded by placing

	// Of the files with lines, by the hash of their paths: two configurations may
	// write to one.
	seed  maphash.Seed
	files [64]struct {
		sync.Mutex
		durable
	}
}

// openDirectory makes PATH and takes away what a crash left half written.
func openDirectory(path string) (*directory, error) {
	d := &directory{path: filepath.Clean(path), seed: maphash.MakeSeed()}
	if err := os.MkdirAll(d.path, 0o700); err != nil {
		return nil, err
	}
	left, err := os.ReadDir(d.in(incoming))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, l := range left {
		// An hour, for those of another server that is writing here just now.
		if at, err := l.Info(); err == nil && time.Since(at.ModTime()) > time.Hour {
			_ = os.Remove(d.in(incoming, l.Name()))
		}
	}
	return d, nil
}

// in is a place below PATH.
func (d *directory) in(names ...string) string {
	return filepath.Join(append([]string{d.path}, names...)...)
}

// durable are paths whose names are known to be on disk, not only in memory.
type durable map[string]bool

// maxDurable is how many paths are remembered; to forget costs an fsync.
const maxDurable = 1024

func (d *durable) add(path string) {
	if *d == nil || len(*d) >= maxDurable {
		*d = durable{}
	}
	(*d)[path] = true
}

// incoming is the folder of unfinished objects. No bucket, group or stream has
// a name that begins with a dot.
const incoming = ".incoming"

// present is nil if PATH is there and may be written.
func (d *directory) present() error {
	probe, err := os.CreateTemp(d.path, ".probe-*")
	if err != nil {
		return failedFile("write to the folder of logs", err)
	}
	_ = probe.Close()
	_ = os.Remove(probe.Name())
	return nil
}

// makeFolder makes folders below PATH, so that they stay.
func (d *directory) makeFolder(folder string) error {
	if folder == d.path || d.folders[folder] {
		return nil
	}
	parent := filepath.Dir(folder)
	if err := d.makeFolder(parent); err != nil {
		return err
	}
	if err := os.Mkdir(folder, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := syncFolder(parent); err != nil {
		return err
	}
	d.folders.add(folder)
	return nil
}

// inFolder does what needs a folder, and makes the folder if it is not there.
func (d *directory) inFolder(folder string, do func() error) error {
	d.placing.Lock()
	defer d.placing.Unlock()
	if err := d.makeFolder(folder); err != nil {
		return err
	}
	err := do()
	if errors.Is(err, fs.ErrNotExist) { // it was there once, and was removed
		clear(d.folders)
		if err := d.makeFolder(folder); err != nil {
			return err
		}
		err = do()
	}
	return err
}

// folder is a bucket on this machine.
type folder struct {
	at   *directory
	name string // the bucket
}

// put writes the object beside and gives it its name when it is on disk.
func (f *folder) put(_ context.Context, key string, body []byte) error {
	place := f.at.in(fileName(f.name), filepath.FromSlash(key))
	var unfinished *os.File
	err := f.at.inFolder(f.at.in(incoming), func() (err error) {
		unfinished, err = os.CreateTemp(f.at.in(incoming), "object-*")
		return err
	})
	if err != nil {
		return failedFile("write to bucket "+f.name, err)
	}
	_, err = unfinished.Write(body)
	if err == nil {
		err = unfinished.Sync()
	}
	if err = errors.Join(err, unfinished.Close()); err == nil {
		err = f.at.inFolder(filepath.Dir(place), func() error { return rename(unfinished.Name(), place) })
	}
	if err != nil {
		_ = os.Remove(unfinished.Name())
		if errors.Is(err, errTaken) {
			return err
		}
		return failedFile("write to bucket "+f.name, err)
	}
	return nil
}

// rename gives a file a name that is free, for good.
func rename(from, to string) error {
	switch _, err := os.Lstat(to); {
	case err == nil:
		return errTaken
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	if err := syncFolder(filepath.Dir(to)); err != nil {
		return errors.Join(err, os.Remove(to)) // it will come again under another name
	}
	return nil
}

func (f *folder) exists(context.Context) error { return f.at.present() }

// lineFiles is a log group or a delivery stream on this machine.
type lineFiles struct {
	at     *directory
	what   string // for errors: "log group x"
	file   func(room ivschat.ARN) string
	layout Layout
}

func (l *lineFiles) Layout() Layout { return l.layout }

func (l *lineFiles) Put(_ context.Context, entries []Entry) ([]int, int, error) {
	if len(entries) == 0 {
		return nil, 0, nil
	}
	var text bytes.Buffer
	for _, e := range entries {
		text.Write(e.Line)
		text.WriteByte('\n')
	}
	if err := l.at.appendTo(l.at.in(l.file(entries[0].Room)), text.Bytes()); err != nil {
		return every(len(entries)), 0, failedFile("write to "+l.what, err)
	}
	return nil, 0, nil
}

func (l *lineFiles) exists(context.Context) error { return l.at.present() }

func (l *lineFiles) Close() {}

// appendTo puts lines to the end of a file, all or none, and returns when they
// are on disk. A file is open only here: there may be more rooms than a process
// may have files.
func (d *directory) appendTo(path string, text []byte) (err error) {
	at := &d.files[maphash.String(d.seed, path)%uint64(len(d.files))]
	at.Lock()
	defer at.Unlock()
	var file *os.File
	err = d.inFolder(filepath.Dir(path), func() (err error) {
		file, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		return err
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	end, err := wholeLines(file)
	if err != nil {
		return err
	}
	if _, err = file.WriteAt(text, end); err == nil {
		err = file.Sync()
	}
	if err == nil && (end == 0 || !at.durable[path]) {
		if err = syncFolder(filepath.Dir(path)); err == nil {
			at.durable.add(path)
		}
	}
	if err != nil {
		return errors.Join(err, file.Truncate(end))
	}
	return nil
}

// wholeLines is the length of a file in whole lines. What a crash left behind
// the last of them is cut off: its batch was not acknowledged and comes again.
func wholeLines(file *os.File) (int64, error) {
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	tail := make([]byte, 64<<10)
	for end := size; end > 0; {
		begin := max(end-int64(len(tail)), 0)
		if end == size { // in all but one case, the last byte says it
			begin = end - 1
		}
		piece := tail[:end-begin]
		if _, err := file.ReadAt(piece, begin); err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(piece, '\n'); i >= 0 {
			end = begin + int64(i) + 1
			if end < size {
				err = file.Truncate(end)
			}
			return end, err
		}
		end = begin
	}
	if size > 0 {
		err = file.Truncate(0)
	}
	return 0, err
}

// syncFolder makes the names in a folder durable, where the system can.
func syncFolder(path string) error {
	if runtime.GOOS == "windows" { // it has no such call
		return nil
	}
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// maxFileName is how long a name may be, so that it fits into the 255 bytes of
// common file systems with its ending.
const maxFileName = 240

// fileName makes one file name of the name of a bucket, a group or a delivery stream:
// different ones of different names, and none that leads anywhere. What is not a
// letter, a digit or one of "-_." is escaped, a leading dot too; a name that is
// too long ends with its hash.
func fileName(name string) string {
	var b strings.Builder
	for i, c := range []byte(name) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '.' && i > 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	if b.Len() < maxFileName {
		return b.String()
	}
	sum := sha256.Sum256([]byte(name))
	end := "%" + hex.EncodeToString(sum[:16])
	return b.String()[:maxFileName-len(end)] + end
}
