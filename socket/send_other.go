//go:build !unix

package socket

import "errors"

var errNoRaw = errors.New("raw descriptors are not used on this system")

func sendOnce(uintptr, []byte) (int, error) { return 0, errNoRaw }

func wouldBlock(err error) bool { return errors.Is(err, errNoRaw) }

func receiveOnce(uintptr, []byte) (int, error) { return 0, errNoRaw }

func peekOnce(uintptr) bool { return false }

const rawReads = false
