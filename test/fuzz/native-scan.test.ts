/** Short runs of native fuzz targets; `./build.sh fuzz` runs them for longer. */
import { test } from 'node:test';
import { fuzzOnce } from './native-program.ts';

test('the scanners hold against random input, with address and behaviour checks', (t) => {
  const sources = ['line_scan.cc', 'content_scan.cc', 'content_send.cc', 'proxy_header.cc'];
  fuzzOnce(t, ['fuzz/scan_fuzz.cc', ...sources], 20_000);
});

test('the arena holds against any order of calls, in several threads at once', (t) => {
  const sources = ['arena.cc', 'arena_blocks.cc', 'content_gather.cc', 'accounts.cc'];
  fuzzOnce(t, ['fuzz/arena_fuzz.cc', ...sources], 100, ['-pthread']);
});

test('the canonicalisation of DKIM holds against random input', (t) => {
  fuzzOnce(t, ['fuzz/dkim_fuzz.cc', 'dkim_canon.cc'], 20_000);
});
