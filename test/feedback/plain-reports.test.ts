/** Reports in plain words: what mail systems write where they follow no form, and what only looks like it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readReport } from '../../src/feedback/report-reader.ts';
import { growth } from '../support/growth.ts';

const SYSTEM = 'From: Mail Delivery System <MAILER-DAEMON@mx.test>';
const read = (fields: string[], ...body: string[]) =>
  readReport(Buffer.from(`${[...fields, '', ...body].join('\r\n')}\r\n`));

/** 'address: code text' of each failure; or the kind. */
function said(fields: string[], ...body: string[]): string[] | string {
  const report = read(fields, ...body);
  if (report.kind !== 'failed') return report.kind;
  return report.failures.map(({ addresses, code, text }) => `${addresses.join(' ')}: ${code} ${text}`);
}

test('an address in brackets with its reason behind it, up to the copy of our message', () => {
  assert.deepEqual(
    said(
      [SYSTEM],
      'The message returned below could not be delivered to one or more destinations.',
      'For help write to <postmaster@mx.test>.',
      '',
      '<first@one.test>: host mx.one.test said: 550 5.1.1',
      '    unknown user (in reply to RCPT)',
      '',
      '<second@two.test>: mailbox is full',
      '',
      '--- Original message follows.',
      'To: third@three.test',
      '<fourth@four.test>: was quoted',
    ),
    [
      'first@one.test: 550 unknown user (in reply to RCPT)',
      'second@two.test: 550 <second@two.test>: mailbox is full',
    ],
  );
});

test('lists of addresses, and words of other programs', () => {
  const address = (...body: string[]) => {
    const report = read([SYSTEM], ...body);
    return report.kind === 'failed' ? report.failures.flatMap(({ addresses }) => addresses) : report.kind;
  };
  assert.deepEqual(
    address(
      '----- The following addresses had permanent fatal errors -----',
      'a@one.test',
      '    (expanded from: b@one.test)',
    ),
    ['a@one.test', 'b@one.test'],
  );
  assert.deepEqual(
    address(
      'Your message',
      '  To:      list@shop.test',
      'did not reach the following recipient(s):',
      'a@one.test on Fri',
    ),
    ['a@one.test'],
  );
  assert.deepEqual(address('was not delivered to:', '  SMTP=a@one.test', 'because: it is not listed.'), [
    'a@one.test',
  ]);
  assert.deepEqual(address('Unable to deliver your mail to a@one.test.'), ['a@one.test']);
});

test('HTML alone, and a status part that says nothing', () => {
  assert.deepEqual(
    said(
      [SYSTEM, 'Content-Type: text/html'],
      '<p>Delivery to this recipient has failed:<br>&lt;a@one.test&gt; 550 5.2.2 quota exceeded</p>',
    ),
    ['a@one.test: 550 quota exceeded'],
  );
  assert.deepEqual(
    said(
      [SYSTEM, 'Content-Type: multipart/report; boundary=b'],
      '--b',
      '',
      'Delivery to the following recipients failed permanently:',
      '  * a@one.test',
      '--b',
      'Content-Type: message/delivery-status',
      '',
      'Reporting-MTA: dns; mx.test',
      '--b--',
    ),
    ['a@one.test: 550 * a@one.test'],
  );
});

test('what is late, what people or their machines write, and what names nobody is no failure', () => {
  const late = 'could not be delivered yet; no action is required, attempts will continue.';
  assert.equal(said([SYSTEM], 'Your message to a@one.test', late), 'unparsed');
  const away = ['From: a@one.test', 'Subject: Re: spring', 'Auto-Submitted: auto-replied'];
  assert.equal(said(away, 'I cannot be reached; mail to b@one.test was not delivered.'), 'auto_reply');
  assert.equal(
    said(['From: a@one.test', 'Subject: hello'], 'It was not delivered to b@one.test'),
    'unparsed',
  );
  assert.equal(said([SYSTEM], 'Your message was not delivered.'), 'unparsed');
  assert.equal(said([SYSTEM], 'All is well with a@one.test'), 'unparsed');
});

test('time is linear in the report', () => {
  for (const pump of ['a@b ', '<', 'could not be ', 'x', '\r\n', 'delivery ', '--- ', '&lt;'])
    for (const type of ['text/plain', 'text/html']) {
      const ratio = growth((octets) => {
        const head = Buffer.from(
          `${SYSTEM}\r\nContent-Type: ${type}\r\n\r\n${pump.repeat(octets / pump.length)}`,
        );
        return () => void readReport(head);
      }, 20_000);
      assert.ok(ratio < 3.5, `${ratio} times for twice of ${JSON.stringify(pump)} as ${type}`);
    }
});
