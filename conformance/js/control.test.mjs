// The official AWS SDK for JavaScript v3 against a running server.
import { test, before, after, describe } from 'node:test';
import assert from 'node:assert/strict';
import * as ivs from '@aws-sdk/client-ivschat';
import { start, client } from './server.mjs';

describe('control plane', () => {
  let server;
  let svc;
  before(async () => { server = await start(); svc = client(server); });
  after(async () => { assert.equal(await server.stop(), 0, 'a clean end'); });
  const call = (name, input = {}) => svc.send(new ivs[`${name}Command`](input));
  const fails = (promise, name, status, also = () => {}) => assert.rejects(promise, (e) => {
    assert.equal(e.name, name, e.message);
    assert.equal(e.$metadata.httpStatusCode, status);
    assert.ok(e.$metadata.requestId);
    also(e);
    return true;
  });

  test('all seventeen operations', async () => {
    const conf = await call('CreateLoggingConfiguration', { name: 'c', destinationConfiguration: { cloudWatchLogs: { logGroupName: '/a' } }, tags: { k: 'v' } });
    assert.equal(conf.state, 'ACTIVE');
    const room = await call('CreateRoom', { name: 'r', tags: { a: 'b' }, loggingConfigurationIdentifiers: [conf.arn] });
    assert.equal(room.$metadata.httpStatusCode, 200);
    assert.ok(room.createTime instanceof Date);
    const got = await call('GetRoom', { identifier: room.arn });
    assert.deepEqual({ ...got, $metadata: 0 }, { ...room, $metadata: 0 });
    assert.equal((await call('UpdateRoom', { identifier: room.arn, name: 'r2' })).name, 'r2');
    assert.equal((await call('ListRooms', { name: 'r2' })).rooms.length, 1);
    assert.ok((await call('ListRooms')).rooms.length >= 2);
    const t = await call('CreateChatToken', { roomIdentifier: room.arn, userId: 'u', capabilities: ['SEND_MESSAGE'] });
    assert.ok(t.tokenExpirationTime instanceof Date && t.sessionExpirationTime instanceof Date);
    const event = await call('SendEvent', { roomIdentifier: room.arn, eventName: 'x' });
    assert.equal(event.id.length, 12);
    assert.equal((await call('DeleteMessage', { roomIdentifier: room.arn, id: event.id })).id.length, 12);
    assert.equal((await call('DisconnectUser', { roomIdentifier: room.arn, userId: 'u' })).$metadata.httpStatusCode, 200);
    await call('TagResource', { resourceArn: room.arn, tags: { 'é/+ =': 'x' } });
    assert.deepEqual((await call('ListTagsForResource', { resourceArn: room.arn })).tags, { a: 'b', 'é/+ =': 'x' });
    await call('UntagResource', { resourceArn: room.arn, tagKeys: ['é/+ =', 'b/2', 'b-1'] });
    assert.deepEqual((await call('ListTagsForResource', { resourceArn: room.arn })).tags, { a: 'b' });
    assert.equal((await call('GetLoggingConfiguration', { identifier: conf.arn })).destinationConfiguration.cloudWatchLogs.logGroupName, '/a');
    assert.equal((await call('ListLoggingConfigurations')).loggingConfigurations.length, 1);
    assert.ok((await call('UpdateLoggingConfiguration', { identifier: conf.arn, destinationConfiguration: { s3: { bucketName: 'abc' } } })).destinationConfiguration.s3);
    await fails(call('DeleteLoggingConfiguration', { identifier: conf.arn }), 'ConflictException', 409);
    assert.equal((await call('DeleteRoom', { identifier: room.arn })).$metadata.httpStatusCode, 204);
    assert.equal((await call('DeleteLoggingConfiguration', { identifier: conf.arn })).$metadata.httpStatusCode, 204);
  });

  test('errors are the modelled ones, with all their members', async () => {
    // This SDK checks nothing itself: required members are simply missing here.
    await fails(call('GetRoom'), 'ValidationException', 400, (e) => {
      assert.ok(e instanceof ivs.ValidationException);
      assert.equal(e.reason, 'FIELD_VALIDATION_FAILED');
      assert.equal(e.fieldList[0].name, 'identifier');
    });
    await fails(call('CreateRoom', { name: '!', maximumMessageLength: 501, maximumMessageRatePerSecond: 0 }), 'ValidationException', 400,
      (e) => assert.deepEqual(e.fieldList.map((f) => f.name), ['name', 'maximumMessageRatePerSecond', 'maximumMessageLength']));
    await fails(call('CreateRoom', { name: 5 }), 'ValidationException', 400, (e) => assert.equal(e.reason, 'OTHER'));
    await fails(call('CreateLoggingConfiguration', { destinationConfiguration: {} }), 'ValidationException', 400,
      (e) => assert.equal(e.fieldList[0].name, 'destinationConfiguration'));
    await fails(call('GetRoom', { identifier: server.room_arn.replace(/.{12}$/, 'AbCdEf123456') }), 'ResourceNotFoundException', 404, (e) => {
      assert.ok(e instanceof ivs.ResourceNotFoundException);
      assert.equal(e.resourceId, 'AbCdEf123456');
      assert.equal(e.resourceType, 'ROOM');
    });
    await fails(call('UntagResource', { resourceArn: server.room_arn, tagKeys: [] }), 'ValidationException', 400);
  });

  test('a client whose clock is wrong corrects itself by our Date', async () => {
    const off = client(server, { systemClockOffset: 3_600_000, maxAttempts: 3 });
    assert.ok((await off.send(new ivs.ListRoomsCommand({}))).rooms.length >= 1);
  });

  test('pages', async () => {
    for (let i = 0; i < 7; i++) await call('CreateRoom', { name: 'paged' });
    const names = [];
    for await (const page of ivs.paginateListRooms({ client: svc, pageSize: 3 }, { name: 'paged' })) names.push(page.rooms.length);
    assert.deepEqual(names, [3, 3, 1]);
  });
});
