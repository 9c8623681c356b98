/** A connection through a proxy: opened only once the proxy has connected it, and nothing of the peer is lost on the way. */
import assert from 'node:assert/strict';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { constants } from 'node:os';
import { afterEach, beforeEach, test } from 'node:test';
import { type EgressProxy, parseProxy } from '../../src/config/egress-proxy.ts';
import { hopTo } from '../../src/egress/hop.ts';
import { CLOSE_REASON } from '../../src/native.ts';
import { Rig } from './rig.ts';

let rig: Rig;
let servers: Server[];
let sockets: Socket[];
beforeEach(() => {
  rig = new Rig({ holdAfterVerbs: false });
  servers = [];
  sockets = [];
});
afterEach(() => {
  for (const socket of sockets) socket.destroy();
  for (const server of servers) server.close();
  return rig.close();
});

/** A proxy that answers each piece it gets with the next of these, and keeps what it got. */
async function proxyThatSays(
  pieces: (Buffer | 'close')[],
  octetwise = false,
): Promise<{ port: number; got: Buffer[] }> {
  const got: Buffer[] = [];
  const server = createServer(async (socket) => {
    sockets.push(socket);
    socket.setNoDelay(true);
    socket.on('error', () => {});
    let turn = 0;
    socket.on('data', async (bytes) => {
      got.push(bytes);
      const piece = pieces[turn++];
      if (piece === 'close') socket.end();
      else if (piece !== undefined && !octetwise) socket.write(piece);
      else if (piece !== undefined)
        for (const octet of piece) {
          socket.write(Buffer.of(octet));
          await new Promise((resolve) => setImmediate(resolve));
        }
    });
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { port: (server.address() as AddressInfo).port, got };
}

function through(url: string, port: number, timeoutMs = 5000): number {
  const proxy = parseProxy(url.replace('PORT', String(port))) as EgressProxy;
  return rig.reactor.connect(
    proxy.address,
    proxy.port,
    '',
    timeoutMs,
    hopTo(proxy, '192.0.2.7', 2525, '198.51.100.4'),
  );
}

const METHOD_NONE = Buffer.of(5, 0);
const METHOD_PASSWORD = Buffer.of(5, 2);
const CONNECTED = Buffer.of(5, 0, 0, 1, 10, 0, 0, 1, 4, 0);
const REQUEST = Buffer.of(5, 1, 0, 1, 192, 0, 2, 7, 2525 >> 8, 2525 & 255);
const GREETING = Buffer.from('220 peer\r\n');

for (const octetwise of [false, true])
  test(`SOCKS5 without credentials, the greeting comes with the proxy’s last octet; octet by octet: ${octetwise}`, async () => {
    const { port, got } = await proxyThatSays([METHOD_NONE, Buffer.concat([CONNECTED, GREETING])], octetwise);
    through('socks5://127.0.0.1:PORT', port);
    await rig.event('line');
    assert.equal(rig.of('opened').length, 1);
    assert.deepEqual(rig.lines(), ['220 peer']);
    assert.deepEqual(got, [Buffer.of(5, 1, 0), REQUEST]);
  });

for (const [name, address] of [
  ['IPv6', Buffer.concat([Buffer.of(4), Buffer.alloc(16, 1)])],
  ['a name', Buffer.concat([Buffer.of(3, 255), Buffer.alloc(255, 0x61)])],
  ['an empty name', Buffer.of(3, 0)],
] as const)
  test(`the proxy says that it connected from ${name}`, async () => {
    const reply = Buffer.concat([Buffer.of(5, 0, 0), address, Buffer.of(4, 0), GREETING]);
    const { port } = await proxyThatSays([METHOD_NONE, reply]);
    through('socks5://127.0.0.1:PORT', port);
    await rig.event('line');
    assert.deepEqual(rig.lines(), ['220 peer']);
  });

test('SOCKS5 with credentials', async () => {
  const { port, got } = await proxyThatSays([METHOD_PASSWORD, Buffer.of(1, 0), CONNECTED]);
  through('socks5://us%40er:se:cret@127.0.0.1:PORT', port);
  await rig.event('opened');
  const login = Buffer.concat([Buffer.of(1, 5), Buffer.from('us@er'), Buffer.of(7), Buffer.from('se:cret')]);
  assert.deepEqual(got, [Buffer.of(5, 2, 0, 2), login, REQUEST]);
});

test('a PROXY header goes ahead of everything, and the session opens at once', async () => {
  const { port, got } = await proxyThatSays([GREETING]);
  through('haproxy://127.0.0.1:PORT', port);
  await rig.event('line');
  const header = Buffer.concat([
    Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1'),
    Buffer.of(0x21, 0x11, 0, 12, 198, 51, 100, 4, 192, 0, 2, 7, 0, 0, 2525 >> 8, 2525 & 255),
  ]);
  assert.deepEqual(Buffer.concat(got), header);
});

const { EACCES, ECONNREFUSED, ECONNRESET, EHOSTUNREACH, ENETUNREACH, EOPNOTSUPP, EPROTO, ETIMEDOUT } =
  constants.errno;
const refusal = (code: number) => [METHOD_NONE, Buffer.of(5, code, 0, 1)];
const OF_PEER = 0;
const OF_PROXY = 1;

for (const [name, pieces, errno, blame] of [
  ['no method that we offered', [Buffer.of(5, 0xff)], EACCES, OF_PROXY],
  ['a method that we did not offer', [METHOD_PASSWORD], EPROTO, OF_PROXY],
  ['that it is no SOCKS5', [Buffer.from('HT')], EPROTO, OF_PROXY],
  ['half a reply and closes', [Buffer.of(5), 'close'], ECONNRESET, OF_PROXY],
  ['nothing and closes', ['close'], ECONNRESET, OF_PROXY],
  ['general failure', refusal(1), EPROTO, OF_PROXY],
  ['not allowed', refusal(2), EACCES, OF_PROXY],
  ['network unreachable', refusal(3), ENETUNREACH, OF_PEER],
  ['host unreachable', refusal(4), EHOSTUNREACH, OF_PEER],
  ['refused by the peer', refusal(5), ECONNREFUSED, OF_PEER],
  ['expired', refusal(6), ETIMEDOUT, OF_PEER],
  ['no such command', refusal(7), EOPNOTSUPP, OF_PROXY],
  ['an unknown code', refusal(200), EPROTO, OF_PROXY],
  ['an address of a kind that there is not', [METHOD_NONE, Buffer.of(5, 0, 0, 9)], EPROTO, OF_PROXY],
] as [string, (Buffer | 'close')[], number, number][])
  test(`the proxy says ${name}`, async () => {
    const said = pieces.length === 2 && pieces[1] === 'close' ? ['close' as const] : pieces;
    const { port } = await proxyThatSays(said);
    through('socks5://127.0.0.1:PORT', port);
    const closed = await rig.event('closed');
    assert.equal(closed.a, CLOSE_REASON.connectFailed);
    assert.deepEqual({ errno: closed.b, flags: closed.flags }, { errno, flags: blame });
    assert.equal(rig.of('opened').length, 0);
  });

test('credentials that the proxy refuses', async () => {
  const { port } = await proxyThatSays([METHOD_PASSWORD, Buffer.of(1, 1)]);
  through('socks5://u:p@127.0.0.1:PORT', port);
  const closed = await rig.event('closed');
  assert.deepEqual([closed.a, closed.b, closed.flags], [CLOSE_REASON.connectFailed, EACCES, OF_PROXY]);
});

test('a proxy that is silent: the time for connecting holds for the way through it', async () => {
  const { port } = await proxyThatSays([]);
  through('socks5://127.0.0.1:PORT', port, 60);
  const closed = await rig.event('closed');
  assert.deepEqual([closed.a, closed.b, closed.flags], [CLOSE_REASON.connectFailed, ETIMEDOUT, OF_PROXY]);
});

test('no proxy there: it is to blame', async () => {
  const { port } = await proxyThatSays([]);
  for (const server of servers) server.close();
  through('socks5://127.0.0.1:PORT', port);
  const closed = await rig.event('closed');
  assert.deepEqual([closed.b, closed.flags], [ECONNREFUSED, OF_PROXY]);
});

test('closed while it is on the way through: no event but closed', async () => {
  const { port } = await proxyThatSays([]);
  const id = through('socks5://127.0.0.1:PORT', port);
  while (sockets.length === 0) await new Promise((resolve) => setImmediate(resolve));
  rig.reactor.close(id);
  rig.reactor.flush();
  await rig.event('closed');
  assert.equal(rig.of('opened').length, 0);
});
