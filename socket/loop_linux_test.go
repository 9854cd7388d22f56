package socket

import (
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// still is a loop that nobody runs: a test takes its turns.
type still struct {
	*loop
	t testing.TB
	h *noting
}

// noting is a Handler that notes what ended.
type noting struct {
	Handler
	ends   chan End
	heard  func(*Conn)
	closed func(*Conn) // nil does nothing
}

func (n *noting) Message(c *Conn, _ []byte) { n.heard(c) }

func (n *noting) Closed(c *Conn, end End) {
	if n.closed != nil {
		n.closed(c)
	}
	n.ends <- end
}

func (n *noting) Handshake(u *Upgrade) {
	<-u.Context().Done()
	u.Refuse(503, "no")
}

func newStill(t testing.TB, c Config) *still {
	t.Helper()
	h := &noting{ends: make(chan End, 4096)}
	s := New(c, h)
	l, err := newLoop(s, 0)
	if err != nil {
		t.Fatal(err)
	}
	s.loops = []*loop{l}
	t.Cleanup(func() {
		for _, c := range maps.Clone(l.conns.in) {
			if c.own.guest != nil {
				l.dismiss(c)
			} else {
				l.over(c)
			}
		}
		s.running.Wait()
		l.poll.close()
	})
	return &still{l, t, h}
}

// connect makes an open connection of the loop, and is its peer's descriptor,
// until the test ends.
func (s *still) connect() (*Conn, int) {
	s.t.Helper()
	c, peer := s.pair()
	s.t.Cleanup(func() { _ = unix.Close(peer) })
	return c, peer
}

// pair is connect, and the caller closes the peer.
func (s *still) pair() (*Conn, int) {
	s.t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	c := &Conn{}
	c.own.loop, c.own.fd, c.own.guest = s.loop, int32(fds[0]), &guest{cancel: func() {}}
	s.server.metrics.connections.Inc()
	s.held++
	s.conns.add(c.own.fd, c)
	s.watch(c, forInput)
	s.open(c, &Frame{answer: true})
	s.turn()
	return c, fds[1]
}

// turn is one without events.
func (s *still) turn() {
	s.perform()
	s.wheel.turn(s.now, s.due)
	s.deliver()
}

// got is what a peer has received since it was asked last.
func (s *still) got(fd int) string {
	s.t.Helper()
	b := make([]byte, 64<<10)
	n := 0
	for {
		m, errno := tryReceive(int32(fd), b[n:])
		if n += m; m == 0 {
			if errno != 0 && errno != unix.EAGAIN {
				s.t.Fatal(errno)
			}
			return string(b[:n])
		}
		if n == len(b) {
			b = append(b, make([]byte, n)...)
		}
	}
}

// wantAll reads until the peer has as many bytes as wanted, while the loop
// writes what the kernel takes, and checks that it is these.
func (s *still) wantAll(c *Conn, peer int, want string) {
	s.t.Helper()
	got := ""
	for len(got) < len(want) {
		more := s.got(peer)
		if more == "" {
			s.t.Fatalf("%d bytes came, want %d; ended: %v", len(got), len(want), c.ending())
		}
		got += more
		for _, e := range s.poll.events[:s.poll.look()] {
			s.event(e)
		}
		s.turn()
	}
	if got != want {
		s.t.Error("it got something else")
	}
}

func wire(texts ...string) string {
	var all strings.Builder
	for _, text := range texts {
		all.Write(NewFrame([]byte(text)).bytes)
	}
	return all.String()
}

func TestAConnectionIsSmall(t *testing.T) {
	if size := unsafe.Sizeof(Conn{}); size > 192 {
		t.Errorf("a Conn has %d bytes, which there may be very many of; want at most 192, a size class", size)
	}
}

// Frames that were sent to a group are written without a lock and without
// allocation, whatever the number of members.
func TestADeliveryTakesNoLockAndNoMemory(t *testing.T) {
	s := newStill(t, Config{})
	g := s.server.NewGroup()
	const members = 50
	var peers []int
	for range members {
		c, peer := s.connect()
		g.Add(c)
		peers = append(peers, peer)
	}
	f := NewFrame([]byte("hello"))
	posts := 0
	buffer := make([]byte, 64)
	if n := testing.AllocsPerRun(100, func() {
		for range 3 {
			g.Send(f)
		}
		posts = len(s.posted)
		s.perform()
		s.server.mu.Lock()
		g.mu.Lock()
		s.mu.Lock()
		s.deliver()
		s.mu.Unlock()
		g.mu.Unlock()
		s.server.mu.Unlock()
		for _, peer := range peers {
			if n, errno := tryReceive(int32(peer), buffer); n != 3*len(f.bytes) || errno != 0 {
				t.Fatalf("%d bytes, %v", n, errno)
			}
		}
	}); n > 0 {
		t.Errorf("%v allocations for %d deliveries", n, 3*members)
	}
	if posts != 3 {
		t.Errorf("%d posts for 3 messages to %d members of one loop", posts, members)
	}
}

// A loop that writes to a big group goes on with the others after a slice of it.
func TestABigGroupDoesNotStarveASmallOne(t *testing.T) {
	s := newStill(t, Config{})
	big, small := s.server.NewGroup(), s.server.NewGroup()
	var peers []int
	for range 2 * writesATurn {
		c, peer := s.connect()
		big.Add(c)
		peers = append(peers, peer)
	}
	c, last := s.connect()
	small.Add(c)
	s.turn()
	big.Send(NewFrame([]byte("to many")))
	small.Send(NewFrame([]byte("to few")))
	reached := func() (n int) {
		for i, peer := range peers {
			if peer >= 0 && s.got(peer) != "" {
				n, peers[i] = n+1, -1
			}
		}
		return n
	}
	s.turn()
	if n := reached(); n != writesATurn {
		t.Errorf("the first turn reached %d members, want %d", n, writesATurn)
	}
	s.turn()
	if got := s.got(last); got != wire("to few") {
		t.Errorf("the small group got %q in the second turn", got)
	}
	s.turn()
	if n := reached(); n != writesATurn {
		t.Errorf("the other turns reached %d members, want %d", n, writesATurn)
	}
	if s.busy() {
		t.Error("something is left to write")
	}
}

// Whatever happens between the slices of a group, each member gets what was sent
// while it was one, in order and once.
func TestMembersComeAndGoBetweenSlices(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	s := newStill(t, Config{})
	g := s.server.NewGroup()
	type member struct {
		conn   *Conn
		peer   int
		want   string
		inside bool
	}
	var all []*member
	for range 2*writesATurn + 100 {
		c, peer := s.connect()
		all = append(all, &member{conn: c, peer: peer})
	}
	for round := range 60 {
		for range 40 {
			m := all[random.IntN(len(all))]
			switch random.IntN(4) {
			case 0:
				g.Remove(m.conn)
				m.inside = false
			case 1:
				own := fmt.Sprint("own ", round)
				m.conn.Send(NewFrame([]byte(own)))
				m.want += wire(own)
			default:
				g.Add(m.conn)
				m.inside = true
			}
		}
		if round == 0 {
			for _, m := range all {
				g.Add(m.conn)
				m.inside = true
			}
		}
		for i := range random.IntN(3) {
			text := fmt.Sprint("all ", round, " ", i)
			g.Send(NewFrame([]byte(text)))
			for _, m := range all {
				if m.inside {
					m.want += wire(text)
				}
			}
		}
		s.turn()
	}
	for s.busy() {
		s.turn()
	}
	inside := 0
	for i, m := range all {
		if got := s.got(m.peer); got != m.want {
			t.Fatalf("seed %d: member %d got %q, want %q", seed, i, got, m.want)
		}
		if m.inside {
			inside++
		}
	}
	if g.Len() != inside {
		t.Errorf("%d members, want %d", g.Len(), inside)
	}
}

// The order holds for who is in several groups.
func TestAMemberOfTwoGroups(t *testing.T) {
	s := newStill(t, Config{})
	a, b := s.server.NewGroup(), s.server.NewGroup()
	c, peer := s.connect()
	other, otherPeer := s.connect()
	send := func(g *Group, text string) { g.Send(NewFrame([]byte(text))) }
	a.Add(c)
	b.Add(c)
	b.Add(c)
	b.Add(other)
	send(a, "1")
	send(b, "2")
	c.Send(NewFrame([]byte("3")))
	send(a, "4")
	a.Remove(c)
	send(a, "nobody")
	a.Add(c)
	send(b, "5")
	send(a, "6")
	if b.Len() != 2 || a.Len() != 1 {
		t.Errorf("%d and %d members", b.Len(), a.Len())
	}
	b.Remove(c)
	b.Remove(c)
	send(b, "other")
	s.turn()
	if got, want := s.got(peer), wire("1", "2", "3", "4", "5", "6"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := s.got(otherPeer), wire("2", "5", "other"); got != want {
		t.Errorf("the other got %q, want %q", got, want)
	}
}

// Who does not read has what waits as references, is written to when the kernel
// takes more, and gets every byte in order.
func TestWhoReadsLateGetsEverything(t *testing.T) {
	s := newStill(t, Config{QueueBytes: 8 << 20, QueueFrames: 1 << 16})
	g := s.server.NewGroup()
	late, peer := s.connect()
	prompt, promptPeer := s.connect()
	g.Add(late)
	g.Add(prompt)
	want, gotPrompt := "", ""
	for i := range 600 {
		text := strings.Repeat(fmt.Sprint(i, " "), 200)
		g.Send(NewFrame([]byte(text)))
		want += wire(text)
		if i%10 == 0 {
			late.Send(NewFrame([]byte("own")))
			want += wire("own")
		}
		s.turn()
		gotPrompt += s.got(promptPeer)
	}
	if !late.own.state.is(blocked) || late.own.watched&forOutput == 0 {
		t.Fatal("the kernel took everything: the test shows nothing")
	}
	if len(gotPrompt) >= len(want) || len(late.own.section.frames) != 0 {
		t.Errorf("the section holds %d frames for who is late", len(late.own.section.frames))
	}
	s.wantAll(late, peer, want)
	if late.own.out != nil || late.own.watched != forInput {
		t.Error("it is not idle again")
	}
}

// Of those who stand still the one that takes a byte now and then stays.
func TestTheLoopResetsWhoStandsStill(t *testing.T) {
	s := newStill(t, Config{StallTimeout: 5 * time.Second, PingInterval: time.Hour})
	standing, _ := s.connect()
	slow, peer := s.connect()
	for range 100 {
		for _, c := range []*Conn{standing, slow} {
			c.Send(NewFrame([]byte(strings.Repeat("x", 8000))))
		}
	}
	s.turn()
	buffer := make([]byte, 4<<10)
	for range 30 {
		s.now += int64(time.Second)
		_, _ = tryReceive(int32(peer), buffer)
		s.turn()
	}
	if standing.own.fd >= 0 || slow.own.fd < 0 {
		t.Errorf("the one that stands still has descriptor %d, the slow one %d", standing.own.fd, slow.own.fd)
	}
	if end := <-s.h.ends; end.Reason != SlowViewer {
		t.Errorf("%+v", end)
	}
}

// We are late, and the viewers are not: nobody is cut off.
func TestMoreThanABacklogInOneTurn(t *testing.T) {
	s := newStill(t, Config{QueueFrames: 16})
	g := s.server.NewGroup()
	c, peer := s.connect()
	g.Add(c)
	want := ""
	for i := range 200 {
		text := fmt.Sprint(i)
		if i%3 == 0 {
			c.Send(NewFrame([]byte(text)))
		} else {
			g.Send(NewFrame([]byte(text)))
		}
		want += wire(text)
	}
	s.turn()
	if got := s.got(peer); got != want {
		t.Errorf("got %d bytes, want %d; ended %v", len(got), len(want), c.ending())
	}
}

// The peer closes between the two steps of our Close.
func TestAPeerThatClosesWithinOurClose(t *testing.T) {
	s := newStill(t, Config{})
	c, peer := s.connect()
	s.end(c, ClosedByServer, 1000)
	masked := []byte{0x88, 0x80, 0, 0, 0, 0}
	for range 3 { // its close frame, and what it should not send behind it
		_, _ = trySend(int32(peer), masked)
		s.receive(c)
		s.turn()
	}
	if got := s.got(peer); got != "" || c.own.fd < 0 {
		t.Fatalf("got %q, descriptor %d", got, c.own.fd)
	}
	s.send(c, closeFrame(1000, "kicked"))
	s.turn()
	if got, want := s.got(peer), string(closeFrame(1000, "kicked").bytes); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if n, errno := tryReceive(int32(peer), make([]byte, 1)); n != 0 || errno != 0 {
		t.Errorf("%d bytes, %v, want the end", n, errno)
	}
	_ = unix.Shutdown(peer, unix.SHUT_WR)
	s.receive(c)
	if end := <-s.h.ends; end.Reason != ClosedByServer || end.Code != 1000 || end.FramesOut != 1 {
		t.Errorf("%+v", end)
	}
}

// A loop that had nothing to do for a minute has a wheel that stands where it stood
// then: who comes now must not be shown out at once.
func TestAGuestHasItsTimeOnALoopThatWasIdle(t *testing.T) {
	s := newStill(t, Config{})
	s.now = int64(time.Minute)
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fds[0]); _ = unix.Close(fds[1]) })
	c := &Conn{}
	c.own.loop, c.own.fd, c.own.guest = s.loop, int32(fds[0]), &guest{}
	s.arrive(c)
	s.wheel.turn(s.now, s.due)
	if c.own.guest == nil || c.own.fd < 0 || c.own.due*tick <= s.now {
		t.Errorf("the guest is shown out, or due at tick %d, which is over", c.own.due)
	}
	s.wheel.remove(c)
	s.conns.remove(c.own.fd)
	s.release()
}

