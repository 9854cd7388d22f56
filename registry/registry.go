package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"hubbub/engine"
	"hubbub/ivschat"
	"hubbub/quota"
)

// Options are what a registry is built from.
type Options struct {
	Engine *engine.Engine
	Limits quota.Limits // counts of resources; the zero value limits nothing

	// AcceptHandler says whether a review handler's Lambda ARN can be attached
	// to a room; nil accepts every one.
	AcceptHandler func(uri string) bool

	// CheckDestination says what can be said at once against a destination of chat
	// logs: NotFound, AccessDenied, or nil. nil accepts every one.
	CheckDestination func(context.Context, ivschat.Scope, ivschat.DestinationConfiguration) error

	// ConfigurationChanged is told of every logging configuration that was changed
	// or deleted, when the registry shows it so. It must not wait for anything; nil
	// tells nobody.
	ConfigurationChanged func(ivschat.ARN)

	Log *slog.Logger     // nil discards
	Now func() time.Time // nil is time.Now
}

// Registry is the resources of a node. Make one with Open.
type Registry struct {
	limits        quota.Limits
	acceptHandler func(string) bool
	destination   func(context.Context, ivschat.Scope, ivschat.DestinationConfiguration) error
	changed       func(ivschat.ARN)
	log           *slog.Logger
	now           func() time.Time
	cursors       cursors

	roomBucket, configurationBucket *engine.Bucket

	mu             sync.RWMutex
	rooms          index[room]
	configurations index[configuration]
	users          map[ivschat.ARN]int  // rooms that name a logging configuration
	pins           map[ivschat.ARN]int  // writes under way that name one
	deleting       map[ivschat.ARN]bool // logging configurations whose deletion is under way
	reserved       map[quotaOf]int      // creations under way, for the count quotas
}

type quotaOf struct {
	scope ivschat.Scope
	key   quota.Key
}

