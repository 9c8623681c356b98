/**
 * Harm at each step of a TLS dialog, record by record: both roles of the reactor, both versions. Whatever it is, the
 * connection ends, its handshake is over, and no line is read that the peer did not send over TLS.
 */
import assert from 'node:assert/strict';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { afterEach, beforeEach, test } from 'node:test';
import { createServer as createTlsServer, type Server as TlsServer, connect as tlsConnect } from 'node:tls';
import { TLS_VERIFY } from '../../src/native.ts';
import { Rig } from './rig.ts';
import { ALERTS, CONTENT, Middle } from './tls-middle.ts';
import { clientSlot, LOCALHOST, secured, serverSlot } from './tls-rig.ts';

let rig: Rig;
beforeEach(() => {
  rig = new Rig({ holdAfterVerbs: false, lingerMs: 50 });
});
afterEach(() => rig.close());

const slots = { server: serverSlot(), client: clientSlot() };
type Version = 'TLSv1.2' | 'TLSv1.3';
type Role = 'server' | 'client';
const CHANGE_CIPHER_SPEC = 0x14;

/** Nothing but a deadline ends this one. */
const UNFINISHED = 'a record that lacks its last byte';

/** What is done before a record goes to the reactor; true: the record and the rest follow. */
const HARMS: Record<string, (to: Socket, record: Buffer) => boolean> = {
  'a fatal alert': (to) => to.write(ALERTS.fatal) || true,
  'a warning': (to) => to.write(ALERTS.warning) || true,
  user_canceled: (to) => to.write(ALERTS['user-canceled']) || true,
  close_notify: (to) => to.write(ALERTS['close-notify']) || true,
  'a record cut, then the end': (to, record) => to.end(record.subarray(0, record.length >> 1)) === null,
  'a record cut, then a reset': (to, record) => {
    to.write(record.subarray(0, record.length >> 1), () => to.resetAndDestroy());
    return false;
  },
  [UNFINISHED]: (to, record) => {
    to.write(record.subarray(0, -1));
    return false;
  },
  'half-closed': (to) => to.end() === null,
  'clear text': (to) => to.write('NOOP injected\r\n') || true,
  'the record twice': (to, record) => to.write(record) || true,
};
/** These leave no handshake that could succeed. */
const FATAL = ['a fatal alert', 'a record cut, then the end', 'a record cut, then a reset', 'half-closed'];

/** Passes bytes to the reactor record by record; tells the types of those it saw. */
function byRecord(from: Socket, to: Socket, at: number, harm: (typeof HARMS)[string] | null): number[] {
  const types: number[] = [];
  let left: Buffer = Buffer.alloc(0);
  let over = false;
  from.on('data', (bytes) => {
    left = Buffer.concat([left, bytes]);
    while (!over && left.length >= 5 && left.length >= 5 + left.readUInt16BE(3)) {
      const record = left.subarray(0, 5 + left.readUInt16BE(3));
      left = left.subarray(record.length);
      types.push(record[0] as number);
      if (types.length - 1 === at && harm !== null) over = !harm(to, record);
      if (!over) to.write(record);
    }
  });
  from.on('end', () => over || to.end());
  return types;
}

interface Outcome {
  timeout: boolean;
  secured: boolean;
  lines: string[];
  types: number[];
}

/** One dialog with harm before the nth record that goes to the reactor. */
class Dialogs {
  readonly #role: Role;
  readonly #version: Version;
  readonly #server: TlsServer;
  #port = 0;

  constructor(role: Role, version: Version) {
    this.#role = role;
    this.#version = version;
    const own = { cert: LOCALHOST.certificate, key: LOCALHOST.key, maxVersion: version };
    this.#server = createTlsServer(own, (socket) => {
      socket.on('error', () => {});
      socket.write('220 hello\r\n');
      socket.on('data', () => socket.end('221 bye\r\n'));
    });
    this.#server.on('tlsClientError', () => {});
  }

  async open(): Promise<void> {
    await new Promise<void>((done) => this.#server.listen(0, '127.0.0.1', done));
    this.#port = (this.#server.address() as AddressInfo).port;
  }

  close(): void {
    this.#server.close();
  }

  async run(at: number, name: string): Promise<Outcome> {
    const harm = HARMS[name] ?? null;
    const toReactor = this.#role === 'server';
    let types: number[] = [];
    const proxy: Server = createServer({ allowHalfOpen: true }, (inner) => {
      const outer = connect({
        port: toReactor ? rig.acceptor.port : this.#port,
        host: '127.0.0.1',
        noDelay: true,
        allowHalfOpen: true,
      });
      inner.on('error', () => outer.destroy());
      outer.on('error', () => inner.destroy());
      const [peer, reactor] = toReactor ? [inner, outer] : [outer, inner];
      types = byRecord(peer, reactor, at, harm);
      reactor.on('data', (bytes) => peer.write(bytes));
      reactor.on('end', () => peer.end());
      reactor.on('close', () => peer.destroySoon());
    });
    await new Promise<void>((done) => proxy.listen(0, '127.0.0.1', done));
    const { port } = proxy.address() as AddressInfo;
    const connection = toReactor ? await this.#accept(port) : await this.#connect(port);
    rig.reactor.deadline(connection, name === UNFINISHED ? 150 : 20_000);
    rig.reactor.flush();
    const mine = () => rig.seen.filter((event) => event.connection === connection);
    await rig.until(() => mine().some(({ kind }) => kind === 'closed'));
    proxy.close();
    return {
      timeout: mine().some(({ kind }) => kind === 'timeout'),
      secured: mine().some(({ kind }) => kind === 'secured'),
      lines: mine().flatMap(({ kind, text }) => (kind === 'line' ? [text] : [])),
      types,
    };
  }

  /** The reactor is the server. */
  async #accept(port: number): Promise<number> {
    const opened = rig.of('opened').length;
    const trust = { ca: LOCALHOST.certificate, servername: 'localhost', maxVersion: this.#version };
    const client = tlsConnect({ port, host: '127.0.0.1', ...trust });
    client.on('error', () => {});
    client.on('secureConnect', () => client.write('NOOP\r\n'));
    client.on('data', () => client.end('QUIT\r\n'));
    const { connection } = await rig.event('opened', opened + 1);
    rig.reactor.secure(connection, slots.server, TLS_VERIFY.none, '', '');
    return connection;
  }

  async #connect(port: number): Promise<number> {
    const connection = rig.reactor.connect('127.0.0.1', port, '', 5000);
    await rig.until(() => rig.of('opened').some((event) => event.connection === connection));
    rig.reactor.secure(connection, slots.client, TLS_VERIFY.trust, 'localhost', '');
    return connection;
  }
}

