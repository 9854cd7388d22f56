package socket

import (
	"slices"

	"golang.org/x/sys/unix"
)

// backlog is what waits for a connection that cannot be written to at once, or
// that gets frames of its own.
type backlog struct {
	queue
	moved   int64 // when the kernel last took something, while it is blocked
	until   int64 // by when the peer has to end, once our close frame is written
	ignored int   // bytes that were thrown away
}

// section is the members of a group that one loop owns. What is sent to the group
// is kept here once, until each member was given it: a member's owned.seen says
// how far it has come. A member whose home is another group has each frame in its
// own backlog at once, so that the order between the groups is kept.
type section struct {
	loop *loop
	size int // of members and others together; guarded by Group.mu

	// Owned by the loop.
	members []*Conn
	others  map[*Conn]struct{}
	frames  []*Frame // that some member has not seen
	first   uint64   // the number of frames[0]
	bytes   int      // of frames
	next    int      // the member that a round has come to
	low     uint64   // the least seen of those that it has come to
	queued  bool     // is in delivery.sections
}

func (s *section) end() uint64 { return s.first + uint64(len(s.frames)) }

// delivery is what a loop has to write.
type delivery struct {
	touched  []*Conn    // have something in their own backlog
	sections []*section // have something that members have not seen; oldest first
	spare    []*backlog // for who will need one

	room []byte // for joining a backlog

	// What was joined last for members of a section, who mostly need the same.
	chunk     []byte
	chunkRoom []byte
	chunkOf   *section
	from, to  uint64 // the frames in chunk
	sectionAt uint64 // section.end then
}

const (
	// writesATurn bounds a turn, 0.5 to 1 ms of the kernel's time: then the loop
	// looks at what came in, and the others of its groups have their turn.
	writesATurn = 128

	// mostTogether is how many bytes one write carries to a member that keeps up.
	// Twice that of a queue, it makes half as many writes at the highest rates, of
	// which 1.45 times as much is held; more than this gives nothing. For who has
	// something in a queue it would be too coarse: the kernel gives room back by the
	// piece, and who reads slowly would seem to stand still.
	mostTogether = 32 << 10

	// turnsAtOnce is how many writes a connection gets before others have their turn.
	turnsAtOnce = 4

	mostSpare = 64
)

// busy says whether there is something to write.
func (d *delivery) busy() bool { return len(d.touched)+len(d.sections) > 0 }

// spread is the members of a group on event loops, by loop.
type spread struct {
	sections []*section // nil where there never was a member
	count    int
	second   map[*Conn]struct{} // members whose home is another group
}

// add is Group.Add. g.mu is held.
func (p *spread) add(g *Group, c *Conn) {
	o := &c.own
	what := joined
	if !o.home.CompareAndSwap(nil, g) {
		if _, member := p.second[c]; member || o.home.Load() == g {
			return
		}
		if p.second == nil {
			p.second = map[*Conn]struct{}{}
		}
		p.second[c] = struct{}{}
		what = joinedAnother
	}
	if p.sections == nil {
		p.sections = make([]*section, len(o.loop.server.loops))
	}
	s := p.sections[o.loop.index]
	if s == nil {
		s = &section{loop: o.loop}
		p.sections[o.loop.index] = s
	}
	s.size++
	p.count++
	o.loop.post(post{kind: what, conn: c, section: s})
}

// remove is Group.Remove. g.mu is held.
func (p *spread) remove(g *Group, c *Conn) {
	o := &c.own
	what := left
	if o.home.Load() != g {
		if _, member := p.second[c]; !member {
			return
		}
		delete(p.second, c)
		what = leftAnother
	}
	s := p.sections[o.loop.index]
	s.size--
	p.count--
	o.loop.post(post{kind: what, conn: c, section: s})
	if what == left {
		o.home.Store(nil) // only now: what another group posts comes behind
	}
}

// send is Group.Send: one post for each loop that has members. g.mu is held.
func (p *spread) send(f *Frame) {
	for _, s := range p.sections {
		if s != nil && s.size > 0 {
			s.loop.post(post{kind: sentAll, section: s, frame: f})
		}
	}
}

// add makes c a member, who sees what is sent from now on.
func (s *section) add(c *Conn) {
	o := &c.own
	o.section, o.seen, o.at = s, s.end(), int32(len(s.members))
	s.members = append(s.members, c)
}

// addAnother makes a member of c, whose home is another group.
func (s *section) addAnother(c *Conn) {
	if s.others == nil {
		s.others = map[*Conn]struct{}{}
	}
	s.others[c] = struct{}{}
}

