package hubbub

import (
	"context"
	"errors"
	"fmt"

	"hubbub/engine"
	"hubbub/ivschat"
)

// devScope is where Dev makes its room.
func (c Config) devScope() ivschat.Scope {
	s := ivschat.Scope{Account: c.Account, Region: devRegion}
	if len(c.Regions) > 0 {
		s.Region = c.Regions[0]
	}
	return s
}

// devRooms begins the keys, in engine.KeysBucket, of the rooms that Dev has made.
const devRooms = "dev_room."

// devRoom finds the room that an earlier start made for this account and region,
// or makes one if there is none or somebody deleted it. The store remembers it,
// beside the keys.
func (s *Server) devRoom(ctx context.Context, b *engine.Bucket) (ivschat.ARN, error) {
	scope := s.config.devScope()
	key := devRooms + scope.Account + "." + scope.Region
	known, err := b.Get(ctx, key)
	remembered := err == nil
	if err != nil && !errors.Is(err, engine.ErrNotFound) {
		return "", err
	}
	if remembered {
		room, err := s.registry.Room(ivschat.ARN(known.Value))
		if err == nil {
			return room.ARN, nil
		}
		if !errors.Is(err, ivschat.NotFound) {
			return "", err
		}
	}
	name := "dev"
	room, err := s.registry.CreateRoom(ctx, scope, &ivschat.CreateRoomRequest{Name: &name})
	if err != nil {
		return "", fmt.Errorf("make a room to try things out in: %w", err)
	}
	if remembered {
		_, err = b.Update(ctx, key, []byte(room.ARN), known.Revision)
	} else {
		_, err = b.Create(ctx, key, []byte(room.ARN))
	}
	if errors.Is(err, engine.ErrExists) || errors.Is(err, engine.ErrStale) { // another node was faster
		if err := s.registry.DeleteRoom(ctx, room.ARN); err != nil {
			return "", err
		}
		known, err := b.Get(ctx, key)
		return ivschat.ARN(known.Value), err
	}
	return room.ARN, err
}
