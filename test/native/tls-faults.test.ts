/** TLS that goes wrong at every place: cut, changed, interrupted by alerts, closed by half. The reactor must go on. */
import assert from 'node:assert/strict';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { afterEach, beforeEach, test } from 'node:test';
import { connect as tlsConnect } from 'node:tls';
import fc from 'fast-check';
import { TLS_VERIFY } from '../../src/native.ts';
import { Rig } from './rig.ts';
import { clientSlot, connected, LOCALHOST, secured, serverSlot } from './tls-rig.ts';

let rig: Rig;
beforeEach(() => {
  rig = new Rig({ holdAfterVerbs: false, lingerMs: 50 });
});
afterEach(() => rig.close());

const slots = { server: serverSlot(), client: clientSlot() };

type Damage = 'end' | 'reset' | 'flip' | 'insert' | 'alert' | 'close-notify' | 'repeat';
const ALERT = Buffer.from([0x15, 3, 3, 0, 2, 2, 40]);
const CLOSE_NOTIFY = Buffer.from([0x15, 3, 3, 0, 2, 1, 0]);

/** Passes bytes on until `at`, then does damage; 'end' and 'reset' end it, the others let the rest follow. */
function damaging(from: Socket, to: Socket, at: number, damage: Damage): void {
  let passed = 0;
  from.on('data', (bytes) => {
    const place = at - passed;
    passed += bytes.length;
    if (place < 0 || place >= bytes.length) {
      to.write(bytes);
      return;
    }
    const [before, after] = [bytes.subarray(0, place), bytes.subarray(place)];
    to.write(before);
    if (damage === 'end') to.end();
    else if (damage === 'reset') to.resetAndDestroy();
    else if (damage === 'insert') to.write(Buffer.concat([Buffer.from([at & 255]), after]));
    else if (damage === 'alert') to.write(Buffer.concat([ALERT, after]));
    else if (damage === 'close-notify') to.write(Buffer.concat([CLOSE_NOTIFY, after]));
    else if (damage === 'repeat') to.write(Buffer.concat([after, after]));
    else {
      const changed = Buffer.from(after);
      changed[0] = (changed[0] as number) ^ (1 << (at % 8));
      to.write(changed);
    }
  });
  from.on('end', () => to.end());
  from.on('error', () => to.destroy());
  from.on('close', () => to.destroy());
}

/** One dialog through damage; resolves when the reactor's end of it is gone. */
async function through(at: number, damage: Damage, toServer: boolean): Promise<void> {
  const opened = rig.of('opened').length;
  const proxy = createServer((inner) => {
    const outer = connect(rig.acceptor.port, '127.0.0.1');
    inner.on('error', () => {});
    if (toServer) {
      damaging(inner, outer, at, damage);
      damaging(outer, inner, -1, damage);
    } else {
      damaging(inner, outer, -1, damage);
      damaging(outer, inner, at, damage);
    }
  });
  await new Promise<void>((done) => proxy.listen(0, '127.0.0.1', done));
  const { port } = proxy.address() as AddressInfo;
  const client = tlsConnect({ port, host: '127.0.0.1', ca: LOCALHOST.certificate, servername: 'localhost' });
  client.on('error', () => {});
  client.on('secureConnect', () => client.end(`NOOP ${'x'.repeat(200)}\r\nQUIT\r\n`));
  const { connection } = await rig.event('opened', opened + 1);
  rig.reactor.secure(connection, slots.server, TLS_VERIFY.none, '', '');
  rig.reactor.deadline(connection, 200);
  rig.reactor.flush();
  await rig.until(() => rig.of('closed').some((event) => event.connection === connection));
  client.destroy();
  proxy.close();
}

test('damage anywhere in a dialog ends that connection at most', { timeout: 60_000 }, async () => {
  rig.onEvent = ({ kind, connection, text }) => {
    if (kind === 'timeout') rig.reactor.close(connection, true);
    if (kind === 'line') rig.reactor.sendLatin1(connection, `250 ${text}\r\n`);
  };
  const kinds: Damage[] = ['end', 'reset', 'flip', 'insert', 'alert', 'close-notify', 'repeat'];
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 0, max: 1800 }), fc.constantFrom(...kinds), fc.boolean(), through),
    { numRuns: 120 },
  );
  assert.equal(rig.reactor.handshakes(), 0);
  await secured(rig, slots);
});

