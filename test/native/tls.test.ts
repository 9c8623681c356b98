import assert from 'node:assert/strict';
import { closeSync, openSync, writeFileSync } from 'node:fs';
import { createConnection, type Socket } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { connect as tlsConnect } from 'node:tls';
import { makeSelfSigned, TLS_VERIFY, tlsSlot } from '../../src/native.ts';
import { stuffContent } from '../../src/protocol/scan.ts';
import { Rig, RULES, turns } from './rig.ts';
import { clientSlot, connected, facts, LOCALHOST, LOCALHOST_PAIR, secured, serverSlot } from './tls-rig.ts';

let rig: Rig;
beforeEach(() => {
  rig = new Rig({ holdAfterVerbs: false });
});
afterEach(() => rig.close());

const slots = { server: serverSlot(), client: clientSlot() };
const EMPTY = Buffer.alloc(0);

/** Sends a content from the client's end; what the server's end made of it. */
async function roundTrip(pair: { client: number; server: number }, handle: number): Promise<Buffer> {
  rig.reactor.expectData(pair.server, { ...RULES, maxBytes: 1 << 28 });
  rig.reactor.sendContent(pair.client, EMPTY, handle, true);
  const from = rig.seen.length;
  rig.reactor.flush();
  await rig.until(() => rig.seen.slice(from).some(({ kind }) => kind === 'content'));
  const content = rig.seen.slice(from).find(({ kind }) => kind === 'content');
  await rig.until(() => rig.seen.slice(from).some(({ kind }) => kind === 'sent'));
  const bytes = rig.content(content?.a ?? -1);
  rig.arena.release(content?.a ?? -1);
  rig.reactor.expectLines(pair.server);
  rig.reactor.flush();
  return bytes;
}

test('both ends learn version, cipher and what the certificate is worth', async () => {
  const { clientFacts } = await secured(rig, slots);
  assert.equal(clientFacts.version, 'TLSv1.3');
  assert.match(clientFacts.cipher, /^TLS_/);
  assert.equal(clientFacts.verify, 0);
  assert.equal(clientFacts.subject, 'CN=localhost');
  assert.match(clientFacts.fingerprint, /^[0-9a-f]{64}$/);
  const server = facts(rig.of('secured').find(({ text }) => text.includes(' 0 0 - ')));
  assert.match(server.binding, /^[0-9a-f]{64}$/);
  assert.equal(clientFacts.binding, server.binding, 'both ends know the same channel');
});

test('lines go both ways, several in one turn and split at every byte', async () => {
  const { client, server } = await secured(rig, slots);
  const text = 'EHLO a\r\nMAIL FROM:<a@b>\r\n\r\nRCPT\r\n';
  for (let at = 0; at <= text.length; at++) {
    const from = rig.seen.length;
    rig.reactor.sendLatin1(client, text.slice(0, at));
    rig.reactor.flush();
    await turns();
    rig.reactor.sendLatin1(client, text.slice(at));
    rig.reactor.flush();
    await rig.until(() => rig.seen.slice(from).filter(({ kind }) => kind === 'line').length === 4);
    const lines = rig.seen.slice(from).filter(({ kind }) => kind === 'line');
    assert.deepEqual(
      lines.map((event) => event.text),
      ['EHLO a', 'MAIL FROM:<a@b>', '', 'RCPT'],
    );
  }
  for (let i = 0; i < 300; i++) rig.reactor.sendLatin1(server, `250 line ${i}\r\n`);
  const from = rig.seen.length;
  rig.reactor.flush();
  await rig.until(() => rig.seen.slice(from).length === 300);
  assert.equal(rig.seen.at(-1)?.text, '250 line 299');
});

test('a flood of short lines in few records is read to its end', async () => {
  const { client } = await secured(rig, slots);
  const from = rig.seen.length;
  for (let i = 0; i < 20; i++) rig.reactor.sendLatin1(client, 'X\r\n'.repeat(5000));
  rig.reactor.flush();
  await rig.until(() => rig.seen.length - from === 100_000);
});

