package main

import (
	"context"
	"fmt"
	"os"

	"hubbub"
)

type keyCmd struct {
	RotateTokens rotateTokensCmd `cmd:"" help:"Seal chat tokens with a new key from now on; those that are out stay good until they expire."`
	Make         makeCmd         `cmd:"" help:"Print a fresh access key and the lines of the iam file that let it in."`
}

type rotateTokensCmd struct {
	Config string `help:"Configuration file, for its data folder ($$HUBBUB_CONFIG)." placeholder:"FILE" type:"string"`
	Data   string `help:"Data folder of the server, running or not ($$HUBBUB_DATA; default: ./hubbub-data)." placeholder:"FOLDER"`
}

func (c *rotateTokensCmd) Run(ctx context.Context) error {
	at, err := placeOf(c.Config, c.Data)
	if err != nil {
		return err
	}
	how, err := hubbub.RotateTokenKeys(ctx, at.Data)
	if err != nil {
		return err
	}
	fmt.Printf("Chat tokens of %s are sealed with a new key from now on (%s). Tokens that are out stay good until they expire.\n", at.Data, how)
	return nil
}

type makeCmd struct{}

func (makeCmd) Run() error {
	k := hubbub.NewAccessKey()
	_, err := fmt.Fprintf(os.Stdout, accessKeyText, k.ID, k.Secret, hubbub.IAMLines(k))
	return err
}

const accessKeyText = `# access key id:     %s
# secret access key: %s
# Keep the secret: it is shown this once. Lines for the iam file:
%s`
