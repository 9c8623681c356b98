/** What a resumed session of TLS 1.3 is keyed with: the choice in the config, seen from a peer of another make. */
import assert from 'node:assert/strict';
import { constants } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, beforeEach, test } from 'node:test';
import { connect as tlsConnect } from 'node:tls';
import { type Config, configSchema } from '../../src/config/schema.ts';
import { makeSelfSigned, TLS_VERIFY } from '../../src/native.ts';
import { TlsContexts } from '../../src/tls/tls-contexts.ts';
import { Rig } from '../native/rig.ts';
import { connected, secured } from '../native/tls-rig.ts';
import { recordingLog } from '../session/dialog-fixture.ts';

const KEY_SHARE = 51;
const X25519 = 0x1d;

const folder = mkdtempSync(join(tmpdir(), 'resumption-'));
const certFile = join(folder, 'server.pem');
const { certificate, key } = makeSelfSigned(['localhost'], 10, 'ecdsa');
writeFileSync(certFile, certificate + key);
after(() => rmSync(folder, { recursive: true }));

let rig: Rig;
let contexts: TlsContexts;
beforeEach(() => {
  rig = new Rig({ holdAfterVerbs: false });
});
afterEach(async () => {
  contexts.stop();
  await rig.close();
});

function slots(over: { tls?: object; delivery?: object }): { server: number; client: number } {
  const config: Config = configSchema.parse({
    listeners: [{ host: '127.0.0.1', port: 0, tls: 'implicit' }],
    tls: { cert_file: certFile, watch_interval_ms: 0, ...over.tls },
    delivery: { tls: { mode: 'opportunistic', ...over.delivery } },
  });
  contexts = new TlsContexts({ config, log: recordingLog([]) });
  return contexts.load();
}

/** Group of the key exchange in a ServerHello (RFC 8446 §4.1.3), from the record it came in; 0: there is none. */
function groupOf(record: Buffer): number {
  const sessionId = 5 + 4 + 2 + 32;
  const extensions = sessionId + 1 + record.readUInt8(sessionId) + 3;
  const end = extensions + 2 + record.readUInt16BE(extensions);
  for (let at = extensions + 2; at < end; at += 4 + record.readUInt16BE(at + 2))
    if (record.readUInt16BE(at) === KEY_SHARE) return record.readUInt16BE(at + 4);
  return 0;
}

/** One connection of a client that takes a session without a key exchange: was it resumed, with what, and its tickets. */
async function dial(server: number, session?: Buffer) {
  const opened = rig.of('opened').length;
  let flight = Buffer.alloc(0);
  const between = createServer((inner) => {
    const outer = connect(rig.acceptor.port, '127.0.0.1');
    inner.on('error', () => {}).on('close', () => outer.destroy());
    outer.on('error', () => {});
    outer.on('data', (bytes) => {
      flight = Buffer.concat([flight, bytes]);
    });
    inner.pipe(outer).pipe(inner);
  });
  await new Promise<void>((done) => between.listen(0, '127.0.0.1', done));
  const socket = tlsConnect({
    port: (between.address() as AddressInfo).port,
    host: '127.0.0.1',
    servername: 'localhost',
    ca: certificate,
    secureOptions: constants.SSL_OP_ALLOW_NO_DHE_KEX,
    ...(session === undefined ? {} : { session }),
  });
  const secured = new Promise((done) => socket.once('secureConnect', done));
  const tickets: Buffer[] = [];
  socket.on('session', (ticket) => tickets.push(ticket));
  const greeted = new Promise((done) => socket.once('data', done));
  const { connection } = await rig.event('opened', opened + 1);
  rig.reactor.secure(connection, server, TLS_VERIFY.none, '', '');
  rig.reactor.flush();
  await secured;
  rig.reactor.sendLatin1(connection, '220 hello\r\n');
  rig.reactor.flush();
  await greeted;
  const seen = { resumed: socket.isSessionReused(), group: groupOf(flight), tickets };
  socket.destroy();
  between.close();
  return seen;
}