test('content of every size arrives byte for byte, what was sent behind it too', async () => {
  const pair = await secured(rig, slots);
  const dots = '.\r\n..\r\n.a\r\n'.repeat(2000);
  const long = `${'m'.repeat(76)}\r\n`;
  const inputs = [
    '',
    '.',
    'no end',
    dots,
    `${'x'.repeat(16_384)}\r\n`,
    long.repeat(13_500),
    long.repeat(60_000),
  ];
  for (const input of inputs) {
    const handle = rig.arena.store(Buffer.from(input));
    const complete = input === '' || input.endsWith('\r\n') ? input : `${input}\r\n`;
    const bytes = await roundTrip(pair, handle);
    assert.ok(bytes.equals(Buffer.from(complete)), `${input.length} bytes: ${input.slice(0, 20)}`);
    rig.arena.release(handle);
  }
  rig.reactor.expectData(pair.server, RULES);
  const from = rig.seen.length;
  rig.reactor.sendLatin1(pair.client, 'body\r\n.\r\nNEXT\r\n');
  rig.reactor.flush();
  await rig.until(() => rig.seen.slice(from).some(({ kind }) => kind === 'content'));
  rig.arena.release(rig.seen.slice(from).find(({ kind }) => kind === 'content')?.a ?? -1);
  rig.reactor.expectLines(pair.server);
  rig.reactor.flush();
  await rig.until(() => rig.lines().includes('NEXT'));
});

test('chunks are counted over records, whatever follows them', async () => {
  const pair = await secured(rig, slots);
  const body = 'y'.repeat(100_000);
  rig.reactor.expectChunk(pair.server, body.length, true, RULES);
  rig.reactor.sendLatin1(pair.client, `${body}BDAT 5 LAST\r\n`);
  rig.reactor.flush();
  const content = await rig.event('content');
  assert.equal(rig.content(content.a).toString(), body);
  rig.arena.release(content.a);
  rig.reactor.expectLines(pair.server);
  rig.reactor.flush();
  await rig.until(() => rig.lines().includes('BDAT 5 LAST'));
});

test('content in a file goes out over TLS', async () => {
  const pair = await secured(rig, slots);
  const path = join(rig.spillDir, 'content');
  const text = `.${'d'.repeat(70)}\r\n`.repeat(12_000);
  writeFileSync(path, text);
  const handle = rig.arena.storeFile(openSync(path, 'r'), 0, text.length);
  const bytes = await roundTrip(pair, handle);
  assert.ok(bytes.equals(Buffer.from(text)));
  rig.arena.release(handle);
  closeSync(openSync(path, 'w'));
});

test('content that the peer does not read waits, and arrives whole once it reads', async () => {
  const { port } = rig.acceptor;
  const socket = tlsConnect({ port, host: '127.0.0.1', ca: LOCALHOST.certificate, servername: 'localhost' });
  socket.on('error', () => {});
  const opened = await rig.event('opened');
  rig.reactor.secure(opened.connection, slots.server, TLS_VERIFY.none, '', '');
  rig.reactor.flush();
  await rig.event('secured');
  socket.pause();
  const text = `.${'z'.repeat(70)}\r\n`.repeat(90_000);
  const handle = rig.arena.store(Buffer.from(text));
  rig.reactor.sendContent(opened.connection, EMPTY, handle, true);
  rig.reactor.sendLatin1(opened.connection, 'after\r\n');
  rig.reactor.flush();
  rig.arena.release(handle);
  await turns(20);
  assert.equal(rig.of('sent').length, 0, 'it is not with the kernel yet');
  const parts: Buffer[] = [];
  socket.on('data', (bytes) => parts.push(bytes));
  socket.resume();
  await rig.event('sent');
  const wanted = Buffer.concat([stuffContent(Buffer.from(text)), Buffer.from('after\r\n')]);
  while (parts.reduce((sum, part) => sum + part.length, 0) < wanted.length) await turns();
  assert.ok(Buffer.concat(parts).equals(wanted));
  socket.destroy();
});

