/** `protorelay events` on files as a relay writes them, of several processes, in both forms, and while they grow. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Writable } from 'node:stream';
import { type TestContext, test } from 'node:test';
import { zstdCompressSync } from 'node:zlib';
import { silentLog } from '../../src/base/log.ts';
import { printable } from '../../src/base/printable.ts';
import { type EventsOptions, printEvents } from '../../src/cli/event-printer.ts';
import { pointInTime } from '../../src/cli/events.ts';
import { EventLog } from '../../src/report/events.ts';

const options = { timeout: 60_000 };
const ID = '01kabc00000000';

function folder(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'events-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

/** A line of the event log; `at` are its minutes past noon. */
function line(type: string, id: string, at: number, more: object = {}): string {
  const time = `2026-03-0${1 + Math.floor(at / 1440)}T12:${String(at % 1440).padStart(2, '0')}:00.000Z`;
  return `${JSON.stringify({ type, time, node: 'n1', queue_id: ID + id, ...more })}\n`;
}

async function printed(dir: string, wanted: Partial<EventsOptions> = {}) {
  const out: string[] = [];
  const err: string[] = [];
  const gather = (into: string[]): Writable =>
    new Writable({
      write(chunk, _, done) {
        into.push(String(chunk));
        done();
      },
    });
  const output = { out: gather(out), err: gather(err), signal: new AbortController().signal };
  const code = await printEvents(dir, { follow: false, text: false, ...wanted }, output);
  return { lines: out.join('').split('\n').slice(0, -1), err: err.join(''), code };
}

const idsOf = (lines: readonly string[]): string =>
  lines.map((one) => (JSON.parse(one).queue_id as string).slice(ID.length)).join('');

/** Two processes, two days, plain and compressed files, a line that a crash has torn. */
function filled(t: TestContext): string {
  const dir = folder(t);
  const to = (recipient: string) => ({ recipient, sender: 'a@a.test', destination: 'b.test' });
  writeFileSync(
    join(dir, '2026-03-01-0001.jsonl.zst'),
    zstdCompressSync(
      line('accepted', 'a', 0, { sender: 'a@a.test' }) +
        line('delivered', 'c', 2, { ...to('x@B.test'), status: '2.0.0' }),
    ),
  );
  writeFileSync(
    join(dir, '2026-03-01-0002.jsonl'),
    `${line('bounced', 'e', 4, { ...to('y@sub.b.test'), status: '5.1.1' })}{"type":"deliv`,
  );
  writeFileSync(
    join(dir, '2026-03-01-0001.p1.jsonl'),
    line('accepted', 'b', 1, { sender: '' }) +
      line('deferred', 'd', 3, { ...to('x@b.test'), status: '4.2.2' }),
  );
  // A crash came between the name of the compressed file and the end of the plain one.
  writeFileSync(
    join(dir, '2026-03-01-0001.p1.jsonl.zst'),
    zstdCompressSync('damaged or not, it does not count'),
  );
  writeFileSync(
    join(dir, '2026-03-02-0001.jsonl'),
    line('accepted', 'f', 1440, { sender: '', original_queue_id: `${ID}e` }) +
      line('dropped', 'g', 1441, { lines: 1 }),
  );
  return dir;
}

test(
  'all files are merged by time, plain and compressed; a torn line costs nothing else',
  options,
  async (t) => {
    const { lines, err, code } = await printed(filled(t));
    assert.equal(idsOf(lines), 'abcdefg');
    assert.deepEqual([err, code], ['', 0]);
  },
);