test('a client that changes or cuts what it is sent does not reach us either', {
  timeout: 60_000,
}, async () => {
  // The same with the reactor as client: a server's first bytes at random.
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 300 }), fc.boolean(), async (bytes, asRecord) => {
      const server = createServer((socket) => {
        socket.on('error', () => {});
        socket.once('data', () => {
          const head = Buffer.from([0x16, 3, 3, bytes.length >> 8, bytes.length & 255]);
          socket.end(asRecord ? Buffer.concat([head, bytes]) : bytes);
        });
      });
      await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
      const { port } = server.address() as AddressInfo;
      const connection = rig.reactor.connect('127.0.0.1', port, '', 1000);
      await rig.until(() => rig.of('opened').some((event) => event.connection === connection));
      rig.reactor.secure(connection, slots.client, TLS_VERIFY.trust, 'localhost', '');
      rig.reactor.flush();
      await rig.until(() => rig.of('closed').some((event) => event.connection === connection));
      assert.ok(rig.of('notSecured').some((event) => event.connection === connection));
      server.close();
    }),
    { numRuns: 60 },
  );
});

test('a peer that has closed its half still gets what it is owed', async () => {
  const { port } = rig.acceptor;
  const socket = tlsConnect({ port, host: '127.0.0.1', ca: LOCALHOST.certificate, servername: 'localhost' });
  const opened = await rig.event('opened');
  rig.reactor.secure(opened.connection, slots.server, TLS_VERIFY.none, '', '');
  rig.reactor.flush();
  rig.onEvent = ({ kind, connection, text }) => {
    if (kind === 'line') rig.reactor.sendLatin1(connection, `250 ${text}\r\n`);
  };
  let heard = '';
  socket.on('data', (bytes) => {
    heard += bytes.toString('latin1');
  });
  await new Promise((done) => socket.once('secureConnect', done));
  const closed = new Promise((done) => socket.once('close', done));
  socket.end('one\r\ntwo\r\n');
  await rig.event('closed');
  await closed;
  assert.equal(heard, '250 one\r\n250 two\r\n');
  assert.equal(rig.of('closed')[0]?.a, 0, 'the peer closed');
});

test('renegotiation is refused', async () => {
  const { port } = rig.acceptor;
  const trust = { ca: LOCALHOST.certificate, servername: 'localhost', maxVersion: 'TLSv1.2' } as const;
  const socket = tlsConnect({ port, host: '127.0.0.1', ...trust });
  const opened = await rig.event('opened');
  rig.reactor.secure(opened.connection, slots.server, TLS_VERIFY.none, '', '');
  rig.reactor.flush();
  await new Promise((done) => socket.once('secureConnect', done));
  const error = await new Promise<Error | null>((done) => {
    socket.on('error', done);
    socket.renegotiate({}, done);
  });
  assert.match(String(error), /no.renegotiation/i);
  assert.equal(rig.of('secured').length, 1);
  socket.destroy();
});

test('a plain connection has its turn between handshakes that all came at once', async () => {
  await rig.close();
  rig = new Rig({ holdAfterVerbs: false, lingerMs: 0, maxConnections: 500 });
  const plain = await connected(rig);
  const others: number[] = [];
  for (let i = 0; i < 150; i++) others.push((await connected(rig)).client);
  let underWay = 0;
  rig.onEvent = ({ kind, connection }) => {
    if (kind === 'line' && connection === plain.server) underWay = rig.reactor.handshakes();
  };
  for (const client of others) rig.reactor.secure(client, slots.client, TLS_VERIFY.ask, 'localhost', '');
  rig.reactor.flush();
  rig.reactor.sendLatin1(plain.client, 'NOOP\r\n');
  rig.reactor.flush();
  await rig.event('line');
  assert.ok(underWay > 75, `${underWay} handshakes were still to be worked on`);
});

test('memory is flat over thousands of handshakes', { timeout: 60_000 }, async () => {
  const some = async (count: number): Promise<void> => {
    for (let i = 0; i < count; i++) {
      const pair = await secured(rig, slots, { key: `k${i % 5}` });
      rig.reactor.sendLatin1(pair.server, 'hi\r\n');
      rig.reactor.flush();
      await rig.until(() => rig.lines().length > 0);
      rig.reactor.close(pair.client, true);
      rig.reactor.flush();
      await rig.until(() => rig.of('closed').length === 2);
      rig.seen.length = 0;
    }
  };
  await some(1500);
  const before = process.memoryUsage.rss();
  await some(3000);
  const grown = (process.memoryUsage.rss() - before) / 3000;
  // A session, a certificate or a buffer left behind would be some kilobytes each time. A sanitizer keeps what was freed.
  const sanitized = process.env.PROTORELAY_ADDON === 'Sanitize';
  if (!sanitized) assert.ok(grown < 2500, `${grown.toFixed(0)} bytes for each handshake`);
});
