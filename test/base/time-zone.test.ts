import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { dayAfter, daysBetween, isTimeZone, TimeZone } from '../../src/base/time-zone.ts';

const iso = (ms: number): string => new Date(ms).toISOString();

test('an hour that is left out comes when the clocks are put forward; of two the first or the last counts', () => {
  const berlin = new TimeZone('Europe/Berlin');
  assert.equal(iso(berlin.at('2027-03-28', 150)), '2027-03-28T01:00:00.000Z');
  assert.equal(iso(berlin.at('2027-03-28', 180)), '2027-03-28T01:00:00.000Z');
  assert.equal(iso(berlin.at('2027-10-31', 150)), '2027-10-31T00:30:00.000Z');
  assert.equal(iso(berlin.at('2027-10-31', 150, 'last')), '2027-10-31T01:30:00.000Z');
  assert.equal(iso(berlin.at('2027-07-01', 8 * 60)), '2027-07-01T06:00:00.000Z');
  // Half an hour only, the other way around the year.
  assert.equal(iso(new TimeZone('Australia/Lord_Howe').at('2027-10-03', 135)), '2027-10-02T15:30:00.000Z');
  assert.equal(iso(new TimeZone('UTC').at('2027-01-01', 1440)), '2027-01-02T00:00:00.000Z');
});

test('in every zone, the beginning of a minute of a day is on that day or where it is left out; later minutes do not come earlier', () => {
  const zones = [
    'Europe/Berlin',
    'America/New_York',
    'Australia/Lord_Howe',
    'America/Sao_Paulo',
    'Asia/Kathmandu',
    'Africa/Casablanca',
    'UTC',
  ];
  fc.assert(
    fc.property(
      fc.constantFrom(...zones),
      fc.integer({ min: 0, max: 800 }),
      fc.nat(1439),
      fc.nat(1439),
      (name, days, a, b) => {
        const zone = new TimeZone(name);
        const day = dayAfter('2026-01-01', days);
        const [first, second] = [zone.at(day, Math.min(a, b)), zone.at(day, Math.max(a, b))];
        assert.ok(first <= second);
        assert.equal(zone.dayOf(first), day);
        assert.ok(zone.at(day, a, 'last') >= zone.at(day, a));
      },
    ),
  );
});

test('zones that nobody knows are told apart, days are counted over changes of summer time', () => {
  assert.equal(isTimeZone('Europe/Berlin'), true);
  assert.equal(isTimeZone('Europe/Berln'), false);
  assert.equal(daysBetween('2027-03-01', '2027-04-01'), 31);
  assert.equal(dayAfter('2028-02-28'), '2028-02-29');
});