test('what was sent in the clear behind the request for TLS is forgotten', async () => {
  await rig.close();
  rig = new Rig();
  const client = await rig.client();
  await client.write('STARTTLS\r\nMAIL FROM:<injected@example.test>\r\nRCPT TO:<a@b>\r\n');
  assert.deepEqual(rig.lines(), ['STARTTLS']);
  rig.reactor.sendLatin1(client.id, '220 go\r\n');
  rig.reactor.secure(client.id, slots.server, TLS_VERIFY.none, '', '');
  rig.reactor.flush();
  await client.gather(8);
  client.socket.removeAllListeners('data');
  const socket = tlsConnect({ socket: client.socket, ca: LOCALHOST.certificate, servername: 'localhost' });
  await new Promise((done) => socket.once('secureConnect', done));
  socket.write('EHLO safe\r\n');
  await rig.until(() => rig.lines().length === 2);
  assert.deepEqual(rig.lines(), ['STARTTLS', 'EHLO safe']);
  socket.destroy();
});

test('sessions are resumed time and again, also by another context, and not beyond a change of trust', async () => {
  const client = clientSlot();
  const server = serverSlot();
  /** Tickets of TLS 1.3 come after the handshake, with the first thing the client reads. */
  async function resumed(over: { server?: number; verify?: number; key?: string } = {}): Promise<boolean> {
    const { server: at = server, ...rest } = over;
    const pair = await secured(rig, { server: at, client }, { key: 'a', ...rest });
    rig.reactor.sendLatin1(pair.server, '220 hello\r\n');
    const from = rig.lines().length;
    rig.reactor.flush();
    await rig.until(() => rig.lines().length > from);
    assert.equal(pair.clientFacts.verify, 0);
    return pair.clientFacts.resumed;
  }
  assert.equal(await resumed(), false);
  assert.equal(await resumed(), true);
  assert.equal(await resumed(), true);
  // A context of another thread or process with the same secret takes the ticket, one with another does not.
  assert.equal(await resumed({ server: serverSlot() }), true);
  assert.equal(await resumed({ server: serverSlot({ ticketSecret: Buffer.alloc(32, 1) }) }), false);
  assert.equal(await resumed({ verify: TLS_VERIFY.ask }), false);
  assert.equal(await resumed({ key: 'b' }), false);
});

test('TLS 1.2 resumes by ticket', async () => {
  const rules = { port: rig.acceptor.port, host: '127.0.0.1', servername: 'localhost' };
  let session: Buffer | undefined;
  for (const expected of [false, true, true]) {
    const from = rig.of('opened').length;
    const before = { ca: LOCALHOST.certificate, ...(session === undefined ? {} : { session }) };
    const socket = tlsConnect({ ...rules, maxVersion: 'TLSv1.2', ...before });
    const done = new Promise((resolve) => socket.once('secureConnect', resolve));
    const opened = await rig.event('opened', from + 1);
    rig.reactor.secure(opened.connection, slots.server, TLS_VERIFY.none, '', '');
    rig.reactor.flush();
    await done;
    assert.equal(socket.isSessionReused(), expected);
    session = socket.getSession();
    socket.destroy();
  }
});

test('a server without sessions gives no tickets', async () => {
  const pair = { server: serverSlot({ sessionSeconds: 0 }), client: clientSlot() };
  for (let i = 0; i < 2; i++) {
    const { server, clientFacts } = await secured(rig, pair, { key: 'none' });
    assert.equal(clientFacts.resumed, false);
    rig.reactor.sendLatin1(server, `220 ${i}\r\n`);
    rig.reactor.flush();
    await rig.until(() => rig.lines().at(-1) === `220 ${i}`);
  }
});

