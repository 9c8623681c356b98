import assert from 'node:assert/strict';
import { readdirSync, rmSync, statSync } from 'node:fs';
import { afterEach, test } from 'node:test';
import {
  CONTENT_FLAG,
  CONTENT_STATE,
  CONTENT_UNIT_BYTES,
  type ContentRules,
  NO_CONTENT,
} from '../../src/native.ts';
import { scanContent } from '../../src/protocol/scan.ts';
import { type Client, Rig, RULES, type Seen, turns } from './rig.ts';

let rig: Rig;
afterEach(() => rig.close());

/** A session that answers DATA and BDAT as told and goes on with lines after each content. */
function serve(rules: ContentRules = RULES): { contents: { bytes: Buffer | null; event: Seen }[] } {
  const contents: { bytes: Buffer | null; event: Seen }[] = [];
  rig.onEvent = (event) => {
    const { connection } = event;
    if (event.kind === 'content') {
      contents.push({ bytes: event.a === NO_CONTENT ? null : rig.content(event.a), event });
      if (event.a !== NO_CONTENT) rig.arena.release(event.a);
      rig.reactor.sendLatin1(connection, 'done\r\n');
      rig.reactor.expectLines(connection);
    } else if (event.kind === 'chunk') {
      rig.reactor.expectLines(connection);
    } else if (event.kind === 'line' && event.text === 'DATA') {
      rig.reactor.expectData(connection, rules);
    } else if (event.kind === 'line' && event.text.startsWith('BDAT')) {
      const [, size, last] = event.text.split(' ');
      rig.reactor.expectChunk(connection, Number(size), last === 'LAST', rules);
    } else if (event.kind === 'line' && event.text === 'RSET') {
      rig.reactor.dropContent(connection);
    }
  };
  return { contents };
}

async function reset(client: Client): Promise<void> {
  client.socket.destroy();
  await rig.until(() => rig.of('closed').some((event) => event.connection === client.id));
}

test('content is unstuffed and ends at CRLF.CRLF, split at every byte, with the next commands behind it', async () => {
  rig = new Rig();
  const { contents } = serve();
  const wire = 'Received: x\r\n\r\n..dot\r\n.\rx\r\nbare\n.\r\n..\r\n\r\n.\r\n';
  const twin = scanContent(Buffer.from(wire), { dots: true, normalizeNewlines: false, maxLineBytes: 1000 });
  assert.equal(twin.consumed, wire.length);
  const input = `DATA\r\n${wire}NOOP\r\nQUIT\r\n`;
  for (let at = 0; at < input.length; at++) {
    const client = await rig.client();
    rig.seen.length = contents.length = 0;
    if (at > 0) await client.write(input.slice(0, at));
    await client.write(input.slice(at));
    await rig.event('line', 3);
    assert.deepEqual(rig.lines(), ['DATA', 'NOOP', 'QUIT'], `split at ${at}`);
    assert.equal(contents.length, 1);
    assert.deepEqual(contents[0]?.bytes, twin.content, `split at ${at}`);
    assert.deepEqual([contents[0]?.event.flags, contents[0]?.event.b], [twin.flags, twin.trace]);
    await reset(client);
  }
});

// The block such content ends in is cut to its length: with sanitizers (build.sh sanitize) what lies behind is nobody's.
test('commands read together with the end of long content are what the client said', async () => {
  rig = new Rig();
  const { contents } = serve();
  const client = await rig.client();
  const behind = Array.from({ length: 40 }, (_, i) => `NOOP ${i}`);
  let sent = 0;
  for (const length of [65_536, 70_000, 131_072 - 900, 150_000, 199_999]) {
    await client.write('DATA\r\n');
    rig.seen.length = 0;
    const text = `${'x'.repeat(98)}\r\n`.repeat(length / 100);
    await client.write(`${text}.\r\n${behind.join('\r\n')}\r\n`);
    await rig.until(() => rig.of('line').length === behind.length);
    assert.deepEqual(rig.lines(), behind);
    assert.equal(contents[sent++]?.bytes?.toString(), text);
  }
});

