/**
 * Whether the relay takes another transaction, recipient or message now, read from gauges in shared memory at the
 * place of the command (design §4). Refusals are temporary and leave the connection usable. It raises the in-flight
 * gauge; the group commit lowers it when an entry leaves persistence (committed, withdrawn or failed).
 */
import { REPLY, type Reply } from '../protocol/reply.ts';
import { GAUGE, type Gauges, PRESSURE } from './gauges.ts';

/** What admission asks of the content arena. */
export interface ContentRoom {
  readonly totalBytes: number;
  freeBytes(): number;
}

/** One such part of the arena (1/n) stays free for content already announced: a new transaction must leave it free. */
const RESERVE_SHARE = 16;

export class Admission {
  readonly #gauges: Gauges;
  readonly #room: ContentRoom;
  readonly #reserveBytes: number;
  #maxInflight: number;

  /** @param maxInflight persist_max_inflight_mails */
  constructor(gauges: Gauges, room: ContentRoom, maxInflight: number) {
    this.#gauges = gauges;
    this.#room = room;
    this.#reserveBytes = room.totalBytes / RESERVE_SHARE;
    this.#maxInflight = maxInflight;
  }

  /** Takes the limit of a reloaded configuration. */
  reconfigure(maxInflight: number): void {
    this.#maxInflight = maxInflight;
  }

  /** True while the relay drains: open transactions end, no new one begins. */
  draining(): boolean {
    return Atomics.load(this.#gauges, GAUGE.draining) !== 0;
  }

  /** At MAIL: null, or the refusal. Nothing is reserved yet: a client may take minutes over its content. */
  transaction(): Reply | null {
    const pressure = this.#pressure();
    if (pressure !== null) return pressure;
    if (Atomics.load(this.#gauges, GAUGE.inflightMails) >= this.#maxInflight) return REPLY.inflight_full;
    return this.#room.freeBytes() < this.#reserveBytes ? REPLY.content_memory_full : null;
  }

  /** At RCPT: null, or the refusal of this recipient. */
  recipient(): Reply | null {
    return this.#pressure();
  }

  /**
   * At end of data: null when the message now counts as in flight, or the refusal. Lack of content memory is no reason to
   * refuse here: this content has its memory already, and committing it gives that back.
   */
  message(): Reply | null {
    const pressure = this.#pressure();
    if (pressure !== null && pressure !== REPLY.content_memory_full) return pressure;
    if (Atomics.add(this.#gauges, GAUGE.inflightMails, 1) < this.#maxInflight) return null;
    Atomics.sub(this.#gauges, GAUGE.inflightMails, 1);
    return REPLY.inflight_full;
  }

  /** Uncounts a message that was not submitted after all. */
  withdraw(): void {
    Atomics.sub(this.#gauges, GAUGE.inflightMails, 1);
  }

  #pressure(): Reply | null {
    switch (Atomics.load(this.#gauges, GAUGE.pressure)) {
      case PRESSURE.none:
        return null;
      case PRESSURE.memory:
        return REPLY.memory_pressure;
      case PRESSURE.disk:
        return REPLY.disk_pressure;
      case PRESSURE.content_memory:
        return REPLY.content_memory_full;
      case PRESSURE.journal:
        return REPLY.journal_full;
      case PRESSURE.messages:
      case PRESSURE.queue_file:
        return REPLY.queue_full;
      default:
        return REPLY.database_pressure;
    }
  }
}
