package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Options say where the store is. The zero value is a store in memory.
type Options struct {
	// Dir is the data folder, made with mode 0700 if it is not there; "" keeps
	// everything in memory and nothing after Close.
	Dir string

	// MaxBytes bounds the store; 0 means what it has and nine tenths of the space
	// that is free at the start.
	MaxBytes int64

	// Log takes what NATS has to say; nil discards it.
	Log *slog.Logger
}

// Engine is an open store. Its methods may be called from many goroutines.
type Engine struct {
	log     *slog.Logger
	storage jetstream.StorageType
	folder  *folder // nil in memory
	temp    string  // to be removed at the end; "" on disk
	limit   int64   // the most bytes that the store takes

	server  *server.Server
	conn    *nats.Conn
	js      jetstream.JetStream
	guard   *guard
	checked bool // what was recovered is what guard knew of

	pretended atomic.Int64 // space on the disk, for tests; negative = what it has

	mu     sync.Mutex
	once   *Once
	outbox *Outbox
}

// Open starts the store and checks it. The error says what is wrong with the
// folder and what to do about it.
func Open(ctx context.Context, o Options) (*Engine, error) {
	e := &Engine{log: o.Log, storage: jetstream.MemoryStorage}
	e.pretended.Store(-1)
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	if err := e.open(ctx, o); err != nil {
		return nil, errors.Join(err, e.Close(context.WithoutCancel(ctx)))
	}
	return e, nil
}

func (e *Engine) open(ctx context.Context, o Options) error {
	storeDir := ""
	if o.Dir != "" {
		f, err := openFolder(o.Dir)
		if err != nil {
			return err
		}
		e.folder, e.storage, storeDir = f, jetstream.FileStorage, f.store
	} else {
		temp, err := os.MkdirTemp("", "hubbub-")
		if err != nil {
			return fmt.Errorf("make a temporary folder: %w", err)
		}
		e.temp, storeDir = temp, temp
	}
	free := freeBytes(storeDir)
	if free <= minFree {
		return fmt.Errorf("the disk of %s is full: %d bytes are free; make room and start again", storeDir, free)
	}
	if e.folder != nil {
		var err error
		if e.guard, err = openGuard(e.folder.path); err != nil {
			return e.damaged(err.Error())
		}
		if err := e.guard.checkBlocks(ctx, storeDir); err != nil {
			return e.damaged(err.Error())
		}
	}
	logger := &serverLog{log: e.log}
	e.limit = o.MaxBytes
	if e.limit == 0 {
		e.limit = usedBytes(storeDir) + free/10*9
	}
	if e.storage == jetstream.MemoryStorage {
		e.limit = max(e.limit, 64<<20)
	}
	s, err := server.NewServer(&server.Options{
		ServerName: "hubbub", DontListen: true, NoSigs: true, NoLog: false,
		JetStream: true, StoreDir: storeDir, SyncAlways: true, DisableJetStreamBanner: true,
		JetStreamMaxStore: e.limit, JetStreamMaxMemory: max(e.limit, 64<<20),
	})
	if err != nil {
		return fmt.Errorf("start the embedded store: %w", err)
	}
	s.SetLoggerV2(logger, false, false, false)
	// Over some kinds of damage NATS never comes to an end.
	started := make(chan struct{})
	go func() { defer close(started); s.Start() }()
	timer := time.NewTimer(startTimeout)
	defer timer.Stop()
	select {
	case <-started:
	case <-timer.C:
		return e.damaged(fmt.Sprintf("it could not be recovered within %v: %s", startTimeout, logger.last()))
	}
	e.server = s
	if !s.ReadyForConnections(writeTimeout) || !s.JetStreamEnabled() {
		return e.damaged(fmt.Sprintf("the embedded store did not start: %s", logger.last()))
	}
	e.conn, err = nats.Connect("", nats.InProcessServer(s), nats.MaxReconnects(-1), nats.Name("hubbub"))
	if err != nil {
		return fmt.Errorf("connect to the embedded store: %w", err)
	}
	if e.js, err = jetstream.New(e.conn, jetstream.WithDefaultTimeout(writeTimeout)); err != nil {
		return fmt.Errorf("connect to the embedded store: %w", err)
	}
	if e.folder == nil {
		return nil
	}
	if err := e.check(ctx, logger); err != nil {
		return e.damaged(err.Error())
	}
	e.checked = true
	e.guard.run()
	return nil
}

// damaged words the refusal to start on a store that lost something, or that
// cannot be written.
func (e *Engine) damaged(what string) error {
	switch {
	case e.folder == nil:
		return errors.New(what)
	case freeBytes(e.folder.path) <= minFree:
		return fmt.Errorf("the disk of %s is full: %s; make room and start again", e.folder.path, what)
	}
	return fmt.Errorf("the store in %s is damaged: %s; restore the folder from a backup, or start with an empty one (--data)", e.folder.path, what)
}

