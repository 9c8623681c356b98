import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { type Config, configSchema } from '../../src/config/schema.ts';
import { NOTIFY } from '../../src/mail/envelope.ts';
import type { AttemptResult, Job, JobRecipient } from '../../src/mail/job.ts';
import type { Outcome, PeerReply } from '../../src/mail/outcome.ts';
import { QueueIds } from '../../src/mail/queue-id.ts';
import { createArena } from '../../src/native.ts';
import { DsnWriter } from '../../src/report/dsn.ts';

const folder = mkdtempSync(join(tmpdir(), 'dsn-'));
const arena = createArena(16 * 1024 * 1024, folder);
after(() => rmSync(folder, { recursive: true, force: true }));

const RECEIVED = Date.UTC(2026, 0, 2, 3, 4, 5);
const NOW = RECEIVED + 5 * 3_600_000;
const CONTENT = 'Subject: hi\r\nFrom: a@b.test\r\n\r\nthe body\r\n';

const reply = (code: number, enhanced: string, text: string): PeerReply => ({
  code,
  enhanced,
  text,
  peer: { host: 'mx1.x.test', address: '192.0.2.1', port: 25, source: '' },
});
const failed: Outcome = {
  kind: 'bounced',
  reason: 'peer_5xx',
  reply: reply(550, '5.1.1', 'no such user'),
  status: '5.1.1',
  detail: '550 5.1.1 no such user (mx1.x.test [192.0.2.1])',
};
const late: Outcome = {
  kind: 'deferred',
  reason: 'timeout',
  detail: 'no reply in time',
  retryAtMs: NOW + 1000,
};
const relayed: Outcome = { kind: 'delivered', reply: reply(250, '2.0.0', 'queued'), dsnPassedOn: false };

const DELAYED = { delay_after_ms: 4 * 3_600_000 };
const CONFIG = configSchema.parse({ hostname: 'relay.test', dsn: DELAYED });

interface Given {
  recipients: (Omit<Partial<JobRecipient>, 'seq'> & { outcome: Outcome })[];
  job?: Partial<Job>;
  content?: string | Buffer;
  dsn?: Partial<Config['dsn']>;
}

/** A bounce of one recipient; each has an outcome of its own. */
function bounceOf(reversePath: string, notify: number): { job: Job; result: AttemptResult } {
  const made = attemptOf({ recipients: [{ outcome: { ...failed }, notify }], job: { reversePath } });
  return { job: made.whole, result: made.result };
}

function drafts(given: Given) {
  const { whole, result } = attemptOf(given);
  const config =
    given.dsn === undefined
      ? CONFIG
      : configSchema.parse({ hostname: 'relay.test', dsn: { ...DELAYED, ...given.dsn } });
  const ids = new QueueIds(1, 0, () => NOW);
  return new DsnWriter({ config, arena, ids }).draft(whole, result, NOW);
}

function attemptOf({ recipients, job, content }: Given): { whole: Job; result: AttemptResult } {
  const bytes = Buffer.from(content ?? CONTENT);
  const list = recipients.map(({ outcome: _, ...rest }, i) => ({
    address: `user${i}@x.test`,
    notify: 0,
    ...rest,
    // Stored numbers need not be dense.
    seq: i * 2 + 1,
  }));
  const whole: Job = {
    queueId: '0123456789abcde',
    destination: 'x.test',
    attempts: 1,
    fence: 1,
    reversePath: 'Sender@From.test',
    body: '7BIT',
    smtpUtf8: false,
    trace: 'Received: by relay.test\r\n',
    content: arena.store(bytes),
    sizeBytes: bytes.length,
    receivedAtMs: RECEIVED,
    delayNotified: false,
    recipients: list,
    ...job,
  };
  const groups = recipients.map(({ outcome }, i) => ({ seqs: [i * 2 + 1], outcome }));
  const result: AttemptResult = {
    queueId: whole.queueId,
    destination: 'x.test',
    fence: 1,
    attempts: 2,
    reversePath: whole.reversePath,
    receivedAtMs: RECEIVED,
    sizeBytes: bytes.length,
    groups,
    recipients: list,
    times: { queueMs: 0, connectMs: 0, transferMs: 0 },
    dsns: [],
    delayNotified: false,
  };
  return { whole, result };
}

