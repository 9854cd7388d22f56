package registry

import (
	"context"
	"fmt"
	"maps"

	"hubbub/ivschat"
)

// Tags are those of a room or a logging configuration: NotFound if there is no
// such resource. The map is shared and must not be changed.
func (g *Registry) Tags(arn ivschat.ARN) (map[string]string, error) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if e, ok := g.rooms.byARN[arn]; ok {
		return e.value.Tags, nil
	}
	if e, ok := g.configurations.byARN[arn]; ok {
		return e.value.Tags, nil
	}
	return nil, notFound(arn)
}

// Tag adds or overwrites tags and leaves the others: NotFound, or Validation if
// there would be more than 50. updateTime stays. Source: spec control-plane 10.
func (g *Registry) Tag(ctx context.Context, arn ivschat.ARN, add map[string]string) error {
	return g.retag(ctx, arn, func(tags ivschat.Strings) error {
		maps.Copy(tags, add)
		if n := len(tags); n > ivschat.MaxTags {
			return ivschat.InvalidFields(ivschat.Invalid("tags", fmt.Sprintf("a resource must have at most %d tags, but would have %d", ivschat.MaxTags, n)))
		}
		return nil
	})
}

// Untag removes tags; keys that the resource has not are ignored: NotFound.
// updateTime stays. Source: spec control-plane 10.
func (g *Registry) Untag(ctx context.Context, arn ivschat.ARN, keys []string) error {
	return g.retag(ctx, arn, func(tags ivschat.Strings) error {
		for _, k := range keys {
			delete(tags, k)
		}
		return nil
	})
}

// retag edits a copy of the tags; one that stays the same is not written.
func (g *Registry) retag(ctx context.Context, arn ivschat.ARN, edit func(ivschat.Strings) error) error {
	n, ok := arn.Parse()
	if !ok {
		return notFound(arn)
	}
	edited := func(old ivschat.Strings) (ivschat.Strings, bool, error) {
		tags := ivschat.Strings{}
		maps.Copy(tags, old)
		err := edit(tags)
		return tags, !maps.Equal(old, tags), err
	}
	if n.Type == ivschat.RoomType {
		_, err := g.changeRoom(ctx, g.bucket, n, func(old *ivschat.Room) (*ivschat.Room, error) {
			tags, different, err := edited(old.Tags)
			if err != nil || !different {
				return old, err
			}
			changed := *old
			changed.Tags = tags
			return &changed, nil
		})
		return err
	}
	_, err := g.changeConfiguration(ctx, n, func(old *ivschat.LoggingConfiguration) (*ivschat.LoggingConfiguration, error) {
		tags, different, err := edited(old.Tags)
		if err != nil || !different {
			return old, err
		}
		changed := *old
		changed.Tags = tags
		return &changed, nil
	})
	return err
}
