/** A real relay between clients nobody here wrote and a sink that records every byte. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { createTransport } from 'nodemailer';
import { run } from '../support/child.ts';
import { programPath, skipWithout } from '../support/programs.ts';
import { RelayFixture } from '../support/relay-fixture.ts';
import { ScriptedSink, type SinkMessage } from '../support/scripted-sink.ts';

let sink: ScriptedSink;
let relay: RelayFixture;
let dir: string;

before(async () => {
  dir = mkdtempSync(join(tmpdir(), 'protorelay-clients-'));
  sink = await ScriptedSink.start();
  relay = await RelayFixture.start({ delivery: { smarthost: { host: '127.0.0.1', port: sink.port } } });
});

after(async () => {
  await relay?.destroy();
  await sink?.stop();
  rmSync(dir, { recursive: true, force: true });
});

/** The messages that arrived since `from`, once there are `count`. */
async function arrived(from: number, count: number): Promise<SinkMessage[]> {
  await sink.received(from + count);
  return sink.messages.slice(from);
}

/** Content without the trace header we put before it. */
function relayed(message: SinkMessage): string {
  const text = message.content.toString('utf8');
  const match = /^Received: [^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*/.exec(text);
  assert.ok(match, `no Received header at the top:\n${text.slice(0, 400)}`);
  return text.slice(match[0].length);
}

const options = (...programs: string[]) => ({ timeout: 60_000, skip: skipWithout(...programs) });

test('swaks: a message with an attachment arrives', options('swaks'), async () => {
  const from = sink.messages.length;
  const ran = await run('swaks', [
    ...[
      '--server',
      `127.0.0.1:${relay.port}`,
      '--from',
      'swaks@client.test',
      '--to',
      'a@swaks.test,b@swaks.test',
    ],
    ...[
      '--header',
      'Subject: from swaks',
      '--body',
      'line one\n.line two\n..line three',
      '--attach',
      '@/etc/hostname',
    ],
    ...['--ehlo', 'swaks.client.test'],
  ]);
  assert.equal(ran.code, 0, ran.stdout + ran.stderr);
  const [message] = (await arrived(from, 1)) as [SinkMessage];
  assert.equal(message.from, 'swaks@client.test');
  assert.deepEqual(message.recipients.map((recipient) => recipient.address).sort(), [
    'a@swaks.test',
    'b@swaks.test',
  ]);
  const content = relayed(message);
  assert.match(content, /\r\nSubject: from swaks\r\n/);
  assert.match(content, /\r\nline one\r\n\.line two\r\n\.\.line three\r\n/);
});

test('swaks pipelining all commands gets one message through', options('swaks'), async () => {
  const from = sink.messages.length;
  const ran = await run('swaks', [
    ...[
      '--server',
      `127.0.0.1:${relay.port}`,
      '--from',
      'p@client.test',
      '--to',
      'pipe@swaks.test',
      '--pipeline',
    ],
    ...['--header', 'Subject: pipelined', '--hide-all'],
  ]);
  assert.equal(ran.code, 0, ran.stdout + ran.stderr);
  const [message] = (await arrived(from, 1)) as [SinkMessage];
  assert.match(relayed(message), /Subject: pipelined/);
});

test('smtp-source: 300 messages over 20 connections arrive once each', options('smtp-source'), async () => {
  const from = sink.messages.length;
  const ran = await run(programPath('smtp-source') as string, [
    ...['-s', '20', '-m', '300', '-l', '3000', '-d', '-N'],
    ...['-f', 'source@client.test', '-t', 'target@source.test', `127.0.0.1:${relay.port}`],
  ]);
  assert.equal(ran.code, 0, ran.stderr);
  const messages = await arrived(from, 300);
  assert.equal(messages.length, 300);
  assert.equal(
    new Set(messages.map((message) => message.recipients[0]?.address)).size,
    300,
    'a copy replaced another',
  );
});

test('smtp-source: a new connection for each message', options('smtp-source'), async () => {
  const from = sink.messages.length;
  const ran = await run(programPath('smtp-source') as string, [
    ...['-s', '10', '-m', '100', '-l', '1000', '-N', '-f', 'source@client.test', '-t', 'percon@source.test'],
    `127.0.0.1:${relay.port}`,
  ]);
  assert.equal(ran.code, 0, ran.stderr);
  assert.equal((await arrived(from, 100)).length, 100);
});

test('curl: a file sent with smtp:// arrives byte for byte', options('curl'), async () => {
  const from = sink.messages.length;
  const path = join(dir, 'mail.txt');
  const mail = `Subject: from curl\r\nTo: <c@curl.test>\r\n\r\n.dot first\r\n${'x'.repeat(900)}\r\nlast line\r\n`;
  writeFileSync(path, mail);
  const ran = await run('curl', [
    ...['--silent', '--show-error', '--url', `smtp://127.0.0.1:${relay.port}/curl.client.test`],
    ...['--mail-from', 'curl@client.test', '--mail-rcpt', 'c@curl.test', '--upload-file', path],
  ]);
  assert.equal(ran.code, 0, ran.stderr);
  const [message] = (await arrived(from, 1)) as [SinkMessage];
  assert.equal(relayed(message), mail);
});

test('Python smtplib: SMTPUTF8 and a refused recipient among good ones', options('python3'), async () => {
  const from = sink.messages.length;
  const script = `
import smtplib, sys
from email.message import EmailMessage
s = smtplib.SMTP('127.0.0.1', ${relay.port}, local_hostname='python.client.test')
m = EmailMessage()
m['From'] = 'pythön@client.test'; m['To'] = 'grün@python.test'; m['Subject'] = 'Grüße'
m.set_content('Hallo, Welt: äöü')
s.send_message(m)
refused = s.sendmail('p@client.test', ['ok@python.test', 'no-domain-literal@[bad]'], 'Subject: two\\r\\n\\r\\nbody\\r\\n')
assert list(refused) == ['no-domain-literal@[bad]'], refused
s.quit()
`;
  const ran = await run('python3', ['-c', script]);
  assert.equal(ran.code, 0, ran.stderr);
  const messages = await arrived(from, 2);
  const utf8 = messages.find((message) => message.recipients[0]?.address === 'grün@python.test');
  assert.ok(utf8, 'the internationalized message did not arrive');
  assert.ok(utf8.fromParams.includes('SMTPUTF8'), `MAIL parameters: ${utf8.fromParams}`);
  assert.match(relayed(utf8), /Grüße/);
  const two = messages.find((message) => message.recipients[0]?.address === 'ok@python.test');
  assert.equal(two?.recipients.length, 1);
});

test('nodemailer: pooled connections with HTML, attachment and DSN request', {
  timeout: 60_000,
}, async () => {
  const from = sink.messages.length;
  const transport = createTransport({
    host: '127.0.0.1',
    port: relay.port,
    secure: false,
    ignoreTLS: true,
    pool: true,
    maxConnections: 5,
  });
  const send = (index: number) =>
    transport.sendMail({
      from: 'node@client.test',
      to: `n${index}@node.test`,
      subject: `from nodemailer ${index}`,
      html: '<p>ünïcode</p>',
      attachments: [{ filename: 'blob.bin', content: Buffer.alloc(100_000, index) }],
      dsn: {
        id: `id${index}`,
        return: 'headers',
        notify: ['failure', 'delay'],
        recipient: 'node@client.test',
      },
    });
  await Promise.all(Array.from({ length: 20 }, (_, index) => send(index)));
  transport.close();
  const messages = await arrived(from, 20);
  for (const message of messages) {
    assert.ok(
      message.fromParams.some((parameter) => parameter === 'RET=HDRS'),
      String(message.fromParams),
    );
    assert.ok(
      message.fromParams.some((parameter) => parameter.startsWith('ENVID=id')),
      String(message.fromParams),
    );
    assert.match(String(message.recipients[0]?.params), /NOTIFY=FAILURE,DELAY/);
    const index = Number(/^n(\d+)@/.exec(message.recipients[0]?.address ?? '')?.[1]);
    const encoded =
      /filename=blob\.bin[\s\S]*?\r\n\r\n([A-Za-z0-9+/=\r\n]+)/.exec(relayed(message))?.[1] ?? '';
    assert.ok(
      Buffer.from(encoded, 'base64').equals(Buffer.alloc(100_000, index)),
      `attachment of message ${index}`,
    );
  }
});

test(
  'smtp-sink as the next hop takes what smtp-source sent',
  options('smtp-source', 'smtp-sink'),
  async (t) => {
    const { startSmtpSink } = await import('../../bench/lib/servers.ts');
    const peer = await startSmtpSink(500);
    t.after(() => peer.stop());
    const second = await RelayFixture.start({
      delivery: { smarthost: { host: '127.0.0.1', port: peer.port } },
    });
    t.after(() => second.destroy());
    const ran = await run(programPath('smtp-source') as string, [
      ...['-s', '10', '-m', '500', '-l', '20000', '-d', '-f', 'source@client.test', '-t', 'x@sink.test'],
      `127.0.0.1:${second.port}`,
    ]);
    assert.equal(ran.code, 0, ran.stderr);
    // smtp-sink ends by itself when it has 500 messages.
    assert.equal((await peer.ended).code, 0);
  },
);