function textOf(given: Given): string {
  const made = drafts(given);
  assert.equal(made.length, 1);
  return (made[0] as (typeof made)[0]).bytes().toString('latin1');
}

/** Who is reported, as 'action address'. */
function reported(given: Given): string[] {
  const text = drafts(given)
    .map((draft) => draft.bytes().toString('latin1'))
    .join('');
  return [...text.matchAll(/Final-Recipient: rfc822; (\S+)\r\nAction: (\w+)/g)].map((m) => `${m[2]} ${m[1]}`);
}

test('a failure is reported in the fields of RFC 3464', () => {
  const text = textOf({
    recipients: [{ outcome: failed, orcpt: 'rfc822;Orig+2Binal@x.test' }],
    job: { envid: 'env+2Bid' },
  });
  const [header = '', , machine = ''] = text.split(/--=_dsn_[0-9a-z]{16}(?:--)?\r\n/);
  assert.match(header, /^Date: Fri, 2 Jan 2026 08:04:05 \+0000\r\n/);
  assert.match(header, /\r\nFrom: Mail Delivery System <MAILER-DAEMON@relay\.test>\r\n/);
  assert.match(header, /\r\nTo: <Sender@From\.test>\r\n/);
  assert.match(header, /\r\nAuto-Submitted: auto-replied\r\nMIME-Version: 1\.0\r\n/);
  assert.match(
    header,
    /\r\nContent-Type: multipart\/report; report-type=delivery-status;\r\n\tboundary="=_dsn_/,
  );
  assert.equal(
    machine,
    [
      'Content-Description: Delivery report',
      'Content-Type: message/delivery-status',
      '',
      'Reporting-MTA: dns; relay.test',
      'Original-Envelope-Id: env+id',
      'X-Queue-ID: 0123456789abcde',
      'Arrival-Date: Fri, 2 Jan 2026 03:04:05 +0000',
      '',
      'Original-Recipient: rfc822; Orig+inal@x.test',
      'Final-Recipient: rfc822; user0@x.test',
      'Action: failed',
      'Status: 5.1.1',
      'Remote-MTA: dns; mx1.x.test',
      'Diagnostic-Code: smtp; 550 5.1.1 no such user',
      'Last-Attempt-Date: Fri, 2 Jan 2026 08:04:05 +0000',
      '',
      '',
    ].join('\r\n'),
  );
});

test('the message is from the null reverse-path to the sender, asks for no DSN and is its own message', () => {
  const [draft] = drafts({ recipients: [{ outcome: failed }] });
  assert.ok(draft);
  const bytes = draft.bytes();
  const message = draft.message(5, bytes.length);
  assert.deepEqual(message.envelope, {
    reversePath: '',
    body: '7BIT',
    smtpUtf8: false,
    recipients: [
      { address: 'Sender@From.test', domain: 'from.test', class: 'external', notify: NOTIFY.never },
    ],
  });
  assert.equal(message.client.address, 'internal');
  assert.equal(message.receivedAtMs, NOW);
  assert.notEqual(message.queueId, '0123456789abcde');
});

test('the null reverse-path is never sent a DSN (I4)', () => {
  for (const outcome of [failed, late, relayed])
    assert.deepEqual(drafts({ recipients: [{ outcome, notify: 14 }], job: { reversePath: '' } }), []);
});

const { never, success, failure, delay } = NOTIFY;
const WANTED: [notify: number, failed: boolean, late: boolean, relayed: boolean][] = [
  [0, true, true, false],
  [never, false, false, false],
  [failure, true, false, false],
  [delay, false, true, false],
  [success, false, false, true],
  [success | failure | delay, true, true, true],
];
for (const [notify, onFailure, onDelay, onSuccess] of WANTED) {
  test(`NOTIFY ${notify}: failure ${onFailure}, delay ${onDelay}, success ${onSuccess}`, () => {
    const all = reported({
      recipients: [
        { outcome: failed, notify },
        { outcome: late, notify },
        { outcome: relayed, notify },
      ],
    });
    const expected: string[] = [];
    if (onFailure) expected.push('failed user0@x.test');
    if (onDelay) expected.push('delayed user1@x.test');
    if (onSuccess) expected.push('relayed user2@x.test');
    assert.deepEqual(all, expected);
  });
}

