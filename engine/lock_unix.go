//go:build unix

package engine

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// lock holds the folder for this process; the lock ends with the process,
// however that ends.
func lock(name string) (*os.File, error) {
	file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the data folder: %w; name a folder that can be written (--data)", err)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		pid, _ := io.ReadAll(io.LimitReader(file, 20))
		_ = file.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: %s is used by another Hubbub (process %s); stop it, or name another folder (--data)",
				ErrLocked, filepath.Dir(name), strings.TrimSpace(string(pid)))
		}
		return nil, fmt.Errorf("lock the data folder: %w", err)
	}
	_ = file.Truncate(0)
	_, _ = fmt.Fprintf(file, "%d\n", os.Getpid())
	return file, nil
}

// freeBytes is the free space of the disk that holds the folder.
func freeBytes(folder string) int64 {
	var s unix.Statfs_t
	if err := unix.Statfs(folder, &s); err != nil {
		return 1 << 30
	}
	return int64(s.Bavail) * int64(s.Bsize)
}
