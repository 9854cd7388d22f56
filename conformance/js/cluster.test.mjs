// The official SDKs while the nodes of a cluster are restarted and stopped.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { SendMessageRequest } from 'amazon-ivs-chat-messaging';
import { CreateChatTokenCommand, CreateLoggingConfigurationCommand, CreateRoomCommand, GetRoomCommand, SendEventCommand, UpdateRoomCommand } from '@aws-sdk/client-ivschat';
import { client, join, makeRoom } from './server.mjs';
import { balance, launchAlone, startCluster } from './cluster.mjs';

const sleep = (ms) => new Promise((r) => setTimeout(r, ms));

async function eventually(what, limit, condition) {
  for (const end = Date.now() + limit; !(await condition()); await sleep(50)) {
    assert.ok(Date.now() < end, `${what} within ${limit} ms`);
  }
}

/** How long calls took that were made one after the other. */
class Waits {
  all = [];
  async of(call) {
    const began = performance.now();
    try {
      return await call();
    } finally {
      this.all.push(performance.now() - began);
    }
  }
  toString() {
    const sorted = this.all.toSorted((x, y) => x - y).map(Math.round);
    return `${sorted.length} calls, median ${sorted[sorted.length >> 1]} ms, longest ${sorted.slice(-3)} ms`;
  }
}

/**
 * A viewer, and for each of its connections from when it was there, which messages came on it, and a
 * promise that it ended.
 */
async function view(balancer, api, room, userId) {
  const connections = [];
  let end = () => {};
  const v = await join(balancer, room, userId, {
    connect: false,
    provider: async () => {
      const { token } = await api.send(new CreateChatTokenCommand({ roomIdentifier: room, userId, capabilities: ['SEND_MESSAGE'] }));
      return { token };
    },
  });
  v.room.logger = { debug() {}, info() {}, error() {} }; // it says much of connections that end
  v.room.addListener('connect', () => {
    const connection = { from: performance.now(), got: new Set(), open: true };
    connection.ended = new Promise((resolve) => { end = () => { connection.open = false; resolve(); }; });
    connections.push(connection);
  });
  v.room.addListener('connecting', () => end());
  v.room.addListener('disconnect', () => end());
  v.room.addListener('message', (m) => connections.at(-1).got.add(m.content));
  v.room.connect();
  await v.until('connect');
  return { ...v, userId, connections };
}

test('no client of the SDKs is lost while all nodes are restarted', async (t) => {
  const viewers = [];
  const cluster = await startCluster('--drain', '2s');
  const balancer = await balance(cluster);
  t.after(async () => {
    for (const v of viewers) v.room.disconnect();
    await Promise.all(cluster.nodes.map((n) => n.kill()));
    await balancer.close();
    await cluster.remove();
  });
  const [api, tokens] = [0, 1].map(() => client(balancer, { maxAttempts: undefined })); // as many as the SDK makes by itself
  const room = await makeRoom(balancer);
  viewers.push(...await Promise.all(Array.from({ length: 24 }, (_, i) => view(balancer, tokens, room, `user-${i}`))));

  let restarting = true;
  const loops = [];
  const always = (what) => loops.push((async () => { for (let n = 0; restarting; n++) await what(n); })());

  // A message is acknowledged when the SDK's promise is kept. Some are in doubt: of those the SDK tells
  // nothing, since the connection ended first.
  const acknowledged = [];
  const refused = [];
  let sent = 0;
  for (const { room: sender, userId, connections } of viewers.slice(0, 6)) {
    always(async (n) => {
      if (sender.state === 'connected') {
        const message = { userId, content: `${userId}:${n}`, at: performance.now() };
        sent++;
        const answer = sender.sendMessage(new SendMessageRequest(message.content))
          .then(() => acknowledged.push(message), (e) => refused.push(`${e.errorCode} ${e.errorMessage}`));
        await Promise.race([answer, connections.at(-1).ended]);
      }
      await sleep(100);
    });
  }
  const waits = { create: new Waits(), update: new Waits(), read: new Waits(), token: new Waits(), event: new Waits() };
  const made = new Map();
  always(async (n) => {
    made.set((await waits.create.of(() => api.send(new CreateRoomCommand({ name: `made-${n}` })))).arn, `made-${n}`);
    await sleep(20);
  });
  always(async (n) => {
    await waits.update.of(() => api.send(new UpdateRoomCommand({ identifier: room, name: `updated-${n}` })));
    const read = await waits.read.of(() => api.send(new GetRoomCommand({ identifier: room })));
    assert.equal(read.name, `updated-${n}`, 'what was acknowledged is there');
    await sleep(20);
  });
  always(async () => {
    await waits.token.of(() => api.send(new CreateChatTokenCommand({ roomIdentifier: room, userId: 'nobody' })));
    await waits.event.of(() => api.send(new SendEventCommand({ roomIdentifier: room, eventName: 'e' })));
    await sleep(20);
  });

  for (const i of cluster.nodes.keys()) {
    const began = performance.now();
    assert.equal(await cluster.nodes[i].stop(), 0, `node ${i} exits 0\n${cluster.nodes[i].log()}`);
    const stopped = performance.now();
    await cluster.restart(i);
    await eventually('the balancer has three nodes', 30_000, () => balancer.ready() === 3);
    await eventually('everybody is connected', 30_000, () => viewers.every((v) => v.room.state === 'connected'));
    t.diagnostic(`node ${i} stopped in ${Math.round(stopped - began)} ms, and was ready ${Math.round(performance.now() - stopped)} ms after that`);
  }
  restarting = false;
  await Promise.all(loops);
  const all = (connection) => acknowledged.filter((m) => m.at >= connection.from);
  const missing = (connection) => all(connection).filter((m) => !connection.got.has(m.content));
  await eventually('all messages are with all viewers', 10_000, () => viewers.every((v) => missing(v.connections.at(-1)).length === 0));

  for (const v of viewers) {
    assert.equal(v.count('disconnect'), 0, `${v.userId} is not disconnected for good`);
    assert.equal(v.room.state, 'connected');
    for (const c of v.connections) { // nothing is missing before something that came
      const last = new Map(all(c).filter((m) => c.got.has(m.content)).map((m) => [m.userId, m.at]));
      assert.deepEqual(missing(c).filter((m) => m.at < (last.get(m.userId) ?? 0)), [], `${v.userId} has no gap`);
    }
  }
  assert.deepEqual(refused, [], 'no message is refused');
  for (const [arn, name] of made) {
    assert.equal((await api.send(new GetRoomCommand({ identifier: arn }))).name, name);
  }
  const back = viewers.reduce((sum, v) => sum + v.connections.length - 1, 0);
  for (const [what, w] of Object.entries(waits)) t.diagnostic(`${what}: ${w}`);
  t.diagnostic(`${acknowledged.length} of ${sent} messages acknowledged, clients came back ${back} times`);
  assert.ok(acknowledged.length > 100 && back >= viewers.length && made.size > 10, 'there was something to see');

});

