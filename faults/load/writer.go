package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ivschat"
	"github.com/aws/aws-sdk-go-v2/service/ivschat/types"
	"github.com/aws/smithy-go"

	"hubbub/faults/history"
)

// rooms are all that writers had an answer for.
type rooms struct {
	mu  sync.Mutex
	all []made
}

type made struct{ name, arn string }

func (r *rooms) add(m made) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, m)
}

func (r *rooms) list() []made {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all[:len(r.all):len(r.all)]
}

// prefix of the names of rooms that writers make.
const prefix = "written-"

// writer makes, changes and deletes rooms of its own, one after the other.
type writer struct {
	*Load
	number int
	random *rand.Rand

	names  int // that it used
	living []made
	writes []history.Write
}

func (w *writer) run() {
	for pause(w.working, w.Write/2+time.Duration(w.random.Int64N(int64(w.Write)))) {
		if len(w.living) < 3 {
			w.create()
			continue
		}
		place := w.random.IntN(len(w.living))
		room := w.living[place]
		lives := true
		switch w.random.IntN(6) {
		case 0:
			w.delete(room)
			lives = false
		case 1, 2:
			length := int32(1 + w.random.IntN(500))
			lives = w.change(room, "length", fmt.Sprint(length), func(ctx context.Context, c *ivschat.Client) error {
				_, err := c.UpdateRoom(ctx, &ivschat.UpdateRoomInput{Identifier: &room.arn, MaximumMessageLength: &length})
				return err
			})
		case 3, 4:
			value := fmt.Sprint(w.random.IntN(1_000_000))
			lives = w.change(room, "tag:b", value, func(ctx context.Context, c *ivschat.Client) error {
				_, err := c.TagResource(ctx, &ivschat.TagResourceInput{ResourceArn: &room.arn, Tags: map[string]string{"b": value}})
				return err
			})
		case 5:
			lives = w.change(room, "tag:b", "", func(ctx context.Context, c *ivschat.Client) error {
				_, err := c.UntagResource(ctx, &ivschat.UntagResourceInput{ResourceArn: &room.arn, TagKeys: []string{"b"}})
				return err
			})
		}
		if !lives {
			w.living = append(w.living[:place], w.living[place+1:]...)
		}
		w.look(room)
	}
	w.add(func(h *history.History) { h.Writes = append(h.Writes, w.writes...) })
}

// try makes one attempt on any server and notes it.
func (w *writer) try(room string, op history.Op, fields history.Fields, call func(context.Context, *ivschat.Client) error) (history.Outcome, error) {
	ctx, cancel := context.WithTimeout(context.Background(), writeTime) // what is begun is finished
	defer cancel()
	place := w.random.IntN(len(w.apis))
	began := w.Now()
	err := call(ctx, w.apis[place])
	outcome := outcomeOf(err)
	node, ended := w.Servers[place].Name, w.Now()
	w.writes = append(w.writes, history.Write{Writer: w.number, Node: node, Room: room, Op: op, Fields: fields, Began: began, Ended: ended, Outcome: outcome})
	if isMissing(err) {
		w.add(func(h *history.History) {
			h.Reads = append(h.Reads, history.Read{Node: node, Room: room, Began: began, Ended: ended})
		})
	}
	return outcome, err
}

// look asks any server for a room that was just written to. Who has no answer, as
// through a fault, leaves it at that.
func (w *writer) look(room made) {
	ctx, cancel := context.WithTimeout(w.working, lookTime)
	defer cancel()
	place := w.random.IntN(len(w.apis))
	began := w.Now()
	fields, err := w.get(ctx, place, room)
	if outcomeOf(err) == history.Acked || isMissing(err) {
		w.add(func(h *history.History) {
			h.Reads = append(h.Reads, history.Read{Node: w.Servers[place].Name, Room: room.name, Fields: fields, Began: began, Ended: w.Now()})
		})
	}
}

// again pauses before the next attempt.
func (w *writer) again() bool {
	return pause(w.working, 50*time.Millisecond+time.Duration(w.random.IntN(100))*time.Millisecond)
}

// create makes a room. An attempt without an answer may have made one: the next has
// another name.
func (w *writer) create() {
	for goes := true; goes; goes = w.again() {
		w.names++
		name := fmt.Sprintf("%s%d-%d", prefix, w.number, w.names)
		length := int32(1 + w.random.IntN(500))
		var arn string
		outcome, _ := w.try(name, history.Create, history.Fields{"length": fmt.Sprint(length), "tag:a": name}, func(ctx context.Context, c *ivschat.Client) error {
			out, err := c.CreateRoom(ctx, &ivschat.CreateRoomInput{Name: &name, MaximumMessageLength: &length, Tags: map[string]string{"a": name}})
			if err == nil {
				arn = aws.ToString(out.Arn)
			}
			return err
		})
		if outcome == history.Acked {
			w.living = append(w.living, made{name, arn})
			w.everything.add(made{name, arn})
			return
		}
	}
}

// lost is how often a room is not found until its writer leaves it to the checker.
const lost = 50

// change sets one field, until it is acknowledged. It says whether there is such a
// room.
func (w *writer) change(room made, field, value string, call func(context.Context, *ivschat.Client) error) bool {
	for missing := 0; missing < lost; {
		outcome, err := w.try(room.name, history.Change, history.Fields{field: value}, call)
		if outcome == history.Acked {
			return true
		}
		if isMissing(err) {
			missing++
			w.note("a change of a room that is there is answered with 404")
		}
		if !w.again() {
			return true
		}
	}
	return false
}

