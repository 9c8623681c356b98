/**
 * Writes results of earlier lives into the shard of their rows. Each is checked by its fencing number like any other
 * result: a row that another node has taken over, or that was settled after all, is left alone.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { RelayError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { CommitBatch, CommitResult } from '../database/database.ts';
import type { RouteTable } from '../mail/destination.ts';
import type { AttemptResult } from '../mail/job.ts';
import type { Message } from '../mail/message.ts';
import { type Arena, NO_CONTENT } from '../native.ts';
import { planWaiting } from './plan.ts';
import type { EarlierLine } from './unsettled-file.ts';
import { decodeLine, type KeptResult } from './unsettled-lines.ts';

export interface ReplayPorts {
  arena: Pick<Arena, 'store' | 'release'>;
  log: Log;
  /** By these DSNs get their rows. */
  routes(): RouteTable;
  /** Called when the result is in the database; writes its events. */
  settled(result: AttemptResult): void;
  accepted(message: Message): void;
  /** Default: a real pause. */
  pause?(ms: number): Promise<unknown>;
}

export type Commit = (batch: CommitBatch) => Promise<CommitResult>;

/** Bounds of one commit. */
const MAX_RESULTS = 200;
const MAX_BYTES = 4 * 1_048_576;
/** How often a row that another transaction has locked is tried. */
const LOCKED_TRIES = 5;
const LOCKED_PAUSE_MS = 200;

export class Replay {
  written = 0;
  /** Number of results whose rows are another's by now, or were settled already. */
  stale = 0;
  readonly #ports: ReplayPorts;
  readonly #commit: Commit;
  readonly #token = `kept-${randomBytes(4).toString('hex')}`;
  #commits = 0;

  constructor(ports: ReplayPorts, commit: Commit) {
    this.#ports = ports;
    this.#commit = commit;
  }

  /**
   * @param lines all of one shard; their `state` tells afterwards what became of them.
   * @throws RelayError 'database_unavailable' when the rows cannot be had now.
   */
  async run(lines: readonly EarlierLine[]): Promise<void> {
    const { pause = sleep } = this.#ports;
    for (let tries = 1; ; tries++) {
      const waiting = lines.filter(({ state }) => state === 'waits');
      for (const part of partsOf(waiting)) await this.#write(part);
      const locked = waiting.filter(({ state }) => state === 'waits').length;
      if (locked === 0) return;
      if (tries === LOCKED_TRIES)
        throw new RelayError(
          'database_unavailable',
          `another transaction has ${locked} entries whose results are kept here`,
        );
      await pause(LOCKED_PAUSE_MS);
    }
  }

  async #write(lines: readonly EarlierLine[]): Promise<void> {
    const kept = lines.map(({ bytes }) => decodeLine(bytes));
    const contents: number[] = [];
    try {
      const batch = this.#batch(kept, contents);
      this.#took(lines, kept, await this.#commit(batch));
    } catch (error) {
      if (!(error instanceof RelayError) || error.code === 'database_unavailable') throw error;
      // One line may be to blame for the refusal, so each is tried alone.
      if (lines.length > 1) for (const line of lines) await this.#write([line]);
      else this.#refused(lines[0] as EarlierLine, kept[0] as KeptResult, error);
    } finally {
      for (const content of contents) this.#ports.arena.release(content);
    }
  }

  /** @param contents takes the handles of the DSNs' contents in the arena. */
  #batch(kept: readonly KeptResult[], contents: number[]): CommitBatch {
    const nowMs = Date.now();
    const batch: CommitBatch = {
      token: `${this.#token}-${++this.#commits}`,
      messages: [],
      settlements: kept.map(({ settlement }) => settlement),
      withdrawals: [],
      nowMs,
      leaseUntilMs: nowMs,
    };
    kept.forEach(({ dsns }, settlement) => {
      for (const { message, content } of dsns) {
        message.content = this.#ports.arena.store(content);
        if (message.content === NO_CONTENT)
          throw new RelayError('memory_exhausted', 'no room for the content of a report (content_memory_mb)');
        contents.push(message.content);
        batch.messages.push({ message, plan: planWaiting(message, this.#ports.routes()), settlement });
      }
    });
    return batch;
  }

  #took(lines: readonly EarlierLine[], kept: readonly KeptResult[], result: CommitResult): void {
    kept.forEach((one, i) => {
      const accepted = result.settlements[i];
      if (accepted === null) return;
      (lines[i] as EarlierLine).state = 'done';
      if (accepted !== true) {
        this.stale++;
        return;
      }
      this.written++;
      this.#ports.settled(one.result);
      for (const { message } of one.dsns) this.#ports.accepted(message);
    });
  }

  /** The database refused a result. One that may be accepted later stays in its file; its row goes on without it. */
  #refused(line: EarlierLine, { settlement }: KeptResult, error: RelayError): void {
    line.state = error.temporary ? 'left' : 'done';
    const { queueId, destination } = settlement;
    this.#ports.log.error('results.refused', {
      queue_id: queueId,
      destination,
      error,
      advice: 'the attempt is made again: a recipient that had the message may get it twice',
    });
  }
}

function* partsOf(lines: readonly EarlierLine[]): Generator<EarlierLine[]> {
  let part: EarlierLine[] = [];
  let bytes = 0;
  for (const line of lines) {
    if (part.length > 0 && (part.length === MAX_RESULTS || bytes + line.bytes.length > MAX_BYTES)) {
      yield part;
      part = [];
      bytes = 0;
    }
    part.push(line);
    bytes += line.bytes.length;
  }
  if (part.length > 0) yield part;
}