// remove ends the membership of c, which has seen all that was there for it.
func (s *section) remove(c *Conn) {
	o := &c.own
	o.section = nil
	at := int(o.at)
	put := func(at int, c *Conn) { s.members[at], c.own.at = c, int32(at) }
	if at < s.next { // keep those that the round has come to before the others
		s.next--
		put(at, s.members[s.next])
		at = s.next
	}
	last := len(s.members) - 1
	put(at, s.members[last])
	s.members[last] = nil
	s.members = s.members[:last]
	if cap(s.members) > 64 && last < cap(s.members)/4 { // a storm is over
		s.members = slices.Clip(slices.Clone(s.members))
	}
}

// sendAll takes a frame that was sent to the section's group.
func (l *loop) sendAll(s *section, f *Frame) {
	for c := range s.others {
		l.settle(c)
		l.enqueue(c, f)
	}
	if len(s.members) == 0 {
		return
	}
	s.frames = append(s.frames, f)
	s.bytes += len(f.bytes)
	if !s.queued {
		s.queued = true
		l.sections = append(l.sections, s)
	}
	// We are late, not the viewers: nobody shall be cut for that. Nothing else is
	// done until they have it.
	if c := &l.server.config; len(s.frames) > c.QueueFrames/2 || s.bytes > c.QueueBytes/2 {
		for left := len(s.members); !l.advance(s, &left); left = len(s.members) {
		}
	}
}

// settle moves what the connection has not seen of its section's frames to its
// own backlog.
func (l *loop) settle(c *Conn) {
	o := &c.own
	s := o.section
	if s == nil {
		return
	}
	for end := s.end(); o.seen < end; {
		f := s.frames[o.seen-s.first]
		o.seen++
		l.enqueue(c, f)
	}
}

func (l *loop) backlog(c *Conn) *backlog {
	o := &c.own
	if o.out == nil {
		if last := len(l.spare) - 1; last >= 0 {
			o.out, l.spare = l.spare[last], l.spare[:last]
		} else {
			o.out = &backlog{}
		}
	}
	return o.out
}

func (l *loop) free(b *backlog) {
	if len(l.spare) == mostSpare || cap(b.frames) > 64 {
		return
	}
	clear(b.frames)
	*b = backlog{queue: queue{frames: b.frames[:0]}}
	l.spare = append(l.spare, b)
}

func (l *loop) touch(c *Conn) {
	if !c.own.state.is(touched) {
		c.own.state |= touched
		l.touched = append(l.touched, c)
	}
}

// enqueue adds a frame to the connection's backlog, behind what is there. Who does
// not take what it is sent is reset.
func (l *loop) enqueue(c *Conn, f *Frame) {
	o := &c.own
	if o.state.is(shut) {
		return
	}
	if !f.last && l.isFull(c, f) {
		if !o.state.is(blocked) {
			l.write(c) // it was not asked yet
			if o.state.is(shut) {
				return
			}
		}
		if o.guest != nil {
			l.end(c, SlowViewer, noCode)
			o.state |= shut
			o.guest.doomed, o.guest.hard = true, true
			return
		}
		if l.isFull(c, f) {
			l.reset(c, SlowViewer)
			return
		}
	}
	b := l.backlog(c)
	b.frames = append(b.frames, f)
	b.bytes += len(f.bytes)
	if f.last {
		o.state |= shut
	}
	l.touch(c)
}

func (l *loop) isFull(c *Conn, f *Frame) bool {
	b, config := c.own.out, &l.server.config
	return b != nil && len(b.frames) >= config.QueueFrames || len(f.bytes) > config.QueueBytes || b != nil && b.bytes+len(f.bytes) > config.QueueBytes
}

// pong answers a ping; of several that were not answered yet the last counts, so
// that a flood of pings queues one frame. Source: RFC 6455, 5.5.3.
func (l *loop) pong(c *Conn, f *Frame) {
	if !c.own.state.is(shut) {
		l.backlog(c).pong = f
		l.touch(c)
	}
}

// deliver writes what is pending, a turn's worth.
func (l *loop) deliver() {
	budget := writesATurn
	n := min(len(l.touched), writesATurn/2)
	for _, c := range l.touched[:n] {
		c.own.state &^= touched
		l.flush(c) // which may touch it again
	}
	budget -= n
	rest := copy(l.touched, l.touched[n:])
	clear(l.touched[rest:])
	l.touched = l.touched[:rest]
	n = 0
	for ; budget > 0 && n < len(l.sections); n++ {
		s := l.sections[n]
		if s.queued = !l.advance(s, &budget); s.queued {
			l.sections = append(l.sections, s) // others first
		}
	}
	rest = copy(l.sections, l.sections[n:])
	clear(l.sections[rest:])
	l.sections = l.sections[:rest]
	if len(l.sections) == 0 {
		l.chunkOf, l.chunk = nil, nil
	}
}

