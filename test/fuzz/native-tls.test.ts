/** A short run of the fuzz target for TLS; `./build.sh fuzz 600 tls` runs it for longer. */
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { compilerHere, fuzzOnce, ROOT } from './native-program.ts';

const SOURCES = [
  'fuzz/tls_fuzz.cc',
  'fuzz/tls_play.cc',
  'tls_stream.cc',
  'tls_sessions.cc',
  'tls_context.cc',
  'tls_certificate.cc',
  'tls_dane.cc',
  'proxy_header.cc',
];

test('TLS holds against a hostile schedule, with address and behaviour checks', { timeout: 300_000 }, (t) => {
  const env = { ...process.env, LD_PRELOAD: '', CXX: compilerHere(), ASAN_OPTIONS: '' };
  const openssl = spawnSync('sh', ['test/setup/openssl.sh'], { cwd: ROOT, encoding: 'utf8', env });
  if (openssl.status !== 0) {
    t.skip(openssl.stderr.trim());
    return;
  }
  const seam = ['-Drecv=fuzz_recv', '-Dsend=fuzz_send'];
  fuzzOnce(t, SOURCES, 800, [...seam, ...openssl.stdout.trim().split(' ')]);
});
