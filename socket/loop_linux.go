package socket

import (
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// loop is an event loop. It owns its connections from their acceptance to their
// end: it alone reads from them, writes to them and knows their state, so that
// nothing of that needs a lock. What others want of it, and Handlers that it
// calls too, they post; it does what was posted in the order of posting, which is
// what gives a group its one order.
//
// A turn takes what came in, does what was posted and what is due, and then
// writes: for each connection everything that is pending at once.
type loop struct {
	// Set by newLoop, read-only after.
	server *Server
	index  int // in Server.loops
	poll   *poller
	begun  time.Time

	load atomic.Int64 // its connections and handshakes, for who deals out new ones

	mu     sync.Mutex // guards what follows
	posted []post
	asleep bool
	gone   bool // it takes nothing any more

	errands errands

	// Owned by run.
	taken  []post
	now    int64               // nanoseconds since begun
	conns  crowd[int32, *Conn] // by descriptor, of which each loop has a part
	held   int                 // of them, and those whose end is not through
	ending bool                // when none is held
	events []unix.EpollEvent   // that are still to be taken
	heard  int                 // messages in this turn, a request counted as several
	coming []*Conn             // that have arrived and were not looked at, oldest first
	wheel  wheel
	buffer []byte // for all that is read
	reader reader // for who is not in the middle of a frame
	delivery
	frames, bytes, framesIn, bytesIn int // for the metrics
}

// owned is what a loop knows of a connection. There may be very many: it is small
// and has no goroutine, timer or channel, and no buffer while it is idle.
type owned struct {
	loop *loop // nil on the portable transport; read-only after accept

	home  atomic.Pointer[Group] // the first group that it is in; set under Group.mu
	ended atomic.Uint32         // why and code of the end, once it has begun: see loop.end

	// Owned by the loop.
	fd                  int32 // -1 once it is closed
	at                  int32 // in section.members
	watched             uint8 // by the poller, for what
	state               state
	born, alive         int64 // accepted; last pong or complete frame
	ping, wake          int64 // next times; 0 if no Wake is wanted
	due                 int64 // the tick of its place in the wheel; 0 if it has none
	next, prev          *Conn // there
	framesIn, framesOut uint64
	section             *section // of the group that is its home
	seen                uint64   // of section's frames, those before this are written or in out
	partial             *reader  // nil unless in the middle of a frame or message
	out                 *backlog // nil while nothing waits and the end has not begun
	guest               *guest   // nil once it is open
}

// state is what is so with a connection.
type state uint16

const (
	blocked    state = 1 << iota // the kernel takes no more until it says so
	shut                         // nothing more is queued
	final                        // our close frame ends the closing handshake: the peer's was here, or is not waited for
	closeSent                    // our close frame is written
	discarding                   // what it sends is thrown away
	touched                      // is in delivery.touched
	waking                       // Handler.Wake runs
	lapsed                       // its end had begun at the last ping
)

func (s state) is(what state) bool { return s&what != 0 }

// post is something to be done by a loop.
type post struct {
	kind    kind
	hard    bool // of a drop: as a reset
	conn    *Conn
	section *section
	frame   *Frame
	at      int64
}

type kind uint8

const (
	arrived kind = iota // accepted by a listener
	expelled
	displaced // by a newer one
	refused
	opened // Handler.Open has returned
	sent
	dropped
	wakeSet
	woken  // Handler.Wake has returned
	joined // a group, its first one
	joinedAnother
	left
	leftAnother
	sentAll
	lastTurn
)

// bufferBytes is what is read from one connection at a time. It bounds how many
// messages of one connection a turn takes.
const bufferBytes = 8 << 10

func newLoop(s *Server, index int) (*loop, error) {
	p, err := newPoller()
	if err != nil {
		return nil, err
	}
	return &loop{server: s, index: index, poll: p, begun: time.Now(), buffer: make([]byte, bufferBytes)}, nil
}

// loopsWanted is one for each processor that the process may use. GOMAXPROCS may
// be more, to let something else wait in a system call.
func loopsWanted() int { return min(runtime.GOMAXPROCS(0), runtime.NumCPU()) }

// startLoops makes one loop for each processor.
func (s *Server) startLoops() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over || len(s.loops) > 0 {
		return true
	}
	var loops []*loop
	for i := range loopsWanted() {
		l, err := newLoop(s, i)
		if err != nil {
			s.config.Log.Warn("no event loops: each connection gets a goroutine", "err", err)
			for _, l := range loops {
				l.poll.close()
			}
			return false
		}
		loops = append(loops, l)
	}
	s.loops = loops
	for _, l := range loops {
		s.running.Go(l.run)
	}
	return true
}

// post has the loop do something soon. It never waits.
func (l *loop) post(p post) {
	l.mu.Lock()
	if l.gone {
		l.mu.Unlock()
		return
	}
	l.posted = append(l.posted, p)
	wake := l.asleep
	l.asleep = false
	l.mu.Unlock()
	if wake {
		l.poll.wake()
	}
}

func (l *loop) send(c *Conn, f *Frame) {
	if f.last || c.own.ended.Load() == 0 {
		l.post(post{kind: sent, conn: c, frame: f})
	}
}

