import assert from 'node:assert/strict';
import { constants } from 'node:os';
import { afterEach, beforeEach, test } from 'node:test';
import { CLOSE_REASON, LINE_FLAG } from '../../src/native.ts';
import { Rig, RULES, turns } from './rig.ts';

let rig: Rig;
beforeEach(() => {
  rig = new Rig();
});
afterEach(() => rig.close());

test('opened names listener and both ends', async () => {
  const client = await rig.client();
  const { localPort } = client.socket;
  assert.equal(rig.seen[0]?.text, `3 127.0.0.1 ${localPort} 127.0.0.1 ${rig.acceptor.port}`);
});

test('lines split at every byte are the same lines', async () => {
  const input = 'EHLO a\r\nMAIL FROM:<a@b>\r\n\r\nbare\nRCPT\r\n';
  const expected = ['EHLO a', 'MAIL FROM:<a@b>', '', 'bare', 'RCPT'];
  for (let at = 0; at <= input.length; at++) {
    const client = await rig.client();
    rig.seen.length = 0;
    if (at > 0) await client.write(input.slice(0, at));
    if (at < input.length) await client.write(input.slice(at));
    assert.deepEqual(rig.lines(), expected, `split at ${at}`);
    assert.deepEqual(
      rig.of('line').map((event) => event.flags),
      [0, 0, 0, LINE_FLAG.bareLf, 0],
    );
    client.socket.destroy();
    await rig.event('closed');
  }
});

test('pipelined lines come in one turn, and their replies leave in one piece', async () => {
  const client = await rig.client();
  const chunks: string[] = [];
  client.socket.on('data', (text) => chunks.push(String(text)));
  rig.onEvent = (event) => {
    if (event.kind === 'line') rig.reactor.sendLatin1(event.connection, `250 ${event.text}\r\n`);
  };
  await client.write('a\r\nb\r\nc\r\n');
  assert.equal(new Set(rig.of('line').map((event) => event.turn)).size, 1);
  await client.gather(21);
  assert.deepEqual(chunks, ['250 a\r\n250 b\r\n250 c\r\n']);
});

test('a client that floods short lines does not keep another waiting, not even with the ring full', async () => {
  const flooders = [await rig.client(), await rig.client(), await rig.client()];
  const other = await rig.client();
  rig.seen.length = 0;
  // More lines than the ring has records, written before anything is read.
  for (const flooder of flooders) flooder.socket.write('X\r\n'.repeat(20_000));
  other.socket.write('NOOP\r\n');
  await rig.until(() => rig.of('line').some((event) => event.connection === other.id));
  const before = rig.of('line').findIndex((event) => event.connection === other.id);
  assert.ok(before < 10_000, `${before} lines of others came first`);
  await rig.until(() => rig.of('line').length === 60_001);
  for (const flooder of flooders)
    assert.equal(rig.of('line').filter((event) => event.connection === flooder.id).length, 20_000);
  const perTurn = new Map<string, number>();
  for (const { connection, turn } of rig.of('line'))
    perTurn.set(`${connection} ${turn}`, (perTurn.get(`${connection} ${turn}`) ?? 0) + 1);
  assert.ok(Math.max(...perTurn.values()) <= 1024, `${Math.max(...perTurn.values())} lines of one in a turn`);
});

test('after a verb that changes reading, nothing is parsed until the session says how', async () => {
  for (const verb of ['DATA', 'data', 'BDAT 3', 'STARTTLS', 'auth PLAIN', 'AUTH\tx']) {
    const client = await rig.client();
    rig.seen.length = 0;
    await client.write(`${verb}\r\nNOOP\r\n`);
    assert.deepEqual(rig.lines(), [verb]);
    rig.reactor.expectLines(client.id);
    rig.reactor.flush();
    await turns();
    assert.deepEqual(rig.lines(), [verb, 'NOOP']);
  }
});

test('verbs that only begin like these do not hold', async () => {
  const client = await rig.client();
  await client.write('DATABASE\r\nAUTHX\r\nBDATS 3\r\nSTARTTLSX\r\nDAT\r\n');
  assert.equal(rig.lines().length, 5);
});

test('hold stops parsing, expectLines goes on, and bytes that came meanwhile are not lost', async () => {
  const client = await rig.client();
  rig.reactor.hold(client.id);
  rig.reactor.flush();
  await client.write('one\r\n');
  await client.write('two\r\nthr');
  assert.deepEqual(rig.lines(), []);
  rig.reactor.expectLines(client.id);
  rig.reactor.flush();
  await rig.event('line', 2);
  await client.write('ee\r\n');
  assert.deepEqual(rig.lines(), ['one', 'two', 'three']);
});

