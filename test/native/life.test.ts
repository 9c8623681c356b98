import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { CLOSE_REASON, type ListenOptions, listen, reactorConnections } from '../../src/native.ts';
import { Client, Rig, RULES, turns } from './rig.ts';

let rig: Rig;
beforeEach(() => {
  rig = new Rig({ lingerMs: 50 });
});
afterEach(() => rig.close());

test('a deadline passes once, and the connection stays', async () => {
  const client = await rig.client();
  rig.reactor.deadline(client.id, 10);
  rig.reactor.flush();
  const timeout = await rig.event('timeout');
  assert.deepEqual([timeout.connection, timeout.a], [client.id, 0]);
  await client.write('NOOP\r\n');
  assert.deepEqual(rig.lines(), ['NOOP']);
  assert.equal(rig.of('timeout').length, 1);
});

test('lines do not renew a deadline', async () => {
  const client = await rig.client();
  rig.reactor.deadline(client.id, 40);
  rig.reactor.flush();
  while (rig.of('timeout').length === 0) await client.write('x');
  assert.deepEqual(rig.lines(), []);
});

test('content renews its deadline with every byte', async () => {
  const client = await rig.client();
  rig.reactor.deadline(client.id, 60);
  rig.reactor.expectData(client.id, RULES);
  rig.reactor.flush();
  const endsAt = performance.now() + 150;
  while (performance.now() < endsAt) await client.write('x');
  assert.equal(rig.of('timeout').length, 0);
  await rig.event('timeout');
});

test('a deadline of 0 is none, and a later one replaces an earlier one', async () => {
  const client = await rig.client();
  const other = await rig.client();
  rig.reactor.deadline(client.id, 5);
  rig.reactor.deadline(client.id, 0);
  rig.reactor.deadline(other.id, 60);
  rig.reactor.flush();
  const timeout = await rig.event('timeout');
  assert.equal(timeout.connection, other.id);
});

test('content slower than the minimum rate is told after the grace', async () => {
  const slow = await rig.client();
  const fast = await rig.client();
  for (const { id } of [slow, fast]) {
    rig.reactor.minRate(id, 1000, 30);
    rig.reactor.expectData(id, RULES);
  }
  rig.reactor.flush();
  await fast.write('x'.repeat(5000));
  await slow.write('x');
  const timeout = await rig.event('timeout');
  assert.deepEqual([timeout.connection, timeout.a], [slow.id, 1]);
  await turns(20);
  assert.equal(rig.of('timeout').length, 1);
});

test('close sends what was written first and is told as ours', async () => {
  const client = await rig.client();
  rig.reactor.sendLatin1(client.id, '221 bye\r\n');
  rig.reactor.close(client.id);
  rig.reactor.flush();
  const closed = await rig.event('closed');
  assert.deepEqual([closed.a, closed.b], [CLOSE_REASON.local, 0]);
  assert.equal(await client.closed, 'end');
  assert.equal(client.received, '221 bye\r\n');
});

test('close with unread input still lets the peer read the last reply', async () => {
  const client = await rig.client();
  rig.reactor.hold(client.id);
  rig.reactor.flush();
  await client.write('x'.repeat(100_000));
  rig.reactor.sendLatin1(client.id, '421 too much\r\n');
  rig.reactor.close(client.id);
  rig.reactor.flush();
  assert.equal(await client.closed, 'end');
  assert.equal(client.received, '421 too much\r\n');
  assert.equal((await rig.event('closed')).a, CLOSE_REASON.local);
});

test('a peer that neither reads nor closes is given up after the linger time', async () => {
  const client = await rig.client();
  client.socket.pause();
  rig.reactor.send(client.id, Buffer.alloc(4_000_000));
  rig.reactor.close(client.id);
  rig.reactor.flush();
  assert.equal((await rig.event('closed')).a, CLOSE_REASON.local);
});

test('close at once does not wait', async () => {
  const client = await rig.client();
  client.socket.pause();
  rig.reactor.send(client.id, Buffer.alloc(4_000_000));
  rig.reactor.close(client.id);
  rig.reactor.close(client.id, true);
  rig.reactor.flush();
  await turns();
  assert.equal(rig.of('closed').length, 1);
});

test('a peer that closes and one that resets are told apart, once each', async () => {
  const one = await rig.client();
  one.socket.end();
  assert.equal((await rig.event('closed')).a, CLOSE_REASON.peer);
  const two = await rig.client();
  two.socket.resetAndDestroy();
  const closed = await rig.event('closed', 2);
  assert.equal(closed.a, CLOSE_REASON.error);
  assert.notEqual(closed.b, 0);
  await turns(5);
  assert.equal(rig.of('closed').length, 2);
});

test('connections are counted, and the count falls when they go', async () => {
  const clients = [await rig.client(), await rig.client(), await rig.client()];
  assert.equal(rig.reactor.connections(), 3);
  assert.equal(reactorConnections(rig.reactor.id), 3);
  for (const client of clients) client.socket.destroy();
  await rig.event('closed', 3);
  await turns();
  assert.equal(rig.reactor.connections(), 0);
  assert.equal(reactorConnections(rig.reactor.id), 0);
});

