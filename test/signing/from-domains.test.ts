import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { fromDomains } from '../../src/signing/from-domains.ts';

const domainsOf = (value: string) => fromDomains(`Subject: x\r\nFrom: ${value}\r\nTo: y@z.test`);

test('the domains of a From field, however it is written', () => {
  for (const [value, domains] of [
    ['anne@example.com', ['example.com']],
    ['Anne <anne@EXAMPLE.com>', ['example.com']],
    ['"Anne, of (b@c.test)" <anne@example.com>', ['example.com']],
    ['Anne (not <b@c.test>) <anne@example.com> (at (home) b@c.test)', ['example.com']],
    ['=?utf-8?q?b=40c.test?= <anne@example.com>', ['example.com']],
    ['b@c.test <anne@example.com>', ['example.com']],
    ['Doe, John <john@example.com>', ['example.com']],
    ['"a@b"@example.com', ['example.com']],
    ['<"a>b@c.test"@example.com>', ['example.com']],
    ['anne @ example . com', ['example.com']],
    ['anne@example.com,\r\n ben@example.org', ['example.com', 'example.org']],
    ['Us: anne@example.com, Ben <ben@example.com>;', ['example.com']],
    ['anne@bücher.example', ['xn--bcher-kva.example']],
    ['anne@example.com.', ['example.com']],
  ] as const)
    assert.deepEqual(domainsOf(Buffer.from(value).toString('latin1')), { domains }, value);
});

test('a From that names nobody, or is doubled, says what is wrong', () => {
  for (const [header, fault] of [
    ['Subject: x', /no From field/],
    ['X-From: a@b.test', /no From field/],
    ['From: a@b.test\r\nFROM : c@d.test', /several From fields/],
    ['From:', /no address/],
    ['From: undisclosed:;', /no address/],
    ['From: Anne', /no address/],
    ['From: a@[192.0.2.1]', /names no domain/],
    ['From: a@b_.-', /names no domain/],
    [`From: ${'a@b.test, '.repeat(1000)}`, /too long/],
    [`From: ${Array.from({ length: 9 }, (_, i) => `a@d${i}.test`).join()}`, /too many domains/],
  ] as const) {
    const read = fromDomains(header);
    assert.match('fault' in read ? read.fault : '', fault, header);
  }
});

test('whatever a From holds, it ends in domains or a fault', () => {
  const piece = fc.constantFrom(
    '<',
    '>',
    '(',
    ')',
    '"',
    '\\',
    ',',
    ';',
    ':',
    '@',
    'a',
    '.test',
    '[',
    ']',
    ' ',
    '\xe9',
    '\r\n ',
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 40 }), (pieces) => {
      const read = domainsOf(pieces.join(''));
      if ('domains' in read) assert.ok(read.domains.every((domain) => /^[a-z0-9_.-]+$/.test(domain)));
      else assert.ok(read.fault.length > 0);
    }),
    { numRuns: 2000 },
  );
});
