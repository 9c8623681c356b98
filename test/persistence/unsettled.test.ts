/** Results that no database took: kept in a file, and written by the next life, each once and only where the row is still ours. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import zlib from 'node:zlib';
import { RelayError } from '../../src/base/errors.ts';
import type { CommitBatch, CommitResult } from '../../src/database/database.ts';
import type { Outcome } from '../../src/mail/outcome.ts';
import type { SettleItem } from '../../src/persistence/entry.ts';
import { toSettlement } from '../../src/persistence/to-settlement.ts';
import { Unsettled, type UnsettledPorts, unsettledLeft } from '../../src/persistence/unsettled.ts';
import { decodeLine, encodeLine, wholeLines } from '../../src/persistence/unsettled-lines.ts';
import { type LogLine, recordingLog } from '../session/dialog-fixture.ts';
import { QueueFixture } from './fixture.ts';

const PEER = { host: 'mx.test', address: '192.0.2.1', port: 25, source: '192.0.2.2' };
const REPLY = { code: 250, enhanced: '2.0.0', text: 'Ok', peer: PEER };
const DELIVERED: Outcome = { kind: 'delivered', reply: REPLY, dsnPassedOn: false };
const BOUNCED: Outcome = { kind: 'bounced', reason: 'peer_5xx', status: '5.1.1', detail: '550 no' };
const DEFERRED: Outcome = { kind: 'deferred', reason: 'peer_4xx', detail: '451 later', retryAtMs: 5000 };

let queue: QueueFixture;
/** What no database took, and which of it waits no longer than usual. */
let pending: SettleItem[];
let usual: Set<SettleItem>;
let log: LogLine[];
let steadyMs = 0;
/** Queue ids of what became an event. */
let events: string[];
const lives: Unsettled[] = [];

beforeEach(() => {
  queue = new QueueFixture();
  pending = [];
  usual = new Set();
  log = [];
  events = [];
});
afterEach(async () => {
  pending = [];
  for (const one of lives.splice(0)) await one.end();
  await queue.close();
});

function life(maxBytes?: number, changes: Partial<UnsettledPorts> = {}): Unsettled {
  const ports: UnsettledPorts = {
    arena: queue.arena,
    log: recordingLog(log),
    routes: () => ({ smarthost: false, routed: new Set() }),
    settled: ({ queueId }) => void events.push(queueId),
    accepted: ({ queueId }) => void events.push(`dsn ${queueId}`),
    pause: async () => {},
    unwritten: (all) => pending.filter((item) => all || !usual.has(item)),
    fenceOf: ({ fence }) => fence,
    steady: () => steadyMs,
    ...changes,
  };
  const one = new Unsettled(queue.dataDir, ports, maxBytes);
  lives.push(one);
  return one;
}

function itemOf(queueId: string, outcome: Outcome, dsn?: Buffer): SettleItem {
  const result: SettleItem['result'] = {
    queueId,
    destination: 'one.test',
    fence: 1,
    attempts: 1,
    reversePath: 'sender@example.test',
    receivedAtMs: 0,
    sizeBytes: 10,
    groups: [{ seqs: [0], outcome }],
    recipients: [{ seq: 0, address: 'a@one.test', notify: 0 }],
    times: { queueMs: 0, connectMs: 0, transferMs: 0 },
    dsns: dsn === undefined ? [] : [queue.message(['sender@example.test'], { content: dsn })],
    delayNotified: false,
  };
  const dsns = result.dsns.map((message) => ({ message, plan: [], thread: -1, ticket: -1 }));
  return { settlement: toSettlement(result), result, dsns };
}

/** A message that is being sent, and its result, which waits. */
async function attempted(outcome: Outcome, dsn?: Buffer): Promise<string> {
  const queueId = await queue.add(['a@one.test'], 'SENDING');
  pending.push(itemOf(queueId, outcome, dsn));
  return queueId;
}

const commit = (batch: CommitBatch): Promise<CommitResult> => queue.database.commit(batch);
const stateOf = async (queueId: string): Promise<string | undefined> =>
  (await queue.database.show(queueId))?.rows[0]?.state;
const files = (): string[] => readdirSync(queue.dataDir).filter((name) => name.startsWith('unsettled'));
const said = (event: string): LogLine[] => log.filter((line) => line.event === event);

/** The process ends, and what it had in memory is gone. */
async function ends(one: Unsettled): Promise<void> {
  await one.end();
  for (const { dsns } of pending) for (const { message } of dsns) queue.arena.release(message.content);
  pending = [];
}

