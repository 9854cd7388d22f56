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

	// Cluster makes the store a member of a cluster; nil is one that stands alone.
	// Dir is then for what the member keeps, and must not be "".
	Cluster *Cluster

	// External uses the NATS of somebody else instead of a server of its own; with
	// it neither MaxBytes nor Cluster count, and Dir has nothing of the store, and must
	// not have that of another kind of server. nil is none.
	External *External

	// Log takes what NATS has to say; nil discards it.
	Log *slog.Logger

	// Failed is called, at most once, if the store of a node must be opened anew to go
	// on; nil does nothing.
	Failed func(error)

	// Now is the clock that other nodes are told and used keys are forgotten by; nil
	// is time.Now.
	Now func() time.Time
}

// Engine is an open store. Its methods may be called from many goroutines.
type Engine struct {
	log     *slog.Logger
	now     func() time.Time
	storage jetstream.StorageType
	folder  *folder // nil in memory
	claimed *folder // the same with an external NATS, which has the store; else nil
	temp    string  // to be removed at the end; "" on disk
	limit   int64   // the most bytes that the store takes

	replicas int            // of each stream
	node     string         // of the cluster; "" alone
	nodes    int            // of the cluster; 0 if not known
	bus      *Bus           // nil alone
	server   *server.Server // nil if it is external
	token    string         // what a client of it must show; "" alone
	conn     *nats.Conn
	js       jetstream.JetStream
	guard    *guard
	checked  bool // what was recovered is what guard knew of

	denied    atomic.Pointer[error] // what an external NATS did not allow first
	pretended atomic.Int64          // space on the disk, for tests; negative = what it has

	stop context.CancelFunc // ends what runs; nil if nothing does
	done sync.WaitGroup

	mu     sync.Mutex
	once   *Once
	outbox *Outbox

	inherited []*Outbox // of nodes that are gone
}

// Open starts the store and checks it. The error says what is wrong with the
// folder and what to do about it.
func Open(ctx context.Context, o Options) (*Engine, error) {
	e := &Engine{log: o.Log, now: o.Now, storage: jetstream.MemoryStorage, replicas: 1}
	e.pretended.Store(-1)
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	if e.now == nil {
		e.now = time.Now
	}
	open := e.open
	if o.External != nil {
		open = e.connect
	}
	if err := open(ctx, o); err != nil {
		return nil, errors.Join(err, e.Close(context.WithoutCancel(ctx)))
	}
	return e, nil
}

