package hubbub

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"hubbub/archive"
	"hubbub/chatlog"
	"hubbub/engine"
	"hubbub/ivschat"
	"hubbub/registry"
)

// Place is where a service's data are, for commands: in the data folder of a
// server that stands alone and does not run, or with a server that runs on the
// folder and is asked.
type Place struct {
	Data    string // folder
	Cluster bool   // its configuration is that of a node of a cluster
}

// Moved is what an export, import or migration came to.
type Moved = archive.Result

// find is the server that runs there, nil if none does. It fails if there is
// nothing to be had or put in without one.
func (p Place) find(ctx context.Context) (*running, error) {
	if p.Data == Memory {
		return nil, errors.New("a server with data :memory: keeps nothing that could be moved; name a folder with --data FOLDER")
	}
	server, err := findRunning(ctx, p.Data)
	if err != nil || server != nil {
		return server, err
	}
	if node := engine.NodeOf(p.Data); node != "" {
		return nil, fmt.Errorf("%s is the folder of %s, and no server runs on it: start the cluster, since what it has is with its nodes together", p.Data, node)
	}
	if p.Cluster {
		return nil, fmt.Errorf("the configuration is that of a node of a cluster, and no server runs on its folder %s: start the cluster, and run this beside one of its nodes", p.Data)
	}
	return nil, nil
}

// hasStore says whether a server that stands alone ever ran there.
func (p Place) hasStore() error {
	if _, err := os.Stat(p.Data); err != nil {
		return fmt.Errorf("there is no data folder %s: %w; name that of the server with --data FOLDER or --config FILE", p.Data, unwrapPath(err))
	}
	if !engine.Exists(p.Data) {
		return fmt.Errorf("there is no store in %s; name the data folder of the server with --data FOLDER or --config FILE", p.Data)
	}
	return nil
}

// Export writes what the service has, with its keys or without: what a server says
// that runs there, or what is in the folder. What was written is good if, and not
// before, Export returns nil.
func Export(ctx context.Context, from Place, to io.Writer, keys bool) (Moved, error) {
	server, err := from.find(ctx)
	if err != nil {
		return Moved{}, err
	}
	if server == nil {
		e, shut, err := from.open(ctx)
		if err != nil {
			return Moved{}, err
		}
		sum, err := stored(e).Export(ctx, to, header("a standalone server"), keys)
		return Moved{Summary: sum}, errors.Join(err, shut())
	}
	response, err := server.ask(ctx, http.MethodGet, exportPath+"?keys="+strconv.FormatBool(keys), nil)
	if err != nil {
		return Moved{}, err
	}
	defer response.Body.Close()
	_, sum, err := archive.Read(io.TeeReader(response.Body, to), nil)
	return Moved{Summary: sum}, err
}

// open opens the folder of a server that stands alone, which must be there.
func (p Place) open(ctx context.Context) (*engine.Engine, func() error, error) {
	if err := p.hasStore(); err != nil {
		return nil, nil, err
	}
	return openStored(ctx, p.Data)
}

// stored is the store of a server that does not run.
func stored(e *engine.Engine) archive.Store {
	var outbox *engine.Outbox // opened when it is needed
	return archive.Store{
		Engine: e, Readers: chatlog.Readers,
		Written: func(context.Context) error { return nil },
		Restore: func(ctx context.Context, readers []string, records int, batch []byte) (err error) {
			if outbox == nil {
				if outbox, err = e.Outbox(ctx, engine.OutboxOptions{Readers: chatlog.Readers}); err != nil {
					return err
				}
			}
			key, err := chatlog.Key(readers)
			if err != nil {
				return err
			}
			return outbox.Append(ctx, key, records, batch)
		},
	}
}

func header(store string) archive.Header {
	return archive.Header{Version: BuildVersion().String(), Store: store, Time: time.Now().UTC()}
}

