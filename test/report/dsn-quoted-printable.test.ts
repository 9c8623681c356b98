import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { quotedPrintable } from '../../src/report/quoted-printable.ts';

/** RFC 2045 §6.7, written the other way round. */
function decode(text: string): Buffer {
  const joined = text.replace(/=\r\n/g, '');
  return Buffer.from(
    joined.replace(/=([0-9A-F]{2})/g, (_, hex) => String.fromCharCode(Number.parseInt(hex, 16))),
    'latin1',
  );
}

test('decodes to what it was made of, in short ASCII lines without blanks at their ends', () => {
  const piece = fc.oneof(
    fc.constantFrom('\r\n', ' ', '\t', '=', '.', ' \r\n', 'x'.repeat(75), 'x'.repeat(76), 'x'.repeat(77)),
    fc.string({ unit: 'binary', maxLength: 90 }),
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 30 }), (pieces) => {
      const bytes = Buffer.from(pieces.join(''));
      const text = quotedPrintable(bytes);
      assert.deepEqual(decode(text), bytes);
      for (const line of text.split('\r\n')) {
        assert.equal(line.length <= 76, true);
        assert.match(line, /^[\t -~]*$/);
        assert.equal(/[ \t]$/.test(line), false);
      }
    }),
  );
});

test('a line of 76 characters is not broken', () => {
  const line = 'x'.repeat(76);
  assert.equal(quotedPrintable(Buffer.from(`${line}\r\n${line}`)), `${line}\r\n${line}`);
});
