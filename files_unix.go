//go:build unix

package hubbub

import "syscall"

// raiseOpenFiles lifts the limit of open files, and with it of viewers, to the
// hard limit, and returns what is in force; 0 if that cannot be asked. Go's
// runtime does the same at start; a program that embeds the server may have
// lowered it since.
func raiseOpenFiles() uint64 {
	var l syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l) != nil {
		return 0
	}
	if raised := l; raised.Cur < raised.Max {
		raised.Cur = raised.Max
		if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised) == nil {
			l = raised
		}
	}
	return uint64(l.Cur)
}
