package main

func measureMixed(_ *contest, o contestant, p *process, f *figures) error { return nil }
