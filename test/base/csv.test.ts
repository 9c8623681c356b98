import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type CsvRecord, csvLine, csvRecords } from '../../src/base/csv.ts';

async function read(...chunks: string[]): Promise<CsvRecord[]> {
  async function* input() {
    yield* chunks;
  }
  const records: CsvRecord[] = [];
  for await (const some of csvRecords(input())) records.push(...some);
  return records;
}

/** In pieces of so many characters. */
const cut = (text: string, size: number): string[] => text.match(new RegExp(`[^]{1,${size}}`, 'g')) ?? [];

test('what is written as CSV is read the same, however it is cut', async () => {
  const field = fc.string({ unit: fc.constantFrom('a', '"', ',', '\n', '\r', ' ', 'é'), maxLength: 8 });
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(field, { minLength: 2, maxLength: 4 }), { maxLength: 6 }),
      fc.integer({ min: 1, max: 20 }),
      async (rows, size) => {
        const text = rows.map(csvLine).join('');
        const records = await read(...cut(text, size));
        assert.deepEqual(
          records.map(({ fields }) => fields),
          rows,
        );
      },
    ),
  );
});

test('lines are counted over line ends within quotes, and blank lines are passed over', async () => {
  assert.deepEqual(await read('a,b\n\n"x\ny",2\r\nlast'), [
    { line: 1, fields: ['a', 'b'] },
    { line: 3, fields: ['x\ny', '2'] },
    { line: 5, fields: ['last'] },
  ]);
});

test('quotes that make no sense spoil their record only; a record that is too long is not gathered', async () => {
  assert.deepEqual(await read('a"b",c\nfine,1\n'), [
    { line: 1, fields: null },
    { line: 2, fields: ['fine', '1'] },
  ]);
  const long = `"${'x'.repeat(200_000)}`;
  const records = await read(...cut(`${long}\nfine\n`, 10_000));
  assert.equal(records[0]?.fields, null);
  assert.ok(records.length <= 2);
});
