/** Sessions over TLS on the native reactor: STARTTLS and implicit, client certificates, and what the message says of it. */
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import { afterEach, test } from 'node:test';
import { type ConnectionOptions, connect as tlsConnect } from 'node:tls';
import { makeSelfSigned } from '../../src/native.ts';
import { LOCALHOST, serverSlot } from '../native/tls-rig.ts';
import { ReactorFixture, TcpClient } from './reactor-fixture.ts';

const TRUST = { host: '127.0.0.1', servername: 'localhost', ca: LOCALHOST.certificate };
const CLIENT = makeSelfSigned(['client.example'], 10, 'ecdsa');
const FINGERPRINT = new X509Certificate(CLIENT.certificate).fingerprint256;
const IDENTITY = { cert: CLIENT.certificate, key: CLIENT.key };

let fixture: ReactorFixture;
const sockets: Socket[] = [];
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.destroy();
  return fixture.finish();
});

/** Ended with the test at the latest. */
function kept<T extends Socket>(socket: T): T {
  sockets.push(socket);
  socket.on('error', () => {});
  return socket;
}

function start(listener: object, tls: object = {}, slot = serverSlot()): void {
  const listeners = [{ host: '127.0.0.1', port: 0, ...listener }];
  fixture = new ReactorFixture(
    { listeners, tls: { cert_file: 'loaded-already.pem', ...tls } },
    { host: '127.0.0.1', port: 0 },
    slot,
  );
}

/** A client that speaks TLS from the first byte. */
async function implicit(options: ConnectionOptions = {}): Promise<TcpClient> {
  const socket = kept(tlsConnect({ ...TRUST, port: fixture.port, ...options }));
  await new Promise((done, fail) => socket.once('secureConnect', done).once('error', fail));
  return new TcpClient(socket, fixture);
}

/** A client that has said STARTTLS. */
async function upgraded(options: ConnectionOptions = {}): Promise<TcpClient> {
  const plain = kept(connect(fixture.port, '127.0.0.1'));
  const said = (text: RegExp): Promise<void> =>
    new Promise((done) => {
      let heard = '';
      const listen = (bytes: Buffer): void => {
        heard += bytes.toString('latin1');
        if (text.test(heard)) done(void plain.off('data', listen));
      };
      plain.on('data', listen);
    });
  await said(/^220 .*\r\n$/);
  plain.write('EHLO client.example\r\n');
  await said(/\r\n250 .*\r\n$/);
  plain.write('STARTTLS\r\n');
  await said(/^220 2\.0\.0 Ready to start TLS\r\n$/);
  const socket = kept(tlsConnect({ ...TRUST, socket: plain, ...options }));
  await new Promise((done, fail) => socket.once('secureConnect', done).once('error', fail));
  return new TcpClient(socket, fixture);
}

async function converse(client: TcpClient, ...lines: string[]): Promise<string> {
  let reply = '';
  for (const line of lines) {
    await client.send(`${line}\r\n`);
    reply = await client.reply();
  }
  return reply;
}

const MESSAGE = ['EHLO c.example', 'MAIL FROM:<a@b.example>', 'RCPT TO:<c@d.example>', 'DATA'];

test('implicit TLS: banner, dialog and content are inside; the trace header says so', async () => {
  start({ tls: 'implicit' });
  const client = await implicit();
  assert.match(await client.reply(), /^220 relay\.example\.test /);
  assert.match(await converse(client, 'STARTTLS'), /^503 5\.5\.1 TLS is active/);
  assert.match(await converse(client, ...MESSAGE), /^354/);
  const body = `${'line of a large message, longer than a record\r\n'.repeat(20_000)}.\r\n`;
  await client.send(body);
  assert.match(await client.reply(), /^250 2\.0\.0/);
  const { message, content } = fixture.submitted[0] as (typeof fixture.submitted)[0];
  assert.equal(content, body.slice(0, -3));
  assert.match(
    message.trace,
    /^Received: from c\.example \(\[127\.0\.0\.1\]\)\r\n\t\(using TLSv1\.3 with cipher TLS_\w+\)\r\n\tby relay\.example\.test with ESMTPS id /,
  );
  assert.match(await converse(client, 'QUIT'), /^221/);
  assert.equal(await client.line(), null);
});

test('STARTTLS: the dialog begins anew inside TLS, and is not offered again', async () => {
  start({ tls: 'required' });
  const client = await upgraded();
  assert.match(await converse(client, 'MAIL FROM:<a@b.example>'), /^503 5\.5\.1 Send HELO/);
  await client.send('EHLO again.example\r\n');
  const keywords: string[] = [];
  for (let line = await client.line(); line !== null; line = await client.line()) {
    keywords.push(line);
    if (line[3] === ' ') break;
  }
  assert.ok(!keywords.some((line) => line.includes('STARTTLS')));
  assert.match(await converse(client, ...MESSAGE.slice(1)), /^354/);
  await client.send('x\r\n.\r\n');
  assert.match(await client.reply(), /^250/);
  assert.equal(fixture.submitted[0]?.message.client.protocol, 'ESMTPS');
  assert.equal(fixture.submitted[0]?.message.client.tls?.version, 'TLSv1.3');
});

