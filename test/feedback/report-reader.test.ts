/** Reports of non-delivery and of complaints, in the forms that systems send them, and what pretends to be one. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { MAX_REPORT_BYTES } from '../../src/feedback/report-parts.ts';
import { readReport } from '../../src/feedback/report-reader.ts';

const lines = (...all: string[]): string => `${all.join('\r\n')}\r\n`;
const read = (...all: string[]) => readReport(Buffer.from(lines(...all)));

const COPY = [
  'From: a@shop.test',
  'Message-ID: <m1@shop.test>',
  'Feedback-ID: spring:shop:bulk:acme',
  '',
  'hello',
];

/** @param status sections of the second part. */
function dsn(status: string[], type = 'message/delivery-status', copyType = 'message/rfc822'): string {
  return lines(
    'From: MAILER-DAEMON@mx.test',
    'Auto-Submitted: auto-replied',
    'Content-Type: multipart/report; report-type=delivery-status;',
    '\tboundary="=_b (1)"',
    '',
    'preamble',
    '--=_b (1)',
    '',
    'Your message could not be delivered.',
    '--=_b (1)',
    `Content-Type: ${type}`,
    '',
    'Reporting-MTA: dns; mx.test',
    '',
    ...status,
    '',
    '--=_b (1)',
    `Content-Type: ${copyType}`,
    '',
    ...COPY,
    '--=_b (1)--',
  );
}

const recipient = (action: string, status: string, diagnostic: string): string[] => [
  'Final-Recipient: rfc822; user@example.com',
  ...(action === '' ? [] : [`Action: ${action}`]),
  `Status: ${status}`,
  `Diagnostic-Code: ${diagnostic}`,
];
const readDsn = (...all: Parameters<typeof dsn>) => readReport(Buffer.from(dsn(...all)));

test('RFC 3464: a failure has its addresses, code, text and host, and the message it is about', () => {
  const report = readDsn([
    'Original-Recipient: rfc822;<First.User@example.com>',
    'Final-Recipient: rfc822; user@inner.example',
    'Action: failed (no such user)',
    'Status: 5.1.1',
    'Remote-MTA: dns; mx1.example.com (192.0.2.1)',
    'Diagnostic-Code: smtp; 550-5.1.1 The account does not',
    '   exist',
  ]);
  assert.deepEqual(report, {
    kind: 'failed',
    original: { messageId: 'm1@shop.test', feedbackId: 'spring:shop:bulk:acme', tokens: [] },
    failures: [
      {
        addresses: ['First.User@example.com', 'user@inner.example'],
        code: 550,
        enhanced: '5.1.1',
        text: 'The account does not exist',
        host: 'mx1.example.com',
      },
    ],
  });
});

test('each value of Action: only what failed is a failure', () => {
  const kinds = {
    failed: 'failed',
    delayed: 'delayed',
    delivered: 'delivered',
    relayed: 'delivered',
    expanded: 'delivered',
  };
  for (const [action, kind] of Object.entries(kinds))
    assert.equal(
      readDsn(recipient(action, action === 'failed' ? '5.0.0' : '4.4.7', 'smtp; 4')).kind,
      kind,
      action,
    );
  // A delay with a 5xx in it is a delay.
  assert.equal(readDsn(recipient('delayed', '5.1.1', 'smtp; 550 no')).kind, 'delayed');
  assert.equal(readDsn(recipient('', '5.1.1', 'smtp; 550 no')).kind, 'failed');
  assert.equal(readDsn(recipient('', '2.0.0', 'smtp; 250 ok')).kind, 'unparsed');
  const both = readDsn([
    ...recipient('delivered', '2.0.0', ''),
    '',
    ...recipient('failed', '5.2.2', 'smtp; 552 full'),
  ]);
  assert.equal(both.kind === 'failed' && both.failures.length, 1);
});

test('RFC 6533: an address in UTF-8, as it is and with its characters written out', () => {
  for (const address of ['pelé@example.com', '\\x{70}el\\x{E9}@example.com']) {
    const status = [`Final-Recipient: utf-8; ${address}`, 'Action: failed', 'Status: 5.1.1'];
    const report = readDsn(status, 'message/global-delivery-status', 'message/global-headers');
    assert.deepEqual(report.kind === 'failed' && report.failures[0]?.addresses, ['pelé@example.com']);
    assert.equal(report.original.messageId, 'm1@shop.test');
  }
  const odd = readDsn(['Final-Recipient: utf-8; \\x{FFFFFF}@example.com', 'Action: failed', 'Status: 5.1.1']);
  assert.equal(odd.kind, 'failed');
});

test('transfer encodings and charsets that lie', () => {
  const base64 = Buffer.from(
    lines('Final-Recipient: rfc822;user@example.com', 'Action: failed', 'Status: 5.1.1'),
  );
  const report = read(
    'Content-Type: multipart/report; boundary=x',
    '',
    '--x',
    'Content-Type: message/delivery-status; charset=utf-16',
    'Content-Transfer-Encoding: base64',
    '',
    base64.toString('base64'),
    '--x--',
  );
  assert.equal(report.kind, 'failed');
});

