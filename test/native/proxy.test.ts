/** A PROXY header asked for at any moment: what was read before is looked at first, and nothing is read past memory. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { Rig, turns } from './rig.ts';
import { clientSlot, connected, secured, serverSlot } from './tls-rig.ts';

const HEADER = 'PROXY TCP4 198.51.100.1 198.51.100.2 4000 25\r\n';
let rig: Rig;
beforeEach(() => {
  rig = new Rig();
});
afterEach(() => rig.close());

for (const text of ['DATA\r\n', 'DATA\r\nPROX', `DATA\r\n${HEADER}`, `DATA\r\n${HEADER}NOOP\r\n`])
  test(`a header asked for after ${JSON.stringify(text)} was read`, async () => {
    const client = await rig.client();
    await client.write(text);
    await rig.event('line');
    rig.reactor.expectProxy(client.id);
    rig.reactor.flush();
    // `DATA` holds: what follows it was read with it.
    const rest = `${HEADER}NOOP\r\n`.slice(text.length - 'DATA\r\n'.length);
    if (rest !== '') await client.write(rest);
    const { a, b, flags } = await rig.event('proxy');
    assert.equal(flags, 0);
    assert.equal(b, HEADER.length);
    assert.ok(a >= 0);
    rig.reactor.expectLines(client.id);
    rig.reactor.flush();
    await rig.event('line', 2);
    assert.deepEqual(rig.lines(), ['DATA', 'NOOP']);
  });

test('a header asked for when more was read than one may have is none, and no memory is written past its end', async () => {
  // What is unread in the socket is more than all memory of a reactor that lines are read to.
  const waiting = Buffer.alloc(1 << 20, 'x\r\n');
  for (let round = 0; round < 20; round++) {
    const { client, server } = await connected(rig);
    rig.reactor.sendLatin1(client, `DATA\r\n${'y'.repeat(60_000)}`);
    rig.reactor.flush();
    await rig.until(() => rig.of('line').some(({ connection }) => connection === server));
    rig.reactor.send(client, waiting);
    rig.reactor.flush();
    await turns();
    rig.reactor.expectProxy(server);
    rig.reactor.flush();
    await rig.event('proxy', round + 1);
    assert.equal(rig.of('proxy')[round]?.flags, 1);
    rig.reactor.close(client, true);
    rig.reactor.close(server, true);
    rig.reactor.flush();
    await rig.event('closed', 2 * (round + 1));
  }
});

test('inside TLS there is no header', async () => {
  const pair = await secured(rig, { server: serverSlot(), client: clientSlot() });
  rig.reactor.expectProxy(pair.server);
  rig.reactor.sendLatin1(pair.client, HEADER);
  rig.reactor.flush();
  assert.equal((await rig.event('proxy')).flags, 1);
});