test('success is not reported when the next hop took the duty over', () => {
  const outcome: Outcome = { kind: 'delivered', reply: reply(250, '', 'ok'), dsnPassedOn: true };
  assert.deepEqual(reported({ recipients: [{ outcome, notify: success }] }), []);
});

test('a delay is reported once, after dsn.delay_after_ms, with the time until which it is tried', () => {
  const recipients = [{ outcome: late }];
  const text = textOf({ recipients });
  assert.match(text, /\r\nSubject: Mail is delayed\r\n/);
  assert.match(text, /Status: 4\.4\.2\r\nDiagnostic-Code: X-Relay; no reply in time\r\n/);
  assert.match(text, /Will-Retry-Until: Wed, 7 Jan 2026 03:04:05 \+0000\r\n/);
  assert.equal(drafts({ recipients })[0]?.delayed, true);
  assert.deepEqual(drafts({ recipients, job: { delayNotified: true } }), []);
  assert.deepEqual(drafts({ recipients, job: { receivedAtMs: NOW - 1000 } }), []);
  assert.deepEqual(drafts({ recipients, dsn: { delay_after_ms: 0 } }), []);
  assert.equal(
    drafts({ recipients, dsn: { delay_after_ms: 1000 }, job: { receivedAtMs: NOW - 1000 } }).length,
    1,
  );
});

test('RET=FULL returns the message with its trace, up to dsn.max_returned_bytes and for failures only', () => {
  const part = (given: Given) => textOf(given).split('Content-Description: Undelivered ')[1] ?? '';
  const recipients = [{ outcome: failed }];
  const whole = `Received: by relay.test\r\n${CONTENT}`;
  const full = part({ recipients, job: { ret: 'FULL' } });
  assert.match(full, /^message\r\nContent-Type: message\/rfc822\r\n\r\n/);
  assert.equal(full.includes(`\r\n\r\n${whole}--=_dsn`), true);
  const headers = `headers\r\nContent-Type: text/rfc822-headers\r\n\r\nReceived: by relay.test\r\nSubject: hi\r\nFrom: a@b.test\r\n--`;
  const others: Given[] = [
    { recipients },
    { recipients, job: { ret: 'HDRS' } },
    { recipients, job: { ret: 'FULL' }, dsn: { max_returned_bytes: CONTENT.length - 1 } },
    { recipients, job: { ret: 'FULL', body: 'BINARYMIME' } },
    { recipients: [{ outcome: late }], job: { ret: 'FULL' } },
  ];
  for (const other of others) assert.equal(part(other).startsWith(`message ${headers}`), true);
});

test('shortened, a report needs no more than the header section', () => {
  const [draft] = drafts({ recipients: [{ outcome: failed }], job: { ret: 'FULL' } });
  assert.ok(draft);
  assert.equal(draft.bytes().includes('the body'), true);
  draft.shorten();
  assert.equal(draft.bytes().includes('the body'), false);
  assert.equal(draft.bytes().includes('Subject: hi'), true);
});

