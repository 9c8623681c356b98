import assert from 'node:assert/strict';
import { closeSync, existsSync, mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { configSchema } from '../../src/config/schema.ts';
import { closeSockets, type GivenSocket, openSockets } from '../../src/listener/sockets.ts';
import { type Acceptor, listen, openSocket, socketPlace } from '../../src/native.ts';

const ports = { openSocket, socketPlace, close: closeSync };
const listenersOf = (listeners: object[]) => configSchema.parse({ listeners }).listeners;
const none = new Map<string, number[]>();

/** Accepts on a socket as a relay process does, and answers each connection with a word. */
function answering(
  t: TestContext,
  socket: GivenSocket,
  word: string,
): { acceptor: Acceptor; seen: string[] } {
  const seen: string[] = [];
  const acceptor = listen({
    fd: socket.fd,
    backlog: 0,
    listener: socket.listener,
    batch: 8,
    onAccept: (fds, addresses) => {
      seen.push(...addresses);
      for (const fd of fds) acceptor.refuse(fd, word);
    },
    onError: () => {},
  });
  t.after(() => acceptor.close());
  return { acceptor, seen };
}

function ask(where: { host?: string; port?: number; path?: string }): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = where.path === undefined ? connect(where.port ?? 0, where.host) : connect(where.path);
    let text = '';
    socket.on('data', (more) => {
      text += String(more);
    });
    socket.on('end', () => resolve(text));
    socket.on('error', reject);
  });
}

test('each process has a TCP socket of its own on one port, and the kernel spreads over them', async (t) => {
  const listeners = listenersOf([{ host: '127.0.0.1', port: 0 }]);
  const sockets = await openSockets(listeners, 2, none, ports);
  t.after(() => closeSockets(sockets, listeners, ports));
  assert.deepEqual(
    sockets.map(({ process, listener }) => [process, listener]),
    process.platform === 'linux'
      ? [
          [0, 0],
          [1, 0],
        ]
      : [[null, 0]],
  );
  const [first] = sockets;
  assert.ok(first?.address.port);
  for (const { address } of sockets) assert.deepEqual(address, first.address);
  for (const [i, socket] of sockets.entries()) answering(t, socket, `word ${i}`);
  const answers = await Promise.all(Array.from({ length: 64 }, () => ask(first.address)));
  assert.equal(new Set(answers).size, sockets.length, 'every process got some of 64 connections');
});

test('an address somebody else listens on is refused, however many processes there are', async (t) => {
  const server = createServer().listen(0, '127.0.0.1');
  t.after(() => server.close());
  await new Promise((listening) => server.once('listening', listening));
  const { port } = server.address() as { port: number };
  const path = join(mkdtempSync(join(tmpdir(), 'sockets-')), 'smtp.sock');
  t.after(() => rmSync(join(path, '..'), { recursive: true }));
  const listeners = listenersOf([{ path }, { host: '127.0.0.1', port }]);
  for (const processes of [1, 3]) {
    await assert.rejects(openSockets(listeners, processes, none, ports), {
      code: 'listen_failed',
      message: `cannot listen on 127.0.0.1:${port} (listeners[1]): another program listens there; stop it or choose another port`,
    });
    assert.equal(existsSync(path), false, 'what was opened before is closed and removed');
  }
});

test('two relays of several processes do not share a port unnoticed', async (t) => {
  const listeners = listenersOf([{ host: '127.0.0.1', port: 0 }]);
  const sockets = await openSockets(listeners, 2, none, ports);
  t.after(() => closeSockets(sockets, listeners, ports));
  const same = listenersOf([sockets[0]?.address as object]);
  await assert.rejects(openSockets(same, 2, none, ports), { code: 'listen_failed' });
});

test('a Unix socket is one for all processes; its file goes with it', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'sockets-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const path = join(dir, 'smtp.sock');
  const listeners = listenersOf([{ path }]);
  const sockets = await openSockets(listeners, 2, none, ports);
  assert.deepEqual(
    sockets.map(({ process, address }) => [process, address]),
    [[null, { path }]],
  );
  const { acceptor, seen } = answering(t, sockets[0] as GivenSocket, 'hello');
  assert.equal(await ask({ path }), 'hello');
  assert.deepEqual(seen, ['unix 0 unix 0']);
  acceptor.close();
  assert.equal(existsSync(path), true, 'an acceptor on a given socket leaves the file alone');
  closeSockets(sockets, listeners, ports);
  assert.equal(existsSync(path), false);
});

test('sockets by name: all that bear it, in use by whoever opened them too; a missing one is said', async (t) => {
  const opened = [0, 1].map(() => openSocket({ host: '127.0.0.1', port: 0, backlog: 8 }));
  t.after(() => {
    for (const fd of opened) closeSync(fd);
  });
  const listeners = listenersOf([{ fd_name: 'smtp' }]);
  const named = new Map([['smtp', opened]]);
  const sockets = await openSockets(listeners, 2, named, ports);
  assert.deepEqual(
    sockets.map(({ fd, process, address }) => ({ fd, process, address })),
    opened.map((fd) => ({ fd, process: null, address: socketPlace(fd) })),
  );
  const { acceptor } = answering(t, sockets[1] as GivenSocket, 'by name');
  assert.equal(await ask(sockets[1]?.address ?? {}), 'by name');
  acceptor.close();
  const [alone] = await openSockets(listeners, 1, named, ports);
  assert.equal(alone?.process, 0);
  await assert.rejects(openSockets(listeners, 1, new Map([['pop', [9]]]), ports), {
    code: 'listen_failed',
    message: /wants the sockets "smtp" from systemd, which passed only pop; .*FileDescriptorName=smtp/,
  });
  await assert.rejects(openSockets(listeners, 1, none, ports), { message: /passed none at all/ });
});

test('a descriptor that does not listen is refused', () => {
  const onAccept = (): void => {};
  const make = (fd: number): Acceptor =>
    listen({ fd, backlog: 0, listener: 0, batch: 1, onAccept, onError: () => {} });
  assert.throws(() => make(0), { code: /ENOTSOCK|EINVAL/ });
  assert.throws(() => make(9999), { code: 'EBADF' });
});
