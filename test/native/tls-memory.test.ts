/** A short run of `./build.sh bench tls-memory`, which makes 100,000 handshakes of every kind when nothing is said. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';

const program = join(import.meta.dirname, '../../bench/tls-memory.ts');

test('memory is flat over handshakes that succeed, are resumed, refused, given up and cut', {
  timeout: 120_000,
}, async () => {
  // A sanitizer keeps what was freed: there the run itself is the test.
  const sanitized = process.env.PROTORELAY_ADDON === 'Sanitize';
  const run = promisify(execFile)(process.execPath, [program, '--handshakes', sanitized ? '500' : '4000']);
  const { stdout } = await run.catch((error) => {
    if (sanitized && error.code === 1) return error as { stdout: string };
    throw error;
  });
  for (const what of [
    'TLSv1.3 full',
    'TLSv1.3 resumed',
    'TLSv1.2 full',
    'TLSv1.2 resumed',
    'failed',
    'given up by the server',
  ])
    assert.match(stdout, new RegExp(`\\b${what} \\d`), stdout);
});
