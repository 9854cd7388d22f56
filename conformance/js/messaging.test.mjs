// The official IVS Chat Messaging SDK for JavaScript against a running server.
import { test, before, after, describe } from 'node:test';
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join as path } from 'node:path';
import { SendMessageRequest, DeleteMessageRequest, DisconnectUserRequest } from 'amazon-ivs-chat-messaging';
import { SendEventCommand, DeleteMessageCommand, DisconnectUserCommand, DeleteRoomCommand, UpdateRoomCommand } from '@aws-sdk/client-ivschat';
import { start, client, makeRoom, token, join } from './server.mjs';

describe('messaging', { concurrency: true }, () => {
  let server;
  before(async () => { server = await start(); });
  after(async () => { assert.equal(await server.stop(), 0, 'a clean end'); });

  const refused = (promise, code, text) => assert.rejects(promise, (e) => {
    assert.equal(e.errorCode, code, `${e.errorCode} ${e.errorMessage}`);
    if (text) assert.equal(e.errorMessage, text);
    return true;
  });

  test('two people chat', async () => {
    const room = await makeRoom(server);
    const alice = await join(server, room, 'alice.55b2', { more: { attributes: { username: 'alice' } } });
    const bob = await join(server, room, 'bob');
    const content = 'Hi \\"Bob\\" é 𝄞 <b>&amp;\u2028';
    const sent = await alice.room.sendMessage(new SendMessageRequest(content, { message_type: 'STICKER' }));
    assert.match(sent.id, /^[a-zA-Z0-9]{12}$/);
    const got = await bob.until('message');
    assert.equal(got.content, content, 'untouched');
    assert.equal(got.id, sent.id);
    assert.equal(got.requestId, sent.requestId, 'the request id is for everybody');
    assert.deepEqual(got.attributes, { message_type: 'STICKER' });
    assert.equal(got.sender.userId, 'alice.55b2');
    assert.deepEqual(got.sender.attributes, { username: 'alice' });
    assert.ok(Math.abs(got.sendTime - Date.now()) < 60_000);
    const plain = await bob.room.sendMessage(new SendMessageRequest('no attributes'));
    assert.deepEqual(plain.sender.attributes, {});
    await alice.until('message', (m) => m.content === 'no attributes');
    assert.equal(alice.count('message'), 2, 'the sender receives its own');
    alice.room.disconnect();
    assert.equal((await alice.until('disconnect')), 'clientDisconnect');
    bob.room.disconnect();
  });

  test('deleting a message, by socket and by API', async () => {
    const room = await makeRoom(server);
    const a = await join(server, room, 'a');
    const b = await join(server, room, 'b');
    const m = await a.room.sendMessage(new SendMessageRequest('x'));
    const done = await a.room.deleteMessage(new DeleteMessageRequest(m.id, 'why'));
    assert.equal(done.messageId, m.id);
    const seen = await b.until('messageDelete');
    assert.equal(seen.messageId, m.id);
    assert.equal(seen.reason, 'why');
    await a.room.deleteMessage(new DeleteMessageRequest(m.id)); // without a reason, and twice
    const api = await client(server).send(new DeleteMessageCommand({ roomIdentifier: room, id: m.id, reason: 'api' }));
    const event = await b.until('messageDelete', (e) => e.reason === 'api');
    assert.equal(event.id, api.id);
    assert.equal(b.count('event'), 0, 'system events are not ordinary ones');
    a.room.disconnect();
    b.room.disconnect();
  });

  test('disconnecting a user: the event first, then a final end', async () => {
    const room = await makeRoom(server);
    const mod = await join(server, room, 'mod');
    const arn = 'arn:aws:ivs:us-west-2:123456789012:channel/x';
    const twice = [await join(server, room, arn), await join(server, room, arn)];
    const other = await join(server, room, 'other');
    const done = await mod.room.disconnectUser(new DisconnectUserRequest(arn, 'Kicked by moderator'));
    assert.equal(done.userId, arn);
    for (const t of twice) {
      assert.equal((await t.until('userDisconnect')).reason, 'Kicked by moderator');
      assert.equal(await t.until('disconnect'), 'serverDisconnect');
      const kinds = t.seen.map((s) => s.kind);
      assert.ok(kinds.indexOf('userDisconnect') < kinds.indexOf('disconnect'));
      assert.equal(t.tokens(), 1, 'it must not come back');
    }
    await other.until('userDisconnect');
    await mod.room.disconnectUser(new DisconnectUserRequest('nobody')); // resolves although nobody is there
    await client(server).send(new DisconnectUserCommand({ roomIdentifier: room, userId: 'other' }));
    assert.equal(await other.until('disconnect'), 'serverDisconnect');
    const self = await mod.room.disconnectUser(new DisconnectUserRequest('mod', 'self'));
    assert.equal(self.userId, 'mod');
    assert.equal(await mod.until('disconnect'), 'serverDisconnect');
  });

  test('403 for each missing capability', async () => {
    const room = await makeRoom(server);
    const viewer = await join(server, room, 'viewer', { capabilities: [] });
    await refused(viewer.room.sendMessage(new SendMessageRequest('')), 403);
    await refused(viewer.room.deleteMessage(new DeleteMessageRequest('not an id')), 403);
    await refused(viewer.room.disconnectUser(new DisconnectUserRequest('')), 403);
    viewer.room.disconnect();
  });

  test('too long, empty, too large, bad id', async () => {
    const room = await makeRoom(server, { maximumMessageLength: 5 });
    const a = await join(server, room, 'a');
    assert.equal((await a.room.sendMessage(new SendMessageRequest('𝄞𝄞𝄞𝄞𝄞'))).content, '𝄞𝄞𝄞𝄞𝄞', 'code points');
    await refused(a.room.sendMessage(new SendMessageRequest('123456')), 400, 'Message exceeds maximum length');
    await refused(a.room.sendMessage(new SendMessageRequest('')), 400);
    await refused(a.room.sendMessage(new SendMessageRequest('x', { k: 'a'.repeat(1024) })), 413);
    await refused(a.room.deleteMessage(new DeleteMessageRequest('not an id')), 400);
    await refused(a.room.deleteMessage(new DeleteMessageRequest('AbCdEf123456', 'r'.repeat(257))), 413);
    await refused(a.room.sendMessage(new SendMessageRequest('x', { k: 'a'.repeat(17_000) })), 413);
    await client(server).send(new UpdateRoomCommand({ identifier: room, maximumMessageLength: 6 }));
    await a.room.sendMessage(new SendMessageRequest('123456')); // at once, for who is connected
    a.room.disconnect();
  });

  test('eleven messages in a second', async () => {
    const room = await makeRoom(server);
    const a = await join(server, room, 'a');
    const results = await Promise.allSettled(Array.from({ length: 30 }, (_, i) => a.room.sendMessage(new SendMessageRequest(`m${i}`))));
    const ok = results.filter((r) => r.status === 'fulfilled').length;
    const late = results.filter((r) => r.status === 'rejected');
    assert.ok(ok >= 10 && ok <= 20, `${ok} went through`);
    assert.ok(late.length > 0);
    for (const r of late) {
      assert.equal(r.reason.errorCode, 429);
      assert.equal(r.reason.errorMessage, 'rate limit exceeded');
    }
    a.room.disconnect();
  });

  test("the room's own rate, over all clients", async () => {
    const room = await makeRoom(server, { maximumMessageRatePerSecond: 2 });
    const people = await Promise.all(['a', 'b', 'c'].map((u) => join(server, room, u)));
    const results = await Promise.allSettled(people.flatMap((p) => [1, 2, 3].map((i) => p.room.sendMessage(new SendMessageRequest(`${i}`)))));
    const ok = results.filter((r) => r.status === 'fulfilled').length;
    assert.ok(ok >= 2 && ok <= 6, `${ok} went through`);
    for (const r of results.filter((x) => x.status === 'rejected')) assert.equal(r.reason.errorCode, 429);
    for (const p of people) p.room.disconnect();
  });

  test('a token opens one connection, once', async () => {
    const room = await makeRoom(server);
    const used = await token(server, room, 'a');
    const first = await join(server, room, 'a', { provider: () => ({ token: used.token }) });
    const second = await join(server, room, 'a', { provider: () => ({ token: used.token }), connect: false });
    second.room.connect();
    assert.equal(await second.until('disconnect'), 'socketError');
    assert.equal(second.tokens(), 4, 'one attempt and three more');
    first.room.disconnect();
    await first.until('disconnect');
    const third = await join(server, room, 'a', { provider: () => ({ token: used.token }), connect: false });
    third.room.connect();
    assert.equal(await third.until('disconnect'), 'socketError', 'also after the first has gone');
    for (const bad of ['garbage', `${used.token}x`, `x${used.token}`]) {
      const j = await join(server, room, 'a', { provider: () => ({ token: bad }), connect: false });
      j.room.connect();
      assert.equal(await j.until('disconnect'), 'socketError', bad);
    }
  });

  test('a session ends: 401, a new token, and on', { timeout: 110_000 }, async () => {
    const room = await makeRoom(server);
    // No tokenExpirationTime, as AWS's samples: the client depends on the push.
    const a = await join(server, room, 'a', {
      provider: async (n) => ({ token: (await token(server, room, 'a', undefined, { sessionDurationInMinutes: n === 1 ? 1 : 60 })).token }),
    });
    await a.until('connecting');
    await new Promise((resolve) => {
      const look = () => (a.count('connect') >= 2 ? resolve() : setTimeout(look, 50));
      look();
    });
    assert.equal(a.count('disconnect'), 0);
    assert.equal(a.tokens(), 2);
    await a.room.sendMessage(new SendMessageRequest('still here'));
    a.room.disconnect();
  });

  test('hand-over: two connections, no message twice, none lost', async () => {
    const room = await makeRoom(server);
    const a = await join(server, room, 'a', {
      provider: async (n) => ({
        token: (await token(server, room, 'a')).token,
        tokenExpirationTime: new Date(Date.now() + (n === 1 ? 61_500 : 3_600_000)), // the next one 60 s earlier
      }),
    });
    const b = await join(server, room, 'b');
    const sent = [];
    while (a.tokens() < 2 || sent.length < 12) {
      sent.push((await b.room.sendMessage(new SendMessageRequest(`m${sent.length}`))).id);
      await new Promise((r) => setTimeout(r, 200));
      assert.ok(sent.length < 100, 'no hand-over came');
    }
    const last = await b.room.sendMessage(new SendMessageRequest('last'));
    sent.push(last.id);
    await a.until('message', (m) => m.id === last.id);
    assert.deepEqual(a.seen.filter((s) => s.kind === 'message').map((s) => s.value.id), sent);
    assert.equal(a.count('disconnect'), 0);
    a.room.disconnect();
    b.room.disconnect();
  });

  test('custom events reach everybody', async () => {
    const room = await makeRoom(server);
    const a = await join(server, room, 'a');
    const viewer = await join(server, room, 'v', { capabilities: [] });
    const sent = await client(server).send(new SendEventCommand({ roomIdentifier: room, eventName: 'app:DELETE_BY_USER', attributes: { userId: 'U', é: '1' } }));
    for (const p of [a, viewer]) {
      const e = await p.until('event');
      assert.equal(e.id, sent.id);
      assert.equal(e.eventName, 'app:DELETE_BY_USER');
      assert.deepEqual(e.attributes, { userId: 'U', é: '1' });
      p.room.disconnect();
    }
  });

  test('a denied review is a 406', async () => {
    const room = await makeRoom(server, {
      messageReviewHandler: { uri: 'arn:aws:lambda:us-west-2:123456789012:function:f', fallbackResult: 'DENY' },
    });
    const a = await join(server, room, 'a');
    await refused(a.room.sendMessage(new SendMessageRequest('x')), 406);
    await client(server).send(new UpdateRoomCommand({ identifier: room, messageReviewHandler: { fallbackResult: 'ALLOW' } }));
    await a.room.sendMessage(new SendMessageRequest('x'));
    assert.equal(a.count('message'), 1);
    a.room.disconnect();
  });

  test('a review: denied with its reason, changed, kept in order', async () => {
    const reviewing = await start('--review-default', '{rules: {deny_words: [spam], mask_words: [darn], deny_links: true}}');
    try {
      const uri = 'arn:aws:lambda:us-west-2:000000000000:function:moderate';
      const room = await makeRoom(reviewing, { messageReviewHandler: { uri, fallbackResult: 'DENY' } });
      const alice = await join(reviewing, room, 'alice');
      const bob = await join(reviewing, room, 'bob');
      await assert.rejects(alice.room.sendMessage(new SendMessageRequest('cheap S.P.A.M here')), (e) => {
        assert.equal(e.errorCode, 406);
        assert.doesNotMatch(e.errorMessage, /spam/i, 'the kind of rule, not the word');
        return true;
      });
      await refused(alice.room.sendMessage(new SendMessageRequest('see www.example.com')), 406);
      const sent = await Promise.all(['one', 'darn two', 'three'].map((c) => alice.room.sendMessage(new SendMessageRequest(c))));
      assert.deepEqual(sent.map((m) => m.content), ['one', '**** two', 'three']);
      await bob.until('message', (m) => m.content === 'three');
      assert.deepEqual(bob.seen.filter((s) => s.kind === 'message').map((s) => s.value.content), ['one', '**** two', 'three']);
      alice.room.disconnect();
      bob.room.disconnect();
    } finally {
      await reviewing.stop();
    }
  });

  test('a deleted room: connections stay, publishes are 404, nobody enters', async () => {
    const room = await makeRoom(server);
    const a = await join(server, room, 'a');
    const unused = await token(server, room, 'b');
    await client(server).send(new DeleteRoomCommand({ identifier: room }));
    await refused(a.room.sendMessage(new SendMessageRequest('x')), 404);
    assert.equal(a.room.state, 'connected');
    const b = await join(server, room, 'b', { provider: () => ({ token: unused.token }), connect: false });
    b.room.connect();
    assert.equal(await b.until('disconnect'), 'socketError');
    a.room.disconnect();
  });

  test('kill -9 of the server: the SDK comes back, tokens keep their state', async () => {
    const data = await mkdtemp(path(tmpdir(), 'hubbub-js-'));
    let own = await start('--data', data);
    const port = (url) => `127.0.0.1:${new URL(url).port}`;
    const addresses = ['--data', data, '--api', port(own.api), '--messaging', port(own.messaging)];
    const room = await makeRoom(own);
    const used = await token(own, room, 'x');
    const unused = await token(own, room, 'x');
    const provider = async () => {
      for (;;) { // as an application's own retries would
        try { return { token: (await token(own, room, 'a')).token }; } catch { await new Promise((r) => setTimeout(r, 50)); }
      }
    };
    const a = await join(own, room, 'a', { provider });
    const x = await join(own, room, 'x', { provider: () => ({ token: used.token }) });
    x.room.disconnect();
    await own.kill();
    own = await start(...addresses);
    await new Promise((resolve) => {
      const look = () => (a.count('connect') >= 2 ? resolve() : setTimeout(look, 20));
      look();
    });
    assert.equal(a.count('disconnect'), 0);
    await a.room.sendMessage(new SendMessageRequest('back'));
    const again = await join(own, room, 'x', { provider: () => ({ token: used.token }), connect: false });
    again.room.connect();
    assert.equal(await again.until('disconnect'), 'socketError', 'a used token stays used');
    const fresh = await join(own, room, 'x', { provider: () => ({ token: unused.token }) });
    fresh.room.disconnect();
    a.room.disconnect();
    await own.stop();
    await rm(data, { recursive: true });
  });

  test('a server that ends drops its viewers so that they come back', async () => {
    const own = await start();
    const room = await makeRoom(own);
    const a = await join(own, room, 'a', { provider: async (n) => (n === 1 ? { token: (await token(own, room, 'a')).token } : new Promise(() => {})) });
    assert.equal(await own.stop(), 0);
    await a.until('connecting', () => a.count('connecting') >= 2);
    assert.equal(a.count('disconnect'), 0, 'a close frame would have been final');
    a.room.disconnect();
  });

  test('a client that is cut off after each 101 is slowed down, never refused, and stays once it can', async () => {
    const room = await makeRoom(server);
    const { hostname, port } = new URL(server.messaging);
    let cutting = true;
    let cut = 0;
    let pass;
    const stays = new Promise((resolve) => { pass = resolve; });
    const between = createServer((client) => { // a network that breaks when the connection is open
      const upstream = connect(port, hostname);
      client.pipe(upstream);
      upstream.on('data', (data) => {
        client.write(data, () => {
          if (!cutting) return pass();
          cut++;
          client.resetAndDestroy();
          upstream.destroy();
        });
      });
      for (const [one, other] of [[client, upstream], [upstream, client]]) {
        one.on('error', () => {});
        one.on('close', () => other.destroy());
      }
    });
    between.listen(0, '127.0.0.1');
    await once(between, 'listening');
    const delayed = async () => {
      const text = await (await fetch(`${server.admin}/metrics`)).text();
      return Number(/^hubbub_hub_handshakes_delayed_total (\d+)$/m.exec(text)[1]);
    };
    const provider = async () => ({ token: (await token(server, room, 'a')).token }); // without times, for which the SDK would keep timers
    const a = await join({ ...server, messaging: `ws://127.0.0.1:${between.address().port}` }, room, 'a', { provider });
    while (await delayed() < 3) await once(between, 'connection');
    assert.ok(cut > 30, `thirty times it may come and go; it was delayed after ${cut}`);
    cutting = false;
    await stays;
    while (a.room.state !== 'connected') await new Promise(setImmediate);
    await a.room.sendMessage(new SendMessageRequest('here'));
    assert.equal(a.count('disconnect'), 0, 'it was never refused four times');
    a.room.disconnect();
    between.close();
  });

  test('no token, secret or message text is in the log', async () => {
    const room = await makeRoom(server);
    const t = await token(server, room, 'secret-user-id');
    const a = await join(server, room, 'x', { provider: () => ({ token: t.token }) });
    await a.room.sendMessage(new SendMessageRequest('secret-content', { k: 'secret-attribute' }));
    await client(server).send(new SendEventCommand({ roomIdentifier: room, eventName: 'x', attributes: { k: 'secret-attribute' } }));
    a.room.disconnect();
    for (const s of [t.token, server.secret_access_key, 'secret-content', 'secret-attribute', 'secret-user-id']) {
      assert.ok(!server.log().includes(s), `the log has ${s}`);
    }
  });
});
