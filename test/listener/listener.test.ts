import assert from 'node:assert/strict';
import { existsSync, linkSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { createGauges, GAUGE } from '../../src/admission/gauges.ts';
import { RelayError } from '../../src/base/errors.ts';
import { Listener } from '../../src/listener/listener.ts';
import type { Acceptor, ListenOptions } from '../../src/native.ts';
import { configOf, type LogLine, recordingLog } from '../session/dialog-fixture.ts';

/** The kernel and the session threads: fd numbers, hand-offs, refusals. */
class FakeKernel {
  listening: ListenOptions[] = [];
  loads = new Map<number, number>();
  handed: { fd: number; reactor: number; address: string }[] = [];
  refused: string[] = [];
  closed = 0;
  paused = 0;
  nowMs = 0;
  full = new Set<number>();
  fail: { code: string } | null = null;
  #fd = 10;

  readonly ports = {
    listen: (options: ListenOptions): Acceptor => {
      if (this.fail !== null && this.listening.length > 0)
        throw Object.assign(new Error('listen'), this.fail);
      this.listening.push(options);
      return {
        port: options.port === 0 ? 40_000 + this.listening.length : (options.port ?? 0),
        handOff: (fd, reactor, address) => {
          if (this.full.has(reactor)) return false;
          this.handed.push({ fd, reactor, address });
          return true;
        },
        refuse: (_fd, reply) => void this.refused.push(reply),
        pause: () => void this.paused++,
        resume: () => void this.paused--,
        close: () => void this.closed++,
      };
    },
    reactorConnections: (id: number): number => this.loads.get(id) ?? -1,
    now: (): number => this.nowMs,
  };

  accept(...peers: string[]): void {
    const fds = Int32Array.from(peers, () => this.#fd++);
    const addresses = peers.map((peer) => `${peer} 50000 127.0.0.1 2525`);
    this.listening[0]?.onAccept(fds, addresses);
  }
}

async function started(settings: object = {}, reactors = [1, 2]) {
  const kernel = new FakeKernel();
  for (const id of reactors) kernel.loads.set(id, 0);
  const gauges = createGauges();
  const logged: LogLine[] = [];
  const config = configOf({ listeners: [{ host: '127.0.0.1', port: 0 }], ...settings });
  const listener = new Listener(config, reactors, gauges, recordingLog(logged), kernel.ports);
  return { kernel, gauges, logged, listener, addresses: await listener.start() };
}

test('start tells the ports in use', async () => {
  const { addresses, listener, kernel } = await started({
    listeners: [
      { host: '127.0.0.1', port: 0 },
      { host: '::1', port: 2525 },
    ],
  });
  assert.deepEqual(addresses, [
    { host: '127.0.0.1', port: 40_001 },
    { host: '::1', port: 2525 },
  ]);
  assert.deepEqual(
    kernel.listening.map(({ listener: number }) => number),
    [0, 1],
  );
  listener.close();
  assert.equal(kernel.closed, 2);
});

test('a host name is looked up', async () => {
  const { kernel } = await started({ listeners: [{ host: 'localhost', port: 0 }] });
  assert.match(kernel.listening[0]?.host ?? '', /^(127\.0\.0\.1|::1)$/);
});

test('each socket of a batch goes to the session thread with the fewest connections', async () => {
  const { kernel, listener } = await started({}, [1, 2, 3]);
  kernel.loads.set(1, 5).set(2, 3).set(3, 4);
  kernel.accept('192.0.2.1', '192.0.2.1', '192.0.2.1', '192.0.2.1');
  assert.deepEqual(
    kernel.handed.map(({ reactor }) => reactor),
    [2, 2, 3, 1],
  );
  assert.equal(kernel.handed[0]?.address, '192.0.2.1 50000 127.0.0.1 2525');
  assert.equal(listener.open, 4);
});

test('a thread that is full or gone is passed over; when all are, the connection gets 421', async () => {
  const { kernel, listener } = await started();
  kernel.loads.set(2, -1);
  kernel.full.add(1);
  kernel.accept('192.0.2.1');
  assert.deepEqual(kernel.handed, []);
  assert.match(
    kernel.refused[0] ?? '',
    /^421 4\.3\.2 relay\.example\.test has too many connections[^\n]*\r\n$/,
  );
  assert.equal(listener.open, 0);
});

test('connections beyond max_connections get 421 4.3.2 until one closes', async () => {
  const { kernel, listener } = await started({ smtp: { max_connections: 2 } });
  kernel.accept('192.0.2.1', '192.0.2.2', '192.0.2.3');
  assert.equal(kernel.handed.length, 2);
  assert.match(kernel.refused[0] ?? '', /^421 4\.3\.2 .*too many connections/);
  listener.closedPeers(['192.0.2.1']);
  kernel.accept('192.0.2.3');
  assert.equal(kernel.handed.length, 3);
});

test('connections beyond max_connections_per_ip get 421 4.7.0, those of others not', async () => {
  const { kernel, listener } = await started({ smtp: { max_connections_per_ip: 1 } });
  kernel.accept('192.0.2.1', '192.0.2.1', '192.0.2.2');
  assert.equal(kernel.handed.length, 2);
  assert.match(kernel.refused[0] ?? '', /^421 4\.7\.0 .*from your address/);
  listener.closedPeers(['192.0.2.1', '192.0.2.1', '192.0.2.9']);
  assert.equal(listener.open, 1, 'an address without connections is not counted down');
  kernel.accept('192.0.2.1');
  assert.equal(kernel.handed.length, 3);
});

test('Unix socket clients share no address limit', async () => {
  const { kernel } = await started({ smtp: { max_connections_per_ip: 1 } });
  kernel.accept('unix', 'unix', 'unix');
  assert.equal(kernel.handed.length, 3);
});

test('while draining or overloaded new connections get 421 4.3.2', async () => {
  const { kernel, gauges } = await started();
  Atomics.store(gauges, GAUGE.overloaded, 1);
  kernel.accept('192.0.2.1');
  Atomics.store(gauges, GAUGE.draining, 1);
  kernel.accept('192.0.2.1');
  assert.match(kernel.refused[0] ?? '', /^421 4\.3\.2 .*overloaded/);
  assert.match(kernel.refused[1] ?? '', /^421 4\.3\.2 .*shutting down/);
});

test('limits can be changed live', async () => {
  const { kernel, listener } = await started();
  listener.reconfigure(configOf({ smtp: { max_connections: 1 } }));
  kernel.accept('192.0.2.1', '192.0.2.2');
  assert.equal(kernel.refused.length, 1);
});

test('a full table of files is logged with advice, and not more than once in ten seconds', async () => {
  const { kernel, logged } = await started();
  const fail = () => kernel.listening[0]?.onError(24);
  fail();
  kernel.nowMs = 9999;
  fail();
  kernel.nowMs = 10_000;
  fail();
  assert.deepEqual(
    logged.map(({ event }) => event),
    ['listener.accept_failed', 'listener.accept_failed'],
  );
  assert.equal(logged[0]?.fields.error, 'EMFILE');
  assert.match(String(logged[0]?.fields.advice), /LimitNOFILE/);
});

test('pause and resume reach every acceptor', async () => {
  const { kernel, listener } = await started({
    listeners: [
      { host: '127.0.0.1', port: 0 },
      { host: '127.0.0.1', port: 0 },
    ],
  });
  listener.pause();
  assert.equal(kernel.paused, 2);
  listener.resume();
  assert.equal(kernel.paused, 0);
});

test('an address in use is a listen_failed that names it, and nothing stays open', async () => {
  const kernel = new FakeKernel();
  kernel.fail = { code: 'EADDRINUSE' };
  const config = configOf({
    listeners: [
      { host: '127.0.0.1', port: 0 },
      { host: '::1', port: 2525 },
    ],
  });
  const listener = new Listener(config, [1], createGauges(), recordingLog([]), kernel.ports);
  await assert.rejects(listener.start(), (error: unknown) => {
    assert(error instanceof RelayError);
    assert.equal(error.code, 'listen_failed');
    assert.equal(
      error.message,
      'cannot listen on [::1]:2525 (listeners[1]): another program listens there; stop it or choose another port',
    );
    return true;
  });
  assert.equal(kernel.closed, 1);
});

test('a socket file left behind is removed; one that is answered, and a plain file, are not', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'listener-'));
  try {
    const live = join(folder, 'live');
    const server = createServer().listen(live);
    await new Promise((done) => server.once('listening', done));
    await started({ listeners: [{ path: live }] });
    assert.equal(existsSync(live), true);
    const stale = join(folder, 'stale');
    linkSync(live, stale);
    server.close();
    await started({ listeners: [{ path: stale }] });
    assert.equal(existsSync(stale), false);
    const plain = join(folder, 'plain');
    writeFileSync(plain, 'text');
    await started({ listeners: [{ path: plain }] });
    assert.equal(existsSync(plain), true);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('given sockets are accepted on; those of an absent process only as long as it is absent', async () => {
  const kernel = new FakeKernel();
  kernel.loads.set(1, 0);
  const config = configOf({ listeners: [{ host: '127.0.0.1', port: 0 }, { path: 'relay.sock' }] });
  const listener = new Listener(config, [1], createGauges(), recordingLog([]), kernel.ports);
  const given = (fd: number, process: number | null, number = 0) => ({
    listener: number,
    fd,
    process,
    address: { host: '127.0.0.1', port: 25 },
  });
  assert.equal((await listener.start([given(10, 0), given(12, null, 1)])).length, 2);
  const fds = (): unknown[] => kernel.listening.map(({ fd, batch }) => [fd, batch]);
  assert.deepEqual(
    fds(),
    [
      [10, 64],
      [12, 4],
    ],
    'what several share is taken in small bites',
  );
  listener.standIn([given(11, 1)]);
  listener.standIn([given(11, 1)]);
  assert.deepEqual(
    fds(),
    [
      [10, 64],
      [12, 4],
      [11, 4],
    ],
    'once, in small bites',
  );
  assert.equal(kernel.closed, 0);
  listener.standIn([]);
  assert.equal(kernel.closed, 1);
  listener.standIn([given(11, 1)]);
  listener.close();
  assert.equal(kernel.closed, 4);
  listener.standIn([given(11, 1)]);
  assert.equal(kernel.listening.length, 4, 'nothing is opened after the end');
});
