package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/centrifugal/centrifuge"
	coder "github.com/coder/websocket"
	"github.com/gorilla/websocket"
	"github.com/lxzan/gws"
	nats "github.com/nats-io/nats-server/v2/server"
)

// The peers are each as its own documentation shows it: the README's server of
// Centrifuge, the chat examples of gorilla/websocket and coder/websocket, the
// Broadcaster of gws, a NATS server with its WebSocket listener. What differs: who
// may come is not checked, messages may have 1,024 bytes, a path is a room, and the
// queue of coder's example, of 16 messages, is that of gorilla's, 256.

func init() {
	servers["centrifuge"] = serveCentrifuge
	servers["nats"] = serveNATS
	servers["gorilla"] = serveGorilla
	servers["gws"] = serveGWS
	servers["coder"] = serveCoder
}

func serveCentrifuge(l net.Listener, ready func(string)) error {
	node, err := centrifuge.New(centrifuge.Config{})
	if err != nil {
		return err
	}
	node.OnConnect(func(client *centrifuge.Client) {
		client.OnSubscribe(func(_ centrifuge.SubscribeEvent, cb centrifuge.SubscribeCallback) {
			cb(centrifuge.SubscribeReply{}, nil)
		})
		client.OnPublish(func(_ centrifuge.PublishEvent, cb centrifuge.PublishCallback) {
			cb(centrifuge.PublishReply{}, nil)
		})
	})
	if err := node.Run(); err != nil {
		return err
	}
	handler := centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{})
	ready(l.Addr().String())
	return http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler.ServeHTTP(w, r.WithContext(centrifuge.SetCredentials(r.Context(), &centrifuge.Credentials{UserID: "42"})))
	}))
}

func serveNATS(l net.Listener, ready func(string)) error {
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil { // NATS listens itself
		return err
	}
	s, err := nats.NewServer(&nats.Options{Host: "127.0.0.1", Port: nats.RANDOM_PORT, NoSigs: true, NoLog: true,
		Websocket: nats.WebsocketOpts{Host: "127.0.0.1", Port: port, NoTLS: true}})
	if err != nil {
		return err
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		return errors.New("not ready within 10 s")
	}
	ready(l.Addr().String())
	s.WaitForShutdown()
	return nil
}

// chatRooms makes a room for each path on its first visit.
type chatRooms[R any] struct {
	mu    sync.Mutex
	rooms map[string]R
	open  func() R
}

func (c *chatRooms[R]) of(r *http.Request) R {
	c.mu.Lock()
	defer c.mu.Unlock()
	room, ok := c.rooms[r.URL.Path]
	if !ok {
		if c.rooms == nil {
			c.rooms = map[string]R{}
		}
		room = c.open()
		c.rooms[r.URL.Path] = room
	}
	return room
}

const messageAtMost = 1024

// gorillaHub and gorillaClient are examples/chat of gorilla/websocket.
type gorillaHub struct {
	clients              map[*gorillaClient]bool
	broadcast            chan []byte
	register, unregister chan *gorillaClient
}

type gorillaClient struct {
	hub  *gorillaHub
	conn *websocket.Conn
	send chan []byte
}

func (h *gorillaHub) run() {
	for {
		select {
		case client := <-h.register:
			h.clients[client] = true
		case client := <-h.unregister:
			if _, ok := h.clients[client]; ok {
				delete(h.clients, client)
				close(client.send)
			}
		case message := <-h.broadcast:
			for client := range h.clients {
				select {
				case client.send <- message:
				default:
					close(client.send)
					delete(h.clients, client)
				}
			}
		}
	}
}

const (
	gorillaWriteWait  = 10 * time.Second
	gorillaPongWait   = 60 * time.Second
	gorillaPingPeriod = gorillaPongWait * 9 / 10
)

func (c *gorillaClient) readPump() {
	defer func() {
		c.hub.unregister <- c
		c.conn.Close()
	}()
	c.conn.SetReadLimit(messageAtMost)
	_ = c.conn.SetReadDeadline(time.Now().Add(gorillaPongWait))
	c.conn.SetPongHandler(func(string) error { return c.conn.SetReadDeadline(time.Now().Add(gorillaPongWait)) })
	for {
		_, message, err := c.conn.ReadMessage()
		if err != nil {
			return
		}
		c.hub.broadcast <- bytes.TrimSpace(bytes.ReplaceAll(message, []byte{'\n'}, []byte{' '}))
	}
}

