import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createConnection, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { RelayError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import { listQueue } from '../../src/cli/queue-list.ts';
import { ControlClient } from '../../src/control/client.ts';
import { ControlServer } from '../../src/control/server.ts';
import type { QueueFilter } from '../../src/database/database.ts';
import { FakeQueue, lineOf, mail, row, stats } from './queue-fixture.ts';

async function setUp(
  t: TestContext,
  { patienceMs, ...options }: { idleMs?: number; patienceMs?: number } = {},
) {
  const dir = mkdtempSync(join(tmpdir(), 'control-'));
  const path = join(dir, 'control.sock');
  const queue = new FakeQueue();
  const server = await ControlServer.start({ path, target: queue, log: silentLog, ...options });
  const client = await ControlClient.connect(path, patienceMs);
  assert.ok(client !== null);
  t.after(async () => {
    client.close();
    await server.close();
    rmSync(dir, { recursive: true, force: true });
  });
  return { path, queue, server, client };
}

/** Sends raw text, answers with what comes back until the server closes or a line is complete. */
async function raw(path: string, text: string): Promise<string> {
  const socket = createConnection(path).setEncoding('utf8');
  socket.write(text);
  const [answer] = (await once(socket, 'data')) as [string];
  socket.destroy();
  return answer;
}

test('the socket is for its owner only, and is gone after close', async (t) => {
  const { path, server } = await setUp(t);
  assert.equal(statSync(path).mode & 0o777, 0o600);
  await server.close();
  assert.equal(existsSync(path), false);
});

test('a socket left by a dead relay is replaced', async (t) => {
  const { path, server } = await setUp(t);
  await server.close();
  writeFileSync(path, '');
  const again = await ControlServer.start({ path, target: new FakeQueue(), log: silentLog });
  assert.ok((await ControlClient.connect(path)) !== null);
  await again.close();
});

test('idle connections and halves of requests keep nobody out: the longest idle one makes room', async (t) => {
  const { path, client } = await setUp(t);
  const idle: Socket[] = [];
  let ended = 0;
  for (let i = 0; i < 40; i++) {
    const socket = createConnection(path).on('error', () => {});
    socket.on('close', () => ended++);
    await once(socket, 'connect');
    if (i % 2 === 0) socket.write('{"id":1,');
    // Whoever asks is not the one that is idle longest.
    assert.equal(await client.show(`none-${i}`), null, `beside ${i} idle ones`);
    idle.push(socket);
  }
  const another = await ControlClient.connect(path);
  assert.ok(another !== null);
  assert.equal(await another.show('none'), null);
  another.close();
  assert.ok(ended >= 24, `${ended} of 40 made room`);
  for (const socket of idle) socket.destroy();
});

test('what takes longer than a connection may be idle is answered; then the connection is idle', async (t) => {
  const { queue, client } = await setUp(t, { idleMs: 40 });
  const done = await queue.operate('hold', {});
  queue.operate = async () => {
    await sleep(150);
    return done;
  };
  assert.deepEqual(await client.operate('hold', {}), done);
  await sleep(150);
  await assert.rejects(client.show('none'), /ended the connection/);
});

test('a request that does not come to its end ends its connection', async (t) => {
  const { path } = await setUp(t);
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const socket = createConnection(path).on('error', () => {});
  await once(socket, 'connect');
  socket.write('{"id"');
  await new Promise((done) => setImmediate(done));
  const closed = once(socket, 'close');
  for (let i = 0; i < 20; i++) {
    t.mock.timers.tick(1000);
    await new Promise((done) => setImmediate(done));
  }
  await closed;
});

test('every method answers what the target says', async (t) => {
  const { queue, client } = await setUp(t);
  const second = row('id2', 'c.test', { state: 'DEAD' });
  queue.rows = [row('id1'), second];
  queue.content_ = Buffer.from([0, 255, 13, 10]);
  assert.deepEqual(await client.lines({ selection: { states: ['DEAD'] }, limit: 10 }), [lineOf(second)]);
  assert.deepEqual(await client.lines({ afterQueueId: 'id1', limit: 10 }), [lineOf(second)]);
  assert.deepEqual(await client.show('id1'), mail);
  assert.equal(await client.show('other'), null);
  assert.deepEqual(await client.content('id1', 1, 2), Buffer.from([255, 13]));
  assert.equal(await client.content('other', 0, 2), null);
  assert.deepEqual(await client.runningStats(), { queue: stats, scheduler: queue.schedulerStats() });
  assert.deepEqual(await client.operate('hold', { destinations: ['b.test'] }), {
    rows: 2,
    recipients: 2,
    sending: 1,
    queueIds: [],
    next: null,
  });
  assert.deepEqual(queue.operated, [['hold', { destinations: ['b.test'] }, '']]);
});

test('requests sent together are answered in order', async (t) => {
  const { client } = await setUp(t);
  const answers = await Promise.all([client.show('id1'), client.stats(), client.show('x')]);
  assert.deepEqual(answers, [mail, stats, null]);
});

test('an error of the queue reaches the operator with its text', async (t) => {
  const { queue, client } = await setUp(t);
  queue.show = () => Promise.reject(new RelayError('database_busy', 'the database is busy'));
  await assert.rejects(client.show('id1'), { message: 'the database is busy' });
  assert.deepEqual(await client.stats(), stats);
});

test('what is not a request is refused, and the connection goes on', async (t) => {
  const { path } = await setUp(t);
  for (const text of [
    'nonsense',
    '{}',
    '{"id":1,"method":"drop","params":{}}',
    '{"id":1,"method":"list","params":{"limit":0}}',
  ]) {
    assert.match(await raw(path, `${text}\n`), /"code":"bad_request"/);
  }
});

test('a request longer than 64 KiB is refused and the connection closed', async (t) => {
  const { path } = await setUp(t);
  assert.match(await raw(path, 'x'.repeat(70_000)), /"code":"request_too_long"/);
});

test('nobody listens: the client says null', async (t) => {
  const { path, server } = await setUp(t);
  await server.close();
  assert.equal(await ControlClient.connect(path), null);
});

test('a relay that is stopped: the operator is told; one that takes long is waited for', async (t) => {
  const { path, queue, client } = await setUp(t, { patienceMs: 40 });
  queue.show = async () => {
    await sleep(250);
    return null;
  };
  assert.equal(await client.show('id1'), null);
  const silent = `${path}.silent`;
  const server = createServer();
  await once(server.listen(silent), 'listening');
  t.after(() => server.close());
  const stuck = await ControlClient.connect(silent, 40);
  await assert.rejects(async () => stuck?.show('id1'), {
    code: 'control_silent',
    message: `the relay does not answer (${silent}): it is stopped or stuck`,
  });
  const orders: [(client: ControlClient) => unknown, RegExp][] = [
    [({ suspensions }) => suspensions.resume('all'), /protorelay suspensions$/],
    [({ bans }) => bans.delete('192.0.2.1'), /protorelay ban list$/],
    [(one) => one.operate('hold', {}), /protorelay queue list$/],
    [(one) => one.reload(), /protorelay status$/],
  ];
  for (const [order, shownBy] of orders) {
    const asking = await ControlClient.connect(silent, 40);
    assert.ok(asking !== null);
    await assert.rejects(
      async () => order(asking),
      ({ message }: Error) => {
        assert.match(message, /; should it go on, it does what it was told: see protorelay/);
        assert.match(message, shownBy);
        return true;
      },
    );
  }
});

test('the relay ends during a request: the operator is told', async (t) => {
  const { queue, client, server } = await setUp(t);
  const asked = new Promise<void>((resolve) => {
    queue.show = () => {
      resolve();
      return new Promise(() => {});
    };
  });
  const told = assert.rejects(client.show('id1'), { message: 'the relay ended the connection' });
  await asked;
  await server.close();
  await told;
});

test('a path too long for a socket is named with what to do', async () => {
  const path = join(tmpdir(), 'x'.repeat(120));
  await assert.rejects(ControlServer.start({ path, target: new FakeQueue(), log: silentLog }), {
    code: 'control_failed',
    message: /longer than \d+ bytes; choose a shorter data_dir/,
  });
});

test('the code of an error is the relay’s: a full disk is one for whoever asked', async (t) => {
  const { queue, client } = await setUp(t);
  for (const [code, seen] of [
    ['database_full', 'database_full'],
    ['database_corrupt', 'database_corrupt'],
    ['database_unavailable', 'database_busy'],
  ] as const) {
    queue.show = () => Promise.reject(new RelayError(code, 'of the disk'));
    await assert.rejects(client.show('id1'), { code: seen, message: 'of the disk' });
  }
  queue.show = () => Promise.reject(new Error('a fault'));
  await assert.rejects(client.show('id1'), { code: 'control_failed' });
});

test('what `queue list` and the socket hold does not grow with the rows', async (t) => {
  const { queue, client } = await setUp(t);
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const total = 40_000;
  let live: number[] = [];
  queue.lines = async ({ limit, afterQueueId }: QueueFilter): Promise<string[]> => {
    const from = afterQueueId === undefined ? 0 : Number(afterQueueId.slice(2)) + 1;
    if (from >= 10_000 * live.length) {
      collect();
      live.push(process.memoryUsage().heapUsed);
    }
    const length = Math.min(limit, total - from);
    return Array.from({ length }, (_, i) => lineOf(row(`id${String(from + i).padStart(6, '0')}`)));
  };
  for (const json of [false, true]) {
    const out = new Writable({ write: (_chunk, _encoding, done) => setImmediate(done) });
    live = [];
    await listQueue(
      { reader: client, client, rules: async () => [], close() {} },
      {},
      { limit: total, json },
      { out, err: out, nowMs: 0 },
    );
    const [first, second, ...later] = live as [number, number, ...number[]];
    assert.equal(later.length, 2, 'up to the last page');
    // The first pages warm the engine up. Rows that are kept would be 200 bytes each or more.
    const grown = Math.max(...later) - Math.max(first, second);
    assert.ok(grown < 1 << 20, `${grown} bytes more after ${total} rows`);
  }
});
