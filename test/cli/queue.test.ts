import assert from 'node:assert/strict';
import { Writable } from 'node:stream';
import { test } from 'node:test';
import { duration, size } from '../../src/cli/format.ts';
import { catMail, queueStats, showMail } from '../../src/cli/queue.ts';
import { countQueue } from '../../src/cli/queue-count.ts';
import { listQueue } from '../../src/cli/queue-list.ts';
import { operateQueue } from '../../src/cli/queue-operate.ts';
import { formatStats } from '../../src/cli/stats-text.ts';
import type { ControlClient } from '../../src/control/client.ts';
import { MAX_CONTENT_BYTES, QUEUE_ACTIONS } from '../../src/control/protocol.ts';
import {
  type EntryAnswer,
  entryAnswer,
  type MissingAnswer,
  missingAnswer,
} from '../../src/control/queue-answers.ts';
import type { StatsAnswer } from '../../src/control/stats-answer.ts';
import type { QueueReader } from '../../src/control/target.ts';
import type { Missing, QueueFilter, Selection } from '../../src/database/database.ts';
import type { Counted, Group, Sums } from '../../src/mail/queue-counts.ts';
import { mergeStats } from '../../src/mail/queue-stats.ts';
import { FakeQueue, lineOf, mail, row } from '../control/queue-fixture.ts';

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
  const source = { reader: queue, client: running ? client : null, rules: async () => [], close: () => {} };
  const output = { out: into(chunks.out), err: into(chunks.err), nowMs: 60_000 };
  const text = (of: 'out' | 'err'): string => Buffer.concat(chunks[of]).toString();
  /** Waits for what is still on its way to the stream. */
  const flushed = (): Promise<void> =>
    new Promise((done) => output.out.end(() => output.err.end(() => done())));
  return { queue, source, output, text, flushed, bytes: () => Buffer.concat(chunks.out) };
}

const options = { limit: 100, json: false };
const go = { dryRun: false, yes: true };

test('list: a table, with nothing in it that could steer a terminal', async () => {
  const { queue, source, output, text, flushed } = setUp();
  queue.rows = [row('id1'), row('id22', 'long-destination.test', { state: 'HELD', reason: '', detail: '' })];
  assert.equal(await listQueue(source, {}, options, output), 0);
  await flushed();
  assert.deepEqual(text('out').split('\n'), [
    'QUEUE ID  STATE     AGE  SIZE  ATTEMPTS  NEXT   RCPTS  DESTINATION            SENDER      REASON',
    'id1       deferred  1m   1.5K  2         in 1s  1      b.test                 <a@a.test>  timeout: no ?[31mreply',
    'id22      held      1m   1.5K  2         -      1      long-destination.test  <a@a.test>',
    '',
  ]);
});

test('list: --limit cuts and says so; an empty queue says "no entries"', async () => {
  const { queue, source, output, text, flushed } = setUp();
  queue.rows = Array.from({ length: 5 }, (_, i) => row(`id${i}`));
  await listQueue(source, {}, { ...options, limit: 3 }, output);
  queue.rows = [];
  await listQueue(source, {}, options, output);
  await flushed();
  assert.match(text('out'), /id2.*\n… there are more: go on with --after id2\n/);
  assert.match(text('out'), /no entries\n$/);
});

test('list --json: entries in the words of docs/words.md, filters passed on', async () => {
  const { queue, source, output, text, flushed } = setUp();
  queue.rows = [row('id1'), row('id2', 'c.test'), row('id3', 'c.test', { state: 'DEAD' })];
  await listQueue(source, { states: ['DEAD'], destinations: ['c.test'] }, { limit: 10, json: true }, output);
  await flushed();
  assert.deepEqual(JSON.parse(text('out')), {
    entries: [
      {
        queue_id: 'id3',
        destination: 'c.test',
        tenant: null,
        campaign: null,
        class: null,
        pool: null,
        metadata: null,
        deadline_at: null,
        priority_hint: null,
        state: 'failed',
        attempts: 2,
        next_attempt_at: null,
        sender: 'a@a.test',
        size_bytes: 1536,
        received_at: '1970-01-01T00:00:00.000Z',
        message_id: '<1@a.test>',
        user: null,
        listener: null,
        waiting_recipients: 1,
        reason: 'timeout',
        detail: 'no \u001b[31mreply',
      },
    ],
    more_after: null,
    missing: [],
  });
});

