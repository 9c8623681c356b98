import assert from 'node:assert/strict';
import { tmpdir } from 'node:os';
import { describe, it } from 'node:test';
import { freeDisk } from '../../src/admission/disk-space.ts';
import { createGauges, GAUGE, PRESSURE } from '../../src/admission/gauges.ts';
import { availableMemory, PressureGauge } from '../../src/admission/pressure.ts';
import { Aside } from '../../src/base/aside.ts';
import { silentLog } from '../../src/base/log.ts';
import { configSchema } from '../../src/config/schema.ts';

const MEGABYTE = 1024 * 1024;
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

class Bench {
  readonly gauges = createGauges();
  readonly events: string[] = [];
  config = configSchema.parse({ data_dir: '/nowhere', smtp: { overload_hold_ms: 1000 } });
  nowMs = 0;
  memory = 1024 * MEGABYTE;
  disk: number | Error = 1024 * MEGABYTE;
  commitAgeMs = 0;
  failing = false;
  mails = 0;
  fileBytes = 0;
  journalFull = false;
  chunks = 64;
  free: number | null = null;
  readonly gauge: PressureGauge;

  constructor(config: object = {}) {
    this.config = { ...this.config, ...config };
    const tell = (event: string, fields?: Record<string, unknown>): void =>
      void this.events.push(`${event} ${fields?.pressure}`);
    const arena = { totalBytes: 64, freeBytes: () => this.chunks };
    this.gauge = new PressureGauge({
      config: this.config,
      gauges: this.gauges,
      arena,
      log: { debug() {}, info: tell, warn: tell, error: tell },
      aside: new Aside(silentLog),
      commitAgeMs: () => this.commitAgeMs,
      databaseFailing: () => this.failing,
      freeConnections: () => this.free,
      mails: () => this.mails,
      queueFileBytes: () => this.fileBytes,
      journalFull: () => this.journalFull,
      now: () => this.nowMs,
      availableMemory: () => this.memory,
      freeDisk: async () => {
        if (this.disk instanceof Error) throw this.disk;
        return this.disk;
      },
    });
  }

  async measure(afterMs = 250): Promise<number> {
    this.nowMs += afterMs;
    this.gauge.measure();
    await turn();
    return Atomics.load(this.gauges, GAUGE.pressure);
  }

  get overloaded(): number {
    return Atomics.load(this.gauges, GAUGE.overloaded);
  }
}

