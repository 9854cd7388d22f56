// The example as a newcomer runs it: a server, the backend, the page's modules,
// and two people with the official SDK and tokens from the backend.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { ChatRoom, SendMessageRequest } from 'amazon-ivs-chat-messaging';
import WebSocket from 'ws';

globalThis.WebSocket ??= WebSocket;

async function run(t, command, args, env = {}) {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'], env: { ...process.env, ...env } });
  t.after(() => child.kill());
  const [line] = await once(createInterface({ input: child.stdout }), 'line');
  return line;
}

test('the example', async (t) => {
  const server = JSON.parse(await run(t, process.env.HUBBUB_BIN, ['dev', '--log', 'json', '--data', ':memory:',
    '--api', '127.0.0.1:0', '--messaging', '127.0.0.1:0', '--admin', '127.0.0.1:0']));
  const url = await run(t, process.execPath, [fileURLToPath(new URL('backend.mjs', import.meta.url))],
    { PORT: '0', HUBBUB_API: server.api, HUBBUB_MESSAGING: server.messaging, ROOM_ARN: server.room_arn });
  const origin = new URL(url).origin;

  const page = await (await fetch(url)).text();
  const imports = JSON.parse(page.match(/<script type="importmap">([\s\S]*?)<\/script>/)[1]).imports;
  const queue = Object.values(imports);
  const loaded = new Set();
  while (queue.length) { // every module that the page's browser would load is there
    const path = queue.pop();
    if (loaded.has(path)) continue;
    loaded.add(path);
    const response = await fetch(origin + path);
    assert.equal(response.status, 200, path);
    for (const [, from] of (await response.text()).matchAll(/from ['"]([^'"]+)['"]/g)) {
      queue.push(imports[from] ?? new URL(from, origin + path).pathname);
    }
  }
  assert.ok(loaded.size > 10, `${loaded.size} modules`);

  const auth = (body) => fetch(`${origin}/auth`, { method: 'POST', body: JSON.stringify(body) });
  assert.equal((await auth({ userId: 'x' })).status, 400);
  assert.equal((await auth({ arn: server.room_arn.replace(/.{12}$/, 'AbCdEf123456'), userId: 'x' })).status, 404);
  const enter = async (userId) => {
    const room = new ChatRoom({
      regionOrUrl: server.messaging,
      tokenProvider: async () => (await auth({ arn: server.room_arn, userId, attributes: { username: userId }, capabilities: ['SEND_MESSAGE'] })).json(),
    });
    room.logLevel = 'error';
    const connected = new Promise((resolve) => room.addListener('connect', resolve));
    room.connect();
    await connected;
    return room;
  };
  const alice = await enter('alice');
  const bob = await enter('bob');
  const heard = new Promise((resolve) => bob.addListener('message', resolve));
  await alice.sendMessage(new SendMessageRequest('Hello'));
  const message = await heard;
  assert.equal(message.content, 'Hello');
  assert.equal(message.sender.attributes.username, 'alice');
  alice.disconnect();
  bob.disconnect();
});