test('a session that comes with a great deal of certificates is not kept', async () => {
  const more = Array.from({ length: 45 }, (_, i) => makeSelfSigned([`ca${i}.test`], 1, 'ecdsa').certificate);
  const chain = LOCALHOST.certificate + more.join('');
  const pair = { server: serverSlot({ certificates: [{ ...LOCALHOST_PAIR, chain }] }), client: clientSlot() };
  for (let i = 0; i < 2; i++) {
    const { server, clientFacts } = await secured(rig, pair, { key: 'long' });
    assert.equal(clientFacts.resumed, false);
    rig.reactor.sendLatin1(server, `220 ${i}\r\n`);
    rig.reactor.flush();
    await rig.until(() => rig.lines().at(-1) === `220 ${i}`);
  }
});

test('authorities that are read later vouch as others do, for several connections; what is no certificate vouches for none', async () => {
  const { server } = slots;
  const late = { server, client: clientSlot({ caLater: true }) };
  for (let i = 0; i < 3; i++) assert.equal((await secured(rig, late)).clientFacts.verify, 0);
  await assert.rejects(secured(rig, late, { name: 'other.test' }), /hostname|alert/i);
  for (const ca of ['', 'no certificate', makeSelfSigned(['other.test'], 1, 'ecdsa').certificate]) {
    const distrusting = { server, client: clientSlot({ caLater: true, ca }) };
    await assert.rejects(secured(rig, distrusting), /self-signed|alert/i);
    assert.notEqual((await secured(rig, distrusting, { verify: TLS_VERIFY.ask })).clientFacts.verify, 0);
  }
});

test('trust refuses a name that is not the certificate’s and one nobody vouches for; without it both are told', async () => {
  await assert.rejects(secured(rig, slots, { name: 'other.example' }), /hostname mismatch|alert/i);
  const distrusting = { server: slots.server, client: clientSlot({ ca: '' }) };
  await assert.rejects(secured(rig, distrusting), /self-signed|alert/i);
  const told = await secured(rig, distrusting, { verify: TLS_VERIFY.ask });
  assert.equal(told.clientFacts.verify, 18);
  const byAddress = await secured(rig, slots, { name: '127.0.0.1' });
  assert.equal(byAddress.clientFacts.verify, 0);
});

test('the certificate follows the name asked for; RSA and ECDSA stand side by side', async () => {
  const rsa = makeSelfSigned(['localhost'], 10, 'rsa');
  const other = makeSelfSigned(['*.example.test'], 10, 'ecdsa');
  const server = serverSlot({
    certificates: [
      LOCALHOST_PAIR,
      { chain: rsa.certificate, key: rsa.key },
      { chain: other.certificate, key: other.key },
    ],
    groups: [
      { certificates: [0, 1], names: ['localhost'] },
      { certificates: [2], names: ['*.example.test'] },
    ],
  });
  const ask = { verify: TLS_VERIFY.ask as number };
  const client = clientSlot({ minVersion: 'TLSv1.2' });
  assert.equal((await secured(rig, { server, client }, ask)).clientFacts.subject, 'CN=localhost');
  const wild = await secured(rig, { server, client }, { ...ask, name: 'MX.example.test' });
  assert.equal(wild.clientFacts.subject, 'CN=*.example.test');
  const unknown = await secured(rig, { server, client }, { ...ask, name: 'nobody.test' });
  assert.equal(unknown.clientFacts.subject, 'CN=localhost');
  const { port } = rig.acceptor;
  for (const [ciphers, type] of [
    ['ECDHE-RSA-AES128-GCM-SHA256', 'rsa'],
    ['ECDHE-ECDSA-AES128-GCM-SHA256', 'ec'],
  ] as const) {
    const from = rig.of('opened').length;
    const socket = tlsConnect({
      port,
      host: '127.0.0.1',
      servername: 'localhost',
      rejectUnauthorized: false,
      ciphers,
      maxVersion: 'TLSv1.2',
    });
    const done = new Promise((resolve) => socket.once('secureConnect', resolve));
    const opened = await rig.event('opened', from + 1);
    rig.reactor.secure(opened.connection, server, TLS_VERIFY.none, '', '');
    rig.reactor.flush();
    await done;
    assert.equal(socket.getPeerX509Certificate()?.publicKey.asymmetricKeyType, type);
    socket.destroy();
  }
});

