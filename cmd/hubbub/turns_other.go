//go:build !linux

package main

// shortTurns does nothing: the system has no such setting.
func shortTurns() error { return nil }
