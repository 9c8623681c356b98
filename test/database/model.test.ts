import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { RecipientStatus, SettleGroup } from '../../src/database/database.ts';
import type { Move } from '../../src/mail/operator-action.ts';
import type { OutboxState } from '../../src/mail/outbox-state.ts';
import { QueueFixture } from '../persistence/fixture.ts';

/**
 * The outbox state machine against a model in plain objects: whatever happens in whatever order, rows, fates of
 * recipients and what is claimable are the same, and content leaves with the last row.
 */

const DOMAINS = ['one.test', 'two.test', 'three.test'];
const VIA = 'via:mx.test:25';
/** Keys that mail has by its domain, and those that operators give. */
const KEYS = [...DOMAINS, VIA, ...[...DOMAINS, VIA].map((key) => `fail:${key}`)];
const MOVES: Move[] = [{ fail: 'said' }, { reroute: VIA }, { reroute: null }];

interface ModelRow {
  state: OutboxState;
  dueMs: number | null;
  fence: number;
  attempts: number;
  /** By a claim; else the commit's own lease. */
  claimed: boolean;
  seqs: number[];
}
interface ModelMail {
  status: RecipientStatus[];
  /** Of the recipients. */
  domains: string[];
  rows: Map<string, ModelRow>;
  settledAtMs: number | null;
}

type Step =
  | { do: 'add'; domains: number[]; state: 'SENDING' | 'PENDING' | 'HELD' }
  | { do: 'claim'; domain: number; limit: number }
  | { do: 'settle'; mail: number; domain: number; fate: number[]; stale: boolean; delayMs: number }
  | { do: 'release'; mail: number; domain: number; stale: boolean }
  | { do: 'operate'; action: 'flush' | 'hold' | 'release' | 'delete'; mail: number }
  | { do: 'move'; move: number; mail: number; some: number }
  | { do: 'withdraw'; mail: number }
  | { do: 'purge' }
  | { do: 'restart' }
  | { do: 'wait'; ms: number };

const nat = fc.nat(30);
const domain = fc.nat(DOMAINS.length - 1);
const key = fc.nat(KEYS.length - 1);
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('add' as const),
      domains: fc.array(domain, { minLength: 1, maxLength: 5 }),
      state: fc.constantFrom('SENDING' as const, 'PENDING' as const, 'HELD' as const),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('claim' as const),
      domain: key,
      limit: fc.integer({ min: 1, max: 3 }),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('settle' as const),
      mail: nat,
      domain: key,
      fate: fc.array(fc.nat(2), { minLength: 1, maxLength: 5 }),
      stale: fc.boolean(),
      delayMs: fc.nat(50),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('release' as const),
      mail: nat,
      domain: key,
      stale: fc.boolean(),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('operate' as const),
      action: fc.constantFrom('flush' as const, 'hold' as const, 'release' as const, 'delete' as const),
      mail: nat,
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('move' as const),
      move: fc.nat(MOVES.length - 1),
      mail: nat,
      some: fc.nat(9),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('withdraw' as const), mail: nat }) },
  { weight: 1, arbitrary: fc.constant({ do: 'purge' as const }) },
  { weight: 1, arbitrary: fc.constant({ do: 'restart' as const }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('wait' as const), ms: fc.nat(100) }) },
);

const KEEP_FAILED_MS = 60;

class Model {
  readonly queue: QueueFixture;
  readonly mails = new Map<string, ModelMail>();
  readonly #keepDeliveredMs: number;
  #nowMs = 1000;

  constructor(keepDeliveredMs: number) {
    this.#keepDeliveredMs = keepDeliveredMs;
    this.queue = new QueueFixture({
      queue: { keep_delivered_ms: keepDeliveredMs, keep_failed_ms: KEEP_FAILED_MS },
    });
  }

  async run(steps: Step[]): Promise<void> {
    await this.queue.database.recover(this.#nowMs);
    for (const one of steps) {
      await this.#do(one);
      await this.#compare();
    }
  }

  #pick(index: number): [string, ModelMail] | null {
    const ids = [...this.mails.keys()];
    const queueId = ids[index % Math.max(1, ids.length)];
    return queueId === undefined ? null : [queueId, this.mails.get(queueId) as ModelMail];
  }