test('a pipelined dialog with chunks over TLS', async () => {
  start({ tls: 'optional' });
  const client = await upgraded();
  const chunk = 'a line of the chunk\r\n'.repeat(2500);
  await client.send(
    `EHLO c\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nBDAT ${chunk.length}\r\n${chunk}BDAT 2 LAST\r\n\r\nNOOP\r\n`,
  );
  const replies: string[] = [];
  for (let i = 0; i < 6; i++) replies.push((await client.reply()).slice(0, 3));
  assert.deepEqual(replies, ['250', '250', '250', '250', '250', '250']);
  assert.equal(fixture.submitted[0]?.content, `${chunk}\r\n`);
});

test('a client certificate is asked for where the listener says so, and told by the trace header', async () => {
  start(
    { tls: 'implicit', client_certificate: 'optional' },
    {},
    serverSlot({ ca: CLIENT.certificate, namesCa: true }),
  );
  for (const [options, verified] of [
    [IDENTITY, true],
    [{}, false],
  ] as const) {
    const client = await implicit(options);
    assert.match(await client.reply(), /^220/);
    assert.match(await converse(client, ...MESSAGE), /^354/);
    await client.send('x\r\n.\r\n');
    assert.match(await client.reply(), /^250/);
    const { message } = fixture.submitted.at(-1) as (typeof fixture.submitted)[0];
    assert.equal(message.client.tls?.verified, verified);
    assert.equal(message.trace.includes(', client certificate verified)'), verified);
    client.destroy();
  }
});

test('where one is required, none fails the handshake, a stranger’s is refused in words, one on the list is taken', async () => {
  start({ tls: 'implicit', client_certificate: 'required' }, { client_fingerprints: [FINGERPRINT] });
  const bare = kept(tlsConnect({ ...TRUST, port: fixture.port }));
  const alert = await new Promise<NodeJS.ErrnoException>((done) => bare.once('error', done));
  assert.match(alert.message, /certificate.required/);
  const other = makeSelfSigned(['stranger.example'], 10, 'rsa');
  const stranger = await implicit({ cert: other.certificate, key: other.key });
  assert.match(await stranger.reply(), /^554 5\.7\.1 Your client certificate/);
  assert.equal(await stranger.line(), null);
  const listed = await implicit(IDENTITY);
  assert.match(await listed.reply(), /^220/);
  listed.destroy();
});

test('a session made without a certificate does not stand in for one', async () => {
  const slot = serverSlot();
  start({ tls: 'implicit' }, {}, slot);
  const first = kept(tlsConnect({ ...TRUST, port: fixture.port }));
  const ticket = await new Promise<Buffer>((done) => first.once('session', done));
  first.destroy();
  await fixture.finish();
  start({ tls: 'implicit', client_certificate: 'optional' }, { client_fingerprints: [FINGERPRINT] }, slot);
  const again = kept(tlsConnect({ ...TRUST, port: fixture.port, session: ticket, ...IDENTITY }));
  await new Promise((done) => again.once('secureConnect', done));
  assert.equal(again.isSessionReused(), false);
  again.destroy();
});

test('a handshake that comes to nothing ends after its timeout, without a word', async () => {
  start({ tls: 'implicit' }, { handshake_timeout_ms: 100 });
  const socket = kept(connect(fixture.port, '127.0.0.1'));
  let heard = '';
  socket.on('data', (bytes) => {
    heard += bytes.toString('latin1');
  });
  await new Promise((done) => socket.once('close', done));
  assert.equal(heard, '');
  const line = fixture.logged.find(({ event }) => event === 'session.tls_failed');
  assert.equal(line?.fields.reason, 'no handshake in time');
});

test('clear text where TLS is expected gets no answer in the clear, and is logged', async () => {
  start({ tls: 'implicit' });
  const socket = kept(connect(fixture.port, '127.0.0.1'));
  const heard: Buffer[] = [];
  socket.on('data', (bytes) => heard.push(bytes));
  socket.write('EHLO client.example\r\n');
  await new Promise((done) => socket.once('end', done));
  socket.destroy();
  assert.equal(Buffer.concat(heard).toString('latin1'), '');
  assert.match(
    String(fixture.logged.find(({ event }) => event === 'session.tls_failed')?.fields.reason),
    /wrong version number|unexpected|http request/i,
  );
});
