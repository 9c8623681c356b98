import assert from 'node:assert/strict';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import type { Log } from '../../src/base/log.ts';
import { configSchema } from '../../src/config/schema.ts';
import type { AttemptResult } from '../../src/mail/job.ts';
import type { Message } from '../../src/mail/message.ts';
import type { OutcomeGroup } from '../../src/mail/outcome.ts';
import type { DeliveryEvent } from '../../src/report/event-types.ts';
import { EventLog, type EventLogOptions, eventLogOptions } from '../../src/report/events.ts';
import { MAX_LINES_PER_SECOND } from '../../src/report/mail-lines.ts';

const START = Date.parse('2026-03-01T23:59:00.000Z');

function setUp(t: TestContext, options: Partial<EventLogOptions> = {}) {
  const dir = mkdtempSync(join(tmpdir(), 'events-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const said: { event: string; fields: Record<string, unknown> | undefined }[] = [];
  const say = (event: string, fields?: Record<string, unknown>): void => void said.push({ event, fields });
  const log: Log = { debug: say, info: say, warn: say, error: say };
  const clock = { ms: START };
  const all: EventLogOptions = {
    dir,
    node: 'n1',
    enabled: true,
    copied: false,
    maxFileBytes: 1_048_576,
    keepDays: 10,
    maxTotalBytes: 1_048_576,
    maxBufferBytes: 1_048_576,
    log,
    now: () => clock.ms,
    ...options,
  };
  return { dir, said, clock, options: all, events: new EventLog(all) };
}

function lines(dir: string, file = readdirSync(dir).sort()[0]): DeliveryEvent[] {
  const text = readFileSync(join(dir, String(file)), 'utf8');
  return text
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as DeliveryEvent);
}

function message(): Message {
  return {
    queueId: '01kabc000000001',
    envelope: {
      reversePath: '"odd\\"quote"@a.test',
      body: '7BIT',
      envid: 'QQ+2B1',
      smtpUtf8: false,
      recipients: [{ address: 'b@b.test', domain: 'b.test', class: 'external', notify: 0 }],
    },
    trace: '',
    content: 0,
    sizeBytes: 123,
    receivedAtMs: START - 7,
    receptionMs: 12,
    client: {
      address: '192.0.2.1',
      port: 51_234,
      helo: 'c\u0001',
      protocol: 'ESMTP',
      sessionId: 's1',
      listener: 'in',
      user: 'ann',
    },
    messageId: '1@a.test',
  };
}

function result(groups: OutcomeGroup[], addresses = ['b@b.test']): AttemptResult {
  return {
    queueId: '01kabc000000001',
    destination: 'b.test',
    fence: 1,
    attempts: 3,
    reversePath: 'a@a.test',
    messageId: '1@a.test',
    user: 'ann',
    receivedAtMs: START,
    sizeBytes: 123,
    groups,
    recipients: addresses.map((address, seq) => ({ seq, address, notify: 0 })),
    times: { queueMs: 1.26, connectMs: 2, transferMs: 3 },
    dsns: [],
    delayNotified: false,
  };
}

const PEER = { host: 'mx.b.test', address: '192.0.2.9', port: 25, source: '192.0.2.8' };
const reply = { code: 250, enhanced: '2.0.0', text: 'ok "1"', peer: PEER };

const entry = (queueId: string, recipients: string[]) => ({
  queueId,
  destination: 'b.test',
  reversePath: 'a@a.test',
  messageId: '1@a.test',
  recipients,
});

test('accepted: one line a message with its times', async (t) => {
  const { dir, events } = setUp(t);
  events.accepted(message());
  await events.close();
  assert.deepEqual(lines(dir), [
    {
      type: 'accepted',
      time: '2026-03-01T23:59:00.000Z',
      node: 'n1',
      queue_id: '01kabc000000001',
      sender: '"odd\\"quote"@a.test',
      message_id: '1@a.test',
      user: 'ann',
      envid: 'QQ+1',
      recipients: 1,
      size_bytes: 123,
      client_address: '192.0.2.1',
      client_port: 51_234,
      helo: 'c\u0001',
      protocol: 'ESMTP',
      session_id: 's1',
      listener: 'in',
      reception_ms: 12,
      persist_ms: 7,
    },
  ]);
  assert.deepEqual(readdirSync(dir), ['2026-03-01-0001.jsonl']);
});

test('accepted: of a report of ours only what there is to say', async (t) => {
  const { dir, events } = setUp(t);
  const report = { ...message(), client: { address: 'internal', helo: '', protocol: '', sessionId: '' } };
  events.accepted(report);
  await events.close();
  const known = Object.keys(lines(dir)[0] ?? {});
  for (const name of ['helo', 'protocol', 'session_id', 'listener', 'client_port', 'user'])
    assert.ok(!known.includes(name), name);
});

test('the file has no characters that steer a terminal or turn what is read', async (t) => {
  const { dir, events } = setUp(t);
  const odd = 'a\u009b31m\u202eb\u007f@a.test';
  const accepted = message();
  accepted.envelope.reversePath = odd;
  events.accepted(accepted);
  events.attempt(
    result(
      [{ seqs: [0], outcome: { kind: 'delivered', reply: { ...reply, text: odd }, dsnPassedOn: false } }],
      [odd],
    ),
  );
  events.removed(entry('01kabc000000001', [odd]), odd);
  await events.close();
  assert.doesNotMatch(readFileSync(join(dir, '2026-03-01-0001.jsonl'), 'utf8'), /[\u007f-\u009f\u202e]/);
  const [first, second, third] = lines(dir) as unknown as Record<string, string>[];
  assert.deepEqual([first?.sender, second?.recipient, third?.recipient], [odd, odd, odd]);
});

test('attempt: every recipient gets the line of its own outcome', async (t) => {
  const { dir, events } = setUp(t);
  const groups: OutcomeGroup[] = [
    { seqs: [0, 2], outcome: { kind: 'delivered', reply, dsnPassedOn: false } },
    {
      seqs: [1],
      outcome: {
        kind: 'deferred',
        reason: 'timeout',
        peer: { ...PEER, source: '' },
        detail: 'no reply',
        retryAtMs: START + 1000,
      },
    },
    {
      seqs: [3],
      outcome: {
        kind: 'bounced',
        reason: 'peer_5xx',
        reply: { ...reply, code: 550, enhanced: '' },
        status: '5.1.1',
        detail: 'd',
      },
    },
    { seqs: [4], outcome: { kind: 'bounced', reason: 'expired', status: '5.4.7', detail: 'too old' } },
  ];
  events.attempt(result(groups, ['0@b.test', '1@b.test', '2@b.test', '3@b.test', '4@b.test']));
  await events.close();
  const shared = {
    time: '2026-03-01T23:59:00.000Z',
    node: 'n1',
    queue_id: '01kabc000000001',
    sender: 'a@a.test',
    message_id: '1@a.test',
    user: 'ann',
    destination: 'b.test',
    attempt: 3,
    size_bytes: 123,
    queue_ms: 1.3,
    connect_ms: 2,
    transfer_ms: 3,
  };
  const peer = {
    peer_host: 'mx.b.test',
    peer_address: '192.0.2.9',
    peer_port: 25,
    source_address: '192.0.2.8',
  };
  const delivered = {
    type: 'delivered',
    ...shared,
    status: '2.0.0',
    reply: '250 2.0.0 ok "1"',
    ...peer,
  };
  assert.deepEqual(lines(dir), [
    { ...delivered, recipient: '0@b.test' },
    { ...delivered, recipient: '2@b.test' },
    {
      type: 'deferred',
      ...shared,
      status: '4.4.2',
      reason: 'timeout',
      detail: 'no reply',
      retry_at: '2026-03-01T23:59:01.000Z',
      peer_host: 'mx.b.test',
      peer_address: '192.0.2.9',
      peer_port: 25,
      recipient: '1@b.test',
    },
    {
      type: 'bounced',
      ...shared,
      reason: 'peer_5xx',
      status: '5.1.1',
      detail: 'd',
      reply: '550 ok "1"',
      ...peer,
      recipient: '3@b.test',
    },
    {
      type: 'expired',
      ...shared,
      reason: 'expired',
      status: '5.4.7',
      detail: 'too old',
      recipient: '4@b.test',
    },
  ]);
});

test('removed: one line a recipient, naming who did it', async (t) => {
  const { dir, events } = setUp(t);
  events.removed(entry('01kabc000000001', ['x@b.test', 'y@b.test']), 'operator');
  await events.close();
  assert.deepEqual(
    lines(dir),
    ['x@b.test', 'y@b.test'].map((recipient) => ({
      type: 'removed',
      time: '2026-03-01T23:59:00.000Z',
      node: 'n1',
      queue_id: '01kabc000000001',
      sender: 'a@a.test',
      message_id: '1@a.test',
      destination: 'b.test',
      by: 'operator',
      recipient,
    })),
  );
});

test('a line is on disk without close, and within the flush time when more follow', async (t) => {
  const { dir, events } = setUp(t);
  t.after(() => events.close());
  for (let count = 1; count <= 2; count++) {
    events.removed(entry(`id${count}`, ['x']), 'operator');
    // The real timer runs: bounded by the flush time, well below this test's own limit.
    while (readdirSync(dir).length === 0 || lines(dir).length < count)
      await new Promise((next) => setImmediate(next));
  }
});

test('disabled: nothing is written', async (t) => {
  const { dir, events } = setUp(t, { enabled: false });
  events.accepted(message());
  events.attempt(result([{ seqs: [0], outcome: { kind: 'delivered', reply, dsnPassedOn: false } }]));
  events.removed(entry('id', ['x']), 'operator');
  await events.close();
  assert.deepEqual(readdirSync(dir), []);
});

/** Waits for the archive, which works beside: until the folder holds these files. */
async function holds(dir: string, names: string[]): Promise<void> {
  const wanted = JSON.stringify(names);
  while (JSON.stringify(readdirSync(dir).sort()) !== wanted) await new Promise((next) => setImmediate(next));
}

const idsIn = (text: string): string[] =>
  text.split('\n').flatMap((line) => (line === '' ? [] : [JSON.parse(line).queue_id as string]));

test('log.mail: lines of a mail log, also without event files; beyond the limit of a second they are counted', async (t) => {
  const { dir, said, clock, events } = setUp(t, { enabled: false, copied: true });
  events.accepted(message());
  events.attempt(result([{ seqs: [0], outcome: { kind: 'delivered', reply, dsnPassedOn: false } }]));
  assert.deepEqual(
    said.map(({ event }) => event),
    ['mail.accepted', 'mail.delivered'],
  );
  assert.deepEqual(said[1]?.fields, {
    queue_id: '01kabc000000001',
    line: '2026-03-01T23:59:00.000Z 01kabc000000001: to=<b@b.test>, from=<a@a.test>, relay=mx.b.test[192.0.2.9]:25, delay=0.01, delays=0/0/0, dsn=2.0.0, status=delivered (250 2.0.0 ok "1")',
  });
  for (let i = 0; i < MAX_LINES_PER_SECOND; i++) events.held(entry(`id${i}`, []));
  assert.equal(said.length, MAX_LINES_PER_SECOND);
  clock.ms += 1000;
  events.held(entry('later', []));
  assert.deepEqual(
    said.slice(-2).map(({ event, fields }) => [event, fields?.lines]),
    [
      ['mail.not_logged', 2],
      ['mail.held', undefined],
    ],
  );
  events.reconfigure(configSchema.parse({}));
  events.held(entry('off', []));
  await events.close();
  assert.equal(said.length, MAX_LINES_PER_SECOND + 2);
  assert.deepEqual(readdirSync(dir), []);
});

test('a new file begins at max_file_mb and on a new day; complete ones are compressed, and go after keep_days', async (t) => {
  const { dir, clock, options } = setUp(t);
  const events = new EventLog({ ...options, maxFileBytes: 50, keepDays: 2 });
  t.after(() => events.close());
  const append = (id: string): void => events.removed(entry(id, ['x']), 'operator');
  append('first');
  await holds(dir, ['2026-03-01-0001.jsonl']);
  append('second');
  await holds(dir, ['2026-03-01-0001.jsonl.zst', '2026-03-01-0002.jsonl']);
  const first = zstdDecompressSync(readFileSync(join(dir, '2026-03-01-0001.jsonl.zst'))).toString();
  assert.deepEqual(idsIn(first), ['first']);
  assert.equal(statSync(join(dir, '2026-03-01-0001.jsonl.zst')).mode & 0o777, 0o600);
  clock.ms += 120_000;
  append('third');
  await holds(dir, ['2026-03-01-0001.jsonl.zst', '2026-03-01-0002.jsonl.zst', '2026-03-02-0001.jsonl']);
  clock.ms += 2 * 86_400_000;
  append('fourth');
  await holds(dir, ['2026-03-02-0001.jsonl.zst', '2026-03-04-0001.jsonl']);
});

test('events.max_total_mb: the oldest go, of whichever process; the newest of each stays', async (t) => {
  const { dir, options } = setUp(t);
  const ofOther = ['2026-02-27-0001.p1.jsonl.zst', '2026-02-28-0001.p1.jsonl'];
  for (const name of [...ofOther, '2026-02-28-0001.jsonl.zst', '2026-03-01-0001.jsonl.zst'])
    writeFileSync(join(dir, name), 'x'.repeat(400));
  writeFileSync(join(dir, 'of somebody else'), 'x'.repeat(4000));
  const events = new EventLog({ ...options, maxTotalBytes: 1000 });
  events.removed(entry('one', ['x']), 'operator');
  t.after(() => events.close());
  const left = ['2026-02-28-0001.p1.jsonl', '2026-03-01-0001.jsonl.zst', '2026-03-01-0002.jsonl'];
  await holds(dir, [...left, 'of somebody else']);
});

test('what a crash left of compressing is made again from the plain file', async (t) => {
  const { dir, options } = setUp(t);
  const plain = `${JSON.stringify({ queue_id: 'whole' })}\n`;
  writeFileSync(join(dir, '2026-02-27-0001.jsonl'), plain);
  writeFileSync(join(dir, '2026-02-27-0001.jsonl.zst.part'), 'half');
  // Here it died between giving the compressed file its name and removing the plain one.
  writeFileSync(join(dir, '2026-02-28-0001.jsonl'), plain);
  writeFileSync(join(dir, '2026-02-28-0001.jsonl.zst'), zstdCompressSync(plain));
  const events = new EventLog(options);
  t.after(() => events.close());
  events.removed(entry('one', ['x']), 'operator');
  await holds(dir, ['2026-02-27-0001.jsonl.zst', '2026-02-28-0001.jsonl.zst', '2026-03-01-0001.jsonl']);
  for (const day of ['27', '28']) {
    const bytes = readFileSync(join(dir, `2026-02-${day}-0001.jsonl.zst`));
    assert.equal(zstdDecompressSync(bytes).toString(), plain);
  }
});

test('a file that cannot be compressed stays as it is, is said once, and stops nothing', async (t) => {
  const { dir, said, options } = setUp(t);
  writeFileSync(join(dir, '2026-02-28-0001.jsonl'), 'x');
  mkdirSync(join(dir, '2026-02-28-0001.jsonl.zst', 'in the way'), { recursive: true });
  const events = new EventLog({ ...options, maxFileBytes: 50 });
  t.after(() => events.close());
  const present = ['2026-03-01-0001.jsonl', '2026-03-01-0002.jsonl'];
  for (const [i, name] of present.entries()) {
    events.removed(entry(`id${i}`, ['x']), 'operator');
    while (!readdirSync(dir).includes(name) || lines(dir, name).length === 0)
      await new Promise((next) => setImmediate(next));
  }
  while (said.length === 0) await new Promise((next) => setImmediate(next));
  assert.equal(said[0]?.event, 'events.not_archived');
  assert.equal(readFileSync(join(dir, '2026-02-28-0001.jsonl'), 'utf8'), 'x');
  assert.equal(readdirSync(dir).filter((name) => name.endsWith('.part')).length, 0);
});

test('a restart goes on in the newest file of the day', async (t) => {
  const { dir, options } = setUp(t);
  for (const id of ['one', 'two']) {
    const events = new EventLog(options);
    events.removed(entry(id, ['x']), 'operator');
    await events.close();
  }
  assert.deepEqual(
    lines(dir).map((e) => 'queue_id' in e && e.queue_id),
    ['one', 'two'],
  );
});

test('reopen: after rotation by another program the next line is in a new file', async (t) => {
  const { dir, events } = setUp(t);
  events.removed(entry('one', ['x']), 'operator');
  const file = join(dir, '2026-03-01-0001.jsonl');
  while (readdirSync(dir).length === 0 || readFileSync(file).length === 0)
    await new Promise((next) => setImmediate(next));
  renameSync(file, join(dir, 'rotated'));
  events.reopen();
  events.removed(entry('two', ['x']), 'operator');
  await events.close();
  assert.deepEqual(lines(dir, 'rotated').length, 1);
  assert.deepEqual(lines(dir, '2026-03-01-0001.jsonl').length, 1);
});

test('full disk: lines are dropped, said once, and counted in the log when there is room again', async (t) => {
  const { dir, said, events } = setUp(t);
  const file = join(dir, '2026-03-01-0001.jsonl');
  symlinkSync('/dev/full', file);
  events.removed(entry('lost', ['x', 'y']), 'operator');
  while (said.length === 0) await new Promise((next) => setImmediate(next));
  assert.equal(said[0]?.event, 'events.write_failed');
  unlinkSync(file);
  events.removed(entry('kept', ['z']), 'operator');
  await events.close();
  assert.deepEqual(
    lines(dir).map((e) => (e.type === 'dropped' ? e.lines : e.type)),
    ['removed', 2],
  );
  assert.deepEqual(said.slice(1), [{ event: 'events.dropped', fields: { lines: 2 } }]);
});

test('lines beyond max_buffer_mb are dropped and counted', async (t) => {
  const { dir, events } = setUp(t, { maxBufferBytes: 1000 });
  for (let i = 0; i < 100; i++) events.removed(entry(`id${i}`, ['x']), 'operator');
  await events.close();
  const written = lines(dir);
  const last = written.at(-1);
  assert.equal(last?.type === 'dropped' && last.lines + written.length - 1, 100);
});

test('a folder that cannot be made is said once and stops nothing', async (t) => {
  const { dir, said, options } = setUp(t);
  writeFileSync(join(dir, 'file'), '');
  const events = new EventLog({ ...options, dir: join(dir, 'file', 'events') });
  events.removed(entry('one', ['x']), 'operator');
  await events.close();
  assert.deepEqual(
    said.map((s) => s.event),
    ['events.write_failed'],
  );
});

test('the options come from events.enabled, max_file_mb, keep_days, max_total_mb, max_buffer_mb', () => {
  const config = configSchema.parse({
    log: { mail: true },
    events: { enabled: false, max_file_mb: 2, keep_days: 3, max_total_mb: 5, max_buffer_mb: 4 },
  });
  assert.deepEqual(eventLogOptions(config, '/d', 1), {
    dir: '/d',
    process: 1,
    node: 'node',
    enabled: false,
    copied: true,
    maxFileBytes: 2_097_152,
    keepDays: 3,
    maxTotalBytes: 5_242_880,
    maxBufferBytes: 4_194_304,
  });
});
