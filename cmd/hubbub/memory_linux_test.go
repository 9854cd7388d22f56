package main

import (
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
)

func TestWhatWasChangedStaysInMemory(t *testing.T) {
	smaps := func(perms, path string, rss, anonymous int) string {
		return fmt.Sprintf("00400000-00600000 %s 00000000 fd:00 4711      %s\nSize:               2048 kB\nRss:  %d kB\nAnonymous:  %d kB\nVmFlags: rd ex mr mw me\n",
			perms, path, rss, anonymous)
	}
	clean := []mapping{{from: 0x400000, to: 0x600000, resident: 100 << 10}}
	for _, c := range []struct {
		name, smaps string
		want        []mapping
	}{
		{"code", smaps("r-xp", "/usr/bin/hub bub", 100, 0), clean},
		{"data that cannot be written", smaps("r--p", "/usr/bin/hub bub", 100, 0), clean},
		{"code with breakpoints", smaps("r-xp", "/usr/bin/hub bub", 100, 4), nil},
		{"variables", smaps("rw-p", "/usr/bin/hub bub", 100, 0), nil},
		{"a library", smaps("r-xp", "/usr/lib/libc.so.6", 100, 0), nil},
		{"memory of no file", smaps("r--p", "", 100, 0), nil},
		{"a library behind code", smaps("r-xp", "/usr/bin/hub bub", 100, 0) + smaps("r-xp", "/usr/lib/libc.so.6", 100, 4), clean},
		{"nothing", "", nil},
	} {
		if got := programMappings(c.smaps, "/usr/bin/hub bub"); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v can be read from the file again, want %v", c.name, got, c.want)
		}
	}
}

func TestPagesOfTheProgramAreReleasedAndComeBack(t *testing.T) {
	resident := func() (sum uint64) {
		program, err := os.Readlink("/proc/self/exe")
		if err != nil {
			t.Fatal(err)
		}
		maps, err := os.ReadFile("/proc/self/smaps")
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range programMappings(string(maps), program) {
			sum += m.resident
		}
		return sum
	}
	var said strings.Builder
	log := slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelDebug}))
	before := resident()
	releaseProgram(log)
	after := resident()
	if before == 0 || after > before/2 {
		t.Errorf("of %d bytes of the program %d are in memory, want less than half; the log: %s", before, after, &said)
	}
	// Everything is there again when it is used: the collector reads tables all over the file.
	runtime.GC()
	if code := run([]string{"bogus"}); code != exitUsage {
		t.Errorf("hubbub bogus ends with %d, want %d", code, exitUsage)
	}
}
