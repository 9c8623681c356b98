import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Destination } from '../../src/delivery/destination.ts';
import { Lanes } from '../../src/delivery/lanes.ts';
import type { EgressSource } from '../../src/egress/egress.ts';

test('a lane without work stays for its next mail, as long as there are not many', () => {
  const source = { name: '' } as EgressSource;
  const dropped: string[] = [];
  const lanes = new Lanes(
    (key) => ({ key, source }) as unknown as Destination,
    ({ key }) => dropped.push(key),
  );
  const first = lanes.of('d0.test', source);
  lanes.rests(first);
  assert.equal(lanes.of('d0.test', source), first);
  for (let i = 1; i <= 2500; i++) lanes.of(`d${i}.test`, source);
  lanes.rests(first);
  assert.deepEqual(dropped, ['d0.test']);
  assert.equal(lanes.known('d0.test', source), undefined);
});