test('rules: a version or cipher that is not allowed fails the handshake', async () => {
  const old = clientSlot({ minVersion: 'TLSv1.2', ciphers: 'ECDHE-ECDSA-AES128-GCM-SHA256' });
  const strict = serverSlot({
    minVersion: 'TLSv1.2',
    ciphers: 'ECDHE-ECDSA-AES256-GCM-SHA384',
    ciphersuites: 'TLS_AES_256_GCM_SHA384',
  });
  const { clientFacts } = await secured(rig, { server: strict, client: old });
  assert.equal(clientFacts.cipher, 'TLS_AES_256_GCM_SHA384');
  assert.throws(() => serverSlot({ ciphers: 'NO-SUCH-CIPHER' }), /no cipher match/i);
  assert.throws(() => serverSlot({ certificates: [{ ...LOCALHOST_PAIR, key: makeSelfSigned(['x'], 1, 'ecdsa').key }] }), /key values mismatch/i); // biome-ignore format: one call
});

test('a connection without a context in its slot is told and closed', async () => {
  const { server } = await connected(rig);
  rig.reactor.secure(server, tlsSlot(), TLS_VERIFY.none, '', '');
  rig.reactor.flush();
  assert.equal((await rig.event('notSecured')).text, 'no TLS context');
  await rig.until(() => rig.of('closed').some(({ connection }) => connection === server));
});

test('an orderly close says so in TLS; a connection cut short is an end as well', async () => {
  const { client, server } = await secured(rig, slots);
  rig.reactor.sendLatin1(server, '221 bye\r\n');
  rig.reactor.close(server);
  rig.reactor.flush();
  await rig.until(() => rig.of('closed').length === 2);
  assert.equal(rig.lines().at(-1), '221 bye');
  assert.equal(rig.of('closed').find(({ connection }) => connection === client)?.a, 0);

  const { port } = rig.acceptor;
  const from = rig.of('opened').length;
  const socket = tlsConnect({ port, host: '127.0.0.1', ca: LOCALHOST.certificate, servername: 'localhost' });
  const raw = await rig.event('opened', from + 1);
  rig.reactor.secure(raw.connection, slots.server, TLS_VERIFY.none, '', '');
  rig.reactor.flush();
  await new Promise((done) => socket.once('secureConnect', done));
  const ended = new Promise((done) => socket.once('end', done));
  socket.resume();
  rig.reactor.close(raw.connection);
  rig.reactor.flush();
  await ended; // node: 'end' comes with close_notify, or with FIN
  await rig.until(() => rig.of('closed').some(({ connection }) => connection === raw.connection));
});

test('garbage, half a hello, and an alert instead of one: the handshake fails, the reactor goes on', async () => {
  const inputs = [
    Buffer.from('EHLO in the clear\r\n'),
    Buffer.from([0x16, 3, 1, 0, 5, 1, 0, 0, 200, 3]),
    Buffer.from([0x15, 3, 1, 0, 2, 2, 40]),
    Buffer.alloc(20_000, 0x16),
  ];
  for (const input of inputs) {
    const from = rig.of('opened').length;
    const gone = rig.of('closed').length;
    const socket = createConnection({ port: rig.acceptor.port, host: '127.0.0.1' });
    socket.on('error', () => {});
    const opened = await rig.event('opened', from + 1);
    rig.reactor.secure(opened.connection, slots.server, TLS_VERIFY.none, '', '');
    rig.reactor.flush();
    socket.resume();
    socket.end(input);
    await rig.event('closed', gone + 1);
  }
  assert.equal(rig.of('notSecured').length, inputs.length);
  await secured(rig, slots);
});