test('qmail', () => {
  const report = read(
    'From: MAILER-DAEMON@mx.test',
    'Subject: failure notice',
    '',
    'Hi. This is the qmail-send program at mx.test.',
    "I'm afraid I wasn't able to deliver your message to the following addresses.",
    '',
    '<user@example.com>:',
    '192.0.2.1 does not like recipient.',
    'Remote host said: 550 5.1.1 No such user here',
    'Giving up on 192.0.2.1.',
    '',
    '<other@example.com>:',
    'Sorry, no mailbox here by that name. (#5.1.1)',
    '',
    '--- Below this line is a copy of the message.',
    '',
    ...COPY,
  );
  const both =
    report.kind === 'failed'
      ? report.failures.map(({ addresses, code, enhanced }) => [addresses[0], code, enhanced])
      : [];
  assert.deepEqual(both, [
    ['user@example.com', 550, '5.1.1'],
    ['other@example.com', 550, '5.1.1'],
  ]);
  assert.equal(report.original.messageId, 'm1@shop.test');
});

const EXIM_TEXT = [
  'This message was created automatically by mail delivery software.',
  '',
  'A message that you sent could not be delivered to one or more of its',
  'recipients. This is a permanent error. The following address(es) failed:',
  '',
  '  user@example.com',
  '    host mx.example.com [192.0.2.1]',
  '    SMTP error from remote mail server after RCPT TO:<user@example.com>:',
  '    552 5.2.2 Mailbox full',
  '',
  '------ This is a copy of the message, including all the headers. ------',
  '',
  ...COPY,
];

test('Exim, with and without X-Failed-Recipients', () => {
  for (const header of [['X-Failed-Recipients: user@example.com'], []]) {
    const report = read(...header, 'From: Mail Delivery System <x@mx.test>', '', ...EXIM_TEXT);
    assert.ok(report.kind === 'failed');
    assert.deepEqual(
      report.failures.map(({ addresses }) => addresses),
      [['user@example.com']],
    );
    assert.deepEqual([report.failures[0]?.code, report.failures[0]?.enhanced], [552, '5.2.2']);
    assert.equal(report.original.feedbackId, 'spring:shop:bulk:acme');
  }
  const late = read(
    'From: x@mx.test',
    '',
    'This message was created automatically by mail delivery software.',
    'A message that you sent has not yet been delivered to one or more of its',
    'recipients.',
    '',
    '  user@example.com',
    '',
    'No action is required on your part.',
  );
  assert.notEqual(late.kind, 'failed');
});

test('Exchange', () => {
  const report = read(
    'From: postmaster@corp.test',
    '',
    'Delivery has failed to these recipients or groups:',
    '',
    'Diagnostic information for administrators:',
    '',
    'Generating server: mail.corp.test',
    '',
    'user@example.com',
    '#550 5.1.1 RESOLVER.ADR.RecipNotFound; not found ##',
    '',
    'other@example.com',
    'mx.corp.test #<mx.corp.test #5.2.2 smtp;552 5.2.2 mailbox full> #SMTP#',
    "Remote Server returned '550 5.4.1 Recipient address rejected: Access denied'",
    '',
    'Original message headers:',
    '',
    ...COPY,
  );
  assert.ok(report.kind === 'failed');
  assert.deepEqual(
    report.failures.map(({ addresses, code, enhanced }) => [addresses[0], code, enhanced]),
    [
      ['user@example.com', 550, '5.1.1'],
      ['other@example.com', 550, '5.4.1'],
    ],
  );
  assert.equal(report.original.messageId, 'm1@shop.test');
});

function arf(fields: string[], copy = COPY): string[] {
  return [
    'From: fbl@provider.test',
    'Content-Type: multipart/report; report-type=feedback-report; boundary=x',
    '',
    '--x',
    '',
    'This is an abuse report.',
    '--x',
    'Content-Type: message/feedback-report',
    '',
    ...fields,
    '--x',
    'Content-Type: message/rfc822',
    '',
    ...copy,
    '--x--',
  ];
}

test('ARF: abuse, fraud, what is not spam, and types nobody knows', () => {
  const token = `b+${'a'.repeat(45)}@bounce.test`;
  const fields = [
    'User-Agent: x/1',
    'Version: 1',
    `Original-Mail-From: <${token}>`,
    'Original-Rcpt-To: user@example.com',
    'Source-IP: 192.0.2.7',
  ];
  const abuse = read(...arf(['Feedback-Type: abuse', ...fields]));
  assert.deepEqual(abuse, {
    kind: 'complaint',
    type: 'abuse',
    addresses: ['user@example.com'],
    sourceAddress: '192.0.2.7',
    original: { messageId: 'm1@shop.test', feedbackId: 'spring:shop:bulk:acme', tokens: [token] },
  });
  const fraud = read(...arf(['feedback-type: FRAUD (phish)']));
  assert.equal(fraud.kind === 'complaint' && fraud.type, 'fraud');
  const strange = read(...arf(['Feedback-Type: abuse', 'Source-IP: mx.example.com']));
  assert.equal(strange.kind === 'complaint' && strange.sourceAddress, '');
  assert.equal(read(...arf(['Feedback-Type: not-spam', ...fields])).kind, 'not_spam');
  const odd = read(...arf(['Feedback-Type: "><b>']));
  assert.equal(odd.kind === 'complaint' && odd.type, 'other');
  assert.equal(read(...arf(['Version: 1'])).kind, 'unparsed');
});

