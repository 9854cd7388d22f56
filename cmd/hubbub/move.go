package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"hubbub"
)

type exportCmd struct {
	File        string `arg:"" help:"Where to write to; - for standard output."`
	WithoutKeys bool   `help:"Leave out the keys that seal chat tokens and nextTokens. A service made from such a file refuses tokens that are out."`
	Config      string `help:"Configuration file, for its data folder ($$HUBBUB_CONFIG)." placeholder:"FILE" type:"string"`
	Data        string `help:"Data folder of the server, running or not ($$HUBBUB_DATA; default: ./hubbub-data)." placeholder:"FOLDER"`
}

// Help says what does not fit into a line.
func (exportCmd) Help() string {
	return `Everything is rooms and logging configurations with their tags, the keys that seal chat tokens and nextTokens, chat tokens that were used and have not expired, and chat-log records that were not delivered yet. A server that runs on the folder is asked for it, also while it serves; so is a node for what its cluster has. The folder of a standalone server that does not run is read itself.

The file has SECRETS, unless --without-keys is given: whoever reads it can make chat tokens. Records that were not delivered have what was said in chats. It gets mode 0600. It is JSON lines; the last one has the number of each kind and a checksum, so that import refuses a file that was cut off or altered. The checksum of the resources that is printed is the same for the same resources, wherever they are.`
}

func (c *exportCmd) Run(ctx context.Context) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	at, err := placeOf(c.Config, c.Data)
	if err != nil {
		return err
	}
	moved := hubbub.Moved{}
	write := func(to io.Writer) (err error) {
		moved, err = hubbub.Export(ctx, at, to, !c.WithoutKeys)
		return err
	}
	if c.File == "-" {
		if err := write(os.Stdout); err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "Exported.\n%s\n", moved)
		return nil
	}
	if err := writeWhole(c.File, write); err != nil {
		return err
	}
	fmt.Printf("Exported to %s.\n%s\n", c.File, moved)
	if !c.WithoutKeys {
		fmt.Println("It has the keys that seal chat tokens: keep it as secret as the data folder.")
	}
	return nil
}

// writeWhole has a file written that its owner alone can read, and puts it in
// place when all of it is on the disk. What is there and is no file is written to.
func writeWhole(name string, write func(io.Writer) error) (err error) {
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return fmt.Errorf("%s cannot be written: %w", name, cause(err))
		}
		return errors.Join(write(f), f.Close())
	}
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*") // mode 0600
	if err != nil {
		return fmt.Errorf("%s cannot be written: %w", name, cause(err))
	}
	defer os.Remove(f.Name()) // once renamed there is nothing to remove
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	return err
}

// cause is that of a file error, for which the caller names the path.
func cause(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

type importCmd struct {
	File   string `arg:"" help:"What hubbub export has written; - for standard input."`
	Config string `help:"Configuration file, for its data folder ($$HUBBUB_CONFIG)." placeholder:"FILE" type:"string"`
	Data   string `help:"Data folder of a node that runs, or one for a standalone server that does not run ($$HUBBUB_DATA; default: ./hubbub-data)." placeholder:"FOLDER"`
}

// Help says what does not fit into a line.
func (importCmd) Help() string {
	return `The service must be empty: a cluster that runs, of which the node on this machine is asked, or the folder of a standalone server, which is made if it is not there; a standalone server that runs is to be stopped first. The file is checked before anything is written, and what was written is read back and compared at the end.

If it has anything that is not in the file, or has it with another value, import says what and writes nothing; what is there already is left as it is, so an import that was interrupted can be repeated (records that were delivered in between are delivered twice). The keys that an empty service made for itself, and the room of hubbub dev, are replaced.`
}

func (c *importCmd) Run(ctx context.Context) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	at, err := placeOf(c.Config, c.Data)
	if err != nil {
		return err
	}
	name := c.File
	var f *os.File
	if name == "-" {
		name = "standard input"
		f, err = seekable(os.Stdin, at.Data)
	} else if f, err = os.Open(name); err != nil {
		err = fmt.Errorf("%s cannot be read: %w", name, cause(err))
	}
	if err != nil {
		return err
	}
	defer f.Close()
	moved, err := hubbub.Import(ctx, at, f)
	if err != nil {
		return fmt.Errorf("%s was not imported: %w", name, err)
	}
	fmt.Printf("Imported %s. The service has:\n%s\n", name, moved)
	if moved.There > 0 {
		fmt.Printf("%d of it were there before.\n", moved.There)
	}
	return nil
}

// seekable is a file with all that comes from another, which nobody else can read:
// a temporary one, in the data folder if need be.
func seekable(from io.Reader, data string) (*os.File, error) {
	f, err := hubbub.TempFile(data)
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(f, from)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("standard input cannot be copied to a temporary file: %w", err), f.Close())
	}
	return f, nil
}

type migrateCmd struct {
	From   string `required:"" help:"Data folder of the service to move from: of a standalone server that does not run, or of a node that does." placeholder:"FOLDER"`
	Config string `help:"Configuration file of the service to move to, for its data folder ($$HUBBUB_CONFIG)." placeholder:"FILE" type:"string"`
	Data   string `help:"Data folder of the service to move to: of a node that runs, or one for a standalone server ($$HUBBUB_DATA; default: ./hubbub-data)." placeholder:"FOLDER"`
}

// Help says what does not fit into a line.
func (migrateCmd) Help() string {
	return `From one server to a cluster: stop the server, start the nodes of the new cluster with empty data folders, and beside one of them:

  hubbub migrate --from /var/lib/hubbub --config cluster.yaml

From a cluster to one server: take the traffic away from the cluster, leave its nodes running, and beside one of them, whose data folder is named by --from:

  hubbub migrate --from /var/lib/hubbub --data /var/lib/hubbub-alone

It does what hubbub export and hubbub import do, one after the other, and refuses what they refuse. The folder of a standalone source is held meanwhile, so that no server starts on it. A cluster is read again at the end, and if anything was written to it in between, migrate fails and says so. The source is left as it is: do not start it again beside the new service. The copy in between is in $TMPDIR, or in a data folder where there is no folder for temporary files, for nobody else to read.`
}

func (c *migrateCmd) Run(ctx context.Context) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	to, err := placeOf(c.Config, c.Data)
	if err != nil {
		return err
	}
	moved, err := hubbub.Migrate(ctx, hubbub.Place{Data: c.From}, to)
	if err != nil {
		return err
	}
	fmt.Printf("Moved from %s to %s. The new service has:\n%s\n", c.From, to.Data, moved)
	if moved.There > 0 {
		fmt.Printf("%d of it were there before.\n", moved.There)
	}
	return nil
}