test(
  'events are chosen by what they say: several values are alternatives, several options all hold',
  options,
  async (t) => {
    const dir = filled(t);
    const choice = async (wanted: Partial<EventsOptions>) => idsOf((await printed(dir, wanted)).lines);
    assert.equal(await choice({ id: [`${ID}E`] }), 'ef', 'a report about it too');
    assert.equal(await choice({ type: ['deferred', 'bounced'] }), 'de');
    assert.equal(await choice({ sender: [''] }), 'bf');
    assert.equal(await choice({ recipient: ['X@*'] }), 'cd');
    assert.equal(await choice({ domain: ['b.TEST'] }), 'cd');
    assert.equal(await choice({ domain: ['*b.test'], status: ['5.*'] }), 'e');
    assert.equal(await choice({ destination: ['b.test'], type: ['delivered'] }), 'c');
    assert.equal(
      await choice({ since: '2026-03-01T12:03:00.000Z', until: '2026-03-01T12:04:00.000Z' }),
      'de',
    );
    assert.equal(await choice({ since: '2026-03-02T00:00:00.000Z' }), 'fg');
    assert.equal(await choice({ limit: 2 }), 'ab');
    assert.equal(await choice({ last: 2 }), 'fg');
    assert.equal(await choice({ last: 4 }), 'defg');
    assert.equal(await choice({ last: 1, sender: ['a@a.test'], type: ['d*'] }), 'd');
    assert.equal(await choice({ last: 100 }), 'abcdefg');
    assert.equal(await choice({ id: ['nobody'] }), '');
  },
);

test('damaged files and lines are said, and what is whole is printed', options, async (t) => {
  const dir = folder(t);
  const whole = zstdCompressSync(line('accepted', 'a', 0));
  writeFileSync(join(dir, '2026-03-01-0001.jsonl.zst'), whole.subarray(0, -3));
  writeFileSync(
    join(dir, '2026-03-01-0002.jsonl'),
    `\u001b[2Jgarbage\n${line('accepted', 'b', 1, { sender: 'x\u202e@y' })}`,
  );
  const { lines, err, code } = await printed(dir);
  assert.match(err, /2026-03-01-0001\.jsonl\.zst cannot be read as it is/);
  assert.match(err, /1 damaged lines were passed over/);
  assert.equal(idsOf(lines).at(-1), 'b');
  assert.equal(printable(lines.join('')), lines.join(''));
  assert.equal(code, 65);
  assert.deepEqual((await printed(join(dir, 'none'))).lines, [], 'no folder, no events');
});

test(
  'pipes, devices, folders, floods and lines that are no events end in what is whole',
  options,
  async (t) => {
    const dir = folder(t);
    const path = (n: number, end = '.jsonl') => join(dir, `2026-03-01-000${n}${end}`);
    for (const [n, end] of [
      [1, '.jsonl'],
      [2, '.jsonl.zst'],
    ] as const)
      assert.equal(spawnSync('mkfifo', [path(n, end)]).status, 0);
    symlinkSync('/dev/zero', path(3));
    mkdirSync(path(4));
    writeFileSync(path(5, '.jsonl.zst'), zstdCompressSync(Buffer.alloc(4 * 1_048_576)));
    writeFileSync(path(6, '.jsonl.zst'), zstdCompressSync(Buffer.alloc(4 * 1_048_576, '\n')));
    const odd = [
      '5',
      'null',
      '[]',
      '"a"',
      '{"type":{"toString":1},"time":[],"sender":{},"recipient":null}',
      '',
    ];
    writeFileSync(path(7), `${'x'.repeat(3_000_000)}\n${odd.join('\n')}\n${line('accepted', 'a', 0)}`);
    for (const wanted of [
      {},
      { text: true },
      { domain: ['*'] },
      { last: 1, id: [`${ID}a`] },
      { text: true, last: 9 },
    ]) {
      const { lines, err, code } = await printed(dir, wanted);
      assert.equal(code, 65);
      const said = err.split('\n').map((one) => /000(\d)\.jsonl/.exec(one)?.[1] ?? '');
      assert.match(said.join(''), 'last' in wanted ? /7$/ : /^123457$/, err);
      assert.equal('domain' in wanted || lines.at(-1)?.includes(`${ID}a`), true, lines.join('\n'));
    }
  },
);