// Open reads all resources into memory. It fails on a record that it cannot
// read: nothing is passed over.
func Open(ctx context.Context, o Options) (*Registry, error) {
	g := &Registry{
		limits: o.Limits, acceptHandler: o.AcceptHandler, destination: o.CheckDestination, changed: o.ConfigurationChanged, log: o.Log, now: o.Now,
		rooms: newIndex[room](), configurations: newIndex[configuration](),
		users: map[ivschat.ARN]int{}, pins: map[ivschat.ARN]int{}, deleting: map[ivschat.ARN]bool{}, reserved: map[quotaOf]int{},
	}
	if g.acceptHandler == nil {
		g.acceptHandler = func(string) bool { return true }
	}
	if g.destination == nil {
		g.destination = func(context.Context, ivschat.Scope, ivschat.DestinationConfiguration) error { return nil }
	}
	if g.changed == nil {
		g.changed = func(ivschat.ARN) {}
	}
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	if g.now == nil {
		g.now = time.Now
	}
	var err error
	if g.roomBucket, err = o.Engine.Bucket(ctx, engine.RoomsBucket); err != nil {
		return nil, err
	}
	if g.configurationBucket, err = o.Engine.Bucket(ctx, engine.LoggingConfigurationsBucket); err != nil {
		return nil, err
	}
	keys, err := o.Engine.Bucket(ctx, engine.KeysBucket)
	if err != nil {
		return nil, err
	}
	if g.cursors, err = openCursors(ctx, keys); err != nil {
		return nil, err
	}
	err = g.configurationBucket.Load(ctx, func(e engine.Entry) error {
		v := new(ivschat.LoggingConfiguration)
		name, err := decode(e, v, &v.ARN)
		if err != nil {
			return err
		}
		g.configurations.load(name.Scope, configuration{v}, e.Revision)
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = g.roomBucket.Load(ctx, func(e engine.Entry) error {
		v := new(ivschat.Room)
		name, err := decode(e, v, &v.ARN)
		if err != nil {
			return err
		}
		g.rooms.load(name.Scope, room{v}, e.Revision)
		g.use(v.LoggingConfigurationIdentifiers, 1)
		return nil
	})
	if err != nil {
		return nil, err
	}
	g.rooms.sort()
	g.configurations.sort()
	return g, nil
}

// recordKey is the place of a resource in its bucket.
func recordKey(n ivschat.Name) string { return n.Region + "." + n.Account + "." + n.ID }

func decode(e engine.Entry, value any, arn *ivschat.ARN) (ivschat.Name, error) {
	if err := json.Unmarshal(e.Value, value); err != nil {
		return ivschat.Name{}, fmt.Errorf("the record %s cannot be read: %w; restore the data folder from a backup", e.Key, err)
	}
	name, ok := arn.Parse()
	if !ok || recordKey(name) != e.Key {
		return ivschat.Name{}, fmt.Errorf("the record %s holds %q; restore the data folder from a backup", e.Key, *arn)
	}
	return name, nil
}

// use counts the rooms that name each configuration up or down.
func (g *Registry) use(list ivschat.ARNs, by int) {
	for _, a := range list {
		if g.users[a] += by; g.users[a] <= 0 {
			delete(g.users, a)
		}
	}
}

// parse takes an ARN of a request apart; one that is not well formed names
// nothing.
func parse(arn ivschat.ARN, t ivschat.ResourceType) (ivschat.Name, error) {
	n, ok := arn.Parse()
	if !ok || n.Type != t {
		return ivschat.Name{}, notFound(arn)
	}
	return n, nil
}

func notFound(arn ivschat.ARN) error {
	return &ivschat.Error{Kind: ivschat.NotFound, Message: "Resource: " + string(arn) + " not found", Resource: arn.ID()}
}

// reserve takes a place for one more resource within its count quota; release
// gives it back when the creation is done or has failed. The caller holds mu.
func (g *Registry) reserve(s ivschat.Scope, k quota.Key, have int) (release func(), err error) {
	q := quotaOf{s, k}
	if limit := g.limits.Value(k); limit > 0 && have+g.reserved[q] >= limit {
		return nil, &ivschat.Error{Kind: ivschat.QuotaExceeded, Resource: s.Account, Limit: limit,
			Message: fmt.Sprintf("The account %s has its quota of %d %s in %s", s.Account, limit, k, s.Region)}
	}
	g.reserved[q]++
	return func() {
		if g.reserved[q]--; g.reserved[q] == 0 {
			delete(g.reserved, q)
		}
	}, nil
}

// next is the time of a change: now, but later than the one before, so that
// updateTime grows with each change. Resources have milliseconds.
func (g *Registry) next(before ivschat.Time) ivschat.Time {
	at := ivschat.At(g.now())
	if !at.After(before.Time) {
		at = ivschat.At(before.Add(time.Millisecond))
	}
	return at
}

// conflicts is how often a write that lost a race is tried again with a fresh
// value. Each loss means that another writer won.
const conflicts = 100

// change replaces a record: edit makes the new value from the current one, or
// says that nothing changes by returning it. A lost race begins anew with what
// the store has: the last writer wins. Source: spec control-plane 6.3.
func change[T any](ctx context.Context, g *Registry, b *engine.Bucket, n ivschat.Name,
	current func() (*T, uint64, bool), edit func(*T) (*T, error), apply func(*T, uint64),
) (*T, error) {
	value, revision, ok := current()
	if !ok {
		return nil, notFound(n.ARN())
	}
	for range conflicts {
		changed, err := edit(value)
		if err != nil || changed == value {
			return changed, err
		}
		record, err := json.Marshal(changed, json.Deterministic(true))
		if err != nil {
			return nil, err
		}
		newRevision, err := b.Update(ctx, recordKey(n), record, revision)
		if err == nil {
			apply(changed, newRevision)
			return changed, nil
		}
		if !errors.Is(err, engine.ErrStale) {
			return nil, fmt.Errorf("change %s: %w", n.ARN(), err)
		}
		fresh, err := b.Get(ctx, recordKey(n))
		if errors.Is(err, engine.ErrNotFound) {
			return nil, notFound(n.ARN())
		}
		if err != nil {
			return nil, fmt.Errorf("change %s: %w", n.ARN(), err)
		}
		value, revision = new(T), fresh.Revision
		if err := json.Unmarshal(fresh.Value, value); err != nil {
			return nil, fmt.Errorf("change %s: %w", n.ARN(), err)
		}
	}
	return nil, fmt.Errorf("change %s: lost %d races", n.ARN(), conflicts)
}

// insert writes a new record under an id that nothing has, and returns its
// revision. set puts an id into the value.
func insert(ctx context.Context, b *engine.Bucket, s ivschat.Scope, t ivschat.ResourceType, set func(ivschat.Name) any) (uint64, error) {
	for {
		n := ivschat.Name{Scope: s, Type: t, ID: ivschat.NewID()}
		record, err := json.Marshal(set(n), json.Deterministic(true))
		if err != nil {
			return 0, err
		}
		revision, err := b.Create(ctx, recordKey(n), record)
		if errors.Is(err, engine.ErrExists) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("create %s: %w", n.ARN(), err)
		}
		return revision, nil
	}
}

// drop deletes a record whatever its revision is: false if it is gone already.
func drop(ctx context.Context, b *engine.Bucket, n ivschat.Name, revision uint64) (bool, error) {
	for range conflicts {
		err := b.Delete(ctx, recordKey(n), revision)
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, engine.ErrStale) {
			return false, fmt.Errorf("delete %s: %w", n.ARN(), err)
		}
		fresh, err := b.Get(ctx, recordKey(n))
		if errors.Is(err, engine.ErrNotFound) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("delete %s: %w", n.ARN(), err)
		}
		revision = fresh.Revision
	}
	return false, fmt.Errorf("delete %s: lost %d races", n.ARN(), conflicts)
}

// text is the value of an optional member, "" if it is absent.
func text(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}

func equalJSON(a, b any) bool {
	x, errX := json.Marshal(a, json.Deterministic(true))
	y, errY := json.Marshal(b, json.Deterministic(true))
	return errX == nil && errY == nil && bytes.Equal(x, y)
}
