/** `persist_min_free_disk_mb` is a floor: contents that stream to the disk stop above it, in the middle too. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { RelayFixture } from '../support/relay-fixture.ts';
import { Talk } from '../support/talk.ts';
import { skipWithoutMount, Tmpfs } from '../support/tmpfs.ts';
import { eventually } from '../support/wait.ts';

const MIB = 1024 * 1024;
const DISK_MB = 96;
const FLOOR_MB = 40;
/** A database's own files, which grow as messages are committed. */
const OWN_MB = 2;

test('twelve messages of 16 MB to a disk with room for three: 452 4.3.1, and the floor holds', {
  skip: skipWithoutMount(),
  timeout: 60_000,
}, async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'floor-'));
  const disk = new Tmpfs(join(dir, 'data'), DISK_MB * 1024);
  const settings = { delivery: { enabled: false }, persist_min_free_disk_mb: FLOOR_MB };
  const relay = await RelayFixture.start(settings, { dir });
  t.after(async () => {
    await relay.destroy();
    disk.unmount();
    rmSync(dir, { recursive: true, force: true });
  });
  const freeMb = (): number => {
    const { bavail, bsize } = statfsSync(disk.path);
    return (bavail * bsize) / MIB;
  };
  let least = freeMb();
  const watch = setInterval(() => {
    least = Math.min(least, freeMb());
  }, 2);
  t.after(() => clearInterval(watch));
  const where = { host: '127.0.0.1', port: relay.port };
  const line = `${'x'.repeat(78)}\r\n`;
  const part = Buffer.from(line.repeat((2 * MIB) / line.length));
  const begun = await Promise.all(
    Array.from({ length: 12 }, async () => {
      const talk = await Talk.hello(where);
      assert.match(await talk.say('MAIL FROM:<a@b.test>'), /^250 /);
      assert.match(await talk.say('RCPT TO:<c@d.test>'), /^250 /);
      assert.match(await talk.say('DATA'), /^354 /);
      return talk;
    }),
  );
  for (let i = 0; i < 8; i++)
    await Promise.all(begun.map((talk) => new Promise((done) => talk.socket.write(part, done))));
  // Nothing is committed so far: what fills the disk are spill files alone.
  const replies = await Promise.all(begun.map((talk) => talk.say('.')));
  const refused = replies.filter((reply) => reply.startsWith('452 4.3.1 ')).length;
  const taken = replies.filter((reply) => reply.startsWith('250 ')).length;
  assert.equal(refused + taken, 12, replies.join('\n'));
  assert.ok(refused >= 8, `${refused} refused`);
  assert.ok(least >= FLOOR_MB - OWN_MB, `${least.toFixed(1)} MB were free at the least`);
  for (const talk of begun) talk.destroy();
  // What was refused is gone from the disk, and small mail goes on.
  await eventually(async () => {
    const talk = await Talk.hello(where);
    assert.match(await talk.send({ to: 'c@d.test' }), /^250 /);
    talk.destroy();
  });
  // SIZE says so before a byte is sent. How much of what was taken the queue's file still holds is its own matter.
  const spareMb = Math.floor(freeMb() - FLOOR_MB - 10);
  if (spareMb > 0) writeFileSync(join(disk.path, 'other'), Buffer.alloc(spareMb * MIB));
  await eventually(async () => {
    const sized = await Talk.hello(where);
    assert.match(await sized.say(`MAIL FROM:<a@b.test> SIZE=${25 * MIB}`), /^452 4\.3\.1 /);
    sized.destroy();
  });
});
