/** Mail that is signed on its way to a sink: what the peer gets verifies, and what cannot be signed meets dkim.on_error. */
import assert from 'node:assert/strict';
import { mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { NOTIFY } from '../../src/mail/envelope.ts';
import { openSigningKey } from '../../src/native.ts';
import type { SigningTable } from '../../src/signing/table.ts';
import { publicKeyOf, verified } from '../native/dkim-canon.ts';
import { makeKey } from '../native/dkim-rig.ts';
import { fates, type Harness, outcomeOf, startSender, startSink } from './harness.ts';

const keys = { r1: makeKey('rsa'), e1: makeKey('ed25519'), esp: makeKey('ed25519') };
const slots = [
  openSigningKey(keys.r1.pem, 'example.com', 'r1') as number,
  openSigningKey(keys.e1.pem, 'example.com', 'e1') as number,
];
const esp = openSigningKey(keys.esp.pem, 'esp.test', 'esp') as number;

const table = (over: Partial<SigningTable> = {}): SigningTable => ({
  domains: new Map([
    ['example.com', { slots, fault: '' }],
    ['waits.test', { slots: [], fault: 'no key of waits.test can sign' }],
    ['esp.test', { slots: [esp], fault: '' }],
  ]),
  ...{
    alsoSign: [],
    signHeaders: ['From', 'Subject'],
    oversignHeaders: ['From'],
    expireS: 0,
    onError: 'defer',
  },
  ...over,
});

const signatures = (message: string): boolean[] =>
  verified(Buffer.from(message, 'latin1'), (tags) =>
    publicKeyOf(keys[tags.get('s') as keyof typeof keys].record),
  );

const mail = (from: string, body = 'hello\r\n.dot\r\n') => `From: ${from}\r\nSubject: x\r\n\r\n${body}`;

async function start() {
  const capabilities = ['PIPELINING', 'SIZE 10000000', '8BITMIME', 'CHUNKING', 'BINARYMIME'];
  const sink = await startSink({ capabilities });
  const harness = startSender({ delivery: { smarthost: { host: '127.0.0.1', port: sink.port } } as never });
  harness.desk.use(table());
  return { sink, harness };
}

test('mail is signed as the peer gets it: stuffed dots, BDAT, files, several keys, also_sign', async () => {
  const { sink, harness } = await start();
  const dir = mkdtempSync(join(tmpdir(), 'signing-'));
  const path = join(dir, 'spilled');
  const long = mail('a@example.com', 'word  word \r\n'.repeat(60_000));
  writeFileSync(path, long);
  const recipients = ['b@dest.test'];
  const results = await harness.attemptAll([
    { recipients, content: mail('A <a@mail.example.com>') },
    { recipients, content: mail('a@example.com', 'no end'), body: 'BINARYMIME' },
    { recipients, content: mail('a@example.com', 'no end') },
    { recipients, file: { fd: openSync(path, 'r'), offset: 0, lengthBytes: long.length } },
    { recipients, content: mail('a@elsewhere.test') },
    { recipients: [{ address: 'b@dest.test', notify: NOTIFY.stranger }], content: mail('a@example.com') },
  ]);
  for (const result of results) assert.deepEqual(fates(result), ['delivered']);
  const counts = sink.messages.map(({ content }) => signatures(content.toString('latin1')));
  assert.deepEqual(
    counts.filter((all) => all.length > 0),
    Array(4).fill([true, true]),
  );
  assert.equal(counts.filter((all) => all.length === 0).length, 2);
  harness.desk.use(table({ alsoSign: ['esp.test'], expireS: 86_400 }));
  await harness.attempt({ recipients, content: mail('a@elsewhere.test') });
  const last = sink.messages.at(-1)?.content.toString('latin1') ?? '';
  assert.deepEqual(signatures(last), [true]);
  assert.match(last, /d=esp\.test;[\s\S]*x=\d+;/);
  harness.stop();
  rmSync(dir, { recursive: true });
});

test('what cannot be signed waits, goes out or bounces, as dkim.on_error says', async () => {
  const { sink, harness } = await start();
  const cases: [SigningTable['onError'], string, string, string?][] = [
    ['defer', mail('a@waits.test'), 'deferred signing_failed'],
    ['defer', 'Subject: x\r\n\r\nx\r\n', 'deferred signing_failed', 'a@www.example.com'],
    ['defer', 'Subject: x\r\n\r\nx\r\n', 'delivered', 'a@elsewhere.test'],
    ['defer', mail('a@example.com\r\nFrom: b@example.com'), 'deferred signing_failed'],
    ['bounce', mail('a@waits.test'), 'bounced signing_failed'],
    ['send', mail('a@waits.test'), 'delivered'],
    ['send', 'Subject: x\r\n\r\nx\r\n', 'delivered', 'a@example.com'],
  ];
  for (const [onError, content, fate, from = 'a@example.com'] of cases) {
    harness.desk.use(table({ onError }));
    const result = await harness.attempt({ recipients: ['b@dest.test'], content, from });
    assert.deepEqual(fates(result), [fate]);
    const outcome = outcomeOf(result);
    if (outcome.kind === 'bounced')
      assert.deepEqual([outcome.status, outcome.detail], ['5.7.5', 'no key of waits.test can sign']);
  }
  assert.equal(sink.messages.length, 3);
  // Some of what belongs there: it goes with what can be made.
  harness.desk.use(table({ onError: 'send', alsoSign: ['waits.test'] }));
  await harness.attempt({ recipients: ['b@dest.test'], content: mail('a@example.com') });
  assert.deepEqual(signatures(sink.messages.at(-1)?.content.toString('latin1') ?? ''), [true, true]);
  harness.stop();
});

const untilFree = (harness: Harness, free: number) =>
  new Promise<void>((resolve) => {
    const look = () => (harness.arena.freeBytes() === free ? resolve() : setImmediate(look));
    look();
  });

test('mail that waits for its signature can be taken back, and is handed back by a drain', async () => {
  const { sink, harness } = await start();
  const free = harness.arena.freeBytes();
  const job = harness.job({ recipients: ['b@dest.test'], content: mail('a@example.com') });
  harness.sender.accept([job]);
  const selection = { ids: [job.queueId] };
  const taken = harness.sender.takeBack({ selection } as never);
  assert.deepEqual(
    taken.map(({ queueId }) => queueId),
    [job.queueId],
  );
  harness.arena.release(job.content);
  await untilFree(harness, free);
  const second = harness.job({ recipients: ['b@dest.test'], content: mail('a@example.com') });
  harness.sender.accept([second]);
  harness.sender.drain(1000);
  await harness.until(() => harness.posted.some(({ type }) => type === 'drained'));
  const drained = harness.posted.find((message) => message.type === 'drained');
  assert.deepEqual(
    drained?.unfinished.map(({ queueId }) => queueId),
    [second.queueId],
  );
  assert.equal(sink.messages.length, 0);
  harness.stop();
});
