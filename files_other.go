//go:build !unix

package hubbub

// raiseOpenFiles has nothing to raise where there is no such limit.
func raiseOpenFiles() uint64 { return 0 }