test('normalized content split at every byte is the same', async () => {
  rig = new Rig();
  const { contents } = serve({ ...RULES, normalizeNewlines: true });
  const wire = 'a\nb\rc\r\n..d\n.\r\ne\r\r\n.\n\r.\r\nz\r\n.\r\n';
  const twin = scanContent(Buffer.from(wire), { dots: true, normalizeNewlines: true, maxLineBytes: 1000 });
  assert.equal(twin.consumed, wire.length);
  const input = `DATA\r\n${wire}NOOP\r\n`;
  for (let at = 0; at < input.length; at++) {
    const client = await rig.client();
    rig.seen.length = contents.length = 0;
    if (at > 0) await client.write(input.slice(0, at));
    await client.write(input.slice(at));
    await rig.event('line', 2);
    assert.deepEqual(contents[0]?.bytes?.toString(), twin.content.toString(), `split at ${at}`);
    await reset(client);
  }
});

test('content byte by byte is the same', async () => {
  rig = new Rig();
  const { contents } = serve();
  const client = await rig.client();
  await client.write('DATA\r\n');
  for (const byte of '.\r.\r\n..\r\n\r\n.\r\n') await client.write(byte);
  assert.deepEqual(contents[0]?.bytes?.toString(), '\r.\r\n.\r\n\r\n');
});

test('empty content is content of no bytes', async () => {
  rig = new Rig();
  const { contents } = serve();
  const client = await rig.client();
  await client.write('DATA\r\n.\r\n');
  await rig.event('content');
  assert.equal(contents[0]?.bytes?.length, 0);
});

test('contents of every size around chunk borders arrive byte for byte', async () => {
  rig = new Rig();
  const { contents } = serve();
  const client = await rig.client();
  let nth = 0;
  for (const size of [1, 65_000, 65_534, 65_535, 65_536, 65_537, 131_072, 500_000]) {
    const line = `${'.x'.repeat(30)}\r\n`;
    const text = line.repeat(Math.ceil(size / line.length)).slice(0, size);
    const content = Buffer.from(text.endsWith('\r\n') ? text : `${text}\r\n`);
    const stuffed = content.toString().replaceAll(/(^|\r\n)\./g, '$1..');
    client.socket.write(`DATA\r\n${stuffed}.\r\n`);
    await rig.event('content', ++nth);
    assert.ok(contents.at(-1)?.bytes?.equals(content), `${size} bytes`);
  }
});

test('content over the limit is read to its end, flagged and dropped; the connection stays usable', async () => {
  rig = new Rig();
  const { contents } = serve({ ...RULES, maxBytes: 100_000 });
  const client = await rig.client();
  client.socket.write(`DATA\r\n${'x'.repeat(300_000)}\r\n.\r\nNOOP\r\nDATA\r\nok\r\n.\r\n`);
  await rig.event('content', 2);
  assert.equal(contents[0]?.bytes, null);
  assert.equal(contents[0]?.event.flags, CONTENT_FLAG.tooBig | CONTENT_FLAG.lineTooLong);
  assert.equal(contents[1]?.bytes?.toString(), 'ok\r\n');
  assert.deepEqual(rig.lines(), ['DATA', 'NOOP', 'DATA']);
});

test('content of exactly the limit passes, one byte more does not', async () => {
  rig = new Rig();
  const { contents } = serve({ ...RULES, maxBytes: 1000 });
  const client = await rig.client();
  client.socket.write(`DATA\r\n${'x'.repeat(998)}\r\n.\r\nDATA\r\n${'x'.repeat(999)}\r\n.\r\n`);
  await rig.event('content', 2);
  assert.deepEqual(
    contents.map(({ bytes }) => bytes?.length ?? -1),
    [1000, -1],
  );
});

test('when the arena is full, content is flagged and dropped, and the next one fits again', async () => {
  rig = new Rig({ arenaBytes: 300_000 });
  const { contents } = serve();
  const client = await rig.client();
  const line = `${'x'.repeat(98)}\r\n`;
  client.socket.write(`DATA\r\n${line.repeat(4000)}.\r\nDATA\r\n${line}.\r\n`);
  await rig.event('content', 2);
  assert.equal(contents[0]?.event.flags, CONTENT_FLAG.noMemory);
  assert.equal(contents[1]?.bytes?.toString(), line);
});