test('list: pages neither lose nor repeat entries of a message with many destinations', async () => {
  const { queue, source, output, text, flushed } = setUp();
  for (let mail = 0; mail < 30; mail++) {
    const id = `id${String(mail).padStart(4, '0')}`;
    for (let d = 0; d < (mail === 7 ? 2500 : 97); d++) queue.rows.push(row(id, `d${d}.test`));
  }
  await listQueue(source, {}, { limit: 100_000, json: true }, output);
  await flushed();
  assert.deepEqual(JSON.parse(text('out')).entries, queue.rows.map(entryAnswer));
});

test('--json has no characters that steer a terminal or turn what is read', async () => {
  const odd = 'a\u009b31m\u202eb\u007f';
  const { queue, source, output, text, flushed } = setUp();
  queue.rows = [row('id1', 'b.test', { detail: odd })];
  queue.missing_ = [{ kind: 'shard', name: odd, detail: odd }];
  await listQueue(source, {}, { limit: 10, json: true }, output);
  await flushed();
  assert.doesNotMatch(text('out'), /[\u007f-\u009f\u202e]/);
  const listed = JSON.parse(text('out')) as { entries: EntryAnswer[]; missing: MissingAnswer[] };
  assert.equal(listed.entries[0]?.detail, odd);
  assert.equal(listed.missing[0]?.detail, odd);
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
  await queueStats(on.source, { json: false, limit: 20 }, on.output);
  await on.flushed();
  assert.deepEqual(
    on
      .text('out')
      .split('\n')
      .map((line) => line.replaceAll(/ {2,}/g, '  ')),
    [
      'Messages  3 (2.9K), oldest 1m',
      'Delivery  4 entries being sent, 3 waiting at 1 destination',
      'Held back  nothing is sent: delivery.enabled is false',
      'Rules  1 suspension by operators: see "protorelay suspensions"',
      'Suspended  1 destination: c.test',
      '',
      'STATE  MESSAGES  ENTRIES  RECIPIENTS',
      'pending  1  1  2',
      'sending  0  0  0',
      'deferred  2  2  5',
      'held  0  0  0',
      'failed  0  0  0',
      'delivered  0  0  -',
      '',
      'DESTINATION  ENTRIES  RECIPIENTS  PENDING  SENDING  DEFERRED  HELD  NEXT',
      'b.test  2  6  6  0  0  0  in 1s  suspended by r1: mo?ve',
      'c.test  1  1  1  0  0  0  in 1s  suspended for 30s: connect: ref?used',
      'TOTAL  3  7  7  0  0  0',
      '',
      'Recipients by age of their message, in minutes',
      'DESTINATION  T  5  10  20  40  80  160  320  640  1280  1280+',
      'b.test  6  6  0  0  0  0  0  0  0  0  0',
      'c.test  1  1  0  0  0  0  0  0  0  0  0',
      'TOTAL  7  7  0  0  0  0  0  0  0  0  0',
      '',
    ],
  );
  const off = setUp(false);
  await queueStats(off.source, { json: true, limit: 1 }, off.output);
  await off.flushed();
  const json = JSON.parse(off.text('out')) as StatsAnswer;
  assert.deepEqual([json.running, json.scheduler, json.queue.messages], [false, null, 3]);
  const { destinations, other, total } = json.queue;
  assert.deepEqual(
    [
      destinations.map(({ destination }) => destination),
      other.destinations,
      other.recipients,
      total.recipients,
    ],
    [['b.test'], 1, 1, 7],
    'what is not named is in "other"',
  );
});

