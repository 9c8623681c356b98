import assert from 'node:assert/strict';
import { mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { NOTIFY } from '../../src/mail/envelope.ts';
import type { ScriptedSink, SinkMessage } from '../support/scripted-sink.ts';
import { CONTENT, fates, type JobInput, outcomeOf, startSender, startSink } from './harness.ts';

interface Sent {
  fates: string[];
  message: SinkMessage | undefined;
  sink: ScriptedSink;
  detail: string;
}

/** Sends one job to a peer with the given capabilities. */
async function send(capabilities: string[], input: Partial<JobInput>): Promise<Sent> {
  const sink = await startSink({ capabilities });
  const harness = startSender({ delivery: { smarthost: { host: '127.0.0.1', port: sink.port } } });
  const result = await harness.attempt({ recipients: ['a@x.test'], ...input });
  const outcome = outcomeOf(result);
  const detail = outcome.kind === 'bounced' ? `${outcome.status} ${outcome.detail}` : '';
  harness.stop();
  await sink.stop();
  assert.deepEqual(sink.violations, []);
  return { fates: fates(result), message: sink.messages[0], sink, detail };
}

test('content arrives byte for byte behind the trace, dots and all', async () => {
  const lines = ['.', '..', '.a', 'a.', '', '.'].join('\r\n');
  const content = Buffer.from(`Subject: x\r\n\r\n${lines}\r\n`);
  const { message } = await send(['PIPELINING'], { content });
  assert.deepEqual(message?.content, Buffer.concat([Buffer.from('Received: from test\r\n'), content]));
});

test('an empty content and one of several chunks arrive whole', async () => {
  for (const content of ['', 'x'.repeat(100).concat('\r\n').repeat(5000)]) {
    const { message } = await send(['PIPELINING'], { content, trace: '' });
    assert.equal(message?.content.toString(), content);
  }
});

test('a peer without PIPELINING gets one command at a time', async () => {
  // The sink counts a violation otherwise.
  const { fates, message } = await send([], { recipients: ['a@x.test', 'b@x.test', 'c@x.test'] });
  assert.deepEqual(fates, ['delivered', 'delivered', 'delivered']);
  assert.equal(message?.recipients.length, 3);
});

test('SIZE tells the length of trace and content when offered', async () => {
  const expected = `SIZE=${CONTENT.length + 'Received: from test\r\n'.length}`;
  assert.deepEqual((await send(['SIZE'], {})).message?.fromParams, [expected]);
  assert.deepEqual((await send(['SIZE 0'], {})).message?.fromParams, [expected]);
  assert.deepEqual((await send(['PIPELINING'], {})).message?.fromParams, []);
});

test('a message larger than the SIZE offered bounces 5.3.4 without MAIL', async () => {
  const { fates, detail, sink } = await send(['SIZE 40'], {});
  assert.deepEqual(fates, ['bounced message_too_big']);
  assert.match(detail, /^5\.3\.4 51 bytes; the next hop takes 40/);
  assert.equal(sink.commands.length, 1);
});

test('8BITMIME is passed on when offered', async () => {
  const { message } = await send(['8BITMIME'], { body: '8BITMIME', content: 'A: ü\r\n\r\nü\r\n' });
  assert.deepEqual(message?.fromParams, ['BODY=8BITMIME']);
});

test('without 8BITMIME content that is all ASCII goes without the parameter, other content bounces 5.6.3', async () => {
  const ascii = await send([], { body: '8BITMIME' });
  assert.deepEqual(ascii.fates, ['delivered']);
  assert.deepEqual(ascii.message?.fromParams, []);
  const eight = await send([], { body: '8BITMIME', content: `A: b\r\n\r\n${'x'.repeat(70_000)}\r\nü\r\n` });
  assert.deepEqual(eight.fates, ['bounced needs_8bitmime']);
  assert.match(eight.detail, /^5\.6\.3/);
});

test('content in a file is looked through and sent from its offset', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'offers-'));
  const path = join(folder, 'bundle');
  const ascii = `Subject: big\r\n\r\n${'.line\r\n'.repeat(50_000)}`;
  const eight = `${ascii}\u00fc\r\n`;
  writeFileSync(path, `\u00fcbefore${eight}behind`);
  const lengthOf = (text: string) => Buffer.byteLength(text);
  // The arena takes the descriptor over.
  const file = (text: string) => ({ fd: openSync(path, 'r'), offset: 8, lengthBytes: lengthOf(text) });
  const plain = await send(['PIPELINING'], { body: '8BITMIME', file: file(ascii), trace: '' });
  assert.deepEqual(plain.fates, ['delivered']);
  assert.equal(plain.message?.content.equals(Buffer.from(ascii)), true);
  const lacking = await send(['PIPELINING'], { body: '8BITMIME', file: file(eight) });
  assert.deepEqual(lacking.fates, ['bounced needs_8bitmime']);
  const offered = await send(['8BITMIME'], { body: '8BITMIME', file: file(eight), trace: '' });
  assert.equal(offered.message?.content.equals(Buffer.from(eight)), true);
  rmSync(folder, { recursive: true });
});

