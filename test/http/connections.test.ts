/** Clients of the HTTP plane that hold connections, do not read, or ask too much at once. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type RequestListener } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { Connections } from '../../src/http/connections.ts';

const GET = 'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n';

async function withServer(
  t: TestContext,
  connections: Connections,
  answer: RequestListener,
): Promise<(localAddress: string) => Promise<Socket>> {
  const server = createServer((request, response) => {
    if (connections.begin(request, response)) answer(request, response);
  });
  server.on('connection', (socket) => connections.add(socket));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  const { port } = server.address() as AddressInfo;
  return async (localAddress) => {
    const socket = connect({ port, host: '127.0.0.1', localAddress });
    t.after(() => socket.destroy());
    await once(socket, 'connect');
    return socket;
  };
}

/** @returns what comes next; empty: it has ended. */
async function asked(socket: Socket): Promise<string> {
  socket.write(GET);
  return Promise.race([
    once(socket, 'data').then(([part]) => String(part)),
    once(socket, 'close').then(() => ''),
  ]);
}

test('the client with the most connections gives one up, an idle one first', async (t) => {
  const held: (() => void)[] = [];
  const open = await withServer(t, new Connections(4, 10_000), ({ url }, response) => {
    if (url === '/held') held.push(() => response.end());
    else response.end('answer');
  });
  const quiet = await open('127.0.0.1');
  const busy = await open('127.0.0.2');
  busy.write(GET.replace('/', '/held'));
  while (held.length === 0) await new Promise(setImmediate);
  const idle = await open('127.0.0.2');
  const ended = once(idle.resume(), 'close');
  const others = [await open('127.0.0.2'), await open('127.0.0.2')];
  await ended;
  for (const socket of [quiet, ...others]) assert.match(await asked(socket), /answer/);
  const rest = once(busy, 'data');
  held[0]?.();
  assert.match(String((await rest)[0]), /^HTTP\/1\.1 200/);
  // Those that ended make room: nobody has to leave for one in their place.
  for (const socket of others) {
    socket.destroy();
    await once(socket, 'close');
  }
  assert.match(await asked(await open('127.0.0.3')), /answer/);
  assert.match(await asked(quiet), /answer/);
});

test('a client that asks ahead without end loses its connection; sixteen are answered', async (t) => {
  let begun = 0;
  const open = await withServer(t, new Connections(4, 10_000), (_request, response) => {
    begun++;
    setImmediate(() => response.end('answer'));
  });
  const sixteen = await open('127.0.0.1');
  let got = '';
  sixteen.on('data', (part) => {
    got += String(part);
  });
  sixteen.write(GET.repeat(16));
  while (got.split('answer').length < 17) await once(sixteen, 'data');
  const greedy = await open('127.0.0.1');
  greedy.on('error', () => {});
  greedy.resume().write(GET.repeat(500));
  await once(greedy, 'close');
  assert.equal(begun, 32);
});

test('an answer that is not taken in time ends the connection', async (t) => {
  const open = await withServer(t, new Connections(4, 100), (_request, response) => {
    response.end(Buffer.alloc(64 * 1024 * 1024));
    response.once('close', () => closed());
  });
  let closed = (): void => {};
  const ended = new Promise<void>((resolve) => {
    closed = resolve;
  });
  const socket = await open('127.0.0.1');
  socket.on('error', () => {});
  socket.pause().write(GET);
  await ended;
});
