package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"hubbub"
)

type checkCmd struct {
	Config string `help:"Configuration file ($$HUBBUB_CONFIG)." placeholder:"FILE" type:"string"`
	ForDev bool   `name:"dev" help:"Check it for hubbub dev, which asks for less than hubbub serve."`
	Flags  any    `embed:"" group:"Settings"`
}

func (c *checkCmd) Run() error {
	mode := hubbub.Serve
	if c.ForDev {
		mode = hubbub.Dev
	}
	from := sources(c.Config, c.Flags)
	if from.File == "" {
		return errors.New("check needs to know the file; write --config hubbub.yaml")
	}
	loaded, err := hubbub.Check(mode, from, time.Now())
	warn(loaded.Warnings)
	if err != nil {
		return err
	}
	fmt.Printf("%s: fine for hubbub %s\n", from.File, mode)
	return nil
}

// warn says what works and is probably not what was meant.
func warn(warnings []hubbub.Problem) {
	for _, w := range warnings {
		fmt.Fprintf(os.Stderr, "hubbub: warning: %s\n", w)
	}
}
