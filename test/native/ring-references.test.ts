/** Who owns a content while only the ring names it: operations not yet executed, events that nobody took. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { TLS_VERIFY } from '../../src/native.ts';
import { Rig, RULES, turns } from './rig.ts';
import { clientSlot, connected, serverSlot } from './tls-rig.ts';

const EMPTY = Buffer.alloc(0);
let rig: Rig;
beforeEach(() => {
  rig = new Rig({ holdAfterVerbs: false, lingerMs: 20 });
});
/** Checks too that nothing stays in the arena. */
afterEach(() => rig.close());

/** The writer's own reference is gone before the ring is executed. */
function sendAndForget(connection: number, text = 'content\r\n'): void {
  const handle = rig.arena.store(Buffer.from(text));
  rig.reactor.sendContent(connection, EMPTY, handle, true);
  rig.arena.release(handle);
}

test('content whose last other reference goes before the operation runs is sent whole', async () => {
  const { client, server } = await connected(rig);
  rig.reactor.expectData(server, RULES);
  sendAndForget(client, 'still here\r\n');
  // Taken for something else at once, if it were free.
  const other = rig.arena.store(Buffer.from('overwritten\r\n'));
  rig.reactor.flush();
  const { a } = await rig.event('content');
  assert.equal(rig.content(a).toString(), 'still here\r\n');
  rig.arena.release(a);
  rig.arena.release(other);
});

for (const [name, before] of [
  ['closing', (id: number) => rig.reactor.close(id)],
  ['closed at once', (id: number) => rig.reactor.close(id, true)],
  ['in a handshake', (id: number) => rig.reactor.secure(id, clientSlot(), TLS_VERIFY.none, '', '')],
] as const)
  test(`content for a connection that is ${name} is given back`, async () => {
    const { client } = await connected(rig);
    before(client);
    sendAndForget(client);
    sendAndForget(client);
    rig.reactor.flush();
    rig.reactor.close(client, true);
    rig.reactor.flush();
    await rig.until(() => rig.of('closed').some(({ connection }) => connection === client));
    assert.equal(rig.arena.freeBytes(), rig.arena.totalBytes);
  });

test('content for a connection that never was is given back', () => {
  sendAndForget(0x7fff_fff0);
  rig.reactor.flush();
  assert.equal(rig.arena.freeBytes(), rig.arena.totalBytes);
});

test('a connection that takes the place of a closed one gets nothing that was meant for it', async () => {
  const small = new Rig({ maxConnections: 2, holdAfterVerbs: false, lingerMs: 0 });
  const first = await connected(small);
  small.reactor.close(first.client, true);
  small.reactor.flush();
  await small.event('closed', 2);
  await turns();
  const second = await connected(small);
  const handle = small.arena.store(Buffer.from('stale\r\n'));
  small.reactor.sendLatin1(first.client, 'stale\r\n');
  small.reactor.sendContent(first.client, EMPTY, handle, true);
  small.reactor.close(first.client, true);
  small.arena.release(handle);
  small.reactor.sendLatin1(second.client, 'fresh\r\n');
  small.reactor.flush();
  await small.event('line');
  assert.deepEqual(small.lines(), ['fresh']);
  await small.close();
});

test('a ring that overflows executes what it holds, and forgets nothing', async () => {
  const { client } = await connected(rig);
  const handle = rig.arena.store(Buffer.from('x\r\n'));
  for (let i = 0; i < 9000; i++)
    rig.reactor.sendContent(i % 3 === 0 ? client : 0x7fff_0000 + i, EMPTY, handle, true);
  rig.arena.release(handle);
  rig.reactor.close(client, true);
  rig.reactor.flush();
  await rig.event('closed');
});

test('a reactor destroyed with operations in its ring gives back what they name', async () => {
  const { client } = await connected(rig);
  sendAndForget(client);
  sendAndForget(0x7fff_fff0);
  rig.reactor.destroy();
  sendAndForget(client);
  assert.equal(rig.arena.freeBytes(), rig.arena.totalBytes);
});

test('the same from within a turn', async () => {
  const { client } = await connected(rig);
  const done = new Promise<void>((resolve) => {
    rig.onEvent = ({ kind }) => {
      if (kind !== 'line') return;
      sendAndForget(client);
      rig.reactor.destroy();
      sendAndForget(client);
      resolve();
    };
  });
  rig.reactor.sendLatin1(client, 'line\r\n');
  rig.reactor.flush();
  await done;
  await turns();
  assert.equal(rig.arena.freeBytes(), rig.arena.totalBytes);
});

test('content that nobody took from its event is given back', async () => {
  const { client, server } = await connected(rig);
  rig.takesContent = false;
  rig.reactor.expectData(server, RULES);
  rig.reactor.sendLatin1(client, 'nobody wants it\r\n.\r\n');
  rig.reactor.flush();
  await rig.event('content');
  await turns();
  assert.equal(rig.arena.freeBytes(), rig.arena.totalBytes);
});

test('any operation on any connection at any time leaves nothing behind', { timeout: 60_000 }, async () => {
  const slots = { server: serverSlot(), client: clientSlot() };
  let seed = 0x5eed;
  const below = (limit: number): number => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
    return (seed >>> 8) % limit;
  };
  const ids: number[] = [];
  const anyId = (): number => ids[below(ids.length)] ?? 1;
  const operations: ((id: number) => void)[] = [
    (id) =>
      rig.reactor.sendLatin1(
        id,
        ['NOOP\r\n', '.\r\n', 'DATA\r\nx\r\n.\r\n', 'BDAT 3\r\nab'][below(4)] as string,
      ),
    (id) => rig.reactor.send(id, Buffer.alloc(below(100_000), 'y\r\n')),
    (id) => sendAndForget(id, 'z'.repeat(below(200_000))),
    (id) => sendAndForget(id),
    (id) => rig.reactor.expectLines(id),
    (id) => rig.reactor.expectData(id, { ...RULES, maxBytes: below(2) === 0 ? 1000 : 1 << 20 }),
    (id) => rig.reactor.expectChunk(id, below(5000), below(2) === 0, RULES),
    (id) => rig.reactor.dropContent(id),
    (id) => rig.reactor.hold(id),
    (id) => rig.reactor.expectProxy(id),
    (id) => rig.reactor.deadline(id, below(3)),
    (id) => rig.reactor.minRate(id, 1000, 1),
    (id) => rig.reactor.secure(id, below(2) === 0 ? slots.server : slots.client, below(5), '', ''),
    (id) => rig.reactor.close(id, below(4) === 0),
  ];
  rig.onEvent = ({ kind, connection, a }) => {
    if (kind === 'opened') ids.push(connection);
    if (kind === 'closed') ids.splice(ids.indexOf(connection), 1);
    if (kind === 'content' && a !== 0xffff_ffff) rig.arena.release(a);
    if (below(3) === 0) (operations[below(operations.length)] as (id: number) => void)(anyId());
  };
  const rounds = Number(process.env.RING_ROUNDS ?? 400);
  for (let round = 0; round < rounds; round++) {
    if (ids.length < 12) rig.reactor.connect('127.0.0.1', rig.acceptor.port, '', 1000);
    for (let i = below(8); i > 0; i--)
      (operations[below(operations.length)] as (id: number) => void)(anyId());
    rig.reactor.flush();
    await turns(1);
  }
});
