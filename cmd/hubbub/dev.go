package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"text/template"
	"time"

	"github.com/go-json-experiment/json"

	"hubbub"
)

type devCmd struct {
	Config string `help:"Configuration file; dev needs none ($$HUBBUB_CONFIG)." placeholder:"FILE" type:"string"`
	Flags  any    `embed:"" group:"Settings"`
}

func (c *devCmd) Run(ctx context.Context) error {
	loaded, err := hubbub.Load(hubbub.Dev, sources(c.Config, c.Flags))
	warn(loaded.Warnings)
	if err != nil {
		return err
	}
	if loaded.Config.AllowRemote {
		fmt.Fprint(os.Stderr, remoteWarning)
	}
	return serve(ctx, loaded.Config, func(s *hubbub.Server) error {
		if loaded.Config.Log == "json" {
			return sayJSON(os.Stdout, s)
		}
		return sayText(os.Stdout, s, time.Since(started))
	})
}

const remoteWarning = `
***********************************************************************
  WARNING: --allow-remote. The credentials of this server are published.
  Whoever reaches its ports may read, write and delete everything in it.
  Use it in a container or a closed network only; "hubbub serve" is for
  everything else.
***********************************************************************

`

// made is what dev tells a program, on one line. The names are a contract.
// Source: design interface.md.
type made struct {
	API         string `json:"api"`
	Messaging   string `json:"messaging"`
	Admin       string `json:"admin"`
	AccessKeyID string `json:"access_key_id"`
	SecretKey   string `json:"secret_access_key"`
	Account     string `json:"account"`
	Region      string `json:"region"`
	RoomARN     string `json:"room_arn"`
}

func madeBy(s *hubbub.Server) made {
	scope := s.Scope()
	return made{s.APIURL(), s.MessagingURL(), s.AdminURL(), hubbub.DevAccessKeyID, hubbub.DevSecretKey, scope.Account, scope.Region, string(s.Room())}
}

func sayJSON(w io.Writer, s *hubbub.Server) error {
	data, err := json.Marshal(madeBy(s))
	if err != nil {
		return err
	}
	_, err = w.Write(append(data, '\n'))
	return err
}

// sayText tells a person what there is and what to paste.
func sayText(w io.Writer, s *hubbub.Server, took time.Duration) error {
	var b strings.Builder
	err := welcome.Execute(&b, struct {
		made
		Data string
		Took string
	}{madeBy(s), s.Data(), fmt.Sprintf("%d ms", took.Milliseconds())})
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, b.String())
	return err
}

var welcome = template.Must(template.New("welcome").Parse(`Hubbub is ready in {{.Took}}. Ctrl-C stops it.

  control plane      {{.API}}
  messaging plane    {{.Messaging}}
  admin              {{.Admin}}   /healthz /readyz /metrics /version
  access key id      {{.AccessKeyID}}
  secret access key  {{.SecretKey}}
  account, region    {{.Account}}, {{.Region}}
  room               {{.RoomARN}}
  data               {{.Data}}

AWS CLI:

  export AWS_ACCESS_KEY_ID={{.AccessKeyID}} AWS_SECRET_ACCESS_KEY={{.SecretKey}} AWS_SESSION_TOKEN= AWS_REGION={{.Region}} AWS_DEFAULT_REGION={{.Region}}
  aws ivschat list-rooms --endpoint-url {{.API}}
  aws ivschat create-chat-token --endpoint-url {{.API}} --room-identifier {{.RoomARN}} --user-id alice --capabilities SEND_MESSAGE

JavaScript, a chat client for a page or, as chat.mjs, for Node 22 (in Node 20: node --experimental-websocket chat.mjs):

  npm install amazon-ivs-chat-messaging @aws-sdk/client-ivschat

  import { ChatRoom, SendMessageRequest } from 'amazon-ivs-chat-messaging';
  import { IvschatClient, CreateChatTokenCommand } from '@aws-sdk/client-ivschat';
  const api = new IvschatClient({ endpoint: '{{.API}}', region: '{{.Region}}',
    credentials: { accessKeyId: '{{.AccessKeyID}}', secretAccessKey: '{{.SecretKey}}' } });
  const room = new ChatRoom({ regionOrUrl: '{{.Messaging}}', tokenProvider: () => api.send(new CreateChatTokenCommand({
    roomIdentifier: '{{.RoomARN}}', userId: 'alice', capabilities: ['SEND_MESSAGE'] })) });
  room.logLevel = 'error'; // by default the SDK prints every step, the chat token too
  room.addListener('message', (m) => console.log(m.sender.userId, m.content));
  room.addListener('connect', () => room.sendMessage(new SendMessageRequest('hello')));
  room.connect();
`))
