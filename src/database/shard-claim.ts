/**
 * Keeps the process's claim to its node id on one shard, by renewing it now and then. The renewal also finds out that
 * an idle shard is away, and how far the server's clock and ours differ. Logs when another has the id, when it is
 * ours again, and when the clocks differ by too much.
 */
import { RelayError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { ServerClock } from './server-clock.ts';

/** The claim itself (mysql/node-claim.ts). */
export interface NodeClaim {
  /** held: it is ours; away: nobody knows at the moment; lost: another has it. */
  readonly state: 'held' | 'away' | 'lost';
  /** Who has it when it is not ours. */
  readonly rival: string;
  readonly clock: ServerClock;
  /** @throws RelayError 'already_running' when another has it. */
  take(): Promise<void>;
  renew(): Promise<void>;
  release(): Promise<void>;
}

export interface ShardClaimOptions {
  shard: string;
  /** null for a command that only looks at the queue. */
  claim: NodeClaim | null;
  renewMs: number;
  /** If the clocks differ by more than the first, that is logged; if by more than the second, nothing is claimed. */
  warnOffsetMs: number;
  maxOffsetMs: number;
  log: Log;
  /** A steady clock. */
  now(): number;
  /** Called when `lost` changes, and with it whether new mail may go to the shard. */
  changed(): void;
}

export class ShardClaim {
  readonly #options: ShardClaimOptions;
  #taken = false;
  #renewing = false;
  #renewAtMs = 0;
  #said: NodeClaim['state'] = 'held';
  #clockSaid: 'agrees' | 'differs' | 'refused' = 'agrees';

  constructor(options: ShardClaimOptions) {
    this.#options = options;
  }

  /**
   * Whether rows may be claimed. Not while another has our node id: rows leased to that name are not ours to touch. Not
   * while the server's time is unknown: we could not tell whose lease is over.
   */
  get held(): boolean {
    const { claim } = this.#options;
    return claim === null || (claim.state === 'held' && !claim.clock.jumped && this.#clockSaid !== 'refused');
  }

  /** Whether another has our node id, and makes the same queue ids. */
  get lost(): boolean {
    return this.#options.claim?.state === 'lost';
  }

  /** @throws RelayError 'database_unavailable' when the claim is lost. */
  checkNewMail(): void {
    if (this.lost)
      throw new RelayError(
        'database_unavailable',
        `shard ${this.#options.shard} takes no mail of ours: node_id ${this.#options.claim?.rival}`,
      );
  }

  /** Takes the claim, once. Rows of an earlier life are given back after that, so that life must be over. */
  async take(): Promise<void> {
    await this.#options.claim?.take();
    this.#taken = true;
    this.#sayClock();
  }

  async renew(): Promise<void> {
    if (!this.#taken) return;
    try {
      await this.#options.claim?.renew();
    } finally {
      this.#say();
      this.#sayClock();
    }
  }

  /**
   * Renews the claim when it is time; called a few times a second. @param watch does work, and watches whether the
   * shard answers.
   */
  look(watch: (work: () => Promise<void>) => Promise<void>): void {
    const { claim, now, renewMs } = this.#options;
    if (claim === null || !this.#taken || this.#renewing) return;
    const waitsMs = this.#renewAtMs - now();
    if (claim.state !== 'away' && !claim.clock.jumped && waitsMs > 0) return;
    this.#renewing = true;
    this.#renewAtMs = now() + renewMs;
    const done = (): void => {
      this.#renewing = false;
    };
    watch(() => this.renew()).then(done, done);
  }

  #say(): void {
    const { claim, log, shard, changed } = this.#options;
    if (claim === null || claim.state === 'away' || claim.state === this.#said) return;
    this.#said = claim.state;
    if (claim.state === 'held') log.info('node.id_regained', { shard });
    else
      log.error('node.id_lost', {
        shard,
        error: `node_id ${claim.rival}`,
        advice:
          'give each node a node_id of its own and restart it: until then it takes no mail of this shard',
      });
    changed();
  }

  #sayClock(): void {
    const { claim, log, shard, warnOffsetMs, maxOffsetMs } = this.#options;
    const offsetMs = claim?.clock.offsetMs ?? null;
    if (offsetMs === null) return;
    const by = Math.abs(offsetMs);
    const is = by > maxOffsetMs ? 'refused' : by > warnOffsetMs ? 'differs' : 'agrees';
    if (is === this.#clockSaid) return;
    this.#clockSaid = is;
    const fields = { shard, offset_ms: offsetMs };
    if (is === 'agrees') log.info('clock.agrees', fields);
    else if (is === 'differs')
      log.warn('clock.differs', {
        ...fields,
        advice: 'set the clocks of this machine and the server by NTP',
      });
    else
      log.error('clock.refused', {
        ...fields,
        max_offset_ms: maxOffsetMs,
        advice: 'set the clocks of this machine and the server by NTP: until then this node claims no rows',
      });
  }

  async release(): Promise<void> {
    await this.#options.claim?.release();
  }
}
