import assert from 'node:assert/strict';
import { test } from 'node:test';
import { QueueIds } from '../../src/mail/queue-id.ts';
import {
  AGE_MINUTES,
  ageColumn,
  noSlice,
  packed,
  type StateRow,
  StatsSum,
} from '../../src/mail/queue-stats.ts';

const NOW = 1_750_000_000_000;

test('a column of ages ends where the next one begins, and covers all ids', () => {
  let until: string | null = '0';
  for (let age = AGE_MINUTES.length; age >= 0; age--) {
    assert.notEqual(until, null);
    const found = ageColumn(until as string, NOW);
    assert.equal(found.age, age);
    until = found.until;
  }
  assert.equal(until, null);
  const made = new QueueIds(0, 0, () => NOW - 5 * 60_000).next();
  assert.deepEqual(ageColumn(made, NOW), { age: 0, until: null });
});

test('with a million destinations the big ones are counted, the others added up, and memory stays bounded', () => {
  const sum = new StatsSum();
  const row = (destination: string, recipients: number): StateRow => ({
    destination,
    state: 'RETRY',
    entries: 1,
    recipients,
    dueMs: null,
  });
  let largest = 0;
  for (let slice = 0; slice < 200; slice++) {
    const rows = Array.from({ length: 5000 }, (_, i) => row(`d${slice * 5000 + i}.test`, 1));
    for (let big = 0; big < 10; big++) rows.push(row(`big${big}.test`, 100 + big));
    sum.addSlice({ ...noSlice(), age: 3, ...packed(rows) });
    largest = Math.max(largest, sum.kept);
  }
  assert.ok(largest <= 45_010, `${largest} in memory`);
  const { destinations, other } = sum.stats();
  assert.deepEqual(
    destinations.slice(0, 10).map(({ destination, recipients }) => [destination, recipients]),
    Array.from({ length: 10 }, (_, i) => [`big${9 - i}.test`, 200 * (109 - i)]),
  );
  assert.equal(destinations.length, 1000);
  assert.equal(other.recipients, 1_000_000 - 990);
  assert.equal(other.ages[3], other.recipients);
  assert.ok(other.mayLack > 0 && other.mayLack < 50, `${other.mayLack}`);
});
