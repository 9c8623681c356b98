import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { BegunSlots, clearBegun, hashOf, readBegun, SLOT_BYTES } from '../../src/mail/begun-slots.ts';

test('whatever was taken and not freed is read back, of all threads, and no more than there are slots', () => {
  const ids = fc.stringMatching(/^[0-9a-hjkmnp-tv-z]{15,16}$/);
  const steps = fc.array(fc.tuple(fc.nat(1), fc.boolean(), ids, fc.domain(), fc.nat(2 ** 31 - 1)), {
    maxLength: 60,
  });
  fc.assert(
    fc.property(steps, (all) => {
      const count = 8;
      const memory = Buffer.alloc(2 * count * SLOT_BYTES);
      const words = new Int32Array(memory.buffer, memory.byteOffset, memory.length / 4);
      const threads = [new BegunSlots(words, 0, count), new BegunSlots(words, count, count)];
      const held: { thread: number; slot: number; row: string }[] = [];
      for (const [thread, take, queueId, destination, fence] of all) {
        const slots = threads[thread] as BegunSlots;
        const mine = held.filter((one) => one.thread === thread);
        if (take) {
          const slot = slots.take(queueId, destination, fence);
          assert.equal(slot === -1, mine.length === count);
          if (slot >= 0) held.push({ thread, slot, row: `${queueId} ${hashOf(destination)} ${fence}` });
        } else if (mine[0] !== undefined) {
          slots.free(mine[0].slot);
          held.splice(held.indexOf(mine[0]), 1);
        }
      }
      const read = readBegun(memory).map(({ queueId, hash, fence }) => `${queueId} ${hash} ${fence}`);
      assert.deepEqual(read.sort(), held.map(({ row }) => row).sort());
      assert.equal(
        clearBegun(memory, () => true),
        0,
      );
      assert.deepEqual(readBegun(memory), []);
    }),
  );
});
