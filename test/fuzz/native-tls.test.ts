/** A short run of the fuzz target for TLS; `./build.sh fuzz 600 tls` runs it for longer. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../', import.meta.url));
const SOURCES = [
  'fuzz/tls_fuzz.cc',
  'fuzz/tls_play.cc',
  'tls_stream.cc',
  'tls_sessions.cc',
  'tls_context.cc',
  'tls_certificate.cc',
  'tls_dane.cc',
  'proxy_header.cc',
].map((name) => `native/${name}`);

const runs = (compiler: string): boolean => spawnSync(compiler, ['--version']).status === 0;

test('TLS holds against a hostile schedule, with address and behaviour checks', { timeout: 300_000 }, (t) => {
  const compiler = [process.env.CXX ?? 'c++', 'g++', 'clang++'].find(runs);
  assert.ok(compiler, 'a C++ compiler is needed');
  const env = { ...process.env, LD_PRELOAD: '', CXX: compiler, ASAN_OPTIONS: '' };
  const openssl = spawnSync('sh', ['test/setup/openssl.sh'], { cwd: root, encoding: 'utf8', env });
  if (openssl.status !== 0) {
    t.skip(openssl.stderr.trim());
    return;
  }
  const dir = mkdtempSync(join(tmpdir(), 'fuzz-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const program = join(dir, 'tls_fuzz');
  const flags = ['-std=c++17', '-O1', '-fsanitize=address,undefined', '-fno-sanitize-recover=undefined'];
  const seam = ['-DPROTORELAY_FUZZ_MAIN', '-Drecv=fuzz_recv', '-Dsend=fuzz_send'];
  const libraries = openssl.stdout.trim().split(' ');
  execFileSync(compiler, [...flags, ...seam, ...SOURCES, '-o', program, ...libraries], { cwd: root, env });
  const seed = String(Date.now() % 1_000_000);
  const run = spawnSync(program, ['800', seed], { encoding: 'utf8', env });
  assert.equal(run.status, 0, `seed ${seed}: ${run.stderr}`);
  assert.equal(run.stdout, '800 inputs\n');
});
