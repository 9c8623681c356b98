import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isDay, looseTimeIn, timeIn } from '../../src/base/time-text.ts';

for (const [text, iso] of [
  ['2026-03-01T12:00:00Z', '2026-03-01T12:00:00.000Z'],
  ['2026-03-01t12:00:00.5z', '2026-03-01T12:00:00.500Z'],
  ['2026-03-01T12:00+02:00', '2026-03-01T10:00:00.000Z'],
  ['2028-02-29T00:00:00-00:30', '2028-02-29T00:30:00.000Z'],
  ['2026-12-31T23:59:59.123456789Z', '2026-12-31T23:59:59.123Z'],
] as const)
  test(`${text} is a time`, () => assert.equal(new Date(timeIn(text)).toISOString(), iso));

for (const text of [
  '2027-02-30T00:00:00Z',
  '2027-02-29T00:00:00Z',
  '2100-02-29T00:00:00Z',
  '2026-04-31T00:00:00Z',
  '2026-13-01T00:00:00Z',
  '2026-00-01T00:00:00Z',
  '2026-01-00T00:00:00Z',
  '2026-01-01T24:00:00Z',
  '2026-01-01T00:60:00Z',
  '2026-01-01T00:00:60Z',
  '2026-01-01T00:00:00+24:00',
  '2026-01-01T00:00:00+00:60',
  '2026-01-01T00:00:00',
  '2026-01-01 00:00:00Z',
  '2026-01-01',
  '2026-1-1T00:00:00Z',
  '1 Jan 2026',
  '',
])
  test(`${JSON.stringify(text)} is none`, () => assert.ok(Number.isNaN(timeIn(text))));

test('what a clock shows is read back, in any zone', () => {
  const max = Date.UTC(9999, 11, 31);
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max }),
      fc.integer({ min: -23 * 60 - 59, max: 23 * 60 + 59 }),
      (ms, offset) => {
        const at = Math.min(Math.max(ms + offset * 60_000, 0), max);
        const two = (n: number): string => String(n).padStart(2, '0');
        const size = Math.abs(offset);
        const zone = `${offset < 0 ? '-' : '+'}${two(Math.floor(size / 60))}:${two(size % 60)}`;
        assert.equal(timeIn(new Date(at).toISOString().replace('Z', zone)), at - offset * 60_000);
      },
    ),
  );
});

test('without zone, with a space, or a date alone, where that is allowed', () => {
  assert.equal(looseTimeIn('2026-03-01'), Date.UTC(2026, 2, 1));
  assert.equal(looseTimeIn('2026-03-01 12:00'), new Date(2026, 2, 1, 12).getTime());
  assert.ok(Number.isNaN(looseTimeIn('2027-02-30')));
  assert.ok(isDay('2026-12-31'));
  assert.ok(!isDay('2026-12-32') && !isDay('2026-12-31T00:00Z') && !isDay('2027-02-29'));
});