func (c *gorillaClient) writePump() {
	ticker := time.NewTicker(gorillaPingPeriod)
	defer func() {
		ticker.Stop()
		c.conn.Close()
	}()
	for {
		select {
		case message, ok := <-c.send:
			_ = c.conn.SetWriteDeadline(time.Now().Add(gorillaWriteWait))
			if !ok {
				_ = c.conn.WriteMessage(websocket.CloseMessage, []byte{})
				return
			}
			w, err := c.conn.NextWriter(websocket.TextMessage)
			if err != nil {
				return
			}
			_, _ = w.Write(message)
			for range len(c.send) { // what is queued joins the same message
				_, _ = w.Write([]byte{'\n'})
				_, _ = w.Write(<-c.send)
			}
			if err := w.Close(); err != nil {
				return
			}
		case <-ticker.C:
			_ = c.conn.SetWriteDeadline(time.Now().Add(gorillaWriteWait))
			if err := c.conn.WriteMessage(websocket.PingMessage, nil); err != nil {
				return
			}
		}
	}
}

func serveGorilla(l net.Listener, ready func(string)) error {
	upgrader := websocket.Upgrader{ReadBufferSize: 1024, WriteBufferSize: 1024}
	rooms := &chatRooms[*gorillaHub]{open: func() *gorillaHub {
		h := &gorillaHub{broadcast: make(chan []byte), register: make(chan *gorillaClient), unregister: make(chan *gorillaClient), clients: map[*gorillaClient]bool{}}
		go h.run() // until the process ends
		return h
	}}
	ready(l.Addr().String())
	return http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		client := &gorillaClient{hub: rooms.of(r), conn: conn, send: make(chan []byte, 256)}
		client.hub.register <- client
		go client.writePump()
		go client.readPump()
	}))
}

// gwsRoom broadcasts with a Broadcaster, as the README of gws shows it.
type gwsRoom struct {
	mu    sync.Mutex
	conns map[*gws.Conn]struct{}
}

type gwsHandler struct {
	gws.BuiltinEventHandler
	rooms *chatRooms[*gwsRoom]
}

func roomOf(socket *gws.Conn) *gwsRoom {
	r, _ := socket.Session().Load("room")
	return r.(*gwsRoom)
}

func (gwsHandler) OnOpen(socket *gws.Conn) {
	r := roomOf(socket)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conns[socket] = struct{}{}
}

func (gwsHandler) OnClose(socket *gws.Conn, _ error) {
	r := roomOf(socket)
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, socket)
}

func (gwsHandler) OnMessage(socket *gws.Conn, message *gws.Message) {
	defer message.Close()
	b := gws.NewBroadcaster(message.Opcode, bytes.Clone(message.Bytes()))
	defer b.Close()
	r := roomOf(socket)
	r.mu.Lock()
	defer r.mu.Unlock()
	for conn := range r.conns {
		_ = b.Broadcast(conn)
	}
}

func serveGWS(l net.Listener, ready func(string)) error {
	rooms := &chatRooms[*gwsRoom]{open: func() *gwsRoom { return &gwsRoom{conns: map[*gws.Conn]struct{}{}} }}
	upgrader := gws.NewUpgrader(gwsHandler{rooms: rooms}, &gws.ServerOption{
		Authorize: func(r *http.Request, session gws.SessionStorage) bool {
			session.Store("room", rooms.of(r))
			return true
		},
	})
	ready(l.Addr().String())
	return http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		socket, err := upgrader.Upgrade(w, r)
		if err != nil {
			return
		}
		go socket.ReadLoop()
	}))
}

// coderRoom and coderSubscriber are the chat example of coder/websocket, with
// messages that come over the socket instead of a POST.
type coderRoom struct {
	mu          sync.Mutex
	subscribers map[*coderSubscriber]struct{}
}

type coderSubscriber struct {
	messages  chan []byte
	closeSlow func()
}

func (r *coderRoom) publish(message []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for s := range r.subscribers {
		select {
		case s.messages <- message:
		default:
			go s.closeSlow()
		}
	}
}

func (r *coderRoom) serve(ctx context.Context, c *coder.Conn) {
	defer c.CloseNow()
	s := &coderSubscriber{messages: make(chan []byte, 256), closeSlow: func() {
		_ = c.Close(coder.StatusPolicyViolation, "connection too slow to keep up with messages")
	}}
	r.mu.Lock()
	r.subscribers[s] = struct{}{}
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.subscribers, s)
	}()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer cancel()
		for {
			_, message, err := c.Read(ctx)
			if err != nil {
				return
			}
			r.publish(message)
		}
	}()
	for {
		select {
		case message := <-s.messages:
			if err := writeTimeout(ctx, 5*time.Second, c, message); err != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

func writeTimeout(ctx context.Context, timeout time.Duration, c *coder.Conn, message []byte) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return c.Write(ctx, coder.MessageText, message)
}

func serveCoder(l net.Listener, ready func(string)) error {
	rooms := &chatRooms[*coderRoom]{open: func() *coderRoom { return &coderRoom{subscribers: map[*coderSubscriber]struct{}{}} }}
	ready(l.Addr().String())
	return http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := coder.Accept(w, r, nil)
		if err != nil {
			return
		}
		rooms.of(r).serve(context.WithoutCancel(r.Context()), c)
	}))
}
