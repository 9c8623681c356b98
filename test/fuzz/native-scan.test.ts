/** A short run of the native fuzz target; `./build.sh fuzz` runs it for longer. */
import { test } from 'node:test';
import { fuzzOnce } from './native-program.ts';

test('the scanners hold against random input, with address and behaviour checks', (t) => {
  const sources = ['line_scan.cc', 'content_scan.cc', 'content_send.cc', 'proxy_header.cc'];
  fuzzOnce(t, ['fuzz/scan_fuzz.cc', ...sources], 20_000);
});
