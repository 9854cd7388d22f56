// Command hubbub is a live-stream chat server that speaks the wire of Amazon IVS
// Chat: the AWS SDKs and the IVS Chat Messaging SDKs work with it unmodified.
//
//	hubbub dev                   a server to try things out; needs no file
//	hubbub serve --config FILE   production
//	hubbub check --config FILE   says what is wrong with a configuration
//	hubbub ready [ADDRESS]       asks a running server whether it is ready
//	hubbub export FILE           everything that a service has, as JSON lines
//	hubbub import FILE           puts that into an empty service
//	hubbub migrate --from FOLDER moves a standalone server's data to a cluster, or back
//	hubbub key …                 makes access keys, rotates the keys of chat tokens
//	hubbub logs cat SOURCE…      reads chat logs back
//	hubbub version
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"hubbub"
)

// started is taken as early as a program can, for the time to ready.
var started = time.Now()

const description = `A live-stream chat server that speaks the wire of Amazon IVS Chat.

"hubbub dev" starts one on this machine and says what to paste into the AWS CLI, an SDK or a page. Every setting is a flag, an environment variable and a key of the configuration file; flags win over the environment, the environment over the file. docs/configuration.md lists all of them.`

// cli is the whole command line.
type cli struct {
	Dev     devCmd     `cmd:"" help:"Run a server to try things out: loopback, published credentials, a room that is there."`
	Serve   serveCmd   `cmd:"" help:"Run a server in production, from a configuration file."`
	Check   checkCmd   `cmd:"" help:"Read a configuration and every file it names, and say what is wrong and what to write instead."`
	Ready   readyCmd   `cmd:"" help:"Ask a running server whether it is ready, for health checks of containers; exits 0 or 1."`
	Export  exportCmd  `cmd:"" help:"Write everything that a service has to a file, secrets included."`
	Import  importCmd  `cmd:"" help:"Put what export has written into an empty service."`
	Migrate migrateCmd `cmd:"" help:"Move everything from a standalone server to a cluster, or back."`
	Key     keyCmd     `cmd:"" help:"Make access keys; rotate the keys that seal chat tokens."`
	Logs    logsCmd    `cmd:"" help:"Read chat logs back."`
	Version versionCmd `cmd:"" help:"Print what this program was built from."`
}

func main() {
	// net/http tells the standard logger what a server says out of turn, which may
	// be what a user wrote. Nobody of ours writes there.
	log.SetOutput(io.Discard)
	os.Exit(run(os.Args[1:]))
}

// The exit codes: 1 says that what was asked for could not be done, 2 that it
// could not be understood.
const (
	exitFailed = 1
	exitUsage  = 2
)

func run(args []string) int {
	parser, err := newParser()
	if err != nil {
		return fail(err)
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	command, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(os.Stderr, "hubbub: %v\nRun \"%s --help\" for what can be written.\n", err, usageOf(err))
		return exitUsage
	}
	if err := command.Run(); err != nil {
		return fail(err)
	}
	return 0
}

func newParser() (*kong.Kong, error) {
	c := cli{}
	c.Dev.Flags, c.Serve.Flags, c.Check.Flags = newSettingFlags(), newSettingFlags(), newSettingFlags()
	return kong.New(&c,
		kong.Name("hubbub"),
		kong.Description(description),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 110}),
		kong.ExplicitGroups([]kong.Group{settingsGroup}),
		kong.BindTo(context.Background(), (*context.Context)(nil)),
	)
}

// usageOf is the command whose help tells more about a mistake.
func usageOf(err error) string {
	var parse *kong.ParseError
	if errors.As(err, &parse) && parse.Context != nil {
		if node := parse.Context.Selected(); node != nil {
			return node.FullPath()
		}
	}
	return "hubbub"
}

// fail says what went wrong, every line of it under the program's name.
func fail(err error) int {
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintf(os.Stderr, "hubbub: %s\n", strings.TrimRight(line, "\n"))
	}
	return exitFailed
}

type versionCmd struct{}

func (versionCmd) Run() error {
	fmt.Println(hubbub.BuildVersion())
	return nil
}
