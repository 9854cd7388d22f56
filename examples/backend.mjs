// The token backend: an application of yours decides who may enter, and with which capabilities, and asks the control
// plane for a token. The shape of /auth is that of AWS's own sample. With AWS itself, `endpoint` is left out.
import { createServer } from 'node:http';
import { text } from 'node:stream/consumers';
import { IvschatClient, CreateChatTokenCommand } from '@aws-sdk/client-ivschat';
import { page } from './page.mjs';

const { HUBBUB_API, HUBBUB_MESSAGING, ROOM_ARN, AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, PORT } = process.env;
const chat = new IvschatClient({
  endpoint: HUBBUB_API ?? 'http://127.0.0.1:4880',
  region: AWS_REGION ?? 'us-west-2',
  credentials: { accessKeyId: AWS_ACCESS_KEY_ID ?? 'AKIAHUBBUBDEV0000000', secretAccessKey: AWS_SECRET_ACCESS_KEY ?? 'hubbub-dev-secret-key-not-for-production' },
});

async function auth({ arn, roomIdentifier = arn, userId, attributes, capabilities, durationInMinutes: sessionDurationInMinutes }) {
  const { token, sessionExpirationTime, tokenExpirationTime } = await chat.send(
    new CreateChatTokenCommand({ roomIdentifier, userId, attributes, capabilities, sessionDurationInMinutes }));
  return { token, sessionExpirationTime, tokenExpirationTime };
}

createServer(async (request, response) => {
  if (request.method !== 'POST' || request.url !== '/auth') return page(request, response);
  try {
    response.setHeader('content-type', 'application/json').end(JSON.stringify(await auth(JSON.parse(await text(request)))));
  } catch (e) { // ours to log, the status of the control plane for the caller
    console.error(e.name, e.message);
    response.writeHead(e.$metadata?.httpStatusCode ?? 400, { 'content-type': 'application/json' }).end(JSON.stringify({ error: e.message }));
  }
}).listen(PORT ?? 8080, '127.0.0.1', function () {
  console.log(`http://127.0.0.1:${this.address().port}/?room=${ROOM_ARN ?? 'YOUR_ROOM_ARN'}&messaging=${HUBBUB_MESSAGING ?? 'ws://127.0.0.1:4881'}`);
});
