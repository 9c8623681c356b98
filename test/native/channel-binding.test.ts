/** Channel bindings (RFC 5929, RFC 9266): what both ends of a TLS connection know of it, and no other connection. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { after, before, test } from 'node:test';
import { createServer, type TLSSocket, connect as tlsConnect } from 'node:tls';
import { TLS_VERIFY } from '../../src/native.ts';
import { Rig } from './rig.ts';
import { clientSlot, facts, LOCALHOST, LOCALHOST_PAIR, secured, serverSlot } from './tls-rig.ts';

let rig: Rig;

before(() => {
  rig = new Rig();
});
after(() => rig.close());

const LABEL = 'EXPORTER-Channel-Binding';
const exported = (socket: TLSSocket): string =>
  socket.exportKeyingMaterial(32, LABEL, Buffer.alloc(0)).toString('hex');
const hex = (octets: Buffer | undefined): string => (octets ?? Buffer.alloc(0)).toString('hex');

test('TLS 1.3: tls-exporter, the same at both ends', async () => {
  const from = rig.seen.length;
  const { clientFacts } = await secured(rig, { server: serverSlot(), client: clientSlot() });
  assert.match(clientFacts.binding, /^[0-9a-f]{64}$/);
  const both = rig.seen.slice(from).filter(({ kind }) => kind === 'secured');
  assert.deepEqual(
    both.map((event) => facts(event).binding),
    [clientFacts.binding, clientFacts.binding],
  );
});

test('TLS 1.2 as server: what OpenSSL’s client knows, resumed or not', async () => {
  const slot = serverSlot();
  const rules = {
    port: rig.acceptor.port,
    host: '127.0.0.1',
    servername: 'localhost',
    ca: LOCALHOST.certificate,
  };
  let session: Buffer | undefined;
  for (const resumed of [false, true]) {
    const opened = rig.of('opened').length;
    const finished = rig.of('secured').length;
    const socket = tlsConnect({
      ...rules,
      maxVersion: 'TLSv1.2',
      ...(session === undefined ? {} : { session }),
    });
    const done = once(socket, 'secureConnect');
    const { connection } = await rig.event('opened', opened + 1);
    rig.reactor.secure(connection, slot, TLS_VERIFY.none, '', '');
    rig.reactor.flush();
    await done;
    const { binding } = facts(await rig.event('secured', finished + 1));
    assert.equal(socket.isSessionReused(), resumed);
    const unique = resumed ? socket.getPeerFinished() : socket.getFinished();
    assert.equal(binding, `${exported(socket)}/${hex(unique)}`);
    session = socket.getSession();
    socket.destroy();
  }
});

test('TLS 1.2 as client: what OpenSSL’s server knows, resumed or not', async () => {
  const server = createServer({ key: LOCALHOST_PAIR.key, cert: LOCALHOST_PAIR.chain, maxVersion: 'TLSv1.2' });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const slot = clientSlot();
  for (const resumed of [false, true]) {
    const finished = rig.of('secured').length;
    const accepted = once(server, 'secureConnection') as Promise<[TLSSocket]>;
    const connection = rig.reactor.connect('127.0.0.1', port, '', 5000);
    await rig.until(() => rig.of('opened').some((event) => event.connection === connection));
    rig.reactor.secure(connection, slot, TLS_VERIFY.trust, 'localhost', 'binding');
    rig.reactor.flush();
    const [socket] = await accepted;
    const told = facts(await rig.event('secured', finished + 1));
    assert.deepEqual([told.version, told.resumed], ['TLSv1.2', resumed]);
    const unique = resumed ? socket.getFinished() : socket.getPeerFinished();
    assert.equal(told.binding, `${exported(socket)}/${hex(unique)}`);
    socket.destroy();
    rig.reactor.close(connection, true);
    rig.reactor.flush();
  }
  server.close();
});
