/**
 * Compares the storage providers: group commits of `--batch` messages, one after another, each stored, settled and
 * deleted. Prints commits and messages per second, the time of a commit, and the CPU of this process (persistence
 * thread and libuv's threads included, servers not).
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { configSchema } from '../src/config/schema.ts';
import type { CommitBatch } from '../src/database/database.ts';
import type { Message } from '../src/mail/message.ts';
import { QueueIds } from '../src/mail/queue-id.ts';
import { createArena } from '../src/native.ts';
import { DatabaseClient, startPool } from '../src/persistence/database-client.ts';
import { Child } from './lib/child.ts';
import { readOptions } from './lib/options.ts';
import { figure, table, writeResults } from './lib/results.ts';

const options = readOptions('storage', 'compares the storage providers at the group commit', {
  provider: { kind: 'list', help: 'database, local, distributed, hdfs_web; repeatable (default: all)' },
  size: { kind: 'list', help: 'bytes of a message; repeatable (default: 1024, 10240, 102400)' },
  batch: { kind: 'number', default: 100, help: 'messages of a commit' },
  seconds: { kind: 'number', default: 3, help: 'time of each measurement' },
  'hdfs-endpoint': {
    kind: 'text',
    help: 'namenode of a real cluster where user hdfs may write /mail; else the server of the tests',
  },
  dir: { kind: 'text', default: tmpdir(), help: 'where data and roots lie' },
  save: { kind: 'flag', help: 'write bench/results/storage.*' },
});

interface Measured {
  provider: string;
  size: number;
  commitsPerS: number;
  messagesPerS: number;
  p50Ms: number;
  p99Ms: number;
  cpuUsPerMessage: number;
}

async function measure(provider: string, size: number, endpoints: string[]): Promise<Measured> {
  const dataDir = mkdtempSync(join(options.dir, 'storage-bench-'));
  const spillDir = join(dataDir, 'spill');
  mkdirSync(spillDir);
  const config = configSchema.parse({
    data_dir: dataDir,
    database: { path: join(dataDir, 'queue.db') },
    storage: {
      provider,
      local: { path: join(dataDir, 'mail') },
      distributed:
        provider === 'distributed' ? { roots: ['a', 'b', 'c'].map((name) => join(dataDir, name)) } : {},
      hdfs_web: provider === 'hdfs_web' ? { endpoints, base_path: '/mail/bench', replication: 1 } : {},
    },
  });
  const arena = createArena(config.content_memory_mb * 1024 * 1024, spillDir);
  const database = new DatabaseClient(startPool({ config, arena: arena.buffer, spillDir }));
  const ids = new QueueIds(0, 0);
  const bytes = Buffer.alloc(
    size,
    'A quite ordinary line of a campaign message of no particular interest.\r\n',
  );
  const next = (settled: Message[], token: string): CommitBatch => ({
    token,
    messages: Array.from({ length: options.batch }, () => ({
      message: makeMessage(ids.next(), arena.store(bytes), size),
      plan: [{ destination: 'smarthost', seqs: [0], state: 'SENDING' as const }],
    })),
    settlements: settled.map(({ queueId }) => ({
      queueId,
      destination: 'smarthost',
      fence: 1,
      attempts: 1,
      groups: [{ seqs: [0], kind: 'delivered', reason: '', detail: '250 2.0.0 Ok (mx [192.0.2.1])' }],
      retryAtMs: null,
      delayNotified: false,
    })),
    withdrawals: [],
    nowMs: Date.now(),
    leaseUntilMs: Date.now() + 120_000,
  });
  const times: number[] = [];
  let settled: Message[] = [];
  let cpu = process.cpuUsage();
  let begun = performance.now();
  try {
    await database.recover(Date.now());
    for (let i = 0; ; i++) {
      // The first commits open files and connections.
      if (i === 10) {
        times.length = 0;
        cpu = process.cpuUsage();
        begun = performance.now();
      }
      if (i > 10 && performance.now() - begun >= options.seconds * 1000) break;
      const batch = next(settled, `bench-${i}`);
      const from = performance.now();
      await database.commit(batch);
      times.push(performance.now() - from);
      settled = batch.messages.map(({ message }) => message);
      for (const { content } of settled) arena.release(content);
    }
    const seconds = (performance.now() - begun) / 1000;
    const { user, system } = process.cpuUsage(cpu);
    const commits = times.length;
    times.sort((a, b) => a - b);
    return {
      provider,
      size,
      commitsPerS: commits / seconds,
      messagesPerS: (commits * options.batch) / seconds,
      p50Ms: times[Math.floor(commits * 0.5)] ?? 0,
      p99Ms: times[Math.floor(commits * 0.99)] ?? 0,
      cpuUsPerMessage: (user + system) / (commits * options.batch),
    };
  } finally {
    await database.close();
    rmSync(dataDir, { recursive: true, force: true });
  }
}

function makeMessage(queueId: string, content: number, sizeBytes: number): Message {
  return {
    queueId,
    envelope: {
      reversePath: 'bounces@campaign.example.test',
      body: '7BIT',
      smtpUtf8: false,
      recipients: [{ address: 'customer@example.org', domain: 'example.org', class: 'external', notify: 0 }],
    },
    trace: `Received: from client.example.test by relay.example.test (ProtoRelay) with ESMTP id ${queueId}\r\n`,
    content,
    sizeBytes,
    receivedAtMs: Date.now(),
    client: { address: '127.0.0.1', helo: 'client.example.test', protocol: 'ESMTP', sessionId: 'b1' },
  };
}

const providers =
  options.provider.length > 0 ? options.provider : ['database', 'local', 'distributed', 'hdfs_web'];
const sizes = options.size.length > 0 ? options.size.map(Number) : [1024, 10_240, 102_400];
let endpoints = options['hdfs-endpoint'] === '' ? [] : [options['hdfs-endpoint']];
let server: Child | null = null;
if (providers.includes('hdfs_web') && endpoints.length === 0) {
  server = new Child(process.execPath, [resolve(import.meta.dirname, 'lib/webhdfs-child.ts')]);
  endpoints = (await server.json('listening', 10_000)).endpoints as string[];
}
const results: Measured[] = [];
for (const size of sizes)
  for (const provider of providers) {
    results.push(await measure(provider, size, endpoints));
    process.stderr.write(`${provider} ${size}: done\n`);
  }
await server?.stop();
const markdown = table(
  ['provider', 'bytes', 'commits/s', 'messages/s', 'commit p50 ms', 'p99 ms', 'CPU µs/message'],
  results.map((one) => [
    one.provider,
    one.size,
    figure(one.commitsPerS),
    figure(one.messagesPerS),
    figure(one.p50Ms),
    figure(one.p99Ms),
    figure(one.cpuUsPerMessage),
  ]),
);
process.stdout.write(markdown);
if (options.save)
  writeResults(
    'storage',
    'every commit: content on stable storage (distributed: 2 of 3 roots on one disk; hdfs_web: in the memory of the test server), then one fsync of the queue; the commit before is settled and deleted in it',
    results,
    markdown,
  );