func TestWheel(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var w wheel
	conns := make([]*Conn, 200)
	due := make([]int64, len(conns)) // 0 is none
	for i := range conns {
		conns[i] = &Conn{}
	}
	now := int64(0)
	for range 20_000 {
		i := random.IntN(len(conns))
		switch random.IntN(5) {
		case 0:
			w.remove(conns[i])
			due[i] = 0
		case 1, 2:
			due[i] = now + random.Int64N(2*spokes*tick)
			w.set(conns[i], due[i])
		default:
			now += random.Int64N(20 * tick)
			w.turn(now, func(c *Conn) {
				i := slices.Index(conns, c)
				if due[i] == 0 {
					t.Fatal("it was taken out")
				}
				if now < due[i] { // beyond the wheel's turn
					w.set(c, due[i])
					return
				}
				due[i] = 0
			})
			next := w.next()
			for i, at := range due {
				if at != 0 && at <= now-tick {
					t.Fatalf("%d is late", i)
				}
				if at != 0 && (next == 0 || next > at+tick && next > now+tick) {
					t.Fatalf("next is %d, %d is due", next, at)
				}
			}
		}
	}
}

// Each loop gets its share of those who connect.
func TestConnectionsAreDealtOutEvenly(t *testing.T) {
	s := New(Config{}, &accepting{noting{ends: make(chan End, 100)}})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	defer func() {
		s.Close()
		<-served
	}()
	const each = 10
	loops := loopsWanted()
	for range each * loops {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	s.mu.Lock()
	all := s.loops
	s.mu.Unlock()
	for i, l := range all {
		if n := l.load.Load(); n != each {
			t.Errorf("loop %d of %d has %d connections, want %d", i, loops, n, each)
		}
	}
}

// Those who send without pause take turns with each other and with who is written to.
func TestWhoSendsWithoutPauseDoesNotKeepTheLoop(t *testing.T) {
	s := newStill(t, Config{})
	const flooders = 10
	message := []byte{0x81, 0x80, 0, 0, 0, 0}
	heard := map[*Conn]int{}
	all := 0
	s.h.heard = func(c *Conn) {
		heard[c]++
		all++
	}
	for range flooders {
		_, peer := s.connect()
		if n, errno := trySend(int32(peer), slices.Repeat(message, 20_000)); n < 8*bufferBytes {
			t.Fatal(n, errno)
		}
	}
	for turn := range 2 * flooders {
		if len(s.events) == 0 {
			s.events = s.poll.events[:s.poll.look()]
		}
		before := all
		s.listen()
		if most := heardATurn + bufferBytes/len(message); all-before > most {
			t.Errorf("%d messages in turn %d, want at most %d", all-before, turn, most)
		}
	}
	if len(heard) != flooders {
		t.Errorf("%d of %d were heard", len(heard), flooders)
	}
}

type accepting struct{ noting }

func (a *accepting) Handshake(u *Upgrade) { u.Accept("", nil) }
func (a *accepting) Open(*Conn)           {}

// A turn begins with a number of handshakes and no more, so that a storm does not
// keep what is to be written waiting.
func TestAStormTakesItsTurns(t *testing.T) {
	s := newStill(t, Config{})
	g := s.server.NewGroup()
	c, peer := s.connect()
	g.Add(c)
	for range 2*metATurn + 1 {
		s.arrives("")
	}
	g.Send(NewFrame([]byte("hello")))
	s.perform()
	for _, want := range []int{metATurn + 1, 1, 0} {
		s.meet()
		s.deliver()
		if len(s.coming) != want {
			t.Errorf("%d are still to be met, want %d", len(s.coming), want)
		}
	}
	if got := s.got(peer); got != wire("hello") {
		t.Errorf("got %q", got)
	}
}

// Who is turned out when its request has come, unread since the loop is behind,
// stays; the next who is silent goes instead.
func TestAStrangerWhoseRequestHasComeIsSpared(t *testing.T) {
	s := newStill(t, Config{PlaceTimeout: time.Nanosecond})
	spoke := s.arrives("GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	silent := s.arrives("")
	for !spoke.own.guest.turned.Load() { // the clock may stand still for a moment
		s.server.turnOut()
	}
	s.perform()
	for silent.own.guest != nil { // what sparing the one posted
		s.server.turnOut()
		s.perform()
	}
	if g := spoke.own.guest; g == nil || g.stage != waiting || g.turned.Load() {
		t.Errorf("who has spoken was turned out: %+v", g)
	}
	if s.meet(); spoke.own.watched != forInput {
		t.Error("who has spoken is not watched")
	}
	if silent.own.fd >= 0 {
		t.Error("who was turned out still has its descriptor")
	}
	s.expel(spoke)
	for spoke.own.guest != nil { // the Handler refuses it
		s.perform()
		runtime.Gosched()
	}
}

// arrives is a connection that has been accepted for the loop, and has sent that.
func (s *still) arrives(sent string) *Conn {
	s.t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = unix.Close(fds[1]) })
	if n, errno := trySend(int32(fds[1]), []byte(sent)); n != len(sent) || errno != 0 {
		s.t.Fatal(n, errno)
	}
	before := len(s.posted)
	s.server.admit(fds[0], netip.Addr{})
	return s.posted[before].conn
}
