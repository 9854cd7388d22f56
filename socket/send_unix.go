//go:build unix

package socket

import (
	"errors"

	"golang.org/x/sys/unix"
)

// sendOnce writes what the kernel takes at once.
func sendOnce(fd uintptr, b []byte) (int, error) {
	for {
		n, err := unix.Write(int(fd), b)
		if err != unix.EINTR {
			return max(n, 0), err
		}
	}
}

func wouldBlock(err error) bool { return errors.Is(err, unix.EAGAIN) }

// receiveOnce reads what the kernel has.
func receiveOnce(fd uintptr, b []byte) (int, error) {
	for {
		n, err := unix.Read(int(fd), b)
		if err != unix.EINTR {
			return max(n, 0), err
		}
	}
}

// peekOnce says whether the kernel has bytes.
func peekOnce(fd uintptr) bool {
	n, _, err := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
	return n > 0 && err == nil
}

const rawReads = true