// The last node drains its viewers, and has chat logs to write, when the others have nothing to do any
// more: without them nothing can be stored.
test('nodes that are stopped together lose no chat log', async (t) => {
  const viewers = [];
  const cluster = await startCluster('--drain', '3s');
  t.after(async () => {
    for (const v of viewers) v.room.disconnect();
    await Promise.all(cluster.nodes.map((n) => n.kill()));
    await cluster.remove();
  });
  const [first, , last] = cluster.nodes;
  const api = client(first);
  const { arn } = await api.send(new CreateLoggingConfigurationCommand({ destinationConfiguration: { cloudWatchLogs: { logGroupName: 'chat' } } }));
  const room = await makeRoom(first, { loggingConfigurationIdentifiers: [arn] });
  viewers.push(...await Promise.all(Array.from({ length: 50 }, (_, i) => view(last, client(last), room, `user-${i}`))));
  let stopping = true;
  const talk = viewers.map(async ({ room: sender }, i) => {
    for (let n = 0; stopping; n++) {
      if (sender.state === 'connected') sender.sendMessage(new SendMessageRequest(`${i}:${n}`)).catch(() => {});
      await sleep(250);
    }
  });
  const seen = new Set();
  viewers[0].room.addListener('message', (m) => seen.add(m.content));
  await eventually('they talk', 10_000, () => seen.size > viewers.length);
  const began = performance.now();
  const ends = await Promise.all(cluster.nodes.map(async (n) => ({ code: await n.stop(), took: Math.round(performance.now() - began) })));
  stopping = false;
  await Promise.all(talk);
  t.diagnostic(`stopped in ${ends.map((e) => e.took)} ms`);
  for (const [i, { code, took }] of ends.entries()) {
    assert.equal(code, 0, `node ${i} exits 0\n${cluster.nodes[i].log()}`);
    assert.ok(took < 15_000, `node ${i} takes ${took} ms`);
  }
  const log = await cluster.chatLogs();
  assert.deepEqual([...seen].filter((content) => !log.includes(`"${content}"`)), [], 'what was delivered is in the log');
});

test('a node that waits for the others ends at once', async (t) => {
  const lonely = await launchAlone();
  t.after(() => lonely.remove());
  await eventually('it is up', 20_000, lonely.isUp);
  const began = performance.now();
  assert.equal(await lonely.stop(), 0, lonely.log());
  t.diagnostic(`stopped in ${Math.round(performance.now() - began)} ms`);
  assert.ok(performance.now() - began < 10_000);
});