// Import puts an export into a service that has nothing: a cluster, by a node that
// runs there, or a folder of a server that stands alone, which is made if it is not
// there. The export is checked before anything is written.
func Import(ctx context.Context, to Place, from io.ReadSeeker) (Moved, error) {
	server, err := to.find(ctx)
	if err != nil {
		return Moved{}, err
	}
	if server != nil && !server.Cluster {
		return Moved{}, errRunsAlone(to.Data)
	}
	if _, _, err := archive.Read(from, nil); err != nil {
		return Moved{}, err
	}
	if _, err := from.Seek(0, io.SeekStart); err != nil {
		return Moved{}, err
	}
	if server == nil {
		e, shut, err := openStored(ctx, to.Data)
		if err != nil {
			return Moved{}, err
		}
		result, err := stored(e).Import(ctx, from)
		return result, errors.Join(err, shut())
	}
	response, err := server.ask(ctx, http.MethodPost, importPath, struct{ io.Reader }{from}) // not to be closed
	if err != nil {
		return Moved{}, err
	}
	defer response.Body.Close()
	var result Moved
	if err := json.UnmarshalRead(response.Body, &result); err != nil {
		return Moved{}, fmt.Errorf("the running server's answer cannot be read: %w", err)
	}
	return result, nil
}

func errRunsAlone(data string) error {
	return fmt.Errorf("a server that stands alone runs on %s, and has in memory what the folder has: stop it first", data)
}

// Migrate moves everything from one service to another that has nothing: Export and
// Import in one. The source is a folder of a server that stands alone and does not
// run, which is held until the end, or a cluster, to which nobody may write
// meanwhile: it is read again at the end, and Migrate fails if there is anything
// new.
func Migrate(ctx context.Context, from, to Place) (Moved, error) {
	server, err := from.find(ctx)
	if err != nil {
		return Moved{}, err
	}
	if x, err := os.Stat(from.Data); err == nil {
		if y, err := os.Stat(to.Data); err == nil && os.SameFile(x, y) {
			return Moved{}, fmt.Errorf("%s is both where to move from and where to: name the old folder with --from and the new one with --data or --config", from.Data)
		}
	}
	if server != nil && !server.Cluster {
		return Moved{}, errRunsAlone(from.Data)
	}
	file, err := TempFile(to.Data, from.Data)
	if err != nil {
		return Moved{}, err
	}
	defer os.Remove(file.Name()) // where it was not while it is open
	defer file.Close()
	export := func(to io.Writer) error {
		_, err := Export(ctx, from, to, true)
		return err
	}
	if server == nil {
		e, shut, err := from.open(ctx)
		if err != nil {
			return Moved{}, err
		}
		defer func() { _ = shut() }() // nothing was written to it
		export = func(to io.Writer) error {
			_, err := stored(e).Export(ctx, to, header("a standalone server"), true)
			return err
		}
	}
	if err := export(file); err != nil {
		return Moved{}, err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return Moved{}, err
	}
	result, err := Import(ctx, to, file)
	if err != nil || server == nil {
		return result, err
	}
	return result, nothingNew(file, export)
}

