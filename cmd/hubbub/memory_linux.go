package main

import (
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// releaseProgram unmaps the pages of the program file. Starting touches code and
// data all over it, each time the kernel maps the 64 KiB around that, and so four
// fifths of the file stay in the process's memory, of which what runs afterwards
// needs a quarter. What is used again is mapped again from the page cache, where
// all of it stays until something else needs the space; it goes more easily then,
// since nobody has it mapped.
func releaseProgram(log *slog.Logger) {
	began := time.Now()
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		log.Debug("pages of the program stay mapped", "err", err)
		return
	}
	maps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		log.Debug("pages of the program stay mapped", "err", err)
		return
	}
	var resident uint64
	for _, m := range programMappings(string(maps), program) {
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, m.from, m.to-m.from, unix.MADV_DONTNEED); errno != 0 {
			log.Debug("pages of the program stay mapped", "err", errno)
			return
		}
		resident += m.resident
	}
	log.Debug("pages of the program released", "bytes", resident, "took", time.Since(began))
}

// mapping is a range of addresses that shows a part of a file.
type mapping struct {
	from, to uintptr
	resident uint64 // bytes
}

// programMappings are those of the program file, of the content of
// /proc/self/smaps, that can be read from the file again at any time. The others
// were changed: variables, relocations, and code in which a debugger or a probe of
// the kernel has put its breakpoints.
func programMappings(smaps, program string) (list []mapping) {
	ours := false // the fields are those of the last in list
	for line := range strings.Lines(smaps) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		from, to, isRange := strings.Cut(fields[0], "-")
		if isRange && len(fields) >= 5 {
			begin, err := strconv.ParseUint(from, 16, 64)
			end, errEnd := strconv.ParseUint(to, 16, 64)
			path := strings.Join(fields[5:], " ")
			ours = err == nil && errEnd == nil && path == program && !strings.Contains(fields[1], "w")
			if ours {
				list = append(list, mapping{from: uintptr(begin), to: uintptr(end)})
			}
			continue
		}
		if !ours {
			continue
		}
		kib, _ := strconv.ParseUint(fields[1], 10, 64)
		switch last := len(list) - 1; {
		case fields[0] == "Rss:":
			list[last].resident = kib << 10
		case fields[0] == "Anonymous:" && kib > 0:
			list, ours = slices.Delete(list, last, last+1), false
		}
	}
	return list
}
