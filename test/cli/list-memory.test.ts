/** A list of a whole queue costs the command the memory of a page, however long it is: a process as an operator starts it. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { preload } from '../../bench/lib/deferred.ts';
import { memoryBytes } from '../../bench/lib/proc.ts';
import { RelayFixture } from '../support/relay-fixture.ts';

const PROTORELAY = join(import.meta.dirname, '../../bin/protorelay');
/** With more, what by itself grows to 128 MB would be larger still. */
const ENTRIES = 60_000;
/** The bound of a list, however long. Seen: up to 117 MB; without --heap-growing-percent 157, with a young generation of any size 280. */
const MOST_BYTES = 150e6;

interface Listed {
  /** The most that the command had at the end of each chunk of its output. */
  peakBytes: number;
  lines: number;
  /** How its Node was started. */
  started: string;
}

async function listed(config: string, ...args: string[]): Promise<Listed> {
  const child = spawn(PROTORELAY, ['-c', config, 'queue', 'list', ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let [peakBytes, lines] = [0, 0];
  let started = '';
  child.stdout.on('data', (chunk: Buffer) => {
    if (started === '') started = readFileSync(`/proc/${child.pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
    peakBytes = Math.max(peakBytes, memoryBytes(child.pid as number, 'VmHWM') || 0);
    for (let at = chunk.indexOf(10); at !== -1; at = chunk.indexOf(10, at + 1)) lines++;
  });
  const [code] = await once(child, 'close');
  assert.equal(code, 0);
  return { peakBytes, lines, started };
}

test('queue list of a long queue stays small, as text and as JSON', { timeout: 240_000 }, async (t) => {
  const relay = new RelayFixture({ delivery: { enabled: false } }, { readyMs: 60_000 });
  t.after(() => relay.destroy());
  await preload(relay.dataDir, ENTRIES, 1000, 256);
  await relay.start();
  // Types are stripped, and kept, once.
  await listed(relay.configPath, '--limit', '1');
  const json = await listed(relay.configPath, '--json');
  assert.equal(json.lines, ENTRIES + 2);
  const text = await listed(relay.configPath, '--limit', String(ENTRIES));
  assert.equal(text.lines, ENTRIES + 1);
  for (const { peakBytes, started } of [json, text]) {
    assert.match(started, / --max-semi-space-size=4 --heap-growing-percent=100 /);
    assert.ok(peakBytes > 0 && peakBytes < MOST_BYTES, `${Math.round(peakBytes / 1e6)} MB`);
  }
});
