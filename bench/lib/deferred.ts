/**
 * A queue of many deferred recipients: made through the database interface, then the relay is started on it and
 * compared with a relay on an empty queue: start time, resident memory, throughput.
 */
import { closeSync, fsyncSync, mkdirSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { type CommitMessage, FIRST_FENCE, type Settlement } from '../../src/database/database.ts';
import { openConnection } from '../../src/database/sqlite/connection.ts';
import { SqliteDatabase } from '../../src/database/sqlite/sqlite-database.ts';
import { QueueIds } from '../../src/mail/queue-id.ts';
import { CHUNK_BYTES, createArena } from '../../src/native.ts';
import { DatabaseStorage } from '../../src/storage/database-storage.ts';
import { createMessage } from './bench-message.ts';
import { type ChainOptions, type ChainReport, runChain } from './chain.ts';
import { figure } from './results.ts';

const SQL = resolve(import.meta.dirname, '../../config/sql/sqlite');
/** Messages in one transaction while preloading. */
const BATCH = 2000;
/** None of them comes due while we measure. */
const WAIT_MS = 6 * 3_600_000;
/** Domain of bench/cl.ts; its route is the only one that delivers. */
const WORK_DOMAIN = 'example.test';

export interface DeferredReport {
  deferred: number;
  domains: number;
  preloadSeconds: number;
  empty: ChainReport;
  full: ChainReport;
  throughputRatio: number;
  rows: string[][];
}

/** @param chain what is measured on both queues; its sink is the route of the domain example.test alone. */
export async function measureDeferred(
  count: number,
  domains: number,
  chain: ChainOptions,
): Promise<DeferredReport> {
  const dir = mkdtempSync(join(tmpdir(), 'bench-deferred-'));
  try {
    const began = performance.now();
    await preload(join(dir, 'data'), count, domains, chain.sizeBytes);
    const preloadSeconds = Math.round((performance.now() - began) / 100) / 10;
    process.stderr.write(`${figure(count)} deferred recipients stored in ${preloadSeconds} s\n`);
    const empty = await runChain({ ...chain, routeOnly: WORK_DOMAIN });
    const full = await runChain({ ...chain, routeOnly: WORK_DOMAIN, dir });
    const rate = (report: ChainReport): number => report.deliveredPerSecond ?? report.acceptedPerSecond;
    const throughputRatio = Math.round((rate(full) / rate(empty)) * 100) / 100;
    const row = (title: string, value: (report: ChainReport) => number): string[] => [
      title,
      figure(value(empty)),
      figure(value(full)),
    ];
    const rows = [
      row('start, ms', (report) => report.relay.startMs),
      row('RSS after start, MB', (report) => report.relay.rssBeforeMb),
      row('peak RSS, MB', (report) => report.relay.peakMb),
      row('accepted msg/s', (report) => report.acceptedPerSecond),
      row('delivered msg/s', rate),
      row('relay CPU µs/msg', (report) => report.relay.cpuUsPerMessage),
      ['throughput ratio', '1', figure(throughputRatio)],
    ];
    return { deferred: count, domains, preloadSeconds, empty, full, throughputRatio, rows };
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

/** One message per recipient, spread over `domains` destinations, each tried once and due again in some hours. */
export async function preload(
  dataDir: string,
  count: number,
  domains: number,
  sizeBytes: number,
  reversePath = 'sender@bench.test',
): Promise<void> {
  mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  const arena = createArena((BATCH + 64) * CHUNK_BYTES, tmpdir());
  const file = join(dataDir, 'queue.db');
  const db = openConnection({ path: file, sqlDir: SQL });
  // Nothing here needs to survive a power cut.
  db.exec('PRAGMA synchronous = OFF');
  const storage = new DatabaseStorage(db, arena, {
    folder: join(dataDir, 'mail'),
    spillThresholdBytes: 262_144,
    say() {},
  });
  const database = new SqliteDatabase(db, storage, arena, {
    file,
    nodeId: 'node',
    routes: { smarthost: false, routed: new Set([WORK_DOMAIN]) },
    maxMessages: null,
    keepDeliveredMs: 0,
    keepFailedMs: 0,
  });
  const ids = new QueueIds(1, 0);
  const { header, body } = createMessage({
    sizeBytes,
    run: '00000000',
    from: 'a@bench.test',
    to: 'b@bench.test',
  });
  const bytes = Buffer.concat([header, body]);
  for (let from = 0; from < count; from += BATCH) {
    const nowMs = Date.now();
    const messages: CommitMessage[] = [];
    const settlements: Settlement[] = [];
    for (let i = from; i < Math.min(count, from + BATCH); i++) {
      const destination = `d${i % domains}.deferred.test`;
      const queueId = ids.next();
      messages.push({
        message: {
          queueId,
          envelope: {
            reversePath,
            body: '7BIT',
            smtpUtf8: false,
            recipients: [
              { address: `user${i}@${destination}`, domain: destination, class: 'external', notify: 0 },
            ],
          },
          trace: `Received: from bench.test by relay.test id ${queueId}; Mon, 1 Jan 2026 00:00:00 +0000\r\n`,
          // Each its own: the state word behind it moves with the commit.
          content: arena.store(bytes),
          sizeBytes: bytes.length,
          receivedAtMs: nowMs,
          client: { address: '127.0.0.1', helo: 'bench.test', protocol: 'ESMTP', sessionId: 'bench' },
        },
        plan: [{ destination, seqs: [0], state: 'SENDING' }],
      });
      settlements.push({
        queueId,
        destination,
        fence: FIRST_FENCE,
        attempts: 1,
        groups: [
          {
            seqs: [0],
            kind: 'deferred',
            reason: 'peer_4xx',
            detail: '451 4.7.1 try later (mx.deferred.test)',
          },
        ],
        retryAtMs: nowMs + WAIT_MS + i,
        delayNotified: false,
      });
    }
    const times = { withdrawals: [], nowMs, leaseUntilMs: nowMs + 60_000 };
    await database.commit({ token: `m${from}`, messages, settlements: [], ...times });
    await database.commit({ token: `s${from}`, messages: [], settlements, ...times });
    for (const { message } of messages) arena.release(message.content);
  }
  const { RETRY: stored } = (await database.stats()).rows;
  if (stored !== count) throw new Error(`only ${stored} of ${count} deferred rows were stored`);
  // As after an earlier life: the rows are keyed by the routes of the next one.
  await database.recover(Date.now());
  await database.close();
  // The start must not pay for what we left unwritten.
  const fd = openSync(file, 'r');
  fsyncSync(fd);
  closeSync(fd);
}