describe('results that no database took', () => {
  it('are kept over the end of the process, with their reports, and written before anything is recovered', async () => {
    await queue.restart({ queue: { keep_delivered_ms: 60_000, keep_failed_ms: 60_000 } });
    const report = Buffer.from('Subject: failed\r\n\r\nreport\r\n'.repeat(10_000));
    const [a, b, c] = [
      await attempted(DELIVERED),
      await attempted(BOUNCED, report),
      await attempted(DEFERRED),
    ];
    const dsn = pending[1]?.dsns[0]?.message.queueId as string;
    const first = life();
    await ends(first);
    assert.deepEqual(files(), ['unsettled-1']);
    assert.equal(statSync(join(queue.dataDir, 'unsettled-1')).mode & 0o777, 0o600);
    assert.match(unsettledLeft(queue.dataDir)[0]?.detail as string, /holds 3 results/);

    await queue.restart();
    const second = life();
    assert.equal(second.waiting, 3);
    assert.match(second.missing()[0]?.detail as string, /holds 3 results/);
    await second.replay(0, commit);
    await queue.database.recover(2000);
    assert.deepEqual([await stateOf(a), await stateOf(b), await stateOf(c)], ['SENT', 'DEAD', 'RETRY']);
    assert.equal((await queue.database.show(c))?.rows[0]?.nextAttemptMs, 5000);
    assert.deepEqual(events, [a, b, `dsn ${dsn}`, c], 'each result has its event');
    assert.ok((await queue.cat(dsn))?.endsWith(report.toString()));
    assert.equal(await stateOf(dsn), 'PENDING');
    assert.deepEqual([second.waiting, second.missing(), files()], [0, [], []]);
    assert.equal(queue.arena.held, 0);
    assert.deepEqual(said('results.replayed')[0]?.fields, { shard: '0', written: 3, stale: 0, unwritten: 0 });
  });

  it('of a row that another took over, or that was settled after all, are left alone and counted', async () => {
    await queue.restart({ queue: { keep_delivered_ms: 60_000 } });
    const [taken, settled, ours] = [
      await attempted(DELIVERED),
      await attempted(BOUNCED, Buffer.from('report')),
      await attempted(DELIVERED),
    ];
    await ends(life());
    const row = (queueId: string) => ({ queueId, destination: 'one.test', fence: 1, reason: '' });
    await queue.database.release([row(taken)], 1000);
    const { jobs } = await queue.database.claim({
      destination: 'one.test',
      limit: 9,
      maxRecipients: 9,
      nowMs: 2000,
      leaseUntilMs: 60_000,
    });
    assert.deepEqual([jobs[0]?.queueId, jobs[0]?.fence], [taken, 2]);
    queue.arena.release(jobs[0]?.content as number);
    await queue.settle({
      ...row(settled),
      groups: [{ seqs: [0], kind: 'delivered', reason: '', detail: '' }],
    });
    await life().replay(0, commit);
    assert.deepEqual(
      [await stateOf(taken), await stateOf(settled), await stateOf(ours)],
      ['SENDING', 'SENT', 'SENT'],
    );
    assert.deepEqual(events, [ours]);
    assert.equal((await queue.database.stats()).mails, 3, 'no report about what was not written');
    assert.deepEqual(said('results.replayed')[0]?.fields, { shard: '0', written: 1, stale: 2, unwritten: 0 });
    assert.deepEqual([files(), queue.arena.held], [[], 0]);
  });

  it('are written once each while they wait, and the file goes when they are written', async () => {
    const one = life();
    await one.keep(false);
    assert.deepEqual(files(), [], 'nothing waits: nothing is written');
    await attempted(DELIVERED);
    usual.add(pending[0] as SettleItem);
    await one.keep(false);
    assert.deepEqual([files(), one.waiting], [[], 0], 'it waits no longer than usual');
    usual.clear();
    await attempted(DELIVERED);
    await one.keep(false);
    await Promise.all([one.keep(false), one.keep(true)]);
    assert.equal(said('results.kept').length, 0, 'no outage yet');
    steadyMs += 2000;
    await one.keep(false);
    await one.keep(false);
    assert.deepEqual(
      said('results.kept').map(({ fields }) => fields?.results),
      [2],
    );
    const file = join(queue.dataDir, 'unsettled-1');
    assert.equal(wholeLines(readFileSync(file)).lines.length, 2);
    // The shard is back: what is about to be written is not forgotten before it is.
    const [first] = pending as [SettleItem];
    usual.add(first);
    pending = [first];
    await one.keep(false);
    assert.equal(one.waiting, 1);
    pending = [];
    await one.keep(false);
    assert.deepEqual([files(), one.waiting, said('results.written').length], [[], 0, 1]);
    await attempted(DELIVERED);
    await one.keep(false);
    assert.deepEqual(files(), ['unsettled-2'], 'the next outage has a file of its own');
    pending = [];
    await one.keep(false);
    assert.deepEqual([files(), log.length], [[], 2], 'a short one goes without a word');
  });

  it('beyond the size of the file are counted and said; what was written makes room', async () => {
    const ids: string[] = [];
    for (let i = 0; i < 40; i++) ids.push(await attempted(DELIVERED));
    const lineBytes = encodeLine({ ...(pending[0] as SettleItem), dsns: [] }).length;
    const maxBytes = 20 * lineBytes + 100;
    const one = life(maxBytes);
    await one.keep(false);
    await one.keep(false);
    assert.deepEqual([one.waiting, said('results.not_kept').length], [20, 1]);
    assert.equal(said('results.not_kept')[0]?.fields?.results, 20);
    pending.splice(0, 18);
    await one.keep(false);
    assert.deepEqual([one.waiting, files()], [20, ['unsettled-2']], 'a new file has those left and others');
    assert.ok(statSync(join(queue.dataDir, 'unsettled-2')).size <= maxBytes);
    await ends(one);
    const next = life(maxBytes);
    assert.equal(next.waiting, 20);
    await attempted(DELIVERED);
    await next.keep(false);
    assert.equal(next.waiting, 20, 'files of earlier lives count');
    await next.replay(0, commit);
    assert.deepEqual(events, ids.slice(18, 38));
    await next.keep(false);
    assert.equal(next.waiting, 1);
  });

  it('with a report longer than the file are not kept, and hold up no others', async () => {
    await attempted(BOUNCED, Buffer.alloc(50_000));
    await attempted(DELIVERED);
    const one = life(40_000);
    await one.keep(false);
    assert.deepEqual([one.waiting, said('results.not_kept')[0]?.fields?.results], [1, 1]);
  });

  it('that the disk does not take are said once, and kept when it does', async () => {
    await attempted(DELIVERED);
    const one = life();
    rmSync(queue.dataDir, { recursive: true });
    await one.keep(false);
    await one.keep(false);
    assert.deepEqual([said('results.not_kept').length, one.waiting], [1, 0]);
    queue = new QueueFixture({}, queue.dataDir);
    await one.keep(false);
    assert.equal(one.waiting, 1);
  });

  it('whose rows another transaction has are tried again, and else nothing of the shard is recovered', async () => {
    const [a, b] = [await attempted(DELIVERED), await attempted(DELIVERED)];
    await ends(life());
    let locked = 3;
    const lock = async (batch: CommitBatch): Promise<CommitResult> => {
      const i = batch.settlements.findIndex(({ queueId }) => queueId === b);
      if (i < 0 || locked-- <= 0) return commit(batch);
      const free = batch.settlements.filter((_, at) => at !== i);
      const result = await commit({ ...batch, settlements: free });
      return { ...result, settlements: result.settlements.toSpliced(i, 0, null) };
    };
    await life().replay(0, lock);
    assert.deepEqual(events, [a, b]);

    const c = await attempted(DELIVERED);
    await ends(life());
    const next = life();
    const never = async (): Promise<CommitResult> => ({ messages: [], settlements: [null] });
    await assert.rejects(next.replay(0, never), { code: 'database_unavailable' });
    await assert.rejects(
      next.replay(0, () => Promise.reject(new RelayError('database_unavailable', 'away'))),
    );
    assert.equal(next.waiting, 1);
    await next.replay(0, commit);
    assert.deepEqual(events, [a, b, c]);
  });

  it('one that is refused keeps no others from being written', async () => {
    const [a, b, c] = [await attempted(DELIVERED), await attempted(DELIVERED), await attempted(DELIVERED)];
    await ends(life());
    const refuse = async (batch: CommitBatch): Promise<CommitResult> => {
      if (batch.settlements.some(({ queueId }) => queueId === b))
        throw new RelayError('database_refused', 'no such column');
      return commit(batch);
    };
    await life().replay(0, refuse);
    assert.deepEqual([events, said('results.refused').length, files()], [[a, c], 1, []]);
  });

  it('of other shards stay for them', async () => {
    await attempted(DELIVERED);
    await attempted(DELIVERED);
    for (const [i, item] of pending.entries()) {
      item.settlement.queueId = `06dk00000000000${i + 1}`;
      item.result.queueId = item.settlement.queueId;
    }
    await ends(life());
    const shards: string[] = [];
    const takes = async (batch: CommitBatch): Promise<CommitResult> => {
      shards.push(...batch.settlements.map(({ queueId }) => queueId.at(-1) as string));
      return { messages: [], settlements: [true] };
    };
    const next = life();
    await next.replay(2, takes);
    assert.deepEqual([shards, next.waiting], [['2'], 1]);
    await life().replay(1, takes);
    assert.deepEqual([shards, files()], [['2', '1'], []]);
  });

  it('in a file that cannot be read are said; those of a newer relay refuse the start', async () => {
    const path = join(queue.dataDir, 'unsettled-7');
    writeFileSync(path, 'not a line of ours');
    assert.equal(life().waiting, 0);
    assert.deepEqual(said('results.damaged')[0]?.fields, { path, bytes: 18, results: 0 });
    assert.deepEqual(files(), []);
    await attempted(DELIVERED);
    await ends(life());
    const [name = ''] = files();
    const [line = Buffer.alloc(0)] = wholeLines(readFileSync(join(queue.dataDir, name))).lines;
    const newer = Buffer.from(line.toString().slice(9).replace('"version":2', '"version":3'));
    writeFileSync(join(queue.dataDir, name), withSum(newer));
    assert.throws(() => life(), { code: 'schema_unknown', message: /unsettled-1 is of version 3/ });
  });
});