test('stats: what the journal holds, what is not drained, and a queue that cannot be asked', () => {
  const shard = { shard: 1, name: 's1', waiting: 3, aside: 2, oldestMs: 1000, error: 'a\u001bway' };
  const journal = { bytes: 2048, maxBytes: 2 ** 30, waiting: 5, oldestMs: 1000, shards: [shard] };
  const text = formatStats(
    { queue: { ...mergeStats([]), unavailable: 'all down' }, scheduler: null, journal },
    61_000,
    20,
  );
  assert.deepEqual(text.split('\n').slice(0, 4), [
    'Messages    unknown: all down',
    'Journal     5 messages to drain (2.0K of 1.0G), oldest 1m',
    'Set aside   2 messages that shard s1 refuses',
    'Not drained 3 messages for shard s1: a?way',
  ]);
});

test('operate: sums the entries; an id with nothing to do ends with 65', async () => {
  const { queue, source, output, text, flushed } = setUp();
  assert.equal(await operateQueue(source, 'hold', {}, { json: true, ...go }, output), 0);
  assert.equal(
    await operateQueue(source, 'flush', { ids: ['id1', 'gone'] }, { json: false, ...go }, output),
    65,
  );
  await flushed();
  const hold = {
    action: 'hold',
    entries: 2,
    recipients: 2,
    sending_entries: 1,
    unchanged_messages: 0,
    interrupted: false,
    missing: [],
  };
  assert.equal(
    text('out'),
    `${JSON.stringify(hold, null, 2)}\nflush: 1 entry with 1 recipient; 1 entry being sent, left alone\n`,
  );
  assert.match(text('err'), /gone: nothing to flush/);
  assert.equal(queue.operated.length, 2);
});

test('operate: without a running relay nothing is changed, 69', async () => {
  const { queue, source, output, text, flushed } = setUp(false);
  assert.equal(await operateQueue(source, 'delete', {}, { json: false, ...go }, output), 69);
  await flushed();
  assert.match(text('err'), /the relay is not running/);
  assert.equal(queue.operated.length, 0);
});

const sums = (recipients: number, entries = recipients): Sums => ({
  entries,
  messages: entries,
  recipients,
  entryRecipients: recipients * 10,
  bytes: entries * 1024,
});
const counted = (recipients: number, groups: Group[] = []): Counted => ({
  ...sums(recipients),
  groups,
  moreGroups: 0,
  forgotten: false,
});

test('more than 1,000 recipients that are not named: asked on a terminal, else refused with the count', async () => {
  const cases: [
    options: Partial<typeof go>,
    answer: boolean | null,
    selection: Selection,
    code: number,
    done: number,
  ][] = [
    [{ yes: false }, null, {}, 64, 0],
    [{ yes: false }, false, {}, 0, 0],
    [{ yes: false }, true, {}, 0, 1],
    [{ yes: true }, null, {}, 0, 1],
    [{ yes: false }, null, { ids: ['id1'] }, 0, 1],
  ];
  for (const [options, answer, selection, code, done] of cases) {
    const { queue, source, output, text, flushed } = setUp();
    queue.counted = counted(1007, [{ key: 'SENDING', ...sums(6) }]);
    const asked: string[] = [];
    const ask = answer === null ? null : async (question: string) => asked.push(question) > 0 && answer;
    const ran = operateQueue(
      source,
      'delete',
      selection,
      { json: false, ...go, ...options },
      { ...output, ask },
    );
    assert.equal(await ran, code);
    await flushed();
    assert.equal(queue.operated.length, done);
    const about = 'delete: 1001 recipients in 1001 entries; 6 entries being sent, left alone';
    if (code === 64) assert.equal(text('err'), `protorelay: ${about}; nothing was done: give --yes\n`);
    assert.deepEqual(asked, answer === null ? [] : [`${about}. Go on? [y/N] `]);
  }
});

