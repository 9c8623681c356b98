/** Fuzz targets of the addon as programs that make their own input, with address and behaviour checks. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';

export const ROOT = fileURLToPath(new URL('../../', import.meta.url));

const runs = (compiler: string): boolean => spawnSync(compiler, ['--version']).status === 0;

/** A C++ compiler that is there. */
export function compilerHere(): string {
  const compiler = [process.env.CXX ?? 'c++', 'g++', 'clang++'].find(runs);
  assert.ok(compiler, 'a C++ compiler is needed');
  return compiler;
}

/** Compiles files of native/ and gives the program so many inputs, each time others. @param more flags and libraries. */
export function fuzzOnce(t: TestContext, sources: string[], inputs: number, more: string[] = []): void {
  const dir = mkdtempSync(join(tmpdir(), 'fuzz-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const program = join(dir, 'fuzz');
  const flags = ['-std=c++17', '-O1', '-fsanitize=address,undefined', '-fno-sanitize-recover=undefined'];
  const files = sources.map((name) => `native/${name}`);
  // What checks the addon in node must not be loaded into the compiler.
  const env = { ...process.env, LD_PRELOAD: '', ASAN_OPTIONS: '' };
  execFileSync(compilerHere(), [...flags, '-DPROTORELAY_FUZZ_MAIN', ...files, '-o', program, ...more], {
    cwd: ROOT,
    env,
  });
  const seed = String(Date.now() % 1_000_000);
  const run = spawnSync(program, [String(inputs), seed], { encoding: 'utf8', env });
  assert.equal(run.status, 0, `seed ${seed}: ${run.stderr}`);
  assert.equal(run.stdout, `${inputs} inputs\n`);
}
