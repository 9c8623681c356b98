/** The benchmark's own tools: a figure nobody checks is not a measurement. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createMessage, findMark, isIntact, MIN_SIZE_BYTES } from '../../bench/lib/bench-message.ts';
import { parseFault } from '../../bench/lib/faults.ts';
import { Histogram } from '../../bench/lib/histogram.ts';
import { Tally } from '../../bench/lib/tally.ts';

const mark = () => ({ at: 0, number: 0, timeUs: 0 });
const message = (sizeBytes: number) =>
  createMessage({ sizeBytes, run: 'abcdef01', from: 'a@bench.test', to: 'b@bench.test' });

test('percentiles are within 4 % of the exact ones, from microseconds to minutes', () => {
  const histogram = new Histogram();
  const values = Array.from({ length: 10_000 }, (_, index) => 0.002 * 1.0019 ** index);
  for (const value of values) histogram.record(value);
  for (const share of [0.01, 0.5, 0.9, 0.99]) {
    const exact = values[Math.ceil(share * values.length) - 1] as number;
    const error = Math.abs(histogram.percentileMs(share) - exact);
    // Below 32 µs the buckets are 1 µs wide.
    assert.ok(
      error <= Math.max(exact * 0.04, 0.001),
      `${share}: ${histogram.percentileMs(share)} for ${exact}`,
    );
  }
  assert.equal(histogram.maxMs, values.at(-1));
  assert.equal(new Histogram().percentileMs(0.5), 0);
});

test('messages have exactly the size asked for and only CRLF line ends', () => {
  for (let size = MIN_SIZE_BYTES; size < MIN_SIZE_BYTES + 200; size++) {
    const { header, body } = message(size);
    const whole = Buffer.concat([header, body]).toString('latin1');
    assert.equal(whole.length, size);
    assert.doesNotMatch(whole, /\r(?!\n)|(?<!\r)\n/);
    assert.ok(whole.endsWith('\r\n'));
  }
});

test('the mark is found behind trace headers, with number and time', () => {
  const { header, body, stamp } = message(2000);
  stamp(1234567, 1_790_000_000_123_456);
  const trace = Buffer.from('Received: from a by b id c;\r\n\tMon, 1 Jan 2026 00:00:00 +0000\r\n');
  const whole = Buffer.concat([trace, header, body]);
  const found = findMark(whole, 'abcdef01', mark());
  assert.deepEqual(found, { at: trace.length, number: 1234567, timeUs: 1_790_000_000_123_456 });
  assert.ok(isIntact([whole], found as NonNullable<typeof found>));
  assert.equal(findMark(whole, '00000000', mark()), null, 'another run');
  assert.equal(findMark(Buffer.from('Subject: X-Bench: no\r\n\r\n'), '', mark()), null);
});

test('one changed, lost or added byte anywhere is corruption', () => {
  const { header, body, stamp } = message(3000);
  stamp(7, 1_790_000_000_000_000);
  const whole = Buffer.concat([header, body]);
  const found = findMark(whole, '', mark());
  assert.ok(found !== null);
  for (let at = 30; at < whole.length; at += 37) {
    const changed = Buffer.from(whole);
    changed[at] = (changed[at] as number) ^ 1;
    assert.equal(isIntact([changed], found), false, `byte ${at}`);
  }
  assert.equal(isIntact([whole.subarray(0, -1)], found), false);
  assert.equal(isIntact([whole, Buffer.from('x')], found), false);
  // In parts as the arena has them.
  assert.ok(isIntact([whole.subarray(0, 1000), whole.subarray(1000, 1001), whole.subarray(1001)], found));
});

test('the tally counts distinct numbers and copies beyond the expected', () => {
  const tally = new Tally();
  for (const number of [0, 5, 5, 200_000, 5]) tally.add(number);
  assert.deepEqual([tally.count(5), tally.count(1), tally.distinct(), tally.duplicates(1)], [3, 0, 3, 2]);
});

test('faults are read, nonsense is named', () => {
  assert.deepEqual(parseFault('4xx:1%'), { stage: 'end', code: 451, share: 0.01 });
  assert.deepEqual(parseFault('550@rcpt:0.5%'), { stage: 'rcpt', code: 550, share: 0.005 });
  assert.deepEqual(parseFault('cut@data:100%'), { stage: 'data', code: 0, share: 1 });
  assert.throws(() => parseFault('451'), /--fault 451: expected/);
});