test('--dry-run counts, shows samples, and changes nothing; what is done to whole entries is said', async () => {
  const { queue, source, output, text, flushed } = setUp();
  queue.rows = Array.from({ length: 30 }, (_, i) => row(`id${i + 10}`));
  queue.counted = counted(30);
  const dry = { json: false, dryRun: true, yes: false };
  assert.equal(await operateQueue(source, 'hold', { domains: ['b.test'] }, dry, output), 0);
  await flushed();
  assert.match(text('out'), /^hold would change 30 whole entries with 300 recipients\nQUEUE ID/);
  assert.equal(text('out').split('\n').length, 23);
  assert.equal(queue.operated.length, 0);
});

test('an action goes on part by part; an interrupt ends it after a part and says what was done', async () => {
  for (const stop of [false, true]) {
    const { queue, source, output, text, flushed } = setUp();
    const interrupted = new AbortController();
    const asked: unknown[] = [];
    queue.operate = async (...[, , after]) => {
      asked.push(after);
      if (stop && asked.length === 2) interrupted.abort();
      const part = { rows: 500, recipients: 600, sending: 0, queueIds: [] };
      return { ...part, next: asked.length === 3 ? null : `place${asked.length}` };
    };
    const ran = operateQueue(
      source,
      'delete',
      {},
      { json: false, ...go },
      { ...output, interrupted: interrupted.signal },
    );
    assert.equal(await ran, stop ? 75 : 0);
    await flushed();
    assert.deepEqual(asked, stop ? ['', 'place1'] : ['', 'place1', 'place2']);
    assert.equal(text('out'), `delete: ${stop ? 1200 : 1800} recipients in ${stop ? 1000 : 1500} entries\n`);
    assert.equal(text('err'), stop ? 'protorelay: interrupted; the same command does the rest\n' : '');
  }
});

test('fail means what was there when it began: the reports it makes are not failed with the rest', async () => {
  const { queue, source, output } = setUp();
  const selections = async (...[action, selection]: Parameters<ControlClient['operate']>) => {
    queue.operated.length = 0;
    await operateQueue(source, action, selection, { ...go, json: false }, output);
    return (queue.operated as [unknown, Selection][]).map(([, meant]) => meant.receivedBeforeMs);
  };
  assert.deepEqual(await selections({ fail: '' }, {}), [output.nowMs]);
  assert.deepEqual(await selections({ fail: '' }, { receivedBeforeMs: 5 }), [5]);
  assert.deepEqual(await selections({ fail: '' }, { ids: ['id1'] }), [undefined]);
  assert.deepEqual(await selections('delete', {}), [undefined]);
});

test('delete of what is failed says entries: their recipients had a fate before', async () => {
  const { queue, source, output, text, flushed } = setUp();
  queue.operate = async () => ({ rows: 2, recipients: 0, sending: 0, queueIds: [], next: null });
  assert.equal(await operateQueue(source, 'delete', { states: ['DEAD'] }, { json: false, ...go }, output), 0);
  await flushed();
  assert.equal(text('out'), 'delete: 2 entries in which nobody waited\n');
});

test('count: in all and by a key, the largest first', async () => {
  const { queue, source, output, text, flushed } = setUp();
  queue.counted = counted(5, [
    { key: 'odd\u001b[31m', ...sums(2, 1) },
    { key: '', ...sums(3, 2) },
  ]);
  assert.equal(await countQueue(source, {}, 'user', false, output), 0);
  assert.equal(await countQueue(source, {}, null, true, output), 0);
  await flushed();
  const [table, json] = text('out').split('{');
  assert.deepEqual(table?.split('\n').slice(0, 4), [
    'RECIPIENTS  ENTRIES  MESSAGES  SIZE  USER',
    '3           2        2         2.0K  -',
    '2           1        1         1.0K  odd?[31m',
    '5           5        5         5.0K  all',
  ]);
  assert.deepEqual(JSON.parse(`{${json}`), {
    entries: 5,
    messages: 5,
    recipients: 5,
    size_bytes: 5120,
    missing: [],
  });
});