test('CFBL: its own identifier comes before Feedback-ID', () => {
  const report = read(
    ...arf(
      ['Feedback-Type: abuse'],
      ['CFBL-Feedback-ID: f:1', 'Feedback-ID: a:b:c:d', 'To: User <user@example.com>', ''],
    ),
  );
  assert.equal(report.original.feedbackId, 'f:1');
  assert.deepEqual(report.kind === 'complaint' && report.addresses, ['user@example.com']);
});

test('what machines answer is passed over, and what people write is not taken for a report', () => {
  for (const field of [
    'Auto-Submitted: auto-replied',
    'X-Autoreply: yes',
    'Precedence: auto_reply',
    'Precedence: bulk',
  ])
    assert.equal(
      read('From: user@example.com', field, '', 'I am away. <user@example.com>: 550 5.1.1').kind,
      'auto_reply',
    );
  assert.equal(read('From: user@example.com', 'Auto-Submitted: no', '', 'Hello').kind, 'unparsed');
  assert.equal(read('').kind, 'unparsed');
  assert.equal(
    read('Content-Type: multipart/report; report-type=delivery-status; boundary=x', '', 'nothing').kind,
    'unparsed',
  );
});

test('nested parts, parts without end, headers without end: unparsed, within 50 ms', () => {
  const many = (count: number, one: (i: number) => string): string =>
    Array.from({ length: count }, (_, i) => one(i)).join('');
  const hostile = {
    deep: many(4000, (i) => `Content-Type: multipart/mixed; boundary=b${i}\r\n\r\n--b${i}\r\n`),
    same: `Content-Type: multipart/report; boundary=b\r\n\r\n${many(40_000, () => '--b\r\n\r\n')}`,
    fields: many(60_000, () => 'a:\r\n'),
    folded: `Subject: x\r\n${many(80_000, () => ' y\r\n')}`,
    qmail: `From: x\r\n\r\nHi. This is the qmail-send program.\r\n\r\n${'<'.repeat(250_000)}`,
    at: `X-Failed-Recipients: ${'a@'.repeat(120_000)}\r\n\r\n`,
    spaces: `Diagnostic-Code:${' '.repeat(250_000)}x\r\n\r\n`,
    tokens: `From: x\r\n\r\n${'b+aaaaaaaa'.repeat(25_000)}`,
    exchange: `From: x\r\n\r\nDiagnostic information for administrators:\r\n${'a@b '.repeat(60_000)}`,
    boundary: `Content-Type: multipart/mixed; boundary=${'x'.repeat(60_000)}\r\n\r\n${'\r\n--x'.repeat(40_000)}`,
    encoded: `Content-Type: multipart/report; boundary=x\r\n\r\n--x\r\nContent-Type: message/delivery-status\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n${'='.repeat(250_000)}`,
    sections: dsn(Array.from({ length: 30_000 }, () => '\r\nAction: x')),
  };
  for (const [name, text] of Object.entries(hostile)) {
    const head = Buffer.from(text).subarray(0, MAX_REPORT_BYTES);
    const before = process.cpuUsage();
    const { kind } = readReport(head);
    const { user, system } = process.cpuUsage(before);
    assert.ok(kind === 'unparsed' || name === 'at', `${name}: ${kind}`);
    assert.ok(user + system < 50_000, `${name} took ${user + system} µs`);
  }
});

test('any change of octets in a report is read without an error, and leaves bounded results', () => {
  const whole = [
    Buffer.from(dsn(recipient('failed', '5.1.1', 'smtp; 550 5.1.1 no'))),
    Buffer.from(lines(...arf(['Feedback-Type: abuse', 'Original-Rcpt-To: user@example.com']))),
    Buffer.from(lines('X-Failed-Recipients: user@example.com', '', ...EXIM_TEXT)),
  ];
  const change = fc.tuple(fc.nat(), fc.uint8Array({ maxLength: 20 }), fc.nat(30));
  fc.assert(
    fc.property(fc.nat(2), fc.array(change, { maxLength: 6 }), (which, changes) => {
      let head = whole[which] as Buffer;
      for (const [at, octets, gone] of changes) {
        const from = at % (head.length + 1);
        head = Buffer.concat([head.subarray(0, from), octets, head.subarray(from + gone)]);
      }
      const report = readReport(head);
      if (report.kind === 'failed')
        for (const { code, text, addresses } of report.failures) {
          assert.ok(code >= 400 && code < 600 && text.length <= 1000);
          assert.ok(addresses.every((address) => address.length <= 330));
        }
    }),
    { numRuns: 500 },
  );
});
