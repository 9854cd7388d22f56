package engine

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// Bus carries messages between the nodes of a cluster, at most once each and
// stored nowhere: those of one node on one subject arrive in their order, or not.
// A node does not hear itself. It needs no quorum: whoever can reach one another
// can talk. Its methods may be called from many goroutines, and none but Ask waits
// for other nodes.
type Bus struct {
	engine *Engine
	conn   *nats.Conn
	run    Run
	log    *slog.Logger
	now    func() time.Time
	scout  bool // it is to be no member

	lanes []chan *nats.Msg // one goroutine each; a subject always takes the same
	seed  maphash.Seed
	stop  context.CancelFunc
	done  sync.WaitGroup

	questions atomic.Uint64
	stage     atomic.Uint32
	news      chan struct{} // wants a beat at once

	mu        sync.RWMutex
	handlers  map[*nats.Subscription]Handler
	answering map[string]Handler // by subject
	asked     map[uint64]chan answer
	members   map[Run]*member // the others
	beats     [16]sentBeat    // the latest, by number
	lacked    time.Time       // a majority after it had one, last, by the monotonic clock
	changed   []func(Member)
}

// Run is one life of a node, from its start to its end: another after a restart.
type Run uint64

// Handler takes a message of another node. Handlers of one subject are called one
// at a time, in order, and must not wait for long: others wait behind them. data is
// the handler's. What it returns is the answer, if it was a question.
type Handler func(from Run, data []byte) (answer []byte)

// answer is what a node said to a question.
type answer struct {
	from Run
	data []byte
}

// laneDepth is how many messages may wait for their handlers. What comes on top is
// lost; whoever numbers its messages notices.
const laneDepth = 32 << 10

// newBus opens the bus of a node.
func (e *Engine) newBus(o Options, scout bool) (*Bus, error) {
	var id [8]byte
	if _, err := rand.Read(id[:]); err != nil {
		return nil, err
	}
	b := &Bus{
		engine: e, run: Run(binary.BigEndian.Uint64(id[:])), log: e.log, now: e.now, scout: scout, seed: maphash.MakeSeed(),
		handlers: map[*nats.Subscription]Handler{}, answering: map[string]Handler{}, asked: map[uint64]chan answer{}, members: map[Run]*member{},
		news: make(chan struct{}, 1),
	}
	options := append(e.connection(o), nats.NoEcho())
	var err error
	if b.conn, err = nats.Connect(e.url(o), options...); err != nil {
		return nil, fmt.Errorf("open the bus: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	b.stop = stop
	for range max(2, runtime.GOMAXPROCS(0)) {
		lane := make(chan *nats.Msg, laneDepth)
		b.lanes = append(b.lanes, lane)
		b.done.Go(func() { b.serve(ctx, lane) })
	}
	// Before anybody hears of this node, so that every question finds it.
	questions := make(chan *nats.Msg, laneDepth)
	for _, to := range []string{toAll, b.run.String()} {
		if _, err := b.conn.ChanSubscribe(questionPrefix+to+".>", questions); err != nil {
			return nil, fmt.Errorf("open the bus: %w", err)
		}
	}
	b.done.Go(func() { b.serve(ctx, questions) })
	answers := make(chan *nats.Msg, laneDepth)
	if _, err := b.conn.ChanSubscribe(b.answers(), answers); err != nil {
		return nil, fmt.Errorf("open the bus: %w", err)
	}
	b.done.Go(func() { b.listen(ctx, answers) })
	if err := b.startBeating(ctx); err != nil {
		return nil, err
	}
	return b, nil
}

// close says goodbye, and returns when everything that was told is on its way.
func (b *Bus) close() {
	b.stop()
	b.done.Wait()
	_ = b.conn.FlushTimeout(flushTimeout) // of a connection that is gone: nobody will hear
	b.conn.Close()
}

const flushTimeout = time.Second

// Run is this life of this node.
func (b *Bus) Run() Run { return b.run }

// Node is the name of this node.
func (b *Bus) Node() string { return b.engine.node }

// String is the run as a part of a subject.
func (r Run) String() string { return fmt.Sprintf("%016x", uint64(r)) }

func (b *Bus) answers() string { return answerPrefix + b.run.String() }

// headSize is what stands before each message: who sends it and, for questions and
// answers, which question it is.
const headSize = 16

func (b *Bus) envelope(question uint64, parts ...[]byte) []byte {
	size := headSize
	for _, p := range parts {
		size += len(p)
	}
	m := make([]byte, 0, size)
	m = binary.BigEndian.AppendUint64(m, uint64(b.run))
	m = binary.BigEndian.AppendUint64(m, question)
	for _, p := range parts {
		m = append(m, p...)
	}
	return m
}

// Publish hands the joined parts to whoever has subscribed to the subject on
// another node. It does not wait for them. An error means that this node could not
// even put it on its way.
func (b *Bus) Publish(subject string, parts ...[]byte) error {
	return b.conn.Publish(busPrefix+subject, b.envelope(0, parts...))
}

// Subscription is one node's interest in a subject.
type Subscription struct {
	bus *Bus
	sub *nats.Subscription
}

// Subscribe has a handler called with every message of other nodes on a subject,
// once they have heard of the interest: see Ask.
func (b *Bus) Subscribe(subject string, handle Handler) (*Subscription, error) {
	lane := b.lanes[maphash.String(b.seed, subject)%uint64(len(b.lanes))]
	b.mu.Lock()
	defer b.mu.Unlock() // before a message looks for it
	sub, err := b.conn.ChanSubscribe(busPrefix+subject, lane)
	if err != nil {
		return nil, fmt.Errorf("subscribe to %s: %w", subject, err)
	}
	b.handlers[sub] = handle
	return &Subscription{b, sub}, nil
}

// Close ends the interest. A handler may still be called for what is on its way.
func (s *Subscription) Close() {
	_ = s.sub.Unsubscribe() // of a closed connection
	s.bus.mu.Lock()
	defer s.bus.mu.Unlock()
	delete(s.bus.handlers, s.sub)
}

func (b *Bus) serve(ctx context.Context, lane chan *nats.Msg) {
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-lane:
			b.handle(m)
		}
	}
}