  async #do(one: Step): Promise<void> {
    const { database } = this.queue;
    switch (one.do) {
      case 'add':
        return this.#add(one.domains, one.state);
      case 'claim':
        return this.#claim(KEYS[one.domain] as string, one.limit);
      case 'settle': {
        const mail = this.#pick(one.mail);
        if (mail !== null) await this.#settle(mail, KEYS[one.domain] as string, one);
        return;
      }
      case 'release': {
        const mail = this.#pick(one.mail);
        const destination = KEYS[one.domain] as string;
        const row = mail?.[1].rows.get(destination);
        if (mail === null || row === undefined) return;
        const fence = row.fence + (one.stale ? 1 : 0);
        await database.release([{ queueId: mail[0], destination, fence, reason: 'shutdown' }], this.#nowMs);
        if (row.state === 'SENDING' && !one.stale)
          Object.assign(row, { state: 'PENDING', dueMs: this.#nowMs });
        return;
      }
      case 'operate': {
        const mail = this.#pick(one.mail);
        if (mail !== null) await this.#operate(mail, one.action);
        return;
      }
      case 'move': {
        const mail = this.#pick(one.mail);
        if (mail !== null) await this.#move(mail, MOVES[one.move] as Move, one.some);
        return;
      }
      case 'withdraw': {
        const mail = this.#pick(one.mail);
        if (mail === null) return;
        const { withdrawLater } = await database.commit(
          this.queue.batch({ withdrawals: [mail[0]], nowMs: this.#nowMs }),
        );
        // What a claim has may be on the wire.
        const isClaimed = [...mail[1].rows.values()].some(
          ({ state, claimed }) => claimed && state === 'SENDING',
        );
        assert.deepEqual(withdrawLater, isClaimed ? [mail[0]] : undefined);
        if (!isClaimed) this.mails.delete(mail[0]);
        return;
      }
      case 'purge':
        await database.purge(this.#nowMs, 1000);
        for (const [queueId, mail] of this.mails)
          if (mail.settledAtMs !== null && this.#nowMs - mail.settledAtMs >= this.#keepMs(mail))
            this.mails.delete(queueId);
        return;
      case 'restart':
        await this.queue.restart();
        await this.queue.database.recover(this.#nowMs);
        for (const { rows } of this.mails.values())
          for (const row of rows.values())
            if (row.state === 'SENDING') Object.assign(row, { state: 'PENDING', dueMs: this.#nowMs });
        return;
      case 'wait':
        this.#nowMs += one.ms;
    }
  }

  #keepMs(mail: ModelMail): number {
    return mail.status.includes('bounced') ? KEEP_FAILED_MS : this.#keepDeliveredMs;
  }

  async #add(domains: number[], state: 'SENDING' | 'PENDING' | 'HELD'): Promise<void> {
    const message = this.queue.message(domains.map((d, i) => `u${i}@${DOMAINS[d]}`));
    const entry = this.queue.plan(message, state);
    await this.queue.database.commit(this.queue.batch({ messages: [entry], nowMs: this.#nowMs }));
    this.queue.arena.release(message.content);
    const rows = new Map(
      entry.plan.map(({ destination, seqs }) => [
        destination,
        {
          state: state as OutboxState,
          dueMs: state === 'PENDING' ? this.#nowMs : null,
          fence: state === 'SENDING' ? 1 : 0,
          attempts: 0,
          claimed: false,
          seqs,
        },
      ]),
    );
    this.mails.set(message.queueId, {
      status: domains.map(() => 'waiting'),
      domains: domains.map((d) => DOMAINS[d] as string),
      rows,
      settledAtMs: null,
    });
  }

  async #claim(destination: string, limit: number): Promise<void> {
    const request = {
      destination,
      limit,
      maxRecipients: 1000,
      nowMs: this.#nowMs,
      leaseUntilMs: this.#nowMs + 1000,
    };
    const { jobs, nextDueMs } = await this.queue.database.claim(request);
    const due = [...this.mails]
      .filter(([, mail]) => (mail.rows.get(destination)?.dueMs ?? Number.POSITIVE_INFINITY) <= this.#nowMs)
      .map(([, mail]) => mail.rows.get(destination) as ModelRow);
    const times = due.map((row) => row.dueMs as number).sort((a, b) => a - b);
    assert.equal(jobs.length, Math.min(limit, due.length));
    for (const [i, job] of jobs.entries()) {
      const mail = this.mails.get(job.queueId) as ModelMail;
      const row = mail.rows.get(destination) as ModelRow;
      assert.equal(row.dueMs, times[i], 'earliest first');
      assert.deepEqual([job.fence, job.attempts], [row.fence + 1, row.attempts]);
      assert.deepEqual(
        job.recipients.map((r) => r.seq),
        row.seqs.filter((seq) => mail.status[seq] === 'waiting'),
      );
      Object.assign(row, { state: 'SENDING', dueMs: null, fence: job.fence, claimed: true });
      this.queue.arena.release(job.content);
    }
    const left = [...this.mails.values()].flatMap((mail) => mail.rows.get(destination)?.dueMs ?? []);
    assert.equal(nextDueMs, left.length === 0 ? null : Math.min(...left));
  }

  async #settle(
    [queueId, mail]: [string, ModelMail],
    destination: string,
    { fate, stale, delayMs }: { fate: number[]; stale: boolean; delayMs: number },
  ): Promise<void> {
    const row = mail.rows.get(destination);
    if (row === undefined) return;
    const kinds: SettleGroup['kind'][] = ['delivered', 'deferred', 'bounced'];
    const groups = new Map<string, SettleGroup>();
    const waiting = row.seqs.filter((seq) => mail.status[seq] === 'waiting');
    for (const [i, seq] of waiting.entries()) {
      const kind = kinds[fate[i % fate.length] as number] as SettleGroup['kind'];
      const group = groups.get(kind) ?? { seqs: [], kind, reason: '', detail: '' };
      group.seqs.push(seq);
      groups.set(kind, group);
    }
    const retryAtMs = groups.has('deferred') ? this.#nowMs + delayMs : null;
    const { settlements } = await this.queue.database.commit(
      this.queue.batch({
        settlements: [
          {
            queueId,
            destination,
            fence: row.fence + (stale ? 1 : 0),
            attempts: row.attempts + 1,
            groups: [...groups.values()],
            retryAtMs,
            delayNotified: false,
          },
        ],
        nowMs: this.#nowMs,
      }),
    );
    const accepted = row.state === 'SENDING' && !stale;
    assert.deepEqual(settlements, [accepted]);
    if (!accepted) return;
    for (const { kind, seqs } of groups.values())
      if (kind !== 'deferred') for (const seq of seqs) mail.status[seq] = kind;
    const dead = row.seqs.some((seq) => mail.status[seq] === 'bounced');
    Object.assign(row, {
      state: retryAtMs !== null ? 'RETRY' : dead ? 'DEAD' : 'SENT',
      dueMs: retryAtMs,
      attempts: row.attempts + 1,
    });
    this.#close(queueId, mail);
  }

  #close(queueId: string, mail: ModelMail): void {
    if ([...mail.rows.values()].some((row) => row.state !== 'SENT' && row.state !== 'DEAD')) return;
    if (mail.rows.size === 0 || this.#keepMs(mail) === 0) this.mails.delete(queueId);
    else mail.settledAtMs ??= this.#nowMs;
  }

  async #operate(
    [queueId, mail]: [string, ModelMail],
    action: 'flush' | 'hold' | 'release' | 'delete',
  ): Promise<void> {
    let told = 0;
    const result = await this.queue.database.operate(action, { ids: [queueId] }, this.#nowMs, (part) => {
      for (const { recipients } of part.removed) told += recipients.length;
    });
    const removed: number[] = [];
    let changed = 0;
    for (const [destination, row] of mail.rows) {
      const waits = row.state === 'PENDING' || row.state === 'RETRY';
      if (row.state === 'SENDING') continue;
      if (action === 'delete') {
        mail.rows.delete(destination);
        for (const seq of row.seqs)
          if (mail.status[seq] === 'waiting') {
            mail.status[seq] = 'removed';
            removed.push(seq);
          }
      } else if (action === 'flush' && waits) row.dueMs = this.#nowMs;
      else if (action === 'hold' && waits) Object.assign(row, { state: 'HELD', dueMs: null });
      else if (action === 'release' && row.state === 'HELD')
        Object.assign(row, { state: 'PENDING', dueMs: this.#nowMs });
      else continue;
      changed++;
    }
    assert.equal(result.rows, changed);
    assert.equal(told, removed.length);
    if (action === 'delete' && changed > 0) this.#closeDeleted(queueId, mail);
  }

  /** @param some number of the one recipient that is meant; a number that the message does not have: all are. */
  async #move([queueId, mail]: [string, ModelMail], move: Move, some: number): Promise<void> {
    const one = some < mail.status.length;
    const selection = one ? { ids: [queueId], recipients: [`u${some}@*`] } : { ids: [queueId] };
    const result = await this.queue.database.operate(move, selection, this.#nowMs);
    let changed = 0;
    let left = 0;
    for (const from of [...mail.rows.keys()].sort()) {
      const row = mail.rows.get(from) as ModelRow;
      const isMeant = 'fail' in move || (move.reroute === null ? from === VIA : from !== move.reroute);
      const seqs = row.seqs.filter((seq) => mail.status[seq] === 'waiting' && (!one || seq === some));
      if (from.startsWith('fail:') || !isMeant || seqs.length === 0) continue;
      const keyOf = (seq: number): string =>
        'fail' in move ? `fail:${from}` : (move.reroute ?? (mail.domains[seq] as string));
      const parts = Map.groupBy(seqs, keyOf);
      const isSending = [from, ...parts.keys()].some((to) => mail.rows.get(to)?.state === 'SENDING');
      if (isSending) left++;
      else {
        changed++;
        for (const [to, part] of parts) this.#join(mail, from, to, part, 'fail' in move);
      }
    }
    assert.deepEqual([result.rows, result.sending], [changed, left]);
  }

  #join(mail: ModelMail, from: string, to: string, seqs: number[], ends: boolean): void {
    const row = mail.rows.get(from) as ModelRow;
    const held = row.state === 'HELD' && !ends;
    const moved = { ...row, state: ends ? 'PENDING' : row.state, dueMs: held ? null : this.#nowMs, seqs };
    row.seqs = row.seqs.filter((seq) => !seqs.includes(seq));
    if (row.seqs.length === 0) mail.rows.delete(from);
    else if (!row.seqs.some((seq) => mail.status[seq] === 'waiting'))
      Object.assign(row, {
        state: row.seqs.some((seq) => mail.status[seq] === 'bounced') ? 'DEAD' : 'SENT',
        dueMs: null,
      });
    const there = mail.rows.get(to);
    mail.rows.set(to, there === undefined ? (moved as ModelRow) : joined(there, moved as ModelRow));
  }

  /** Deleting never drops what is kept for inspection beside the deleted rows; purge does that in its time. */
  #closeDeleted(queueId: string, mail: ModelMail): void {
    if (mail.rows.size === 0) this.mails.delete(queueId);
    else if ([...mail.rows.values()].every((row) => row.state === 'SENT' || row.state === 'DEAD'))
      mail.settledAtMs ??= this.#nowMs;
  }

  async #compare(): Promise<void> {
    const { database, arena } = this.queue;
    const shown = (await database.list({ limit: 10_000 })).map((r) => [
      r.queueId,
      r.destination,
      r.state,
      r.nextAttemptMs,
    ]);
    const wanted = [...this.mails].flatMap(([queueId, mail]) =>
      [...mail.rows]
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([destination, row]) => [queueId, destination.replace('fail:', ''), row.state, row.dueMs ?? 0]),
    );
    assert.deepEqual(shown, wanted);
    const stats = await database.stats();
    assert.equal(stats.mails, this.mails.size);
    for (const [queueId, mail] of this.mails) {
      const detail = await database.show(queueId);
      assert.deepEqual(
        detail?.recipients.map((r) => r.status),
        mail.status,
      );
      assert.ok((await this.queue.cat(queueId))?.includes(`content of ${queueId}`));
    }
    assert.equal(arena.held, 0);
  }
}

function joined(there: ModelRow, moved: ModelRow): ModelRow {
  const open = there.state !== 'SENT' && there.state !== 'DEAD';
  const held = moved.state === 'HELD' || there.state === 'HELD';
  const dueMs = Math.min(moved.dueMs ?? Infinity, open ? (there.dueMs ?? Infinity) : Infinity);
  return {
    state: held ? 'HELD' : open && there.state === 'RETRY' ? 'RETRY' : moved.state,
    dueMs: held ? null : dueMs,
    fence: Math.max(there.fence, moved.fence),
    attempts: Math.max(there.attempts, moved.attempts),
    claimed: false,
    seqs: [...there.seqs, ...moved.seqs].sort((a, b) => a - b),
  };
}

describe('outbox state machine', () => {
  for (const keepDeliveredMs of [0, 40])
    it(`does what the model does, whatever happens (keep_delivered_ms ${keepDeliveredMs})`, async () => {
      await fc.assert(
        fc.asyncProperty(fc.array(step, { maxLength: 30 }), async (steps) => {
          const model = new Model(keepDeliveredMs);
          try {
            await model.run(steps);
          } finally {
            await model.queue.close();
          }
        }),
        { numRuns: Number(process.env.FUZZ_RUNS ?? 60) },
      );
    });
});