test('in --text nothing that others chose looks like a part of ours', options, async (t) => {
  const dir = folder(t);
  const forged =
    'x>, relay=evil[192.0.2.1]:25,\u00a0dsn=2.0.0, status=delivered (250 ok)\n2026-03-01T00:00:00.000Z x: to=<b';
  const names = [
    'sender',
    'recipient',
    'message_id',
    'helo',
    'listener',
    'user',
    'destination',
    'reason',
    'by',
    'peer_host',
  ];
  const fields = Object.fromEntries(names.map((name) => [name, forged]));
  for (const [at, type] of ['accepted', 'deferred', 'bounced', 'removed', 'held'].entries())
    writeFileSync(
      join(dir, `2026-03-01-000${at + 1}.jsonl`),
      line(type, 'a', at, {
        ...fields,
        peer_address: '192.0.2.9',
        peer_port: 25,
        status: '4.0.0',
        reply: forged,
      }),
    );
  const { lines } = await printed(dir, { text: true });
  assert.equal(lines.length, 5);
  for (const one of lines) {
    const [before = '', status = ''] = one.split(/, status=(.*)/);
    assert.match(status, /^(?:accepted|deferred|bounced|removed|held)(?: \(|$)/);
    const parts = before.replace(/^\S+ \S+ /, '').split(', ');
    assert.deepEqual(
      parts.filter((part) => !/^[a-z-]+=\S*$/.test(part)),
      [],
    );
    assert.equal(new Set(parts.map((part) => part.split('=')[0])).size, parts.length);
  }
});

test('times that mean nothing, or that no file can have in its name, are refused', () => {
  for (const text of [
    '5',
    '2026',
    '0.5',
    '275760-09-13',
    '2026-02-31x',
    '1969-01-01',
    '9999-12-31',
    '',
    '-1d',
    '2026-13-01',
    '1e9',
  ])
    assert.throws(() => pointInTime(text), /It is a time/, text);
  assert.equal(pointInTime('2026-03-01'), '2026-03-01T00:00:00.000Z');
  assert.equal(pointInTime('2026-03-01T14:00:00+02:00'), '2026-03-01T12:00:00.000Z');
  assert.equal(pointInTime('999999d'), '1970-01-01T00:00:00.000Z');
});

test('--text prints lines of a mail log', options, async (t) => {
  const dir = folder(t);
  const peer = { peer_host: 'mx.b.test', peer_address: '192.0.2.9', peer_port: 25 };
  const times = { queue_ms: 1000, connect_ms: 20, transfer_ms: 304.6 };
  const to = { recipient: 'x@b.test', sender: 'a@a.test' };
  const lines = [
    line('accepted', 'a', 0, {
      sender: '',
      recipients: 1,
      size_bytes: 9,
      client_address: '192.0.2.1',
      client_port: 5,
      helo: 'c',
      listener: 'in',
      message_id: '1@c',
      persist_ms: 4,
    }),
    line('delivered', 'b', 1, {
      ...to,
      ...peer,
      ...times,
      status: '2.0.0',
      reply: '250 2.0.0 Ok\nx\u001b[2J',
    }),
    line('deferred', 'c', 2, {
      ...to,
      ...times,
      status: '4.4.3',
      reason: 'dns_temporary',
      detail: 'no answer',
      retry_at: '2026-03-01T13:00:00.000Z',
    }),
    line('removed', 'd', 3, { ...to, destination: 'b.test', by: 'operator' }),
  ];
  writeFileSync(join(dir, '2026-03-01-0001.jsonl'), lines.join(''));
  assert.deepEqual((await printed(dir, { text: true })).lines, [
    `2026-03-01T12:00:00.000Z ${ID}a: from=<>, client=[192.0.2.1]:5, helo=c, listener=in, size=9, recipients=1, message-id=<1@c>, delay=0, status=accepted`,
    `2026-03-01T12:01:00.000Z ${ID}b: to=<x@b.test>, from=<a@a.test>, relay=mx.b.test[192.0.2.9]:25, delay=1.32, delays=1/0.02/0.3, dsn=2.0.0, status=delivered (250 2.0.0 Ok x?[2J)`,
    `2026-03-01T12:02:00.000Z ${ID}c: to=<x@b.test>, from=<a@a.test>, relay=none, delay=1.32, delays=1/0.02/0.3, dsn=4.4.3, reason=dns_temporary, retry_at=2026-03-01T13:00:00.000Z, status=deferred (no answer)`,
    `2026-03-01T12:03:00.000Z ${ID}d: to=<x@b.test>, from=<a@a.test>, destination=b.test, by=operator, status=removed`,
  ]);
});

test('--text prints what an earlier version wrote, and leaves out what it did not', options, async (t) => {
  const dir = folder(t);
  const times = { queue_ms: 1000, connect_ms: 20, transfer_ms: 304 };
  const to = { recipient: 'x@b.test', sender: 'a@a.test', node: undefined };
  const lines = [
    line('accepted', 'a', 0, {
      node: undefined,
      sender: '',
      recipients: 1,
      size: 9,
      client: '192.0.2.1',
      helo: 'c',
    }),
    line('delivered', 'b', 1, { ...to, ...times, peer: 'mx.b.test [192.0.2.9]', reply: '250 Ok' }),
  ];
  writeFileSync(join(dir, '2026-03-01-0001.jsonl'), lines.join(''));
  assert.deepEqual((await printed(dir, { text: true })).lines, [
    `2026-03-01T12:00:00.000Z ${ID}a: from=<>, client=192.0.2.1, helo=c, size=9, recipients=1, delay=0, status=accepted`,
    `2026-03-01T12:01:00.000Z ${ID}b: to=<x@b.test>, from=<a@a.test>, relay=mx.b.test[192.0.2.9], delay=1.32, delays=1/0.02/0.3, status=delivered (250 Ok)`,
  ]);
});

/** Follows in the background; `until` waits for what it has printed. */
function following(t: TestContext, dir: string, wanted: Partial<EventsOptions> = {}, highWaterMark = 16_384) {
  const out = new PassThrough({ highWaterMark });
  const ending = new AbortController();
  let text = '';
  const done = printEvents(
    dir,
    { follow: true, text: false, ...wanted },
    { out, err: new PassThrough(), signal: ending.signal },
  );
  t.after(() => ending.abort());
  return {
    out,
    done,
    end: () => ending.abort(),
    async until(ids: string | RegExp, meanwhile = () => {}): Promise<void> {
      const wanted = typeof ids === 'string' ? new RegExp(`^${ids}$`) : ids;
      for (;;) {
        text += String(out.read() ?? '');
        if (wanted.test(idsOf(text.split('\n').slice(0, -1)))) return;
        meanwhile();
        await new Promise((next) => setImmediate(next));
      }
    },
  };
}

test(
  '--follow goes on over rotation, compression and new processes, and ends when it is told to',
  options,
  async (t) => {
    const dir = folder(t);
    writeFileSync(join(dir, '2026-03-01-0001.jsonl'), line('accepted', 'x', 0));
    const clock = { ms: Date.parse('2026-03-01T23:00:00.000Z') };
    const log = (process: number): EventLog => {
      const events = new EventLog({
        dir,
        process,
        node: 'n1',
        enabled: true,
        copied: false,
        maxFileBytes: 100,
        keepDays: 1,
        maxTotalBytes: 1_048_576,
        maxBufferBytes: 1_048_576,
        log: silentLog,
        now: () => clock.ms,
      });
      t.after(() => events.close());
      return events;
    };
    const events = log(0);
    const entry = (id: string) => ({
      queueId: ID + id,
      destination: 'b.test',
      reversePath: '',
      messageId: '',
      recipients: ['x'],
    });
    const tail = following(t, dir, { last: 1 });
    await tail.until('x');
    for (const id of 'abc') {
      events.removed(entry(id), 'operator');
      await tail.until('xabc'.slice(0, 'xabc'.indexOf(id) + 1));
      clock.ms += 10;
    }
    log(1).removed(entry('d'), 'operator');
    await tail.until('xabcd');
    clock.ms += 2 * 86_400_000;
    events.removed(entry('e'), 'operator');
    await tail.until('xabcde');
    while (readdirSync(dir).includes('2026-03-01-0001.jsonl'))
      await new Promise((next) => setImmediate(next));
    tail.end();
    assert.equal(await tail.done, 0);
  },
);

test('--follow alone begins with what comes now; a slow reader is waited for', options, async (t) => {
  const dir = folder(t);
  const path = join(dir, '2026-03-01-0001.jsonl');
  writeFileSync(path, line('accepted', 'x', 0));
  const tail = following(t, dir, {}, 64);
  // What is appended while it starts may be from before its time.
  await tail.until(/^m+$/, () => appendFileSync(path, line('accepted', 'm', 1)));
  const ids = 'abcdefghijklmnopqrstuvwxyz'.repeat(20);
  for (const id of ids) appendFileSync(path, line('accepted', id, 1, { helo: 'h'.repeat(100) }));
  await tail.until(new RegExp(`^m+${ids}$`));
  tail.end();
  assert.equal(await tail.done, 0);
});