describe('pressure', () => {
  it('is none while there is enough of everything', async () => {
    const bench = new Bench();
    assert.equal(await bench.measure(), PRESSURE.none);
    assert.deepEqual(bench.events, []);
  });

  it('is memory below persist_min_available_memory_mb', async () => {
    const bench = new Bench();
    bench.memory = 256 * MEGABYTE - 1;
    assert.equal(await bench.measure(), PRESSURE.memory);
    bench.memory = 256 * MEGABYTE;
    assert.equal(await bench.measure(), PRESSURE.none);
  });

  it('is the journal when it is full', async () => {
    const bench = new Bench();
    bench.journalFull = true;
    assert.equal(await bench.measure(), PRESSURE.journal);
    bench.journalFull = false;
    assert.equal(await bench.measure(), PRESSURE.none);
  });

  it('is disk below persist_min_free_disk_mb', async () => {
    const bench = new Bench();
    bench.disk = 255 * MEGABYTE;
    await bench.measure();
    assert.equal(await bench.measure(), PRESSURE.disk);
    bench.disk = 300 * MEGABYTE;
    await bench.measure();
    assert.equal(await bench.measure(), PRESSURE.none);
  });

  it('does not refuse mail because free space cannot be told, and says so once', async () => {
    const bench = new Bench();
    bench.disk = new Error('ESTALE');
    for (let i = 0; i < 3; i++) assert.equal(await bench.measure(), PRESSURE.none);
    assert.equal(bench.events.length, 1);
  });

  it('is database while a commit is older than inbound_persist_wait_timeout_ms, or one failed', async () => {
    const bench = new Bench();
    bench.commitAgeMs = 4999;
    assert.equal(await bench.measure(), PRESSURE.none);
    bench.commitAgeMs = 5000;
    assert.equal(await bench.measure(), PRESSURE.database);
    bench.commitAgeMs = 0;
    bench.failing = true;
    assert.equal(await bench.measure(), PRESSURE.database);
    const careless = new Bench({ persist_min_db_available_connections: 0 });
    careless.failing = true;
    assert.equal(await careless.measure(), PRESSURE.none);
  });

  it('is content memory when the arena is nearly full', async () => {
    const bench = new Bench();
    bench.chunks = 1;
    assert.equal(await bench.measure(), PRESSURE.content_memory);
    bench.chunks = 2;
    assert.equal(await bench.measure(), PRESSURE.none);
  });

  it('is database when fewer connections than persist_min_db_available_connections are free', async () => {
    const bench = new Bench({ persist_min_db_available_connections: 3 });
    bench.free = 3;
    assert.equal(await bench.measure(), PRESSURE.none);
    bench.free = 2;
    assert.equal(await bench.measure(), PRESSURE.database);
  });

  it('is messages when an in-memory queue holds max_messages', async () => {
    const memory = new Bench({ database: { driver: 'sqlite', path: ':memory:', max_messages: 10 } });
    memory.mails = 10;
    assert.equal(await memory.measure(), PRESSURE.messages);
    memory.mails = 9;
    assert.equal(await memory.measure(), PRESSURE.none);
    const file = new Bench({ database: { driver: 'sqlite', path: 'queue.db', max_messages: 10 } });
    file.mails = 99;
    assert.equal(await file.measure(), PRESSURE.none);
  });

  it('is queue_file while as much of the file is in use as database.max_mb', async () => {
    const bench = new Bench({ database: { driver: 'sqlite', path: 'queue.db', max_mb: 10 } });
    bench.fileBytes = 10 * MEGABYTE;
    assert.equal(await bench.measure(), PRESSURE.queue_file);
    bench.fileBytes--;
    assert.equal(await bench.measure(), PRESSURE.none);
    const unlimited = new Bench({ database: { driver: 'sqlite', path: 'queue.db', max_mb: 0 } });
    unlimited.fileBytes = 10 * MEGABYTE;
    assert.equal(await unlimited.measure(), PRESSURE.none);
  });

  it('becomes overload when it lasts for overload_hold_ms, whatever is short, and ends with it', async () => {
    const bench = new Bench();
    bench.memory = 0;
    await bench.measure();
    bench.memory = 1024 * MEGABYTE;
    bench.chunks = 0;
    await bench.measure(999);
    assert.equal(bench.overloaded, 0);
    await bench.measure(1);
    assert.equal(bench.overloaded, 1);
    bench.chunks = 64;
    await bench.measure();
    assert.equal(bench.overloaded, 0);
  });

  it('logs each change once', async () => {
    const bench = new Bench();
    bench.memory = 0;
    for (let i = 0; i < 8; i++) await bench.measure();
    bench.memory = 1024 * MEGABYTE;
    for (let i = 0; i < 3; i++) await bench.measure();
    assert.deepEqual(bench.events, [
      'pressure.began memory',
      'overload.began memory',
      'pressure.ended memory',
      'overload.ended none',
    ]);
  });

  it('takes new thresholds', async () => {
    const bench = new Bench();
    bench.gauge.reconfigure({ ...bench.config, persist_min_available_memory_mb: 2048 });
    assert.equal(await bench.measure(), PRESSURE.memory);
  });

  it('reads what this system has', async () => {
    assert.ok(availableMemory() > MEGABYTE);
    assert.ok((await freeDisk(tmpdir())) > 0);
  });
});
