package registry

import (
	"context"
	"fmt"
	"maps"

	"hubbub/engine"
	"hubbub/ivschat"
	"hubbub/quota"
)

// LoggingConfiguration is the configuration of that name, as it is now: NotFound
// if there is none. The value is shared and never changes.
func (g *Registry) LoggingConfiguration(arn ivschat.ARN) (*ivschat.LoggingConfiguration, error) {
	g.mu.RLock()
	e, ok := g.configurations.byARN[arn]
	g.mu.RUnlock()
	if !ok {
		return nil, notFound(arn)
	}
	return e.value.LoggingConfiguration, nil
}

// CreateLoggingConfiguration makes a logging configuration with its tags:
// NotFound or AccessDenied for the destination, QuotaExceeded. Source: spec
// control-plane 8.2.
func (g *Registry) CreateLoggingConfiguration(ctx context.Context, s ivschat.Scope, r *ivschat.CreateLoggingConfigurationRequest) (*ivschat.LoggingConfiguration, error) {
	if err := g.destination(ctx, s, *r.DestinationConfiguration); err != nil {
		return nil, err
	}
	made := &ivschat.LoggingConfiguration{
		Name: text(r.Name), DestinationConfiguration: *r.DestinationConfiguration, State: ivschat.StateActive,
		Tags: ivschat.Strings{}, CreateTime: ivschat.At(g.now()),
	}
	made.UpdateTime = made.CreateTime
	maps.Copy(made.Tags, r.Tags)
	release := func() {}
	free := func() {
		g.mu.Lock()
		release()
		release = func() {}
		g.mu.Unlock()
	}
	defer free()
	check := func() error {
		free()
		g.mu.Lock()
		defer g.mu.Unlock()
		give, err := g.reserve(s, quota.LoggingConfigurations, len(g.configurations.ordered[s]))
		if err == nil {
			release = give
		}
		return err
	}
	set := func(n ivschat.Name) any {
		made.ARN, made.ID = n.ARN(), n.ID
		return made
	}
	depends := g.limits.Value(quota.LoggingConfigurations) > 0 // there are few, so it costs nothing
	err := g.guarded(ctx, depends, check, func(b *engine.Bucket) error {
		revision, err := insert(ctx, b, s, ivschat.LoggingConfigurationType, set)
		if err == nil {
			g.wrote(ctx, revision, func() {
				g.mu.Lock()
				defer g.mu.Unlock()
				g.configurations.put(s, configuration{made}, revision)
			})
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return made, nil
}

// UpdateLoggingConfiguration changes the members that the request has; the
// destination is replaced whole: NotFound, for the destination as well,
// AccessDenied for the destination, or Conflict while the configuration changes
// otherwise. Source: spec control-plane 8.1, 8.4.
func (g *Registry) UpdateLoggingConfiguration(ctx context.Context, r *ivschat.UpdateLoggingConfigurationRequest) (*ivschat.LoggingConfiguration, error) {
	n, err := parse(r.Identifier, ivschat.LoggingConfigurationType)
	if err != nil {
		return nil, err
	}
	if old, err := g.LoggingConfiguration(r.Identifier); err != nil {
		return nil, err
	} else if err := busy(old); err != nil {
		return nil, err
	}
	if to := r.DestinationConfiguration; to != nil {
		if err := g.destination(ctx, n.Scope, *to); err != nil {
			return nil, err
		}
	}
	return g.changeConfiguration(ctx, n, func(old *ivschat.LoggingConfiguration) (*ivschat.LoggingConfiguration, error) {
		if err := busy(old); err != nil {
			return nil, err
		}
		changed := *old
		changed.State = ivschat.StateActive
		if r.Name != nil {
			changed.Name = *r.Name
		}
		if r.DestinationConfiguration != nil {
			changed.DestinationConfiguration = *r.DestinationConfiguration
		}
		if equalJSON(old, &changed) {
			return old, nil
		}
		changed.UpdateTime = g.next(old.UpdateTime)
		return &changed, nil
	})
}

// busy is the Conflict of a configuration that is in the middle of a change.
func busy(c *ivschat.LoggingConfiguration) error {
	switch c.State {
	case ivschat.StateCreating, ivschat.StateUpdating, ivschat.StateDeleting:
		return &ivschat.Error{Kind: ivschat.Conflict, Resource: c.ID,
			Message: fmt.Sprintf("Resource: %s is in state %s; try again when that is over", c.ARN, c.State)}
	}
	return nil
}

func (g *Registry) changeConfiguration(ctx context.Context, n ivschat.Name, edit func(*ivschat.LoggingConfiguration) (*ivschat.LoggingConfiguration, error)) (*ivschat.LoggingConfiguration, error) {
	return change(ctx, g, g.bucket, n,
		func() (*ivschat.LoggingConfiguration, uint64, bool) {
			g.mu.RLock()
			defer g.mu.RUnlock()
			e, ok := g.configurations.byARN[n.ARN()]
			return e.value.LoggingConfiguration, e.revision, ok
		}, edit,
		func(c *ivschat.LoggingConfiguration, revision uint64) {
			g.mu.Lock()
			// A deletion may have overtaken it; no id is used again.
			if _, there := g.configurations.byARN[c.ARN]; there {
				g.configurations.put(n.Scope, configuration{c}, revision)
			}
			g.mu.Unlock()
			g.changed(c.ARN)
		})
}

// DeleteLoggingConfiguration removes a configuration that no room uses: NotFound,
// or Conflict that names the number of rooms. Source: spec control-plane 8.1, 8.5.
func (g *Registry) DeleteLoggingConfiguration(ctx context.Context, arn ivschat.ARN) error {
	n, err := parse(arn, ivschat.LoggingConfigurationType)
	if err != nil {
		return err
	}
	var revision uint64
	end := func() {
		g.mu.Lock()
		delete(g.deleting, arn)
		g.mu.Unlock()
	}
	begun := false
	defer func() {
		if begun {
			end()
		}
	}()
	check := func() (err error) {
		if begun {
			end()
			begun = false
		}
		if revision, err = g.beginDeletion(arn); err == nil {
			begun = true
		}
		return err
	}
	var was bool
	err = g.guarded(ctx, true, check, func(b *engine.Bucket) (err error) {
		was, err = drop(ctx, b, n, revision)
		return err
	})
	if err != nil {
		return err
	}
	g.removed(n, 0)
	if !was {
		return notFound(arn)
	}
	return nil
}

// beginDeletion keeps rooms from naming the configuration from now on.
func (g *Registry) beginDeletion(arn ivschat.ARN) (revision uint64, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	e, ok := g.configurations.byARN[arn]
	if !ok {
		return 0, notFound(arn)
	}
	conflict := func(format string, args ...any) error {
		return &ivschat.Error{Kind: ivschat.Conflict, Resource: arn.ID(), Message: "Resource: " + string(arn) + fmt.Sprintf(format, args...)}
	}
	switch {
	case g.deleting[arn]:
		return 0, conflict(" is being deleted")
	case g.users[arn] > 0:
		return 0, conflict(" is used by %d room(s); detach it with UpdateRoom first", g.users[arn])
	case g.pins[arn] > 0:
		return 0, conflict(" is being attached to a room")
	}
	if err := busy(e.value.LoggingConfiguration); err != nil {
		return 0, err
	}
	g.deleting[arn] = true
	return e.revision, nil
}

// CheckListLoggingConfigurations is the Validation of a nextToken that is not of
// the list.
func (g *Registry) CheckListLoggingConfigurations(s ivschat.Scope, r *ivschat.ListLoggingConfigurationsRequest) error {
	_, err := g.cursors.Load().open(text(r.NextToken), listOf(ivschat.OpListLoggingConfigurations, s))
	return err
}

// ListLoggingConfigurations is a page of the configurations of an account and
// region, the last changed first: Validation for a nextToken that is not of this
// list. Source: spec control-plane 8.3, 7.
func (g *Registry) ListLoggingConfigurations(s ivschat.Scope, r *ivschat.ListLoggingConfigurationsRequest) (*ivschat.ListLoggingConfigurationsResponse, error) {
	list := listOf(ivschat.OpListLoggingConfigurations, s)
	after, err := g.cursors.Load().open(text(r.NextToken), list)
	if err != nil {
		return nil, err
	}
	g.mu.RLock()
	page, more := g.configurations.page(s, after, pageSize(r.MaxResults), func(configuration) bool { return true })
	g.mu.RUnlock()
	out := &ivschat.ListLoggingConfigurationsResponse{LoggingConfigurations: make([]ivschat.LoggingConfiguration, len(page))}
	for i, c := range page {
		out.LoggingConfigurations[i] = *c.LoggingConfiguration
	}
	if more {
		last := page[len(page)-1]
		out.NextToken = g.cursors.Load().seal(position{last.UpdateTime, last.ARN}, list)
	}
	return out, nil
}