func (b *Bus) handle(m *nats.Msg) {
	if len(m.Data) < headSize {
		return // of something else that uses the same NATS
	}
	from, question := Run(binary.BigEndian.Uint64(m.Data)), binary.BigEndian.Uint64(m.Data[8:])
	b.mu.RLock()
	handle := b.handlers[m.Sub]
	if question != 0 {
		_, subject, _ := strings.Cut(strings.TrimPrefix(m.Subject, questionPrefix), ".") // behind whom it is for
		handle = b.answering[subject]
	}
	b.mu.RUnlock()
	var reply []byte
	if handle != nil {
		reply = handle(from, m.Data[headSize:])
	}
	if question != 0 {
		_ = b.conn.Publish(m.Reply, b.envelope(question, reply)) // who asked has a deadline
	}
}

// Answer has a handler called with every question about a subject. Until then, and
// with nil again, the node gives an empty answer.
func (b *Bus) Answer(subject string, handle Handler) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answering[subject] = handle
}

// listen takes the answers.
func (b *Bus) listen(ctx context.Context, answers chan *nats.Msg) {
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-answers:
			if len(m.Data) < headSize {
				continue
			}
			b.mu.RLock()
			to := b.asked[binary.BigEndian.Uint64(m.Data[8:])]
			b.mu.RUnlock()
			if to == nil {
				continue // too late
			}
			select {
			case to <- answer{Run(binary.BigEndian.Uint64(m.Data)), m.Data[headSize:]}:
			default: // more answers than nodes
			}
		}
	}
}

// Ask puts a question to all other nodes that are alive, and returns what they
// said, by run. It waits until each of them has answered, or until ctx ends: then
// some are missing, and the error says how many. Whoever has answered knows of what
// this node subscribed to before it asked.
func (b *Bus) Ask(ctx context.Context, subject string, parts ...[]byte) (map[Run][]byte, error) {
	wanted := map[Run]bool{}
	for _, m := range b.Members() {
		wanted[m.Run] = true
	}
	return b.ask(ctx, wanted, toAll, subject, parts)
}

// AskOne puts a question to one node; the others do not hear of it.
func (b *Bus) AskOne(ctx context.Context, node Run, subject string, parts ...[]byte) ([]byte, error) {
	answers, err := b.ask(ctx, map[Run]bool{node: true}, node.String(), subject, parts)
	return answers[node], err
}

func (b *Bus) ask(ctx context.Context, wanted map[Run]bool, to, subject string, parts [][]byte) (map[Run][]byte, error) {
	answers := map[Run][]byte{}
	if len(wanted) == 0 {
		return answers, nil
	}
	question := b.questions.Add(1)
	come := make(chan answer, 64)
	b.mu.Lock()
	b.asked[question] = come
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		delete(b.asked, question)
		b.mu.Unlock()
	}()
	if err := b.conn.PublishRequest(questionPrefix+to+"."+subject, b.answers(), b.envelope(question, parts...)); err != nil {
		return answers, err
	}
	for {
		select {
		case <-ctx.Done():
			return answers, fmt.Errorf("%d of %d nodes did not answer: %w", len(wanted), len(wanted)+len(answers), ctx.Err())
		case a := <-come:
			answers[a.from] = a.data
			delete(wanted, a.from)
			if len(wanted) == 0 {
				return answers, nil
			}
		}
	}
}
