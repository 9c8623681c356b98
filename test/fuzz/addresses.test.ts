/** The hand-written address parser against the grammar of RFC 5321 §4.1.2 as regular expressions, on random input. */
import assert from 'node:assert/strict';
import { isIPv6 } from 'node:net';
import { test } from 'node:test';
import fc from 'fast-check';
import { parsePath } from '../../src/protocol/address.ts';

const ATEXT = "[A-Za-z0-9!#$%&'*+\\-/=?^_`{|}~]";
const DOT_STRING = `${ATEXT}+(?:\\.${ATEXT}+)*`;
const QUOTED = '"(?:[ !#-\\[\\]-~]|\\\\[ -~])*"';
const LABEL = '[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?';
const DOMAIN = `${LABEL}(?:\\.${LABEL})*`;
const LITERAL = '\\[([^\\]]*)\\]';
const PATH = new RegExp(
  `^<(?:@${DOMAIN}(?:,@${DOMAIN})*:)?((${DOT_STRING}|${QUOTED})@(?:(${DOMAIN})|${LITERAL}))>`,
);

function isLiteral(inner: string): boolean {
  if (/^\d{1,3}(\.\d{1,3}){3}$/.test(inner)) return inner.split('.').every((part) => Number(part) <= 255);
  const [, tag = '', value = ''] = /^([A-Za-z0-9-]*[A-Za-z0-9]):(.+)$/s.exec(inner) ?? [];
  if (tag.toLowerCase() === 'ipv6') return isIPv6(value) && !value.includes('%');
  return tag !== '' && inner.length <= 253 && /^[!-Z^-~]+$/.test(value);
}

/** Mailbox of the path at the start of the text, or null. */
function reference(text: string): string | null {
  if (text.startsWith('<>')) return '';
  const bare =
    /^<(postmaster)>/i.exec(text) ??
    new RegExp(`^<(?:@${DOMAIN}(?:,@${DOMAIN})*:)(postmaster)>`, 'i').exec(text);
  if (bare) return bare[1] as string;
  const match = PATH.exec(text);
  if (match === null) return null;
  const [, address = '', local = '', domain = '', literal] = match;
  if (local.length > 64 || domain.length > 255 || address.length > 254) return null;
  if (literal !== undefined && !isLiteral(literal)) return null;
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
  fc.stringMatching(/^[a-z0-9.-]{1,12}$/),
  fc.constantFrom(
    'b.example',
    '[192.0.2.1]',
    '[IPv6:::1]',
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

test('the address parser takes exactly what the grammar takes', () => {
  fc.assert(
    fc.property(fc.oneof(noise, near), (text) => {
      assert.equal(parsePath(text, 0)?.address ?? null, reference(text));
    }),
    { numRuns: 20_000 },
  );
});

test('any text at all: no exception, and what is accepted lies in the text', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 80 }), fc.nat(4), (text, start) => {
      const path = parsePath(text, start);
      if (path === null) return;
      assert(path.end <= text.length && text[path.end - 1] === '>');
      assert(text.slice(start, path.end).includes(path.address));
      assert.doesNotMatch(path.domain, /[^!-~]/);
      assert.doesNotMatch(path.address, /[^ -~\u0080-\u{10ffff}]/u);
    }),
    { numRuns: 5000 },
  );
});

test('time is linear: a long hostile path is refused quickly', () => {
  const started = process.hrtime.bigint();
  for (const unit of ['a.', 'a-', '"\\', '@a,', '[', 'é.']) parsePath(`<${unit.repeat(200_000)}`, 0);
  assert(process.hrtime.bigint() - started < 2_000_000_000n);
});
