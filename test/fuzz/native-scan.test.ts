/** A short run of the native fuzz target; `./build.sh fuzz` runs it for longer. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../', import.meta.url));
const SOURCES = [
  'fuzz/scan_fuzz.cc',
  'line_scan.cc',
  'content_scan.cc',
  'content_send.cc',
  'proxy_header.cc',
].map((name) => `native/${name}`);

const runs = (compiler: string): boolean => spawnSync(compiler, ['--version']).status === 0;

test('the scanners hold against random input, with address and behaviour checks', () => {
  const dir = mkdtempSync(join(tmpdir(), 'fuzz-'));
  const program = join(dir, 'scan_fuzz');
  const compiler = [process.env.CXX ?? 'c++', 'g++', 'clang++'].find(runs);
  assert.ok(compiler, 'a C++ compiler is needed');
  const flags = ['-std=c++17', '-O1', '-fsanitize=address,undefined', '-fno-sanitize-recover=undefined'];
  const env = { ...process.env, LD_PRELOAD: '' };
  execFileSync(compiler, [...flags, '-DPROTORELAY_FUZZ_MAIN', ...SOURCES, '-o', program], { cwd: root, env });
  const seed = String(Date.now() % 1_000_000);
  const run = spawnSync(program, ['20000', seed], { encoding: 'utf8', env });
  assert.equal(run.status, 0, `seed ${seed}: ${run.stderr}`);
  assert.equal(run.stdout, '20000 inputs\n');
  rmSync(dir, { recursive: true });
});