async function twice(server: number) {
  const first = await dial(server);
  assert.equal(first.resumed, false);
  assert.equal(first.tickets.length, 1);
  const second = await dial(server, first.tickets[0]);
  assert.equal(second.resumed, true);
  return { first, second, ticket: first.tickets[0] as Buffer };
}

test('tls.resumption_key_exchange full: as in a first handshake, and a ticket for the next time', async () => {
  const { first, second } = await twice(slots({}).server);
  assert.equal(second.group, first.group);
  assert.equal(second.tickets.length, 1);
});

test('light: X25519 alone; a first handshake, and one whose ticket is not good, have what they always have', async () => {
  const { server } = slots({ tls: { resumption_key_exchange: 'light' } });
  const { first, second, ticket } = await twice(server);
  assert.equal(second.group, X25519);
  assert.equal(second.tickets.length, 1);
  contexts.stop();
  const stranger = await dial(slots({ tls: { resumption_key_exchange: 'light' } }).server, ticket);
  assert.deepEqual([stranger.resumed, stranger.group], [false, first.group]);
  assert.equal(stranger.tickets.length, 1);
});

test('none: nothing besides the ticket, which stays good; with a client that offers it only', async () => {
  const { server } = slots({ tls: { resumption_key_exchange: 'none' } });
  const { first, second, ticket } = await twice(server);
  assert.notEqual(first.group, 0);
  assert.equal(second.group, 0);
  assert.equal(second.tickets.length, 0);
  assert.equal((await dial(server, ticket)).resumed, true);
});

test('delivery.tls.resumption_key_exchange none is what hosts are offered; full offers an exchange only', async () => {
  for (const [how, offer] of [
    ['full', '002d00020101'],
    ['none', '002d0003020100'],
  ] as const) {
    const { client } = slots({ delivery: { resumption_key_exchange: how } });
    let hello = '';
    const server = createServer((socket) => {
      socket.on('error', () => {});
      socket.on('data', (bytes) => {
        hello += bytes.toString('hex');
        if (hello.length / 2 >= 5 + Number.parseInt(hello.slice(6, 10), 16)) socket.destroy();
      });
    });
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
    const { port } = server.address() as AddressInfo;
    const connection = rig.reactor.connect('127.0.0.1', port, '', 10_000);
    await rig.until(() => rig.of('opened').some((event) => event.connection === connection));
    rig.reactor.secure(connection, client, TLS_VERIFY.ask, 'localhost', 'k');
    rig.reactor.flush();
    await rig.until(() => rig.of('notSecured').some((event) => event.connection === connection));
    // The extension psk_key_exchange_modes (RFC 8446 §4.2.9): 1 is with an exchange, 0 without.
    assert.ok(hello.includes(offer), `${how}: ${hello}`);
    server.close();
    contexts.stop();
  }
});

test('deliveries that begin together all resume; after a handshake that failed the next begins anew', async () => {
  const pair = slots({});
  const resumed = async (): Promise<boolean> =>
    (await secured(rig, pair, { verify: TLS_VERIFY.ask, key: 'k' })).clientFacts.resumed;
  const first = await secured(rig, pair, { verify: TLS_VERIFY.ask, key: 'k' });
  rig.reactor.sendLatin1(first.server, '220 hello\r\n');
  rig.reactor.flush();
  await rig.event('line');
  // No other ticket comes before the greeting.
  assert.deepEqual([await resumed(), await resumed(), await resumed()], [true, true, true]);
  const { client, server } = await connected(rig);
  rig.reactor.secure(client, pair.client, TLS_VERIFY.ask, 'localhost', 'k');
  rig.reactor.flush();
  rig.reactor.close(server, true);
  rig.reactor.flush();
  await rig.event('notSecured');
  assert.equal(await resumed(), false);
});