// delete deletes a room. If an attempt had no answer and the next finds no room, the
// room is deleted.
func (w *writer) delete(room made) {
	open := false
	for missing := 0; missing < lost; {
		outcome, err := w.try(room.name, history.Delete, nil, func(ctx context.Context, c *ivschat.Client) error {
			_, err := c.DeleteRoom(ctx, &ivschat.DeleteRoomInput{Identifier: &room.arn})
			return err
		})
		switch {
		case isMissing(err) && open:
			w.writes[len(w.writes)-1].Outcome = history.Acked
			return
		case outcome == history.Acked:
			return
		case isMissing(err):
			missing++
			w.note("a deletion of a room that is there is answered with 404")
		case outcome == history.Unknown:
			open = true
		}
		if !w.again() {
			return
		}
	}
}

func isMissing(err error) bool {
	var missing *types.ResourceNotFoundException
	return errors.As(err, &missing)
}

// outcomeOf is what a caller knows after an answer of the SDK.
func outcomeOf(err error) history.Outcome {
	var status interface{ HTTPStatusCode() int }
	var api smithy.APIError
	var dial *net.OpError
	switch {
	case err == nil:
		return history.Acked
	case errors.As(err, &api) && errors.As(err, &status) && status.HTTPStatusCode() < 500:
		return history.Refused
	case errors.As(err, &dial) && dial.Op == "dial":
		return history.Refused // nobody was asked
	}
	return history.Unknown
}

// Audit asks every server for the youngest so many rooms, and for the list of all.
func (l *Load) Audit(youngest int) {
	l.t.Helper()
	all := l.everything.list()
	all = all[max(0, len(all)-youngest):]
	var readers sync.WaitGroup
	for place, s := range l.Servers {
		next := make(chan made)
		for range 8 {
			readers.Go(func() {
				for m := range next {
					l.read(place, m)
				}
			})
		}
		readers.Go(func() {
			defer close(next)
			for _, m := range all {
				next <- m
			}
			l.list(place, s.Name)
		})
	}
	readers.Wait()
}

// auditTime is how long a server that is well may take for an answer, tries included.
const auditTime = 30 * time.Second

// ask asks a server until it answers.
func (l *Load) ask(what string, place int, call func(context.Context, *ivschat.Client) error) (began, ended history.Time, answered bool) {
	limit, cancel := context.WithTimeout(context.Background(), auditTime)
	defer cancel()
	for {
		began := l.Now()
		err := call(limit, l.apis[place])
		if outcome := outcomeOf(err); outcome == history.Acked || isMissing(err) {
			return began, l.Now(), true
		}
		if !pause(limit, 100*time.Millisecond) {
			l.t.Errorf("node %s does not answer %s within %v: %v", l.Servers[place].Name, what, auditTime, err)
			return 0, 0, false
		}
	}
}

// get asks a server for a room; nil is one that is not there.
func (l *Load) get(ctx context.Context, place int, m made) (history.Fields, error) {
	out, err := l.apis[place].GetRoom(ctx, &ivschat.GetRoomInput{Identifier: &m.arn})
	if err != nil {
		return nil, err
	}
	fields := fieldsOf(out.Tags)
	fields["length"] = strconv.Itoa(int(aws.ToInt32(out.MaximumMessageLength)))
	if aws.ToString(out.Name) != m.name || aws.ToString(out.Arn) != m.arn || out.CreateTime == nil {
		fields["name"] = aws.ToString(out.Name) // nobody asked for that: half-made
	}
	return fields, nil
}

// read notes what a server says of a room.
func (l *Load) read(place int, m made) {
	var fields history.Fields
	began, ended, answered := l.ask("GetRoom", place, func(ctx context.Context, c *ivschat.Client) (err error) {
		fields, err = l.get(ctx, place, m)
		return err
	})
	if answered {
		l.add(func(h *history.History) {
			h.Reads = append(h.Reads, history.Read{Node: l.Servers[place].Name, Room: m.name, Fields: fields, Began: began, Ended: ended})
		})
	}
}

// list notes what a server says of all rooms.
func (l *Load) list(place int, node string) {
	seen := history.List{Node: node, Hides: []string{"length"}}
	var answered bool
	seen.Began, seen.Ended, answered = l.ask("ListRooms", place, func(ctx context.Context, c *ivschat.Client) error {
		seen.Rooms = nil
		for p := ivschat.NewListRoomsPaginator(c, &ivschat.ListRoomsInput{MaxResults: aws.Int32(50)}); p.HasMorePages(); {
			page, err := p.NextPage(ctx)
			if err != nil {
				return err
			}
			for _, r := range page.Rooms {
				if name := aws.ToString(r.Name); len(name) >= len(prefix) && name[:len(prefix)] == prefix {
					seen.Rooms = append(seen.Rooms, history.Listed{Room: name, ARN: aws.ToString(r.Arn), Fields: fieldsOf(r.Tags)})
				}
			}
		}
		return nil
	})
	if answered {
		l.add(func(h *history.History) { h.Lists = append(h.Lists, seen) })
	}
}

func fieldsOf(tags map[string]string) history.Fields {
	f := history.Fields{}
	for k, v := range tags {
		f["tag:"+k] = v
	}
	return f
}
