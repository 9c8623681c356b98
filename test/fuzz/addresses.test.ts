/** The hand-written address parser against its grammar (RFC 5321 §4.1.2, and what is wider) as regular expressions, on random input. */
import assert from 'node:assert/strict';
import { isIPv6 } from 'node:net';
import { test } from 'node:test';
import fc from 'fast-check';
import { domainForm, domainOf } from '../../src/base/domain.ts';
import { parsePath } from '../../src/protocol/address.ts';

const ATEXT = "[A-Za-z0-9!#$%&'*+\\-/=?^_`{|}~]";
const QUOTED = '"(?:[ !#-\\[\\]-~]|\\\\[ -~])*"';
const LITERAL = '\\[([^\\]]*)\\]';

interface Grammar {
  path: RegExp;
  routedPostmaster: RegExp;
}

function grammar(dotString: string, letters: string, end: string): Grammar {
  const label = `[${letters}](?:[${letters}-]{0,61}[${letters}])?`;
  const domain = `${label}(?:\\.${label})*${end}`;
  const route = `@${domain}(?:,@${domain})*:`;
  return {
    path: new RegExp(`^<(?:${route})?((${dotString}|${QUOTED})@(?:(${domain})|${LITERAL}))>`),
    routedPostmaster: new RegExp(`^<(?:${route})(postmaster)>`, 'i'),
  };
}

const STRICT = grammar(`${ATEXT}+(?:\\.${ATEXT}+)*`, 'A-Za-z0-9', '');
const WIDE = grammar(`\\.*${ATEXT}(?:${ATEXT}|\\.)*`, 'A-Za-z0-9_', '\\.?');

function isLiteral(inner: string, strict: boolean): boolean {
  if (!strict && isIPv6(inner) && !inner.includes('%')) return true;
  if (/^\d{1,3}(\.\d{1,3}){3}$/.test(inner)) return inner.split('.').every((part) => Number(part) <= 255);
  const [, tag = '', value = ''] = /^([A-Za-z0-9-]*[A-Za-z0-9]):(.+)$/s.exec(inner) ?? [];
  if (tag.toLowerCase() === 'ipv6') return isIPv6(value) && !value.includes('%');
  return tag !== '' && inner.length <= 253 && /^[!-Z^-~]+$/.test(value);
}

/** Mailbox of the path at the start of the text, or null. */
function reference(text: string, strict: boolean): string | null {
  const { path, routedPostmaster } = strict ? STRICT : WIDE;
  if (text.startsWith('<>')) return '';
  const bare = /^<(postmaster)>/i.exec(text) ?? routedPostmaster.exec(text);
  if (bare) return bare[1] as string;
  const match = path.exec(text);
  if (match === null) return null;
  const [, address = '', local = '', domain = '', literal] = match;
  if ((strict && local.length > 64) || domain.length > 255 || address.length > 254) return null;
  if (literal !== undefined && !isLiteral(literal, strict)) return null;
  return address;
}

const piece = fc.constantFrom(
  '<',
  '>',
  '@',
  ',',
  ':',
  '.',
  '-',
  '"',
  '\\',
  '[',
  ']',
  ' ',
  '_',
  '%',
  '\t',
  '\0',
  '\x7f',
  'a',
  'Z',
  '0',
  '255',
  '256',
  'IPv6:',
  'ipv6:',
  '::1',
  '2001:db8::',
  'tag:',
  'b.example',
  'postmaster',
  'x'.repeat(60),
  '192.0.2.1',
);
const noise = fc.array(piece, { maxLength: 14 }).map((parts) => `<${parts.join('')}`);
const local = fc.oneof(
  fc.stringMatching(/^[a-z0-9.+"\\ ]{1,12}$/),
  fc.constantFrom('a', '"a b"', 'l'.repeat(64), 'l'.repeat(65)),
);
const host = fc.oneof(
  fc.stringMatching(/^[a-z0-9._-]{1,12}$/),
  fc.constantFrom(
    'b.example',
    '[192.0.2.1]',
    '[IPv6:::1]',
    '[::1]',
    '[2001:db8::1]',
    '[x:y]',
    `${'d'.repeat(63)}.e`,
    `${'d'.repeat(64)}.e`,
    `${'d.'.repeat(130)}e`,
  ),
);
const route = fc.constantFrom('', '@r.example:', '@r.example,@s.example:', '@r:', '@,');
const near = fc
  .tuple(route, local, host, fc.constantFrom('', '>', '>x'))
  .map(([r, l, h, end]) => `<${r}${l}@${h}${end || '>'}`);

test('the address parser takes exactly what the grammar takes, strict or not', () => {
  fc.assert(
    fc.property(fc.oneof(noise, near), fc.boolean(), (text, strict) => {
      assert.equal(parsePath(text, 0, strict)?.address ?? null, reference(text, strict));
    }),
    { numRuns: 25_000 },
  );
});

test('what the strict grammar takes the wider one takes, as the same address and domain', () => {
  fc.assert(
    fc.property(fc.oneof(noise, near), (text) => {
      const path = parsePath(text, 0, true);
      if (path !== null) assert.deepEqual(parsePath(text, 0), path);
    }),
    { numRuns: 10_000 },
  );
});

test('every domain that is taken is in its one form: nothing slips past a list in another spelling', () => {
  fc.assert(
    fc.property(near, (text) => {
      const path = parsePath(text, 0);
      if (path === null || path.domain === '') return;
      assert.equal(domainForm(path.domain), path.domain);
      assert.equal(domainOf(path.address), path.domain);
    }),
    { numRuns: 5000 },
  );
});

test('any text at all: no exception, and what is accepted lies in the text', () => {
  fc.assert(
    fc.property(
      fc.string({ unit: 'binary', maxLength: 80 }),
      fc.nat(4),
      fc.boolean(),
      (text, start, strict) => {
        const path = parsePath(text, start, strict);
        if (path === null) return;
        assert(path.end <= text.length && text[path.end - 1] === '>');
        assert(text.slice(start, path.end).includes(path.address));
        assert.doesNotMatch(path.domain, /[^!-~]/);
        assert.doesNotMatch(path.address, /[^ -~\u0080-\u{10ffff}]/u);
      },
    ),
    { numRuns: 5000 },
  );
});

test('time is linear: a long hostile path is refused quickly', () => {
  const started = process.hrtime.bigint();
  for (const unit of ['a.', 'a-', '"\\', '@a,', '[', 'é.', '..', '_', 'a@b.'])
    for (const strict of [false, true]) parsePath(`<${unit.repeat(200_000)}`, 0, strict);
  assert(process.hrtime.bigint() - started < 2_000_000_000n);
});