test('what not every host takes is returned encoded, never as it is', () => {
  const long = `Subject: hi\r\nX-Long: ${'x'.repeat(1200)}\r\n\r\nbody\r\n`;
  const contents = {
    'an 8-bit body': Buffer.from('Subject: hi\r\n\r\nb\u00fc\r\n'),
    '8-bit headers': Buffer.from('Subject: \u00fc\r\n\r\nb\r\n'),
    Latin1: Buffer.from('Subject: \u00fc\r\n\r\n\u00e4\r\n', 'latin1'),
    NUL: Buffer.from('Subject: hi\r\n\r\na\0b\r\n'),
    'bare CR and LF': Buffer.from('Subject: hi\r\n\r\na\nb\rc\r\n.\n'),
    'a long line of the header': Buffer.from(long),
    'a long line of the body': Buffer.from(`Subject: hi\r\n\r\n${'y'.repeat(999)}\r\n`),
    'no end of the last line': Buffer.from('Subject: hi\r\n\r\nend'),
    'nothing but octets': Buffer.from(Array.from({ length: 3000 }, (_, i) => i & 255)),
  };
  for (const [name, content] of Object.entries(contents))
    for (const body of ['7BIT', '8BITMIME', 'BINARYMIME'] as const)
      for (const ret of ['FULL', 'HDRS'] as const)
        for (const smtpUtf8 of [false, true])
          for (const reversePath of ['a@from.test', 'a@b\u00fccher.test']) {
            const job = { ret, body, smtpUtf8, reversePath };
            const [draft] = drafts({ recipients: [{ outcome: failed }], job, content });
            assert.ok(draft);
            const bytes = draft.bytes();
            const where = `${name}, ${JSON.stringify(job)}`;
            assert.equal(
              bytes.every((byte) => byte > 0 && byte < 128),
              true,
              where,
            );
            assert.doesNotMatch(bytes.toString('latin1'), /\r(?!\n)|(?<!\r)\n|[^\r\n]{999}/, where);
            const { envelope } = draft.message(1, 1);
            assert.deepEqual([envelope.body, envelope.smtpUtf8], ['7BIT', false], where);
            const domain = reversePath.startsWith('a@f') ? 'from.test' : 'xn--bcher-kva.test';
            assert.equal(envelope.recipients[0]?.address, `a@${domain}`, where);
            assert.equal(envelope.recipients[0]?.domain, domain, where);
            assert.ok(bytes.includes(`\r\nTo: <a@${domain}>\r\n`), where);
            if (ret === 'HDRS' || body === 'BINARYMIME') continue;
            const [type, , returned] = returnedOf(bytes);
            const whole = Buffer.concat([Buffer.from('Received: by relay.test\r\n'), content]);
            assert.equal(
              type,
              name === 'no end of the last line' ? 'message/rfc822' : 'message/global',
              where,
            );
            assert.ok(returned.equals(endedLine(whole)), `${where}: all of it comes back`);
          }
});

const endedLine = (bytes: Buffer): Buffer =>
  bytes.subarray(-2).toString() === '\r\n' ? bytes : Buffer.concat([bytes, Buffer.from('\r\n')]);

