package load

import (
	"context"
	"fmt"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ivschat"

	"hubbub/faults/history"
)

// prober asks one server to make a room, again and again, whether its last attempt
// was answered or not: so it shows from when on a server takes writes. What it makes
// it deletes.
type prober struct {
	*Load
	place int

	mu     sync.Mutex
	writes []history.Write
}

func (p *prober) run() {
	var attempts sync.WaitGroup
	for n := 1; pause(p.working, probeTime); n++ {
		attempts.Go(func() { p.attempt(fmt.Sprintf("%sprobe-%s-%d", prefix, p.Servers[p.place].Name, n)) })
	}
	attempts.Wait()
	p.add(func(h *history.History) { h.Writes = append(h.Writes, p.writes...) })
}

func (p *prober) attempt(name string) {
	var arn string
	if p.try(name, history.Create, history.Fields{"length": "7", "tag:a": name}, func(ctx context.Context, c *ivschat.Client) error {
		out, err := c.CreateRoom(ctx, &ivschat.CreateRoomInput{Name: &name, MaximumMessageLength: aws.Int32(7), Tags: map[string]string{"a": name}})
		if err == nil {
			arn = aws.ToString(out.Arn)
		}
		return err
	}) != history.Acked {
		return
	}
	p.try(name, history.Delete, nil, func(ctx context.Context, c *ivschat.Client) error {
		_, err := c.DeleteRoom(ctx, &ivschat.DeleteRoomInput{Identifier: &arn})
		if isMissing(err) {
			p.note("a deletion of a room that is there is answered with 404")
		}
		return err
	})
}

func (p *prober) try(room string, op history.Op, fields history.Fields, call func(context.Context, *ivschat.Client) error) history.Outcome {
	ctx, cancel := context.WithTimeout(context.Background(), writeTime)
	defer cancel()
	w := history.Write{Writer: -1 - p.place, Node: p.Servers[p.place].Name, Room: room, Op: op, Fields: fields, Began: p.Now()}
	w.Outcome = outcomeOf(call(ctx, p.apis[p.place]))
	w.Ended = p.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.writes = append(p.writes, w)
	return w.Outcome
}