const HALF_A_HELLO = Buffer.from([0x16, 3, 1, 1, 0, 1, 0, 0, 200, 3]);

/** Clients that begin a handshake and say no more. */
async function half(
  rig: Rig,
  count: number,
  silenceMs = 0,
  begin = (socket: Socket): void => void socket.write(HALF_A_HELLO),
): Promise<Socket[]> {
  const held: Socket[] = [];
  for (let i = 0; i < count; i++) {
    const before = rig.of('opened').length;
    const socket = createConnection(rig.acceptor.port, '127.0.0.1');
    socket.on('error', () => {});
    const opened = await rig.event('opened', before + 1);
    rig.reactor.secure(opened.connection, slots.server, TLS_VERIFY.none, '', '', '', silenceMs);
    rig.reactor.flush();
    begin(socket);
    held.push(socket);
  }
  return held;
}

test('handshakes whose clients are silent give way to those that wait, the longest silent first', async () => {
  await rig.close();
  rig = new Rig({ holdAfterVerbs: false, maxHandshakes: 3 });
  const held = await half(rig, 3);
  const began = Date.now();
  const ended = held.map((socket) => new Promise<void>((done) => socket.once('close', () => done())));
  // Both ends of this one count here: two of the three make room.
  await secured(rig, slots);
  assert.ok(Date.now() - began >= 900, 'nobody is given up within a second of silence');
  await Promise.all(ended.slice(0, 2));
  assert.equal(rig.of('secured').length, 2);
  assert.equal(rig.reactor.handshakes(), 0, 'one that is silent holds no place');
  for (const socket of held) socket.destroy();
});

test('who falls silent while another waits already gives way too', { timeout: 60_000 }, async () => {
  await rig.close();
  rig = new Rig({ holdAfterVerbs: false, maxHandshakes: 1 });
  const held = await half(rig, 2, 0, () => {});
  // Both in one turn: the second waits before the first has had its step, and been found silent.
  for (const socket of held) socket.write(HALF_A_HELLO);
  const { connection } = await rig.event('closed');
  assert.equal(connection, rig.of('opened')[0]?.connection);
  for (const socket of held) socket.destroy();
});

test('handshakes above the limit wait for their turn, and those given up make room', async () => {
  await rig.close();
  rig = new Rig({ holdAfterVerbs: false, maxHandshakes: 2 });
  const held = await half(rig, 2);
  await turns(20);
  const waiting = secured(rig, slots);
  while (rig.reactor.handshakes() === 0) await turns();
  assert.equal(rig.of('secured').length, 0);
  for (const socket of held) socket.destroy();
  await waiting;
  await rig.until(() => rig.of('secured').length === 2);
  await turns();
  assert.equal(rig.reactor.handshakes(), 0);
});

test('a client that falls silent in its handshake is told of, whatever the deadline', async () => {
  const [socket] = await half(rig, 1, 100);
  const { connection } = await rig.event('timeout');
  assert.equal(rig.of('opened')[0]?.connection, connection);
  rig.reactor.close(connection, true);
  rig.reactor.flush();
  await rig.until(() => rig.of('closed').some((event) => event.connection === connection));
  socket?.destroy();
});

test('a deadline passes in a handshake', async () => {
  const { server } = await connected(rig);
  rig.reactor.secure(server, slots.server, TLS_VERIFY.none, '', '');
  rig.reactor.deadline(server, 30);
  rig.reactor.flush();
  assert.equal((await rig.event('timeout')).connection, server);
  rig.reactor.close(server, true);
  rig.reactor.flush();
  await rig.until(() => rig.of('closed').some(({ connection }) => connection === server));
});