func (e *Engine) open(ctx context.Context, o Options) error {
	mode := standalone
	if c := o.Cluster; c != nil {
		if err := c.check(); err != nil {
			return err
		}
		if o.Dir == "" {
			return errors.New("a node of a cluster needs a data folder: what it has acknowledged must be there after its end")
		}
		mode, e.replicas, e.node, e.nodes = clustered(c.Name, c.Node), Least, c.Node, len(c.Peers)
	}
	storeDir := ""
	if o.Dir != "" {
		f, err := openFolder(o.Dir, mode)
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
	if e.folder != nil && o.Cluster == nil {
		var err error
		if e.guard, err = openGuard(e.folder.path); err != nil {
			return e.damaged(err.Error())
		}
	}
	if e.folder != nil {
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
	options := &server.Options{
		ServerName: "hubbub", DontListen: true, NoSigs: true, NoLog: false,
		JetStream: true, StoreDir: storeDir, SyncAlways: true, DisableJetStreamBanner: true,
		JetStreamMaxStore: e.limit, JetStreamMaxMemory: max(e.limit, 64<<20),
	}
	if o.Cluster != nil {
		if err := scout(ctx, o, e.now, logger); err != nil {
			return err
		}
		if err := o.Cluster.route(options, logger.refused); err != nil {
			return err
		}
	}
	e.token = options.Authorization
	s, err := server.NewServer(options)
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
	if !s.ReadyForConnections(writeTimeout) || s.JetStreamEnabled() != options.JetStream {
		return e.damaged(fmt.Sprintf("the embedded store did not start: %s", logger.last()))
	}
	e.conn, err = nats.Connect("", e.connection(o)...)
	if err != nil {
		return fmt.Errorf("connect to the embedded store: %w", err)
	}
	if e.js, err = jetstream.New(e.conn, jetstream.WithDefaultTimeout(writeTimeout)); err != nil {
		return fmt.Errorf("connect to the embedded store: %w", err)
	}
	if o.Cluster != nil {
		if err := e.join(ctx, o, logger); err != nil {
			return err
		}
		running, stop := context.WithCancel(context.Background())
		e.stop = stop
		if o.Failed == nil {
			o.Failed = func(error) {}
		}
		e.done.Go(func() { e.watchStore(running, o.Failed) })
		return nil
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

// url is where the store is reached; "" in the process.
func (e *Engine) url(o Options) string {
	if o.External != nil {
		return o.External.URL
	}
	return ""
}

// connection says how the store is reached.
func (e *Engine) connection(o Options) []nats.Option {
	options := []nats.Option{nats.MaxReconnects(-1), nats.ReconnectWait(reconnectPause), nats.Name("hubbub " + e.node)}
	switch {
	case o.External == nil:
		return append(options, nats.InProcessServer(e.server), nats.Token(e.token))
	case o.External.Credentials != "":
		options = append(options, nats.UserCredentials(o.External.Credentials))
	}
	if o.External.TLS != nil {
		options = append(options, nats.Secure(o.External.TLS))
	}
	return append(options,
		nats.PingInterval(routePing), nats.MaxPingsOutstanding(routePingsOut), // a server may vanish without a word
		nats.IgnoreAuthErrorAbort(), // the credentials may be renewed
		nats.ErrorHandler(e.heed),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				e.log.Warn("NATS is gone", "err", err)
			}
		}),
		nats.ReconnectHandler(func(c *nats.Conn) { e.log.Info("NATS is back", "at", c.ConnectedAddr()) }))
}

// makeStream opens a stream, and makes it if it is not there; what is there stays
// as it is. Of the nodes of a cluster one makes it, the first by name of those that
// are alive: two that do so at once may both wait in vain for an answer. One that
// is the node's own is made by it.
func (e *Engine) makeStream(ctx context.Context, c jetstream.StreamConfig, own bool) (jetstream.Stream, error) {
	c.Storage, c.Replicas = e.storage, e.replicas
	if e.bus == nil {
		stream, err := e.js.Stream(ctx, c.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			stream, err = e.js.CreateStream(ctx, c)
		}
		return stream, err
	}
	began := time.Now()
	tell := began.Add(waiting)
	try := func(do func(context.Context) (jetstream.Stream, error)) (jetstream.Stream, error) {
		ctx, cancel := context.WithTimeout(ctx, streamTry)
		defer cancel()
		return do(ctx)
	}
	for {
		// One that has no leader yet does not answer at all, and has one in a moment.
		stream, err := try(func(ctx context.Context) (stream jetstream.Stream, err error) {
			err = e.tries(ctx, func(ctx context.Context) (err error) {
				stream, err = e.js.Stream(ctx, c.Name)
				return err
			})
			return stream, err
		})
		if err == nil && stream.CachedInfo().Cluster != nil && stream.CachedInfo().Cluster.Leader != "" {
			return stream, nil
		}
		if errors.Is(err, jetstream.ErrStreamNotFound) && (own || e.bus.first() || time.Since(began) > streamPatience) {
			if _, err = try(func(ctx context.Context) (jetstream.Stream, error) { return e.js.CreateStream(ctx, c) }); err == nil {
				continue
			}
		}
		if e.server == nil && (never(err) || e.refused() != nil) {
			return nil, fmt.Errorf("NATS does not make the stream %s with %d replicas: %w; raise the limits of the account, or let its user do everything (cluster.nats.credentials)",
				c.Name, c.Replicas, errors.Join(e.refused(), err))
		}
		if now := time.Now(); now.After(tell) {
			tell = now.Add(waiting)
			e.log.Warn("waiting for a stream", "stream", c.Name, "replicas", c.Replicas, "err", err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("open stream %s: %w", c.Name, errors.Join(err, ctx.Err()))
		case <-time.After(streamPause):
		}
	}
}

// A stream of a cluster has a leader a moment after it was made.
const (
	streamTry      = 2 * time.Second
	streamPause    = 25 * time.Millisecond
	streamPatience = 3 * time.Second // with the node that should make it
)

// Bus is the bus to the other nodes; nil of a store that stands alone.
func (e *Engine) Bus() *Bus { return e.bus }

// damaged words the refusal to start on a store that lost something, or that
// cannot be written.
func (e *Engine) damaged(what string) error {
	switch {
	case e.folder == nil:
		return errors.New(what)
	case freeBytes(e.folder.path) <= minFree:
		return fmt.Errorf("the disk of %s is full: %s; make room and start again", e.folder.path, what)
	}
	if e.node != "" {
		return fmt.Errorf("the store in %s is damaged: %s; remove the folder and start again: the other nodes have all that was in it", e.folder.path, what)
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

// Abandon ends all that waits for the store, which does nothing more: for the end
// of a node whose others went before it.
func (e *Engine) Abandon() { e.conn.Close() }

// Close ends the store; what was written stays. A node of a cluster tells the
// others, and hands over what it leads, so that nothing waits for an election of
// seconds; until ctx ends it waits for those that end as well, see Bus.Ending. It is
// safe to call it twice.
func (e *Engine) Close(ctx context.Context) error {
	e.mu.Lock()
	once, outbox, inherited := e.once, e.outbox, e.inherited
	e.once, e.outbox, e.inherited = nil, nil, nil
	e.mu.Unlock()
	for _, o := range inherited {
		o.close()
	}
	if outbox != nil {
		outbox.close()
	}
	if once != nil {
		once.close()
	}
	if e.bus != nil {
		e.bus.leave(ctx)
		e.bus.close()
		e.bus = nil
	}
	if e.stop != nil {
		e.stop()
		e.done.Wait()
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
		if e.nodes > 0 {
			e.server.LameDuckShutdown() // within a second, if it leads anything
		}
		e.server.Shutdown()
		e.server.WaitForShutdown()
		e.server = nil
	}
	for _, f := range []*folder{e.folder, e.claimed} {
		if f != nil {
			f.close()
		}
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

// mode is what kind of store a folder has. A store that ran standalone must never
// be started in cluster mode, where the server deletes its streams as orphans, so
// each kind has a folder of its own and a file that says which it is.
type mode struct {
	folder string // what NATS owns, below the data folder
	marker string // what the file says
	what   string // for people
}

var standalone = mode{"standalone", "hubbub standalone store, format 1\n", "a standalone server"}

// external is for what a server keeps besides the store, which NATS has.
var external = mode{"", "hubbub server on an external NATS, format 1\n", "a server on an external NATS"}

func clustered(cluster, node string) mode {
	return mode{
		"cluster-" + cluster, fmt.Sprintf("hubbub cluster %s node %s store, format 1\n", cluster, node),
		fmt.Sprintf("node %s of cluster %s", node, cluster),
	}
}

// modeFile is in the data folder and says what kind of store that has.
const modeFile = "MODE"

// Exists says whether a folder has a store, of whatever kind and condition.
func Exists(path string) bool {
	for _, name := range []string{modeFile, standalone.folder} {
		if _, err := os.Stat(filepath.Join(path, name)); err == nil {
			return true
		}
	}
	return false
}

// NodeOf says, for people, which node of a cluster or of an external NATS a data
// folder belongs to; "" if to none.
func NodeOf(path string) string {
	marker, _ := os.ReadFile(filepath.Join(path, modeFile)) // without one it is of none
	if string(marker) == external.marker {
		return external.what
	}
	if cluster, node, ok := clusterIn(string(marker)); ok {
		return clustered(cluster, node).what
	}
	return ""
}

func clusterIn(marker string) (cluster, node string, ok bool) {
	_, err := fmt.Sscanf(marker, "hubbub cluster %s node %s store, format 1\n", &cluster, &node)
	return cluster, node, err == nil
}

func openFolder(path string, m mode) (_ *folder, err error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("make the data folder: %w; name a folder that can be written (--data)", err)
	}
	f := &folder{path: path, store: filepath.Join(path, m.folder)}
	if f.lock, err = lock(filepath.Join(path, "LOCK")); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.close()
		}
	}()
	// Whatever the file says: a standalone server has nothing of the kind.
	if clusters, err := fs.Glob(os.DirFS(path), "cluster-*"); err != nil {
		return nil, err
	} else if len(clusters) > 0 && m == standalone {
		return nil, fmt.Errorf("%s belongs to a cluster (%s); a standalone server needs a folder of its own (--data), and gets what the cluster has with `hubbub migrate`", path, clusters[0])
	}
	name := filepath.Join(path, modeFile)
	switch have, err := os.ReadFile(name); {
	case errors.Is(err, os.ErrNotExist):
		for _, store := range []string{"standalone", "cluster-*"} {
			found, err := fs.Glob(os.DirFS(path), store+"/*")
			if err != nil {
				return nil, err
			}
			if len(found) > 0 {
				return nil, fmt.Errorf("the store in %s is damaged: it has data but no MODE file; restore the folder from a backup, or start with an empty one (--data)", path)
			}
		}
		if err := os.WriteFile(name, []byte(m.marker), 0o600); err != nil {
			return nil, fmt.Errorf("write to the data folder: %w; name a folder that can be written (--data)", err)
		}
	case err != nil:
		return nil, fmt.Errorf("read the data folder: %w", err)
	case string(have) != m.marker:
		return nil, m.refuses(path, string(have))
	}
	if err := os.MkdirAll(f.store, 0o700); err != nil {
		return nil, fmt.Errorf("make the store's folder: %w", err)
	}
	return f, nil
}

// refuses says why a folder with another marker cannot be used, and what to do.
func (m mode) refuses(path, have string) error {
	cluster, node, ofCluster := clusterIn(have)
	switch {
	case have == standalone.marker:
		return fmt.Errorf("%s has the store of a standalone server, and this is to be %s: copy it with `hubbub migrate`, or name an empty folder (--data)", path, m.what)
	case have == external.marker && m == standalone:
		return fmt.Errorf("%s is the folder of %s; a standalone server needs a folder of its own (--data), and gets what the cluster has with `hubbub migrate`", path, external.what)
	case have == external.marker || ofCluster && m == external:
		what := external.what
		if ofCluster {
			what = clustered(cluster, node).what
		}
		return fmt.Errorf("%s is the folder of %s, and this is to be %s: name a folder of its own (--data)", path, what, m.what)
	case ofCluster && m == standalone:
		return fmt.Errorf("%s has the store of %s; a standalone server needs a folder of its own (--data), and gets what the cluster has with `hubbub migrate`", path, clustered(cluster, node).what)
	case ofCluster:
		return fmt.Errorf("%s has the store of %s, and this is to be %s: name the folder of that node, or an empty one (--data)", path, clustered(cluster, node).what, m.what)
	}
	return fmt.Errorf("%s is not a store that this version can open: its MODE file says %q, expected %q", path, have, m.marker)
}

func (f *folder) close() {
	if f.lock != nil {
		_ = f.lock.Close() // ends the lock
		f.lock = nil
	}
}