test('content past the threshold lies in a spill file that goes with its last reference', async () => {
  rig = new Rig({ spillThresholdBytes: 100_000 });
  const client = await rig.client();
  rig.onEvent = (event) => {
    if (event.text === 'DATA') rig.reactor.expectData(client.id, RULES);
  };
  const line = `${'.y'.repeat(40)}\r\n`;
  client.socket.write(`DATA\r\n${`.${line}`.repeat(10_000)}.\r\n`);
  const { a: handle, flags } = await rig.event('content');
  assert.equal(flags, 0);
  const file = rig.arena.file(handle);
  assert.ok(file?.path);
  assert.equal(statSync(file.path).mode & 0o777, 0o600);
  assert.equal(rig.arena.lengthBytes(handle), line.length * 10_000);
  assert.deepEqual(rig.arena.parts(handle), []);
  assert.equal(rig.arena.totalBytes - rig.arena.freeBytes(), CONTENT_UNIT_BYTES);
  assert.equal(rig.arena.heldBytes(handle), CONTENT_UNIT_BYTES);
  assert.ok(rig.content(handle).equals(Buffer.from(line.repeat(10_000))));
  assert.equal(rig.arena.head(handle, 10).toString(), line.slice(0, 10));
  rig.arena.release(handle);
  assert.deepEqual(readdirSync(rig.spillDir), []);
});

test('a claimed spill file stays', async () => {
  rig = new Rig({ spillThresholdBytes: 1000 });
  const client = await rig.client();
  rig.onEvent = (event) => {
    if (event.text === 'DATA') rig.reactor.expectData(client.id, RULES);
  };
  client.socket.write(`DATA\r\n${'x'.repeat(200_000)}\r\n.\r\n`);
  const { a: handle } = await rig.event('content');
  rig.arena.claimFile(handle);
  assert.equal(rig.arena.file(handle)?.path, null);
  rig.arena.release(handle);
  assert.equal(readdirSync(rig.spillDir).length, 1);
});

test('when the spill file cannot be written, content and chunk are flagged with the errno and the connection stays', async () => {
  rig = new Rig({ spillThresholdBytes: 1000 });
  const { contents } = serve();
  const client = await rig.client();
  rmSync(rig.spillDir, { recursive: true });
  const text = 'x'.repeat(200_000);
  client.socket.write(`DATA\r\n${text}\r\n.\r\nBDAT 200000\r\n${text}NOOP\r\n`);
  await rig.event('line', 3);
  assert.equal(contents[0]?.bytes, null);
  for (const event of [contents[0]?.event, rig.of('chunk')[0]]) {
    assert.equal((event?.flags ?? 0) & CONTENT_FLAG.spillFailed, CONTENT_FLAG.spillFailed);
    assert.equal(event?.b, 2);
  }
  const { mkdirSync } = await import('node:fs');
  mkdirSync(rig.spillDir);
});

test('a connection that goes in the middle of content leaves nothing behind', async () => {
  rig = new Rig({ spillThresholdBytes: 100_000 });
  serve();
  for (const size of [10, 70_000, 300_000]) {
    const client = await rig.client();
    await client.write('DATA\r\n');
    client.socket.write('x'.repeat(size));
    await turns(20);
    await reset(client);
  }
  assert.equal(rig.arena.freeBytes(), rig.arena.totalBytes);
  assert.deepEqual(readdirSync(rig.spillDir), []);
});

test('BDAT chunks are joined byte for byte, dots and newlines untouched, split at every byte', async () => {
  rig = new Rig();
  const { contents } = serve();
  const first = '.\r\n.\r\n\r';
  const second = '\n..\0\xff\n';
  const input = `BDAT ${first.length}\r\n${first}BDAT ${second.length} LAST\r\n${second}NOOP\r\n`;
  for (let at = 0; at < input.length; at++) {
    const client = await rig.client();
    rig.seen.length = contents.length = 0;
    if (at > 0) await client.write(Buffer.from(input.slice(0, at), 'latin1'));
    await client.write(Buffer.from(input.slice(at), 'latin1'));
    await rig.event('line', 3);
    assert.equal(contents[0]?.bytes?.toString('latin1'), first + second, `split at ${at}`);
    assert.equal(rig.of('chunk').length, 1);
    assert.equal(contents[0]?.event.flags, CONTENT_FLAG.bareLf | CONTENT_FLAG.nul | CONTENT_FLAG.eightBit);
    await reset(client);
  }
});

test('an empty last chunk ends the content; RSET between chunks drops it', async () => {
  rig = new Rig();
  const { contents } = serve();
  const client = await rig.client();
  await client.write('BDAT 4\r\nlostRSET\r\nBDAT 4\r\nkeptBDAT 0 LAST\r\nBDAT 0 LAST\r\n');
  await rig.event('content', 2);
  assert.deepEqual(
    contents.map(({ bytes }) => bytes?.toString()),
    ['kept', ''],
  );
});

