//go:build !linux

package socket

import (
	"net"
	"time"
)

// Systems without epoll have no event loops: nothing here is ever called.

type loop struct{}

type owned struct {
	loop  *loop
	ended flag
}

type flag struct{}

func (flag) Load() uint32 { return 0 }

type spread struct{ count int }

func (*spread) add(*Group, *Conn)    {}
func (*spread) remove(*Group, *Conn) {}
func (*spread) send(*Frame)          {}

func (*Server) acceptor(net.Listener) (accept func() error, end func()) { return nil, nil }

func (*loop) last()                     {}
func (*loop) send(*Conn, *Frame)        {}
func (*loop) drop(*Conn, Reason, bool)  {}
func (*loop) end(*Conn, Reason, uint16) {}
func (*loop) wakeAt(*Conn, time.Time)   {}