test('binary content goes by BDAT when CHUNKING and BINARYMIME are offered, else it bounces 5.6.3', async () => {
  const content = Buffer.from('A: b\r\n\r\n\0\n\r.\r\n.\r\n\xff no line end', 'latin1');
  const both = await send(['PIPELINING', 'CHUNKING', 'BINARYMIME'], { body: 'BINARYMIME', content });
  assert.deepEqual(both.fates, ['delivered']);
  assert.equal(both.message?.via, 'BDAT');
  assert.deepEqual(both.message?.fromParams, ['BODY=BINARYMIME']);
  assert.deepEqual(both.message?.content, Buffer.concat([Buffer.from('Received: from test\r\n'), content]));
  for (const capabilities of [['CHUNKING', '8BITMIME'], ['BINARYMIME']]) {
    const one = await send(capabilities, { body: 'BINARYMIME', content });
    assert.deepEqual(one.fates, ['bounced needs_binarymime']);
    assert.match(one.detail, /^5\.6\.3/);
  }
});

test('BDAT is not sent when every recipient was refused', async () => {
  const { fates, sink } = await send(['PIPELINING', 'CHUNKING', 'BINARYMIME'], {
    body: 'BINARYMIME',
    recipients: ['bounce-550@x.test'],
  });
  assert.deepEqual(fates, ['bounced peer_5xx']);
  assert.equal(
    sink.commands.some((line) => line.includes('BDAT')),
    false,
  );
});

const UTF8 = ['PIPELINING', '8BITMIME', 'SMTPUTF8'];

test('SMTPUTF8 is passed on with the addresses as they are', async () => {
  const { message } = await send(UTF8, {
    smtpUtf8: true,
    body: '8BITMIME',
    from: 'grüße@from.test',
    recipients: ['用户@例子.测试'],
  });
  assert.equal(message?.from, 'grüße@from.test');
  assert.deepEqual(message?.recipients[0]?.address, '用户@例子.测试');
  assert.deepEqual(message?.fromParams, ['BODY=8BITMIME', 'SMTPUTF8']);
});

test('without SMTPUTF8 a message that does not need it is sent without', async () => {
  const { fates, message } = await send([], { smtpUtf8: true });
  assert.deepEqual(fates, ['delivered']);
  assert.deepEqual(message?.fromParams, []);
});

test('without SMTPUTF8 only recipients whose local part needs it bounce 5.6.7; a domain becomes A-labels', async () => {
  const { fates, message } = await send(['PIPELINING'], {
    smtpUtf8: true,
    recipients: ['a@x.test', 'grüße@x.test', 'b@bücher.test'],
  });
  assert.deepEqual(fates, ['delivered', 'bounced needs_smtputf8', 'delivered']);
  assert.deepEqual(
    message?.recipients.map(({ address }) => address),
    ['a@x.test', 'b@xn--bcher-kva.test'],
  );
});

test('without SMTPUTF8 a sender or header section that needs it bounces the message 5.6.7', async () => {
  for (const input of [{ from: 'ü@from.test' }, { content: 'Subject: ü\r\n\r\nbody\r\n' }]) {
    const { fates, detail } = await send(['8BITMIME'], { smtpUtf8: true, ...input });
    assert.deepEqual(fates, ['bounced needs_smtputf8']);
    assert.match(detail, /^5\.6\.7/);
  }
  const body = await send(['8BITMIME'], { smtpUtf8: true, body: '8BITMIME', content: 'A: b\r\n\r\nü\r\n' });
  assert.deepEqual(body.fates, ['delivered']);
});