test('a full reactor takes no socket; the acceptor refuses it with a reply', async () => {
  const small = new Rig({ maxConnections: 1 });
  await small.client();
  const refused = new Client(small.acceptor.port);
  await refused.closed;
  assert.equal(refused.received, '421 full\r\n');
  await small.close();
});

test('a destroyed reactor closes its connections, takes no sockets and is gone from the count', async () => {
  const other = new Rig();
  const client = await other.client();
  const { id } = other.reactor;
  await other.close();
  await client.closed;
  assert.equal(reactorConnections(id), -1);
  assert.equal(other.reactor.connect('127.0.0.1', 1, '', 1), -1);
  other.reactor.send(client.id, Buffer.from('x'));
  other.reactor.flush();
  assert.equal(other.of('closed').length, 0);
});

test('a reactor can be destroyed from within its turn', async () => {
  const other = new Rig();
  other.onEvent = (event) => {
    if (event.kind === 'line') other.reactor.destroy();
  };
  const client = await other.client();
  client.socket.write('a\r\nb\r\n');
  await client.closed;
  await other.close();
});

test('what onTurn throws ends the thread', async () => {
  const worker = new Worker(new URL('./turn-thread.ts', import.meta.url), { workerData: { mode: 'throw' } });
  const { port } = await new Promise<{ port: number }>((resolve) => worker.once('message', resolve));
  const failed = new Promise<Error>((resolve) => worker.once('error', resolve));
  const client = new Client(port);
  assert.match((await failed).message, /turn failed/);
  await client.closed;
});

test('sockets are handed to reactors of other threads, and those threads can be terminated at any time', async () => {
  const worker = new Worker(new URL('./turn-thread.ts', import.meta.url), { workerData: { mode: 'echo' } });
  const { reactorId } = await new Promise<{ reactorId: number }>((resolve) =>
    worker.once('message', resolve),
  );
  const acceptor = listenHere({
    onAccept: (fds, addresses) => {
      fds.forEach((fd, i) => {
        acceptor.handOff(fd, reactorId, addresses[i] as string);
      });
    },
  });
  const clients = Array.from({ length: 20 }, () => new Client(acceptor.port));
  await Promise.all(
    clients.map(async (client, i) => {
      client.socket.write(`line ${i}\r\n`);
      await client.gather(`line ${i}`.length);
      assert.equal(client.received, `line ${i}`);
    }),
  );
  assert.equal(reactorConnections(reactorId), 20);
  await worker.terminate();
  await Promise.all(clients.map((client) => client.closed));
  assert.equal(reactorConnections(reactorId), -1);
  const late = new Client(acceptor.port);
  await late.closed;
  acceptor.close();
});

function listenHere(options: Partial<ListenOptions>): ReturnType<typeof listen> {
  return listen({ backlog: 10, listener: 0, batch: 10, onAccept: () => {}, onError: () => {}, ...options });
}

test('a socket that is neither handed off nor refused is closed', async () => {
  const acceptor = listenHere({});
  const client = new Client(acceptor.port);
  await client.closed;
  acceptor.close();
});

test('an address in use is named in the error', () => {
  assert.throws(() => listenHere({ port: rig.acceptor.port }), {
    code: 'EADDRINUSE',
    address: `127.0.0.1:${rig.acceptor.port}`,
  });
});

test('a paused acceptor leaves clients in the backlog until it resumes', async () => {
  rig.acceptor.pause();
  const client = new Client(rig.acceptor.port);
  await turns(10);
  assert.equal(rig.of('opened').length, 0);
  rig.acceptor.resume();
  await rig.event('opened');
  client.socket.destroy();
});

test('IPv6 connections carry their addresses', async () => {
  const six = new Rig({ listen: { host: '::1' } });
  six.reactor.connect('::1', six.acceptor.port, '', 1000);
  await six.event('opened', 2);
  const server = six.of('opened').find((event) => event.text.startsWith('3 '));
  assert.match(server?.text ?? '', new RegExp(`^3 ::1 \\d+ ::1 ${six.acceptor.port}$`));
  await six.close();
});

test('Unix sockets: a stale file is replaced, a live one respected, its own removed at close', async () => {
  const path = join(rig.spillDir, 'smtp.sock');
  const live = createServer();
  await new Promise<void>((resolve) => live.listen(path, () => resolve()));
  assert.throws(() => listenHere({ path }), { code: 'EADDRINUSE', address: path });
  await new Promise((resolve) => live.close(resolve));
  const one = new Rig({ listen: { path } });
  const client = new Client(path);
  await one.event('opened');
  assert.equal(one.seen[0]?.text, '3 unix 0 unix 0');
  client.socket.destroy();
  await one.close();
  assert.equal(existsSync(path), false);
  writeFileSync(path, 'no socket');
  assert.throws(() => listenHere({ path }), { code: 'EADDRINUSE' });
});
