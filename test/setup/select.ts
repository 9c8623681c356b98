/**
 * Which tests to run for a quick answer, for `./build.sh test --unit` and `--changed [REF]`: prints their files, one a
 * line, from what the files import.
 *
 * unit: tests that start no process, so no relay and no server; without the simulations and fuzzers, which have commands
 * of their own, and without the slowest files.
 * changed: tests that import, over any number of files, one that differs from REF (default: HEAD) or is new, and the unit
 * tests of its folder. Where the change could show in a relay as a whole, that is said on standard error.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';

const root = join(import.meta.dirname, '../..');

/** Files of the repository that a file imports values of. */
function importsOf(file: string): string[] {
  const text = readFileSync(join(root, file), 'utf8');
  return [...text.matchAll(/^(?:import|export) (?!type )[^;']*'(\.[^']+)'|\bimport\('(\.[^']+)'\)/gm)]
    .map(([, from, dynamic]) => from ?? dynamic)
    .map((target) => normalize(join(dirname(file), target as string)))
    .filter((target) => target.endsWith('.ts') && existsSync(join(root, target)));
}

const startsProcesses = (file: string): boolean =>
  /from 'node:(child_process|cluster)'/.test(readFileSync(join(root, file), 'utf8'));

/** The file itself and all that it imports, over any number of files. */
function reachOf(file: string): Set<string> {
  const reached = new Set([file]);
  for (const one of reached) for (const target of importsOf(one)) reached.add(target);
  return reached;
}

const LONG = /^test\/(simulation|fuzz|bench)\//;
/** Took 5 s or more each, and half of the time of all (two quiet cores): quick answers do without. */
export const SLOW: ReadonlySet<string> = new Set([
  'test/auth/authenticator.test.ts',
  'test/delivery/connections.test.ts',
  'test/delivery/granted-connections.test.ts',
  'test/dns/resolvers.test.ts',
  'test/journal/journal.test.ts',
  'test/journal/segments.test.ts',
  'test/native/tls-faults.test.ts',
  'test/native/tls-steps.test.ts',
  'test/session/corpus.test.ts',
  'test/storage/hdfs-web.test.ts',
]);

/** @param reach what the test imports. Of files that start processes those in test/ and bench/ count: src's need not run. */
const isUnit = (test: string, reach: Set<string>): boolean =>
  !LONG.test(test) && ![...reach].some((file) => !file.startsWith('src/') && startsProcesses(file));

function changedSince(ref: string): string[] {
  const git = (...args: string[]): string[] =>
    execFileSync('git', args, { cwd: root, encoding: 'utf8' }).split('\n').filter(Boolean);
  return [
    ...git('diff', '--name-only', '--no-renames', ref, '--'),
    ...git('ls-files', '-o', '--exclude-standard'),
  ];
}

/** Folder of tests that mirrors a file: src/session/x.ts and native/x.cc have tests in test/session, test/native. */
const mirror = (file: string): string =>
  file.startsWith('src/')
    ? `test/${dirname(file).slice('src/'.length)}/`
    : file.startsWith('native/')
      ? 'test/native/'
      : '';

/** @param changed files of the repository that differ; null: all tests that start no process are meant. */
export function testsFor(changed: ReadonlySet<string> | null): { chosen: string[]; left: number } {
  const tests = globSync('test/**/*.test.ts', { cwd: root }).sort();
  const reaches = new Map(tests.map((test) => [test, reachOf(test)]));
  const unit = new Set(tests.filter((test) => isUnit(test, reaches.get(test) as Set<string>)));
  if (changed === null) return { chosen: [...unit].filter((test) => !SLOW.has(test)), left: 0 };
  const mirrors = [...changed].map(mirror).filter((folder) => folder.length > 'test/'.length);
  const chosen = tests.filter(
    (test) =>
      [...(reaches.get(test) as Set<string>)].some((file) => changed.has(file)) ||
      (unit.has(test) && mirrors.some((folder) => test.startsWith(folder))),
  );
  return { chosen, left: tests.length - chosen.length };
}

function main([form, ref = 'HEAD']: readonly string[]): void {
  const changed = form === '--unit' ? null : changedSince(ref);
  const { chosen, left } = testsFor(changed === null ? null : new Set(changed));
  if (changed?.some((file) => /^(src|native|config)\//.test(file)))
    process.stderr.write(
      `test: ${left} files are left to the whole suite, most of those that run a relay among them\n`,
    );
  process.stdout.write(chosen.map((file) => `${file}\n`).join(''));
}

if (import.meta.main) main(process.argv.slice(2));
