// Starts the server under test, the binary that HUBBUB_BIN names, as a process
// of its own, and makes official clients for it.
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { once } from 'node:events';
import { IvschatClient, CreateChatTokenCommand, CreateRoomCommand } from '@aws-sdk/client-ivschat';
import { ChatRoom } from 'amazon-ivs-chat-messaging';
import WebSocket from 'ws';

globalThis.WebSocket ??= WebSocket; // Node before 22 has none

const binary = process.env.HUBBUB_BIN;
if (!binary) throw new Error('HUBBUB_BIN must name the hubbub binary; run the tests by `make test`');

/** Runs `hubbub dev` and does not wait for it; args come last and win. */
export function launch(...args) {
  const child = spawn(binary, ['dev', '--log', 'json', '--data', ':memory:', '--drain', '0s',
    '--api', '127.0.0.1:0', '--messaging', '127.0.0.1:0', '--admin', '127.0.0.1:0', ...args],
    { stdio: ['ignore', 'pipe', 'pipe'] });
  let log = '';
  child.stderr.on('data', (d) => { log += d; });
  const exit = once(child, 'exit');
  const end = async (signal) => {
    child.kill(signal);
    const [code] = await exit;
    return code;
  };
  return {
    stdout: child.stdout,
    exit,
    log: () => log,
    /** Ends it as an operator would; resolves to the exit code. */
    stop: () => end('SIGTERM'),
    /** Ends it as a power cut would. */
    kill: () => end('SIGKILL'),
  };
}

/** Runs `hubbub dev` until it is ready, with what it says of itself. */
export async function start(...args) {
  const server = launch(...args);
  const line = await Promise.race([
    once(createInterface({ input: server.stdout }), 'line').then(([l]) => l),
    server.exit.then(([code]) => { throw new Error(`the server ended with ${code} before it was ready:\n${server.log()}`); }),
  ]);
  return { ...JSON.parse(line), ...server };
}

/** An official control-plane client. */
export function client(server, options = {}) {
  return new IvschatClient({
    endpoint: server.api,
    region: server.region,
    credentials: { accessKeyId: server.access_key_id, secretAccessKey: server.secret_access_key },
    maxAttempts: 1,
    ...options,
  });
}

export const all = ['SEND_MESSAGE', 'DELETE_MESSAGE', 'DISCONNECT_USER'];

export async function makeRoom(server, input = {}) {
  return (await client(server).send(new CreateRoomCommand({ maximumMessageRatePerSecond: 100, ...input }))).arn;
}

export function token(server, roomIdentifier, userId, capabilities = all, more = {}) {
  return client(server).send(new CreateChatTokenCommand({ roomIdentifier, userId, capabilities, ...more }));
}

/**
 * An official messaging client, connected. `seen` collects everything it
 * reports; `until(what)` resolves with the first of that kind, past ones
 * included, that `match` accepts.
 */
export async function join(server, roomArn, userId, { capabilities = all, provider, more, connect = true, ...options } = {}) {
  let tokens = 0;
  const room = new ChatRoom({
    regionOrUrl: server.messaging,
    tokenProvider: async () => {
      tokens++;
      if (provider) return provider(tokens);
      const t = await token(server, roomArn, userId, capabilities, more);
      return { token: t.token, sessionExpirationTime: t.sessionExpirationTime, tokenExpirationTime: t.tokenExpirationTime };
    },
    ...options,
  });
  room.logLevel = 'error';
  const seen = [];
  const waiting = new Set();
  const record = (kind) => (value) => {
    seen.push({ kind, value });
    for (const w of [...waiting]) w();
  };
  for (const kind of ['connecting', 'connect', 'disconnect', 'message', 'event', 'messageDelete', 'userDisconnect']) {
    room.addListener(kind, record(kind));
  }
  const until = (kind, match = () => true) => new Promise((resolve) => {
    const look = () => {
      const hit = seen.find((s) => s.kind === kind && match(s.value));
      if (!hit) return;
      waiting.delete(look);
      resolve(hit.value);
    };
    waiting.add(look);
    look();
  });
  const joined = { room, seen, until, count: (kind) => seen.filter((s) => s.kind === kind).length, tokens: () => tokens };
  if (connect) {
    room.connect();
    await until('connect');
  }
  return joined;
}
