package registry

import (
	"cmp"
	"slices"

	"hubbub/ivschat"
)

// entry is one resource as of a revision of its record. The value never changes.
type entry[T any] struct {
	value    T
	revision uint64
}

// resource is what the index must know of a room or a logging configuration.
type resource interface {
	name() ivschat.ARN
	updated() ivschat.Time
}

// index has all resources of one kind: by ARN, and for each account and region
// in the order of lists, the last changed first. Its owner guards it.
type index[T resource] struct {
	byARN   map[ivschat.ARN]entry[T]
	ordered map[ivschat.Scope][]T
}

func newIndex[T resource]() index[T] {
	return index[T]{byARN: map[ivschat.ARN]entry[T]{}, ordered: map[ivschat.Scope][]T{}}
}

// order is that of lists: updateTime descending, then id.
// Source: spec control-plane 6.5.
func order[T resource](a, b T) int {
	return cmp.Or(b.updated().Compare(a.updated().Time), cmp.Compare(a.name(), b.name()))
}

// put adds or replaces, unless the index has a newer revision already.
func (x *index[T]) put(s ivschat.Scope, value T, revision uint64) {
	old, had := x.byARN[value.name()]
	if had && old.revision >= revision {
		return
	}
	if had {
		x.unlist(s, old.value)
	}
	x.byARN[value.name()] = entry[T]{value, revision}
	list := x.ordered[s]
	at, _ := slices.BinarySearchFunc(list, value, order[T])
	x.ordered[s] = slices.Insert(list, at, value)
}

func (x *index[T]) remove(s ivschat.Scope, arn ivschat.ARN) {
	old, had := x.byARN[arn]
	if !had {
		return
	}
	x.unlist(s, old.value)
	delete(x.byARN, arn)
}

func (x *index[T]) unlist(s ivschat.Scope, value T) {
	list := x.ordered[s]
	if at, found := slices.BinarySearchFunc(list, value, order[T]); found {
		x.ordered[s] = slices.Delete(list, at, at+1)
	}
	if len(x.ordered[s]) == 0 {
		delete(x.ordered, s)
	}
}

// load takes a record at the start; sort is called once after the last.
func (x *index[T]) load(s ivschat.Scope, value T, revision uint64) {
	x.byARN[value.name()] = entry[T]{value, revision}
	x.ordered[s] = append(x.ordered[s], value)
}

func (x *index[T]) sort() {
	for _, list := range x.ordered {
		slices.SortFunc(list, order[T])
	}
}

// position is a place in a list: behind the resource with that time and ARN.
type position struct {
	Updated ivschat.Time `json:"u"`
	ARN     ivschat.ARN  `json:"a"`
}

// page collects up to size resources behind the position (nil = from the
// start) that match, and says whether more follow.
func (x *index[T]) page(s ivschat.Scope, after *position, size int, match func(T) bool) (page []T, more bool) {
	list := x.ordered[s]
	from := 0
	if after != nil {
		from, _ = slices.BinarySearchFunc(list, *after, func(v T, p position) int {
			c := cmp.Or(p.Updated.Compare(v.updated().Time), cmp.Compare(v.name(), p.ARN))
			if c == 0 {
				return -1 // behind it
			}
			return c
		})
	}
	for _, v := range list[from:] {
		if !match(v) {
			continue
		}
		if len(page) == size {
			return page, true
		}
		page = append(page, v)
	}
	return page, false
}

// room and configuration are the resources as the index has them.
type room struct{ *ivschat.Room }

func (r room) name() ivschat.ARN     { return r.ARN }
func (r room) updated() ivschat.Time { return r.UpdateTime }

type configuration struct{ *ivschat.LoggingConfiguration }

func (c configuration) name() ivschat.ARN     { return c.ARN }
func (c configuration) updated() ivschat.Time { return c.UpdateTime }
