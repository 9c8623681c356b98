import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { parseRuns, runsOf, runsText, seqsOf, seqsText } from '../../src/database/seq-runs.ts';

describe('seq runs', () => {
  it('writes consecutive numbers as one run', () => {
    assert.equal(seqsText([0]), '0');
    assert.equal(seqsText([...Array(10_000).keys()]), '0-9999');
    assert.equal(seqsText([7, 0, 2, 6, 5]), '0,2,5-7');
    assert.deepEqual(parseRuns(''), []);
  });

  it('gives back every set of numbers', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(500), { minLength: 1 }), (seqs) => {
        const sorted = [...new Set(seqs)].sort((a, b) => a - b);
        assert.deepEqual(seqsOf(parseRuns(seqsText(seqs))), sorted);
        assert.equal(runsText(runsOf(seqs)), seqsText(sorted));
      }),
    );
  });
});
