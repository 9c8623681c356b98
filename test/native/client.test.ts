import assert from 'node:assert/strict';
import { closeSync, openSync, truncateSync, writeFileSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { constants } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { CLOSE_REASON } from '../../src/native.ts';
import { stuffContent } from '../../src/protocol/scan.ts';
import { Rig, RULES, turns } from './rig.ts';

/** One reactor is client and server at once: connections that it opened itself are told apart by their listener. */
let rig: Rig;
beforeEach(() => {
  rig = new Rig({ holdAfterVerbs: false });
});
afterEach(() => rig.close());

const EMPTY = Buffer.alloc(0);

/** Both ends of a connection through the acceptor. */
async function pair(): Promise<{ client: number; server: number }> {
  const from = rig.seen.length;
  const client = rig.reactor.connect('127.0.0.1', rig.acceptor.port, '', 1000);
  const opened = () => rig.seen.slice(from).filter((event) => event.kind === 'opened');
  await rig.until(() => opened().length === 2);
  const server = opened().find((event) => event.text.startsWith('3 '))?.connection ?? -1;
  return { client, server };
}

/** Sends content from the client end and gives what the server end made of it. */
async function roundTrip(handle: number, prefix = EMPTY): Promise<Buffer> {
  const { client, server } = await pair();
  rig.reactor.expectData(server, RULES);
  rig.reactor.sendContent(client, prefix, handle, true);
  rig.reactor.flush();
  const from = rig.seen.length;
  await rig.until(() => rig.seen.slice(from).some((event) => event.kind === 'content'));
  const content = rig.seen.slice(from).find((event) => event.kind === 'content');
  assert.equal(rig.seen.slice(from).filter((event) => event.kind === 'sent').length, 1);
  const bytes = rig.content(content?.a ?? -1);
  rig.arena.release(content?.a ?? -1);
  rig.reactor.close(client, true);
  rig.reactor.close(server, true);
  rig.reactor.flush();
  await rig.until(() => rig.seen.slice(from).filter((event) => event.kind === 'closed').length === 2);
  return bytes;
}

test('opened names both ends, listener 0', async () => {
  const { client } = await pair();
  const text = rig.of('opened').find((event) => event.connection === client)?.text ?? '';
  assert.match(text, new RegExp(`^0 127\\.0\\.0\\.1 ${rig.acceptor.port} 127\\.0\\.0\\.1 \\d+$`));
});

test('content goes from reactor to reactor byte for byte', async () => {
  const dots = '.\r\n..\r\n.a\r\n'.repeat(2000);
  const inputs = [
    '', '.', '\r\n', '.\r\n', '..\r\n', 'no end', 'a\r\n.', dots, `${'x'.repeat(65_535)}\r\n.y`, `${'x'.repeat(65_534)}\r\n.\r\n`,
    `${'x'.repeat(65_536)}.\r\n`, `${`${'m'.repeat(76)}\r\n`.repeat(13_500)}`,
  ]; // biome-ignore format: one input per line is long
  for (const input of inputs) {
    const handle = rig.arena.store(Buffer.from(input));
    const complete = input === '' || input.endsWith('\r\n') ? input : `${input}\r\n`;
    const bytes = await roundTrip(handle);
    assert.ok(bytes.equals(Buffer.from(complete)), `${input.length} bytes: ${input.slice(0, 20)}`);
    rig.arena.release(handle);
  }
});

test('the prefix is part of the content on the wire', async () => {
  const handle = rig.arena.store(Buffer.from('.body\r\n'));
  const bytes = await roundTrip(handle, Buffer.from('Received: us\r\n.x\r\n'));
  assert.equal(bytes.toString(), 'Received: us\r\n.x\r\n.body\r\n');
  rig.arena.release(handle);
});

test('content in a file is sent from its offset, in pieces', async () => {
  const path = join(rig.spillDir, 'content');
  const text = `.${'d'.repeat(70)}\r\n`.repeat(12_000);
  writeFileSync(path, `skipped${text}not this`);
  const handle = rig.arena.storeFile(openSync(path, 'r'), 7, text.length);
  assert.ok((await roundTrip(handle)).equals(Buffer.from(text)));
  rig.arena.release(handle);
});

test('content that cannot be read to its end is never completed', async () => {
  const path = join(rig.spillDir, 'content');
  writeFileSync(path, 'y'.repeat(200_000));
  const handle = rig.arena.storeFile(openSync(path, 'r'), 0, 200_000);
  truncateSync(path, 100_000);
  const { client, server } = await pair();
  rig.reactor.expectData(server, RULES);
  rig.reactor.sendContent(client, EMPTY, handle, true);
  rig.reactor.flush();
  await rig.event('closed', 2);
  const closed = rig.of('closed').find((event) => event.connection === client);
  assert.deepEqual([closed?.a, closed?.b], [CLOSE_REASON.error, constants.errno.EIO]);
  assert.equal(rig.of('content').length + rig.of('sent').length, 0);
  rig.arena.release(handle);
});

test('raw content is sent as it is, for BDAT', async () => {
  const { client, server } = await pair();
  const handle = rig.arena.store(Buffer.from('.\n\r\n.\r\n'));
  rig.reactor.expectChunk(server, 7 + 3, true, RULES);
  rig.reactor.sendContent(client, Buffer.from('abc'), handle, false);
  rig.reactor.flush();
  const { a } = await rig.event('content');
  assert.equal(rig.content(a).toString(), 'abc.\n\r\n.\r\n');
  rig.arena.release(a);
  rig.arena.release(handle);
});

test('what is sent before and after content keeps its place', async () => {
  const received: Buffer[] = [];
  const server = await listening((socket) => socket.on('data', (bytes) => received.push(bytes)));
  const client = rig.reactor.connect('127.0.0.1', server.port, '', 1000);
  await rig.event('opened');
  const content = Buffer.from(`${`.${'x'.repeat(997)}\r\n`.repeat(3000)}`);
  const handle = rig.arena.store(content);
  rig.reactor.sendLatin1(client, 'before;');
  rig.reactor.sendContent(client, EMPTY, handle, true);
  rig.reactor.sendLatin1(client, ';after');
  rig.reactor.sendContent(client, EMPTY, handle, false);
  rig.reactor.flush();
  await rig.event('sent', 2);
  const expected = Buffer.concat([
    Buffer.from('before;'),
    stuffContent(content),
    Buffer.from(';after'),
    content,
  ]);
  rig.reactor.close(client);
  rig.reactor.flush();
  await server.ended;
  assert.ok(Buffer.concat(received).equals(expected));
  rig.arena.release(handle);
  server.close();
});

test('the content stays while it is being sent, though its owner let it go', async () => {
  let peer: Socket | undefined;
  const server = await listening((socket) => {
    peer = socket;
    socket.pause();
  });
  const client = rig.reactor.connect('127.0.0.1', server.port, '', 1000);
  await rig.event('opened');
  const handle = rig.arena.store(Buffer.alloc(7_000_000, 'x'));
  rig.reactor.sendContent(client, EMPTY, handle, true);
  rig.reactor.flush();
  rig.arena.release(handle);
  await turns(20);
  assert.ok(rig.arena.freeBytes() < rig.arena.totalBytes);
  assert.equal(rig.of('sent').length, 0);
  peer?.resume();
  await rig.event('sent');
  assert.equal(rig.arena.freeBytes(), rig.arena.totalBytes);
  server.close();
});

test('a reply that comes while content is still being sent is read', async () => {
  const server = await listening((socket) => {
    socket.pause();
    socket.write('421 enough\r\n');
  });
  const client = rig.reactor.connect('127.0.0.1', server.port, '', 1000);
  await rig.event('opened');
  const handle = rig.arena.store(Buffer.alloc(7_000_000, 'x'));
  rig.reactor.sendContent(client, EMPTY, handle, true);
  rig.reactor.flush();
  await rig.event('line');
  assert.deepEqual(rig.lines(), ['421 enough']);
  rig.arena.release(handle);
  server.close();
});

test('a last reply before a reset is read before the connection is told gone', async () => {
  const server = await listening((socket) => {
    socket.once('data', () => socket.write('554 go away\r\n', () => socket.resetAndDestroy()));
  });
  const client = rig.reactor.connect('127.0.0.1', server.port, '', 1000);
  await rig.event('opened');
  rig.reactor.sendLatin1(client, 'EHLO a\r\n');
  rig.reactor.flush();
  const closed = await rig.event('closed');
  assert.deepEqual(rig.lines(), ['554 go away']);
  assert.equal(closed.a, CLOSE_REASON.error);
  server.close();
});

test('a refused connection is told with its errno', async () => {
  const server = await listening(() => {});
  server.close();
  await turns();
  const client = rig.reactor.connect('127.0.0.1', server.port, '', 1000);
  const closed = await rig.event('closed');
  assert.deepEqual(
    [closed.connection, closed.a, closed.b],
    [client, CLOSE_REASON.connectFailed, constants.errno.ECONNREFUSED],
  );
});

test('an address that is none, and a source that is not ours, fail at once', async () => {
  rig.reactor.connect('not-an-address', 25, '', 1000);
  assert.deepEqual((await rig.event('closed')).b, constants.errno.EINVAL);
  rig.reactor.connect('127.0.0.1', rig.acceptor.port, '192.0.2.77', 1000);
  assert.deepEqual((await rig.event('closed', 2)).b, constants.errno.EADDRNOTAVAIL);
});

test('a connection is made from the source address that was asked for', async () => {
  rig.reactor.connect('127.0.0.1', rig.acceptor.port, '127.0.0.9', 1000);
  await rig.event('opened', 2);
  assert.ok(rig.of('opened').some((event) => event.text.startsWith('3 127.0.0.9 ')));
});

test('a peer that does not answer the connect is told after the timeout', async () => {
  // A listener whose backlog is full lets further connects wait.
  const full = await fullListener();
  let waiting = rig.reactor.connect('127.0.0.1', full.port, '', 30);
  for (let i = 0; i < 8; i++) waiting = rig.reactor.connect('127.0.0.1', full.port, '', 30);
  await rig.until(() => rig.of('closed').some((event) => event.connection === waiting));
  const closed = rig.of('closed').find((event) => event.connection === waiting);
  assert.deepEqual([closed?.a, closed?.b], [CLOSE_REASON.connectFailed, constants.errno.ETIMEDOUT]);
  full.close();
});

test('connect says -1 when every slot is in use, and works again when one is free', async () => {
  const small = new Rig({ maxConnections: 2 });
  const first = small.reactor.connect('127.0.0.1', rig.acceptor.port, '', 1000);
  small.reactor.connect('127.0.0.1', rig.acceptor.port, '', 1000);
  assert.equal(small.reactor.connect('127.0.0.1', rig.acceptor.port, '', 1000), -1);
  small.reactor.close(first, true);
  small.reactor.flush();
  await small.event('closed');
  await turns();
  assert.ok(small.reactor.connect('127.0.0.1', rig.acceptor.port, '', 1000) >= 0);
  await small.close();
});

interface Listening {
  port: number;
  ended: Promise<void>;
  close(): void;
}

async function listening(onSocket: (socket: Socket) => void): Promise<Listening> {
  const sockets: Socket[] = [];
  let end = (): void => {};
  const ended = new Promise<void>((resolve) => {
    end = resolve;
  });
  const server: Server = createServer((socket) => {
    sockets.push(socket);
    socket.on('end', end);
    socket.on('error', () => {});
    onSocket(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', () => resolve()));
  const { port } = server.address() as { port: number };
  const close = (): void => {
    for (const socket of sockets) socket.destroy();
    server.close();
  };
  return { port, ended, close };
}

/** Listens with a backlog of 1 and never accepts. */
async function fullListener(): Promise<{ port: number; close(): void }> {
  const { listen } = await import('../../src/native.ts');
  const acceptor = listen({ backlog: 1, listener: 0, batch: 1, onAccept: () => {}, onError: () => {} });
  acceptor.pause();
  return { port: acceptor.port, close: () => acceptor.close() };
}

test('descriptors of contents in files are closed with them', () => {
  const fd = openSync('/dev/null', 'r');
  const handle = rig.arena.storeFile(fd, 0, 0);
  rig.arena.release(handle);
  assert.throws(() => closeSync(fd), { code: 'EBADF' });
});