func (l *loop) drop(c *Conn, why Reason, hard bool) {
	l.end(c, why, noCode)
	l.post(post{kind: dropped, conn: c, hard: hard})
}

func (l *loop) wakeAt(c *Conn, at time.Time) {
	p := post{kind: wakeSet, conn: c}
	if !at.IsZero() {
		p.at = max(int64(at.Sub(l.begun)), 1)
	}
	l.post(p)
}

// last has the loop end once it holds no connection.
func (l *loop) last() { l.post(post{kind: lastTurn}) }

// end notes why the connection ends; the first reason counts.
func (l *loop) end(c *Conn, why Reason, code uint16) {
	c.own.ended.CompareAndSwap(0, uint32(slices.Index(reasons, why)+1)<<16|uint32(code))
}

func (o *owned) reason() (Reason, uint16) {
	ended := o.ended.Load()
	return reasons[ended>>16-1], uint16(ended)
}

// courtesy is how long a loop runs before others have a turn on its processor.
const courtesy = int64(time.Millisecond)

func (l *loop) run() {
	defer l.poll.close()
	yielded := int64(0)
	for {
		switch {
		case len(l.events) > 0: // of the last turn
		case l.busy() || len(l.coming) > 0:
			l.events = l.poll.events[:l.poll.look()]
		default:
			l.events = l.poll.events[:l.sleep()]
		}
		l.now = int64(time.Since(l.begun))
		l.wheel.turn(l.now, l.due) // first: what is put into it now counts from now
		l.listen()
		l.perform()
		l.meet()
		l.deliver()
		l.count()
		if l.ending && l.held == 0 && l.leave() {
			return
		}
		if l.now-yielded > courtesy {
			yielded = l.now
			runtime.Gosched()
		}
	}
}

// heardATurn is after how many messages the turn goes on to what came of them:
// those who send without pause, and there may be many, do not keep who waits to
// be written to waiting.
const heardATurn = 256

// listen takes the events of the turn.
func (l *loop) listen() {
	l.heard = 0
	for len(l.events) > 0 && l.heard < heardATurn {
		e := l.events[0]
		l.events = l.events[1:]
		l.event(e)
	}
}

// sleep waits for events, for something due or for something posted.
func (l *loop) sleep() int {
	at := time.Time{}
	if next := l.wheel.next(); next != 0 {
		at = l.begun.Add(time.Duration(next))
	}
	l.poll.until(at) // before asleep is set: who posts from then on sets another time
	l.mu.Lock()
	if len(l.posted) > 0 {
		l.mu.Unlock()
		return l.poll.look()
	}
	l.asleep = true
	l.mu.Unlock()
	n := l.poll.wait()
	l.mu.Lock()
	l.asleep = false
	l.mu.Unlock()
	return n
}

// leave ends the loop unless something was posted meanwhile.
func (l *loop) leave() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gone = len(l.posted) == 0
	return l.gone
}

// mostPosts is how many posts there is room for when none waits, 160 KB.
const mostPosts = 1 << 12

// perform does what was posted.
func (l *loop) perform() {
	l.mu.Lock()
	l.posted, l.taken = l.taken[:0], l.posted
	l.mu.Unlock()
	for i := range l.taken {
		l.do(&l.taken[i])
	}
	if cap(l.taken) > mostPosts { // a storm is over
		l.taken = nil
		return
	}
	clear(l.taken)
}

func (l *loop) do(p *post) {
	c := p.conn
	switch p.kind {
	case arrived:
		l.arrive(c)
	case expelled:
		l.expel(c)
	case displaced:
		l.turnOut(c)
	case refused:
		l.refuse(c)
	case opened:
		l.open(c, p.frame)
	case sent:
		l.settle(c)
		l.enqueue(c, p.frame)
	case dropped:
		l.dropNow(c, p.hard)
	case wakeSet:
		c.own.wake = p.at
		l.schedule(c)
	case woken:
		l.awake(c)
	case joined:
		p.section.add(c)
	case joinedAnother:
		p.section.addAnother(c)
	case left:
		l.settle(c)
		p.section.remove(c)
	case leftAnother:
		delete(p.section.others, c)
	case sentAll:
		l.sendAll(p.section, p.frame)
	case lastTurn:
		l.ending = true
	}
}

// event takes what the poller reports of a descriptor. It may be stale, of one
// that was closed meanwhile: so nothing is believed, all is tried.
func (l *loop) event(e unix.EpollEvent) {
	c := l.conns.in[e.Fd]
	if c == nil {
		return
	}
	if c.own.guest != nil {
		l.attend(c)
		return
	}
	if e.Events&forOutput != 0 && c.own.state.is(blocked) {
		c.own.state &^= blocked
		l.watch(c, forInput)
		l.flush(c)
	}
	if e.Events&^forOutput != 0 && c.own.fd >= 0 {
		l.receive(c)
	}
}

func (l *loop) watch(c *Conn, what uint8) {
	l.poll.watch(int(c.own.fd), c.own.watched, what)
	c.own.watched = what
}