/** Type, encoding and decoded content of the third part. */
function returnedOf(report: Buffer): [type: string, encoding: string, content: Buffer] {
  const boundary = /boundary="([^"]+)"/.exec(report.toString('latin1'))?.[1] as string;
  const part = report.toString('latin1').split(`--${boundary}`)[3] as string;
  const at = part.indexOf('\r\n\r\n');
  const encoded = part.slice(at + 4);
  const type = /Content-Type: (\S+)/.exec(part)?.[1] as string;
  if (!/quoted-printable/.test(part.slice(0, at))) return [type, '', Buffer.from(encoded, 'latin1')];
  const decoded = encoded
    .replace(/=\r\n/g, '')
    .replace(/=([0-9A-F]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
  return [type, 'quoted-printable', endedLine(Buffer.from(decoded, 'latin1'))];
}

test('what would be too long encoded is not returned', () => {
  const content = `Subject: hi\r\n\r\n${'\u00fc'.repeat(120_000)}\r\n`;
  const text = textOf({
    recipients: [{ outcome: failed }],
    job: { ret: 'FULL' },
    content,
    dsn: { max_returned_bytes: 300_000 },
  });
  assert.match(text, /Content-Type: text\/rfc822-headers\r\n/);
  assert.ok(text.length < 5000);
});

test('long addresses outside ASCII are folded between their characters', () => {
  const address = `${'\u00fc\u{1f600}'.repeat(20)}@${'\u00fc'.repeat(60)}.test`;
  const recipients = Array.from({ length: 3 }, () => ({
    outcome: failed,
    address,
    orcpt: `utf-8;${'\\x{1F600}'.repeat(60)}@x.test`,
  }));
  const ascii = textOf({ recipients, job: { smtpUtf8: true } });
  assert.doesNotMatch(ascii, /[^\r\n]{999}|[^\0-\x7f]/);
  assert.doesNotMatch(ascii, /\\x\{[0-9A-F]*\r\n/);
  const [draft] = drafts({ recipients, job: { smtpUtf8: true, reversePath: '\u00fc@from.test' } });
  for (const line of draft?.bytes().toString('latin1').split('\r\n') ?? [])
    assert.ok(line.length <= 998, line);
});

test('binary headers are encoded: a report never carries a bare CR, a bare LF or NUL to its peer', () => {
  const content = 'Subject: a\n.\nMAIL FROM:<evil@x.test>\rX: \0\r\n\r\nbody';
  const text = textOf({
    recipients: [{ outcome: failed }],
    job: { body: 'BINARYMIME', ret: 'FULL' },
    content,
  });
  assert.doesNotMatch(text, /\0|\r(?!\n)|(?<!\r)\n/);
  assert.match(text, /rfc822-headers\r\nContent-Transfer-Encoding: quoted-printable\r\n/);
  assert.match(text, /Subject: a=0A\.=0AMAIL FROM:<evil@x\.test>=0DX: =00\r\n--/);
  // Cut within a header section that has no end, between CR and LF.
  const cut = textOf({
    recipients: [{ outcome: failed }],
    job: { trace: '' },
    content: `${'a'.repeat(65_535)}\r\nb`,
  });
  assert.doesNotMatch(cut, /\r(?!\n)/);
});

test('an internationalized recipient is reported in ASCII to an ASCII sender (RFC 6533)', () => {
  const recipients = [
    { outcome: failed, address: 'gr\u00fc\u00dfe@x.test', orcpt: 'utf-8;gr\\x{FC}e@x.test' },
  ];
  const [draft] = drafts({
    recipients,
    job: { smtpUtf8: true, ret: 'FULL' },
    content: 'Subject: \u00fc\r\n\r\nx\r\n',
  });
  assert.ok(draft);
  const text = draft.bytes().toString('latin1');
  assert.match(
    text,
    /Original-Recipient: utf-8; gr\\x\{FC\}e@x\.test\r\nFinal-Recipient: utf-8; gr\\x\{FC\}\\x\{DF\}e@x\.test/,
  );
  assert.match(text, /Content-Type: message\/global\r\nContent-Transfer-Encoding: quoted-printable/);
  assert.equal(/[^\0-\x7f]/.test(text), false);
  assert.equal(draft.message(1, 1).envelope.smtpUtf8, false);
});

test('an internationalized sender gets an internationalized report', () => {
  const recipients = [{ outcome: failed, address: 'gr\u00fc\u00dfe@x.test' }];
  const [draft] = drafts({ recipients, job: { smtpUtf8: true, reversePath: '\u00fc@from.test' } });
  assert.ok(draft);
  const text = draft.bytes().toString('utf8');
  assert.match(text, /report-type=global-delivery-status/);
  assert.match(text, /Content-Type: message\/global-delivery-status\r\nContent-Transfer-Encoding: 8bit/);
  assert.match(text, /Final-Recipient: utf-8; gr\u00fc\u00dfe@x\.test/);
  const { envelope } = draft.message(1, 1);
  assert.equal(envelope.smtpUtf8, true);
  assert.equal(envelope.body, '8BITMIME');
});

test('nothing a peer or a client says begins a line of its own, and no line is too long', () => {
  const outcome: Outcome = {
    kind: 'bounced',
    reason: 'peer_5xx',
    reply: reply(
      550,
      '5.1.1',
      `no\r\nAction: delivered\nBcc: x\u0000${' word'.repeat(190)}${'x'.repeat(990)}`,
    ),
    status: '5.1.1',
    detail: `no\r\n--=_dsn\r\n${'y'.repeat(2000)}`,
  };
  const text = textOf({
    recipients: [{ outcome, orcpt: 'rfc822;a+0D+0AStatus: 2.0.0' }],
    job: { envid: 'a+0D+0Ab' },
  });
  assert.equal(/\r\n(Bcc|Status: 2|b\r|Action: delivered|--=_dsn\r)/.test(text), false);
  assert.equal(/[^\r]\n|\r[^\n]|\0/.test(text), false);
  for (const line of text.split('\r\n')) assert.equal(line.length <= 998, true);
});

test('1,000 recipients at most are in one DSN', () => {
  const made = drafts({ recipients: Array.from({ length: 2500 }, () => ({ outcome: failed })) });
  assert.deepEqual(
    made.map(
      (draft) =>
        draft
          .bytes()
          .toString('latin1')
          .match(/Final-Recipient/g)?.length,
    ),
    [1000, 1000, 500],
  );
  assert.equal(new Set(made.map((draft) => draft.message(1, 1).queueId)).size, 3);
});

test('content without a header section, or without a body, is reported too', () => {
  for (const content of ['', '\r\nonly a body\r\n', 'Subject: x', 'Subject: x\r\n']) {
    const text = textOf({ recipients: [{ outcome: failed }], content });
    assert.match(text, /\r\n--=_dsn_[0-9a-z]+--\r\n$/);
    assert.equal(text.includes('only a body'), false);
  }
});

test('a status without a reply comes from the reason', () => {
  const outcome: Outcome = { kind: 'bounced', reason: 'expired', status: '5.4.7', detail: 'gave up' };
  const text = textOf({ recipients: [{ outcome }] });
  assert.match(text, /Status: 5\.4\.7\r\nDiagnostic-Code: X-Relay; gave up\r\n/);
  assert.equal(text.includes('Remote-MTA'), false);
});

test('strangers cause failure reports only, and one sender gets so many an hour', () => {
  const stranger = (notify: number) => notify | NOTIFY.stranger;
  const job = { ret: 'HDRS' as const };
  assert.deepEqual(reported({ recipients: [{ outcome: failed, notify: stranger(0) }], job }), [
    'failed user0@x.test',
  ]);
  for (const outcome of [late, relayed])
    for (const notify of [0, NOTIFY.failure, NOTIFY.never])
      assert.deepEqual(reported({ recipients: [{ outcome, notify: stranger(notify) }], job }), []);
  assert.deepEqual(reported({ recipients: [{ outcome: failed, notify: stranger(NOTIFY.never) }], job }), []);
  const none = {
    recipients: [{ outcome: failed, notify: stranger(0) }],
    dsn: { max_reports_per_stranger_per_h: 0 },
  };
  assert.deepEqual(reported(none), []);

  const config = configSchema.parse({ hostname: 'relay.test', dsn: { max_reports_per_stranger_per_h: 2 } });
  const writer = new DsnWriter({ config, arena, ids: new QueueIds(1, 0, () => NOW) });
  const details: string[] = [];
  const bounce = (reversePath: string, notify: number, atMs: number): number => {
    const { job, result } = bounceOf(reversePath, notify);
    const made = writer.draft(job, result, atMs).length;
    for (const { outcome } of result.groups) if (outcome.kind === 'bounced') details.push(outcome.detail);
    return made;
  };
  const from = 'Victim@third.test';
  const told = [0, 1, 2, 3].map((i) => bounce(i % 2 ? from : from.toLowerCase(), stranger(0), NOW + i));
  assert.deepEqual(told, [1, 1, 0, 0]);
  assert.match(
    details[2] ?? '',
    /^550 .*; not reported: its sender, or its domain, was told of enough .*per_h 2\)$/,
  );
  assert.equal(details[1], failed.kind === 'bounced' ? failed.detail : '');
  assert.equal(bounce('other@third.test', stranger(0), NOW), 1, 'each sender has its own');
  const spellings = ['"victim"', '"vic\\tim"', 'VICTIM', 'victim+1', '"victim+2"', 'victim++'];
  for (const local of spellings)
    for (const domain of ['third.test', 'Third.test', 'third.test.', 'third。test'])
      assert.equal(bounce(`${local}@${domain}`, stranger(0), NOW), 0, `${local}@${domain} is the same one`);
  const many = Array.from({ length: 60 }, (_, i) => bounce(`a${i}@crowd.test`, stranger(0), NOW));
  assert.equal(
    many.reduce((sum, one) => sum + one),
    50,
    'and its domain 25 times as many',
  );
  assert.equal(bounce(from, 0, NOW), 1, 'mail of our own clients is not counted');
  assert.equal(bounce(from, stranger(0), NOW + 3_600_000), 1, 'the next hour');
});