/** A line whose sum is right, as only its writer makes it. */
function withSum(json: Buffer): Buffer {
  const crc = zlib.crc32(json.subarray(0, -1)).toString(16).padStart(8, '0');
  return Buffer.concat([Buffer.from(`${crc} `), json]);
}

describe('lines of the file', () => {
  it('of an older relay are read: there a reply named its host as text', () => {
    const line = encodeLine({ ...itemOf('06dk0000000aaaa0', DELIVERED), dsns: [] });
    const json = line.toString().slice(9).replace('"version":2', '"version":1');
    const older = json.replaceAll(JSON.stringify(PEER), '"mx.test [192.0.2.1]"');
    assert.notEqual(older, json);
    const { result } = decodeLine(withSum(Buffer.from(older)));
    assert.deepEqual(result.groups[0]?.outcome.reply?.peer, { ...PEER, source: '' });
  });

  it('of an earlier release have reasons with hyphens: they are read as the reasons of now', () => {
    for (const [outcome, reason] of [
      [DEFERRED, 'peer_4xx'],
      [BOUNCED, 'peer_5xx'],
    ] as const) {
      const line = encodeLine({ ...itemOf('06dk0000000aaaa0', outcome), dsns: [] });
      const earlier = withSum(
        Buffer.from(line.toString().slice(9).replaceAll(reason, reason.replace('_', '-'))),
      );
      assert.match(earlier.toString(), /"reason":"peer-/);
      const { settlement, result } = decodeLine(earlier);
      assert.equal(settlement.groups[0]?.reason, reason);
      assert.deepEqual(result.groups[0]?.outcome, outcome);
    }
  });

  it('whatever is torn off or turned over costs the lines it is in, no others', () => {
    const lines = ['06dk0000000aaaa0', '06dk0000000bbbb0', '06dk0000000cccc0'].map((queueId) =>
      encodeLine({ ...itemOf(queueId, DELIVERED), dsns: [] }),
    );
    const whole = Buffer.concat(lines);
    const idsOf = (file: Buffer): string[] =>
      wholeLines(file).lines.map((line) => decodeLine(line).settlement.queueId);
    const all = idsOf(whole);
    assert.equal(all.length, 3);
    const starts = [
      0,
      lines[0]?.length as number,
      (lines[0]?.length as number) + (lines[1]?.length as number),
    ];
    const lineAt = (at: number): number => starts.findLastIndex((start) => start <= at);
    for (let at = 0; at < whole.length; at++) {
      assert.deepEqual(idsOf(whole.subarray(0, at)), all.slice(0, lineAt(at)), `torn at ${at}`);
      const turned = Buffer.from(whole);
      turned[at] = (turned[at] as number) ^ (1 << (at % 8));
      const hit = lineAt(at);
      // A line end that is gone joins two lines.
      const lost = whole[at] === 10 ? [hit, hit + 1] : [hit];
      assert.deepEqual(
        idsOf(turned),
        all.filter((_, i) => !lost.includes(i)),
        `turned at ${at}`,
      );
    }
  });
});