test('list: the entries of a message are never parted by the limit', async () => {
  const { queue, source, output, text, flushed } = setUp();
  const more = ['a.test', 'b.test', 'c.test'];
  queue.rows = ['id1', 'id2', 'id3'].flatMap((id) => more.map((destination) => row(id, destination)));
  await listQueue(source, {}, { limit: 4, json: true }, output);
  await listQueue(source, {}, { limit: 1, json: true, after: 'id1' }, output);
  await flushed();
  const pages = text('out')
    .split('\n{')
    .map((page, i) => JSON.parse(i === 0 ? page : `{${page}`));
  assert.deepEqual(
    pages.map((page) => [page.entries.length, page.entries[0].queue_id, page.more_after]),
    [
      [3, 'id1', 'id1'],
      [3, 'id2', 'id2'],
    ],
  );
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

test('a part of the queue that cannot be seen is named by every command, in JSON too, and ends it with 75', async () => {
  const missing: Missing[] = [
    { kind: 'shard', name: 's1', detail: 'is down: no route' },
    { kind: 'process', name: '2', detail: 'is down' },
    { kind: 'journal', name: '/j', detail: 'holds 3 messages' },
  ];
  const commands: [name: string, run: (setup: ReturnType<typeof setUp>, json: boolean) => Promise<number>][] =
    [
      ['list', ({ source, output }, json) => listQueue(source, {}, { limit: 10, json }, output)],
      ['stats', ({ source, output }, json) => queueStats(source, { json, limit: 20 }, output)],
      ['show', ({ source, output }, json) => showMail(source, 'nowhere', json, output)],
      ['cat', ({ source, output }) => catMail(source, 'nowhere', output)],
      ...QUEUE_ACTIONS.flatMap((action): typeof commands => [
        [
          action,
          ({ source, output }, json) => operateQueue(source, action, {}, { json: json, ...go }, output),
        ],
        [
          `${action} ids`,
          ({ source, output }, json) =>
            operateQueue(source, action, { ids: ['id1', 'gone'] }, { json: json, ...go }, output),
        ],
      ]),
    ];
  for (const [name, run] of commands)
    for (const json of [false, true]) {
      const setup = setUp();
      setup.queue.rows = [row('id1')];
      setup.queue.missing_ = missing;
      assert.equal(await run(setup, json), 75, name);
      await setup.flushed();
      assert.match(
        setup.text('err'),
        /not seen: shard s1 is down: no route\n.*relay process 2 is down\n.*journal \/j/,
      );
      if (json && name !== 'cat' && name !== 'show')
        assert.deepEqual(JSON.parse(setup.text('out')).missing, missing.map(missingAnswer), name);
    }
});

test('what is missing counts only where messages that are named may lie, and results also for those found', async () => {
  // The last character of an id is its shard; those of fewer characters have shard 0.
  const [found, lost] = [mail.queueId, '06dk000000000001'];
  const of = (kind: Missing['kind'], shards?: number[]): Missing => {
    const one: Missing = { kind, name: 'x', detail: 'y' };
    return shards === undefined ? one : { ...one, shards };
  };
  const cases: [missing: Missing, forFound: boolean, forLost: boolean][] = [
    [of('shard', [1]), false, true],
    [of('shard', [2]), false, false],
    [of('process'), false, true],
    [of('journal', [0]), false, false],
    [of('journal', [1, 2]), false, true],
    [of('results', [0]), true, false],
    [of('results', [1]), false, true],
    [of('results', [2, 3]), false, false],
  ];
  for (const [missing, forFound, forLost] of cases) {
    const ask = async (command: (setup: ReturnType<typeof setUp>) => Promise<number>) => {
      const setup = setUp();
      setup.queue.rows = [row(found)];
      setup.queue.missing_ = [missing];
      setup.queue.unknown = lost;
      const code = await command(setup);
      await setup.flushed();
      const said = setup.text('out').startsWith('{') ? JSON.parse(setup.text('out')).missing : null;
      return { code, said };
    };
    const name = JSON.stringify(missing);
    const [whole, partial] = [[], [missingAnswer(missing)]];
    assert.deepEqual(
      await ask(({ source, output }) => showMail(source, found, true, output)),
      { code: forFound ? 75 : 0, said: forFound ? partial : whole },
      `show ${name}`,
    );
    const unknown = await ask(({ source, output }) => showMail(source, lost, true, output));
    assert.equal(unknown.code, forLost ? 75 : 65, `show of an unknown one ${name}`);
    for (const action of QUEUE_ACTIONS) {
      const ran = (ids: string[]) =>
        ask(({ source, output }) => operateQueue(source, action, { ids }, { json: true, ...go }, output));
      assert.deepEqual(
        await ran([found]),
        { code: forFound ? 75 : 0, said: forFound ? partial : whole },
        `${action} ${name}`,
      );
      const both = await ran([found, lost]);
      assert.deepEqual(both, forFound || forLost ? { code: 75, said: partial } : { code: 65, said: whole });
    }
  }
});

test('list: goes on behind a part of the ids of which nothing is there', async () => {
  const { queue, source, output, text, flushed } = setUp();
  queue.rows = [row('id1')];
  const limits: number[] = [];
  const lines = async ({ selection, limit }: QueueFilter): Promise<string[]> => {
    limits.push(limit);
    return selection?.ids?.includes('id1') ? queue.rows.map(lineOf) : [];
  };
  const ids = [...Array.from({ length: 1000 }, (_, i) => `gone${i}`), 'id1'];
  const reader = { lines } as unknown as QueueReader;
  assert.equal(await listQueue({ ...source, reader }, { ids }, { json: true }, output), 0);
  await flushed();
  assert.deepEqual(limits, [250, 250]);
  assert.equal(JSON.parse(text('out')).entries.length, 1);
});

test('operate: many ids go in requests of bounded size', async () => {
  const { queue, source, output, text, flushed } = setUp();
  const ids = Array.from({ length: 2500 }, (_, i) => (i < 30 ? 'gone' : `id${i}`));
  assert.equal(await operateQueue(source, 'delete', { ids }, { json: true, ...go }, output), 65);
  await flushed();
  const sizes = queue.operated.map((args) => (args as [string, { ids: string[] }])[1].ids.length);
  assert.deepEqual(sizes, [1000, 1000, 500]);
  assert.deepEqual(JSON.parse(text('out')).entries, 2470);
  assert.equal(text('err').split('\n').length, 22, 'twenty by name, and how many more');
});

test('list: of a queue of any size no more than a page is held, at the pace of who reads it', async () => {
  const total = 30_000;
  let asked = 0;
  let taken = 0;
  let ahead = 0;
  const reader = {
    async lines({ limit, afterQueueId }: QueueFilter): Promise<string[]> {
      const from = afterQueueId === undefined ? 0 : Number(afterQueueId.slice(2)) + 1;
      const rows = Array.from({ length: Math.min(limit, total - from) }, (_, i) =>
        row(`id${String(from + i).padStart(6, '0')}`),
      );
      asked += rows.length;
      ahead = Math.max(ahead, asked - taken);
      return rows.map(lineOf);
    },
  } as QueueReader;
  const out = new Writable({
    highWaterMark: 1024,
    write(chunk: Buffer, _encoding, done) {
      taken += chunk
        .toString()
        .split('\n')
        .filter((line) => line.includes('queue_id')).length;
      setImmediate(done);
    },
  });
  const output = { out, err: out, nowMs: 0 };
  assert.equal(
    await listQueue(
      { reader, client: null, rules: async () => [], close() {} },
      {},
      { limit: total, json: true },
      output,
    ),
    0,
  );
  await new Promise((done) => out.end(done));
  assert.equal(taken, total);
  assert.ok(ahead <= 2 * 500, `${ahead} entries at once`);
});
