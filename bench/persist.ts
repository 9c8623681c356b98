/**
 * Measures the durable path alone: group commit on this thread, sqlite on its own, no network.
 *
 * `--sessions` messages are under way at once (each waits for its verdict); `--settle` also delivers them, so that
 * every message is inserted, settled and deleted. `--deferred N` fills the queue with N waiting recipients first.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { configSchema } from '../src/config/schema.ts';
import type { Message } from '../src/mail/message.ts';
import { QueueIds } from '../src/mail/queue-id.ts';
import { createArena } from '../src/native.ts';
import { DatabaseClient, startPool } from '../src/persistence/database-client.ts';
import { type Entry, GroupCommit } from '../src/persistence/group-commit.ts';
import { readOptions } from './lib/options.ts';

const options = readOptions('bench/persist.ts', 'measures the durable path alone', {
  messages: { kind: 'number', default: 100_000, help: 'messages to commit' },
  size: { kind: 'number', default: 1024, help: 'bytes of each message' },
  sessions: { kind: 'number', default: 100, help: 'messages under way at once' },
  recipients: { kind: 'number', default: 1, help: 'recipients of each message' },
  settle: { kind: 'flag', help: 'deliver them too: insert, settle, delete' },
  provider: { kind: 'text', default: 'database', help: 'where content lies: database or local' },
  deferred: { kind: 'number', default: 0, help: 'recipients that wait in the queue before it begins' },
  dir: { kind: 'text', default: tmpdir(), help: 'folder for the queue' },
  json: { kind: 'flag', help: 'print the report as one line of JSON' },
});
const messages = options.messages;
const sessions = options.sessions;
const recipientCount = options.recipients;
const dataDir = mkdtempSync(join(options.dir, 'persist-bench-'));
const config = configSchema.parse({
  data_dir: dataDir,
  storage: { provider: options.provider, local: { path: join(dataDir, 'mail') } },
});
if (config.database.driver === 'sqlite') config.database.path = join(dataDir, 'queue.db');
const spillDir = join(dataDir, 'spill');
mkdirSync(spillDir);
const arena = createArena(config.content_memory_mb * 1024 * 1024, spillDir);
const database = new DatabaseClient(startPool({ config, arena: arena.buffer, spillDir }));
const ids = new QueueIds(0, 0);
const content = Buffer.alloc(
  options.size,
  'A quite ordinary line of a campaign message of no particular interest.\r\n',
);
Buffer.from('Subject: bench\r\n\r\n').copy(content);

function makeMessage(bytes: Buffer): Message {
  const queueId = ids.next();
  return {
    queueId,
    envelope: {
      reversePath: 'bounces@campaign.example.test',
      body: '7BIT',
      smtpUtf8: false,
      recipients: Array.from({ length: recipientCount }, (_, i) => ({
        address: `customer${i}@example.org`,
        domain: 'example.org',
        class: 'external' as const,
        notify: 0,
      })),
    },
    trace: `Received: from client.example.test (client.example.test [127.0.0.1])\r\n\tby relay.example.test (ProtoRelay) with ESMTP id ${queueId};\r\n\tTue, 14 Jul 2026 10:00:00 +0000\r\n`,
    content: arena.store(bytes),
    sizeBytes: bytes.length,
    receivedAtMs: Date.now(),
    client: { address: '127.0.0.1', helo: 'client.example.test', protocol: 'ESMTP', sessionId: 'b1' },
  };
}

async function fill(rows: number): Promise<void> {
  const deferred = Buffer.from('Subject: deferred\r\n\r\nlater\r\n');
  for (let done = 0; done < rows; ) {
    const batch: { message: Message; plan: Entry['plan'] }[] = [];
    for (let i = 0; i < 1000 && done < rows; i++, done++) {
      const message = makeMessage(deferred);
      batch.push({
        message,
        plan: [
          {
            destination: `domain${done % 1000}.test`,
            seqs: [...message.envelope.recipients.keys()],
            state: 'PENDING',
          },
        ],
      });
    }
    await database.commit({
      token: `fill-${done}`,
      messages: batch,
      settlements: [],
      withdrawals: [],
      nowMs: Date.now() + 3_600_000,
      leaseUntilMs: 0,
    });
    for (const { message } of batch) arena.release(message.content);
  }
}

function run(): Promise<{ seconds: number; cpuUs: number; latencies: number[] }> {
  let sent = 0;
  let done = 0;
  const startedAt = new Map<string, number>();
  const latencies: number[] = [];
  return new Promise((resolve, reject) => {
    const begin = performance.now();
    const cpu = process.cpuUsage();
    const next = (count: number): void => {
      const entries: Entry[] = [];
      for (; count > 0 && sent < messages; count--, sent++) {
        const message = makeMessage(content);
        startedAt.set(message.queueId, performance.now());
        entries.push({ message, plan: [], thread: 0, ticket: sent });
      }
      if (entries.length > 0) commits.submit(entries);
    };
    const ended = (count: number): void => {
      done += count;
      if (done < messages) return;
      const used = process.cpuUsage(cpu);
      resolve({ seconds: (performance.now() - begin) / 1000, cpuUs: used.user + used.system, latencies });
    };
    const commits = new GroupCommit(
      database,
      {
        plan(entry) {
          entry.plan = [
            {
              destination: 'smarthost',
              seqs: [...entry.message.envelope.recipients.keys()],
              state: options.settle ? 'SENDING' : 'PENDING',
            },
          ];
        },
        committed(entries) {
          const now = performance.now();
          for (const { message } of entries) {
            latencies.push(now - (startedAt.get(message.queueId) as number));
            startedAt.delete(message.queueId);
            arena.release(message.content);
          }
          if (options.settle) commits.settle(entries.map(delivered));
          else ended(entries.length);
          next(entries.length);
        },
        failed: (_, error) => reject(error),
        settled(items, accepted) {
          if (accepted.includes(false)) reject(new Error('a settlement was rejected'));
          ended(items.length);
        },
      },
      { arena, leaseMs: 120_000 },
    );
    next(sessions);
  });
}

function delivered({ message }: Entry): Parameters<GroupCommit['settle']>[0][number] {
  const seqs = [...message.envelope.recipients.keys()];
  const { queueId } = message;
  const detail = '250 2.0.0 Ok: queued as 4Xabc (mx1.example.net [192.0.2.1])';
  return {
    settlement: {
      queueId,
      destination: 'smarthost',
      fence: 1,
      attempts: 1,
      groups: [{ seqs, kind: 'delivered', reason: '', detail }],
      retryAtMs: null,
      delayNotified: false,
    },
    result: {
      queueId,
      destination: 'smarthost',
      fence: 1,
      attempts: 1,
      reversePath: '',
      receivedAtMs: 0,
      sizeBytes: 0,
      groups: [],
      recipients: message.envelope.recipients.map(({ address, notify }, seq) => ({ seq, address, notify })),
      times: { queueMs: 0, connectMs: 0, transferMs: 0 },
      dsns: [],
      delayNotified: false,
    },
    dsns: [],
  };
}

try {
  await database.recover(Date.now());
  if (options.deferred > 0) await fill(options.deferred);
  const begin = performance.now();
  const destinations = (await database.backlog()).length;
  const backlogMs = performance.now() - begin;
  const { seconds, cpuUs, latencies } = await run();
  latencies.sort((a, b) => a - b);
  const percentile = (share: number): number =>
    Number(
      (latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * share))] as number).toFixed(2),
    );
  const result = {
    messages,
    size: content.length,
    sessions,
    recipients: recipientCount,
    settle: options.settle,
    provider: options.provider,
    perSecond: Math.round(messages / seconds),
    recipientsPerSecond: Math.round((messages * recipientCount) / seconds),
    cpuUsPerMessage: Number((cpuUs / messages).toFixed(1)),
    commitMs: { p50: percentile(0.5), p90: percentile(0.9), p99: percentile(0.99), max: percentile(1) },
    backlog: { destinations, ms: Number(backlogMs.toFixed(1)) },
    rssMb: Math.round(process.memoryUsage.rss() / 1e6),
  };
  process.stdout.write(`${JSON.stringify(result, null, options.json ? 0 : 2)}\n`);
} finally {
  await database.close();
  rmSync(dataDir, { recursive: true, force: true });
}
