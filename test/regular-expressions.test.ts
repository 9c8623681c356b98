/**
 * No regular expression of src takes more than linear time, whatever text it is given. Of each one texts are made that
 * match it; a place in such a text is repeated tens of thousands of times, and what follows is spoilt. That finds
 * nested and adjacent quantifiers that give back what they took in more than one way.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { growth } from './support/growth.ts';
import { filesUnder } from './support/source-files.ts';

const root = join(import.meta.dirname, '..');
const OCTETS = 8000;
const MATCHES = 2;
const MAX_PLACES = 10;
const SPOILT = '\u0001\n\u0001';

/** Files whose expressions read only what the operator wrote, and need not be linear. */
const EXCUSED = [
  'src/config/source.ts',
  'src/storage/hdfs-web/hdfs-web-storage.ts',
  'src/storage/open-storage.ts',
];

interface Found {
  file: string;
  pattern: RegExp;
}

/** A literal, behind what an expression can begin after. */
const LITERAL =
  /(?:[=(,:?&|![{;]|=>|return)\s*(\/(?![*/])(?:[^/\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+\/)([dgimsuvy]*)(?=[\s.,;:)\]}])/g;

function expressions(file: string): Found[] {
  const code = readFileSync(join(root, file), 'utf8').replace(/^\s*(?:\/\/|\/?\*).*$/gm, '');
  return [...code.matchAll(LITERAL)].map(([, literal = '', flags]) => ({
    file,
    pattern: new RegExp(literal.slice(1, -1), flags),
  }));
}

/** Texts it matches, as far as somebody can make them; always some plain ones. */
function matches(pattern: RegExp): string[] {
  const plain = ['', ' ', 'a', '0', 'a=b;', pattern.source.replace(/[\\^$()?*+[\]{}|:]/g, ' ')];
  // What the generator does not know (anchors within, what must not follow) is no part of what can repeat.
  const known = pattern.source
    .replace(/\(\?<?[!=](?:[^()]|\([^()]*\))*\)/g, '')
    // Of what is not ASCII the generator knows nothing and looks for it forever.
    .replaceAll(/\[\^(?: -~|\\0-\\x7f)\]/g, 'é');
  try {
    const made = fc.stringMatching(new RegExp(known, pattern.flags.replace(/[gymi]/g, '')), {
      maxLength: 60,
    });
    return [...plain, ...fc.sample(made, { numRuns: MATCHES, seed: 7 })];
  } catch {
    return plain;
  }
}

/** Those texts, with one place pumped up to so many octets. */
function* attacks(pattern: RegExp): Generator<(octets: number) => string> {
  for (const text of new Set(matches(pattern))) {
    const step = Math.max(1, Math.floor(text.length / MAX_PLACES));
    for (let at = 0; at <= text.length; at += step)
      for (const pump of [text.slice(at, at + 1), text.slice(at, at + 2), ' '])
        if (pump !== '') yield (octets) => text.slice(0, at) + pump.repeat(octets / pump.length) + SPOILT;
  }
}

function apply(pattern: RegExp, text: string): void {
  if (pattern.global) text.replaceAll(pattern, '');
  else {
    pattern.lastIndex = 0;
    pattern.exec(text);
  }
}

/** The attack under which it grows faster than its text. */
function weakness(pattern: RegExp, octets = OCTETS): string | null {
  for (const attack of attacks(pattern)) {
    const ratio = growth((octets) => {
      const text = attack(octets);
      return () => apply(pattern, text);
    }, octets);
    if (ratio >= 3) return `grows ${ratio.toFixed(1)} times on ${JSON.stringify(attack(6))}`;
  }
  return null;
}

test('every regular expression takes linear time', () => {
  const all = filesUnder('src', '.ts').flatMap(expressions);
  assert.ok(all.length > 100);
  const slow: string[] = [];
  for (const { file, pattern } of all) {
    if (EXCUSED.includes(file)) continue;
    const weak = weakness(pattern);
    if (weak !== null) slow.push(`${file}: ${pattern} ${weak}`);
  }
  assert.deepEqual(slow, []);
});

test('one that does not would be found', () => {
  assert.notEqual(weakness(/a+$/, 1500), null);
});
