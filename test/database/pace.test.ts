import assert from 'node:assert/strict';
import { it } from 'node:test';
import { Pace } from '../../src/database/pace.ts';

it('the pace of an action stays within bounds, and is a whole number of rows', () => {
  const pace = new Pace();
  const seen: number[] = [];
  for (const ms of [...new Array(6).fill(1), ...new Array(8).fill(1000)]) {
    pace.took(ms);
    seen.push(pace.rows);
  }
  assert.ok(seen.every(Number.isInteger), seen.join(' '));
  assert.deepEqual([Math.max(...seen), Math.min(...seen)], [10_000, 250]);
  pace.took(45);
  assert.equal(pace.rows, 250, 'as it should be');
});
