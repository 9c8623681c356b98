import assert from 'node:assert/strict';
import { Writable } from 'node:stream';
import { test } from 'node:test';
import type { ControlClient } from '../../src/control/client.ts';
import { duration, formatStats, size } from '../../src/control/format.ts';
import { MAX_CONTENT_BYTES } from '../../src/control/protocol.ts';
import { catMail, listQueue, operateQueue, queueStats, showMail } from '../../src/control/queue-commands.ts';
import { FakeQueue, row } from './queue-fixture.ts';

function setUp(running = true) {
  const queue = new FakeQueue();
  const chunks: { out: Buffer[]; err: Buffer[] } = { out: [], err: [] };
  const into = (list: Buffer[]): Writable =>
    new Writable({
      write(chunk: Buffer, _encoding, done) {
        list.push(Buffer.from(chunk));
        setImmediate(done);
      },
    });
  const client = Object.assign(queue, {
    runningStats: async () => ({ queue: await queue.stats(), scheduler: queue.schedulerStats() }),
  }) as unknown as ControlClient;
  const source = { reader: queue, client: running ? client : null, close: () => {} };
  const output = { out: into(chunks.out), err: into(chunks.err), nowMs: 60_000 };
  const text = (of: 'out' | 'err'): string => Buffer.concat(chunks[of]).toString();
  /** Waits for what is still on its way to the stream. */
  const flushed = (): Promise<void> =>
    new Promise((done) => output.out.end(() => output.err.end(() => done())));
  return { queue, source, output, text, flushed, bytes: () => Buffer.concat(chunks.out) };
}

const options = { limit: 100, json: false };

test('list: a table, with nothing in it that could steer a terminal', async () => {
  const { queue, source, output, text, flushed } = setUp();
  queue.rows = [row('id1'), row('id22', 'long-destination.test', { state: 'HELD', reason: '', detail: '' })];
  assert.equal(await listQueue(source, options, output), 0);
  await flushed();
  assert.deepEqual(text('out').split('\n'), [
    'QUEUE ID  STATE  AGE  SIZE  TRIES  NEXT   RCPTS  DESTINATION            SENDER      REASON',
    'id1       RETRY  1m   1.5K  2      in 1s  1      b.test                 <a@a.test>  timeout: no ?[31mreply',
    'id22      HELD   1m   1.5K  2      -      1      long-destination.test  <a@a.test>',
    '',
  ]);
});

test('list: --limit cuts and says so; an empty queue says "no rows"', async () => {
  const { queue, source, output, text, flushed } = setUp();
  queue.rows = Array.from({ length: 5 }, (_, i) => row(`id${i}`));
  await listQueue(source, { ...options, limit: 3 }, output);
  queue.rows = [];
  await listQueue(source, options, output);
  await flushed();
  assert.match(text('out'), /id2.*\n… more rows: raise --limit/);
  assert.match(text('out'), /no rows\n$/);
});

test('list --json: an array of rows, filters passed on', async () => {
  const { queue, source, output, text, flushed } = setUp();
  queue.rows = [row('id1'), row('id2', 'c.test'), row('id3', 'c.test', { state: 'DEAD' })];
  await listQueue(source, { limit: 10, json: true, state: 'DEAD', destination: 'c.test' }, output);
  await flushed();
  assert.deepEqual(JSON.parse(text('out')), [queue.rows[2]]);
});

test('list: pages neither lose nor repeat rows of a message with many destinations', async () => {
  const { queue, source, output, text, flushed } = setUp();
  for (let mail = 0; mail < 30; mail++) {
    const id = `id${String(mail).padStart(4, '0')}`;
    for (let d = 0; d < (mail === 7 ? 1500 : 97); d++) queue.rows.push(row(id, `d${d}.test`));
  }
  await listQueue(source, { limit: 100_000, json: true }, output);
  await flushed();
  assert.deepEqual(JSON.parse(text('out')), queue.rows);
});

test('show: envelope, destinations, recipients, attachments, trace; --json: all of it', async () => {
  const { source, output, text, flushed } = setUp();
  assert.equal(await showMail(source, 'id1', false, output), 0);
  await flushed();
  assert.match(text('out'), /Sender {6}<a@a\.test>/);
  assert.match(text('out'), /<b@b\.test> {2}waiting {2}external {2}timeout: no reply/);
  assert.match(text('out'), /a\.pdf {2}application\/pdf {2}2\.0K {2}at 100/);
  assert.match(text('out'), / {2}Received: from c\.test/);
});