test('chunks beyond the limit are read and dropped', async () => {
  rig = new Rig();
  const { contents } = serve({ ...RULES, maxBytes: 10 });
  const client = await rig.client();
  await client.write('BDAT 8\r\n12345678BDAT 8 LAST\r\n12345678NOOP\r\n');
  await rig.event('line', 3);
  assert.equal(contents[0]?.bytes, null);
  assert.equal((contents[0]?.event.flags ?? 0) & CONTENT_FLAG.tooBig, CONTENT_FLAG.tooBig);
});

test('a state word starts waiting and only one side wins it', async () => {
  rig = new Rig();
  const handle = rig.arena.store(Buffer.from('x'));
  const { waiting, committing, withdrawn } = CONTENT_STATE;
  assert.equal(rig.arena.moveState(handle, waiting, committing), true);
  assert.equal(rig.arena.moveState(handle, waiting, withdrawn), false);
  rig.arena.release(handle);
});

test('connections that send one octet and wait take 1 KiB each, with DATA and with BDAT', async () => {
  rig = new Rig({ maxConnections: 600, listen: { backlog: 600 } });
  const before = rig.arena.freeBytes();
  const clients = await Promise.all(Array.from({ length: 200 }, () => rig.client()));
  await rig.event('opened', clients.length);
  const ids = rig.of('opened').map(({ connection }) => connection);
  ids.forEach((id, i) => {
    if (i % 2 === 0) rig.reactor.expectData(id, RULES);
    else rig.reactor.expectChunk(id, 2, true, RULES);
  });
  rig.reactor.flush();
  for (const client of clients) client.socket.write('x');
  await turns(30);
  assert.equal(before - rig.arena.freeBytes(), clients.length * CONTENT_UNIT_BYTES);
  for (const client of clients) client.socket.destroy();
  await rig.event('closed', clients.length);
  assert.equal(rig.arena.freeBytes(), before);
});

test('content that comes in pieces of any size takes at most twice of what came, and its length in the end', async () => {
  for (const piece of [1, 700, 5000, 40_000, 65_536]) {
    rig = new Rig();
    const total = 150_000;
    const client = await rig.client();
    rig.reactor.expectChunk(client.id, total, true, RULES);
    rig.reactor.flush();
    let sent = 0;
    // Single octets only at first: each is a packet and a turn.
    for (const size of piece === 1 ? Array.from({ length: 1500 }, () => 1) : []) {
      await client.write('x'.repeat(size));
      sent += size;
    }
    while (sent < total) {
      const size = Math.min(Math.max(piece, 700), total - sent);
      await client.write('x'.repeat(size));
      sent += size;
      const taken = rig.arena.totalBytes - rig.arena.freeBytes();
      assert.ok(taken <= 2 * sent + CONTENT_UNIT_BYTES, `${taken} for ${sent}, ${piece} at a time`);
    }
    const { a } = await rig.event('content');
    // Each block is rounded up, and a rest too small for a read is left.
    assert.ok(rig.arena.heldBytes(a) <= total + 3 * CONTENT_UNIT_BYTES, `${rig.arena.heldBytes(a)}`);
    assert.equal(rig.content(a).equals(Buffer.alloc(total, 'x')), true);
    rig.arena.release(a);
    if (piece < 65_536) await rig.close();
  }
});

test('a chunk of no octets ends though the client was not reading when it was asked for', async () => {
  rig = new Rig();
  const client = await rig.client();
  const reply = `250 ${'x'.repeat(1_000)}\r\n`.repeat(1_000);
  rig.onEvent = ({ kind, connection, text, a }) => {
    if (kind === 'content') {
      rig.arena.release(a);
      rig.reactor.expectLines(connection);
    } else if (text === 'NOOP') rig.reactor.sendLatin1(connection, reply);
    else if (kind === 'line') rig.reactor.expectChunk(connection, 0, true, RULES);
  };
  client.socket.pause();
  let asked = 0;
  // Until the kernel takes no more: what is behind the replies waits with them.
  for (; rig.of('content').length === asked; asked++) {
    await client.write('NOOP\r\nBDAT 0 LAST\r\n');
    await rig.event('line', 2 * asked + 2);
    await turns(20);
  }
  client.socket.resume();
  await rig.event('content', asked);
  assert.equal(rig.of('closed').length, 0);
});