test('DSN parameters are passed on when offered, and not otherwise', async () => {
  const input: Partial<JobInput> = {
    ret: 'HDRS',
    envid: 'QQ314159',
    recipients: [
      { address: 'a@x.test', notify: NOTIFY.success | NOTIFY.delay, orcpt: 'rfc822;A+2Bb@x.test' },
      { address: 'b@x.test', notify: NOTIFY.never },
      'c@x.test',
      { address: 'd@x.test', notify: NOTIFY.success | NOTIFY.failure | NOTIFY.delay },
    ],
  };
  const offered = await send(['PIPELINING', 'DSN'], input);
  assert.deepEqual(offered.message?.fromParams, ['RET=HDRS', 'ENVID=QQ314159']);
  assert.deepEqual(
    offered.message?.recipients.map(({ params }) => params),
    [
      ['NOTIFY=SUCCESS,DELAY', 'ORCPT=rfc822;A+2Bb@x.test'],
      ['NOTIFY=NEVER'],
      [],
      ['NOTIFY=SUCCESS,FAILURE,DELAY'],
    ],
  );
  const lacking = await send(['PIPELINING'], input);
  assert.deepEqual(lacking.message?.fromParams, []);
  assert.deepEqual(lacking.message?.recipients[0]?.params, []);
});

test('an internationalized ORCPT is written in ASCII where SMTPUTF8 is not in use', async () => {
  const recipients = [{ address: 'a@x.test', orcpt: 'utf-8;ü@x.test' }];
  const { message } = await send(['DSN'], { smtpUtf8: true, recipients });
  assert.deepEqual(message?.recipients[0]?.params, ['ORCPT=utf-8;\\x{FC}@x.test']);
});

test('10,000 recipients go in transactions of the configured size, each recipient once', async () => {
  const sink = await startSink({ capabilities: ['PIPELINING'], keepContent: false });
  const harness = startSender({ delivery: { smarthost: { host: '127.0.0.1', port: sink.port } } });
  const recipients = Array.from({ length: 10_000 }, (_, i) => `user${i}@x.test`);
  const result = await harness.attempt({ recipients });
  assert.deepEqual(new Set(fates(result)), new Set(['delivered']));
  assert.equal(fates(result).length, 10_000);
  assert.deepEqual(
    sink.messages.map((message) => message.recipients.length),
    Array(10).fill(1000),
  );
  const seen = sink.messages.flatMap((message) => message.recipients.map(({ address }) => address));
  assert.deepEqual(seen, recipients);
  assert.equal(sink.connections, 1);
  harness.stop();
  await sink.stop();
});

test('recipients called too many go in further transactions on the same connection', async () => {
  for (const capabilities of [['PIPELINING'], []]) {
    const sink = await startSink({ capabilities, maxRecipients: 3 });
    const harness = startSender({ delivery: { smarthost: { host: '127.0.0.1', port: sink.port } } });
    const recipients = Array.from({ length: 10 }, (_, i) => `user${i}@x.test`);
    const result = await harness.attempt({ recipients });
    assert.deepEqual(new Set(fates(result)), new Set(['delivered']));
    const seen = sink.messages.flatMap((message) => message.recipients.map(({ address }) => address));
    assert.deepEqual(seen.sort(), recipients);
    assert.equal(sink.connections, 1);
    // The limit is known after the first transaction.
    assert.equal(sink.commands.filter((line) => line.includes('RCPT')).length <= 17, true);
    harness.stop();
    await sink.stop();
  }
});

test('too many recipients, without any accepted, is a deferral', async () => {
  const { fates } = await send(['PIPELINING'], { recipients: ['452-at-rcpt@x.test'] });
  assert.deepEqual(fates, ['deferred peer_4xx']);
});

test('when the connection is lost in the content, recipients called too many are not lost or sent twice', async () => {
  const sink = await startSink({ capabilities: ['PIPELINING'], maxRecipients: 2 });
  const harness = startSender({ delivery: { smarthost: { host: '127.0.0.1', port: sink.port } } });
  const result = await harness.attempt({
    recipients: ['once-drop-at-dot@x.test', 'b@x.test', 'c@x.test', 'd@x.test', 'e@x.test'],
  });
  assert.deepEqual(fates(result), [
    'deferred connection_lost',
    'deferred connection_lost',
    'delivered',
    'delivered',
    'delivered',
  ]);
  const seen = sink.messages.flatMap((message) => message.recipients.map(({ address }) => address));
  assert.deepEqual(seen.sort(), ['c@x.test', 'd@x.test', 'e@x.test']);
  harness.stop();
  await sink.stop();
});
