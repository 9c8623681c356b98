import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { type Config, configSchema } from '../../src/config/schema.ts';
import {
  leftoverProcesses,
  processConfig,
  processCount,
  queueFile,
  queueProcesses,
} from '../../src/supervisor/process-config.ts';

const config = (dir: string, value: object = {}): Config => {
  const parsed = configSchema.parse({ data_dir: dir, database: { path: join(dir, 'queue.db') }, ...value });
  return {
    ...parsed,
    storage: { ...parsed.storage, local: { path: join(dir, parsed.storage.local.path) } },
  };
};

const at = (all: Config, path: string): Config =>
  config(all.data_dir, { node_id: all.node_id, database: { path } });

test('accept_processes auto: one below eight cores, then one for each four', () => {
  const auto = config('/d');
  assert.deepEqual(
    [1, 2, 7, 8, 11, 12, 64, 1000].map((cores) => processCount(auto, cores)),
    [1, 1, 1, 2, 2, 3, 16, 64],
  );
  assert.equal(processCount(config('/d', { accept_processes: 3 }), 1), 3);
});

test('process 0 lies where a single process lies, the others beside it', () => {
  const all = config('/d', { node_id: 'a' });
  assert.equal(processConfig(all, 0, 1).data_dir, '/d');
  assert.deepEqual(processConfig(all, 0, 1), all);
  const second = processConfig(all, 1, 2);
  assert.equal(second.data_dir, '/d/process-1');
  assert.equal(queueFile(second), '/d/process-1/queue.db');
  assert.equal(second.storage.local.path, '/d/process-1/mail');
  assert.equal(second.node_id, 'a/1');
  assert.equal(queueFile(processConfig(at(all, '/srv/q.db'), 2, 3)), '/srv/process-2/q.db');
  const memory = processConfig(at(all, ':memory:'), 2, 3);
  assert.deepEqual(memory.database, at(all, ':memory:').database);
  assert.equal(queueFile(memory), null);
});

test('on servers the processes share the queue and the content, and have names and folders of their own', () => {
  const all = config('/d', { node_id: 'a', database: { driver: 'mysql' } });
  const second = processConfig(all, 1, 2);
  assert.deepEqual([second.database, second.storage], [all.database, all.storage]);
  assert.deepEqual([second.node_id, second.data_dir], ['a/1', '/d/process-1']);
  assert.equal(queueFile(second), null);
  assert.deepEqual(queueProcesses(all), [0]);
});

test('on servers a process that left a journal is found, and empties its own', (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'left-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const all = config(dir, {
    node_id: 'a',
    database: { driver: 'mysql' },
    journal: { path: join(dir, 'journal') },
  });
  const own = (process: number): string => processConfig(all, process, 4).journal.path;
  assert.deepEqual([own(0), own(2)], [join(dir, 'journal'), join(dir, 'process-2/journal')]);
  for (const process of [1, 2, 3]) mkdirSync(own(process), { recursive: true });
  writeFileSync(join(own(2), '0000000001.segment'), '');
  writeFileSync(join(own(3), 'journal.json'), '');
  assert.deepEqual([leftoverProcesses(all, 1), leftoverProcesses(all, 3)], [[2], []]);
});

test('limits of the host and threads by default are divided, threads that are given are not', () => {
  const all = config('/d', {
    persist_max_inflight_mails: 100,
    session_threads: 5,
    queue: { keep_failed_messages: 10, keep_failed_mb: 0 },
    delivery: { max_connections_per_destination: 2, max_messages_per_destination_per_s: 6 },
  });
  const third = processConfig(all, 2, 3, 16);
  assert.equal(third.persist_max_inflight_mails, 33);
  const { keep_failed_messages, keep_failed_mb } = third.queue;
  assert.deepEqual([keep_failed_messages, keep_failed_mb], [4, 0], 'none stays none');
  assert.equal(third.delivery.max_connections_per_destination, 1);
  assert.equal(third.delivery.max_messages_per_destination_per_s, 2);
  const cluster = { ...all, scheduler: { ...all.scheduler, engine: 'bullmq' as const } };
  assert.equal(
    processConfig(cluster, 2, 3, 16).delivery.max_messages_per_destination_per_s,
    6,
    'shared in Redis',
  );
  assert.equal(third.session_threads, 5);
  assert.equal(third.delivery_threads, 2);
  assert.equal(processConfig(all, 0, 3, 2).delivery_threads, 1);
});

test('results left by processes there are no longer are found', (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'left-'));
  t.after(() => rmSync(dir, { recursive: true }));
  for (const [process, name] of [
    ['2', 'unsettled-4'],
    ['3', 'unsettled-4.new'],
    ['4', 'begun-1'],
  ] as const) {
    mkdirSync(join(dir, `process-${process}`));
    writeFileSync(join(dir, `process-${process}`, name), '');
  }
  const shards = config(dir, { database: { driver: 'mysql', password: 'p' }, node_id: 'n' });
  assert.deepEqual([leftoverProcesses(shards, 1), leftoverProcesses(shards, 3)], [[2], []]);
});

test('queues left by processes there are no longer are found, others are not', (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'left-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const all = config(dir);
  assert.deepEqual(leftoverProcesses(all, 1), []);
  for (const name of ['process-1', 'process-2', 'process-10', 'process-3', 'process-x', 'process-04']) {
    mkdirSync(join(dir, name));
    if (name !== 'process-3') writeFileSync(join(dir, name, 'queue.db'), '');
  }
  assert.deepEqual(leftoverProcesses(all, 1), [1, 2, 10]);
  assert.deepEqual(leftoverProcesses(all, 2), [2, 10]);
  assert.deepEqual(queueProcesses(all), [0, 1, 2, 10]);
  assert.deepEqual(leftoverProcesses(config(join(dir, 'missing')), 1), []);
});