test('show and cat of an unknown message end with 65 and say so', async () => {
  const { source, output, text, flushed } = setUp();
  assert.equal(await showMail(source, 'nope', true, output), 65);
  assert.equal(await catMail(source, 'nope', output), 65);
  await flushed();
  assert.equal(text('out'), '');
  assert.match(text('err'), /no message nope in the queue/);
});

test('cat: every byte, in parts, waiting for a slow reader', async () => {
  const { queue, source, output, bytes, flushed } = setUp();
  queue.content_ = Buffer.alloc(MAX_CONTENT_BYTES * 3 + 17, 'abc\0\xff', 'latin1');
  assert.equal(await catMail(source, 'id1', output), 0);
  await flushed();
  assert.ok(bytes().equals(queue.content_));
});

test('stats: of a running relay with its scheduler, of a stopped one without', async () => {
  const on = setUp();
  await queueStats(on.source, false, on.output);
  await on.flushed();
  assert.match(on.text('out'), /Rows {8}PENDING 1, .*RETRY 2/);
  assert.match(on.text('out'), /4 in flight, 3 waiting at 1 destinations/);
  assert.match(on.text('out'), /Suspended {3}c\.test for 30s/);
  const off = setUp(false);
  await queueStats(off.source, true, off.output);
  await off.flushed();
  const json = JSON.parse(off.text('out')) as {
    running: boolean;
    scheduler: unknown;
    queue: { mails: number };
  };
  assert.deepEqual([json.running, json.scheduler, json.queue.mails], [false, null, 3]);
});

test('stats: what the journal holds, what is not drained, and a queue that cannot be asked', () => {
  const rows = { PENDING: 0, SENDING: 0, SENT: 0, RETRY: 0, DEAD: 0, HELD: 0 };
  const none = { rows, mails: 0, contentBytes: 0, oldestMs: null, suspectedPoison: 0, destinations: [] };
  const shard = { shard: 1, name: 's1', waiting: 3, aside: 2, oldestMs: 1000, error: 'a\u001bway' };
  const journal = { bytes: 2048, maxBytes: 2 ** 30, waiting: 5, oldestMs: 1000, shards: [shard] };
  const text = formatStats({ ...none, unavailable: 'all down' }, null, 61_000, [], journal);
  assert.deepEqual(text.split('\n').slice(0, 4), [
    'Messages    unknown: all down',
    'Journal     5 messages to drain (2.0K of 1.0G), oldest 1m',
    'Set aside   2 messages that shard s1 refuses',
    'Not drained 3 messages for shard s1: a?way',
  ]);
});

test('operate: sums the rows; an id with nothing to do ends with 65', async () => {
  const { queue, source, output, text, flushed } = setUp();
  assert.equal(await operateQueue(source, 'hold', ['all'], true, output), 0);
  assert.equal(
    await operateQueue(source, 'retry', [{ queueId: 'id1' }, { queueId: 'gone' }], false, output),
    65,
  );
  await flushed();
  assert.equal(text('out'), '{"action":"hold","rows":2}\nretry: 2 rows\n');
  assert.match(text('err'), /gone: nothing to retry/);
  assert.equal(queue.operated.length, 3);
});

test('operate: without a running relay nothing is changed, 69', async () => {
  const { queue, source, output, text, flushed } = setUp(false);
  assert.equal(await operateQueue(source, 'delete', ['all'], false, output), 69);
  await flushed();
  assert.match(text('err'), /the relay is not running/);
  assert.equal(queue.operated.length, 0);
});

test('durations and sizes for people', () => {
  assert.deepEqual([0, 350, 1000, 61_000, 3_600_000, 90_061_000].map(duration), [
    '0ms',
    '350ms',
    '1s',
    '1m1s',
    '1h',
    '1d1h',
  ]);
  assert.deepEqual([0, 1023, 1536, 5 * 1024 ** 3].map(size), ['0', '1023', '1.5K', '5.0G']);
});