// startTimeout bounds the recovery of a store. A million rooms take seconds.
var startTimeout = 2 * time.Minute

// usedBytes is what the files of a folder have.
func usedBytes(folder string) (sum int64) {
	_ = filepath.WalkDir(folder, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				sum += info.Size()
			}
		}
		return nil
	})
	return sum
}

// minFree is the least free space to start and to write with: less is used up by
// the first block of a stream.
const minFree = 1 << 20

// room refuses a write of so many bytes to a disk that is full, so that NATS does
// not see it: after a write that the disk did not take, a stream takes none until
// the process ends, also when there is room again. minFree is for what NATS
// writes by itself. What others take of the disk in the instant between is not
// helped. Source: nats-server v2.15.2, server/filestore.go, setWriteErr.
func (e *Engine) room(bytes int) error {
	if e.folder == nil {
		return nil
	}
	if free := e.free(); free < minFree+int64(bytes) {
		return fmt.Errorf("the disk of %s is full: %d bytes are free; make room", e.folder.path, free)
	}
	return nil
}

// free is the space on the disk of the store.
func (e *Engine) free() int64 {
	if free := e.pretended.Load(); free >= 0 {
		return free
	}
	return freeBytes(e.folder.store)
}

// Close ends the store; what was written stays. It is safe to call it twice.
func (e *Engine) Close(ctx context.Context) error {
	e.mu.Lock()
	once, outbox := e.once, e.outbox
	e.once, e.outbox = nil, nil
	e.mu.Unlock()
	if outbox != nil {
		outbox.close()
	}
	if once != nil {
		once.close()
	}
	var err error
	if e.guard != nil {
		if e.checked {
			err = e.noteLast()
		}
		err = errors.Join(err, e.guard.close())
		e.guard = nil
	}
	if e.conn != nil {
		e.conn.Close()
		e.conn = nil
	}
	if e.server != nil {
		e.server.Shutdown()
		e.server.WaitForShutdown()
		e.server = nil
	}
	if e.folder != nil {
		e.folder.close()
	}
	if e.temp != "" {
		err = errors.Join(err, os.RemoveAll(e.temp))
	}
	return err
}

// Health is nil, or why the store cannot be written.
func (e *Engine) Health(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if _, err := e.js.AccountInfo(ctx); err != nil {
		return fmt.Errorf("the store does not answer: %w", err)
	}
	return nil
}

// folder is a data folder held by this process.
type folder struct {
	path  string // as given
	store string // what NATS owns, below path
	lock  *os.File
}

// marker says what kind of store a folder has. A store that ran standalone must
// never be started in cluster mode, where the server deletes its streams.
const marker = "hubbub standalone store, format 1\n"

// What is in the data folder: the marker, and what NATS owns.
const (
	modeFile    = "MODE"
	storeFolder = "standalone"
)

// Exists says whether a folder has a store, of whatever kind and condition.
func Exists(path string) bool {
	for _, name := range []string{modeFile, storeFolder} {
		if _, err := os.Stat(filepath.Join(path, name)); err == nil {
			return true
		}
	}
	return false
}

func openFolder(path string) (_ *folder, err error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("make the data folder: %w; name a folder that can be written (--data)", err)
	}
	f := &folder{path: path, store: filepath.Join(path, storeFolder)}
	if f.lock, err = lock(filepath.Join(path, "LOCK")); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.close()
		}
	}()
	clusters, err := filepath.Glob(filepath.Join(path, "cluster-*"))
	if err != nil {
		return nil, err
	}
	if len(clusters) > 0 {
		return nil, fmt.Errorf("%s belongs to a cluster (%s); a standalone server needs a folder of its own (--data)", path, filepath.Base(clusters[0]))
	}
	name := filepath.Join(path, modeFile)
	switch have, err := os.ReadFile(name); {
	case errors.Is(err, os.ErrNotExist):
		if entries, err := os.ReadDir(f.store); err == nil && len(entries) > 0 {
			return nil, fmt.Errorf("the store in %s is damaged: it has data but no MODE file; restore the folder from a backup, or start with an empty one (--data)", path)
		}
		if err := os.WriteFile(name, []byte(marker), 0o600); err != nil {
			return nil, fmt.Errorf("write to the data folder: %w; name a folder that can be written (--data)", err)
		}
	case err != nil:
		return nil, fmt.Errorf("read the data folder: %w", err)
	case string(have) != marker:
		return nil, fmt.Errorf("%s is not a store that this version can open: its MODE file says %q, expected %q", path, have, marker)
	}
	if err := os.MkdirAll(f.store, 0o700); err != nil {
		return nil, fmt.Errorf("make the store's folder: %w", err)
	}
	return f, nil
}

func (f *folder) close() {
	if f.lock != nil {
		_ = f.lock.Close() // ends the lock
		f.lock = nil
	}
}