// advance goes round the section's members, of whom it takes as many off the
// budget, and says whether all have seen everything.
func (l *loop) advance(s *section, budget *int) bool {
	for {
		if s.next == 0 {
			s.low = s.end()
		}
		for s.next < len(s.members) {
			if *budget <= 0 {
				return false
			}
			*budget--
			c := s.members[s.next]
			s.next++
			l.give(s, c)
			s.low = min(s.low, c.own.seen)
		}
		s.next = 0
		s.trim()
		if len(s.frames) == 0 {
			return true
		}
	}
}

// trim drops the frames that all members have seen.
func (s *section) trim() {
	n := int(s.low - s.first)
	for _, f := range s.frames[:n] {
		s.bytes -= len(f.bytes)
	}
	s.frames = slices.Delete(s.frames, 0, n)
	s.first += uint64(n)
	if len(s.frames) == 0 && cap(s.frames) > 256 { // a storm is over
		s.frames = nil
	}
}

// give writes what the member has not seen: most often the same bytes as the last
// one got, in one system call, with nothing else to be done.
func (l *loop) give(s *section, c *Conn) {
	o := &c.own
	end := s.end()
	switch {
	case o.seen == end:
		return
	case o.state.is(shut):
		o.seen = end
		return
	case o.state.is(blocked) || o.out != nil || o.guest != nil:
		l.flush(c)
		return
	}
	if l.chunkOf != s || l.from != o.seen || l.sectionAt != end {
		l.join(s, o.seen)
	}
	n, errno := trySend(o.fd, l.chunk)
	l.bytes += n
	if n == len(l.chunk) {
		l.frames += int(l.to - l.from)
		o.framesOut += l.to - l.from
		o.seen = l.to
		return
	}
	if errno != 0 && errno != unix.EAGAIN {
		l.over(c)
		return
	}
	l.block(c)
	l.settle(c)
	if !o.state.is(shut) {
		l.wrote(c, n)
	}
}

// join makes the chunk of the section's frames from that number on.
func (l *loop) join(s *section, from uint64) {
	frames := s.frames[from-s.first:]
	l.chunkOf, l.from, l.to, l.sectionAt = s, from, from+1, s.end()
	l.chunk = frames[0].bytes
	if len(frames) == 1 || len(l.chunk)+len(frames[1].bytes) > mostTogether {
		return
	}
	room := append(l.chunkRoom[:0], l.chunk...)
	for _, f := range frames[1:] {
		if len(room)+len(f.bytes) > mostTogether {
			break
		}
		room = append(room, f.bytes...)
		l.to++
	}
	l.chunk, l.chunkRoom = room, room
}

// flush writes everything that is pending for the connection, unless the kernel
// is not ready for it.
func (l *loop) flush(c *Conn) {
	l.settle(c)
	l.write(c)
}

// write writes the connection's backlog.
func (l *loop) write(c *Conn) {
	o := &c.own
	if o.guest != nil || o.fd < 0 || o.state.is(blocked) {
		return
	}
	for range turnsAtOnce {
		b := o.out
		if b == nil {
			return
		}
		if !o.state.is(shut) {
			b.insertPong()
		}
		if len(b.frames) == 0 {
			if !o.state.is(shut) {
				o.out = nil
				l.free(b)
			}
			return
		}
		pending := b.join(&l.room)
		n, errno := trySend(o.fd, pending)
		if errno != 0 && errno != unix.EAGAIN {
			l.over(c)
			return
		}
		l.bytes += n
		if n < len(pending) {
			l.block(c)
		}
		l.wrote(c, n)
		if n < len(pending) {
			return
		}
	}
	l.touch(c) // others first
}

// block has the poller say when the kernel takes more.
func (l *loop) block(c *Conn) {
	o := &c.own
	o.state |= blocked
	b := l.backlog(c)
	if b.moved == 0 {
		b.moved = l.now
	}
	l.watch(c, forInput|forOutput)
	l.schedule(c)
}

// wrote notes what the kernel took. Behind a close frame nothing is written, and
// the peer has CloseTimeout for its own.
func (l *loop) wrote(c *Conn, n int) {
	o := &c.own
	b := o.out
	if n > 0 && o.state.is(blocked) {
		b.moved = l.now
		l.schedule(c)
	} else if !o.state.is(blocked) {
		b.moved = 0
	}
	whole, last := b.queue.wrote(n)
	o.framesOut += whole
	l.frames += int(whole)
	if !last {
		return
	}
	b.until = l.now + int64(l.server.config.CloseTimeout)
	o.state |= closeSent
	l.schedule(c)
	if o.state.is(final) {
		l.endWriting(c)
	}
}

// endWriting tells the peer that nothing comes any more: a client waits for the
// server to end TCP. What the peer still sends is read, since closing with
// unread bytes would reset the connection, and the close frame with it.
func (l *loop) endWriting(c *Conn) { _ = unix.Shutdown(int(c.own.fd), unix.SHUT_WR) }
