/** What somebody on the way, or a peer that means harm, puts into an established TLS connection. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import type { ConnectionOptions } from 'node:tls';
import { Rig, RULES, turns } from './rig.ts';
import { CONTENT, Middle } from './tls-middle.ts';
import { serverSlot } from './tls-rig.ts';

let rig: Rig;
let middles: Middle[];
beforeEach(() => {
  rig = new Rig({ holdAfterVerbs: false, lingerMs: 50 });
  middles = [];
});
afterEach(async () => {
  for (const middle of middles) middle.close();
  await rig.close();
});

const slot = serverSlot();
const KEY_UPDATE = Buffer.from([24, 0, 0, 1, 1]);

async function open(slot: number, over: ConnectionOptions = {}): Promise<Middle> {
  const middle = await Middle.open(rig, slot, over);
  middles.push(middle);
  return middle;
}

const spoilt = (bytes: Buffer): Buffer => {
  const changed = Buffer.from(bytes);
  changed[changed.length - 1] = (changed.at(-1) as number) ^ 1;
  return changed;
};

/** What a client sends next, and behind it in the same packet a record that was tampered with; then clear text. */
async function tamper(middle: Middle, text: string, clear: string): Promise<void> {
  const sent = new Promise<void>((done) => {
    middle.change = (bytes) => {
      setImmediate(done);
      return Buffer.concat([bytes, spoilt(bytes)]);
    };
  });
  middle.client.write(text);
  await sent;
  await middle.put(clear);
  await rig.until(() => rig.of('closed').some(({ connection }) => connection === middle.id));
}

test('lines in the clear behind a record that was tampered with are not read', {
  timeout: 60_000,
}, async () => {
  for (const maxVersion of ['TLSv1.3', 'TLSv1.2'] as const)
    for (const answers of [true, false]) {
      const from = rig.seen.length;
      rig.onEvent = ({ kind, connection }) => {
        if (kind === 'line' && answers) rig.reactor.sendLatin1(connection, '250 ok\r\n');
      };
      const middle = await open(slot, { maxVersion });
      await tamper(middle, 'NOOP\r\n', 'MAIL FROM:<injected@example.test>\r\n');
      const seen = rig.seen.slice(from);
      assert.deepEqual(
        seen.filter(({ kind }) => kind === 'line').map(({ text }) => text),
        ['NOOP'],
      );
      assert.equal(seen.find(({ kind }) => kind === 'closed')?.a, 1, 'an error closed it');
    }
});

test('content in the clear behind a record that was tampered with does not complete a message', {
  timeout: 60_000,
}, async () => {
  const middle = await open(slot);
  rig.reactor.expectData(middle.id, RULES);
  rig.reactor.flush();
  await tamper(middle, 'Subject: what I wrote\r\n\r\n', 'and what I did not\r\n.\r\n');
  assert.equal(rig.of('content').length, 0);
});

test('a close_notify without an end of the socket ends the connection, once what came before is answered', {
  timeout: 60_000,
}, async () => {
  for (const maxVersion of ['TLSv1.3', 'TLSv1.2'] as const) {
    const from = rig.seen.length;
    let heard = '';
    rig.onEvent = ({ kind, connection, text }) => {
      if (kind === 'line') rig.reactor.sendLatin1(connection, `250 ${text}\r\n`);
    };
    // The middle holds back the end of the client's stream, and sends what it has in one piece.
    const parts: Buffer[] = [];
    const middle = await open(slot, { maxVersion });
    middle.client.on('data', (bytes) => {
      heard += bytes.toString('latin1');
    });
    middle.hold();
    middle.change = (bytes) => {
      parts.push(bytes);
      return Buffer.alloc(0);
    };
    middle.client.end('one\r\ntwo\r\n');
    await middle.ended;
    await middle.put(Buffer.concat(parts));
    await rig.until(() => rig.seen.slice(from).some(({ kind }) => kind === 'closed'));
    assert.equal(rig.of('closed').at(-1)?.a, 0, 'the peer closed');
    while (heard.length < 18) await turns();
    assert.equal(heard, '250 one\r\n250 two\r\n');
  }
});

test('half a key update keeps nobody busy, and what is owed goes out once the rest came', {
  timeout: 60_000,
}, async () => {
  const middle = await open(slot);
  let heard = '';
  middle.client.on('data', (bytes) => {
    heard += bytes.toString('latin1');
  });
  rig.onEvent = ({ kind, connection, text }) => {
    if (kind === 'line') rig.reactor.sendLatin1(connection, `250 ${text}\r\n`);
  };
  await middle.put13(0, CONTENT.application, 'NOOP\r\n');
  while (heard === '') await turns();
  await middle.put13(1, CONTENT.handshake, KEY_UPDATE.subarray(0, 4));
  await turns(20);
  rig.reactor.sendLatin1(middle.id, '421 bye\r\n');
  rig.reactor.flush();
  await turns(20);
  // Nothing happens now: a loop that does nothing uses no time.
  const before = process.cpuUsage();
  const started = performance.now();
  while (performance.now() - started < 500) await new Promise((done) => setTimeout(done, 100));
  const { user, system } = process.cpuUsage(before);
  assert.ok((user + system) / 1000 < 150, `${Math.round((user + system) / 1000)} ms of CPU in half a second`);
  assert.equal(heard, '250 NOOP\r\n');
  await middle.put13(2, CONTENT.handshake, KEY_UPDATE.subarray(4));
  while (heard.length < 19) await turns();
  assert.equal(heard, '250 NOOP\r\n421 bye\r\n');
});