// schedule puts the connection into the wheel for what is due first.
func (l *loop) schedule(c *Conn) {
	o := &c.own
	if o.guest != nil || o.fd < 0 {
		return
	}
	next := o.ping
	if o.wake != 0 && !o.state.is(waking) {
		next = min(next, o.wake)
	}
	if o.state.is(blocked) {
		next = min(next, o.out.moved+int64(l.server.config.StallTimeout))
	}
	if o.state.is(closeSent) {
		next = min(next, o.out.until)
	}
	l.wheel.set(c, next)
}

// due does what the time has come for.
func (l *loop) due(c *Conn) {
	o := &c.own
	if o.guest != nil {
		l.guestDue(c)
		return
	}
	switch {
	case o.state.is(blocked) && l.now >= o.out.moved+int64(l.server.config.StallTimeout):
		// The poller speaks up only when there is a good deal of room.
		moved := o.out.moved
		o.state &^= blocked
		l.write(c)
		if o.state.is(blocked) && o.out.moved == moved {
			l.reset(c, SlowViewer)
		}
		if o.fd < 0 {
			return
		}
		if !o.state.is(blocked) {
			l.watch(c, forInput)
		}
	case o.state.is(closeSent) && l.now >= o.out.until:
		l.over(c)
		return
	}
	if l.now >= o.ping && !l.pingOrReset(c) {
		return
	}
	if o.wake != 0 && l.now >= o.wake && !o.state.is(waking) {
		o.wake = 0
		o.state |= waking
		l.errand(func() {
			l.server.wake(c)
			l.post(post{kind: woken, conn: c})
		})
	}
	l.schedule(c)
}

// pingOrReset pings, unless the connection is silent or its end does not end: then
// it is reset.
func (l *loop) pingOrReset(c *Conn) (lives bool) {
	o := &c.own
	every := int64(l.server.config.PingInterval)
	o.ping = l.now + every
	// The tenth is for a pong that came a little after its ping.
	if o.state.is(lapsed) || l.now-o.alive > int64(l.server.config.SilentIntervals)*every-every/10 {
		l.reset(c, Silent)
		return false
	}
	if o.ended.Load() != 0 {
		o.state |= lapsed
	}
	l.settle(c)
	l.enqueue(c, ping)
	return o.fd >= 0
}

// awake goes on after Handler.Wake.
func (l *loop) awake(c *Conn) {
	c.own.state &^= waking
	if c.own.fd < 0 {
		l.closed(c)
		return
	}
	l.schedule(c)
}

// wake calls Handler.Wake.
func (s *Server) wake(c *Conn) {
	defer s.recover(c)
	s.handler.Wake(c)
}

// dropNow ends TCP without a close frame.
func (l *loop) dropNow(c *Conn, hard bool) {
	if g := c.own.guest; g != nil { // Open has not returned
		g.doomed, g.hard = true, g.hard || hard
		return
	}
	if hard {
		l.forget(c)
	}
	l.over(c)
}

// forget has the kernel forget what it holds of the connection when it is closed.
func (l *loop) forget(c *Conn) {
	if c.own.fd >= 0 {
		_ = unix.SetsockoptLinger(int(c.own.fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
}

// reset drops the connection and has the kernel forget what it holds.
func (l *loop) reset(c *Conn, why Reason) {
	l.end(c, why, noCode)
	l.forget(c)
	l.over(c)
}

// over ends an open connection. Closed is called when Wake, if it runs, has returned.
func (l *loop) over(c *Conn) {
	o := &c.own
	if o.fd < 0 {
		return
	}
	l.end(c, ClientGone, noCode)
	l.shutDescriptor(c)
	l.wheel.remove(c)
	o.state |= shut
	o.partial = nil
	if o.out != nil {
		l.free(o.out)
		o.out = nil
	}
	if !o.state.is(waking) {
		l.closed(c)
	}
}

func (l *loop) shutDescriptor(c *Conn) {
	l.conns.remove(c.own.fd)
	_ = unix.Close(int(c.own.fd)) // which takes it out of the poller's set too
	c.own.fd, c.own.watched = -1, 0
}

// closed is the last that happens to a connection.
func (l *loop) closed(c *Conn) {
	l.release()
	o := &c.own
	why, code := o.reason()
	end := End{Reason: why, Code: code, FramesIn: o.framesIn, FramesOut: o.framesOut, Age: time.Duration(l.now - o.born)}
	l.errand(func() {
		l.server.remove(c, end)
		defer l.server.recover(c)
		l.server.handler.Closed(c, end)
	})
}

// release ends the loop's part of a connection or handshake.
func (l *loop) release() {
	l.held--
	l.load.Add(-1)
}

// count hands the loop's counts to the metrics.
func (l *loop) count() {
	m := l.server.metrics
	if l.frames|l.bytes != 0 {
		m.framesOut.Add(float64(l.frames))
		m.bytesOut.Add(float64(l.bytes))
	}
	if l.framesIn|l.bytesIn != 0 {
		m.framesIn.Add(float64(l.framesIn))
		m.bytesIn.Add(float64(l.bytesIn))
	}
	l.frames, l.bytes, l.framesIn, l.bytesIn = 0, 0, 0, 0
}
