// Three nodes of one cluster, as processes, and a load balancer in front of them.
import { createServer, connect } from 'node:net';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join as path } from 'node:path';
import { launch, start } from './server.mjs';

const names = ['a', 'b', 'c'];

/** Ports that nobody listens at, and that no outgoing connection is given. */
async function freePorts(n) {
  const servers = [];
  while (servers.length < n) {
    const server = createServer().listen(10_000 + Math.floor(Math.random() * 20_000), '127.0.0.1');
    await once(server, 'listening').then(() => servers.push(server), () => {});
  }
  const ports = servers.map((s) => s.address().port);
  await Promise.all(servers.map((s) => once(s.close(), 'close')));
  return ports;
}

/** The folder of a cluster, and the arguments of each of its nodes. */
async function plan() {
  const data = await mkdtemp(path(tmpdir(), 'hubbub-js-'));
  await writeFile(path(data, 'secret'), 'a secret that only these three nodes share\n');
  const peers = (await freePorts(names.length)).map((port) => `127.0.0.1:${port}`);
  return {
    remove: () => rm(data, { recursive: true }),
    async chatLogs() {
      const files = (await readdir(data, { recursive: true })).filter((f) => f.includes('cloudwatch_logs') && f.endsWith('.log'));
      return (await Promise.all(files.map((f) => readFile(path(data, f), 'utf8')))).join('');
    },
    args: (i) => ['--data', path(data, names[i]), '--cluster-node', names[i], '--cluster-listen', peers[i],
      '--cluster-peers', peers.join(), '--cluster-secret-file', path(data, 'secret')],
  };
}

/**
 * Three nodes that are ready; `nodes[i]` is as start() gives it, and another one after restart(i);
 * chatLogs() is the text of what they delivered.
 */
export async function startCluster(...args) {
  const { remove, chatLogs, args: own } = await plan();
  const run = (i) => start(...own(i), ...args);
  const nodes = await Promise.all(names.map((_, i) => run(i)));
  return { nodes, remove, chatLogs, async restart(i) { nodes[i] = await run(i); } };
}

/** One node of three, which waits for the others. */
export async function launchAlone() {
  const { remove, args } = await plan();
  const [port] = await freePorts(1);
  const node = launch(...args(0), '--admin', `127.0.0.1:${port}`);
  return {
    ...node,
    async remove() { await node.kill(); await remove(); },
    isUp: () => fetch(`http://127.0.0.1:${port}/healthz`).then((r) => r.ok, () => false),
  };
}

/** Whether a node takes work. */
export async function isReady(node) {
  try {
    return (await fetch(`${node.admin}/readyz`, { signal: AbortSignal.timeout(1000) })).ok;
  } catch {
    return false;
  }
}

/**
 * One address in front of the nodes of a cluster, for each plane: connections go to those in turn
 * whose /readyz is 200, looked at every 150 ms, and to the next one if a node refuses.
 */
export async function balance(cluster) {
  let ready = [];
  let checking = true;
  const look = async () => {
    const were = await Promise.all(cluster.nodes.map(isReady));
    ready = were.flatMap((yes, i) => (yes ? [i] : []));
  };
  await look();
  const checks = (async () => {
    while (checking) {
      await new Promise((r) => setTimeout(r, 150));
      await look();
    }
  })();

  let turn = 0;
  const open = new Set();
  const listen = async (plane) => {
    const server = createServer({ allowHalfOpen: true }, async (client) => {
      open.add(client);
      client.on('error', () => {}).on('close', () => open.delete(client));
      turn++;
      for (const i of ready.map((_, k) => ready[(turn + k) % ready.length])) {
        const node = connect({ port: new URL(cluster.nodes[i][plane]).port, host: '127.0.0.1', allowHalfOpen: true });
        try {
          await once(node, 'connect');
        } catch {
          continue;
        }
        node.on('error', () => {}).on('close', () => client.destroy());
        client.on('close', () => node.destroy());
        if (client.destroyed) node.destroy();
        client.pipe(node).pipe(client);
        return;
      }
      client.destroy();
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return server;
  };
  const servers = { api: await listen('api'), messaging: await listen('messaging') };
  return {
    ...cluster.nodes[0], // the credentials
    api: `http://127.0.0.1:${servers.api.address().port}`,
    messaging: `ws://127.0.0.1:${servers.messaging.address().port}`,
    ready: () => ready.length,
    async close() {
      checking = false;
      for (const c of open) c.destroy();
      await Promise.all(Object.values(servers).map((s) => once(s.close(), 'close')));
      await checks;
    },
  };
}