test('a line that is too long is cut, flagged once, and the next line is whole', async () => {
  const long = 'x'.repeat(2000);
  const client = await rig.client();
  for (const at of [1, 511, 512, 513, 514, 515, 1999, 2000, 2001, 2002]) {
    rig.seen.length = 0;
    const input = `${long}\r\nNOOP\r\n`;
    await client.write(input.slice(0, at));
    await client.write(input.slice(at));
    assert.deepEqual(rig.lines(), ['x'.repeat(512), 'NOOP'], `split at ${at}`);
    assert.deepEqual(
      rig.of('line').map((event) => event.flags),
      [LINE_FLAG.tooLong, 0],
    );
  }
});

test('a line of exactly the limit is not too long, wherever it is split', async () => {
  const input = `${'x'.repeat(512)}\r\n`;
  const client = await rig.client();
  for (const at of [511, 512, 513]) {
    rig.seen.length = 0;
    await client.write(input.slice(0, at));
    await client.write(input.slice(at));
    assert.deepEqual([rig.lines()[0]?.length, rig.seen[0]?.flags], [512, 0]);
  }
});

test('bytes without any line end use no memory beyond the limit and end as one flagged line', async () => {
  const client = await rig.client();
  for (let i = 0; i < 50; i++) await client.write('y'.repeat(60_000));
  await client.write('\n');
  assert.equal(rig.lines().length, 1);
  assert.equal(rig.seen.at(-1)?.flags, LINE_FLAG.tooLong | LINE_FLAG.bareLf);
});

test('more lines than one turn can carry all arrive, in order', async () => {
  const client = await rig.client();
  const count = 20_000;
  const sent: string[] = [];
  for (let i = 0; i < count; i++) sent.push(`${i}`);
  client.socket.write(`${sent.join('\r\n')}\r\n`);
  await rig.event('line', count);
  assert.deepEqual(rig.lines(), sent);
  assert.ok(new Set(rig.of('line').map((event) => event.turn)).size > 1);
});

test('more output than the ring or the byte area holds arrives whole and in order', async () => {
  const client = await rig.client();
  let expected = '';
  for (let i = 0; i < 10_000; i++) {
    rig.reactor.sendLatin1(client.id, `${i};`);
    expected += `${i};`;
  }
  const big = 'z'.repeat(300_000);
  rig.reactor.sendLatin1(client.id, big);
  rig.reactor.sendUtf8(client.id, 'é');
  rig.reactor.flush();
  await client.gather(expected.length + big.length + 2);
  assert.equal(client.received, `${expected}${big}Ã©`);
});

test('a peer that does not read is not read either', async () => {
  const client = await rig.client();
  client.socket.pause();
  const reply = Buffer.alloc(10_000, 'r');
  rig.onEvent = (event) => {
    if (event.kind === 'line') rig.reactor.send(event.connection, reply);
  };
  const lines = 800;
  for (let i = 0; i < lines; i++) await client.write('NOOP\r\n');
  const answered = rig.of('line').length;
  assert.ok(answered < lines, `${answered} lines were parsed although nobody took their replies`);
  await turns(50);
  assert.equal(rig.of('line').length, answered);
  assert.equal(rig.of('closed').length, 0);
  client.socket.resume();
  await rig.event('line', lines);
  await client.gather(lines * reply.length);
});

test('a peer whose unsent replies pass the limit is dropped', async () => {
  const client = await rig.client();
  client.socket.pause();
  const reply = Buffer.alloc(200_000, 'r');
  rig.onEvent = (event) => {
    if (event.kind === 'line') rig.reactor.send(event.connection, reply);
  };
  client.socket.write('NOOP\r\n'.repeat(100));
  const closed = await rig.event('closed');
  assert.deepEqual([closed.a, closed.b], [CLOSE_REASON.error, constants.errno.ENOBUFS]);
});

test('lines before the end of the stream are answered before it is told', async () => {
  const client = await rig.client();
  rig.onEvent = (event) => {
    if (event.kind === 'line') rig.reactor.sendLatin1(event.connection, 'ok\r\n');
  };
  client.socket.end('NOOP\r\n');
  await rig.event('closed');
  assert.deepEqual(
    rig.seen.map((event) => event.kind),
    ['opened', 'line', 'closed'],
  );
  await client.closed;
  assert.equal(client.received, 'ok\r\n');
});

test('operations on ids that are gone do nothing', async () => {
  const first = await rig.client();
  first.socket.destroy();
  await rig.event('closed');
  const second = await rig.client();
  assert.notEqual(second.id, first.id);
  for (const id of [first.id, 0, 0x7fffffff, 12345]) {
    rig.reactor.sendLatin1(id, 'to nobody');
    rig.reactor.expectData(id, RULES);
    rig.reactor.deadline(id, 1);
    rig.reactor.close(id, true);
  }
  rig.reactor.sendLatin1(second.id, 'hello');
  rig.reactor.flush();
  await second.gather(5);
  assert.equal(second.received, 'hello');
  assert.equal(rig.of('closed').length, 1);
});
