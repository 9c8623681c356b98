/** JSON that docs give to copy is good: each `json` block is a whole file, which what reads such files takes without a word. */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { after, test } from 'node:test';
import { egress } from '../../src/config/egress-schema.ts';
import { loadConfig } from '../../src/config/load.ts';
import { compileRules } from '../../src/feedback/compiled-rules.ts';
import { readRulesTexts } from '../../src/feedback/rules-text.ts';
import { readShaping, SHIPPED_SHAPING } from '../../src/shaping/shaping-file.ts';

const root = resolve(import.meta.dirname, '../..');
const dir = mkdtempSync(join(tmpdir(), 'documented-'));
after(() => rmSync(dir, { recursive: true }));

const blocks = ['README.md', ...readdirSync(join(root, 'docs')).map((name) => `docs/${name}`)]
  .filter((page) => page.endsWith('.md'))
  .flatMap((page) => {
    const text = readFileSync(join(root, page), 'utf8');
    return [...text.matchAll(/^```json\n(.*?)^```$/gms)].map(({ 1: block = '', index }) => {
      const before = text.slice(0, index);
      // "With the pools above:"
      return { page, line: before.split('\n').length, block, goesOn: before.endsWith(' above:\n\n') };
    });
  });

function fileOf(block: string): string {
  const path = join(dir, 'example.json');
  writeFileSync(path, block);
  return path;
}

interface Example {
  page: string;
  line: number;
  block: string;
  /** With what the examples of the page before it say; lists it has anew. */
  goesOn: boolean;
}

function configProblems({ block, page, line, goesOn }: Example): string[] {
  const before = blocks.filter((other) => goesOn && other.page === page && other.line < line);
  const base = page === 'docs/cluster.md' ? readFileSync(join(root, 'config/mysql.json'), 'utf8') : '{}';
  const files = new Map(
    [base, ...before.map((other) => other.block), block].map((text, i) => [`${i}.json`, text]),
  );
  files.set('relay.json', JSON.stringify({ hostname: 'mx.example.com', include: [...files.keys()] }));
  const environment = new Proxy<Record<string, string>>({}, { get: () => 'x' });
  const read = (path: string): string => files.get(basename(path)) as string;
  return loadConfig('/etc/relay.json', environment, { read }).warnings;
}

function shapingProblems({ block }: Example): string[] {
  const problems: string[] = [];
  const files = { file: SHIPPED_SHAPING, overrides_file: fileOf(block), rollup: 'none' } as const;
  const members = [{ source: 'a1' }];
  readShaping(
    files,
    problems,
    egress.parse({ sources: [{ name: 'a1' }], pools: [{ name: 'warm', members }] }),
  );
  return problems;
}

function rulesProblems({ block }: Example): string[] {
  compileRules(readRulesTexts(fileOf(block)));
  return [];
}

/** What a command prints has JSON, and no comments. */
function outputProblems({ block }: Example): string[] {
  JSON.parse(block);
  return [];
}

/** Pages whose blocks are no part of a config. */
const OTHERS: Record<string, (example: Example) => string[]> = {
  'docs/shaping.md': shapingProblems,
  'docs/replies.md': rulesProblems,
  'docs/lint.md': outputProblems,
};

test('there are examples, of each kind', () => {
  const found = new Set(blocks.map(({ page }) => page));
  assert.ok(found.size > 10);
  for (const page of Object.keys(OTHERS)) assert.ok(found.has(page), page);
});

for (const example of blocks)
  test(`${example.page}:${example.line} is taken as it stands`, () => {
    const problemsOf = OTHERS[example.page] ?? configProblems;
    assert.deepEqual(problemsOf(example), []);
  });
