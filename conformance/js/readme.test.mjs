// The first steps of the README, as somebody runs them who pastes them.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { start } from './server.mjs';

test('the JavaScript of the README says hello', async (t) => {
  const server = await start();
  t.after(() => server.stop());
  const readme = await readFile(new URL('../../README.md', import.meta.url), 'utf8');
  const [, block] = readme.match(/```js\n([\s\S]*?)```/);
  const program = block.replace('http://127.0.0.1:4880', server.api).replace('ws://127.0.0.1:4881', server.messaging);
  const child = spawn(process.execPath, ['--input-type=module', '-'],
    { cwd: fileURLToPath(new URL('.', import.meta.url)), stdio: ['pipe', 'pipe', 'inherit'] });
  t.after(() => child.kill());
  child.stdin.end(`import WebSocket from 'ws'; globalThis.WebSocket ??= WebSocket;\n${program}`); // Node before 22 has none
  for await (const line of createInterface({ input: child.stdout })) {
    if (line === 'alice hello') return;
  }
  assert.fail('the program ended without the message');
});
