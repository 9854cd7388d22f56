//go:build !linux

package main

import "log/slog"

// releaseProgram is for Linux.
func releaseProgram(*slog.Logger) {}