// TempFile is an empty file that nobody else can read, gone when it is closed: in the
// folder for temporary files or, if there is none, as in the image of a container, in
// the first of the others that can be written to.
func TempFile(folders ...string) (*os.File, error) {
	f, err := os.CreateTemp("", ".hubbub-*") // mode 0600
	for _, folder := range folders {
		if err == nil {
			break
		}
		if other, otherErr := os.CreateTemp(folder, ".hubbub-*"); otherErr == nil {
			f, err = other, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("a temporary file cannot be made: %w; name a folder for it in TMPDIR", err)
	}
	_ = os.Remove(f.Name()) // nobody else needs its name
	return f, nil
}

// nothingNew is nil if a second export has nothing that the first has not, and the
// same keys and resources. Tokens that expired and records that were delivered
// meanwhile are no difference.
func nothingNew(first io.ReadSeeker, again func(io.Writer) error) error {
	if _, err := first.Seek(0, io.SeekStart); err != nil {
		return err
	}
	had := map[[sha256.Size]byte]bool{}
	identity := func(r archive.Record) [sha256.Size]byte {
		r.Until, r.Readers = time.Time{}, nil // of what has another identity
		text, err := json.Marshal(r)
		if err != nil {
			panic(err) // it was read
		}
		return sha256.Sum256(text)
	}
	_, before, err := archive.Read(first, func(r archive.Record) error {
		had[identity(r)] = true
		return nil
	})
	if err != nil {
		return err
	}
	reading, writing := io.Pipe()
	go func() { writing.CloseWithError(again(writing)) }()
	defer reading.Close()
	_, after, err := archive.Read(reading, func(r archive.Record) error {
		if !had[identity(r)] {
			return errWrittenTo
		}
		return nil
	})
	if err == nil && (before.Checksum != after.Checksum || before.Keys != after.Keys) {
		err = errWrittenTo
	}
	return err
}

var errWrittenTo = errors.New("the cluster that everything was moved from was written to meanwhile, and what was is not in the new service: keep everybody away from it, empty the new service, and migrate again")

const (
	exportPath = "/export"
	importPath = "/import"
)

// archive is the running server's store.
func (s *Server) archive() archive.Store {
	return archive.Store{
		Engine: s.store, Readers: chatlog.Readers,
		Written: func(ctx context.Context) error {
			return errors.Join(s.reloadKeys(ctx), s.tellKeys(ctx), s.registry.Sync(ctx))
		},
		Restore: s.logs.Load().Restore,
	}
}

// storeName is what the store is, for people.
func (s *Server) storeName() string {
	switch c := s.config.Cluster; {
	case c == nil:
		return "a standalone server"
	case c.NATS.URL != "":
		return "NATS, by node " + c.Node
	default:
		return "cluster " + c.Name + ", by node " + c.Node
	}
}

func (s *Server) serveExport(w http.ResponseWriter, r *http.Request) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // it ends the request otherwise
	if err := s.registry.Sync(r.Context()); err != nil {           // it would wait for ever
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/jsonl")
	sum, err := s.archive().Export(r.Context(), w, header(s.storeName()), r.URL.Query().Get("keys") != "false")
	if err != nil {
		s.log.Error("not exported", "err", err)
		return
	}
	s.log.Info("exported", "resources", sum.Resources, "resources_sha256", sum.Checksum)
}

// ownRooms are the rooms, by their places in the store, that servers in Dev made by
// themselves and that are as they were made.
func (s *Server) ownRooms(ctx context.Context) (map[string]bool, error) {
	if err := s.registry.Sync(ctx); err != nil {
		return nil, err
	}
	b, err := s.store.Bucket(ctx, engine.KeysBucket)
	if err != nil {
		return nil, err
	}
	entries, err := b.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	own := map[string]bool{}
	for _, e := range entries {
		if !strings.HasPrefix(e.Key, devRooms) {
			continue
		}
		room, err := s.registry.Room(ivschat.ARN(e.Value))
		if err == nil && room.UpdateTime == room.CreateTime && len(room.Tags) == 0 {
			if place, ok := registry.RecordKey(room.ARN); ok {
				own[place] = true
			}
		}
	}
	return own, nil
}

func (s *Server) serveImport(w http.ResponseWriter, r *http.Request) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // the body takes as long as the writing
	if s.config.Cluster == nil {
		http.Error(w, errRunsAlone(s.config.Data).Error(), http.StatusConflict)
		return
	}
	store := s.archive()
	var err error
	var result Moved
	if store.Own, err = s.ownRooms(r.Context()); err == nil {
		result, err = store.Import(r.Context(), r.Body)
	}
	if err != nil {
		s.log.Error("not imported", "err", err)
		_, _ = io.Copy(io.Discard, r.Body) // who still writes does not hear the answer
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	s.log.Info("imported", "resources", result.Resources, "resources_sha256", result.Checksum)
	w.Header().Set("Content-Type", "application/json")
	_ = json.MarshalWrite(w, result)
}
