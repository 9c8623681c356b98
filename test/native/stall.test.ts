/**
 * A thread that stood still (a stopped process, a machine that was paused, long work) finds deadlines passed and, in its
 * sockets, what peers sent in time. That is read first: only who is silent then has timed out.
 */
import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import { Duplex } from 'node:stream';
import { afterEach, beforeEach, test } from 'node:test';
import { connect as tlsConnect } from 'node:tls';
import { TLS_VERIFY } from '../../src/native.ts';
import { type Client, Rig, RULES } from './rig.ts';
import { serverSlot } from './tls-rig.ts';

const DEADLINE_MS = 100;
const STALL_MS = 250;

let rig: Rig;
beforeEach(() => {
  rig = new Rig({ holdAfterVerbs: false });
});
afterEach(() => rig.close());

function standStill(ms = STALL_MS): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

/** A client whose connection has the deadline; each line gives it another, as sessions do. */
async function watched(deadlineMs = DEADLINE_MS): Promise<Client> {
  const client = await rig.client();
  rig.reactor.deadline(client.id, deadlineMs);
  rig.reactor.flush();
  return client;
}

function timedOut(): number[] {
  return rig.of('timeout').map(({ connection }) => connection);
}

test('a line that came meanwhile is in time, a silent client is not', async () => {
  const talking = await watched();
  const silent = await watched();
  rig.onEvent = ({ kind, connection }) => {
    if (kind === 'line') rig.reactor.deadline(connection, 10_000);
  };
  talking.socket.write('NOOP\r\n');
  standStill();
  await rig.event('timeout');
  assert.deepEqual(rig.lines(), ['NOOP']);
  assert.deepEqual(timedOut(), [silent.id]);
});

test('more input than one turn takes is read before anybody is late', async () => {
  const clients = await Promise.all(Array.from({ length: 90 }, () => rig.client()));
  rig.onEvent = ({ kind, connection }) => {
    if (kind === 'line') rig.reactor.deadline(connection, 10_000);
  };
  for (const { id } of clients) rig.reactor.deadline(id, DEADLINE_MS);
  rig.reactor.flush();
  for (const { socket } of clients) socket.write('N\r\n'.repeat(1000));
  standStill();
  await rig.until(() => rig.lines().length === 90_000 || rig.of('timeout').length > 0);
  assert.deepEqual(timedOut(), []);
});

test('content that came meanwhile renews the deadline, and the minimum rate leaves the pause out', async () => {
  const client = await watched(0);
  rig.reactor.minRate(client.id, 2000, 100);
  rig.reactor.expectData(client.id, RULES);
  rig.reactor.deadline(client.id, 1000);
  rig.reactor.flush();
  client.socket.write(`${'x'.repeat(900)}\r\n`);
  standStill(1500);
  await client.write('y\r\n');
  assert.deepEqual(timedOut(), []);
  client.socket.write('.\r\n');
  const { a } = await rig.event('content');
  assert.deepEqual(timedOut(), []);
  rig.arena.release(a);
});

test('a connection that was made meanwhile is no connection that failed', async () => {
  rig.reactor.connect('127.0.0.1', rig.acceptor.port, '', DEADLINE_MS);
  standStill();
  await rig.until(() => rig.of('opened').length + rig.of('closed').length > 0);
  assert.deepEqual(rig.of('closed'), []);
});

test('a reply that came meanwhile is in time on connections we opened', async (t) => {
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.on('data', () => {
      socket.write('250 ok\r\n');
      standStill();
    });
  });
  t.after(() => server.close());
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const id = rig.reactor.connect('127.0.0.1', (server.address() as { port: number }).port, '', 5000);
  await rig.event('opened');
  rig.reactor.sendLatin1(id, 'NOOP\r\n');
  rig.reactor.deadline(id, DEADLINE_MS);
  rig.reactor.flush();
  await rig.until(() => rig.of('line').length + rig.of('timeout').length > 0);
  assert.deepEqual(timedOut(), []);
});

/** The first thing that a TLS client says. */
function clientHello(): Promise<Buffer> {
  return new Promise((done) => {
    const write = (bytes: Buffer, _: string, next: () => void): void => {
      done(bytes);
      next();
    };
    tlsConnect({ socket: new Duplex({ read: () => {}, write }), servername: 'localhost' }).on(
      'error',
      () => {},
    );
  });
}

test('a handshake of which something came meanwhile is not a silent one', async () => {
  const hello = await clientHello();
  const client = await rig.client();
  rig.reactor.secure(client.id, serverSlot(), TLS_VERIFY.none, '', '', '', DEADLINE_MS);
  rig.reactor.flush();
  client.socket.write(hello);
  standStill();
  await client.gather(1);
  assert.deepEqual(timedOut(), []);
});
