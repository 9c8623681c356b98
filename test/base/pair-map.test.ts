import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { PairMap } from '../../src/base/pair-map.ts';

interface Value {
  second: string;
  number: number;
}

test('a map by two strings does what a map by both joined does', () => {
  const name = fc.constantFrom('a', 'b', 'c');
  const step = fc.record({ does: fc.constantFrom('set', 'delete'), first: name, second: name });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const pairs = new PairMap<Value>(({ second }) => second);
      const model = new Map<string, Value>();
      steps.forEach(({ does, first, second }, number) => {
        const key = `${first} ${second}`;
        if (does === 'set') {
          const value = { second, number };
          pairs.set(first, second, value);
          model.set(key, value);
        } else {
          pairs.delete(first, second);
          model.delete(key);
        }
        assert.equal(pairs.size, model.size);
        for (const one of ['a', 'b', 'c'])
          for (const two of ['a', 'b', 'c']) assert.equal(pairs.get(one, two), model.get(`${one} ${two}`));
        const numbers = (values: Iterable<Value>): number[] =>
          [...values].map((v) => v.number).sort((x, y) => x - y);
        assert.deepEqual(numbers(pairs.values()), numbers(model.values()));
      });
    }),
  );
});
