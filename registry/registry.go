package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
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
	cursors       atomic.Pointer[cursors]

	bucket *engine.Bucket
	keys   *engine.Bucket
	feed   *engine.Feed

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
	if g.bucket, err = o.Engine.Bucket(ctx, engine.ResourcesBucket); err != nil {
		return nil, err
	}
	if g.keys, err = o.Engine.Bucket(ctx, engine.KeysBucket); err != nil {
		return nil, err
	}
	if err := g.ReloadKeys(ctx); err != nil {
		return nil, err
	}
	loading := true
	g.feed, err = g.bucket.Follow(ctx, func(c engine.Change) error {
		if loading {
			return g.load(c.Entry)
		}
		return g.follow(c)
	})
	if err != nil {
		return nil, err
	}
	g.rooms.sort()
	g.configurations.sort()
	loading = false
	g.feed.Start()
	return g, nil
}

// ReloadKeys takes over the key of nextTokens from the store, after another was put
// there.
func (g *Registry) ReloadKeys(ctx context.Context) error {
	cursors, err := openCursors(ctx, g.keys)
	if err != nil {
		return err
	}
	g.cursors.Store(cursors)
	return nil
}

// Close ends the following of other nodes.
func (g *Registry) Close() { g.feed.Close() }

// load takes over a record at the start.
func (g *Registry) load(e engine.Entry) error {
	r, c, n, err := decode(e)
	switch {
	case err != nil:
		return err
	case r != nil:
		g.rooms.load(n.Scope, room{r}, e.Revision)
		g.use(r.LoggingConfigurationIdentifiers, 1)
	default:
		g.configurations.load(n.Scope, configuration{c}, e.Revision)
	}
	return nil
}

// follow takes over what was written, by this node or by another.
func (g *Registry) follow(c engine.Change) error {
	if c.Gone {
		if n, ok := nameOf(c.Key); ok {
			g.removed(n, c.Revision)
		}
		return nil
	}
	r, lc, n, err := decode(c.Entry)
	if err != nil {
		return err
	}
	g.mu.Lock()
	if r != nil {
		g.putRoom(n.Scope, r, c.Revision)
	} else {
		g.configurations.put(n.Scope, configuration{lc}, c.Revision)
	}
	g.mu.Unlock()
	if lc != nil {
		g.changed(lc.ARN)
	}
	return nil
}

// removed takes a resource out that was deleted at a revision; 0 is the latest.
func (g *Registry) removed(n ivschat.Name, revision uint64) {
	arn := n.ARN()
	older := func(have uint64) bool { return revision == 0 || have < revision }
	g.mu.Lock()
	if old, had := g.rooms.byARN[arn]; had && older(old.revision) {
		g.use(old.value.LoggingConfigurationIdentifiers, -1)
		g.rooms.remove(n.Scope, arn)
	}
	if old, had := g.configurations.byARN[arn]; had && older(old.revision) {
		g.configurations.remove(n.Scope, arn)
	}
	g.mu.Unlock()
	if n.Type == ivschat.LoggingConfigurationType {
		g.changed(arn)
	}
}

// wrote makes a node's own write visible on it: alone by apply, in a cluster by
// waiting until it comes back in the order of all writes, so that nothing older
// overtakes what is newer.
func (g *Registry) wrote(ctx context.Context, revision uint64, apply func()) {
	if !g.feed.Shared() {
		apply()
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	_ = g.feed.Wait(ctx, revision) // it is written, and seen by every Sync
}

// patience is how long a request waits for a cluster that has no leader: an
// election takes 4 to 9 seconds.
const patience = 10 * time.Second

// Sync returns when this node shows everything that any node has acknowledged
// before: a read after it is as good as one on the node that wrote. It goes on
// trying while the cluster has no leader, and fails if that lasts.
func (g *Registry) Sync(ctx context.Context) error {
	if !g.feed.Shared() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := g.feed.Sync(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the cluster does not answer: %w", err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// Fresh is nil if this node shows what the cluster has, or says why not.
func (g *Registry) Fresh() error { return g.feed.Fresh() }

// guarded does a write. In a cluster, with depends, it is done only if nothing was
// written since the moment in which check was content, by any node: otherwise check
// is asked again. Alone the locks of the registry see to that.
func (g *Registry) guarded(ctx context.Context, depends bool, check func() error, write func(*engine.Bucket) error) error {
	for range conflicts {
		b := g.bucket
		if depends && g.feed.Shared() {
			b = b.AsOf(g.feed.Applied()) // before check looks at what may be newer
		}
		if err := check(); err != nil {
			return err
		}
		err := write(b)
		if !errors.Is(err, engine.ErrBehind) {
			return err
		}
		if err := g.Sync(ctx); err != nil {
			return err
		}
	}
	return fmt.Errorf("lost %d races with other writes", conflicts)
}

// recordKey is the place of a resource in the bucket.
func recordKey(n ivschat.Name) string {
	return n.Region + "." + n.Account + "." + string(n.Type) + "." + n.ID
}

// nameOf is the resource of a place.
func nameOf(key string) (ivschat.Name, bool) {
	part := strings.Split(key, ".")
	if len(part) != 4 {
		return ivschat.Name{}, false
	}
	return ivschat.Scope{Region: part[0], Account: part[1]}.ARN(ivschat.ResourceType(part[2]), part[3]).Parse()
}

// decode reads a record: a room or a logging configuration.
func decode(e engine.Entry) (r *ivschat.Room, c *ivschat.LoggingConfiguration, n ivschat.Name, err error) {
	n, ok := nameOf(e.Key)
	if !ok {
		return nil, nil, n, fmt.Errorf("the record %s is of no resource; restore the data folder from a backup", e.Key)
	}
	var value any
	var arn *ivschat.ARN
	if n.Type == ivschat.RoomType {
		r = new(ivschat.Room)
		value, arn = r, &r.ARN
	} else {
		c = new(ivschat.LoggingConfiguration)
		value, arn = c, &c.ARN
	}
	if err := json.Unmarshal(e.Value, value); err != nil {
		return nil, nil, n, fmt.Errorf("the record %s cannot be read: %w; restore the data folder from a backup", e.Key, err)
	}
	if *arn != n.ARN() {
		return nil, nil, n, fmt.Errorf("the record %s holds %q; restore the data folder from a backup", e.Key, *arn)
	}
	return r, c, n, nil
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

// near says whether so many resources may reach the quota by creations that this
// node has not heard of: half of it within the seconds for which a node may lag.
func (g *Registry) near(k quota.Key, have int) bool {
	limit := g.limits.Value(k)
	return limit > 0 && have >= limit/2
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
		switch {
		case err == nil:
			g.wrote(ctx, newRevision, func() { apply(changed, newRevision) })
			return changed, nil
		case errors.Is(err, engine.ErrBehind):
			return nil, err
		case !errors.Is(err, engine.ErrStale):
			return nil, fmt.Errorf("change %s: %w", n.ARN(), err)
		}
		fresh, err := g.bucket.Get(ctx, recordKey(n))
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
		switch {
		case errors.Is(err, engine.ErrExists):
			continue
		case errors.Is(err, engine.ErrBehind):
			return 0, err
		case err != nil:
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
		if errors.Is(err, engine.ErrBehind) {
			return false, err
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