for (const role of ['server', 'client'] as const)
  for (const version of ['TLSv1.3', 'TLSv1.2'] as const)
    test(`${role}, ${version}: harm before each record ends that connection at most`, {
      timeout: 120_000,
    }, async (t) => {
      rig.onEvent = ({ kind, connection, text }) => {
        if (kind === 'timeout') rig.reactor.close(connection, true);
        else if (kind === 'line' && role === 'server') rig.reactor.sendLatin1(connection, `250 ${text}\r\n`);
        else if (kind === 'line' && text.startsWith('220')) rig.reactor.sendLatin1(connection, 'QUIT\r\n');
      };
      const dialogs = new Dialogs(role, version);
      await dialogs.open();
      t.after(() => dialogs.close());
      const said = role === 'server' ? ['NOOP', 'QUIT'] : ['220 hello', '221 bye'];
      const clean = await dialogs.run(-1, '');
      assert.deepEqual(clean.lines, said);
      // With the record behind the change of cipher the handshake is not over yet in any of the four.
      const handshake = clean.types.indexOf(CHANGE_CIPHER_SPEC) + 2;
      assert.ok(handshake >= 3 && clean.types.length > handshake, `records: ${clean.types.join(' ')}`);
      for (const name of Object.keys(HARMS))
        for (let at = 0; at < clean.types.length; at++) {
          const what = `${name} before record ${at}`;
          const { secured: done, lines, timeout } = await dialogs.run(at, name);
          assert.equal(timeout, name === UNFINISHED, what);
          assert.deepEqual(lines, said.slice(0, lines.length), what);
          if (at < handshake && FATAL.includes(name)) assert.equal(done, false, what);
          assert.equal(rig.reactor.handshakes(), 0, what);
          rig.seen.length = 0;
        }
      rig.onEvent = () => {};
      await secured(rig, slots);
    });

test('alerts over TLS: fatal ones end the connection, user_canceled does not, neither does what cannot be', async (t) => {
  rig.onEvent = ({ kind, connection, text }) => {
    if (kind === 'line') rig.reactor.sendLatin1(connection, `250 ${text}\r\n`);
  };
  for (const [alert, ends] of [
    [[2, 40], 1],
    [[1, 40], 1], // in TLS 1.3 all others are fatal, whatever they say of themselves (RFC 8446 §6)
    [[1, 90], null],
    [[1, 0], 0],
    [[1], 1],
  ] as const) {
    const middle = await Middle.open(rig, slots.server);
    t.after(() => middle.close());
    const from = rig.lines().length;
    await middle.put13(0, CONTENT.application, 'before\r\n');
    await middle.put13(1, CONTENT.alert, Buffer.from(alert));
    await middle.put13(2, CONTENT.application, 'after\r\n');
    const closed = () => rig.of('closed').find(({ connection }) => connection === middle.id);
    await rig.until(() => closed() !== undefined || rig.lines().length === from + 2);
    const lines = rig.lines().slice(from);
    assert.deepEqual(lines, ends === null ? ['before', 'after'] : ['before'], String(alert));
    assert.equal(closed()?.a, ends ?? undefined, String(alert));
  }
});

test('a server that asks for renegotiation does not get it, one that closed its half is heard to the end', async (t) => {
  const own = { cert: LOCALHOST.certificate, key: LOCALHOST.key, maxVersion: 'TLSv1.2' } as const;
  let refusal: Error | null = null;
  const server = createTlsServer(own, (socket) => {
    socket.on('error', (error) => {
      refusal ??= error;
    });
    socket.once('data', (bytes) => {
      if (bytes.toString() === 'AGAIN\r\n') socket.renegotiate({}, (error) => (refusal ??= error));
      else socket.end('221 one\r\n221 two\r\n');
    });
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  t.after(() => server.close());
  const { port } = server.address() as AddressInfo;
  for (const line of ['AGAIN\r\n', 'BYE\r\n']) {
    const connection = rig.reactor.connect('127.0.0.1', port, '', 5000);
    const mine = (kind: string) => rig.seen.find((e) => e.connection === connection && e.kind === kind);
    await rig.until(() => mine('opened') !== undefined);
    rig.reactor.secure(connection, slots.client, TLS_VERIFY.trust, 'localhost', '');
    rig.reactor.flush();
    await rig.until(() => mine('secured') !== undefined);
    rig.reactor.sendLatin1(connection, line);
    rig.reactor.flush();
    await rig.until(() => mine('closed') !== undefined);
  }
  assert.match(String(refusal), /no.renegotiation/i);
  assert.equal(rig.of('secured').length, 2);
  assert.deepEqual(rig.lines(), ['221 one', '221 two']);
});
