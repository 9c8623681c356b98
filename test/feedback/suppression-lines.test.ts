import assert from 'node:assert/strict';
import { test } from 'node:test';
import { csvRecords } from '../../src/base/csv.ts';
import { SuppressionLines } from '../../src/feedback/suppression-lines.ts';
import type { Suppression } from '../../src/mail/suppression.ts';

const defaults = { tenant: 'shop', scope: 'bulk', reason: 'imported', durationMs: 500, nowMs: 1000 };

async function read(text: string): Promise<(Suppression | string)[]> {
  const lines = new SuppressionLines(defaults);
  const found: (Suppression | string)[] = [];
  const input = (async function* () {
    yield text;
  })();
  for await (const records of csvRecords(input))
    for (const record of records) {
      const entry = lines.read(record);
      if (entry !== null) found.push(entry);
    }
  return found;
}

const plain = {
  tenant: 'shop',
  target: 'a@one.test',
  scope: 'bulk',
  reason: 'imported',
  source: 'import',
  detail: '',
  createdAtMs: 1000,
  expiresAtMs: 1500,
};

test('without names of columns the first is the address; what a line does not say is filled in', async () => {
  assert.deepEqual(await read('A@one.test,whatever\r\n'), [plain]);
});

test('columns come in any order, and unknown ones are passed over', async () => {
  const text = `\uFEFFreason,Email,x,scope,tenant,source,detail,created,ends_at
Not Wanted,a@one.test,,List:News <news.one.test>,,reply,"said ""no""",2026-01-01T00:00:00Z,2026-02-01T00:00:00Z
,a@one.test,,,other,,,,
`;
  assert.deepEqual(await read(text), [
    {
      ...plain,
      scope: 'list:news.one.test',
      reason: 'not_wanted',
      source: 'reply',
      detail: 'said "no"',
      createdAtMs: Date.parse('2026-01-01T00:00:00Z'),
      expiresAtMs: Date.parse('2026-02-01T00:00:00Z'),
    },
    { ...plain, tenant: 'other' },
  ]);
});

test('what makes no sense is said, and does not stay with the lines behind it', async () => {
  const text = `address,scope,reason,created_at
a b,,,
<a@one.test>,,,
a@one.test,weekly,,
a@one.test,weekly,,
a@one.test,,9,
a@one.test,,,yesterday
a@one.test,,,
`;
  assert.deepEqual(await read(text), [
    '"a b" is no address, and no domain',
    '"<a@one.test>" is no address, and no domain',
    '"weekly" is no scope',
    '"weekly" is no scope',
    '"9" is no reason',
    '"yesterday" is no time',
    plain,
  ]);
});
