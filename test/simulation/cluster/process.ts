/** One life of a relay process in the simulated cluster. */

import { CHUNK_BYTES } from '../../../src/native.ts';
import { FakeArena } from '../../persistence/fake-arena.ts';
import { Actor } from './clock.ts';
import type { Deliveries } from './deliveries.ts';
import type { SessionThreads } from './parts.ts';
import type { World } from './world.ts';

export class Process extends Actor {
  readonly world: World;
  /** Name of its node: the same in its next life. */
  readonly node: string;
  readonly life: number;
  readonly arena = new FakeArena(1024 * CHUNK_BYTES);
  sessions: SessionThreads | null = null;
  deliveries: Deliveries | null = null;
  /** Its persistence thread dies. */
  threadDies: (() => void) | null = null;
  threadDied = false;
  /** Messages it withdraws, since their clients were answered 451. */
  readonly withdrawn = new Set<string>();

  constructor(world: World, node: string, life: number, skewMs: number) {
    super(world.clock, null, skewMs);
    this.world = world;
    this.node = node;
    this.life = life;
  }

  says(event: string, fields?: Record<string, unknown>): void {
    const queueId = String(fields?.queue_id);
    const { counts } = this.world;
    if (event === 'message.withdrawing') {
      this.withdrawn.add(queueId);
      counts.withdrawn++;
    } else if (event === 'message.not_withdrawn') {
      this.withdrawn.delete(queueId);
      counts.notWithdrawn++;
    }
  }

  get id(): string {
    return `${this.node}.${this.life}`;
  }
}

export const processOf = (actor: Actor): Process => actor.process as Process;
