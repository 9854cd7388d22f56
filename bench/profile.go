package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// profiled keeps a CPU profile of what the server does from now on for so long,
// under that name, if -profiles asks for profiles; of "" there is none. The caller
// waits for the end.
func profiled(p *process, name string, length time.Duration) (ended <-chan error) {
	done := make(chan error, 1)
	if *profiles == "" || name == "" {
		done <- nil
		return done
	}
	go func() {
		err := saveProfile(p, filepath.Join(*profiles, name+".pprof"), length)
		if err != nil {
			err = fmt.Errorf("profile %s: %w", name, err)
		}
		done <- err
	}()
	return done
}

func saveProfile(p *process, path string, length time.Duration) error {
	response, err := http.Get(fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", p.Admin, max(1, int(length.Seconds()))))
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, response.Body)
	return errors.Join(err, file.Close())
}

// profile names that of a scenario; only Hubbub has one, of a cluster the first node.
func (o contestant) profile(part string) string {
	if !o.ours {
		return ""
	}
	return part
}

// profile names that of a steady load.
func (s shape) profile(part, variant string) string {
	return strings.ReplaceAll(fmt.Sprint(part, "-", s.rooms, "-", variant), " ", "-")
}
