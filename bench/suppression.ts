/**
 * The suppression list: `node bench/suppression.ts [--entries N] [--json]`. Imports that many lines by the command's own
 * parts into a new sqlite queue, then looks up addresses that are not on the list, makes the filter anew, and opens it as a
 * start does. CPU beside wall time, because the machine may be shared; the bare insert of the same rows is the measure.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { parseArgs } from 'node:util';
import { csvRecords } from '../src/base/csv.ts';
import { configSchema } from '../src/config/schema.ts';
import { filterPath, SuppressionFilter } from '../src/feedback/suppression-filter.ts';
import { SuppressionLines } from '../src/feedback/suppression-lines.ts';
import { type Suppression, suppressionHash, suppressionTarget } from '../src/mail/suppression.ts';
import { mapSharedMemory } from '../src/native.ts';
import { openSuppressionList } from '../src/relay/suppression-list.ts';

const BATCH = 250_000;
const LOOKS = 1_000_000;

const { values } = parseArgs({
  options: { entries: { type: 'string', default: '1000000' }, json: { type: 'boolean', default: false } },
});
const entries = Number(values.entries);
const dir = mkdtempSync(join(tmpdir(), 'bench-suppression-'));
process.on('exit', () => rmSync(dir, { recursive: true, force: true }));

const addressOf = (i: number): string => `User${(i * 7919) % 1_000_003}.${i}@Dom${i % 50_000}.example`;

interface Cost {
  wall_ms: number;
  cpu_ms: number;
}

async function cost(work: () => unknown): Promise<Cost> {
  const [wall, cpu] = [performance.now(), process.cpuUsage()];
  await work();
  const { user, system } = process.cpuUsage(cpu);
  return { wall_ms: Math.round(performance.now() - wall), cpu_ms: Math.round((user + system) / 1000) };
}

async function* lines(): AsyncGenerator<string> {
  yield 'address,reason\r\n';
  for (let from = 0; from < entries; from += 5000) {
    let text = '';
    for (let i = from; i < Math.min(entries, from + 5000); i++) text += `${addressOf(i)},unsubscribe\r\n`;
    yield text;
  }
}

/** The same rows, sorted as the import sorts them, one after the other into a table with the same index. */
function bareInserts(): void {
  const db = new DatabaseSync(join(dir, 'bare.db'));
  db.exec(
    'PRAGMA page_size = 8192; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -65536',
  );
  db.exec('CREATE TABLE bare (id INTEGER PRIMARY KEY, hash INTEGER, target TEXT, reason TEXT)');
  db.exec('CREATE INDEX bare_hash ON bare (hash)');
  const insert = db.prepare('INSERT INTO bare (hash, target, reason) VALUES (?, ?, ?)');
  for (let from = 0; from < entries; from += BATCH) {
    db.exec('BEGIN');
    const rows = Array.from({ length: Math.min(BATCH, entries - from) }, (_, i) => {
      const target = suppressionTarget(addressOf(from + i)) as string;
      return { target, hash: suppressionHash('', target) };
    }).sort((a, b) => a.hash - b.hash);
    for (const { hash, target } of rows) insert.run(hash, target, 'unsubscribe');
    db.exec('COMMIT');
  }
  db.close();
}

const config = configSchema.parse({ data_dir: dir, database: { path: join(dir, 'queue.db') } });
const bare = await cost(bareInserts);
const imported = await cost(async () => {
  const list = await openSuppressionList(config, true);
  const reader = new SuppressionLines({
    tenant: '',
    scope: 'all',
    reason: 'imported',
    durationMs: null,
    nowMs: Date.now(),
  });
  let batch: Suppression[] = [];
  let done = 0;
  for await (const records of csvRecords(lines()))
    for (const record of records) {
      const read = reader.read(record);
      if (read === null || typeof read === 'string') continue;
      batch.push(read);
      if (batch.length < BATCH) continue;
      await list.put(batch, entries - done);
      done += BATCH;
      batch = [];
    }
  await list.put(batch);
  await list.close();
});
const open = (): SuppressionFilter => new SuppressionFilter(filterPath(dir), { map: mapSharedMemory });
let filter = open();
const started = await cost(() => {
  filter = open();
  filter.recover();
  filter.mayHold(1);
});
const strangers = Array.from({ length: LOOKS }, (_, i) => `other${i}@dom${i % 50_000}.example`);
let held = 0;
const looked = await cost(() => {
  for (const address of strangers)
    if (filter.mayHold(suppressionHash('', suppressionTarget(address) as string))) held++;
});

const result = {
  entries: filter.entries,
  import_lines_per_s: Math.round((entries / imported.wall_ms) * 1000),
  bare_rows_per_s: Math.round((entries / bare.wall_ms) * 1000),
  import_lines_per_cpu_s: Math.round((entries / imported.cpu_ms) * 1000),
  import_cpu_of_bare_inserts: Number((imported.cpu_ms / bare.cpu_ms).toFixed(2)),
  filter_mb: Number((filter.bytes / 1_048_576).toFixed(1)),
  look_up_cpu_us: Number(((looked.cpu_ms / LOOKS) * 1000).toFixed(2)),
  held_of_others: held / LOOKS,
  open_ms: started.wall_ms,
};
process.stdout.write(
  values.json
    ? `${JSON.stringify(result)}\n`
    : `${Object.entries(result)
        .map(([name, value]) => `${name}: ${value}`)
        .join('\n')}\n`,
);
